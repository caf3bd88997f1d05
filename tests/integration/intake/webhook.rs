//! What is accepted: everything that GitHub signs, whatever shape it has, and each delivery once.

use benchd::config::Config;
use benchd::health::Part;
use benchd::store::{LookKind, RunFilter};
use chrono::TimeDelta;
use github_standin::{CommitSpec, DeliveryFault, PullSpec};
use serde_json::{Value, json};

use super::{Desk, NEW_SECRET, REPO, signature};
use crate::support::shared;

/// A label set on a pull request of the followed repository.
fn labelled(number: u64) -> Value {
    json!({"action": "labeled", "number": number, "label": {"name": "ready"}, "sender": {"login": "ann"},
           "repository": {"id": 1, "full_name": REPO}, "pull_request": {"number": number, "head": {"sha": "a".repeat(40)}}})
}

async fn marks(desk: &Desk) -> Vec<(LookKind, String)> {
    let looks = desk.context.store.waiting_looks(100).await.unwrap();
    looks.into_iter().map(|look| (look.kind, look.key)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_payload_is_accepted() {
    let Some(folder) = shared("github/payloads") else { return };
    let desk = Desk::new("").await;
    let index: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    assert!(index.len() > 50);
    let mut marked = 0;
    for entry in &index {
        let (file, event) = (entry["file"].as_str().unwrap(), entry["event"].as_str().unwrap());
        let mut payload: Value = serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap();
        let answer = desk.send(event, file, &payload).await;
        assert_eq!(answer.status, 200, "{file}: {}", answer.text);
        // The same about a repository that is followed.
        if payload["repository"].is_object() {
            payload["repository"] = json!({"id": 99, "full_name": "O/R"});
        }
        let answer = desk.send(event, &format!("followed {file}"), &payload).await;
        assert!([200, 202].contains(&answer.status), "{file}: {}", answer.text);
        marked += u32::from(answer.status == 202);
    }
    assert!(marked > 20, "{marked} of {} marked something", index.len());
    let metrics = desk.site.get("/metrics").await.text;
    assert!(metrics.contains(r#"benchd_deliveries_total{event="pull_request",outcome="marked"}"#), "{metrics}");
    assert!(metrics.contains(r#"benchd_deliveries_total{event="other",outcome="ignored"}"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_stored_before_the_answer_and_counts_once() {
    let desk = Desk::new("").await;
    let answer = desk.send("pull_request", "guid-1", &labelled(7)).await;
    assert_eq!((answer.status, answer.json()), (202, json!({"answer": "marked", "looks": ["pull 7"]})));
    assert_eq!(marks(&desk).await, [(LookKind::Pull, "7".to_owned())]);
    let stored = desk.context.store.deliveries_of_pull(&REPO.parse().unwrap(), 7).await.unwrap();
    assert_eq!((stored[0].facts.label.as_deref(), stored[0].sender.as_deref()), (Some("ready"), Some("ann")));
    let generation = |looks: Vec<benchd::store::Look>| looks[0].generation;
    let before = generation(desk.context.store.waiting_looks(9).await.unwrap());
    let answer = desk.send("pull_request", "guid-1", &labelled(7)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"answer": "known"})));
    assert_eq!(generation(desk.context.store.waiting_looks(9).await.unwrap()), before, "a known one marks nothing");
    assert_eq!(desk.gh.calls().count(), 0, "nobody outside is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_follows_from_is_ignored_and_says_so() {
    let desk = Desk::new("release: {tags: 'v*'}").await;
    let with = |changes: Value| {
        let mut payload = labelled(7);
        for (key, value) in changes.as_object().unwrap() {
            payload[key] = value.clone();
        }
        payload
    };
    let sha = "b".repeat(40);
    let zeros = "0".repeat(40);
    let comment = |body: &str| json!({"action": "created", "issue": {"number": 7, "pull_request": {}}, "comment": {"id": 5, "body": body}});
    let cases = [
        ("star", with(json!({})), "nothing follows from the event `star`"),
        (
            "pull_request",
            with(json!({"action": "danced"})),
            "pull_request.danced: the action changes nothing that is measured",
        ),
        (
            "pull_request",
            with(json!({"action": ["labeled"]})),
            "pull_request: the action changes nothing that is measured",
        ),
        (
            "pull_request",
            with(json!({"repository": {"id": 2, "full_name": "o/other"}})),
            "the repository o/other is not followed",
        ),
        ("pull_request", json!({}), "the repository (none) is not followed"),
        (
            "push",
            with(json!({"ref": "refs/heads/work", "after": sha})),
            "push.labeled: merges into the branch are not measured",
        ),
        (
            "push",
            with(json!({"ref": "refs/heads/main", "after": zeros, "deleted": true})),
            "push.labeled: what was deleted is not measured",
        ),
        (
            "push",
            with(json!({"ref": "refs/tags/nightly", "after": sha})),
            "push.labeled: the tag is no release (`triggers.release.tags`)",
        ),
        ("push", with(json!({"ref": "refs/notes/x", "after": sha})), "push.labeled: it is neither branch nor tag"),
        (
            "create",
            with(json!({"ref": "v1", "ref_type": "branch"})),
            "create.labeled: it is no tag of a release (`triggers.release.tags`)",
        ),
        ("issue_comment", with(comment("looks good, see /benchd")), "issue_comment.created: it is no command"),
        (
            "issue_comment",
            with(json!({"action": "created", "issue": {"number": 7}, "comment": {"id": 5, "body": "/benchd run"}})),
            "issue_comment.created: an issue is no pull request",
        ),
        (
            "check_run",
            with(json!({"action": "rerequested", "check_run": {"id": 5, "head_sha": sha, "app": {"id": 9}}})),
            "check_run.rerequested: it is of another App",
        ),
    ];
    for (number, (event, payload, why)) in cases.iter().enumerate() {
        let answer = desk.send(event, &format!("guid-{number}"), payload).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"answer": "ignored", "why": why})), "{event}");
    }
    assert_eq!(marks(&desk).await, []);
    let answer = desk.send("ping", "p", &json!({"zen": "Keep it logically awesome."})).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"answer": "pong"})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_rerequested_checks_are_looked_at_once_by_their_ids() {
    let desk = Desk::app().await;
    let about = |more: Value| {
        let mut payload = json!({"repository": {"id": 1, "full_name": REPO}, "sender": {"login": "ann"}});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        payload
    };
    let issue = json!({"number": 7, "pull_request": {}});
    let command =
        about(json!({"action": "created", "issue": issue, "comment": {"id": 5, "body": "Hi\r\n  /Benchd run"}}));
    assert_eq!(desk.send("issue_comment", "1", &command).await.json()["looks"], json!(["comment 5"]));
    let ours = about(json!({"action": "created", "issue": issue, "comment":
        {"id": 6, "body": "/benchd run", "performed_via_github_app": {"id": 4711}}}));
    assert_eq!(
        desk.send("issue_comment", "2", &ours).await.json()["why"],
        "issue_comment.created: it is our own comment"
    );
    let check =
        json!({"id": 8, "head_sha": "c".repeat(40), "name": "benchd", "external_id": "run-1", "app": {"id": 4711}});
    let again = about(json!({"action": "rerequested", "check_run": check}));
    assert_eq!(desk.send("check_run", "3", &again).await.json()["looks"], json!(["check_run 8"]));
    let all = about(json!({"action": "rerequested", "check_suite": check}));
    assert_eq!(desk.send("check_suite", "4", &all).await.json()["looks"], json!(["check_run suite/8"]));
    let looks = desk.context.store.waiting_looks(9).await.unwrap();
    let facts = looks.iter().find(|look| look.key == "8").unwrap().facts.clone();
    assert_eq!((&facts["sender"], &facts["external_id"]), (&json!("ann"), &json!("run-1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_repository_is_known_by_its_number_and_its_name_is_not_enough_for_another() {
    let desk = Desk::new("").await;
    desk.follow().await;
    desk.repo.rename("o/renamed");
    let id = desk.repo.id();
    let mut payload = labelled(7);
    payload["repository"] = json!({"id": id, "full_name": "o/renamed"});
    assert_eq!(desk.send("pull_request", "1", &payload).await.status, 202);
    // Somebody else takes the old name.
    payload["repository"] = json!({"id": id + 1, "full_name": REPO});
    let answer = desk.send("pull_request", "2", &payload).await;
    assert_eq!(answer.json()["why"], "the repository o/r is not followed");
    assert_eq!(desk.reconcile().await, [""; 0], "its rows are found through redirects");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_survives_whatever_happens_after_the_answer() {
    let desk = Desk::new("pull_request: {quiet_for: 0s}").await;
    desk.follow().await;
    desk.hooked();
    desk.repo.commit("work", CommitSpec::new("faster"));
    let pull = desk.repo.open(PullSpec::new("work"));
    pull.label("perf-benchmarks");
    pull.label("ready");
    desk.gh.settled().await;
    // The process is gone at once: only what is on disk is left.
    let Desk { gh, repo, site, clock, .. } = desk;
    let dir = site.stop().await;
    let desk = Desk::open(gh, repo, dir, clock).await;
    desk.take().await;
    assert_eq!(desk.measured().await.len(), 1);
    // Every delivery comes again, as redeliveries do.
    desk.hooked();
    for guid in desk.gh.deliveries().into_iter().filter(|d| d.hooked).map(|d| d.guid) {
        desk.gh.redeliver(&guid);
    }
    desk.hear().await;
    assert_eq!(desk.measured().await.len(), 1, "nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_failed_are_found_without_them() {
    let desk = Desk::new("pull_request: {quiet_for: 0s}").await;
    desk.follow().await;
    desk.hooked();
    for event in ["pull_request", "push", "create", "issue_comment"] {
        desk.gh.delivery_fault(event, None, DeliveryFault::Lost, 100);
    }
    desk.repo.commit("work", CommitSpec::new("faster"));
    let pull = desk.repo.open(PullSpec::new("work"));
    pull.label("perf-benchmarks");
    pull.label("ready");
    desk.pass(TimeDelta::minutes(5));
    assert_eq!(desk.reconcile().await, [format!("pull {}", pull.number())]);
    desk.take().await;
    assert_eq!(desk.measured().await.len(), 1);
    assert_eq!(desk.reconcile().await, [""; 0], "what is known is not looked at again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_secret_signs_while_one_is_replaced() {
    let desk = Desk::new("").await;
    let body = labelled(7).to_string().into_bytes();
    let signed = signature(NEW_SECRET, &body);
    let headers = [("x-github-event", "pull_request"), ("x-github-delivery", "1"), ("x-hub-signature-256", &signed)];
    assert_eq!(desk.post(&headers, "application/json; charset=utf-8", body.clone()).await.status, 202);
    // The old one is gone from its file: without a restart it is not accepted any more.
    let file = desk.site.dir.path().join("old");
    std::fs::write(file, "another").unwrap();
    desk.pass(TimeDelta::seconds(11));
    let answer = desk.send("pull_request", "2", &labelled(7)).await;
    assert_eq!(answer.status, 401, "{}", answer.text);
    let runs = desk.context.store.list_runs(9, &RunFilter::default()).await.unwrap();
    assert!(runs.is_empty());
    assert!(Config::default().github.webhook_secret_files.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_installation_is_suspended_deliveries_wait() {
    let desk = Desk::app().await;
    desk.follow().await;
    desk.hooked();
    desk.repo.commit("work", CommitSpec::new("faster"));
    let pull = desk.repo.open(PullSpec::new("work").labels(&["perf-benchmarks"]));
    desk.gh.suspend_installation(true);
    pull.label("ready");
    desk.hear().await;
    assert_eq!(desk.runs().await, []);
    assert_eq!(desk.troubles(), [Part::Github]);
    desk.gh.suspend_installation(false);
    for _ in 0..8 {
        desk.hear().await;
    }
    assert_eq!(desk.measured().await.len(), 1);
    assert_eq!(desk.troubles(), []);
    assert_eq!(marks(&desk).await, []);
}
