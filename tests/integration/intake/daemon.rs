//! The real `benchd serve` as a process of its own, against the stand-in. It needs no engine: no image is ever there.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use benchd::store::DATABASE_FILE;
use github_standin::{CommitSpec, Repository, StandIn};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;

use super::{REPO, SECRET};

/// How long anything may take before the test gives up: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How often the tests look.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The stand-in with one repository, and the state directory of a daemon that follows it.
pub struct Place {
    pub gh: StandIn,
    pub repo: Repository,
    dir: TempDir,
}

/// A daemon that listens, killed when dropped.
pub struct Daemon {
    child: Child,
    url: String,
}

impl Place {
    /// An App that reconciles every `reconcile`.
    pub fn new(reconcile: &str) -> Self {
        let gh = StandIn::start();
        let repo = gh.repository(REPO);
        repo.commit("main", CommitSpec::new("first"));
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("benchmarks/cpu");
        fs::create_dir_all(&folder).unwrap();
        let test = json!([{"test_name": "latency_m", "parameters": {"model": "m", "tensor_parallel_size": 1}}]);
        fs::write(folder.join("latency-tests-cpu.json"), test.to_string()).unwrap();
        fs::write(dir.path().join("secret"), SECRET).unwrap();
        let app = gh.install_app(4711, "benchd");
        fs::write(dir.path().join("app.pem"), &app.private_key_pem).unwrap();
        let config = format!(
            "state_dir: state\nhttp: {{listen: '127.0.0.1:0', requests_per_second: 1000}}\ngithub: {{api_url: '{}', app: \
             {{id: 4711, private_key_file: app.pem}}, webhook_secret_files: [secret], reconcile: {reconcile}, \
             write_interval: 0s}}\nexecution: {{platform: cpu, devices: {{device_type: Test_CPU_4c, count: 1}}}}\n\
             repositories:\n  - name: {REPO}\n    images: {{cpu: 'localhost:1/r:{{sha}}'}}\n    triggers: {{schedule: \
             [], pull_request: {{quiet_for: 0s}}, release: {{tags: 'v*'}}}}\n",
            gh.url(),
        );
        fs::write(dir.path().join("benchd.yaml"), config).unwrap();
        Self { gh, repo, dir }
    }

    /// Looks for images at this address in place of a registry, each for two models.
    pub fn look_for_images_at(&self, address: &str) {
        let (config, folder) = (self.dir.path().join("benchd.yaml"), self.dir.path().join("benchmarks/cpu"));
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("'localhost:1/r:{sha}'", &format!("{{http: '{address}'}}"))).unwrap();
        let test = |model| json!({"test_name": format!("latency_{model}"), "parameters": {"model": model}});
        fs::write(folder.join("latency-tests-cpu.json"), json!([test("m"), test("n")]).to_string()).unwrap();
    }

    /// Starts the daemon, which GitHub's webhooks reach from now on; with a point it dies there, maybe before it listens.
    pub async fn start(&self, point: Option<&str>) -> Option<Daemon> {
        let said = self.dir.path().join("said");
        let log = File::create(&said).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_benchd"));
        command.arg("serve").arg("--config").arg(self.dir.path().join("benchd.yaml")).env("NO_PROXY", "*");
        if let Some(point) = point {
            command.env("BENCHD_ABORT_AT", point);
        }
        command.env("BENCHD_LOG", "info").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut daemon = Daemon { child: command.spawn().unwrap(), url: String::new() };
        let end = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&said).unwrap();
            let url = text.lines().find_map(|line| line.split_once("listening on ")?.1.split_whitespace().next());
            if let Some(url) = url.filter(|url| text.contains(&format!("{url}\n"))) {
                url.clone_into(&mut daemon.url);
                self.gh.webhook(&format!("{url}/webhook/github"), SECRET);
                return Some(daemon);
            }
            if daemon.is_dead() {
                assert!(point.is_some(), "{text}");
                return None;
            }
            assert!(Instant::now() < end, "it does not listen: {text}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One number from the daemon's database.
    pub async fn number(&self, statement: &str) -> i64 {
        let file = self.dir.path().join("state").join(DATABASE_FILE);
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut database).await.unwrap()
    }

    /// Waits until the first reconcile is over, so that what happens from now on is news.
    pub async fn followed(&self) {
        until("the repository is followed", async || self.number("select count(*) from followed").await == 1).await;
    }
}

impl Daemon {
    /// Whether it died, by its own hand.
    pub fn is_dead(&mut self) -> bool {
        const SIGABRT: i32 = 6;
        let Some(status) = self.child.try_wait().unwrap() else { return false };
        assert_eq!(status.signal(), Some(SIGABRT), "{status}");
        true
    }

    /// Its runs; none while it does not answer.
    pub async fn runs(&self) -> Vec<Value> {
        let Ok(answer) = reqwest::get(format!("{}/api/v1/runs?limit=200", self.url)).await else { return Vec::new() };
        answer.json().await.unwrap_or_default()
    }

    /// The memory it holds, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Waits until `done`.
pub async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < end, "not within its time: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
