//! What can be written, by whom, and how it is refused: comments, reactions, labels, check runs, statuses.

use github_standin::{CommitSpec, Role};
use serde_json::json;

use crate::{app_clients, client, raw, read, small};

#[tokio::test]
async fn comments_are_created_found_edited_and_deleted() {
    let (gh, _, pull) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    for n in 0..65 {
        pull.comment(&format!("other {n}"));
    }
    let issues = http.issues("o", "r");
    let comment = issues.create_comment(1, "first").await.unwrap();
    assert_eq!(comment.user.login, "bench");
    let page = issues.list_comments(1).send().await.unwrap();
    assert_eq!(page.items.len(), 30);
    let all = http.all_pages(page).await.unwrap();
    assert_eq!(all.iter().position(|c| c.id == comment.id), Some(65), "it is on page 3");
    // The client edits by POST; PATCH is what is documented.
    issues.update_comment(comment.id, "second").await.unwrap();
    let route = format!("/repos/o/r/issues/comments/{}", comment.id);
    assert_eq!(raw(&http, "PATCH", &route, Some(json!({ "body": "third" })), &[]).await.0, 200);
    assert_eq!(issues.get_comment(comment.id).await.unwrap().body.as_deref(), Some("third"));
    issues.delete_comment(comment.id).await.unwrap();
    assert_eq!(raw(&http, "PATCH", &route, Some(json!({ "body": "x" })), &[]).await.0, 404);
    assert_eq!(pull.comments().len(), 65);
}

#[tokio::test]
async fn a_comment_may_have_65536_characters() {
    let (gh, _, pull) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let create = async |body: String| {
        raw(&http, "POST", "/repos/o/r/issues/1/comments", Some(json!({ "body": body })), &[]).await
    };
    assert_eq!(create("ä".repeat(65_536)).await.0, 201);
    let (status, body, _) = create("ä".repeat(65_537)).await;
    assert_eq!(status, 422);
    let error = &body["errors"][0];
    assert_eq!(
        (&error["resource"], &error["code"], &error["field"]),
        (&json!("IssueComment"), &json!("unprocessable"), &json!("data"))
    );
    assert_eq!(create(" ".to_owned()).await.0, 422);
    assert_eq!(pull.comments().len(), 1);
}

#[tokio::test]
async fn reactions_are_given_once() {
    let (gh, _, pull) = small().await;
    let id = pull.comment("/benchd run");
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let route = format!("/repos/o/r/issues/comments/{id}/reactions");
    let react = async |content: &str| raw(&http, "POST", &route, Some(json!({ "content": content })), &[]).await;
    let (status, reaction, _) = react("eyes").await;
    assert_eq!(status, 201);
    assert_eq!(react("eyes").await.0, 200);
    assert_eq!(react("nose").await.0, 422);
    assert_eq!(pull.comments()[0].reactions, ["eyes"]);
    assert_eq!(read(&http, &route).await.as_array().unwrap().len(), 1);
    assert_eq!(raw(&http, "DELETE", &format!("{route}/{}", reaction["id"]), None, &[]).await.0, 204);
    assert!(pull.comments()[0].reactions.is_empty());
}

#[tokio::test]
async fn permissions_fold_and_roles_do_not() {
    let (gh, repo, _) = small().await;
    for (login, role) in [("ann", Role::Triage), ("bob", Role::Maintain), ("eve", Role::Admin), ("sue", Role::Write)] {
        repo.permit(login, role);
    }
    gh.personal_token("stranger", &[]);
    let http = client(gh.url(), None);
    let ask = async |login: &str| {
        let seen = read(&http, &format!("/repos/o/r/collaborators/{login}/permission")).await;
        (seen["permission"].as_str().unwrap().to_owned(), seen["role_name"].as_str().unwrap().to_owned())
    };
    assert_eq!(ask("ann").await, ("read".into(), "triage".into()));
    assert_eq!(ask("Bob").await, ("write".into(), "maintain".into()));
    assert_eq!(ask("sue").await, ("write".into(), "write".into()));
    assert_eq!(ask("eve").await, ("admin".into(), "admin".into()));
    assert_eq!(ask("stranger").await, ("read".into(), "read".into()));
    assert_eq!(raw(&http, "GET", "/repos/o/r/collaborators/nobody/permission", None, &[]).await.0, 404);
}

#[tokio::test]
async fn labels_are_set_and_taken_off_by_who_may() {
    let (gh, repo, pull) = small().await;
    repo.permit("ann", Role::Triage);
    let ann = client(gh.url(), Some(&gh.personal_token("ann", &["public_repo"])));
    let labels = ann.issues("o", "r").add_labels(1, &["ready".to_owned(), "perf-benchmarks".to_owned()]).await.unwrap();
    assert_eq!(labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["ready", "perf-benchmarks"]);
    ann.issues("o", "r").remove_label(1, "ready").await.unwrap();
    assert_eq!(pull.labels(), ["perf-benchmarks"]);
    assert_eq!(raw(&ann, "DELETE", "/repos/o/r/issues/1/labels/ready", None, &[]).await.0, 404);
    let stranger = client(gh.url(), Some(&gh.personal_token("stranger", &["repo"])));
    assert_eq!(raw(&stranger, "POST", "/repos/o/r/issues/1/labels", Some(json!(["x"])), &[]).await.0, 403);
    let scopeless = client(gh.url(), Some(&gh.personal_token("ann", &[])));
    assert_eq!(raw(&scopeless, "POST", "/repos/o/r/issues/1/labels", Some(json!(["x"])), &[]).await.0, 404);
    let nobody = client(gh.url(), None);
    assert_eq!(raw(&nobody, "POST", "/repos/o/r/issues/1/labels", Some(json!(["x"])), &[]).await.0, 401);
}

