#!/usr/bin/env bash
# Starts the real parts that the integration tests talk to: a Docker Engine, a plain-HTTP image
# registry and, on request, further engines that a test may kill. Needs Debian 12 (or a machine
# that has the commands already), and root for whatever is not running yet. No systemd needed.
#
#   engine.sh start               engine (unless `docker info` answers) and registry
#   engine.sh start-second NAME   an engine of its own (network namespace, data, --live-restore);
#                                 prints its socket. After `kill -9` the same call restarts it on
#                                 the same data, so that it finds its containers again
#   engine.sh stop-second NAME    ends it with all its containers, and removes all it left
#   engine.sh status              one line per part; exit 1 if the engine or the registry is down
#   engine.sh stop                ends what this script started, nothing else
#
# BENCHD_TEST_DIR (/tmp/benchd-test): state, logs, pid files and data; keep it short, it holds
# unix sockets. BENCHD_TEST_REGISTRY (127.0.0.1:5055): where the registry listens.
# `touch $BENCHD_TEST_DIR/hook-fails` makes every start of a container that asks for GPUs fail.
set -euo pipefail

STATE=${BENCHD_TEST_DIR:-/tmp/benchd-test}
REGISTRY=${BENCHD_TEST_REGISTRY:-127.0.0.1:5055}
PATH=$PATH:/usr/sbin:/sbin

say() { echo "engine.sh: $*" >&2; }
die() { say "$*"; exit 1; }
answers() { timeout 20 docker ${1:+-H "unix://$1"} info >/dev/null 2>&1; }
registry_answers() { curl -fs -m 5 -o /dev/null "http://$REGISTRY/v2/"; }

# Prints the process id in file $1 if that process lives and has $2 on its command line: an old
# file may name a stranger, and without a reaping PID 1 a killed daemon stays as a zombie.
pid_of() {
  local pid; pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
  grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status" 2>/dev/null || return 1
  grep -qsF -- "$2" "/proc/$pid/cmdline" || return 1
  echo "$pid"
}

end() { # FILE WORD: ends that process, kills it after a minute
  local pid i; pid=$(pid_of "$1" "$2") || { rm -f "$1"; return 0; }
  kill "$pid" 2>/dev/null || :
  for i in $(seq 600); do pid_of "$1" "$2" >/dev/null || break; sleep 0.1; done
  if pid_of "$1" "$2" >/dev/null; then kill -9 "$pid" || :; sleep 0.5; fi
  rm -f "$1"
}

launch() { # LOG CHECK COMMAND..: in the background, in a session of its own; waits until CHECK holds
  local log=$1 check=$2 pid i; shift 2
  PATH=$STATE/bin:$PATH setsid "$@" >>"$log" 2>&1 </dev/null 9>&- &
  pid=$!
  for i in $(seq 300); do
    $check && return 0
    kill -0 $pid 2>/dev/null || break
    sleep 0.1
  done
  kill $pid 2>/dev/null || :
  tail -n 15 "$log" >&2; die "did not start: $* (log: $log)"
}

need() { # COMMAND:PACKAGE..: installs the packages of the commands that are missing
  local pair missing=()
  for pair; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  local cmd="apt-get install -y --no-install-recommends ${missing[*]}"
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "missing; as root: $cmd"
  say "$cmd"; export DEBIAN_FRONTEND=noninteractive
  { $cmd || { apt-get update && $cmd; }; } >"$STATE/apt.log" 2>&1 || die "failed, see $STATE/apt.log: $cmd"
}

# What every daemon needs; sets IPTABLES to the daemon's extra option, if any.
prepare() {
  [ "$(id -u)" = 0 ] || die "no engine answers and starting one needs root: sudo $0 start"
  need dockerd:docker.io ip:iproute2 iptables:iptables nsenter:util-linux curl:curl \
    bash-static:bash-static busybox:busybox-static
  # With this name on its PATH at its start, dockerd accepts requests for GPUs and runs it before
  # such a container's main process. Ours does nothing, or fails on demand.
  mkdir -p "$STATE/bin"
  printf '#!/bin/sh\n[ ! -e "%s/hook-fails" ] || { echo "hook told to fail" >&2; exit 1; }\n' "$STATE" >"$STATE/bin/hook.new"
  chmod 755 "$STATE/bin/hook.new"; mv "$STATE/bin/hook.new" "$STATE/bin/nvidia-container-runtime-hook"
  # A kernel may know only one of iptables' two backends. The choice is for the daemons alone: a
  # link on their PATH, the machine's alternatives stay as they are.
  IPTABLES=
  if iptables -w -t nat -nL >/dev/null 2>&1; then rm -f "$STATE/bin/iptables"
  elif iptables-legacy -w -t nat -nL >/dev/null 2>&1; then ln -sf "$(command -v iptables-legacy)" "$STATE/bin/iptables"
  else IPTABLES=--iptables=false; say "iptables does not work here: containers get no NAT"; fi
  # Without an init system nobody may have mounted the cgroups.
  if ! grep -qE '^[^ ]+ /sys/fs/cgroup[^ ]* cgroup2? ' /proc/mounts; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup || die "cannot mount the cgroups"
  fi
}

