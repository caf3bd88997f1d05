//! What GitHub tells and what is found without it: the real server takes deliveries of the stand-in, the real store and
//! queue keep what follows. Nothing is executed.

mod burst;
mod daemon;
mod idle;
mod images;
mod kills;
mod merges;
mod refusals;
mod releases;
mod webhook;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use benchd::clock::Clock;
use benchd::config::Config;
use benchd::github::GitHub;
use benchd::health::{Health, Part};
use benchd::model::{RunPhase, Trigger};
use benchd::queue::{Pace, Queue};
use benchd::registry::{Registry, RegistrySettings};
use benchd::store::{RunFilter, RunRow, Store};
use benchd::trigger::Context;
use benchd::trigger::looks::{LookAnswer, Looked, Rest, take_due};
use benchd::trigger::reconcile::reconcile_one;
use chrono::{TimeDelta, Utc};
use github_standin::{AppCredentials, CommitSpec, Repository, StandIn};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use crate::http::{Answer, Site};

pub const REPO: &str = "o/r";
pub const SECRET: &str = "an-old-secret";
pub const TOKEN: &str = "a-token-that-may-trigger";
pub const NEW_SECRET: &str = "a-new-secret";

/// The signature that GitHub gives a body.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    format!("sha256={}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The stand-in, and a server that follows one repository of it.
pub struct Desk {
    pub gh: StandIn,
    pub repo: Repository,
    pub context: Context,
    pub clock: Clock,
    pub site: Site,
    health: Health,
}

impl Desk {
    /// With the keys `more` of the repository's `triggers`; acts with a token.
    pub async fn new(more: &str) -> Self {
        Self::acting(more, |gh, dir, _| {
            fs::write(dir.join("token"), gh.personal_token("bench", &["repo"])).unwrap();
            "token_file: token".to_owned()
        })
        .await
    }

    /// Acts as the App.
    pub async fn app() -> Self {
        Self::acting("", |_, dir, app| {
            fs::write(dir.join("app.pem"), &app.private_key_pem).unwrap();
            format!("app: {{id: {}, private_key_file: app.pem}}", app.app_id)
        })
        .await
    }

    async fn acting(more: &str, credentials: impl FnOnce(&StandIn, &Path, &AppCredentials) -> String) -> Self {
        let gh = StandIn::start();
        let repo = gh.repository(REPO);
        for number in 0..3 {
            repo.commit("main", CommitSpec::new(&format!("old {number}")));
        }
        let app = gh.install_app(4711, "benchd");
        let dir = tempfile::tempdir().unwrap();
        let credentials = credentials(&gh, dir.path(), &app);
        let folder = dir.path().join("benchmarks/cuda");
        fs::create_dir_all(&folder).unwrap();
        let test = json!([{"test_name": "latency_m", "parameters": {"model": "m", "tensor_parallel_size": 1}}]);
        fs::write(folder.join("latency-tests.json"), test.to_string()).unwrap();
        fs::write(dir.path().join("old"), SECRET).unwrap();
        fs::write(dir.path().join("new"), NEW_SECRET).unwrap();
        fs::write(dir.path().join("tokens"), format!("ci trigger {TOKEN}\n")).unwrap();
        let config = format!(
            "state_dir: state\nhttp: {{tokens_file: tokens}}\ngithub: {{api_url: '{}', {credentials}, webhook_secret_files: [new, old], \
             write_interval: 0s}}\nrepositories:\n  - name: {REPO}\n    images: {{cuda: {{main: 'main/r:{{sha}}', \
             other: 'other/r:{{sha}}'}}}}\n    triggers: {{{more}}}\n",
            gh.url(),
        );
        fs::write(dir.path().join("benchd.yaml"), config).unwrap();
        Self::open(gh, repo, dir, Clock::manual(Utc::now())).await
    }

