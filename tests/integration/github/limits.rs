//! Rate limits: what GitHub says is kept by every later request, and who would wait for long is sent away.

use std::time::Duration;

use benchd::clock::Clock;
use benchd::github::{GitHub, GitHubError};
use chrono::TimeDelta;
use github_standin::{CommitSpec, Fault, PullSpec, StandIn};

use super::{repo, token_settings};

/// The stand-in, a client with a token, and the clock they share.
fn shared_clock(dir: &std::path::Path) -> (StandIn, GitHub, Clock) {
    let gh = StandIn::start();
    let standin = gh.repository("o/r");
    standin.commit("main", CommitSpec::new("first"));
    standin.commit("work", CommitSpec::new("work"));
    standin.open(PullSpec::new("work"));
    let clock = Clock::manual(gh.now());
    let token = gh.personal_token("bench", &["repo"]);
    let client = GitHub::timed(&token_settings(&gh, dir, &token), clock.clone()).unwrap();
    (gh, client, clock)
}

#[tokio::test]
async fn every_kind_of_limit_silences_reads_and_writes_alike() {
    let dir = tempfile::tempdir().unwrap();
    for (fault, wait_s) in [
        (Fault::PrimaryLimit { status: 403, reset_in_s: 1800 }, 1800),
        (Fault::PrimaryLimit { status: 429, reset_in_s: 1800 }, 1800),
        (Fault::SecondaryLimit { status: 403, retry_after_s: Some(120) }, 120),
        (Fault::SecondaryLimit { status: 429, retry_after_s: Some(120) }, 120),
        (Fault::SecondaryLimit { status: 403, retry_after_s: None }, 60),
        (Fault::SecondaryLimit { status: 429, retry_after_s: None }, 60),
    ] {
        let (gh, client, clock) = shared_clock(dir.path());
        gh.fault("POST", "/repos/**", fault.clone());
        let limited = client.create_comment(&repo(), 1, "x").await.unwrap_err();
        let wait = limited.retry_after().unwrap();
        // The stand-in's clock goes on by itself, by less than the test lasts.
        assert!(wait.as_secs().abs_diff(wait_s) <= 30, "{fault:?}: {limited}");
        for _ in 0..3 {
            let read = client.commit(&repo(), "main").await.unwrap_err();
            let write = client.create_comment(&repo(), 1, "x").await.unwrap_err();
            assert!(read.retry_after() == Some(wait) && write.retry_after() == Some(wait), "{fault:?}: {read}");
            assert!(read.is_transient() && write.is_transient());
        }
        assert_eq!(gh.calls().count(), 1, "{fault:?}");
        let pause = TimeDelta::from_std(wait).unwrap() + TimeDelta::seconds(1);
        gh.advance(pause);
        clock.advance(pause);
        client.create_comment(&repo(), 1, "x").await.unwrap();
        assert!(client.commit(&repo(), "main").await.unwrap().is_some());
        gh.calls().assert_limits_obeyed();
    }
}

#[tokio::test]
async fn a_short_silence_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let gh = StandIn::start();
    gh.repository("o/r").commit("main", CommitSpec::new("first"));
    let token = gh.personal_token("bench", &["repo"]);
    let client = GitHub::configured(&token_settings(&gh, dir.path(), &token)).unwrap();
    gh.fault("GET", "/repos/**", Fault::SecondaryLimit { status: 429, retry_after_s: Some(1) });
    let limited = client.commit(&repo(), "main").await.unwrap_err();
    assert_eq!(limited.retry_after(), Some(Duration::from_secs(1)));
    assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    gh.calls().assert_limits_obeyed();
}

#[tokio::test]
async fn the_last_of_the_budget_is_for_writes_and_what_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, client, clock) = shared_clock(dir.path());
    gh.limit_requests(30);
    client.pull(&repo(), 1).await.unwrap();
    let mut reads = 1;
    let kept = loop {
        match client.commit(&repo(), &format!("absent-{reads}")).await {
            Ok(found) => assert!(found.is_none()),
            Err(error) => break error,
        }
        reads += 1;
    };
    assert_eq!(reads, 27, "a tenth is left");
    assert!(matches!(&kept, GitHubError::RateLimited { .. }), "{kept}");
    for _ in 0..5 {
        assert!(client.pull(&repo(), 1).await.unwrap().is_some());
    }
    for _ in 0..3 {
        client.create_comment(&repo(), 1, "x").await.unwrap();
    }
    let empty = client.create_comment(&repo(), 1, "x").await.unwrap_err();
    assert!(empty.retry_after().is_some(), "{empty}");
    assert_eq!(gh.calls().charged().count(), 30, "GitHub itself never had to refuse");
    gh.advance(TimeDelta::hours(2));
    clock.advance(TimeDelta::hours(2));
    client.create_comment(&repo(), 1, "x").await.unwrap();
}

#[tokio::test]
async fn a_limit_on_tokens_is_obeyed_too() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, _, client) = super::with_app(dir.path());
    gh.fault(
        "POST",
        "/app/installations/*/access_tokens",
        Fault::SecondaryLimit { status: 403, retry_after_s: Some(90) },
    );
    let limited = client.commit(&repo(), "main").await.unwrap_err();
    assert!(limited.retry_after().is_some(), "{limited}");
    client.commit(&repo(), "main").await.unwrap_err();
    assert_eq!(gh.calls().to("POST", "/app/installations/*/access_tokens").count(), 1);
    gh.calls().assert_limits_obeyed();
}
