//! The GitHub client against the stand-in: what it reads, and that a failure is never taken for an absence.

use benchd::github::{GitHub, GitHubError, TokenScopes};
use benchd::model::RepoName;
use github_standin::{CommitSpec, Fault, StandIn};

fn repo() -> RepoName {
    "o/r".parse().unwrap()
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
