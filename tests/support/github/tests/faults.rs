//! Faults of the API, and what the log says of them.

use std::time::Duration;

use chrono::TimeDelta;
use github_standin::Fault;
use serde_json::json;

use crate::{client, raw, read, small};

const COMMENTS: &str = "/repos/*/*/issues/*/comments";

#[tokio::test]
async fn a_fault_strikes_before_or_after_the_write() {
    let (gh, _, pull) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let post = async || http.issues("o", "r").create_comment(1, "hello").await;
    let before = gh.fault("POST", COMMENTS, Fault::Status(502));
    assert!(post().await.is_err());
    assert_eq!((pull.comments().len(), before.struck()), (0, 1));
    for fault in [Fault::StatusAfter(502), Fault::LostAnswer, Fault::Truncated] {
        let written = pull.comments().len();
        gh.fault("POST", COMMENTS, fault.clone());
        assert!(post().await.is_err(), "{fault:?}");
        assert_eq!(pull.comments().len(), written + 1, "{fault:?}");
    }
    gh.fault("POST", COMMENTS, Fault::Reset);
    assert!(post().await.is_err());
    assert_eq!(pull.comments().len(), 3);
    gh.fault("POST", COMMENTS, Fault::Unauthorised);
    assert!(post().await.is_err());
    post().await.unwrap();
    assert_eq!(pull.comments().len(), 4);
    assert_eq!(gh.calls().to("POST", COMMENTS).count(), 7);
    assert_eq!(gh.calls().filter(|c| c.fault.is_some()).count(), 6);
    assert!(gh.calls().0.iter().all(|c| c.ended.is_some()));
}

#[tokio::test]
async fn a_fault_waits_for_its_turn_and_may_go_on() {
    let (gh, ..) = small().await;
    let http = client(gh.url(), None);
    let fault = gh.fault("*", "/repos/**", Fault::Status(503)).after(1).times(2);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(raw(&http, "GET", "/repos/o/r", None, &[]).await.0);
    }
    assert_eq!((seen, fault.struck()), (vec![200, 503, 503, 200], 2));
    gh.fault("*", "/repos/**", Fault::Status(500)).forever();
    for _ in 0..3 {
        assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 500);
    }
    gh.clear_faults();
    assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 200);
}

#[tokio::test]
async fn rate_limits_come_in_all_their_forms() {
    let (gh, ..) = small().await;
    let http = client(gh.url(), None);
    let ask = async |fault| {
        gh.fault("GET", "/repos/*/*", fault);
        raw(&http, "GET", "/repos/o/r", None, &[]).await
    };
    for status in [403, 429] {
        let (got, _, headers) = ask(Fault::PrimaryLimit { status, reset_in_s: 30 }).await;
        assert_eq!((got, &headers["x-ratelimit-remaining"]), (status, &"0".parse().unwrap()));
        let reset: i64 = headers["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
        assert!((29..=30).contains(&(reset - gh.now().timestamp())));
        let (got, body, headers) = ask(Fault::SecondaryLimit { status, retry_after_s: Some(7) }).await;
        assert_eq!((got, &headers["retry-after"]), (status, &"7".parse().unwrap()));
        assert!(body["message"].as_str().unwrap().contains("secondary rate limit"));
        let (got, _, headers) = ask(Fault::SecondaryLimit { status, retry_after_s: None }).await;
        assert_eq!((got, headers.get("retry-after"), headers.get("x-ratelimit-remaining")), (status, None, None));
    }
}

#[tokio::test]
async fn the_log_knows_what_overlapped_and_how_far_apart() {
    let (gh, ..) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let post = async || http.issues("o", "r").create_comment(1, "hello").await.unwrap();
    post().await;
    gh.advance(TimeDelta::seconds(2));
    post().await;
    gh.calls().writes().assert_serial();
    gh.calls().writes().assert_spaced(TimeDelta::seconds(1));
    gh.fault("POST", COMMENTS, Fault::Slow(Duration::from_millis(200)));
    let (slow, _) = tokio::join!(post(), async {
        while gh.calls().count() < 3 {
            tokio::task::yield_now().await;
        }
        post().await;
    });
    assert_eq!(slow.body.as_deref(), Some("hello"));
    let writes = gh.calls().writes();
    assert_eq!(writes.most_at_once(), 2);
    assert!(writes.shortest_gap().unwrap() < TimeDelta::seconds(1));
    assert_eq!(writes.0[0].body, json!({ "body": "hello" }));
    assert_eq!(writes.0[0].by, "user bench");
    gh.called("POST", COMMENTS, 4).await;
    gh.forget_calls();
    read(&http, "/rate_limit").await;
    assert_eq!(gh.calls().lines(), ["GET /rate_limit"]);
}

#[tokio::test]
async fn a_client_that_hangs_up_is_not_in_flight_for_ever() {
    let (gh, ..) = small().await;
    gh.fault("GET", "/repos/*/*", Fault::Slow(Duration::from_secs(3600)));
    let http = client(gh.url(), None);
    let hung = tokio::time::timeout(Duration::from_millis(100), raw(&http, "GET", "/repos/o/r", None, &[])).await;
    assert!(hung.is_err());
    drop(http);
    gh.called("GET", "/repos/*/*", 1).await;
    assert_eq!(gh.calls().0[0].status, None);
}

#[tokio::test]
async fn a_caller_that_goes_on_while_limited_is_found_out() {
    let (gh, ..) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let ask = async || raw(&http, "GET", "/repos/o/r", None, &[]).await.0;
    gh.fault("*", "/repos/**", Fault::SecondaryLimit { status: 429, retry_after_s: Some(30) });
    assert_eq!(ask().await, 429);
    read(&http, "/rate_limit").await;
    gh.advance(TimeDelta::seconds(31));
    assert_eq!(ask().await, 200);
    gh.calls().assert_limits_obeyed();
    gh.fault("*", "/repos/**", Fault::SecondaryLimit { status: 403, retry_after_s: None });
    assert_eq!(ask().await, 403);
    gh.advance(TimeDelta::seconds(59));
    assert_eq!(ask().await, 200);
    let calls = gh.calls();
    assert!(std::panic::catch_unwind(|| calls.assert_limits_obeyed()).is_err());
}

#[tokio::test]
async fn eighty_writes_a_minute_are_taken() {
    let (gh, _, pull) = small().await;
    gh.limit_content();
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let post = async || raw(&http, "POST", "/repos/o/r/issues/1/comments", Some(json!({ "body": "x" })), &[]).await.0;
    for _ in 0..80 {
        assert_eq!(post().await, 201);
    }
    assert_eq!((post().await, pull.comments().len()), (403, 80));
    gh.advance(TimeDelta::seconds(61));
    assert_eq!(post().await, 201);
}
