#!/usr/bin/env bash
# Starts the real parts that the integration tests talk to: a Docker Engine, a plain-HTTP image
# registry and, on request, further engines that a test may kill. For Debian 12, with or without
# systemd; whatever does not run yet needs root.
#
#   engine.sh start               engine (unless `docker info` answers) and registry
#   engine.sh start-second NAME   an engine with its own network namespace, data and --live-restore;
#                                 prints its socket. After a `kill -9` (pid: second/NAME/pid) the
#                                 same call starts it again on the same data
#   engine.sh stop-second NAME    ends it and its containers, and removes all it left
#   engine.sh status              one line per part; exit 1 if the engine or the registry is down
#   engine.sh stop                ends what this script started, nothing else
#
# BENCHD_TEST_DIR (/tmp/benchd-test): state, logs, pid files, data; short, as it holds unix sockets.
# BENCHD_TEST_REGISTRY (127.0.0.1:5055): where the registry listens.
# While the file $BENCHD_TEST_DIR/hook-fails exists, no container that asks for GPUs can start.
set -euo pipefail
STATE=${BENCHD_TEST_DIR:-/tmp/benchd-test} REGISTRY=${BENCHD_TEST_REGISTRY:-127.0.0.1:5055}
PATH=$PATH:/usr/sbin:/sbin

say() { echo "engine.sh: $*" >&2; }
die() { say "$*"; exit 1; }
answers() { timeout 20 docker ${1:+-H "unix://$1"} info >/dev/null 2>&1; }
registry_answers() { curl -fs -m 5 -o /dev/null "http://$REGISTRY/v2/"; }

# The live process that pid file $1 names. An old file may name a stranger, and a killed process
# stays as a zombie if nobody reaps it: ours have the file's directory on their command line.
pid_of() { local p; p=$(cat "$1" 2>/dev/null) && grep -qsF -- "${1%/*}/" "/proc/$p/cmdline" && echo "$p"; }

end() { # PIDFILE: ends the process, after a minute by force
  local p i; p=$(pid_of "$1") && kill "$p" || :
  for i in {1..600}; do pid_of "$1" >/dev/null || break; sleep 0.1; done
  if p=$(pid_of "$1"); then kill -9 "$p" || :; fi
  rm -f "$1"
}

unmount() { # DIRECTORY: what a killed daemon left mounted below it
  local m; cut -d' ' -f5 /proc/self/mountinfo | { grep -F "$1/" || :; } | sort -r | while read -r m; do umount -l "$m" || :; done
}

launch() { # LOG CHECK COMMAND..: runs COMMAND in the background, in its own session, until CHECK holds
  local log=$1 check=$2 i; shift 2
  ( # without what the caller holds open: a lock would last as long as COMMAND
    for i in /proc/self/fd/*; do [ "${i##*/}" -le 2 ] || eval "exec ${i##*/}>&-"; done
    PATH=$STATE/bin:$PATH exec setsid "$@" >>"$log" 2>&1 </dev/null ) &
  for i in {1..300}; do $check && return; kill -0 $! 2>/dev/null || break; sleep 0.1; done
  kill $! 2>/dev/null || :; tail -n 15 "$log" >&2; die "did not start, see $log: $*"
}

need() { # COMMAND:PACKAGE..: installs the packages whose commands are missing
  local pair missing=(); for pair; do command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  local get="apt-get install -y --no-install-recommends ${missing[*]}"
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "something is missing, run as root: $get"
  say "$get"; export DEBIAN_FRONTEND=noninteractive
  { $get || { apt-get update && $get; }; } >"$STATE/apt.log" 2>&1 9>&- || die "failed, see $STATE/apt.log: $get"
}

prepare() { # what a daemon needs; sets EXTRA to further options
  [ "$(id -u)" = 0 ] || die "starting an engine needs root: sudo $0 start"
  need dockerd:docker.io docker:docker.io ip:iproute2 iptables:iptables nsenter:util-linux \
    curl:curl docker-registry:docker-registry bash-static:bash-static busybox:busybox-static
  # With this name on its PATH when it starts, dockerd accepts requests for GPUs, and runs it before
  # such a container's main process.
  local hook=$STATE/bin/nvidia-container-runtime-hook c; mkdir -p "$STATE/bin"
  printf '#!/bin/sh\nif [ -e "%s/hook-fails" ]; then echo "told to fail" >&2; exit 1; fi\n' "$STATE" >"$hook.new"
  chmod 755 "$hook.new"; mv "$hook.new" "$hook"
  # A kernel may support only one backend of iptables. A link on the daemons' PATH chooses for them
  # alone, the machine's alternatives stay as they are.
  EXTRA=; rm -f "$STATE/bin/iptables"
  if ! iptables -w -t nat -nL >/dev/null 2>&1; then
    if iptables-legacy -w -t nat -nL >/dev/null 2>&1; then ln -s "$(command -v iptables-legacy)" "$STATE/bin/iptables"
    else EXTRA=--iptables=false; say "iptables does not work here: containers get no NAT"; fi
  fi
  # Without an init system nobody may have mounted the cgroups.
  if ! grep -qE ' /sys/fs/cgroup[^ ]* cgroup2? ' /proc/mounts; then
    if ! awk 'NR > 1 && $2 { v1 = 1 } END { exit !v1 }' /proc/cgroups; then mount -t cgroup2 cgroup /sys/fs/cgroup
    else
      mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
      for c in $(awk 'NR > 1 && $2 && $4 { print $1 }' /proc/cgroups); do
        mkdir "/sys/fs/cgroup/$c"; mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c" || rmdir "/sys/fs/cgroup/$c"
      done
    fi
  fi
}

