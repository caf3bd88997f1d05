#!/usr/bin/env bash
# The whole of benchd on one machine, in less than three minutes after the build: two commits of a sample project, the
# second really slower, are measured in their images, which lie in a local registry, and published to a local S3 bucket.
# Then a third commit comes, and the daemon finds and measures it by itself. At last a pull request gets two labels on a
# stand-in for GitHub, whose App the daemon is, and its comment and its check follow the run.
# Removes all it made at the end, also after a failure or Ctrl-C; DEMO_KEEP=1 keeps it for a look around.
# Uses the loopback ports 5065 (registry), 5066 (S3), 5067 (benchd) and 5068 (GitHub).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$PWD/target/demo
registry=127.0.0.1:5065
s3=127.0.0.1:5066
repository=$registry/vllm-ci-postmerge-repo
# An engine, if none runs, and a registry that are the demo's own: they end with it.
export BENCHD_TEST_DIR=/tmp/benchd-demo BENCHD_TEST_REGISTRY=$registry
export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local-secret AWS_REGION=us-east-1
# Not a secret, but treated like one: vLLM's suite wants such a token and prints it.
export DEMO_HF_TOKEN=hf_demoTokenThatMustNotAppear
s3_pid=
server=http://127.0.0.1:5067
server_pid=
github=http://127.0.0.1:5068
github_pid=

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  set +e
  stop_server
  [ -z "$github_pid" ] || kill "$github_pid" 2>/dev/null || :
  [ -z "$s3_pid" ] || kill "$s3_pid" 2>/dev/null || :
  if [ "${DEMO_KEEP:-}" = 1 ]; then
    echo "Kept: $folder, the images and the registry $registry. To remove: demo/run.sh clean"
    exit "$status"
  fi
  remove_all
  [ "$status" = 0 ] || echo "The demo failed ($status)." >&2
  exit "$status"
}

# Stops the daemon and waits for its end, so that nothing of it is left.
stop_server() {
  local pid=$server_pid
  server_pid=
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || :
  wait "$pid"
}

remove_all() {
  local image id
  if docker info >/dev/null 2>&1; then
    for image in $(docker images --quiet "$repository" | sort -u); do
      for id in $(docker ps --all --quiet --filter "ancestor=$image"); do docker rm -f "$id" >/dev/null; done
      docker rmi -f "$image" >/dev/null 2>&1 || :
    done
  fi
  bash tests/support/engine.sh stop
  rm -rf "$folder" "$BENCHD_TEST_DIR"
}

# Makes a commit of the sample project whose cost is $1 percent, with message $2; prints its id, which is always the
# same because the dates are given.
commit() {
  echo "$1" >"$folder/checkout/sample-cost"
  git -C "$folder/checkout" add sample-cost
  git -C "$folder/checkout" commit --quiet --date "$GIT_COMMITTER_DATE" --message "$2"
  git -C "$folder/checkout" rev-parse HEAD
}

# Builds the image of commit $1 (cost $2 percent) and pushes it as the project's CI would; benchd has to pull it.
publish_image() {
  local image=$repository:$1$suffix
  demo/image/build.sh "$image" "$2" --label "org.opencontainers.image.revision=$1"
  docker push --quiet "$image"
  docker rmi "$image" >/dev/null
}

# Waits until command $2 .. succeeds, at most $1 seconds.
wait_for() {
  local left=$1
  shift
  until "$@"; do
    left=$((left - 1))
    if [ "$left" -le 0 ] || { [ -n "$server_pid" ] && ! kill -0 "$server_pid" 2>/dev/null; }; then
      echo "gave up waiting for: $*" >&2
      [ ! -f "$folder/serve.log" ] || tail -n 20 "$folder/serve.log" >&2
      return 1
    fi
    sleep 1
  done
}

start_services() {
  title "Engine, registry, benchd and the sample suite"
  bash scripts/setup.sh
  bash tests/support/engine.sh start
  # In one call, so that cargo builds every crate once, and as for the tests.
  cargo build --locked -p benchd -p github-standin --bin benchd --bin github-standin --example local-s3
  benchd=$PWD/target/debug/benchd
  rm -rf "$folder"
  mkdir -p "$folder"/{bucket/sample-results,hf_cache,benchmarks}
  target/debug/examples/local-s3 "$folder/bucket" "${s3#*:}" >"$folder/s3.log" 2>&1 &
  s3_pid=$!
}

