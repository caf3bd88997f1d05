//! The payloads against recorded ones: what a receiver reads has the same place and the same type.

use std::io::Write;
use std::path::{Path, PathBuf};

use github_standin::{CommitSpec, PullSpec, StandIn};
use serde_json::Value;

/// What is read of each event, as JSON pointers.
const READ: [(&str, &[&str]); 6] = [
    (
        "pull_request",
        &[
            "/action",
            "/number",
            "/pull_request/id",
            "/pull_request/number",
            "/pull_request/state",
            "/pull_request/draft",
            "/pull_request/labels",
            "/pull_request/head/sha",
            "/pull_request/head/ref",
            "/pull_request/head/repo/id",
            "/pull_request/head/repo/full_name",
            "/pull_request/head/repo/fork",
            "/pull_request/base/ref",
            "/pull_request/base/sha",
            "/pull_request/base/repo/id",
            "/pull_request/merged",
            "/pull_request/merged_at",
            "/pull_request/merge_commit_sha",
            "/pull_request/user/login",
            "/pull_request/user/type",
            "/pull_request/updated_at",
            "/pull_request/title",
            "/repository/id",
            "/repository/full_name",
            "/repository/default_branch",
            "/sender/login",
            "/sender/id",
            "/sender/type",
            "/label/name",
            "/before",
            "/after",
        ],
    ),
    (
        "push",
        &[
            "/ref",
            "/before",
            "/after",
            "/created",
            "/deleted",
            "/forced",
            "/commits",
            "/head_commit/id",
            "/head_commit/timestamp",
            "/repository/id",
            "/repository/full_name",
            "/repository/default_branch",
            "/sender/login",
            "/pusher/name",
        ],
    ),
    (
        "issue_comment",
        &[
            "/action",
            "/issue/number",
            "/issue/state",
            "/issue/labels",
            "/issue/pull_request/url",
            "/comment/id",
            "/comment/body",
            "/comment/user/login",
            "/comment/user/id",
            "/comment/user/type",
            "/comment/created_at",
            "/comment/author_association",
            "/repository/id",
            "/repository/full_name",
            "/sender/login",
            "/sender/id",
            "/changes/body/from",
        ],
    ),
    (
        "check_run",
        &[
            "/action",
            "/check_run/id",
            "/check_run/name",
            "/check_run/head_sha",
            "/check_run/external_id",
            "/check_run/status",
            "/check_run/app/id",
            "/check_run/app/slug",
            "/check_run/pull_requests",
            "/repository/id",
            "/sender/login",
            "/installation/id",
        ],
    ),
    (
        "check_suite",
        &[
            "/action",
            "/check_suite/id",
            "/check_suite/head_sha",
            "/check_suite/head_branch",
            "/check_suite/app/id",
            "/check_suite/pull_requests",
            "/repository/id",
            "/sender/login",
        ],
    ),
    (
        "installation",
        &[
            "/action",
            "/installation/id",
            "/installation/app_id",
            "/installation/account/login",
            "/installation/permissions",
            "/installation/events",
            "/installation/repository_selection",
            "/sender/login",
        ],
    ),
];

fn recorded() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("BENCHD_SHARED_DIR").map(PathBuf::from);
    let folder = named.clone().unwrap_or_else(|| here.join("../../../../shared")).join("github/payloads");
    if folder.is_dir() {
        return Some(folder);
    }
    let absent = folder.display();
    assert!(named.is_none(), "$BENCHD_SHARED_DIR is set, and {absent} is no folder");
    // Past the test harness, which keeps what a passing test prints to itself.
    let _told = writeln!(std::io::stderr(), "RECORDED DATA ABSENT: {absent} is not there, its cases were NOT tested");
    None
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// One delivery of every kind, by `(event, action)`.
async fn made() -> Vec<(String, Option<String>, Value)> {
    let gh = StandIn::start();
    gh.install_app(4711, "benchd");
    let repo = gh.repository("o/r");
    repo.commit("main", CommitSpec::new("first"));
    repo.set_branch("work", "main");
    repo.commit("work", CommitSpec::new("work"));
    let pull = repo.open(PullSpec::new("work").labels(&["bug"]));
    pull.label("ready");
    pull.unlabel("ready");
    pull.push(CommitSpec::new("more"));
    pull.convert_to_draft();
    pull.ready_for_review();
    pull.close();
    pull.reopen();
    let comment = pull.comment("hello");
    pull.edit_comment(comment, "bye");
    pull.delete_comment(comment);
    let app = crate::app_clients(&gh, &gh.install_app(4711, "benchd")).1;
    let run = app.checks("o", "r").create_check_run("benchmarks", pull.head()).send().await.unwrap();
    let completed = octocrab::params::checks::CheckRunConclusion::Success;
    app.checks("o", "r").update_check_run(run.id).conclusion(completed).send().await.unwrap();
    repo.rerequest(run.id.0);
    repo.rerequest_all(&pull.head());
    pull.merge();
    gh.suspend_installation(true);
    gh.suspend_installation(false);
    gh.deliveries().into_iter().map(|d| (d.event, d.action, serde_json::from_str(&d.body).unwrap())).collect()
}

#[tokio::test]
async fn what_is_read_stands_where_github_puts_it() {
    let made = made().await;
    let Some(folder) = recorded() else { return };
    let index: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let (mut compared, mut files) = (0, 0);
    for (event, paths) in READ {
        for entry in index.iter().filter(|e| e["event"] == event) {
            let text = std::fs::read(folder.join(entry["file"].as_str().unwrap())).unwrap();
            let real: Value = serde_json::from_slice(&text).unwrap();
            let action = real.get("action").and_then(Value::as_str);
            let same: Vec<&Value> =
                made.iter().filter(|(e, a, _)| e == event && a.as_deref() == action).map(|(_, _, json)| json).collect();
            files += usize::from(!same.is_empty());
            for path in paths {
                let Some(real) = real.pointer(path).filter(|v| !v.is_null()) else { continue };
                for ours in &same {
                    let ours = ours.pointer(path).unwrap_or_else(|| panic!("{event}.{action:?}: no {path}"));
                    assert!(ours.is_null() || kind(ours) == kind(real), "{event}.{action:?}: {path} is {}", kind(ours));
                    compared += 1;
                }
            }
        }
    }
    assert!(files > 30 && compared > 500, "{files} files, {compared} fields");
}

/// The client's own models, which the recorded payloads were parsed with, take ours too.
#[tokio::test]
async fn the_clients_models_parse_every_payload() {
    use octocrab::models::webhook_events::{WebhookEvent, WebhookEventPayload};
    for (event, action, json) in made().await {
        let parsed = WebhookEvent::try_from_header_and_body(&event, json.to_string().as_bytes());
        let parsed = parsed.unwrap_or_else(|e| panic!("{event}.{action:?}: {e}"));
        assert!(!matches!(parsed.specific, WebhookEventPayload::Unknown(_)), "{event}");
    }
}