daemon() { # DIRECTORY CHECK OPTION..: dockerd, with what IN sets in front
  local d=$1 check=$2 p; shift 2; prepare; mkdir -p "$d"
  if p=$(pid_of "$d/pid"); then die "dockerd ($p) runs but does not answer; end it first"; fi
  # Neither pid file may name a dead process: as a zombie it counts as running.
  rm -f "$d/pid"; end "$d/run/containerd/containerd.pid"
  launch "$d/log" "$check" $IN dockerd --data-root "$d/data" --exec-root "$d/run" --pidfile "$d/pid" $EXTRA "$@"
}

start() {
  local r=$STATE/registry; mkdir -p "$r/data"
  if ! answers; then
    [ -z "${DOCKER_HOST:-}" ] || die "nothing answers at DOCKER_HOST=$DOCKER_HOST; unset it to start an engine here"
    IN='' daemon "$STATE/engine" answers
  fi
  need curl:curl docker-registry:docker-registry bash-static:bash-static busybox:busybox-static
  registry_answers && return
  end "$r/pid"
  printf '%s\n' 'version: 0.1' 'log: {level: warn}' "http: {addr: \"$REGISTRY\"}" \
    "storage: {filesystem: {rootdirectory: \"$r/data\"}, delete: {enabled: true}}" >"$r/config.yml"
  launch "$r/log" registry_answers sh -c 'echo $$ >"$1/pid"; exec docker-registry serve "$1/config.yml"' sh "$r"
}

second() { # NAME: sets its directory, socket and network namespace
  [[ ${1:-} =~ ^[a-z0-9-]{1,20}$ ]] || die "NAME must be 1 to 20 of a-z, 0-9 and -"
  D=$STATE/second/$1 SOCK=$STATE/second/$1/docker.sock NETNS=benchd-$1
  [ ${#D} -le 70 ] || die "too long for the unix sockets in it: $D"
}

start_second() {
  second "${1:-}"
  if ! answers "$SOCK"; then
    need ip:iproute2; [ -e "/run/netns/$NETNS" ] || ip netns add "$NETNS"
    # nsenter, not `ip netns exec`: that hides the cgroup mounts.
    local IN="nsenter --net=/run/netns/$NETNS"; $IN ip link set lo up
    # A containerd that the machine runs would be shared, so take namespaces of our own in it.
    daemon "$D" "answers $SOCK" -H "unix://$SOCK" --live-restore \
      --containerd-namespace "$NETNS" --containerd-plugins-namespace "$NETNS-plugins"
  fi
  echo "$SOCK"
}

stop_second() {
  second "${1:-}"; [ -d "$D" ] || return 0
  local id p m ids; ids=$(ls "$D/data/containers" 2>/dev/null) || :
  # Not gently: a test may have left it killed or stopped. Its containers outlive it, each with a
  # shim, which names the container on its command line.
  if p=$(pid_of "$D/pid"); then kill -9 "$p" || :; fi
  end "$D/pid"; end "$D/run/containerd/containerd.pid"
  for id in $ids; do # (a paused one cannot die before it is thawed)
    m=/sys/fs/cgroup/freezer/docker/$id/freezer.state; [ ! -e "$m" ] || echo THAWED >"$m"
    grep -lsF -- "$id" /proc/[0-9]*/cmdline /proc/[0-9]*/cgroup | cut -d/ -f3 | sort -u | xargs -r kill -9 2>/dev/null || :
  done
  sleep 0.2
  for id in $ids; do find /sys/fs/cgroup -depth -type d -path "*$id*" -exec rmdir {} + 2>/dev/null || :; done
  unmount "$D"
  [ ! -e "/run/netns/$NETNS" ] || ip netns del "$NETNS"
  rm -rf "$D"
}

status() {
  local rc=0 s
  if answers; then
    echo "engine: $(docker version -f '{{.Server.Version}}, API {{.Server.APIVersion}}'), $(docker info -f '{{.Driver}}, cgroup v{{.CgroupVersion}}'), $(pid_of "$STATE/engine/pid" || echo "not started by this script: requests for GPUs may fail")"
  else echo "engine: down"; rc=1; fi
  if registry_answers; then echo "registry: $REGISTRY"; else echo "registry: down ($REGISTRY)"; rc=1; fi
  for s in "$STATE"/second/*/docker.sock; do
    [ ! -e "$s" ] || echo "second: $s$(answers "$s" || echo ' (down)')"
  done
  return $rc
}

stop() {
  local s; for s in "$STATE"/second/*/; do [ ! -d "$s" ] || stop_second "$(basename "$s")"; done
  end "$STATE/registry/pid"
  end "$STATE/engine/pid"; unmount "$STATE/engine"
}

case ${1:-} in start | stop | status | start-second | stop-second) ;; *) sed -n '2,/^set/s/^#//p' "$0" >&2; exit 2 ;; esac
# The directory must be ours, since what lies in it runs as root.
mkdir -p -m 700 "$STATE"; [ -O "$STATE" ] || die "$STATE belongs to someone else; set BENCHD_TEST_DIR"
STATE=$(cd "$STATE" && pwd -P)
[ "$1" = status ] || { exec 9>"$STATE/lock"; flock 9; } # one call at a time
"${1//-/_}" "${@:2}"
