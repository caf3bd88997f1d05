//! What pull requests are told, with a real store, queue and client and the stand-in for GitHub: the life of a comment
//! and a check, and every fault that may come between.

mod faults;
mod life;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use benchd::clock::Clock;
use benchd::config::{Config, GithubApp, Packing};
use benchd::github::GitHub;
use benchd::health::{Health, Part};
use benchd::model::{
    CommitSha, Conclusion, DeviceId, ExpectedPoint, Measurement, PointState, Role, RunId, RunState, Target, Trigger,
    Variant, metric_kind,
};
use benchd::publish::tell::Teller;
use benchd::queue::slots::Inventory;
use benchd::queue::{
    AttemptEnd, ClaimOffer, ClaimedJob, Outcome, Pace, PassEnd, PassStart, PointOutcome, Queue, SeriesMeasurement,
    Submitted,
};
use benchd::step::Step;
use benchd::store::{Answer, AnswerKind, OwedKind, OwedState, PullRow, Store};
use benchd::trigger::{Planned, Request};
use chrono::TimeDelta;
use github_standin::{CommitSpec, PullRequest, PullSpec, Repository, StandIn};

fn target() -> Target {
    Target { platform: "cpu".parse().unwrap(), device_type: "Xeon_8488C_48c".parse().unwrap(), count: 1 }
}

/// As whom benchd speaks.
enum As {
    App,
    Token,
    Nobody,
}

/// One benchd and one pull request on GitHub.
struct Site {
    gh: StandIn,
    repo: Repository,
    pull: PullRequest,
    base: String,
    dir: tempfile::TempDir,
    config: Arc<Config>,
    store: Store,
    queue: Queue,
    clock: Clock,
    health: Health,
}

impl Site {
    async fn new() -> Self {
        Self::with(As::App, "").await
    }

    /// `more` is YAML of the repository's entry.
    async fn with(speaker: As, more: &str) -> Self {
        let gh = StandIn::start();
        let repo = gh.repository("o/r");
        let base = repo.commit("main", CommitSpec::new("first"));
        repo.commit("work", CommitSpec::new("faster"));
        let pull = repo.open(PullSpec::new("work").author("ann"));
        let dir = tempfile::tempdir().unwrap();
        let yaml = format!(
            "http: {{public_url: 'https://bench.example'}}\nrepositories:\n  - name: o/r\n    suite: {{kind: command, \
             command: ./bench.sh}}\n    images: {{cpu: 'r.example/i:{{sha}}'}}\n{more}"
        );
        let mut config = Config::parse(&yaml).unwrap();
        config.github.api_url = gh.url().parse().unwrap();
        config.github.write_interval = Duration::ZERO;
        match speaker {
            As::App => {
                let app = gh.install_app(4711, "benchd");
                let private_key_file = dir.path().join("app.pem");
                std::fs::write(&private_key_file, &app.private_key_pem).unwrap();
                config.github.app = Some(GithubApp { id: app.app_id, private_key_file, installation_id: None });
            }
            As::Token => {
                repo.permit("bench", github_standin::Role::Write);
                let token = dir.path().join("token");
                std::fs::write(&token, gh.personal_token("bench", &["repo"])).unwrap();
                config.github.token_file = Some(token);
            }
            As::Nobody => {}
        }
        // GitHub's resets are instants of its own clock.
        let clock = Clock::manual(gh.now());
        let store = Store::open(&dir.path().join("state")).await.unwrap();
        let queue = Queue::new(store.clone(), clock.clone(), Pace::default());
        let health = Health::new(clock.clone());
        Self { gh, repo, pull, base, dir, config: Arc::new(config), store, queue, clock, health }
    }

    /// A teller as after a start: it remembers nothing.
    fn teller(&self) -> Teller {
        let github = GitHub::timed(&self.config.github, self.clock.clone()).unwrap();
        let (store, queue) = (self.store.clone(), self.queue.clone());
        Teller::new(store, queue, github, self.config.clone(), self.health.clone(), self.clock.clone())
    }

    async fn tell(&self, teller: &Teller) {
        teller.tell_due(|| {}).await.unwrap();
    }

    fn head(&self) -> CommitSha {
        self.pull.head().parse().unwrap()
    }

    fn by_labels(&self) -> Trigger {
        Trigger::PullRequest { number: self.pull.number() }
    }

    async fn submit(&self, sha: &str, trigger: Trigger) -> RunId {
        let branch = match &trigger {
            Trigger::PullRequest { number } | Trigger::Command { number } => format!("pull/{number}/head"),
            _ => "main".to_owned(),
        };
        self.request(&branch, sha, trigger).await
    }

    /// A run of a commit of `branch`.
    async fn request(&self, branch: &str, sha: &str, trigger: Trigger) -> RunId {
        self.queued(&self.planned(branch, sha, trigger).await).await
    }

    async fn planned(&self, branch: &str, sha: &str, trigger: Trigger) -> Planned {
        let repository = &self.config.repositories[0];
        let (branch, sha) = (branch.parse().unwrap(), sha.parse().unwrap());
        let request = Request::new(repository, branch, sha, self.clock.now(), trigger, target());
        request.plan(&self.dir.path().join("cache")).await.unwrap()
    }

    async fn queued(&self, planned: &Planned) -> RunId {
        match self.queue.submit_run(&planned.run).await.unwrap() {
            Submitted::Run(run) => run,
            Submitted::NothingToDo => panic!("a suite of one command is one job"),
        }
    }

