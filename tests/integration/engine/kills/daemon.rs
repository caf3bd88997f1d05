//! The real `benchd serve` of one case, with a state directory of its own, that dies where it is told to.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use benchd::store::DATABASE_FILE;
use reqwest::Method;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::world::World;

/// How long anything may take before the test gives up: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TOKEN: &str = "a-token-that-may-do-all";

/// A state directory with its configuration.
pub struct Case<'a> {
    pub world: &'a World,
    pub name: String,
}

/// A daemon that listens.
pub struct Daemon {
    /// Its process, if it is one of its own.
    child: Option<Child>,
    pub url: String,
    client: reqwest::Client,
}

/// Whether a daemon came so far as to listen.
pub enum Started {
    Listens(Daemon),
    Died(ExitStatus),
}

impl<'a> Case<'a> {
    /// A case whose images lie in the repository `images` and which publishes to `publish`.
    pub fn new(world: &'a World, name: &str, images: &str, publish: &str, more: &str) -> Self {
        let case = Self { world, name: name.replace([' ', ':'], "-") };
        fs::create_dir_all(case.dir()).unwrap();
        fs::write(case.dir().join("tokens"), format!("root admin {TOKEN}\n")).unwrap();
        let (project, host) = (&world.project, &world.project.registry.host);
        let (dir, checkout, benchmarks) = (case.dir(), project.path("checkout"), project.path("benchmarks"));
        let config = format!(
            "state_dir: {dir}/state
http: {{listen: [\"127.0.0.1:0\"], tokens_file: {dir}/tokens, requests_per_second: 1000}}
repositories:
  - name: example/engine
    checkout: {checkout}
    benchmarks: {benchmarks}
    suite: {{kind: vllm, scripts: repository}}
    images: {{cpu: \"{host}/{images}:{{sha}}\"}}
    selection: {{schedule: {base}, merge: {base}, release: {base}, manual: {base}}}
    publish: {{to: [{publish}]}}
{more}
registries: [{{host: \"{host}\", plain_http: true}}]
retention: {{images: {{min_free: 0 B}}}}
execution:
  platform: cpu
  packing: pack
  devices: {{device_type: Test_CPU_4c, count: 2}}
  hf_token_env: TEST_HF_TOKEN
  cache: {{dir: {cache}, min_free: 0 B}}
",
            dir = dir.display(),
            checkout = checkout.display(),
            benchmarks = benchmarks.display(),
            base = "{variants: [base]}",
            cache = project.path("hf_cache").display(),
        );
        fs::write(case.config(), config).unwrap();
        case
    }

    /// A case that publishes to a folder of its own in the bucket.
    pub fn in_bucket(world: &'a World, name: &str, images: &str, more: &str) -> Self {
        let prefix = name.replace([' ', ':'], "-");
        Self::new(world, name, images, &world.bucket(&prefix), more)
    }

    /// A case that was begun before.
    pub fn again(world: &'a World, name: &str) -> Self {
        Self { world, name: name.to_owned() }
    }

    /// Changes the configuration.
    pub fn configure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// The case's folder.
    pub fn dir(&self) -> PathBuf {
        self.world.project.path(&format!("cases/{}", self.name))
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir().join("benchd.yaml")
    }

    /// `benchd` with the case's configuration, told to die at `point`.
    pub fn command(&self, arguments: &[&str], point: Option<&str>) -> std::process::Command {
        let mut command = self.world.project.command(arguments);
        command.env("BENCHD_CONFIG", self.config()).env("BENCHD_LOG", "info");
        if let Some(point) = point {
            command.env("BENCHD_ABORT_AT", point);
        }
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        command
    }

    /// What all processes of the case said.
    pub fn log(&self) -> PathBuf {
        self.dir().join("said")
    }

    /// Starts the daemon, which dies at `point`, if one is given.
    pub async fn serve(&self, point: Option<&str>) -> Started {
        let before = fs::read_to_string(self.log()).unwrap_or_default().len();
        let mut child = self.command(&["serve"], point).spawn().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(self.log()).unwrap();
            let listening = said[before..].lines().find_map(|line| line.split_once("listening on ")?.1.into());
            if let Some(url) = listening.filter(|url: &&str| said[before..].contains(&format!("{url}\n"))) {
                let mut daemon = Daemon::at(url.trim());
                daemon.child = Some(child);
                return Started::Listens(daemon);
            }
            if let Some(status) = child.try_wait().unwrap() {
                return Started::Died(status);
            }
            assert!(Instant::now() < until, "{}: the daemon does not listen: {said}", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts the daemon, which dies at `point` by itself.
    pub async fn dies_at(&self, point: &str) {
        match self.serve(Some(point)).await {
            Started::Listens(daemon) => daemon.dies(point).await,
            Started::Died(status) => assert_aborted(status, point),
        }
    }

    /// Lets a schedule be followed for two hours already, as soon as it is followed.
    pub async fn set_back(&self, schedule: &str) {
        let until = Instant::now() + PATIENCE;
        let statement = "update schedules set since = since - 7200000 where schedule = ?1";
        let mut database = self.database().await;
        while sqlx::query(statement).bind(schedule).execute(&mut database).await.unwrap().rows_affected() == 0 {
            assert!(Instant::now() < until, "{}: `{schedule}` is not followed", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the suite of a run's first attempt has printed `text`.
    pub async fn until_printed(&self, run: u64, text: &str) {
        let until = Instant::now() + PATIENCE;
        let printed = || {
            let job = fs::read_dir(self.dir().join(format!("state/artifacts/{run}"))).ok()?.next()?.ok()?;
            fs::read_to_string(job.path().join("1/1/console.log")).ok()
        };
        while !printed().is_some_and(|log| log.contains(text)) {
            assert!(Instant::now() < until, "{}: {text:?} is not printed", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn database(&self) -> SqliteConnection {
        let file = self.dir().join("state").join(DATABASE_FILE);
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await.unwrap()
    }

    /// Starts the daemon, which must listen.
    pub async fn listening(&self) -> Daemon {
        match self.serve(None).await {
            Started::Listens(daemon) => daemon,
            Started::Died(status) => panic!("{}: {status}: {}", self.name, fs::read_to_string(self.log()).unwrap()),
        }
    }
}

impl Daemon {
    /// The one that listens at `url`.
    pub fn at(url: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { child: None, url: url.to_owned(), client }
    }

    /// The address of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A request with its answer: status and JSON; `None` when no answer came.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let mut request = self.client.request(method, self.url(path)).bearer_auth(TOKEN);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// What lies at `path`, which must be there.
    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(Method::GET, path, None, None).await.unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Asks for a run of `sha` under `key`; its number, when an answer came.
    pub async fn submit(&self, key: &str, sha: &str, publish: &str) -> Option<(u64, String)> {
        let body = serde_json::json!({"commit": sha, "publish": publish});
        let (status, answer) = self.ask(Method::POST, "/api/v1/runs", Some(key), Some(&body)).await?;
        assert!(status == 200 || status == 202, "{status}: {answer}");
        Some((answer["run"].as_u64().unwrap(), answer["answer"].as_str().unwrap().to_owned()))
    }

    /// All runs.
    pub async fn runs(&self) -> Vec<Value> {
        self.get("/api/v1/runs").await.as_array().unwrap().clone()
    }

    /// A text that must be there, as monitoring asks for it.
    pub async fn text(&self, path: &str) -> String {
        let request = self.client.get(self.url(path)).bearer_auth(TOKEN);
        request.send().await.unwrap().text().await.unwrap()
    }

    /// Waits until `/readyz` names `part`, or no part at all, and `/metrics` tells the same.
    pub async fn until_trouble(&self, part: Option<&str>) {
        let until = Instant::now() + PATIENCE;
        loop {
            let ready: Value = serde_json::from_str(&self.text("/readyz").await).unwrap();
            let reasons = ready["reasons"].as_array().unwrap();
            let told = match part {
                Some(part) => reasons.iter().any(|reason| reason["part"] == part),
                None => ready["ready"] == true,
            };
            let metrics = self.text("/metrics").await;
            let counted = match part {
                Some(part) => metrics.contains(&format!("benchd_trouble{{part=\"{part}\"}} 1")),
                None => metrics.contains("benchd_ready 1"),
            };
            if told && counted {
                return;
            }
            assert!(Instant::now() < until, "{part:?}: {ready:#}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until `done` says so of what lies at `path`, and returns it.
    pub async fn wait(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.get(path).await;
            if done(&seen) {
                return seen;
            }
            assert!(Instant::now() < until, "{path} stays {seen:#}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until it died by its own hand.
    pub async fn dies(mut self, point: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                assert_aborted(status, point);
                return;
            }
            assert!(Instant::now() < until, "{point} is never reached");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks it to stop, as a service manager does.
    pub fn terminate(&self) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(std::process::Command::new("kill").arg(id).status().unwrap().success());
    }

    /// Kills it, as `kill -9`.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A process died where it was told to.
pub fn assert_aborted(status: ExitStatus, point: &str) {
    const SIGABRT: i32 = 6;
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {status}");
}
