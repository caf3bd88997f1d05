//! Asking for a run over HTTP and by `benchd trigger`, with a GitHub on the wire.

use std::fs;
use std::sync::Arc;

use benchd::model::{Conclusion, FailureKind, JobPhase};
use benchd::queue::slots::Inventory;
use benchd::queue::{AttemptEnd, ClaimOffer, Outcome};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, READ, Site, TRIGGER, against, output, token_file};
use crate::support::history::sha;
use crate::triggers::Daemon;

/// A server whose repository has three commits, a fork's pull request 7 and the tag `v1`.
async fn site() -> (Site, Daemon) {
    let mut daemon = Daemon::new("").await;
    let tokens = daemon.world.dir.path().join("tokens");
    fs::write(&tokens, format!("reader read {READ}\nci trigger {TRIGGER}\n")).unwrap();
    let config = Arc::make_mut(&mut daemon.context.config);
    config.http.tokens_file = Some(tokens);
    config.http.requests_per_second = 10_000.try_into().unwrap();
    let site = Site::serving(tempfile::tempdir().unwrap(), daemon.context.clone()).await;
    (site, daemon)
}

async fn ask(site: &Site, key: Option<&str>, body: &Value) -> Answer {
    let request = site.client.post(site.url("/api/v1/runs")).bearer_auth(TRIGGER).json(body);
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_accepted_once_for_each_key() {
    let (site, _daemon) = site().await;
    let body = json!({"commit": sha(1)});
    let first = ask(&site, Some("k1"), &body).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let run = first.json()["run"].clone();
    assert_eq!(first.header("location"), format!("/api/v1/runs/{run}"));
    assert_eq!((&first.json()["answer"], &first.json()["sha"]), (&"accepted".into(), &sha(1).into()));
    let shown = site.json(first.header("location")).await;
    assert_eq!(shown["terms"]["asked_by"], "ci");
    // Ten at once with one key: one run.
    let asked = futures_util::future::join_all((0..10).map(|_| ask(&site, Some("k2"), &body))).await;
    let mut runs: Vec<_> = asked.iter().map(|answer| answer.json()["run"].as_u64().unwrap()).collect();
    runs.dedup();
    assert_eq!(runs.len(), 1);
    assert_eq!(asked.iter().filter(|answer| answer.status == 202).count(), 1);
    let again = ask(&site, Some("k1"), &body).await;
    assert_eq!((again.status, &again.json()), (200, &json!({"answer": "existing", "run": run})));
    let other = ask(&site, Some("k1"), &json!({"commit": sha(2)})).await;
    assert_eq!(other.status, 409);
    other.assert_problem("conflict", &format!("the key was used for another request, which started run {run}"));
    assert_eq!(site.json("/api/v1/runs").await.as_array().unwrap().len(), 2);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_a_problem_and_writes_nothing() {
    let (site, _daemon) = site().await;
    let one =
        "exactly one of `commit`, `branch`, `tag` and `pull_request` is needed (`branch` may stand beside `commit`)";
    let cases = [
        (json!({}), 422, "invalid", Some(one)),
        (json!({"tag": "v1", "pull_request": 7}), 422, "invalid", Some(one)),
        (json!({"commit": sha(1), "repeats": 0}), 422, "invalid", None),
        (json!({"commit": sha(100)}), 422, "invalid", None),
        (json!({"commit": sha(99)}), 404, "not_found", None),
        (json!({"tag": "v9"}), 404, "not_found", None),
        (json!({"repository": "other/one", "branch": "main"}), 404, "not_found", None),
        (json!({"commit": sha(1), "env": {"LD_PRELOAD": "x"}}), 403, "forbidden", None),
        (json!({"commit": "abc"}), 400, "malformed", None),
        (json!({"commmit": sha(1)}), 400, "malformed", None),
        (json!({"commit": sha(1), "models": ["x".repeat(70_000)]}), 413, "too_large", None),
    ];
    for (body, status, kind, detail) in cases {
        let answer = ask(&site, None, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        answer.assert_problem(kind, detail.unwrap_or(&told));
    }
    let answer = ask(&site, Some(&"k".repeat(256)), &json!({"commit": sha(1)})).await;
    answer.assert_problem("invalid", "`Idempotency-Key` must be 1 to 255 visible ASCII characters");
    assert_eq!(site.ask(Method::POST, "/api/v1/runs", Some(READ)).await.status, 403);
    assert_eq!(site.ask(Method::POST, "/api/v1/runs", None).await.status, 401);
    let planned = ask(&site, None, &json!({"commit": sha(1), "dry_run": true})).await;
    assert_eq!((planned.status, &planned.json()["answer"]), (200, &"planned".into()));
    assert_eq!(site.json("/api/v1/runs").await, json!([]));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_is_told() {
    let (site, _daemon) = site().await;
    let schedules = site.json("/api/v1/schedule?next=2").await;
    assert_eq!(schedules["schedules"][0]["branches"], json!(["main"]));
    assert_eq!(schedules["schedules"][0]["next"].as_array().unwrap().len(), 2);
    assert_eq!(schedules["latest"], json!([]));
    site.get("/api/v1/schedule?next=0").await.assert_problem("malformed", "in the query: `next` is 1 to 100");
    site.stop().await;
}

/// Ends every job of the queue so.
async fn end_all(site: &Site, daemon: &Daemon, conclusion: Conclusion) {
    let host = Inventory::whole(&daemon.context.target);
    let offer = ClaimOffer { by: "gpu-1".parse().unwrap(), host, busy: Vec::new(), run: None };
    while let Some(job) = {
        for job in site.store.unfinished_jobs().await.unwrap() {
            if job.state.phase() == JobPhase::WaitingForImage {
                let _queued_either_way = site.queue.image_found(job.id).await.unwrap();
            }
        }
        site.queue.claim(&offer).await.unwrap()
    } {
        let end = AttemptEnd { conclusion: conclusion.clone(), message: None, artifact_bytes: None };
        assert_eq!(site.queue.finish(&job.claim, &end).await.unwrap(), Outcome::Performed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_asks_and_waits() {
    let (site, daemon) = site().await;
    let token = token_file(site.dir.path(), TRIGGER);
    let command = |args: &[&str]| {
        let mut command = against(&site, args);
        command.arg("--token-file").arg(&token);
        command
    };
    let commit = sha(1);
    let dry = output(command(&["trigger", "--commit", &commit, "--dry-run"])).await;
    assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
    assert!(String::from_utf8_lossy(&dry.stdout).starts_with("would measure in 1 jobs:"));
    let none = output(command(&["trigger", "--tag", "v9"])).await;
    assert_eq!(none.status.code(), Some(2));
    let waiting = tokio::spawn(output(command(&["trigger", "--commit", &commit, "--wait"])));
    while site.store.unfinished_jobs().await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    end_all(&site, &daemon, Conclusion::Failure(FailureKind::SuiteExit { code: 2 })).await;
    let ended = waiting.await.unwrap();
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{out}");
    assert!(out.contains("failed: the suite failed with exit code 2"), "{out}");
    // Ctrl-C leaves the run going and says so.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(["trigger", "--commit", &commit, "--wait", "--token-file"])
        .arg(&token)
        .env("BENCHD_SERVER", site.url(""))
        .env("NO_PROXY", "*")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let (line, mut told) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        (line, told)
    })
    .await
    .unwrap();
    assert!(line.starts_with("run "), "{line}");
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let (code, rest) = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut told, &mut rest).unwrap();
        (child.wait().unwrap().code(), rest)
    })
    .await
    .unwrap();
    assert_eq!(code, Some(130));
    assert!(rest.contains("goes on: `benchd show"), "{rest}");
    assert_eq!(site.store.unfinished_jobs().await.unwrap().len(), 1);
    site.stop().await;
}
