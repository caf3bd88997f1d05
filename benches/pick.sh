#!/usr/bin/env bash
# What choosing a commit costs when the last 100 are all done: requests, wall time and CPU time of `benchd pick`, a whole
# process, against GitHub, a registry with tokens and a bucket on loopback. Exit 1 above the limits: one page of commits,
# 2 + 100 requests to the registry, 100 to the bucket, 3 s, 0.5 CPU s. Needs python3 and GNU time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${BENCH_ROUNDS:-9}
benchd=${BENCHD:-$PWD/target/release/benchd}
folder=$(mktemp -d)
server=
clean_up() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || :
  rm -rf "$folder"
}
trap clean_up EXIT

cat >"$folder/server.py" <<'SERVER'
import collections, http.server, json, pathlib, sys

folder, counts = pathlib.Path(sys.argv[1]), collections.Counter()
shas = [f"{n + 1:040x}" for n in range(150)]
commits = [
    {"sha": sha, "commit": {"committer": {"date": "2026-01-01T00:00:00Z"}}, "parents": [{"sha": s} for s in shas[n + 1 : n + 2]]}
    for n, sha in enumerate(shas)
]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def say(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        host = self.headers["host"]
        if self.path == "/counts":
            said = json.dumps(counts).encode()
            counts.clear()
            return self.say(200, said)
        if self.path.startswith("/repos/"):
            counts["github"] += 1
            return self.say(200, json.dumps(commits[:100]).encode(), [("content-type", "application/json")])
        if self.path.startswith("/token"):
            counts["registry"] += 1
            return self.say(200, b'{"token": "t", "expires_in": 300}')
        if self.path.startswith("/v2/"):
            counts["registry"] += 1
            known = [("docker-distribution-api-version", "registry/2.0")]
            if "authorization" not in self.headers:
                demand = f'Bearer realm="http://{host}/token",service="bench"'
                return self.say(401, b"", [*known, ("www-authenticate", demand)])
            return self.say(200, b"", [*known, ("docker-content-digest", "sha256:" + "0" * 64)])
        counts["bucket"] += 1
        moment = "Thu, 01 Jan 2026 00:00:00 GMT"
        self.say(200, b"x", [("last-modified", moment), ("etag", '"e"')])

    do_HEAD = do_GET


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
(folder / "port").write_text(str(server.server_port))
server.serve_forever()
SERVER
python3 "$folder/server.py" "$folder" &
server=$!
until [[ -s $folder/port ]]; do sleep 0.1; done
host=127.0.0.1:$(<"$folder/port")

mkdir -p "$folder/benchmarks/cuda"
echo '[{"test_name": "latency_m", "parameters": {"model": "m", "tensor_parallel_size": 1}}]' \
  >"$folder/benchmarks/cuda/latency-tests.json"
cat >"$folder/benchd.yaml" <<CONFIG
state_dir: state
github: {api_url: "http://$host"}
registries: [{host: "$host", plain_http: true}]
repositories:
  - name: o/r
    images: {cuda: "$host/r:{sha}"}
    publish: {to: [{url: "s3://bucket", endpoint: "http://$host", anonymous: true}]}
CONFIG

: >"$folder/times"
for _ in $(seq "$rounds"); do
  code=0
  DOCKER_CONFIG=$folder /usr/bin/time -f '%e %U %S %M' -a -o "$folder/times" \
    "$benchd" pick --config "$folder/benchd.yaml" --target cuda:X --json >"$folder/said" || code=$?
  # An answer of 1 is "nothing new"; GNU time adds a line about it.
  [[ $code == 1 ]] || { echo "benchd pick ended with $code" >&2; exit 1; }
done
counts=$(python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' "http://$host/counts")
python3 - "$folder" "$rounds" "$counts" <<'REPORT'
import json, pathlib, statistics, sys

folder, rounds, counts = pathlib.Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
pick = json.loads((folder / "said").read_text())["picks"][0]
assert pick["outcome"] == "nothing_new" and len(pick["passed_over"]) == 100, pick
lines = [line.split() for line in (folder / "times").read_text().splitlines() if not line.startswith("Command")]
wall = statistics.median(float(line[0]) for line in lines)
cpu = statistics.median(float(line[1]) + float(line[2]) for line in lines)
peak = max(int(line[3]) for line in lines) / 1024
each = {name: counts[name] / rounds for name in ("github", "registry", "bucket")}
print(f"100 commits done, median of {rounds}: {wall:.2f} s (limit 3), {cpu:.2f} CPU s (limit 0.5), {peak:.0f} MiB;")
print(f"requests: GitHub {each['github']:g} (1), registry {each['registry']:g} (102), bucket {each['bucket']:g} (100)")
sys.exit(wall > 3 or cpu > 0.5 or each["github"] > 1 or each["registry"] > 102 or each["bucket"] > 100)
REPORT
