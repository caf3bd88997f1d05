//! Too large, too slow, too many, and a handler that panics: each is answered, and the server goes on.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use benchd::http::{MAX_BODY_BYTES, within_limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::{Answer, Site};

async fn mistaken() -> &'static str {
    panic!("a mistake")
}

/// The limits around routes that are slow, panic or take a body.
async fn limited(request: axum::http::Request<axum::body::Body>) -> (u16, String) {
    let site = Site::open().await;
    let routes = Router::new()
        .route("/panic", get(mistaken))
        .route("/body", post(|body: axum::body::Bytes| async move { body.len().to_string() }));
    let router = within_limits(routes, &site.state);
    let mut request = request;
    request.extensions_mut().insert(axum::extract::ConnectInfo(site.address));
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    site.stop().await;
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_an_answer() {
    let request = axum::http::Request::get("/panic").body(axum::body::Body::empty()).unwrap();
    let (status, body) = limited(request).await;
    let detail = "benchd's log says more (look for the request's id, the `X-Request-Id` header)";
    assert_eq!(status, 500);
    assert!(body.contains("urn:benchd:problem:internal") && body.contains(detail), "{body}");
    assert!(!body.contains("a mistake"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_refused_with_or_without_its_length() {
    for (bytes, expected) in [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)] {
        let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![0_u8; bytes])]);
        let bodies = [axum::body::Body::from(vec![0_u8; bytes]), axum::body::Body::from_stream(stream)];
        for body in bodies {
            let request = axum::http::Request::post("/body").body(body).unwrap();
            let (status, answer) = limited(request).await;
            assert_eq!(status, expected, "{answer}");
            if expected == 413 {
                assert!(answer.contains("a request's body may have at most 65536 bytes"), "{answer}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_much_slowly_sees_the_answer() {
    let site = Site::open().await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let (piece, pieces) = (vec![b' '; 50_000], 10);
    let length = piece.len() * pieces;
    let head = format!("POST /api/v1/runs HTTP/1.1\r\nhost: benchd\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..pieces {
        // Long enough for an answer that does not wait for the body.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(&piece).await.unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_is_slowed_down() {
    let site = Site::with(|http| http.requests_per_second = 1.try_into().unwrap()).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = site.get("/api/v1/version").await;
        statuses.push(answer.status);
        if answer.status == 429 {
            answer.assert_problem("too_many_requests", "wait as long as the `Retry-After` header says, in seconds");
            assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 1);
        }
    }
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses.contains(&429), "{statuses:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_while_the_store_is_written() {
    let (site, filled) = Site::filled().await;
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..100 {
        let paths = ["/api/v1/runs".to_owned(), format!("/api/v1/runs/{}", filled.good), "/metrics".to_owned()];
        let request = site.client.get(site.url(&paths[reader % 3]));
        readers.spawn(async move { Answer::of(request.send().await.unwrap()).await });
    }
    for _ in 0..20 {
        site.submit(2).await;
    }
    let answers = readers.join_all().await;
    assert_eq!(answers.len(), 100);
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_compressed_and_logs_are_not() {
    let (site, filled) = Site::filled().await;
    for _ in 0..20 {
        site.submit(1).await;
    }
    let log = format!("/api/v1/jobs/{}/log", filled.good_job);
    for (path, encoding) in [("/api/v1/runs", "gzip"), (log.as_str(), "")] {
        let request = site.client.get(site.url(path)).header("accept-encoding", "gzip");
        let response = request.send().await.unwrap();
        let encoded = response.headers().get("content-encoding").map_or("", |value| value.to_str().unwrap());
        assert_eq!(encoded, encoding, "{path}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dawdles_keeps_nobody_waiting() {
    let site = Site::open().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(site.get("/healthz").await.status, 200);
    // Nor does it hold up the end of the server.
    site.stop().await;
    let mut rest = Vec::new();
    slow[0].read_to_end(&mut rest).await.unwrap_or(0);
    assert!(rest.is_empty());
}
