//! Passes while benchd or the engine dies: nothing of the log or the results is lost, nothing is read twice.

use std::time::Duration;

use benchd::clock::Clock;
use benchd::executor::container::HfToken;
use benchd::executor::outcome::NoCompletion;
use benchd::executor::{PassEnd, PassNotice, PassOutcome, life, run_pass};
use secrecy::SecretString;

use super::SecondEngine;
use super::pass_case::{Case, files};

/// Prints numbered lines for `seconds`, then leaves results.
fn counting(lines: u32) -> String {
    format!(
        "for i in $(seq {lines}); do echo \"line $i\"; sleep 0.05; done; mkdir -p out/results; \
         echo '[]' >out/results/a.pytorch.json; head -c 3000000 /dev/urandom >out/results/big.json; exit 5"
    )
}

fn assert_whole(case: &Case, lines: u32) {
    let got: Vec<String> = case.lines().into_iter().filter(|line| line.starts_with("line ")).collect();
    let wanted: Vec<String> = (1..=lines).map(|i| format!("line {i}")).collect();
    assert_eq!(got, wanted);
}

/// A pass runs in a task of its own.
fn assert_send(_: &impl Send) {}

/// Runs the pass until `text` was printed, then drops it as if benchd had died.
async fn abandon_after(case: &Case, text: &str) {
    let (clock, events) = (Clock::system(), |event: benchd::executor::PassEvent<'_>| case.note(&event));
    let seen = async {
        while !case.saw(text) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let pass = Box::pin(run_pass(&case.engine, &clock, &case.request, &events, &case.cancel));
    assert_send(&pass);
    tokio::select! {
        ended = pass => panic!("{ended:?}"),
        () = seen => {}
    }
}

#[tokio::test]
async fn a_restarted_benchd_adopts_a_running_container() {
    let case = Case::new(&counting(60)).await;
    abandon_after(&case, "line 10").await;
    let outcome = case.outcome().await;
    assert!(case.saw("Adopted"));
    assert_eq!((outcome.end.clone(), files(&outcome)), (PassEnd::SuiteEnded { code: 5 }, 2));
    assert_whole(&case, 60);
}

#[tokio::test]
async fn a_restarted_benchd_collects_a_container_that_ended_meanwhile() {
    let case = Case::new(&counting(20)).await;
    abandon_after(&case, "line 5").await;
    let container = life::find(&case.engine, case.request.id, Duration::from_secs(5)).await.unwrap().unwrap();
    while container.look(false).await.unwrap().phase != life::Phase::Ended {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let outcome = case.outcome().await;
    assert_eq!((outcome.exit_code, files(&outcome)), (Some(5), 2));
    assert_whole(&case, 20);
}

#[tokio::test]
async fn what_nobody_adopts_is_removed() {
    let (mine, other) = (Case::new("echo up; sleep 1000").await, Case::new("echo up; sleep 1000").await);
    abandon_after(&mine, "up").await;
    abandon_after(&other, "up").await;
    let removed = life::remove_leftovers(&mine.engine, |pass| *pass != mine.request.id).await.unwrap();
    assert_eq!(removed, [mine.request.id]);
    other.cancel.cancel();
    assert_eq!(other.outcome().await.end, PassEnd::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_is_killed_while_the_log_is_followed_and_the_results_are_had() {
    let second = SecondEngine::new("pass-kill");
    let case = Case::on(second.start().await, &counting(300)).await;
    let kills = async {
        for text in ["line 20", "line 60"] {
            while !case.saw(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            second.kill();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            second.start().await;
        }
    };
    let (outcome, ()) = tokio::join!(case.outcome(), kills);
    assert_eq!((outcome.end.clone(), files(&outcome)), (PassEnd::SuiteEnded { code: 5 }, 2));
    assert_whole(&case, 300);
    assert!(case.saw("EngineAway") && case.saw("EngineBack"));
    assert!(was_away(&outcome), "{:?}", outcome.notices);
}

fn was_away(outcome: &PassOutcome) -> bool {
    outcome.notices.iter().any(|notice| matches!(notice, PassNotice::EngineAway { .. }))
}

/// Waits `seconds`, prints 200 numbered lines, leaves results and does `end`.
fn ends_after(seconds: u32, end: &str) -> String {
    format!(
        "echo up; echo 'token hf_verysecrettoken'; sleep {seconds}; echo 'Running test case latency_a'; \
         for i in $(seq 200); do echo \"line $i\"; done; mkdir -p out/results; \
         echo '[]' >out/results/a.pytorch.json; {end}"
    )
}

/// The main process of the pass's container, as the host numbers it.
async fn main_process(case: &Case) -> std::path::PathBuf {
    let container = life::find(&case.engine, case.request.id, Duration::from_secs(5)).await.unwrap().unwrap();
    let found = case.engine.docker().inspect_container(container.id(), None).await.unwrap();
    let pid = found.state.unwrap().pid.unwrap();
    assert!(pid > 0, "it does not run");
    std::path::Path::new("/proc").join(pid.to_string())
}

async fn until_gone(process: &std::path::Path) {
    while process.exists() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_printed_and_ends_while_the_engine_is_away_is_had() {
    let second = SecondEngine::new("pass-away");
    let mut case = Case::on(second.start().await, &ends_after(3, "exit 5")).await;
    case.request.expected_points = vec!["latency_a".into()];
    let token = SecretString::from("hf_verysecrettoken");
    case.request.secrets.hf_token = Some(HfToken::new(&token).unwrap());
    let meanwhile = async {
        while !case.saw("token") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let process = main_process(&case).await;
        second.kill();
        until_gone(&process).await;
        second.start().await;
    };
    let (outcome, ()) = tokio::join!(case.outcome(), meanwhile);
    assert_eq!((outcome.end.clone(), files(&outcome)), (PassEnd::SuiteEnded { code: 5 }, 1));
    assert_whole(&case, 200);
    assert!(was_away(&outcome), "{:?}", outcome.notices);
    assert!(outcome.notices.contains(&PassNotice::LogCompleted { lines: 201 }), "{:?}", outcome.notices);
    assert_eq!(outcome.points.points, ["latency_a"]);
    assert!(case.saw("line 200") && case.saw("Point { name: \"latency_a\", number: 1 }"));
    assert!(case.lines().contains(&"token ***".to_owned()) && !case.log().contains("hf_very"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn benchd_and_the_engine_are_killed_and_the_log_and_the_exit_code_are_had() {
    let second = SecondEngine::new("pass-both");
    let case = Case::on(second.start().await, &ends_after(3, "exit 6")).await;
    abandon_after(&case, "token").await;
    let process = main_process(&case).await;
    second.kill();
    until_gone(&process).await;
    second.start().await;
    let outcome = case.outcome().await;
    assert!(case.saw("Adopted"));
    assert_eq!((outcome.exit_code, files(&outcome)), (Some(6), 1));
    assert_whole(&case, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suite_that_prints_more_than_the_pipes_hold_waits_for_the_engine_and_loses_nothing() {
    let second = SecondEngine::new("pass-full");
    let script = "echo up; sleep 2; for i in $(seq 60000); do echo \"line $i\"; done; exit 4";
    let case = Case::on(second.start().await, script).await;
    let meanwhile = async {
        while !case.saw("up") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let process = main_process(&case).await;
        second.kill();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(process.exists(), "it did not wait");
        second.start().await;
    };
    let (outcome, ()) = tokio::join!(case.outcome(), meanwhile);
    assert_eq!(outcome.end, PassEnd::SuiteEnded { code: 4 });
    assert_whole(&case, 60_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_recognised_although_the_engine_forgot_it() {
    let second = SecondEngine::new("pass-memory");
    let engine = second.start().await;
    let mut child = Case::on(engine.clone(), &ends_after(3, "tail /dev/zero; exit 0")).await;
    let main = Case::on(engine, "echo token; sleep 1000").await;
    child.request.limits.memory_bytes = Some(48 << 20);
    let meanwhile = async {
        while !child.saw("token") || !main.saw("token") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let processes = (main_process(&child).await, main_process(&main).await);
        second.kill();
        // From outside, as the kernel does it.
        let pid = processes.1.file_name().unwrap().to_owned();
        assert!(std::process::Command::new("kill").arg("-9").arg(pid).status().unwrap().success());
        until_gone(&processes.0).await;
        until_gone(&processes.1).await;
        second.start().await;
    };
    let (of_child, of_main, ()) = tokio::join!(child.outcome(), main.outcome(), meanwhile);
    assert_eq!((of_child.end.clone(), of_child.out_of_memory), (PassEnd::OutOfMemory, true));
    assert_whole(&child, 200);
    assert_eq!((of_main.end.clone(), of_main.out_of_memory), (PassEnd::SuiteEnded { code: 137 }, false));
    assert!(of_main.notices.contains(&PassNotice::MemoryUnknown), "{:?}", of_main.notices);
}

#[tokio::test]
async fn a_copy_of_the_output_that_somebody_changed_is_not_taken_for_the_log() {
    for (change, why) in [
        ("rm /benchd/console", NoCompletion::NoCopy),
        ("rm /benchd/console; ln -s /etc/passwd /benchd/console", NoCompletion::NoCopy),
        ("seq 100 >/benchd/console", NoCompletion::Unlike),
        ("head -c 3000000 /dev/zero >/benchd/console", NoCompletion::TooLong),
    ] {
        let script = format!("echo up; sleep 1; for i in $(seq 20); do echo \"line $i\"; done; {change}; exit 5");
        let mut case = Case::new(&script).await;
        case.request.limits.log_bytes = 1 << 20;
        abandon_after(&case, "up").await;
        let outcome = case.outcome().await;
        assert_eq!(outcome.exit_code, Some(5));
        assert_whole(&case, 20);
        assert_eq!(outcome.notices, [PassNotice::LogMayLack { why }], "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_is_killed_while_the_results_are_taken() {
    let second = SecondEngine::new("pass-copy");
    let script = "mkdir -p out/results; head -c 300000000 /dev/zero >out/results/large; echo x >out/results/small";
    let case = Case::on(second.start().await, script).await;
    let partial = case.request.artifacts.join("results.partial/large");
    let kill = async {
        while !partial.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.kill();
        assert!(!case.result("large").exists(), "the copy was over before the engine was killed");
        second.start().await;
    };
    let (outcome, ()) = tokio::join!(case.outcome(), kill);
    assert_eq!(files(&outcome), 2);
    assert_eq!(std::fs::metadata(case.result("large")).unwrap().len(), 300_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_somebody_removes_is_told() {
    let case = Case::new("echo running; sleep 600").await;
    let remove = async {
        while !case.saw("running") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        life::find(&case.engine, case.request.id, Duration::from_secs(5)).await.unwrap().unwrap().remove().await
    };
    let (ended, removed) = tokio::join!(case.run(), remove);
    removed.unwrap();
    let error = ended.unwrap_err();
    assert!(error.to_string().ends_with("is gone: somebody removed it"), "{error}");
    // Tried again: nothing is known against the commit.
    assert!(error.failure_kind().unwrap().is_infrastructure());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gpu_hook_that_fails_leaves_nothing() {
    // Unix sockets need short paths.
    let state = tempfile::Builder::new().prefix("bt").tempdir_in("/tmp").unwrap();
    let second = SecondEngine::apart("pass-hook", state.path());
    let mut case = Case::on(second.start().await, "true").await;
    std::fs::write(state.path().join("hook-fails"), "").unwrap();
    let ids = vec!["0".to_owned()];
    case.request.devices = benchd::executor::container::DeviceAccess::Cuda { ids, capabilities: "all".into() };
    let error = case.run().await.unwrap_err();
    assert!(error.to_string().starts_with("failed to start the container: "), "{error}");
}
