#!/usr/bin/env bash
# Whether one host keeps up with a busy repository (benches/capacity.rs); needs nothing but the toolchain.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo bench --quiet --bench capacity
