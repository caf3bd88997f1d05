//! Passes while benchd or the engine dies: nothing of the log or the results is lost, nothing is read twice.

use std::time::Duration;

use benchd::clock::Clock;
use benchd::executor::{PassEnd, life, run_pass};

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
    let pass = run_pass(&case.engine, &clock, &case.request, &events, &case.cancel);
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
    // What a container prints while its engine is away is had, unless it also ends before the engine is back.
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
