//! The queue over the wire: places, machines, pauses, and what a person does to runs.

use benchd::http::api::queue::Runner;
use benchd::http::api::runs::Retry;
use benchd::model::RunPhase;
use benchd::queue::place::QueueView;
use benchd::store::RunRow;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ADMIN, Answer, Site, TRIGGER, against, output, token_file};

async fn pause(site: &Site, body: &str) -> Answer {
    let request = site.client.post(site.url("/api/v1/pauses")).bearer_auth(ADMIN);
    let request = request.header("content-type", "application/json").body(body.to_owned());
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_and_machines_are_told() {
    let (site, filled) = Site::filled().await;
    let held = site.claim().await;
    let view: QueueView = serde_json::from_value(site.json("/api/v1/queue").await).unwrap();
    assert_eq!(view, site.queue.view().await.unwrap());
    assert_eq!(view.jobs.len(), 2);
    assert!(view.jobs.iter().all(|place| place.run == filled.waiting));
    let runners: Vec<Runner> = serde_json::from_value(site.json("/api/v1/runners").await).unwrap();
    assert_eq!((runners.len(), runners[0].jobs.as_slice()), (1, [held.job.id].as_slice()));
    assert_eq!(runners[0].in_use, held.slot.devices);
    assert_eq!(runners[0].version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(runners[0].paused, None);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_paused_and_resumed() {
    let (site, _) = Site::filled().await;
    for status in [201, 200] {
        let answer = pause(&site, r#"{"what": "host", "why": "  a new driver "}"#).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let paused =
            json!({"what": "host:gpu-1", "by": "root", "why": "a new driver", "since": "2026-11-22T12:00:00Z"});
        assert_eq!(answer.json(), paused);
    }
    assert_eq!(site.json("/api/v1/pauses").await.as_array().unwrap().len(), 1);
    assert_eq!(site.json("/api/v1/queue").await["jobs"][0]["why"]["why"], "paused");
    let ready = site.get("/readyz").await;
    // As a person wants it: it must still be sent webhooks, and the request that resumes it.
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
    assert_eq!(ready.json()["reasons"][0]["part"], "paused");
    let status = output(against(&site, &["status"])).await;
    assert_eq!(status.status.code(), Some(0));
    let told = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        told.contains(": ready\n  paused: host:gpu-1 paused by root since 2026-11-22 12:00:00Z: a new driver"),
        "{told}"
    );
    for status in [204, 404] {
        let answer = site.ask(Method::DELETE, "/api/v1/pauses/host:gpu-1", Some(ADMIN)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    assert_eq!(site.get("/readyz").await.status, 200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_paused_is_refused() {
    let site = Site::open().await;
    let large = format!(r#"{{"what": "host", "why": "{}"}}"#, "x".repeat(1001));
    let cases = [
        (r#"{"what": "lunch"}"#, 422, "invalid", "`lunch` cannot be paused (`triggers`, `host:NAME`)"),
        (large.as_str(), 422, "invalid", "`why` has at most 1000 bytes"),
    ];
    for (body, status, kind, detail) in cases {
        let answer = pause(&site, body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        answer.assert_problem(kind, detail);
    }
    for (body, detail) in [
        ("{", "in the body: EOF while parsing an object at line 1 column 1"),
        (r#"{"what": 1}"#, "in the body: what: invalid type: integer `1`, expected a string at line 1 column 10"),
        (
            r#"{"what": "host", "whi": ""}"#,
            "in the body: whi: unknown field `whi`, expected `what` or `why` at line 1 column 22",
        ),
        ("{}", "in the body: missing field `what` at line 1 column 2"),
    ] {
        let answer = pause(&site, body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.assert_problem("malformed", detail);
    }
    let request = site.client.post(site.url("/api/v1/pauses")).bearer_auth(ADMIN).body("what=host");
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 415);
    answer.assert_problem("unsupported_media_type", "send `Content-Type: application/json`");
    let answer = pause(&site, &format!(r#"{{"what": "{}"}}"#, "x".repeat(70_000))).await;
    assert_eq!(answer.status, 413);
    answer.assert_problem("too_large", "a request's body may have at most 65536 bytes");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_jobs_are_retried_and_runs_repeated() {
    let (site, filled) = Site::filled().await;
    let retry = format!("/api/v1/runs/{}/retry", filled.bad);
    let answer = site.ask(Method::POST, &retry, Some(TRIGGER)).await;
    let retried: Retry = serde_json::from_value(answer.json()).unwrap();
    assert_eq!((retried.run, retried.jobs.len()), (filled.bad, 1));
    let again = site.ask(Method::POST, &retry, Some(TRIGGER)).await;
    assert_eq!(again.status, 409);
    let detail = "no job of run {} ended without results; measuring it once more is a rerun";
    again.assert_problem("conflict", &detail.replace("{}", &filled.bad.to_string()));
    let answer = site.ask(Method::POST, &format!("/api/v1/runs/{}/rerun", filled.good), Some(TRIGGER)).await;
    assert_eq!(answer.status, 202);
    let row: RunRow = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(answer.header("location"), format!("/api/v1/runs/{}", row.id));
    assert_eq!((row.state.phase(), site.get(answer.header("location")).await.status), (RunPhase::Queued, 200));
    // Once for each key.
    let keyed = async |run| {
        let request = site.client.post(site.url(&format!("/api/v1/runs/{run}/rerun"))).bearer_auth(TRIGGER);
        Answer::of(request.header("idempotency-key", "k1").send().await.unwrap()).await
    };
    let (first, second) = (keyed(filled.good).await, keyed(filled.good).await);
    assert_eq!((first.status, second.status), (202, 200), "{} {}", first.text, second.text);
    assert_eq!((first.json(), first.header("location")), (second.json(), second.header("location")));
    let run = &first.json()["id"];
    let detail = format!("the same `Idempotency-Key` came with another request, which started run {run}");
    keyed(filled.bad).await.assert_problem("conflict", &detail);
    let unknown = site.ask(Method::POST, "/api/v1/runs/1/rerun", Some(TRIGGER)).await;
    unknown.assert_problem("not_found", "there is no run 1");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_job_is_cancelled_and_the_others_go_on() {
    let (site, filled) = Site::filled().await;
    let waiting = format!("/api/v1/runs/{}", filled.waiting);
    let jobs = site.json(&waiting).await["jobs"].take();
    let job = jobs[0]["id"].as_u64().unwrap();
    let path = format!("/api/v1/jobs/{job}/cancel");
    assert_eq!(site.ask(Method::POST, &path, None).await.status, 401);
    for _ in ["once", "again"] {
        let answer = site.ask(Method::POST, &path, Some(TRIGGER)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!((&answer.json()["id"], &answer.json()["conclusion"]), (&job.into(), &"cancelled".into()));
    }
    let after = site.json(&waiting).await;
    assert_eq!((&after["state"], &after["jobs"][1]["state"]), (&"queued".into(), &"queued".into()));
    let ended = site.ask(Method::POST, &format!("/api/v1/jobs/{}/cancel", filled.good_job), Some(TRIGGER)).await;
    assert_eq!(ended.status, 409, "{}", ended.text);
    let unknown = site.ask(Method::POST, "/api/v1/jobs/1/cancel", Some(TRIGGER)).await;
    unknown.assert_problem("not_found", "there is no job 1");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_does_the_same() {
    let (site, filled) = Site::filled().await;
    let token = token_file(site.dir.path(), ADMIN);
    let (bad, good, good_job) = (filled.bad.to_string(), filled.good.to_string(), filled.good_job.to_string());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["retry", &bad], 0, "goes on: jobs"),
        (&["retry", &bad], 1, ""),
        (&["rerun", &good], 0, "measures 9816774803 once more"),
        (
            &["pause", "triggers", "--why", "holidays"],
            0,
            "triggers paused by root since 2026-11-22 12:00:00Z: holidays",
        ),
        (&["resume", "triggers"], 0, "triggers resumed"),
        (&["resume", "triggers", "--json"], 1, ""),
        (&["resume", "lunch"], 2, ""),
        (&["queue"], 0, "org/model-1"),
        (&["cancel", "--job", &good_job], 1, ""),
        (&["cancel"], 2, ""),
        (&["schedule"], 1, "nothing is scheduled"),
        (&["status"], 0, "ready"),
    ];
    for (args, code, words) in cases {
        let mut command = against(&site, args);
        command.arg("--token-file").arg(&token);
        let done = output(command).await;
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!(done.status.code(), Some(*code), "{args:?}: {out}{err}");
        assert!(out.contains(words), "{args:?}: {out}");
    }
    for args in [&["queue", "--json"][..], &["status", "--json"]] {
        let json: Value = serde_json::from_slice(&output(against(&site, args)).await.stdout).unwrap();
        assert!(json.is_object());
        let mut beside = crate::support::benchd();
        beside.args(args).arg("--state-dir").arg(site.dir.path());
        assert!(output(beside).await.status.success());
    }
    site.stop().await;
}
