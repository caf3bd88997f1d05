#!/usr/bin/env bash
# Loads uploaded objects into an embedded ClickHouse (PyPI `chdb`, kept in a virtual environment under target/).
# Usage: tests/checks/clickhouse.sh [BENCHD]
set -euo pipefail
cd "$(dirname "$0")/../.."

CHDB_VERSION=4.4.0
benchd=${1:-target/debug/benchd}
venv=target/clickhouse-venv

if [[ ! -x $benchd ]]; then
    echo "$benchd is not there: build it first (cargo build)" >&2
    exit 2
fi
if ! "$venv/bin/python" -c "import chdb" 2>/dev/null; then
    python3 -m venv "$venv" || { echo "no virtual environment: apt-get install python3-venv" >&2; exit 2; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check "chdb==$CHDB_VERSION"
fi
"$venv/bin/python" tests/checks/clickhouse.py "$(realpath "$benchd")"
