#!/bin/bash
# The suite of the sample image. It stands where vLLM's does and behaves as vLLM's does towards whoever calls it:
# the same variables, configuration files, markers on the console, result files and exit codes; needs bash and busybox.
# Like vLLM's it echoes every command, secrets included, and a benchmark that crashes leaves no result and exit code 0.
set -x
set -o pipefail

RESULTS=results/
SERVER_WAIT_S=${SERVER_WAIT_S:-1200}

check_hf_token() {
  if [[ ! $HF_TOKEN =~ ^hf_ ]]; then
    echo "Error: HF_TOKEN is not set or does not begin with 'hf_'."
    exit 1
  fi
  echo "HF_TOKEN is set and valid."
}

# Sets what the device is called, how many there are, and what stands in the names of the configuration files.
look_at_device() {
  local nodes
  if [[ $ON_CPU == 1 ]]; then
    nodes=(/sys/devices/system/node/node[0-9]*)
    device_type=cpu device_count=${#nodes[@]} ARCH=-cpu
    if [[ $(uname -m) == aarch64 ]]; then ARCH=-arm64-cpu; fi
    return
  fi
  ARCH=
  if command -v nvidia-smi; then
    device_count=$(nvidia-smi --list-gpus | wc -l) device_type=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
  elif command -v hl-smi; then
    device_count=$(hl-smi --list | grep -c Module) device_type=hpu ARCH=-hpu
  else
    # What a container runtime states to a container that was given devices.
    IFS=, read -ra nodes <<<"$NVIDIA_VISIBLE_DEVICES"
    device_count=${#nodes[@]} device_type=sample
  fi
  if [[ $device_count -lt 1 ]]; then
    echo "Error: a GPU is needed to run the benchmarks."
    exit 1
  fi
}

# Whether there are enough devices for benchmark $1, which wants $2.
enough_devices() {
  if [[ $device_count -lt $2 ]]; then
    echo "Required world-size $2 but only $device_count devices found. Skip testcase $1."
    return 1
  fi
}

run_benchmark() { # KIND NAME TP COMMAND
  enough_devices "$2" "$3" || return 0
  echo "Running test case $2"
  echo "${1^} command: $4"
  sample-suite object "$1_command" "$4" gpu_type "$device_type" >"$RESULTS/$2.commands"
  bash -c "$4"
}

# Waits until the server answers. It does not look whether the server still lives; whoever cares must.
wait_for_server() {
  timeout "$SERVER_WAIT_S" bash -c 'until wget -q -O /dev/null http://127.0.0.1:8000/v1/models; do sleep 0.2; done'
}

run_serving() { # NAME TP SERVER_COMMAND CLIENT_OPTIONS RATES CONCURRENCIES
  local server_pid qps concurrency name client remote=
  enough_devices "$1" "$2" || return 0
  echo "Running test case $1"
  if [[ -n $REMOTE_HOST ]]; then
    remote="--host $REMOTE_HOST --port ${REMOTE_PORT:-8000}"
    echo "The server is a remote one: $REMOTE_HOST."
  else
    echo "Server command: $3"
    bash -c "$3" &
    server_pid=$!
    if wait_for_server; then
      echo "vLLM server is up and running."
    else
      echo "vLLM failed to start within the timeout period."
    fi
  fi
  for qps in $5; do
    for concurrency in $6; do
      name="$1_qps_${qps}_concurrency_$concurrency"
      client="vllm bench serve --save-result --result-dir $RESULTS --result-filename $name.json --request-rate $qps \
--max-concurrency $concurrency $remote --metadata tensor_parallel_size=$2 compilation_config.mode= optimization_level= $4"
      echo " new test name $name"
      echo "Running test case $1 with qps $qps"
      echo "Client command: $client"
      sample-suite object server_command "$3" client_command "$client" gpu_type "$device_type" >"$RESULTS/$name.commands"
      bash -c "$client"
    done
  done
  if [[ -n $server_pid ]]; then
    kill -9 "$server_pid"
    wait "$server_pid"
  fi
  return 0
}

# Runs every benchmark of suite $1, which file $2 lists.
run_suite() {
  local file=../.buildkite/performance-benchmarks/tests/$2 calls call
  if [[ ! -f $file ]]; then
    echo "No $1 benchmarks: $file is not there."
    return 0
  fi
  calls=$(sample-suite calls "$1" "$file") || return 1
  while IFS= read -r call; do
    eval "$call"
  done <<<"$calls"
  return 0
}

main() {
  look_at_device
  check_hf_token
  cd benchmarks || exit 1
  mkdir -p "$RESULTS"
  sample-suite collect-env | tee "$RESULTS/vllm_env.txt"
  run_suite serving "${SERVING_JSON:-serving-tests$ARCH.json}" || exit $?
  run_suite latency "${LATENCY_JSON:-latency-tests$ARCH.json}"
  run_suite startup "${STARTUP_JSON:-startup-tests$ARCH.json}"
  run_suite throughput "${THROUGHPUT_JSON:-throughput-tests$ARCH.json}"
  sample-suite summary "$RESULTS"
  return 0
}

main
