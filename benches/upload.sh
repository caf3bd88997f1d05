#!/usr/bin/env bash
# What checking and uploading results costs (benches/upload.py). Needs python3 and GNU time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python3 benches/upload.py "${BENCHD:-$PWD/target/release/benchd}"