configure() {
  local file name
  platform=cpu
  case $(uname -m) in aarch64 | arm64) platform=arm64-cpu ;; esac
  suffix=-$platform
  export BENCHD_CONFIG=$folder/benchd.yaml
  for file in benchd github; do
    sed "s/^  platform: .*/  platform: $platform/" "demo/$file.yaml" >"$folder/$file.yaml"
  done
  mkdir "$folder/benchmarks/$platform"
  for file in demo/benchmarks/cpu/*-tests-cpu.json; do
    name=$(basename "$file" -cpu.json)
    cp "$file" "$folder/benchmarks/$platform/$name$suffix.json"
  done
}

make_project() {
  title "A project with two commits, each with its CI image; the second does 30 % more work"
  git init --quiet --initial-branch main "$folder/checkout"
  git -C "$folder/checkout" config user.name "Sample"
  git -C "$folder/checkout" config user.email sample@example.org
  git -C "$folder/checkout" remote add origin https://github.com/sample/engine.git
  first=$(GIT_COMMITTER_DATE='2026-01-05T10:00:00Z' commit 100 "Generate text")
  second=$(GIT_COMMITTER_DATE='2026-01-05T12:00:00Z' commit 130 "Check every token twice")
  git -C "$folder/checkout" --no-pager log --oneline
  publish_image "$first" 100
  publish_image "$second" 130
}

measure_by_hand() {
  local sha
  for sha in "$first" "$second"; do
    title "Measure ${sha:0:12}"
    show "$benchd" run --repo sample/engine --branch main --commit "$sha" \
      --checkout "$folder/checkout" --benchmarks "$folder/benchmarks" --variants base,eager
  done
}

show_what_is_kept() {
  local run
  title "What is kept"
  show "$benchd" runs
  run=$(newest_run)
  show "$benchd" show "$run"
  show "$benchd" repro "$run"
}

newest_run() { "$benchd" runs --json --limit 1 | sed -n 's/^    "id": \([0-9]*\),$/\1/p'; }

# A third commit, faster again, comes to the branch; nobody tells benchd.
add_commit() {
  title "A third commit, and its CI image, while nobody asks for anything"
  third=$(GIT_COMMITTER_DATE='2026-01-05T14:00:00Z' commit 100 "Check every token once")
  git -C "$folder/checkout" --no-pager log --oneline
  publish_image "$third" 100
  show "$benchd" pick
}

start_server() {
  title "$1"
  printf '\033[2m$ %s\033[0m\n' "benchd serve &"
  "$benchd" serve >>"$folder/serve.log" 2>&1 &
  server_pid=$!
  export BENCHD_SERVER=$server
  wait_for 30 curl --silent --fail --output "$folder/ready.json" "$server/readyz"
  show curl --silent "$server/readyz"
  echo
}

is_measuring() { [ "$("$benchd" runs --json --limit 1 | grep -c "\"sha\": \"$third\"")" = 1 ]; }
is_published() { is_measuring && "$benchd" runs --json --limit 1 | grep -q '"state": "published"'; }
# What came of the latest tick.
latest_tick() { "$benchd" schedule | grep -v '^ ' | sed -n '/^20/{p;q}'; }
says_nothing_new() { latest_tick | grep -q 'nothing new on main for sample/small$'; }

watch_it_pick_and_measure() {
  title "It picks the newest of the three by itself"
  wait_for 30 is_measuring
  show "$benchd" queue
  wait_for 60 is_published
  show "$benchd" runs
  show "$benchd" show "$(newest_run)"
}

watch_it_find_nothing_new() {
  title "The next tick: nothing new"
  wait_for 20 says_nothing_new
  show "$benchd" schedule
  show "$benchd" pick || [ $? = 1 ]
  show "$benchd" status
}

end_server() {
  title "The daemon is stopped"
  stop_server
  [ "$("$benchd" runs --json --limit 20 --state-dir "$folder/state" | grep -c '"sha":')" = 3 ] ||
    { echo "expected three runs, one a commit" >&2; exit 1; }
  unset BENCHD_SERVER
}

# Does something on the stand-in's GitHub, as people there would.
on_github() { curl --silent --show-error --fail --output "$folder/github.json" --data "$2" "$github/_control/$1"; }

# A fourth commit, much slower, lies on a branch with a pull request.
start_github() {
  local sha
  title "GitHub (a stand-in), with a pull request"
  printf 'demo-webhook-secret' >"$folder/webhook-secret"
  target/debug/github-standin --listen "${github#http://}" --repository sample/engine \
    --app benchd --app-file "$folder/github-app.json" --key-file "$folder/github-app.pem" \
    --webhook "$server/webhook/github" --secret demo-webhook-secret \
    --user reader --token-file "$folder/reader-token" >"$folder/github.log" 2>&1 &
  github_pid=$!
  wait_for 30 test -s "$folder/github-app.json"
  for sha in "$first" "$second" "$third"; do
    on_github repository/commit "{\"sha\": \"$sha\", \"text\": \"On main\"}"
  done
  git -C "$folder/checkout" checkout --quiet -b slow
  fourth=$(GIT_COMMITTER_DATE='2026-01-05T16:00:00Z' commit 160 "Check every token four times")
  git -C "$folder/checkout" checkout --quiet main
  publish_image "$fourth" 160
  on_github repository/commit "{\"branch\": \"slow\", \"sha\": \"$fourth\", \"by\": \"ann\"}"
  on_github repository/open '{"branch": "slow", "text": "Check every token four times", "by": "ann"}'
  export BENCHD_CONFIG=$folder/github.yaml
}

# The comments on the pull request and the check runs of its head as they are now, as some reader sees them.
read_github() {
  curl --silent --header "Authorization: Bearer $(cat "$folder/reader-token")" "$github/repos/sample/engine/$1"
}
comments() { # [FIELD]
  read_github issues/1/comments |
    python3 -c 'import json, sys; [print(comment[sys.argv[1]]) for comment in json.load(sys.stdin)]' "${1:-body}"
}
checks() {
  read_github "commits/$fourth/check-runs" | python3 -c 'import json, sys
for check in json.load(sys.stdin)["check_runs"]:
    print(check["name"], check["status"], check["conclusion"] or "", check["details_url"])'
}
first_line() { comments | awk '!told && /./ && !/^<!--/ { print; told = 1 }'; }
check_stands() { checks | cut -d ' ' -f 2-3; }
# Says what has changed of them since the last call.
tell_news() {
  local now
  now=$(first_line)
  [ "$now" = "$told" ] || echo "the comment says: $now"
  told=$now
  now=$(check_stands)
  [ "$now" = "$stood" ] || echo "the check is $now"
  stood=$now
}
# The run of the pull request has ended, and everybody was told.
is_told() { "$benchd" runs --json --limit 1 | tr -d '\n' | grep -q "\"sha\": \"$fourth\".*\"state\": \"published\""; }

watch_the_pull_request() {
  local label told="" stood="" left=600
  title "Two labels, and what the pull request is told"
  for label in perf-benchmarks ready; do
    echo "somebody sets the label $label"
    on_github pull/label "{\"number\": 1, \"name\": \"$label\"}"
  done
  until is_told; do
    tell_news
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "gave up waiting for the comment" >&2; tail -n 20 "$folder/serve.log" >&2; return 1; }
    sleep 0.2
  done
  tell_news
  title "The comment in the end"
  comments
  [ "$(comments | grep -c '<!-- benchd:')" = 1 ] || { echo "expected one comment" >&2; exit 1; }
  title "The check in the end, and where it leads"
  checks
  [ "$(checks | wc -l)" = 1 ] || { echo "expected one check" >&2; exit 1; }
  [ "$(check_stands)" = "completed neutral" ] || { echo "expected a check that is neutral" >&2; exit 1; }
  [ "$(checks | cut -d ' ' -f 4)" = "$(comments html_url)" ] || { echo "expected it to lead to the comment" >&2; exit 1; }
}

show_where_everything_lies() {
  local objects
  title "Where everything lies"
  echo "store and artifacts   $folder/state"
  (cd "$folder/state" && find . -type f | sort | sed -n '1,12s|^\./|                        |p; $s|.*|                        ..|p')
  echo "objects in the bucket $folder/bucket/sample-results"
  (cd "$folder/bucket/sample-results" && find . -name '*.json' -type f | sort | sed 's|^\./|                        |')
  objects=$(find "$folder/bucket/sample-results" -name 'benchmark_results*.json' -type f | wc -l)
  [ "$objects" = 4 ] || { echo "expected four objects in the bucket, found $objects" >&2; exit 1; }
}

look_for_the_token() {
  if grep -rqF "$DEMO_HF_TOKEN" "$folder/state" "$folder/bucket" "$folder/serve.log"; then
    echo "the token was written somewhere below $folder" >&2
    exit 1
  fi
  echo "The suite printed its token in clear; what benchd kept and sent holds it nowhere."
}

if [ "${1:-}" = clean ]; then
  remove_all
  exit
fi
trap clean_up EXIT
trap 'exit 130' INT TERM

start_services
configure
make_project
measure_by_hand
show_what_is_kept
add_commit
start_server "The daemon, with schedules that fire every ten seconds"
watch_it_pick_and_measure
watch_it_find_nothing_new
end_server
start_github
start_server "The daemon, asked by GitHub"
watch_the_pull_request
stop_server
show_where_everything_lies
look_for_the_token
[ "${DEMO_KEEP:-}" = 1 ] || echo "All of it is removed now; DEMO_KEEP=1 make demo keeps it."
