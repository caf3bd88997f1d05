#!/usr/bin/env bash
# How near packing comes to the best that is possible (benches/packing.rs); needs nothing but the toolchain.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo bench --quiet --bench packing
