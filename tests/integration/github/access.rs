//! As whom the client asks: an App and its tokens, a token, and what happens when either is taken away.

use benchd::config::{GithubApp, GithubConfig};
use benchd::github::{AccountKind, Acting, GitHub, GitHubError};
use benchd::redact;
use chrono::TimeDelta;
use github_standin::{CommitSpec, Fault, StandIn};

use super::{app_settings, repo, settings, token_settings, with_app};

const TOKENS: &str = "/app/installations/*/access_tokens";

fn tokens_made(gh: &StandIn) -> usize {
    gh.calls().to("POST", TOKENS).count()
}

#[tokio::test]
async fn an_app_finds_its_installation_and_makes_one_token_for_many_questions() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, _, client) = with_app(dir.path());
    let written_otherwise = "O/R".parse().unwrap();
    let questions = (0..5).map(|_| client.commit(&written_otherwise, "main"));
    for answer in futures_util::future::join_all(questions).await {
        assert!(answer.unwrap().is_some());
    }
    assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    assert_eq!(tokens_made(&gh), 1, "{:?}", gh.calls().lines());
    let calls = gh.calls();
    let by_installation = calls.to("GET", "/repos/*/*/commits/*").filter(|call| call.by.starts_with("installation "));
    assert_eq!(by_installation.count(), 6);
    assert_eq!(client.acts_as(), Acting::App);
    let identity = client.identity().await.unwrap();
    assert_eq!((identity.login.as_str(), identity.kind), ("benchd[bot]", AccountKind::Bot));
    client.identity().await.unwrap();
    assert_eq!(gh.calls().to("GET", "/app").count(), 1, "it is asked for once");
    assert_eq!(client.installation(&repo()).await.unwrap().missing(), Vec::<String>::new());
    gh.permit_app("checks", "read");
    assert_eq!(client.installation(&repo()).await.unwrap().missing(), ["checks: write (check runs)"]);
}

#[tokio::test]
async fn a_token_that_ends_early_is_replaced_for_a_read_and_told_for_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, standin, client) = with_app(dir.path());
    standin.commit("work", CommitSpec::new("work"));
    let pull = standin.open(github_standin::PullSpec::new("work"));
    assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    gh.revoke_installation_tokens();
    assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    assert_eq!(tokens_made(&gh), 2);
    // By GitHub's clock an hour has passed.
    gh.advance(TimeDelta::hours(2));
    let refused = client.create_comment(&repo(), pull.number(), "x").await.unwrap_err();
    assert!(matches!(&refused, GitHubError::Unanswered { .. }), "{refused}");
    assert!(refused.is_transient() && pull.comments().is_empty());
    assert_eq!(gh.calls().writes().count(), 1, "a write is not repeated in here");
    client.create_comment(&repo(), pull.number(), "x").await.unwrap();
    assert_eq!((tokens_made(&gh), pull.comments().len()), (3, 1));
    // A new token that is refused too is no accident.
    gh.fault("GET", "/repos/*/*/commits/**", Fault::Unauthorised).forever();
    let refused = client.commit(&repo(), "main").await.unwrap_err();
    assert!(matches!(refused, GitHubError::Unauthorised { .. }), "{refused}");
    assert_eq!(tokens_made(&gh), 4, "one new token, no more");
}

#[tokio::test]
async fn what_keeps_an_app_out_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, _, client) = with_app(dir.path());
    assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    gh.suspend_installation(true);
    // With a token at hand, and where a new one is needed.
    for _ in 0..2 {
        let refused = client.commit(&repo(), "main").await.unwrap_err();
        assert!(matches!(&refused, GitHubError::Suspended { .. }), "{refused}");
        gh.revoke_installation_tokens();
    }
    gh.suspend_installation(false);
    assert!(client.commit(&repo(), "main").await.unwrap().is_some(), "it goes on by itself");
    let refused = client.commit(&"o/elsewhere".parse().unwrap(), "main").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the GitHub App is not installed on o/elsewhere: install it there, from the App's settings page"
    );
    gh.permit_app("checks", "none");
    let sha = client.commit(&repo(), "main").await.unwrap().unwrap().sha;
    let check = super::writes::check(&sha);
    let refused = client.create_check_run(&repo(), &check).await.unwrap_err();
    assert!(matches!(&refused, GitHubError::Forbidden { .. }), "{refused}");
    // The App was made anew: another key under the same id.
    gh.install_app(4711, "benchd");
    gh.revoke_installation_tokens();
    let refused = client.commit(&repo(), "main").await.unwrap_err();
    assert!(matches!(refused, GitHubError::Unauthorised { .. }), "{refused}");
}

