//! Passes in real containers: how each way to end comes out, and that nothing is left behind.

use std::time::Duration;

use benchd::executor::container::{DeviceAccess, HfToken, ModelCache, Profile, ServerWatch};
use benchd::executor::watch::TimeLimit;
use benchd::executor::{PassEnd, PassError, Results};
use benchd::model::{Conclusion, FailureKind, Fault};
use secrecy::SecretString;

use super::pass_case::{Case, files};

const GOOD: &str = "mkdir -p out/results && echo '[]' >out/results/a.pytorch.json\n";

#[tokio::test]
async fn a_suite_runs_with_its_files_and_leaves_results_and_a_clean_log() {
    let script = r#"
        [ -t 1 ] || echo 'a pipe'
        printf '\033[32mgreen\033[0m\n 10%%\r 50%%\r100%%\n'
        set -x
        [[ -z $HF_TOKEN ]]
        set +x
        printf 'token hf_very'; sleep 0.3; printf '\033[1msecrettoken\n'
        echo 'Running test case latency_a'
        ls -1 tests; echo "[$(cat "tests/$SERVING_JSON")]"; ls out/results 2>&1
        echo "$DEVICE_NAME $DEVICE_TYPE $ON_CPU $EXTRA"
        mkdir -p out/results/deep
        echo '{}' >out/results/latency_a.json; echo '[]' >out/results/latency_a.pytorch.json; echo hf_verysecrettoken >out/results/deep/x
        head -c 20000 /dev/zero | tr '\0' 'y'; echo
        printf 'no line feed'
    "#;
    let mut case = Case::new(script).await;
    case.request.secrets.hf_token = Some(HfToken::new(&SecretString::from("hf_verysecrettoken")).unwrap());
    case.request.env.insert("EXTRA".into(), "any 'value'".into());
    case.request.expected_points = vec!["latency_a".into()];
    let outcome = case.outcome().await;
    assert_eq!(outcome.end, PassEnd::SuiteEnded { code: 0 });
    assert_eq!((outcome.failure(), files(&outcome)), (None, 3));
    assert_eq!(outcome.points.points, ["latency_a"]);
    assert!(outcome.ended_at >= outcome.started_at);
    assert!(case.result("latency_a.pytorch.json").is_file() && case.result("deep/x").is_file());
    assert_eq!(std::fs::read_to_string(case.result("deep/x")).unwrap(), "***\n");
    let lines = case.lines();
    for wanted in ["a pipe", "green", "100%", "token ***", "no line feed", "cpu Test_CPU_2c 1 any 'value'"] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted:?} is not in {lines:#?}");
    }
    assert!(lines.contains(&"y".repeat(20_000)));
    // What the image brought along is gone, what was planned is there.
    assert!(lines.contains(&"[[1]]".to_owned()) && lines.contains(&"latency-tests-cpu.json".to_owned()), "{lines:#?}");
    assert!(!case.log().contains("old-tests.json") && !case.log().contains("stale"));
    assert!(!case.log().contains("hf_very") && !case.log().contains("secrettoken"));
    assert!(case.saw("Started") && case.saw("Point { name: \"latency_a\", number: 1 }"));
}

#[tokio::test]
async fn exit_codes_and_results_are_two_things() {
    let failed = Case::new(&format!("{GOOD} exit 7")).await.outcome().await;
    assert_eq!(failed.end, PassEnd::SuiteEnded { code: 7 });
    assert_eq!((failed.failure(), files(&failed)), (Some(FailureKind::SuiteExit { code: 7 }), 1));
    assert_eq!(failed.conclude(1, 1), Conclusion::Incomplete);
    for script in ["true", "mkdir -p out/results"] {
        let nothing = Case::new(script).await.outcome().await;
        assert_eq!(nothing.results, Results::None, "{script}");
        assert_eq!(nothing.conclude(0, 1), Conclusion::Failure(FailureKind::NoResults), "{script}");
    }
}

