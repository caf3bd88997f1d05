//! The GitHub client against the stand-in: what it reads, and that a failure is never taken for an absence.

mod access;
mod connection;
mod limits;
mod lists;
mod writes;

use std::path::Path;
use std::time::Duration;

use benchd::config::{GithubApp, GithubConfig};
use benchd::github::{GitHub, GitHubError, TokenScopes};
use benchd::model::RepoName;
use github_standin::{AppCredentials, CommitSpec, Fault, StandIn};

fn repo() -> RepoName {
    "o/r".parse().unwrap()
}

/// Settings for the stand-in, unpaced: it has no limits but those that a test sets.
fn settings(gh: &StandIn) -> GithubConfig {
    GithubConfig { api_url: gh.url().parse().unwrap(), write_interval: Duration::ZERO, ..GithubConfig::default() }
}

fn token_settings(gh: &StandIn, dir: &Path, token: &str) -> GithubConfig {
    let file = dir.join("token");
    std::fs::write(&file, token).unwrap();
    GithubConfig { token_file: Some(file), ..settings(gh) }
}

fn app_settings(gh: &StandIn, dir: &Path, app: &AppCredentials) -> GithubConfig {
    let private_key_file = dir.join("app.pem");
    std::fs::write(&private_key_file, &app.private_key_pem).unwrap();
    GithubConfig { app: Some(GithubApp { id: app.app_id, private_key_file, installation_id: None }), ..settings(gh) }
}

/// The stand-in with one repository, one commit and an App; the client acts as the App.
fn with_app(dir: &Path) -> (StandIn, github_standin::Repository, GitHub) {
    let gh = StandIn::start();
    let standin = gh.repository("o/r");
    standin.commit("main", CommitSpec::new("first"));
    let app = gh.install_app(4711, "benchd");
    let client = GitHub::configured(&app_settings(&gh, dir, &app)).unwrap();
    (gh, standin, client)
}

#[tokio::test]
async fn a_commit_is_found_by_any_name_and_an_unknown_one_is_absent() {
    let gh = StandIn::start();
    let standin = gh.repository("o/r");
    let first = standin.commit("main", CommitSpec::new("first"));
    let second = standin.commit("release/v1", CommitSpec::new("second"));
    standin.annotated_tag("v1.0", "main");
    let client = GitHub::connect(gh.url(), None).unwrap();
    for (name, sha, parents) in
        [("main", &first, 0), ("v1.0", &first, 0), ("release/v1", &second, 1), (&second, &second, 1)]
    {
        let found = client.commit(&repo(), name).await.unwrap().unwrap();
        assert_eq!((found.sha.as_str(), found.parents.len()), (sha.as_str(), parents), "{name}");
    }
    assert_eq!(client.commit(&repo(), &"0".repeat(40)).await.unwrap(), None);
    assert_eq!(client.commit(&"o/absent".parse().unwrap(), "main").await.unwrap(), None);
    standin.rename("o/renamed");
    assert_eq!(client.commit(&repo(), "main").await.unwrap().unwrap().sha.as_str(), first);
}

#[tokio::test]
async fn a_failure_is_not_an_absence() {
    let gh = StandIn::start();
    gh.repository("o/r").commit("main", CommitSpec::new("first"));
    let client = GitHub::connect(gh.url(), None).unwrap();
    let fail = async |fault| {
        gh.fault("GET", "/repos/**", fault);
        client.commit(&repo(), "main").await.unwrap_err()
    };
    for fault in [Fault::Status(502), Fault::LostAnswer, Fault::Reset] {
        assert!(fail(fault.clone()).await.is_transient(), "{fault:?}");
    }
    // Each limit is obeyed by a client of its own: the one before would not ask at all.
    let fail = async |fault| {
        let client = GitHub::connect(gh.url(), None).unwrap();
        gh.fault("GET", "/repos/**", fault);
        client.commit(&repo(), "main").await.unwrap_err()
    };
    let limited = fail(Fault::PrimaryLimit { status: 403, reset_in_s: 60 }).await;
    assert!(matches!(limited, GitHubError::RateLimited { .. }), "{limited:?}");
    let limited = fail(Fault::SecondaryLimit { status: 429, retry_after_s: Some(7) }).await;
    assert!(matches!(limited, GitHubError::RateLimited { .. }), "{limited:?}");
    assert!(!fail(Fault::Unauthorised).await.is_transient());
    assert_eq!(gh.calls().count(), 6, "nothing is asked twice");
}

#[tokio::test]
async fn the_scopes_of_a_token_are_read() {
    let gh = StandIn::start();
    let scopes =
        async |token: String| GitHub::connect(gh.url(), Some(token.into())).unwrap().token_scopes().await.unwrap();
    let classic = scopes(gh.personal_token("bench", &["repo:status", "public_repo"])).await;
    assert_eq!(classic, TokenScopes::Classic(vec!["repo:status".to_owned(), "public_repo".to_owned()]));
    assert_eq!(scopes(gh.fine_grained_token("bench")).await, TokenScopes::FineGrained);
}
