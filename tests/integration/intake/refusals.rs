//! What is not accepted, each with what to do about it.

use std::time::Duration;

use benchd::http::webhook::MAX_BODY_BYTES;
use benchd::step::Step;
use benchd::store::{Store, StoreError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Desk, SECRET, signature};
use crate::http::{Answer, Site};

const JSON: &str = "application/json";

async fn post(desk: &Desk, leave_out: &str, media_type: &str, body: &[u8], signed: &str) -> Answer {
    let headers = [("x-github-event", "push"), ("x-github-delivery", "guid"), ("x-hub-signature-256", signed)];
    let headers: Vec<_> = headers.into_iter().filter(|(name, _)| *name != leave_out).collect();
    desk.post(&headers, media_type, body.to_vec()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_says_what_to_do() {
    let desk = Desk::new("").await;
    let body = br#"{"ref": "refs/heads/main"}"#;
    let signed = signature(SECRET, body);
    let other = signature("no-secret-of-ours", body);
    let unsigned = "the signature fits no secret of `github.webhook_secret_files`: is the webhook's secret the same?";
    post(&desk, "", JSON, body, &other).await.assert_problem("unauthorized", unsigned);
    post(&desk, "", JSON, b"{}", &signed).await.assert_problem("unauthorized", unsigned);
    post(&desk, "x-hub-signature-256", JSON, body, "")
        .await
        .assert_problem("unauthorized", "the delivery is not signed: set a secret in the webhook's settings on GitHub");
    let form = "payload=%7B%7D".as_bytes();
    post(&desk, "", "application/x-www-form-urlencoded", form, &signature(SECRET, form)).await.assert_problem(
        "unsupported_media_type",
        "set the content type of the webhook to `application/json` in its settings on GitHub",
    );
    for header in ["x-github-event", "x-github-delivery"] {
        let answer = post(&desk, header, JSON, body, &signed).await;
        answer.assert_problem("malformed", "`X-GitHub-Event` and `X-GitHub-Delivery` are needed");
    }
    for broken in ["{", "", "[1]", "payload=1"] {
        let answer = post(&desk, "", JSON, broken.as_bytes(), &signature(SECRET, broken.as_bytes())).await;
        assert_eq!(answer.status, 400, "{broken}: {}", answer.text);
    }
    let get = desk.site.get("/webhook/github").await;
    get.assert_problem("method_not_allowed", "GitHub's deliveries are sent with POST");
    assert_eq!(get.header("allow"), "POST");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_payload_of_github_is_taken_and_a_larger_one_is_not() {
    let desk = Desk::new("").await;
    let mut body = json!({"repository": {"full_name": "o/r"}, "after": "d".repeat(40), "ref": "refs/heads/main"})
        .to_string()
        .into_bytes();
    // White space in front of it counts, too.
    let mut whole = vec![b' '; MAX_BODY_BYTES - body.len()];
    whole.append(&mut body);
    let answer = post(&desk, "", JSON, &whole, &signature(SECRET, &whole)).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    // A longer one is refused when it is announced, before anything of it is sent.
    let mut connection = tokio::net::TcpStream::connect(desk.site.address).await.unwrap();
    let head = format!(
        "POST /webhook/github HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\nx-hub-signature-256: sha256=0\r\n\
         content-length: {}\r\n\r\n",
        MAX_BODY_BYTES + 1
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = connection.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("a delivery may have at most 26214400 bytes, as GitHub's have"), "{answer}");
    // Not announced, as a stream.
    whole.push(b' ');
    let pieces = whole.chunks(1 << 20).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = desk.site.client.post(desk.site.url("/webhook/github")).header("content-type", JSON);
    let request = request.header("x-hub-signature-256", signature(SECRET, &whole)).body(stream);
    // The refusal may come while the rest is still being sent.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_secret_nothing_is_accepted() {
    let site = Site::open().await;
    let answer = Answer::of(site.client.post(site.url("/webhook/github")).body("{}").send().await.unwrap()).await;
    answer.assert_problem(
        "not_found",
        "no webhook secret is configured: set `github.webhook_secret_files`, and the same secret in the webhook's \
         settings on GitHub",
    );
    let desk = Desk::new("").await;
    for file in ["old", "new"] {
        std::fs::remove_file(desk.site.dir.path().join(file)).unwrap();
    }
    let answer = desk.send("push", "1", &json!({})).await;
    answer.assert_problem("unavailable", "no file of `github.webhook_secret_files` can be read; benchd's log says why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_take_it_asks_for_another_delivery() {
    let desk = Desk::new("").await;
    let payload = json!({"repository": {"full_name": "o/r"}, "after": "d".repeat(40), "ref": "refs/heads/main"});
    // Another process holds the database's only write lock.
    let other = Store::open_with(&desk.context.config.state_dir, Duration::from_millis(10)).await.unwrap();
    let held = other.write(Step::StoreDelivery).await.unwrap();
    let answer = desk.send("push", "1", &payload).await;
    answer.assert_problem("unavailable", "the delivery cannot be stored now: deliver it again later");
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    drop(held);
    assert_eq!(desk.send("push", "1", &payload).await.status, 202, "nothing of the first one was kept");
    assert!(!matches!(other.followed().await, Err(StoreError::Locked { .. })));
}
