#!/usr/bin/env bash
# Builds the sample suite's image: build.sh IMAGE [COST [docker build options ..]]. COST in percent, 100 by default;
# a second image with a higher cost is really slower. Needs cargo, docker, bash-static and busybox-static.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

image=${1:?usage: build.sh IMAGE [COST [docker build options ..]]}
cost=${2:-100}
shift $(($# < 2 ? $# : 2))

# In a target folder of its own, so that the flags of the static binary do not rebuild benchd.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked --release --package sample-suite \
  --target "$host" --target-dir target/sample

context=$(mktemp -d)
trap 'rm -rf "$context" "$context.log"' EXIT
root=$context/rootfs
suite=vllm-workspace/.buildkite/performance-benchmarks
mkdir -p "$root"/{bin,etc,tmp,usr/bin} "$root/vllm-workspace/benchmarks" "$root/$suite"/{scripts,tests}
chmod 1777 "$root/tmp"
echo 'root:x:0:0:root:/root:/bin/bash' >"$root/etc/passwd"
cp "$(command -v bash-static)" "$root/bin/bash"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
  [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
cp "target/sample/$host/release/sample-suite" "$root/usr/bin/sample-suite"
ln -s sample-suite "$root/usr/bin/vllm"
cp demo/image/run-performance-benchmarks.sh "$root/$suite/scripts/"
echo "$cost" >"$context/sample-cost"
if ! docker build --quiet --tag "$image" --file demo/image/Dockerfile "$@" "$context" >"$context.log" 2>&1; then
  cat "$context.log" >&2
  exit 1
fi
