#!/usr/bin/env bash
# What benchd publishes loads into ClickHouse, and holds what dashboards ask for: results that the sample suite really
# measured, and beside them records that would make the database drop the whole object if they were sent.
# Needs python3 with venv; installs chdb (ClickHouse in a Python module) from PyPI into target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

venv=$PWD/target/clickhouse
if ! "$venv/bin/python" -c 'import chdb' 2>/dev/null; then
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check chdb==4.4.0 ||
    { echo "failed: $venv/bin/pip install chdb==4.4.0" >&2; exit 1; }
fi
# Examples too: cargo then chooses the same features as for the tests, and builds nothing twice.
cargo build --quiet --locked --workspace --bins --examples

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || :; rm -rf "$folder"' EXIT
sample=$PWD/target/debug/sample-suite
results=$folder/results
mkdir -p "$results" "$folder/bucket"
export SAMPLE_COST=1 SAVE_TO_PYTORCH_BENCHMARK_FORMAT=1 VLLM_CACHE_ROOT=$folder/cache

measured() { "$sample" object command "$1" gpu_type cpu >"$results/$1.commands"; }
model=sample/small
"$sample" bench latency --model $model --num-iters 3 --num-iters-warmup 0 --output-json "$results/latency_a.json"
measured latency_a
"$sample" bench throughput --model $model --num-prompts 4 --output-json "$results/throughput_a.json"
measured throughput_a
"$sample" bench startup --model $model --num-iters-cold 1 --num-iters-warm 1 --output-json "$results/startup_a.json"
measured startup_a
"$sample" serve $model --port 0 >"$folder/server.log" &
server=$!
for _ in $(seq 100); do
  port=$(sed -n 's/^Listening on port //p' "$folder/server.log")
  [ -z "$port" ] || break
  sleep 0.1
done
"$sample" bench serve --model $model --port "$port" --num-prompts 4 --request-rate inf --max-concurrency 2 --save-result \
  --result-dir "$results" --result-filename serving_a_qps_inf_concurrency_2.json --metadata tensor_parallel_size=1
measured serving_a_qps_inf_concurrency_2

upload() { # SHA
  target/debug/benchd results upload "$results" --repo sample/engine --branch main --sha "$1" --timestamp 1767607200 \
    --platform cpu --device-type Sample_CPU_2c --model $model --to "file://$folder/bucket"
}
upload "$(printf '1%.0s' $(seq 40))"

# Records that the database refuses, and one that it takes for a measurement although it is none.
cat >"$results/broken.pytorch.json" <<'RECORDS'
[{"benchmark": {"name": "vLLM benchmark"}, "model": {"name": "m"}, "metric": "a text"},
 {"benchmark": {"name": "vLLM benchmark"}, "model": {"name": "m"}, "metric": {"name": "x", "benchmark_values": 3}},
 {"benchmark": {"name": "vLLM benchmark"}, "model": {"name": "m"}, "metric": {"name": "x", "benchmark_values": [NaN]}}]
RECORDS
status=0
upload "$(printf '2%.0s' $(seq 40))" || status=$?
[ "$status" = 1 ] || { echo "an upload with broken records must exit 1, not $status" >&2; exit 1; }

# 12 of serving, 1 of latency, 2 of throughput, 4 of startup; twice.
"$venv/bin/python" tests/checks/clickhouse.py "$folder/bucket" 38
