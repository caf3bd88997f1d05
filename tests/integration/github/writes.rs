//! What the client writes, and what it says when it does not know whether it did.

use std::time::Duration;

use benchd::github::{
    CheckConclusion, CheckOutput, CheckRun, CheckState, GitHub, GitHubError, LONGEST_COMMENT, Status, StatusState,
};
use benchd::model::{CommitSha, Reaction};
use github_standin::{CommitSpec, Fault, PullRequest, PullSpec, Repository, StandIn};

use super::{repo, token_settings, with_app};

const COMMENTS: &str = "/repos/*/*/issues/*/comments";

pub fn check(sha: &CommitSha) -> CheckRun {
    CheckRun {
        name: "benchd".into(),
        sha: sha.clone(),
        external_id: "run-1".into(),
        details_url: Some("https://bench.example/runs/1".parse().unwrap()),
        started_at: None,
        state: CheckState::Queued,
        output: CheckOutput { title: "Queued".into(), summary: "waits".into(), text: None },
    }
}

fn with_pull(standin: &Repository) -> PullRequest {
    standin.commit("work", CommitSpec::new("work"));
    standin.open(PullSpec::new("work"))
}

#[tokio::test]
async fn a_comment_and_a_check_run_live_through_their_life() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, standin, client) = with_app(dir.path());
    let pull = with_pull(&standin);
    let written = client.create_comment(&repo(), pull.number(), "first").await.unwrap();
    assert_eq!((written.number, written.author.unwrap().login.as_str()), (Some(pull.number()), "benchd[bot]"));
    let edited = client.update_comment(&repo(), written.id, "second").await.unwrap().unwrap();
    assert_eq!(edited.body, "second");
    assert_eq!(client.comment(&repo(), written.id).await.unwrap().unwrap().body, "second");
    assert_eq!(client.react(&repo(), written.id, Reaction::Eyes).await.unwrap(), Some(()));
    assert_eq!(client.react(&repo(), written.id, Reaction::Eyes).await.unwrap(), Some(()));
    pull.delete_comment(written.id);
    assert_eq!(client.update_comment(&repo(), written.id, "third").await.unwrap(), None);
    assert_eq!(client.comment(&repo(), written.id).await.unwrap(), None);
    assert_eq!(client.react(&repo(), written.id, Reaction::Rocket).await.unwrap(), None);

    let sha: CommitSha = pull.head().parse().unwrap();
    let id = client.create_check_run(&repo(), &check(&sha)).await.unwrap();
    let state = CheckState::Completed(CheckConclusion::Neutral);
    assert_eq!(client.update_check_run(&repo(), id, &CheckRun { state, ..check(&sha) }).await.unwrap(), Some(()));
    assert_eq!(client.update_check_run(&repo(), id + 1000, &check(&sha)).await.unwrap(), None);
    let seen = client.check_runs(&repo(), &sha, "benchd").await.unwrap();
    assert_eq!((seen.len(), seen[0].id, seen[0].external_id.as_deref()), (1, id, Some("run-1")));
    assert_eq!((seen[0].status.as_str(), seen[0].conclusion.as_deref()), ("completed", Some("neutral")));
    assert_eq!(seen[0].app.as_ref().unwrap().id, 4711);
    assert_eq!(client.check_runs(&repo(), &sha, "another").await.unwrap(), []);
    gh.calls().writes().assert_serial();
}