start() {
  if ! answers; then
    [ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST=$DOCKER_HOST does not answer; unset it to start one here"
    prepare
    local d=$STATE/engine; mkdir -p "$d"
    pid_of "$d/pid" "$d/pid" >/dev/null || rm -f "$d/pid"
    launch "$d/log" answers dockerd --data-root "$d/data" --pidfile "$d/pid" $IPTABLES
  fi
  if ! registry_answers; then
    need docker-registry:docker-registry curl:curl
    local r=$STATE/registry; mkdir -p "$r/data"
    printf '%s\n' 'version: 0.1' 'log: {level: warn}' "http: {addr: \"$REGISTRY\"}" \
      "storage: {filesystem: {rootdirectory: \"$r/data\"}, delete: {enabled: true}}" >"$r/config.yml"
    end "$r/pid" "$r/config.yml"
    launch "$r/log" registry_answers sh -c 'echo $$ >"$0"; exec docker-registry serve "$1"' "$r/pid" "$r/config.yml"
  fi
}

# Paths and names of the second engine $1.
second() {
  [[ ${1:-} =~ ^[a-z0-9-]{1,20}$ ]] || die "a second engine's NAME is 1 to 20 of a-z, 0-9 and -"
  D=$STATE/second/$1 SOCK=$STATE/second/$1/docker.sock NETNS=benchd-$1
  [ ${#D} -le 70 ] || die "too long for unix sockets: $D"
}

start_second() {
  second "$1"
  if ! answers "$SOCK"; then
    prepare; mkdir -p "$D"
    # nsenter, not `ip netns exec`, which hides the cgroup mounts.
    [ -e "/run/netns/$NETNS" ] || ip netns add "$NETNS"
    nsenter --net="/run/netns/$NETNS" ip link set lo up
    pid_of "$D/pid" "$D/pid" >/dev/null || rm -f "$D/pid"
    pid_of "$D/run/containerd/containerd.pid" "$D/" >/dev/null || rm -f "$D/run/containerd/containerd.pid"
    # A containerd of the machine, if there is one, is shared: hence own namespaces in it.
    launch "$D/log" "answers $SOCK" nsenter --net="/run/netns/$NETNS" dockerd -H "unix://$SOCK" \
      --data-root "$D/data" --exec-root "$D/run" --pidfile "$D/pid" --live-restore $IPTABLES \
      --containerd-namespace "$NETNS" --containerd-plugins-namespace "$NETNS-plugins"
  fi
  echo "$SOCK"
}

stop_second() {
  second "$1"; [ -d "$D" ] || return 0
  local id pid m
  # With live-restore its containers outlive it, so they go first; if it does not answer (a test
  # may have killed or stopped it), their shims and processes are ended below.
  if answers "$SOCK"; then
    for id in $(docker -H "unix://$SOCK" ps -aq); do docker -H "unix://$SOCK" rm -fv "$id" >/dev/null 2>&1 || :; done
  elif pid=$(pid_of "$D/pid" "$D/pid"); then kill -9 "$pid" || :; fi
  end "$D/pid" "$D/pid"; end "$D/run/containerd/containerd.pid" "$D/"
  for id in $(ls "$D/data/containers" 2>/dev/null); do
    for pid in $(grep -lsF -- "$id" /proc/[0-9]*/cmdline /proc/[0-9]*/cgroup | cut -d/ -f3 | sort -u); do
      [ "$pid" = $$ ] || kill -9 "$pid" 2>/dev/null || :
    done
  done
  sleep 0.2
  cut -d' ' -f5 /proc/self/mountinfo | grep -F "$D/" | sort -r | while read -r m; do umount -l "$m" || :; done
  [ ! -e "/run/netns/$NETNS" ] || ip netns del "$NETNS"
  rm -rf "$D"
}

status() {
  local rc=0 s
  if answers; then
    echo "engine: $(docker version -f '{{.Server.Version}}, API {{.Server.APIVersion}}'), $(docker info -f '{{.Driver}}, cgroup v{{.CgroupVersion}}'), pid $(pid_of "$STATE/engine/pid" "$STATE/engine/pid" || echo "not ours: requests for GPUs may fail")"
  else echo "engine: down"; rc=1; fi
  if registry_answers; then echo "registry: $REGISTRY"; else echo "registry: down ($REGISTRY)"; rc=1; fi
  for s in "$STATE"/second/*/; do
    [ -d "$s" ] || continue; s=${s%/}
    echo "second ${s##*/}: $(answers "$s/docker.sock" && echo "$s/docker.sock" || echo down)"
  done
  return $rc
}

stop() {
  local s
  for s in "$STATE"/second/*/; do [ ! -d "$s" ] || stop_second "$(basename "$s")"; done
  end "$STATE/registry/pid" "$STATE/registry/config.yml"
  end "$STATE/engine/pid" "$STATE/engine/pid"
}

# One call at a time. The directory must be ours: daemons run as root what lies in it.
case ${1:-} in start | stop | status | start-second | stop-second) ;; *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;; esac
mkdir -p -m 700 "$STATE"; [ -O "$STATE" ] || die "$STATE belongs to someone else; set BENCHD_TEST_DIR"
STATE=$(cd "$STATE" && pwd -P)
if [ "$1" != status ]; then exec 9>"$STATE/lock"; flock 9; fi
"${1//-/_}" "${@:2}"