#[tokio::test]
async fn check_runs_are_for_apps() {
    use octocrab::params::checks::{CheckRunConclusion, CheckRunStatus};
    let (gh, repo, pull) = small().await;
    let (_, http) = app_clients(&gh, &gh.install_app(4711, "benchd"));
    let checks = http.checks("o", "r");
    let run = checks.create_check_run("benchmarks", pull.head()).status(CheckRunStatus::Queued).send().await.unwrap();
    assert_eq!((run.conclusion.as_deref(), run.pull_requests.len()), (None, 1));
    checks.update_check_run(run.id).status(CheckRunStatus::InProgress).send().await.unwrap();
    assert_eq!(repo.check_runs(&pull.head())[0]["status"], "in_progress");
    checks.update_check_run(run.id).conclusion(CheckRunConclusion::Neutral).send().await.unwrap();
    let listed = checks.list_check_runs_for_git_ref(pull.head().into()).send().await.unwrap();
    assert_eq!((listed.total_count, listed.check_runs[0].conclusion.as_deref()), (1, Some("neutral")));
    // Refusals.
    let create = async |body| raw(&http, "POST", "/repos/o/r/check-runs", Some(body), &[]).await.0;
    let head = pull.head();
    assert_eq!(create(json!({ "name": "x", "head_sha": "0".repeat(40) })).await, 422);
    assert_eq!(create(json!({ "head_sha": head })).await, 422);
    assert_eq!(create(json!({ "name": "x", "head_sha": head, "status": "completed" })).await, 422);
    assert_eq!(create(json!({ "name": "x", "head_sha": head, "conclusion": "splendid" })).await, 422);
    let output =
        |n: usize| json!({ "name": "x", "head_sha": head, "output": { "title": "t", "summary": "s".repeat(n) } });
    assert_eq!(create(output(65_535)).await, 201);
    assert_eq!(create(output(65_536)).await, 422);
    repo.permit("bench", Role::Admin);
    let person = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let body = json!({ "name": "x", "head_sha": head });
    assert_eq!(raw(&person, "POST", "/repos/o/r/check-runs", Some(body.clone()), &[]).await.0, 403);
    gh.permit_app("checks", "read");
    assert_eq!(create(body).await, 403);
}

#[tokio::test]
async fn statuses_combine() {
    let (gh, repo, pull) = small().await;
    repo.permit("bench", Role::Write);
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo:status"])));
    let route = format!("/repos/o/r/statuses/{}", pull.head());
    let set = async |state: &str, context: &str| {
        raw(&http, "POST", &route, Some(json!({ "state": state, "context": context })), &[]).await.0
    };
    let combined = async || {
        http.repos("o", "r")
            .combined_status_for_ref(&octocrab::params::repos::Reference::Branch("work".to_owned()))
            .await
            .unwrap()
    };
    assert_eq!(read(&http, &format!("/repos/o/r/commits/{}/status", pull.head())).await["state"], "pending");
    assert_eq!(set("pending", "benchd").await, 201);
    assert_eq!(set("success", "benchd").await, 201);
    assert_eq!(combined().await.state, octocrab::models::StatusState::Success);
    assert_eq!(set("failure", "other").await, 201);
    let seen = combined().await;
    assert_eq!((seen.state, seen.total_count), (octocrab::models::StatusState::Failure, 2));
    assert_eq!(repo.statuses(&pull.head()).len(), 3);
    assert_eq!(set("splendid", "benchd").await, 422);
    let long = json!({ "state": "success", "description": "d".repeat(141) });
    assert_eq!(raw(&http, "POST", &route, Some(long), &[]).await.0, 422);
    let absent = format!("/repos/o/r/statuses/{}", "0".repeat(40));
    assert_eq!(raw(&http, "POST", &absent, Some(json!({ "state": "success" })), &[]).await.0, 422);
    let stranger = client(gh.url(), Some(&gh.personal_token("stranger", &["repo"])));
    assert_eq!(raw(&stranger, "POST", &route, Some(json!({ "state": "success" })), &[]).await.0, 403);
    repo.commit("work", CommitSpec::new("next"));
    assert!(repo.statuses(&pull.head()).is_empty(), "a new head has none");
}

#[tokio::test]
async fn one_knows_oneself() {
    let (gh, ..) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    assert_eq!(http.current().user().await.unwrap().login, "bench");
    let fine = client(gh.url(), Some(&gh.fine_grained_token("bench")));
    let (status, _, headers) = raw(&fine, "GET", "/user", None, &[]).await;
    assert_eq!((status, headers.get("x-oauth-scopes")), (200, None));
}