#[tokio::test]
async fn a_configured_installation_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let gh = StandIn::start();
    gh.repository("o/r").commit("main", CommitSpec::new("first"));
    let app = gh.install_app(1, "bench");
    let mut config = app_settings(&gh, dir.path(), &app);
    config.app.as_mut().unwrap().installation_id = Some(app.installation_id);
    let client = GitHub::configured(&config).unwrap();
    assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    assert_eq!(gh.calls().to("GET", "/repos/o/r/installation").count(), 0);
    // The installation of another time is gone.
    config.app.as_mut().unwrap().installation_id = Some(1);
    let refused = GitHub::configured(&config).unwrap().commit(&repo(), "main").await.unwrap_err();
    assert!(matches!(refused, GitHubError::NotInstalled { .. }), "{refused}");
}

#[tokio::test]
async fn a_key_that_is_none_is_named_before_the_first_question() {
    let dir = tempfile::tempdir().unwrap();
    let gh = StandIn::start();
    for (key, reason) in
        [("no key", "private_key_file"), ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "")]
    {
        let private_key_file = dir.path().join("key.pem");
        std::fs::write(&private_key_file, key).unwrap();
        let app = Some(GithubApp { id: 1, private_key_file: private_key_file.clone(), installation_id: None });
        let error = GitHub::configured(&GithubConfig { app, ..settings(&gh) }).err().unwrap();
        let told = error.to_string();
        assert!(told.contains(private_key_file.to_str().unwrap()) && told.contains(reason), "{told}");
        assert!(!told.contains("AAAA"), "{told}");
    }
    let app = Some(GithubApp { id: 1, private_key_file: "/nonexistent/key".into(), installation_id: None });
    let error = GitHub::configured(&GithubConfig { app, ..settings(&gh) }).err().unwrap();
    assert!(error.to_string().contains("/nonexistent/key"), "{error}");
}

#[tokio::test]
async fn a_revoked_token_is_told_and_nothing_is_asked_twice() {
    let dir = tempfile::tempdir().unwrap();
    let gh = StandIn::start();
    let standin = gh.repository("o/r");
    standin.commit("main", CommitSpec::new("first"));
    standin.commit("work", CommitSpec::new("work"));
    let pull = standin.open(github_standin::PullSpec::new("work"));
    let token = gh.personal_token("bench", &["repo"]);
    let client = GitHub::configured(&token_settings(&gh, dir.path(), &token)).unwrap();
    assert_eq!((client.acts_as(), client.identity().await.unwrap().login.as_str()), (Acting::Token, "bench"));
    gh.revoke_token(&token);
    gh.forget_calls();
    let read = client.commit(&repo(), "main").await.unwrap_err();
    let write = client.create_comment(&repo(), pull.number(), "x").await.unwrap_err();
    for error in [read, write] {
        assert!(matches!(&error, GitHubError::Unauthorised { .. }), "{error}");
        assert!(!error.to_string().contains(&token));
    }
    assert_eq!(gh.calls().count(), 2);
    let refused = client.hook_deliveries(chrono::DateTime::UNIX_EPOCH).await.unwrap_err();
    assert!(matches!(refused, GitHubError::NotAnApp { .. }), "{refused}");
}

/// Every token that GitHub hands out, whatever its shape, is masked by its value.
#[tokio::test]
async fn tokens_are_masked_by_their_value() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, _, client) = with_app(dir.path());
    client.commit(&repo(), "main").await.unwrap();
    let secret = {
        let seen = super::connection::seen_authorization(dir.path(), &gh).await;
        seen.strip_prefix("Bearer ").unwrap().to_owned()
    };
    assert!(secret.starts_with("ghs_4711_eyJ") && secret.len() > 300, "{}", secret.len());
    let masked = redact::masked(&format!("failed: token={secret}, again")).into_owned();
    assert_eq!(masked, "failed: token=***, again");
    let gone = client.commit(&"o/absent".parse().unwrap(), "main").await.unwrap_err();
    assert!(!format!("{gone:?}").contains("ghs_"));
}
