#!/usr/bin/env bash
# What a burst of webhooks costs: another process sends 100 signed deliveries a second for 20 s to `benchd serve`, which
# stores each before it answers, while GitHub's API does not answer. Exit 1 above the limits: p99 of stored and answered
# 50 ms, memory growing by more than 8 MiB between the first and the last quarter, or a delivery lost. Needs python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

benchd=${BENCHD:-$PWD/target/release/benchd}
folder=$(mktemp -d)
server=
clean_up() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || :
  [[ -z $server ]] || wait "$server" 2>/dev/null || :
  rm -rf "$folder"
}
trap clean_up EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$folder/benchmarks/cpu"
printf 'a-secret-of-the-benchmark\n' >"$folder/secret"
cat >"$folder/benchd.yaml" <<CONFIG
state_dir: state
http: {listen: '127.0.0.1:$port'}
github: {api_url: 'http://127.0.0.1:9', webhook_secret_files: [secret]}
repositories: [{name: o/r, images: {cpu: 'localhost:1/r:{sha}'}, triggers: {schedule: []}}]
CONFIG
"$benchd" serve --config "$folder/benchd.yaml" >"$folder/log" 2>&1 &
server=$!

python3 - "$folder" "$port" "$server" <<'SENDER' || { tail -5 "$folder/log" >&2; exit 1; }
import hashlib, hmac, http.client, json, pathlib, queue, sqlite3, sys, threading, time, uuid

folder, port, pid = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rate, seconds, senders = 100, 20, 8
secret = (folder / "secret").read_text().strip().encode()


def memory_mib():
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def ready():
    try:
        with_port = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        with_port.request("GET", "/healthz")
        return with_port.getresponse().status == 200
    except OSError:
        return False


until = time.monotonic() + 30
while not ready():
    if time.monotonic() > until:
        sys.exit("benchd does not serve")
    time.sleep(0.1)

# As large as a real event of a pull request.
filler = {f"field_{n}": "x" * 200 for n in range(120)}
work, took, faults = queue.Queue(), [], []


def send():
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while (due := work.get()) is not None:
        at, number = due
        time.sleep(max(0, at - time.monotonic()))
        payload = {
            "action": "labeled", "number": number % 50 + 1, "label": {"name": "ready"}, "sender": {"login": "ann"},
            "repository": {"id": 1, "full_name": "o/r"}, "pull_request": {"number": number % 50 + 1, "user": filler},
        }
        body = json.dumps(payload).encode()
        headers = {
            "content-type": "application/json", "x-github-event": "pull_request", "x-github-delivery": str(uuid.uuid4()),
            "x-hub-signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
        }
        began = time.monotonic()
        try:
            connection.request("POST", "/webhook/github", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 202:
                faults.append(answer.status)
        except OSError as error:
            faults.append(str(error))
            connection.close()
        took.append((time.monotonic() - began) * 1000)


threads = [threading.Thread(target=send) for _ in range(senders)]
begin = time.monotonic() + 0.5
for number in range(rate * seconds):
    work.put((begin + number / rate, number))
for thread in threads:
    work.put(None)
    thread.start()
grown = []
while any(thread.is_alive() for thread in threads):
    grown.append(memory_mib())
    time.sleep(0.5)

took.sort()
stored = sqlite3.connect(f"file:{folder}/state/benchd.db?mode=ro", uri=True).execute("select count(*) from deliveries")
stored = stored.fetchone()[0]
quarter = max(1, len(grown) // 4)
first, last = max(grown[:quarter]), max(grown[-quarter:])
p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
print(f"deliveries {len(took)}, stored {stored}, refused {len(faults)}")
print(f"stored and answered: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {took[-1]:.1f} ms (limit: p99 50 ms)")
print(f"memory: {first:.1f} MiB in the first quarter, {last:.1f} MiB in the last (limit: 8 MiB more)")
if faults or stored != rate * seconds or p99 > 50 or last - first > 8:
    sys.exit(f"a limit is passed; faults: {faults[:3]}")
SENDER