    async fn claim(&self) -> ClaimedJob {
        let Target { platform, device_type, .. } = target();
        let host = Inventory::new(platform, device_type, (0..4).map(DeviceId::from), Packing::Pack);
        let offer = ClaimOffer { by: "host".parse().unwrap(), host, busy: Vec::new(), run: None };
        self.queue.claim(&offer).await.unwrap().expect("a job is queued")
    }

    async fn begin(&self, job: &ClaimedJob, sha: &str) {
        let pass = PassStart {
            number: 1,
            role: Role::Candidate,
            sha: sha.parse().unwrap(),
            image: format!("r.example/i:{sha}"),
            digest: Some("sha256:00ff".into()),
            driver: Some("570.86.15".into()),
            container: serde_json::json!({}),
            repro_command: "docker run r.example/i@sha256:00ff ./bench.sh".into(),
        };
        assert_eq!(self.queue.begin_pass(&job.claim, &pass).await.unwrap(), Outcome::Performed);
    }

    async fn end(&self, job: &ClaimedJob, latency: f64) {
        let kind = metric_kind("avg_latency");
        let point = ExpectedPoint {
            suite: "command".into(),
            benchmark: "latency".into(),
            variant: Variant::Base,
            point: "latency".into(),
            eager: false,
        };
        let measurement = Measurement {
            benchmark: "latency".into(),
            point: "latency".into(),
            metric: "avg_latency".into(),
            unit: kind.unit.into(),
            better: kind.better,
            class: kind.class,
            values: vec![latency],
        };
        let configuration = "c0ffee".to_owned();
        let end = PassEnd {
            exit_code: Some(0),
            points: vec![PointOutcome { point, state: PointState::Ok, reason: None }],
            measurements: vec![SeriesMeasurement { variant: Variant::Base, configuration, measurement }],
        };
        assert_eq!(self.queue.end_pass(&job.claim, 1, &end).await.unwrap(), Outcome::Performed);
        self.finish(job, Conclusion::Success).await;
    }

    async fn finish(&self, job: &ClaimedJob, conclusion: Conclusion) {
        let end = AttemptEnd { conclusion, message: None, artifact_bytes: None };
        assert_eq!(self.queue.finish(&job.claim, &end).await.unwrap(), Outcome::Performed);
    }

    /// A whole run that measures `latency`.
    async fn whole_run(&self, sha: &str, trigger: Trigger, latency: f64) -> RunId {
        let run = self.submit(sha, trigger).await;
        self.measure(sha, latency).await;
        run
    }

    /// The next job measures `latency`.
    async fn measure(&self, sha: &str, latency: f64) {
        let job = self.claim().await;
        self.begin(&job, sha).await;
        self.end(&job, latency).await;
    }

    fn later(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
        self.gh.advance(TimeDelta::seconds(seconds));
    }

    async fn state(&self, run: RunId) -> RunState {
        self.store.run(run).await.unwrap().unwrap().state
    }

    /// How far a run's deliveries have come, by kind.
    async fn owed(&self, run: RunId, kind: OwedKind) -> Option<(OwedState, Option<String>)> {
        let rows = self.store.run_detail(run).await.unwrap().unwrap().outbox;
        rows.into_iter().find(|row| row.owed.kind == kind).map(|row| (row.state, row.last_error))
    }

    /// The comments that benchd wrote.
    fn comments(&self) -> Vec<String> {
        let own = |author: &str| ["benchd[bot]", "bench"].contains(&author);
        self.pull.comments().into_iter().filter(|c| own(&c.author)).map(|c| c.body).collect()
    }

    /// The one comment that benchd wrote.
    fn comment(&self) -> String {
        let comments = self.comments();
        assert_eq!(comments.len(), 1, "{comments:#?}");
        comments[0].clone()
    }

    /// Status and conclusion of a commit's only check run.
    fn check(&self, sha: &str) -> (String, Option<String>) {
        let checks = self.repo.check_runs(sha);
        assert_eq!(checks.len(), 1, "{checks:#?}");
        let text = |name: &str| checks[0][name].as_str().map(str::to_owned);
        (text("status").unwrap(), text("conclusion"))
    }

    fn trouble(&self) -> Option<String> {
        self.health.troubles().into_iter().find(|t| t.part == Part::Reports).map(|t| t.reason)
    }

    /// How the pull request was at a look now.
    fn seen(&self, standing: &str) -> PullRow {
        let now = self.clock.now();
        PullRow {
            repository: "o/r".parse().unwrap(),
            number: self.pull.number(),
            head: self.head(),
            head_seen_at: now,
            head_updated_at: now,
            labels: std::collections::BTreeSet::new(),
            standing: standing.parse().unwrap(),
            turned_at: now,
            origin: "own".parse().unwrap(),
            author: None,
            base_branch: "main".into(),
            said: None,
            said_count: 0,
            updated_at: now,
        }
    }

    async fn look(&self, pull: &PullRow) {
        let mut write = self.store.write(Step::MovePull).await.unwrap();
        write.record_pull(pull).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn owe(&self, key: &str, what: AnswerKind) {
        let answer = Answer { repository: "o/r".parse().unwrap(), number: self.pull.number(), key: key.into(), what };
        let mut write = self.store.write(Step::AnswerCommand).await.unwrap();
        let _recorded = write.owe_answer(&answer, self.clock.now()).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn answers(&self) -> Vec<OwedState> {
        let answers = self.store.answers(&"o/r".parse().unwrap(), self.pull.number()).await.unwrap();
        answers.into_iter().map(|answer| answer.state).collect()
    }
}

/// The same state directory, opened as after a kill.
async fn reopened(dir: &Path) -> Store {
    Store::open(&dir.join("state")).await.unwrap()
}