#[tokio::test]
async fn a_suite_that_hangs_is_stopped_and_its_results_are_kept() {
    let mut idle = Case::new(&format!("{GOOD} sleep 1000")).await;
    idle.request.limits.idle = Duration::from_secs(2);
    let outcome = idle.outcome().await;
    assert_eq!(outcome.end, PassEnd::TimedOut(TimeLimit::Idle));
    assert_eq!((files(&outcome), outcome.conclude(0, 1)), (1, Conclusion::TimedOut));

    // One that ignores being asked and goes on printing.
    let mut job = Case::new("trap '' TERM; while :; do echo tick; sleep 0.2; done").await;
    job.request.limits.job = Duration::from_secs(2);
    assert_eq!(job.outcome().await.end, PassEnd::TimedOut(TimeLimit::Job));
}

#[tokio::test]
async fn a_point_over_its_time_is_ended_and_the_next_one_runs() {
    let script = r#"
        printf 'serving_slow\nserving_fast\n' | while read -r name; do
            echo "Running test case $name"
            case $name in *slow) bash -c 'sleep 1000; true' ;; *) mkdir -p out/results; echo '[]' >out/results/$name.pytorch.json ;; esac
        done
    "#;
    let mut case = Case::new(script).await;
    case.request.limits.point = Some(Duration::from_secs(2));
    let outcome = case.outcome().await;
    assert_eq!(outcome.end, PassEnd::SuiteEnded { code: 0 });
    assert_eq!(outcome.points.timed_out, ["serving_slow"]);
    assert!(case.result("serving_fast.pytorch.json").is_file());
}

#[tokio::test]
async fn a_server_that_died_is_not_waited_for() {
    // The shape of vLLM's own script: the server in the background, a blind wait, then every client all the same.
    let script = r#"
        wait_for_server() {
            timeout 1200 bash -c 'until curl -sf http://localhost:8000/v1/models >/dev/null 2>&1; do sleep 1; done'
        }
        printf 'serving_dead\nserving_good\n' | while read -r name; do
            echo "Running test case $name"
            if [ $name = serving_dead ]; then seconds=1; else seconds=600; fi
            bash -c "sleep $seconds; : vllm serve m" &
            server_pid=$!
            if [ $name = serving_good ]; then
                (sleep 6; echo up >/tmp/up) &
                curl() { [ -e /tmp/up ]; }; export -f curl
            fi
            if wait_for_server; then echo "$name is up"; else echo "$name failed to start"; fi
            echo " new test name ${name}_qps_1_concurrency_1"
            if [ $name = serving_dead ]; then
                bash -c 'sleep 1000; : vllm bench serve --model m' || echo 'client ended'
            else
                mkdir -p out/results; echo '[]' >out/results/${name}_qps_1_concurrency_1.pytorch.json
            fi
            kill -9 $server_pid 2>/dev/null; true
        done
    "#;
    let mut case = Case::new(script).await;
    case.request.suite.server = Some(ServerWatch { interval_s: 1, ..ServerWatch::vllm() });
    let outcome = case.outcome().await;
    assert_eq!(outcome.end, PassEnd::SuiteEnded { code: 0 });
    assert_eq!(outcome.points.server_died, ["serving_dead"]);
    let lines = case.lines();
    for wanted in ["serving_dead failed to start", "client ended", "serving_good is up"] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted:?} is not in {lines:#?}");
    }
    assert_eq!(files(&outcome), 1);
    assert_eq!(outcome.conclude(1, 1), Conclusion::Incomplete);
}

#[tokio::test]
async fn memory_is_recognised_whatever_the_exit_code() {
    for script in ["tail /dev/zero; true", "exec tail /dev/zero"] {
        let mut case = Case::new(script).await;
        case.request.limits.memory_bytes = Some(48 << 20);
        let outcome = case.outcome().await;
        assert_eq!(outcome.end, PassEnd::OutOfMemory, "{script}");
        assert!(outcome.out_of_memory);
        assert_eq!(outcome.conclude(0, 1), Conclusion::Failure(FailureKind::OutOfMemory));
    }
}

