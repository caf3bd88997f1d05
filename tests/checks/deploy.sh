#!/usr/bin/env bash
# What is deployed with is sound before it is deployed: the systemd unit says nothing that systemd does not know and is
# closed enough, the Kubernetes manifests build and fit the published schemas and each other, the Dockerfile gives an
# image that works. Needs a Docker Engine, python3 with venv and systemd; installs two Python packages from PyPI into
# target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

fail() { echo "deploy: $*" >&2; exit 1; }
# Examples too: cargo then chooses the same features as for the tests, and builds nothing twice.
cargo build --quiet --locked --workspace --bins --examples
image=benchd-check-deploy-$$
folder=$(mktemp -d)
trap 'docker rmi -f "$image" "$image-debian" "$image-base" "$image-rust" >/dev/null 2>&1 || :; rm -rf "$folder"' EXIT

# A key that systemd does not know is told on standard error, and the exit code is 0 all the same.
sed "s#/usr/local/bin/benchd#$PWD/target/debug/benchd#" deploy/systemd/benchd.service >"$folder/benchd.service"
said=$(systemd-analyze verify --man=no "$folder/benchd.service" 2>&1) || fail "systemd-analyze verify: $said"
[ -z "$said" ] || fail "systemd-analyze verify: $said"
systemd-analyze security --no-pager --offline=true --threshold=40 "$folder/benchd.service" >"$folder/security" ||
  { cat "$folder/security"; fail "the unit leaves too much open"; }
echo "deploy: systemd:$(sed -n 's/.*Overall exposure level//p' "$folder/security") (at most 4.0)"

python=target/kubernetes/bin/python
if ! "$python" -c 'import kubernetes_validate' 2>/dev/null; then
  python3 -m venv --clear target/kubernetes
  "$python" -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 ||
    fail "failed: $python -m pip install kubernetes-validate==1.37.0"
fi
"$python" tests/checks/deploy.py "$folder" target/kubernetes

# The base images cannot be pulled where there is no registry; files of this machine stand in for Debian, and the binary
# that is built already for Rust's. Every other line of the Dockerfile runs as it stands.
tests/support/rootfs.sh git ca-certificates passwd util-linux | docker import - "$image-debian" >/dev/null
export DOCKER_BUILDKIT=0 # not installed everywhere
docker build --quiet --tag "$image-base" - >/dev/null 2>&1 <<BASE
FROM $image-debian
RUN mkdir -p /var/lib/apt/lists && ln -sf true /usr/bin/apt-get
BASE
mkdir "$folder/rust"
cp target/debug/benchd "$folder/rust/"
cat >"$folder/rust/cargo" <<'CARGO'
#!/bin/bash
set -e
for member in $(sed -n 's/^members = \[\(.*\)\]/\1/p' Cargo.toml | tr -d '",') .; do
  ls -d "$member/Cargo.toml" "$member/src" Cargo.lock >&2
done
mkdir -p target/release
cp /benchd target/release/
CARGO
chmod 755 "$folder/rust/cargo"
printf 'FROM %s\nCOPY cargo /usr/bin/cargo\nCOPY benchd /benchd\n' "$image-debian" >"$folder/rust/Dockerfile"
docker build --quiet --tag "$image-rust" "$folder/rust" >/dev/null 2>&1
docker build --quiet --tag "$image" --file deploy/docker/Dockerfile --build-arg "BUILDER=$image-rust" \
  --build-arg "BASE=$image-base" . >"$folder/build" 2>&1 || { cat "$folder/build"; fail "the Dockerfile does not build"; }

run() { docker run --rm --network none --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges "$@"; }
[ "$(run "$image" --version)" = "$(target/debug/benchd --version)" ] || fail "the image does not say its version"
[ "$(run --entrypoint id "$image" -un)" = benchd ] || fail "the image does not run as benchd"
[ "$(run --entrypoint stat "$image" -c '%U %a' /var/lib/benchd)" = "benchd 750" ] || fail "the state folder is not its own"
run "$image" device --json | "$python" -c 'import json, sys; device = json.load(sys.stdin); assert device["count"] >= 1, device' ||
  fail "the image cannot tell the device"
run "$image" check-benchmarks /usr/share/benchd/benchmarks >/dev/null || fail "the image's benchmarks are not accepted"
run --entrypoint git "$image" --version >/dev/null || fail "no git in the image"
echo "deploy: the image answers, as benchd, without capabilities, on a read-only root"

# Two objects held against each other: a point that is gone, and one that moved.
record() { # FILE VALUE
  printf '{"benchmark": {"extra_info": {"args": {"output_json": "results/%s"}}}, "metric": {"name": "latency", "benchmark_values": [%s]}}\n' "$1" "$2"
}
{ record a.json 1.0; record b.json 2.0; record c.json 3.0; } | gzip >"$folder/workflow"
{ record a.json 1.01; record b.json 2.5; } >"$folder/benchd"
deploy/migrate/compare.py "$folder/workflow" "$folder/workflow" >/dev/null || fail "compare.py: the same is not the same"
if told=$(deploy/migrate/compare.py "$folder/workflow" "$folder/benchd"); then fail "compare.py sees no difference"; fi
[ "$(tr -s ' ' <<<"$told")" = "only in workflow's: c.json latency
 +25.0 % b.json latency: 2 -> 2.5
2 values in both, 1 differ by more than 5 %, 1 in one alone" ] || fail "compare.py tells: $told"
