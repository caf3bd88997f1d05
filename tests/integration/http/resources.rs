//! What the API tells of runs, jobs and artifacts.

use benchd::http::api::artifacts::Artifact;
use benchd::http::api::runs::ValueWithPrevious;
use benchd::model::{Conclusion, RunPhase};
use benchd::store::{JobDetail, RunDetail, RunRow, RunSummary};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Site, TRIGGER, against, output};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_comes_over_the_wire_as_it_is_in_the_store() {
    let (site, filled) = Site::filled().await;
    let detail: RunDetail = serde_json::from_value(site.json(&format!("/api/v1/runs/{}", filled.good)).await).unwrap();
    assert_eq!(detail, site.store.run_detail(filled.good).await.unwrap().unwrap());
    assert_eq!(detail.jobs[0].attempts[0].passes[0].points.len(), 1);
    let runs: Vec<RunSummary> = serde_json::from_value(site.json("/api/v1/runs").await).unwrap();
    assert_eq!(runs, site.store.list_runs(20, &Default::default()).await.unwrap());
    let job: JobDetail = serde_json::from_value(site.json(&format!("/api/v1/jobs/{}", filled.good_job)).await).unwrap();
    assert_eq!(job, detail.jobs[0]);
    let values: Vec<ValueWithPrevious> =
        serde_json::from_value(site.json(&format!("/api/v1/runs/{}/results", filled.good)).await).unwrap();
    assert_eq!(values.iter().map(|v| v.value.value).collect::<Vec<_>>(), [1.5]);
    let of_job = site.json(&format!("/api/v1/jobs/{}/results", filled.good_job)).await;
    assert_eq!(of_job[0]["metric"], "avg_latency");
    assert_eq!(site.json(&format!("/api/v1/runs/{}/results", filled.waiting)).await, Value::Array(vec![]));
    site.stop().await;
}

/// In numbers and in words, for a run and for each of its jobs; the end is told once something like it was measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_with_percent_and_the_usual_end() {
    let site = Site::open().await;
    let progress = async |path: String| site.json(&path).await["progress"].clone();
    let told = |ended: u32, expected: u32, percent: u32, ends_at: Option<DateTime<Utc>>| json!({"points_ended": ended, "points_expected": expected, "percent": percent, "ends_at": ends_at});
    let first = site.submit(1).await;
    let job = site.claim().await;
    site.begin(&job).await;
    assert_eq!(progress(format!("/api/v1/runs/{first}")).await, told(0, 4, 0, None));
    let _noted = site.queue.note_points(&job.claim, 2).await.unwrap();
    assert_eq!(progress(format!("/api/v1/runs/{first}")).await, told(1, 4, 25, None), "the second one runs");
    site.clock.advance(TimeDelta::minutes(10));
    site.end(&job, 1.5).await;
    site.finish(&job, Conclusion::Success).await;
    assert_eq!(progress(format!("/api/v1/runs/{first}")).await, told(4, 4, 100, None), "what was not run is behind it");

    let run = site.submit(2).await;
    let (job, claimed_at) = (site.claim().await, site.clock.now());
    assert_eq!(job.job.model, "org/model-0");
    site.begin(&job).await;
    let _noted = site.queue.note_points(&job.claim, 3).await.unwrap();
    site.clock.advance(TimeDelta::minutes(1));
    let ends_at = claimed_at + TimeDelta::minutes(10);
    let detail = site.json(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(detail["jobs"][0]["progress"], told(2, 4, 50, Some(ends_at)));
    assert_eq!(detail["jobs"][1]["progress"], told(0, 4, 0, None));
    assert_eq!(detail["progress"], told(2, 8, 25, None), "when a job ends that waits nobody knows");
    assert_eq!(progress(format!("/api/v1/jobs/{}", job.job.id)).await, told(2, 4, 50, Some(ends_at)));
    let in_words = "2 of 4 points (50 %), done about 2026-11-22 12:20 UTC";
    for (args, words) in
        [(&["show", &run.to_string()][..], "2 of 8 points (25 %)"), (&["queue"], in_words), (&["status"], in_words)]
    {
        let shown = output(against(&site, args)).await;
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(words), "{args:?}: {words} in\n{shown}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let site = Site::open().await;
    for _ in 0..7 {
        site.submit(1).await;
    }
    let all: Vec<u64> = ids(&site.json("/api/v1/runs").await);
    assert_eq!(all.len(), 7);
    let (mut seen, mut next) = (Vec::new(), Some("/api/v1/runs?limit=3&branch=main&state=queued".to_owned()));
    while let Some(path) = next {
        let answer = site.get(&path).await;
        seen.extend(ids(&answer.json()));
        let link = answer.header("link");
        next = link.strip_suffix(">; rel=\"next\"").map(|link| link.trim_start_matches('<').to_owned());
        // A new run does not shift the pages.
        site.submit(1).await;
    }
    assert_eq!(seen, all);
    assert_eq!(site.json("/api/v1/runs?branch=other").await, Value::Array(vec![]));
    assert_eq!(site.json("/api/v1/runs?repository=vllm-project/vllm&limit=200").await.as_array().unwrap().len(), 10);
    site.stop().await;
}

fn ids(runs: &Value) -> Vec<u64> {
    runs.as_array().unwrap().iter().map(|run| run["id"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_cancelled_once() {
    let (site, filled) = Site::filled().await;
    let path = format!("/api/v1/runs/{}/cancel", filled.waiting);
    for _ in 0..2 {
        let answer = site.ask(Method::POST, &path, Some(TRIGGER)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let row: RunRow = serde_json::from_value(answer.json()).unwrap();
        assert_eq!(row.state.phase(), RunPhase::Cancelled);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_are_listed_and_never_left() {
    let (site, filled) = Site::filled().await;
    let base = format!("/api/v1/jobs/{}/attempts/1/artifacts", filled.good_job);
    let files: Vec<Artifact> = serde_json::from_value(site.json(&base).await).unwrap();
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["1/console.log", "1/results/latency.json"], "a link is not listed");
    let answer = site.get(&format!("{base}/1/results/latency.json")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "[]"));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("content-disposition"), "attachment");
    for escape in [
        "1/results/link",
        "../../../../benchd.db",
        "..%2f..%2f..%2f..%2fbenchd.db",
        "%2e%2e/%2e%2e/benchd.db",
        "%2fetc%2fpasswd",
        "1/results",
        "1",
        "1/./../../1/console.log",
        "1/results/none.json",
        "1/%00",
    ] {
        // The client tidies paths: what must arrive as it stands is sent by hand.
        let answer = raw_get(&site, &format!("{base}/{escape}")).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{escape}: {answer}");
        assert!(!answer.contains("root:") && !answer.contains("SQLite"), "{escape}: {answer}");
    }
    let bad = site.json(&format!("/api/v1/runs/{}", filled.bad)).await["jobs"][0]["id"].clone();
    let answer = site.get(&format!("/api/v1/jobs/{bad}/attempts/1/artifacts")).await;
    assert_eq!(answer.status, 410, "{}", answer.text);
    site.stop().await;
}

async fn raw_get(site: &Site, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