#[tokio::test]
async fn only_plain_files_of_a_bounded_size_are_taken() {
    let script = r#"
        mkdir -p out/results && cd out/results
        echo '[]' >good.pytorch.json
        ln -s /etc/passwd link.json; ln -s / loop; mkfifo pipe; echo x >$'bad\xff.json'
    "#;
    let hostile = Case::new(script).await;
    let outcome = hostile.outcome().await;
    let Results::Taken(taken) = &outcome.results else { panic!("{:?}", outcome.results) };
    let mut problems: Vec<String> = taken.problems.iter().map(ToString::to_string).collect();
    problems.sort();
    insta::assert_snapshot!(problems.join("\n"), @r"
    results/bad%FF.json: its name is no plain text, taken under this one
    results/link.json: a symbolic link, not taken
    results/loop: a symbolic link, not taken
    results/pipe: a pipe, not taken
    ");
    assert!(hostile.result("good.pytorch.json").is_file() && hostile.result("bad%FF.json").is_file());
    assert!(!hostile.result("link.json").exists());

    let mut large = Case::new(&format!("{GOOD} head -c 300000 /dev/zero >out/results/large.json")).await;
    large.request.limits.results_bytes = 100_000;
    let outcome = large.outcome().await;
    assert_eq!(outcome.results, Results::TooLarge { cap_bytes: 100_000 });
    assert_eq!(outcome.failure(), Some(FailureKind::ResultsTooLarge));

    // A symbolic link in the folder's place leads nowhere else.
    let elsewhere = Case::new("mkdir -p out; ln -s /etc out/results").await.outcome().await;
    assert_eq!(files(&elsewhere), 0);

    let mut file = Case::new("mkdir -p out; echo '{}' >out/results.json").await;
    file.request.suite.results_dir = "out/results.json".into();
    file.outcome().await;
    assert!(file.result("results.json").is_file());
}

#[tokio::test]
async fn what_stands_before_the_suite_is_told_apart() {
    let mut missing = Case::new("true").await;
    missing.request.suite.command = "bash scripts/absent.sh --all".into();
    let outcome = missing.outcome().await;
    assert_eq!((outcome.end.clone(), outcome.failure()), (PassEnd::SuiteMissing, Some(FailureKind::SuiteMissing)));
    assert!(missing.log().contains("the suite's script scripts/absent.sh is not in /work"));

    let mut before = Case::new("cat made; true").await;
    before.request.suite.pre_commands = vec!["false; echo made >made".into(), "echo \"second\"; exit 3".into()];
    let outcome = before.outcome().await;
    assert_eq!(outcome.end, PassEnd::PrepareFailed { code: 3 });
    assert!(before.lines().contains(&"second".to_owned()));

    let mut built = Case::new("cat made").await;
    built.request.suite.pre_commands = vec!["echo built here >made".into()];
    assert_eq!(built.outcome().await.end, PassEnd::SuiteEnded { code: 0 });
    assert!(built.lines().contains(&"built here".to_owned()));

    // A suite's own exit code is never taken for ours.
    assert_eq!(Case::new("exit 66").await.outcome().await.end, PassEnd::SuiteEnded { code: 66 });
}

#[tokio::test]
async fn a_container_that_cannot_start_is_removed() {
    let mut case = Case::new("true").await;
    let nodes = vec!["/dev/benchd-has-no-such-device".to_owned()];
    case.request.devices = DeviceAccess::Rocm { nodes, groups: Vec::new(), visible: Vec::new() };
    let error = case.run().await.unwrap_err();
    assert!(matches!(error, PassError::Start { .. }), "{error:?}");
    assert_eq!(error.failure_kind(), Some(FailureKind::StartFailed));
}

#[tokio::test]
async fn a_network_that_lets_something_out_is_not_used_for_a_forks_code() {
    let mut case = Case::new("true").await;
    let name = case.request.id.container_name();
    case.request.profile = Profile::Untrusted { network: name.clone() };
    for (internal, fault) in
        [(false, "is not internal"), (true, "lacks the option com.docker.network.bridge.inhibit_ipv4=true")]
    {
        let open = bollard::models::NetworkCreateRequest {
            name: name.clone(),
            internal: Some(internal),
            ..Default::default()
        };
        case.engine.docker().create_network(open).await.unwrap();
        let error = case.run().await.unwrap_err();
        case.engine.docker().remove_network(&name).await.unwrap();
        assert!(error.to_string().contains(&format!("{name} exists and {fault}: remove it")), "{error}");
    }
}

/// A small file system, mounted for the time of a test.
pub struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Mounts it.
    pub fn mount(path: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let options = ["-t", "tmpfs", "-o", &format!("size={size}"), "none"];
        assert!(std::process::Command::new("mount").args(options).arg(&path).status().unwrap().success());
        Self(path)
    }
}

