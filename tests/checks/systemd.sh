#!/usr/bin/env bash
# The service under a real systemd, which is process 1 of a container: installed by its script, started, killed, hung,
# stopped, and given a broken configuration. Needs a Docker Engine and the packages of scripts/setup.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Examples too: cargo then chooses the same features as for the tests, and builds nothing twice.
cargo build --quiet --locked --workspace --bins --examples
name=benchd-check-systemd-$$
trap 'docker rm -f "$name" >/dev/null 2>&1 || :; docker rmi -f "$name" >/dev/null 2>&1 || :' EXIT
tests/support/rootfs.sh ca-certificates curl mount systemd util-linux | docker import - "$name" >/dev/null
# Mounts are shared as on a host, or credentials would not reach the service.
docker run --detach --name "$name" --network none --cgroupns host --cap-add SYS_ADMIN \
  --security-opt seccomp=unconfined --security-opt apparmor=unconfined --tmpfs /run --tmpfs /tmp \
  --volume /sys/fs/cgroup:/sys/fs/cgroup:rw "$name" \
  sh -c 'mount --make-rshared / && exec /usr/lib/systemd/systemd' >/dev/null

inside() { docker exec "$name" "$@"; }
put() { docker exec -i "$name" tee "$1" >/dev/null; } # FILE: from standard input
fail() { echo "systemd: $*" >&2; inside journalctl --no-pager -n 15 >&2 || :; exit 1; }
shown() { inside systemctl show benchd --value --property "$1"; }
within() { # SECONDS WHAT COMMAND..: until it holds
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "$what"
    sleep 0.2
  done
}
told() { inside journalctl --no-pager -u benchd | grep "$1"; } # not -q, which would end journalctl early
step() { echo "systemd: $*"; }

booted() { inside systemctl is-active --quiet multi-user.target; }
within 30 "systemd did not come up" booted

step "installs, twice; the unit has nothing that systemd does not know"
docker cp deploy "$name:/root/deploy" >/dev/null 2>&1
docker cp target/debug/benchd "$name:/root/benchd" >/dev/null 2>&1
for _ in first second; do
  inside /root/deploy/systemd/install.sh >/dev/null 2>&1 || fail "install"
done
said=$(inside systemd-analyze verify benchd.service 2>&1) || fail "verify: $said"
[ -z "$said" ] || fail "verify: $said"

step "starts, as its own user, closed as the unit says"
put /etc/benchd/benchd.yaml <<'CONFIG'
repositories:
  - name: example/project
    suite: {command: ./bench.sh, results: results.json}
    images: {cpu: "127.0.0.1:9/image:1"}
    triggers: {schedule: []}
github:
  token_file: /run/credentials/benchd.service/secret_github-token
CONFIG
inside sh -c 'umask 077; echo not-a-token >/etc/benchd/secrets/github-token'
# What the unit lets a process see and do, asked from inside.
put /srv/probe.sh <<'PROBE'
set -eux
[ "$(cat /run/credentials/benchd.service/secret_github-token)" = not-a-token ]
[ ! -r /etc/benchd/secrets/github-token ]
[ -r /etc/benchd/benchd.yaml ]
for folder in /usr /etc/benchd /srv; do
  if touch "$folder/probe"; then exit 1; fi
done
touch /var/lib/benchd/probe /tmp/probe
rm /var/lib/benchd/probe
if ls /root/deploy; then exit 1; fi
cat /proc/1/cmdline /proc/meminfo >/dev/null
benchd device --json >/dev/null
# 28: it was let in, and nobody answered within a second.
curl -s -m 1 --unix-socket /run/docker.sock http://engine/ || [ $? = 28 ]
PROBE
# In the place of the engine, whose socket the group docker may use: one that is silent.
put /etc/systemd/system/docker.socket <<'UNIT'
[Socket]
ListenStream=/run/docker.sock
SocketGroup=docker
SocketMode=0660
UNIT
put /etc/systemd/system/docker.service <<'UNIT'
[Service]
ExecStart=/usr/bin/sleep infinity
UNIT
inside mkdir -p /run/systemd/system/benchd.service.d
printf '[Service]\nExecStartPre=sh /srv/probe.sh\n' | put /run/systemd/system/benchd.service.d/probe.conf
inside systemctl daemon-reload
inside systemctl start docker.socket
inside systemctl --quiet enable --now benchd || fail "start"
first=$(shown MainPID)
status=$(inside cat "/proc/$first/status")
for line in "NoNewPrivs:[[:space:]]1" "Seccomp:[[:space:]]2" "CapBnd:[[:space:]]0+"; do
  grep -qE "^$line\$" <<<"$status" || fail "no line $line in: $status"
done
user=$(inside id -u benchd)
grep -qE "^Uid:[[:space:]]${user}[[:space:]]" <<<"$status" || fail "not the user benchd: $status"
engine=$(inside sh -c 'grep ^docker: /etc/group | cut -d: -f3')
grep -qE "^Groups:.*[[:space:]]${engine}( |\$)" <<<"$status" || fail "not in the group of the engine: $status"
[ "$(inside stat -c '%U %a' /var/lib/benchd)" = "benchd 750" ] || fail "the state folder is not its own"
inside sh -c 'test -s /var/lib/benchd/benchd.db' || fail "no store in the state folder"
as_benchd() { inside setpriv --reuid benchd --regid benchd --init-groups "$@"; }
[ "$(as_benchd cat /run/credentials/benchd.service/secret_github-token)" = not-a-token ] ||
  fail "benchd doctor, called by a person as benchd, would not see the secrets"
[ -n "$(shown StatusText)" ] || fail "says nothing of its state"

healthy() { inside curl -fsS -m 5 -o /dev/null http://127.0.0.1:8787/healthz; }
within 10 "does not answer on /healthz" healthy

step "kill -9: it comes back"
inside bash -c "kill -9 $first"
again() { [ "$(shown ActiveState)" = active ] && [ "$(shown MainPID)" != "$1" ]; }
within 30 "not restarted after kill -9" again "$first"
within 10 "does not answer after kill -9" healthy

step "works: the watchdog leaves it alone; hangs: the watchdog ends it and it comes back"
printf '[Service]\nWatchdogSec=2s\nRestartSec=1s\n' | put /run/systemd/system/benchd.service.d/soon.conf
inside systemctl daemon-reload
inside systemctl restart benchd
second=$(shown MainPID)
sleep 5
[ "$(shown MainPID)" = "$second" ] || fail "restarted although it worked"
inside bash -c "kill -STOP $second"
within 30 "not restarted although it hung" again "$second"
within 10 "it was not the watchdog" told "Watchdog timeout"
within 10 "does not answer after it hung" healthy

step "stops in order and soon, although the engine hangs"
inside timeout 15 systemctl stop benchd || fail "it takes too long to stop"
[ "$(shown Result) $(shown ExecMainStatus)" = "success 0" ] || fail "ended with $(shown Result), $(shown ExecMainStatus)"

step "a broken configuration is told once, not tried for ever"
echo 'repositries: []' | put /etc/benchd/benchd.yaml
if inside systemctl start benchd 2>/dev/null; then fail "started with a broken configuration"; fi
sleep 2
[ "$(shown ActiveState) $(shown ExecMainStatus) $(shown NRestarts)" = "failed 2 0" ] ||
  fail "state $(shown ActiveState), exit code $(shown ExecMainStatus), $(shown NRestarts) restarts"
within 10 "the fault of the configuration is not told" told "did you mean"
step "passed"