#[tokio::test]
async fn a_token_sets_a_status_in_place_of_a_check_run() {
    let dir = tempfile::tempdir().unwrap();
    let gh = StandIn::start();
    let standin = gh.repository("o/r");
    standin.commit("main", CommitSpec::new("first"));
    let sha: CommitSha = standin.tip("main").parse().unwrap();
    standin.permit("bench", github_standin::Role::Write);
    let token = gh.personal_token("bench", &["repo"]);
    let client = GitHub::configured(&token_settings(&gh, dir.path(), &token)).unwrap();
    let status = Status {
        state: StatusState::Pending,
        context: "benchd".into(),
        description: "queued".into(),
        target_url: Some("https://bench.example/".parse().unwrap()),
    };
    client.set_status(&repo(), &sha, &status).await.unwrap();
    assert_eq!(standin.statuses(sha.as_str()).len(), 1);
    let refused = client.create_check_run(&repo(), &check(&sha)).await.unwrap_err();
    assert!(matches!(refused, GitHubError::Forbidden { .. }), "{refused}");
    let long = Status { description: "x".repeat(141), ..status };
    let refused = client.set_status(&repo(), &sha, &long).await.unwrap_err();
    assert!(refused.is_too_long(), "{refused}");
}

#[tokio::test]
async fn a_lost_answer_is_told_and_never_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, standin, client) = with_app(dir.path());
    let pull = with_pull(&standin);
    client.comments(&repo(), pull.number()).await.unwrap();
    let mut written = 0;
    for (fault, done) in [
        (Fault::LostAnswer, true),
        (Fault::Truncated, true),
        (Fault::StatusAfter(502), true),
        (Fault::Reset, false),
        (Fault::Status(503), false),
    ] {
        gh.forget_calls();
        gh.fault("POST", COMMENTS, fault.clone());
        let error = client.create_comment(&repo(), pull.number(), "hello").await.unwrap_err();
        assert!(matches!(&error, GitHubError::Unanswered { .. }) && error.is_transient(), "{fault:?}: {error}");
        assert_eq!(gh.calls().to("POST", COMMENTS).count(), 1, "{fault:?}");
        written += usize::from(done);
        // The truth is found by looking.
        let seen = client.comments(&repo(), pull.number()).await.unwrap();
        assert_eq!((seen.len(), pull.comments().len()), (written, written), "{fault:?}");
    }
    // Nobody listens: that nothing was done is certain.
    let nobody = GitHub::connect("http://127.0.0.1:1", None).unwrap();
    let error = nobody.create_comment(&repo(), 1, "x").await.unwrap_err();
    assert!(matches!(error, GitHubError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_is_too_long_is_told_by_github() {
    let dir = tempfile::tempdir().unwrap();
    let (_gh, standin, client) = with_app(dir.path());
    let pull = with_pull(&standin);
    client.create_comment(&repo(), pull.number(), &"x".repeat(LONGEST_COMMENT)).await.unwrap();
    let refused = client.create_comment(&repo(), pull.number(), &"x".repeat(LONGEST_COMMENT + 1)).await.unwrap_err();
    assert!(refused.is_too_long() && !refused.is_transient(), "{refused}");
    let sha: CommitSha = pull.head().parse().unwrap();
    let output = CheckOutput { summary: "x".repeat(65_536), ..check(&sha).output };
    let refused = client.create_check_run(&repo(), &CheckRun { output, ..check(&sha) }).await.unwrap_err();
    assert!(refused.is_too_long(), "{refused}");
}

#[tokio::test]
async fn writes_of_all_clones_are_serial_and_a_second_apart() {
    let dir = tempfile::tempdir().unwrap();
    let gh = StandIn::start();
    let standin = gh.repository("o/r");
    standin.commit("main", CommitSpec::new("first"));
    let pull = with_pull(&standin);
    let token = gh.personal_token("bench", &["repo"]);
    let mut config = token_settings(&gh, dir.path(), &token);
    config.write_interval = Duration::from_secs(1);
    let client = GitHub::configured(&config).unwrap();
    let writes = (0..3).map(|n| {
        let client = client.clone();
        async move { client.create_comment(&repo(), 1, &n.to_string()).await }
    });
    for written in futures_util::future::join_all(writes).await {
        written.unwrap();
    }
    assert_eq!(pull.comments().len(), 3);
    gh.calls().writes().assert_serial();
    gh.calls().writes().assert_spaced(chrono::TimeDelta::seconds(1));
}