impl SmallDisk {
    /// Mounts it again, `ro` or `rw`.
    pub fn remount(&self, how: &str) {
        let options = ["-o", &format!("remount,{how}")];
        assert!(std::process::Command::new("mount").args(options).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever of a test that failed still has files open there.
        let how = if std::thread::panicking() { &["--lazy"][..] } else { &[] };
        let unmounted = std::process::Command::new("umount").args(how).arg(&self.0).status().unwrap();
        assert!(unmounted.success() || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_full_disk_is_named_whoever_fills_it() {
    let fills = ["mkdir -p out/results; head -c 3000000 /dev/zero >out/results/large", "seq 300000"];
    for script in fills {
        let case = Case::new(script).await;
        let _disk = SmallDisk::mount(case.request.artifacts.clone(), "1m");
        let error = case.run().await.unwrap_err();
        assert_eq!(error.failure_kind(), Some(FailureKind::DiskFull), "{error}");
        assert!(error.to_string().starts_with("failed to write "), "{error}");
    }
}

#[tokio::test]
async fn a_container_is_told_its_own_gpus() {
    let mut case = Case::new("echo \"sees $NVIDIA_VISIBLE_DEVICES $NVIDIA_DRIVER_CAPABILITIES\"").await;
    case.request.devices = DeviceAccess::Cuda { ids: vec!["1".into(), "3".into()], capabilities: "all".into() };
    match case.run().await {
        Ok(_) => assert!(case.lines().contains(&"sees 1,3 all".to_owned()), "{}", case.log()),
        // An engine that was started without the stand-in: the other half of the behaviour.
        Err(error) => assert!(error.to_string().contains("could not select device driver"), "{error}"),
    }
}

#[tokio::test]
async fn cancelling_stops_and_removes() {
    let case = Case::new("echo ready; sleep 1000").await;
    let cancel = async {
        while !case.saw("ready") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        case.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(case.outcome(), cancel);
    assert_eq!(outcome.end, PassEnd::Cancelled);
    assert_eq!(outcome.conclude(0, 1), Conclusion::Cancelled);

    let before = Case::new("true").await;
    before.cancel.cancel();
    assert!(matches!(before.run().await, Ok(_) | Err(PassError::Cancelled)));
}

#[tokio::test]
async fn a_forks_code_is_kept_apart_and_the_suite_still_passes() {
    let script = r#"
        grep -E '^(Cap(Eff|Prm|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\t' | tr '\n' ' '; echo
        env | sort
        echo "address $(hostname -I | awk '{print $1}')"
        address=$(hostname -I | awk '{print $1}')
        for host in "${address%.*}.1" 172.17.0.1 $(ip route | awk '/default/ {print $3}'); do
            echo hello | timeout 2 nc $host PORT >/dev/null 2>&1 && echo 'REACHED THE HOST'
            timeout 2 wget -q -O- http://$host:PORT/ >/dev/null 2>&1 && echo 'REACHED THE HOST'
        done
        timeout 3 wget -q -O- http://1.1.1.1/ && echo 'REACHED THE WORLD'
        timeout 5 nslookup example.org >/dev/null 2>&1 && echo 'RESOLVED A NAME'
        echo x >"$HF_HOME/written" && echo 'WROTE THE CACHE'
        cat "$HF_HOME/model"
        mkdir -p "$VLLM_CACHE_ROOT" && echo x >"$VLLM_CACHE_ROOT/compiled" && echo 'own cache'
        [[ $HF_TOKEN =~ ^hf_ ]] && echo 'token is valid'
        [ -t 1 ] || echo 'no terminal'
        # What vLLM's suite does as root: a server in the background, killed by another of its processes.
        (while :; do echo pong | nc -l -p 8000; done) >/dev/null 2>&1 &
        sleep 1; echo ping | timeout 2 nc 127.0.0.1 8000; kill -9 $!
        mount -t tmpfs none /mnt 2>/dev/null && echo 'MOUNTED'
        mkdir -p out/results; echo '[]' >out/results/a.pytorch.json
        echo to-stderr >&2
    "#;
    // A service of the host that listens on every address of it.
    let service = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let reached = async { service.accept().await.map(|(_, from)| from) };
    let mut case = Case::new(&script.replace("PORT", &port.to_string())).await;
    let cache = case.dir().join("hf");
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(cache.join("model"), "weights\n").unwrap();
    case.request.profile = Profile::Untrusted { network: "benchd-untrusted".into() };
    case.request.cache = ModelCache::Host { dir: cache.clone(), online: true };
    case.request.limits.pids = Some(200);
    case.request.limits.memory_bytes = Some(256 << 20);
    case.request.limits.disk_bytes = Some(100 << 20);
    case.request.secrets.others = vec![SecretString::from("registry-password")];
    let outcome = tokio::select! {
        outcome = case.outcome() => outcome,
        from = reached => panic!("{from:?} reached the host"),
    };
    assert_eq!((outcome.end.clone(), files(&outcome)), (PassEnd::SuiteEnded { code: 0 }, 1));
    let log = case.log();
    for wanted in ["weights", "own cache", "token is valid", "no terminal", "to-stderr", "NoNewPrivs:1", "Seccomp:2"] {
        assert!(log.contains(wanted), "{wanted:?} is not in the log");
    }
    for capabilities in ["CapEff:0000000000000000", "CapPrm:0000000000000000", "CapBnd:0000000000000000"] {
        assert!(log.contains(capabilities), "{capabilities:?} is not in the log");
    }
    for forbidden in ["REACHED", "RESOLVED", "WROTE", "MOUNTED", "registry-password"] {
        assert!(!log.contains(forbidden), "{forbidden:?} is in the log");
    }
    assert!(!cache.join("written").exists());
    let address = case.lines().into_iter().find_map(|line| line.strip_prefix("address ").map(str::to_owned)).unwrap();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address:?}");
}

#[tokio::test]
async fn a_forks_code_that_fills_the_disk_is_stopped() {
    let mut case = Case::new("head -c 50000000 /dev/zero >/tmp/fill; echo filled; sleep 1000").await;
    case.request.profile = Profile::Untrusted { network: "benchd-untrusted".into() };
    case.request.limits.disk_bytes = Some(20 << 20);
    let outcome = case.outcome().await;
    assert_eq!((outcome.end.clone(), outcome.failure()), (PassEnd::DiskLimit, Some(FailureKind::DiskLimit)));
}

#[tokio::test]
async fn an_image_that_was_removed_meanwhile_is_pulled_again_by_the_next_attempt() {
    let mut case = Case::new("true").await;
    case.request.image = format!("benchd-test/absent@sha256:{}", "0".repeat(64));
    let error = case.run().await.unwrap_err();
    assert!(matches!(error, PassError::ImageRemoved { .. }), "{error:?}");
    // Infrastructure: the queue tries again, and every attempt makes sure of its image.
    let kind = error.failure_kind().unwrap();
    assert_eq!((kind, error.fault()), (FailureKind::PullFailed, Fault::Transient));
    assert!(kind.is_infrastructure());
}
