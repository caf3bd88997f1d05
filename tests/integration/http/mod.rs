//! The real server on a loopback port, with a filled store, driven over HTTP and by the command line.

mod access;
mod clients;
mod errors;
mod filled;
mod limits;
mod logs;
mod metrics;
mod openapi;
mod queue;
mod resources;
mod submit;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use benchd::clock::Clock;
use benchd::config::{Config, HttpConfig, ReadAccess};
use benchd::health::Health;
use benchd::http::{AppState, serve};
use benchd::model::Target;
use benchd::queue::{Pace, Queue};
use benchd::registry::{Registry, RegistrySettings};
use benchd::store::Store;
use benchd::trigger::Context;
use chrono::{DateTime, TimeZone, Utc};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const READ: &str = "a-token-that-may-read";
pub const TRIGGER: &str = "a-token-that-may-trigger";
pub const ADMIN: &str = "a-token-that-may-do-all";

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap()
}

fn target(count: u32) -> Target {
    Target { platform: "cuda".parse().unwrap(), device_type: "NVIDIA H100 80GB HBM3".parse().unwrap(), count }
}

/// A server with a store of its own and a clock that is moved by hand. It is stopped when the test ends.
pub struct Site {
    pub dir: TempDir,
    pub store: Store,
    pub queue: Queue,
    pub clock: Clock,
    pub health: Health,
    pub state: AppState,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Site {
    /// A server that everyone may read, with a token for each scope.
    pub async fn open() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with settings of its own.
    pub async fn with(settings: impl FnOnce(&mut HttpConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens_file = dir.path().join("tokens");
        std::fs::write(&tokens_file, format!("reader read {READ}\nci trigger {TRIGGER}\nroot admin {ADMIN}\n"))
            .unwrap();
        let mut http = HttpConfig {
            read_access: ReadAccess::Public,
            tokens_file: Some(tokens_file),
            requests_per_second: 10_000.try_into().unwrap(),
            ..HttpConfig::default()
        };
        settings(&mut http);
        let config = Config { state_dir: dir.path().to_owned(), http, ..Config::default() };
        let clock = Clock::manual(noon());
        let store = Store::open(dir.path()).await.unwrap();
        let queue = Queue::new(store.clone(), clock.clone(), Pace::default());
        let registry = Arc::new(Registry::new(RegistrySettings::configured(&[]).unwrap()).unwrap());
        let cache = dir.path().join("cache");
        let config = Arc::new(config);
        let context = Context { config, store, queue, github: None, registry, clock, target: target(8), cache };
        Self::serving(dir, context).await
    }

    /// A server of these triggers, whatever configuration they have.
    pub async fn serving(dir: TempDir, context: Context) -> Self {
        let Context { store, queue, clock, .. } = context.clone();
        let health = Health::new(clock.clone());
        let stop = CancellationToken::new();
        let state = AppState::new(context, health.clone(), "gpu-1".parse().unwrap(), stop.child_token());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stopping, served) = (stop.clone(), state.clone());
        let serving = tokio::spawn(async move { serve(vec![listener], served, stopping).await.unwrap() });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { dir, store, queue, clock, health, state, address, client, stop, serving }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn ask(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        let request = self.client.request(method, self.url(path));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// A value that must be there.
    pub async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// Stops the server as a signal does.
    pub async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.store.close().await;
        self.dir
    }
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The problem it must be.
    #[track_caller]
    pub fn assert_problem(&self, kind: &str, detail: &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:benchd:problem:{kind}"), "{}", self.text);
        assert_eq!(problem["detail"], detail);
        assert_eq!(problem["status"], self.status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        assert_eq!(problem.as_object().unwrap().len(), 4);
    }
}

/// The command line against a server, not this host's store.
fn against(site: &Site, args: &[&str]) -> assert_cmd::Command {
    let mut command = crate::support::benchd();
    command
        .args(args)
        .env("BENCHD_SERVER", site.url(""))
        .env("COLUMNS", "200")
        .env("NO_COLOR", "1")
        .env("NO_PROXY", "*");
    command
}

/// Runs a command that blocks beside the server of the same test.
async fn output(mut command: assert_cmd::Command) -> std::process::Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn token_file(dir: &Path, token: &str) -> std::path::PathBuf {
    let path = dir.join("my-token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_refuses_and_leaves_the_store_whole() {
    let site = Site::open().await;
    assert_eq!(site.get("/healthz").await.status, StatusCode::OK);
    let (url, client) = (site.url("/healthz"), site.client.clone());
    site.stop().await;
    assert!(client.get(url).send().await.is_err());
}