    async fn open(gh: StandIn, repo: Repository, dir: TempDir, clock: Clock) -> Self {
        let config = Config::load(&dir.path().join("benchd.yaml")).unwrap();
        let store = Store::open(&config.state_dir).await.unwrap();
        let context = Context {
            queue: Queue::new(store.clone(), clock.clone(), Pace::default()),
            store,
            github: Some(GitHub::timed(&config.github, clock.clone()).unwrap()),
            registry: Arc::new(Registry::new(RegistrySettings::configured(&config.registries).unwrap()).unwrap()),
            clock: clock.clone(),
            target: "cuda:X:2".parse().unwrap(),
            cache: dir.path().join("cache"),
            config: Arc::new(config),
        };
        let site = Site::serving(dir, context.clone()).await;
        Self { gh, repo, context, site, health: Health::new(clock.clone()), clock }
    }

    /// GitHub sends its events from now on.
    pub fn hooked(&self) {
        self.gh.webhook(&self.site.url("/webhook/github"), SECRET);
    }

    /// Everything that was sent is answered, and looked at.
    pub async fn hear(&self) -> Vec<LookAnswer> {
        self.gh.settled().await;
        self.take().await
    }

    /// Takes looks until none is due for two minutes.
    pub async fn take(&self) -> Vec<LookAnswer> {
        let (mut rest, mut answers) = (Rest::default(), Vec::new());
        for _ in 0..60 {
            self.pass(TimeDelta::seconds(2));
            for (look, looked) in take_due(&self.context, &self.health, &mut rest).await.unwrap() {
                match looked {
                    Looked::Answered(answer) => answers.push(answer),
                    Looked::Postponed { error, .. } => println!("{} {}: {error}", look.kind.as_str(), look.key),
                }
            }
        }
        answers
    }

    /// What no webhook told of is found.
    pub async fn reconcile(&self) -> Vec<String> {
        let repository = &self.context.config.repositories[0];
        reconcile_one(&self.context, repository).await.unwrap().marked.into_iter().collect()
    }

    /// It begins to follow the repository: what is there already is no news.
    pub async fn follow(&self) {
        self.reconcile().await;
        self.take().await;
        assert_eq!(self.runs().await, []);
    }

    /// What is in trouble.
    pub fn troubles(&self) -> Vec<Part> {
        self.health.troubles().into_iter().map(|trouble| trouble.part).collect()
    }

    /// Time passes here and there.
    pub fn pass(&self, by: TimeDelta) {
        self.clock.advance(by);
        self.gh.advance(by);
    }

    /// The command line against the server: its exit code and what it prints.
    pub async fn command(&self, args: &[&str]) -> (i32, String) {
        let mut command = crate::support::benchd();
        let token = self.site.dir.path().join("my-token");
        fs::write(&token, TOKEN).unwrap();
        command.args(args).env("BENCHD_SERVER", self.site.url("")).env("BENCHD_TOKEN_FILE", token);
        command.env("COLUMNS", "200").env("NO_COLOR", "1").env("NO_PROXY", "*");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    }

    /// All runs, oldest first.
    pub async fn runs(&self) -> Vec<RunRow> {
        let runs = self.context.store.list_runs(1000, &RunFilter::default()).await.unwrap();
        runs.into_iter().rev().map(|summary| summary.run).collect()
    }

    /// What was measured why, and how it stands.
    pub async fn measured(&self) -> Vec<(String, Trigger, RunPhase)> {
        self.runs().await.into_iter().map(|run| (run.sha.to_string(), run.trigger, run.state.phase())).collect()
    }

    /// Sends a delivery as GitHub would, with these differences.
    pub async fn send(&self, event: &str, id: &str, payload: &Value) -> Answer {
        let body = payload.to_string().into_bytes();
        let signed = signature(SECRET, &body);
        let headers = [("x-github-event", event), ("x-github-delivery", id), ("x-hub-signature-256", &signed)];
        self.post(&headers, "application/json", body).await
    }

    pub async fn post(&self, headers: &[(&str, &str)], media_type: &str, body: Vec<u8>) -> Answer {
        let mut request = self.site.client.post(self.site.url("/webhook/github")).header("content-type", media_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.body(body).send().await.unwrap()).await
    }
}
