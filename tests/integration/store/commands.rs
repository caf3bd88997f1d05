//! `benchd runs`, `show` and `repro` on a store with a good and a bad run.

use benchd::model::{Conclusion, FailureKind};
use benchd::queue::{Outcome, PassEnd};
use chrono::Duration;
use serde_json::Value;

use super::*;
use crate::support::benchd;

/// A good run, then one whose only job fails on a point.
async fn two_runs(dir: &Path) -> (RunId, RunId) {
    let bench = bench(dir).await;
    bench.whole_run(&plan("0000000000000000000000000000000000000abc", 1), 1.0).await;
    let good = bench.whole_run(&plan(SHA, 1), 1.1).await;
    let bad = bench.submit(&plan(SHA, 1)).await;
    let job = bench.claim().await;
    assert_eq!(bench.queue.begin_pass(&job.claim, &pass(1, SHA)).await.unwrap(), Outcome::Performed);
    bench.clock.advance(Duration::seconds(90));
    let points = vec![point(PointState::Failed, Some("left no valid record")), point(PointState::NotRun, None)];
    let end = PassEnd { exit_code: Some(2), points, measurements: vec![] };
    assert_eq!(bench.queue.end_pass(&job.claim, 1, &end).await.unwrap(), Outcome::Performed);
    let end = AttemptEnd {
        conclusion: Conclusion::Failure(FailureKind::SuiteExit { code: 2 }),
        message: Some("the suite ended with 2".into()),
        artifact_bytes: Some(5),
    };
    assert_eq!(bench.queue.finish(&job.claim, &end).await.unwrap(), Outcome::Performed);
    bench.store.close().await;
    (good, bad)
}

fn answer(dir: &Path, args: &[&str], code: i32) -> String {
    let assert = benchd().args(args).arg("--state-dir").arg(dir).env("COLUMNS", "200").assert().code(code);
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&answer(dir, args, 0)).unwrap()
}

#[tokio::test]
async fn runs_are_listed_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = two_runs(dir.path()).await;
    let list = json(dir.path(), &["runs", "--json"]);
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|run| run["id"].as_u64().unwrap()).collect();
    assert_eq!((ids.len(), &ids[..2]), (3, [bad.number(), good.number()].as_slice()));
    assert_eq!(list[0]["state"], "failed");
    assert_eq!((&list[0]["failure"], &list[0]["code"]), (&"suite_exit".into(), &2.into()));
    assert_eq!((&list[0]["jobs"], &list[0]["finished_jobs"]), (&1.into(), &1.into()));
    assert_eq!(json(dir.path(), &["runs", "--json", "--limit", "1"]).as_array().unwrap().len(), 1);
    assert_eq!(json(dir.path(), &["runs", "--json", "--before", &good.to_string()]).as_array().unwrap().len(), 1);
    assert_eq!(json(dir.path(), &["runs", "--json", "--state", "published"]).as_array().unwrap().len(), 2);
    assert_eq!(json(dir.path(), &["runs", "--json", "--repo", "other/repo"]), Value::Array(vec![]));
    let table = answer(dir.path(), &["runs"], 0);
    for word in ["vllm-project/vllm", "main", "9816774803", "manual", "failed: the suite failed with exit code 2"] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    assert!(!table.contains('\u{1b}'), "no colour where no terminal is");
}

#[tokio::test]
async fn a_run_is_shown_with_values_points_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = two_runs(dir.path()).await;
    let shown = answer(dir.path(), &["show", &good.to_string()], 0);
    for word in ["published", "avg_latency", "1.100", "+10.0% worse", "sha256:00ff", "console.log", "results"] {
        assert!(shown.contains(word), "{word} in\n{shown}");
    }
    let shown = answer(dir.path(), &["show", &bad.to_string()], 0);
    let words = ["not_run", "left no valid record", "the suite ended with 2", "Read the end of the log", "0/2"];
    for word in words {
        assert!(shown.contains(word), "{word} in\n{shown}");
    }
    let value = json(dir.path(), &["show", &good.to_string(), "--json"]);
    assert_eq!(value["jobs"][0]["conclusion"], "success");
    assert_eq!(value["jobs"][0]["attempts"][0]["passes"][0]["digest"], "sha256:00ff");
    assert_eq!(value["values"][0]["passes"], serde_json::json!([[1.1]]));
    assert_eq!(value["values"][0]["previous"]["value"], 1.0);
    let log = value["artifacts"][0]["log"].as_str().unwrap();
    assert!(
        log.starts_with(dir.path().join("artifacts").to_str().unwrap()) && log.ends_with("/1/1/console.log"),
        "{log}"
    );
    let values = answer(dir.path(), &["show", &good.to_string(), "--values"], 0);
    assert!(values.contains("raw values"), "{values}");
}

#[tokio::test]
async fn a_run_is_repeated_by_its_docker_command() {
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = two_runs(dir.path()).await;
    let script = answer(dir.path(), &["repro", &good.to_string()], 0);
    let commands: Vec<_> = script.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands, ["docker run -e HF_TOKEN 127.0.0.1:5055/repo@sha256:00ff"]);
    assert!(script.starts_with("# Secrets stand here by name only"), "{script}");
    assert_eq!(answer(dir.path(), &["repro", &good.to_string(), "--job", "1"], 1), "");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    answer(dir.path(), &["runs"], 3);
    two_runs(dir.path()).await;
    answer(dir.path(), &["show", "1"], 2);
    answer(dir.path(), &["show", "x"], 2);
}
