#!/usr/bin/env bash
# How much benchd adds to what it does: `benchd run` on a suite that does nothing, against the same steps by the docker
# command line, alternating, in one go. Prints both medians and their ratio; exit 1 above 1.3.
# Needs a running engine and the registry of the tests (`make bench` sees to both).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${BENCH_ROUNDS:-9}
limit=1.3
registry=${BENCHD_TEST_REGISTRY:-127.0.0.1:5055}
repository=$registry/benchd-bench
benchd=${BENCHD:-$PWD/target/release/benchd}
[ -x "$benchd" ] || { echo "run_overhead.sh: no $benchd: cargo build --release, or set BENCHD" >&2; exit 2; }
folder=$(mktemp -d)
remove_image() { docker images --quiet "$repository" | sort -u | xargs -r docker rmi -f >/dev/null 2>&1 || :; }
clean_up() {
  remove_image
  rm -rf "$folder"
}
trap clean_up EXIT

platform=cpu
case $(uname -m) in aarch64 | arm64) platform=arm64-cpu ;; esac

# An image whose suite leaves one result and does nothing else.
mkdir -p "$folder/image/bin" "$folder/image/tmp" "$folder/image/suite"
cp "$(command -v bash-static)" "$folder/image/bin/bash"
cp "$(command -v busybox)" "$folder/image/bin/busybox"
for applet in sh mkdir cat rm cp; do ln -s busybox "$folder/image/bin/$applet"; done
cat >"$folder/image/suite/measure" <<'SUITE'
mkdir -p results
echo '[{"name": "nothing", "value": 1, "unit": "s", "better": "lower"}]' >results/nothing.json
SUITE
# Always the same commit, so that the registry keeps one image.
export GIT_AUTHOR_DATE=2026-01-01T00:00:00Z GIT_COMMITTER_DATE=2026-01-01T00:00:00Z
git init --quiet --initial-branch main "$folder/checkout"
git -C "$folder/checkout" -c user.name=bench -c user.email=bench@example.org commit --quiet --allow-empty --message bench
sha=$(git -C "$folder/checkout" rev-parse HEAD)
image=$repository:$sha
tar -C "$folder/image" -c . | docker import - "$image" >/dev/null
docker push --quiet "$image" >/dev/null

mkdir "$folder/benchmarks"
cat >"$folder/benchd.yaml" <<CONFIG
state_dir: state
repositories:
  - name: bench/nothing
    benchmarks: benchmarks
    suite:
      command: bash /suite/measure
      working_dir: /suite
      results: results
    images:
      $platform: $repository:{sha}
registries:
  - host: $registry
    plain_http: true
execution:
  platform: $platform
  cache:
    dir: hf_cache
    min_free: 0 B
CONFIG
mkdir "$folder/hf_cache"

by_docker() {
  local id
  docker manifest inspect --insecure "$image" >/dev/null
  docker pull --quiet "$image" >/dev/null
  id=$(docker create --entrypoint bash --workdir /suite --shm-size 4g "$image" /entrypoint)
  printf 'bash /suite/measure\n' >"$folder/entrypoint"
  docker cp --quiet "$folder/entrypoint" "$id:/entrypoint"
  docker start "$id" >/dev/null
  docker logs --follow "$id" >"$folder/log" 2>&1
  [ "$(docker wait "$id")" = 0 ]
  docker cp --quiet "$id:/suite/results" "$folder/docker-results"
  docker rm "$id" >/dev/null
  grep -q nothing "$folder/docker-results/nothing.json"
  rm -rf "$folder/docker-results"
}

by_benchd() {
  "$benchd" run --config "$folder/benchd.yaml" --repo bench/nothing --branch main --commit "$sha" \
    --checkout "$folder/checkout" >"$folder/benchd.log" 2>&1 || { cat "$folder/benchd.log" >&2; return 1; }
}

# Seconds of one call of $1, every time with the image to pull.
timed() {
  remove_image
  local began=$EPOCHREALTIME
  "$1"
  awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN {printf "%.3f\n", to - from}'
}

median() { sort -n "$1" | awk '{value[NR] = $1} END {print value[int((NR + 1) / 2)]}'; }

for _ in $(seq "$rounds"); do
  timed by_docker >>"$folder/docker.times"
  timed by_benchd >>"$folder/benchd.times"
done
docker_s=$(median "$folder/docker.times")
benchd_s=$(median "$folder/benchd.times")
awk -v a="$benchd_s" -v b="$docker_s" -v limit="$limit" -v rounds="$rounds" 'BEGIN {
  printf "run overhead: benchd %.3f s, docker %.3f s, ratio %.2f (at most %.1f), median of %d\n", a, b, a / b, limit, rounds
  exit a / b > limit
}'
