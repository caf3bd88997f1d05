#!/bin/bash
# Main process of a benchd container: runs the commands that come before the suite, then the suite, and ends with its
# exit code. How it ended is written to /benchd/outcome ("KIND CODE"), because a code alone could be anybody's.
#
#   SIGTERM  ends the suite
#   SIGUSR1  ends the benchmark that runs now; the suite goes on with the next one
#
# It needs bash, cat, sleep, tee and, for suite files, cp, mkdir and rm. /benchd/settings sets COMMAND, SCRIPT, WORKDIR,
# TESTS_DIR, RESULTS_DIR, CONSOLE_KIB, LOOK_SECONDS and the arrays SERVERS and CLIENTS (parts of command lines).
set -u
. /benchd/settings
interrupted=
suite=
watcher=
copier=
printer=

say() { printf 'benchd: %s\n' "$*"; }

# How often the kernel killed a process of this container for memory: the engine forgets it when it is restarted.
oom_kills() {
  local file key value
  for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r "$file" ] || continue
    while read -r key value; do
      [ "$key" != oom_kill ] || { printf '%s' "$value"; return; }
    done <"$file"
  done
}

finish() { # KIND CODE
  [ -z "$watcher" ] || kill "$watcher" 2>/dev/null
  printf '%s %s %s\n' "$1" "$2" "$(oom_kills)" >/benchd/outcome
  [ -z "$copier" ] || end_console
  exit "$2"
}

# Calls FUNCTION PID COMMANDLINE for every process; kernel threads and zombies have no command line.
each_process() {
  local dir args
  for dir in /proc/[0-9]*; do
    { mapfile -d '' -t args <"$dir/cmdline"; } 2>/dev/null || continue
    [ ${#args[@]} -eq 0 ] || "$1" "${dir#/proc/}" "${args[*]}"
  done
}

# What is printed goes to /benchd/console first and then to the engine, which loses what it has not read when it dies.
# While the engine is away the suite goes on until the pipes between are full.
begin_console() {
  { : >>/benchd/console; } 2>/dev/null || return 0
  exec 3>&1
  exec 4> >(exec cat >&3 2>/dev/null)
  printer=$!
  # The file ends at its size, the output goes on. What tee calls its standard output is written first.
  exec > >(trap '' PIPE XFSZ; ulimit -f "$CONSOLE_KIB"; exec tee /dev/fd/4 >>/benchd/console 2>/dev/null) 2>&1
  copier=$!
  exec 3>&- 4>&-
}

# Ends what the suite left behind, which may hold the pipe open, and waits until all that was printed has gone out.
end_console() {
  leftover() {
    case $1 in 1 | "$copier" | "$printer") ;; *) kill -KILL "$1" ;; esac
  }
  exec >/dev/null 2>&1
  while kill -0 "$printer"; do
    each_process leftover
    sleep 0.02
  done
}

# The suite starts a server in the background, waits up to 20 minutes for it to answer without looking whether it still
# lives, and then lets every client wait again. While something waits and no server is there at three looks in a row,
# what waits is ended.
watch_server() {
  local missing=0 alive waiting
  look() {
    local pattern
    for pattern in "${SERVERS[@]}"; do
      case $2 in *"$pattern"*) alive=1; return ;; esac
    done
    for pattern in "${CLIENTS[@]}"; do
      case $2 in *"$pattern"*) waiting+=("$1") ;; esac
    done
  }
  while :; do
    sleep "$LOOK_SECONDS"
    alive='' waiting=()
    each_process look
    if [ -n "$alive" ] || [ ${#waiting[@]} -eq 0 ]; then missing=0; continue; fi
    missing=$((missing + 1))
    if [ "$missing" -ge 3 ]; then
      say "the server is gone: ending what waits for it"
      kill -TERM "${waiting[@]}" 2>/dev/null
      missing=1
    fi
  done
}

# Kills what the suite runs, but none of its own shells and none of the pipes that feed them the list of benchmarks.
end_benchmark() {
  local shell victims=()
  interrupted=1
  [ -n "$suite" ] || return 0
  { mapfile -d '' -t shell <"/proc/$suite/cmdline"; } 2>/dev/null
  consider() {
    case $1 in 1 | "$watcher" | "$copier" | "$printer") return 0 ;; esac
    [ "$2" != "${shell[*]}" ] || return 0
    [ -z "$SCRIPT" ] || case $2 in *"$SCRIPT"*) return 0 ;; esac
    case $2 in jq\ * | cat | cat\ *) return 0 ;; esac
    victims+=("$1")
  }
  each_process consider
  say "ending the running benchmark"
  [ ${#victims[@]} -eq 0 ] || kill -KILL "${victims[@]}" 2>/dev/null
}

end_suite() {
  interrupted=1
  [ -n "$suite" ] || finish stopped 143
  kill -TERM -- "-$suite" 2>/dev/null
}

trap end_suite TERM INT
trap end_benchmark USR1

begin_console
cd "$WORKDIR" || finish suite-missing 66
for before in /benchd/before/*; do
  [ -e "$before" ] || continue
  bash "$before" </dev/null || { code=$?; say "a command before the suite failed with exit code $code"; finish prepare-failed "$code"; }
done
if [ -n "$SCRIPT" ] && [ ! -f "$SCRIPT" ]; then
  say "the suite's script $SCRIPT is not in $WORKDIR"
  finish suite-missing 66
fi
if [ -n "$TESTS_DIR" ]; then
  # Benchmarks that the image brings along are not those that were planned.
  mkdir -p "$TESTS_DIR" && rm -f "$TESTS_DIR"/*.json && cp /benchd/tests/* "$TESTS_DIR"/ || finish prepare-failed 1
fi
# Results that the image brings along were not measured now.
rm -rf "$RESULTS_DIR" || finish prepare-failed 1

# A process group of its own, with the usual signals, so that all of the suite can be ended at once.
set -m
bash -c "$COMMAND" </dev/null &
suite=$!
set +m
if [ ${#SERVERS[@]} -gt 0 ]; then
  watch_server </dev/null &
  watcher=$!
fi
while :; do
  interrupted=
  wait "$suite"
  code=$?
  # A trap ends the wait early.
  [ -n "$interrupted" ] && kill -0 "$suite" 2>/dev/null && continue
  break
done
finish suite-ended "$code"
