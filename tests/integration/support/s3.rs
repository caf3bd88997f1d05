//! An S3 service in this process (s3s on a folder), with faults on demand: the real client talks to it over HTTP.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;

/// What happens to one request instead of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// This status and S3 error code, nothing done.
    Answer(u16, &'static str),
    /// The request is done and the answer lost: 500 instead.
    LostAnswer,
    /// The answer comes late.
    Late(Duration),
}

/// The service; it ends with the test.
pub struct S3Server {
    address: SocketAddr,
    root: TempDir,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    away: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Clone)]
struct Shared {
    s3: S3Service,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    away: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl S3Server {
    pub const ACCESS_KEY: &str = "AKIATEST";
    pub const SECRET_KEY: &str = "secret-of-the-test";

    /// Starts the service with one bucket that takes signed requests.
    pub fn start(bucket: &str) -> Self {
        Self::with_auth(bucket, Some(SimpleAuth::from_single(Self::ACCESS_KEY, Self::SECRET_KEY)))
    }

    /// Starts the service with one bucket that is open to requests without a signature.
    pub fn start_open(bucket: &str) -> Self {
        Self::with_auth(bucket, None)
    }

    fn with_auth(bucket: &str, auth: Option<SimpleAuth>) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(bucket)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        if let Some(auth) = auth {
            builder.set_auth(auth);
        }
        let faults = Arc::new(Mutex::new(VecDeque::new()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let away = Arc::new(AtomicBool::new(false));
        let (s3, other) = (builder.build(), Arc::clone(&away));
        let shared = Shared { s3, faults: Arc::clone(&faults), away: other, requests: Arc::clone(&requests) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer).with_state(shared);
        runtime.spawn(async move {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        Self { address, root, faults, away, requests, runtime: Some(runtime) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests meet these faults, one each.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// From now on every request is answered 503, or none any more.
    pub fn be_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Method and path of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Where an object lies on the disk.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.path().join(bucket).join(key)
    }

    /// The environment of a client with the right credentials.
    pub fn environment() -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY)]
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    shared.requests.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
    if shared.away.load(Ordering::SeqCst) {
        return failure(503, "SlowDown");
    }
    let fault = shared.faults.lock().unwrap().pop_front();
    match fault {
        Some(Fault::Answer(status, code)) => return failure(status, code),
        Some(Fault::Late(time)) => tokio::time::sleep(time).await,
        Some(Fault::LostAnswer) | None => {}
    }
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let request = axum::http::Request::from_parts(parts, s3s::Body::from(bytes));
    let response = shared.s3.call(request).await.unwrap();
    match fault {
        Some(Fault::LostAnswer) => failure(500, "InternalError"),
        Some(Fault::Answer(..) | Fault::Late(_)) | None => response.map(Body::new).into_response(),
    }
}

fn failure(status: u16, code: &str) -> Response {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test wants</Message></Error>");
    (axum::http::StatusCode::from_u16(status).unwrap(), text).into_response()
}
