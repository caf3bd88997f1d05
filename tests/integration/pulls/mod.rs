//! Pull requests and commands with the stand-in GitHub on the wire and the real store and queue; nothing is executed.

mod commands;
mod forks;
mod labels;
mod shuffled;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use benchd::clock::Clock;
use benchd::config::{Config, Packing};
use benchd::github::GitHub;
use benchd::health::Health;
use benchd::model::{DeviceId, JobState, Role as Side, RunId, RunPhase};
use benchd::queue::slots::Inventory;
use benchd::queue::spec::JobSpec;
use benchd::queue::{ClaimOffer, ClaimedJob, Outcome, Pace, PassStart, Queue};
use benchd::registry::{Registry, RegistrySettings};
use benchd::step::Step;
use benchd::store::{AnswerKind, LookKind, Mark, PullRun, Store};
use benchd::trigger::Context;
use benchd::trigger::delivery::{Envelope, accept};
use benchd::trigger::looks::{LookAnswer, Looked, Rest, take_due};
use benchd::trigger::reconcile::reconcile_one;
use chrono::{DateTime, TimeDelta, Utc};
use github_standin::{CommitSpec, Delivery, PullRequest, PullSpec, Repository, Role, StandIn};
use serde_json::json;
use tempfile::TempDir;

pub const REPO: &str = "o/r";
const BOTH: [&str; 2] = ["perf-benchmarks", "ready"];

/// A benchd that follows one repository: everything but executing and telling.
pub struct House {
    pub gh: StandIn,
    pub repo: Repository,
    pub context: Context,
    pub clock: Clock,
    health: Health,
    dir: TempDir,
}

fn start() -> DateTime<Utc> {
    "2026-11-24T01:00:00Z".parse().unwrap()
}

impl House {
    /// With `more` keys of `triggers.pull_request`.
    pub async fn new(more: &str) -> Self {
        let gh = StandIn::start();
        let repo = gh.repository(REPO);
        repo.commit("main", CommitSpec::new("first").files(&["setup.py"]));
        repo.permit("ann", Role::Write);
        repo.permit("tess", Role::Triage);
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("benchmarks/cuda");
        fs::create_dir_all(&folder).unwrap();
        let test = |model: &str| json!({"test_name": format!("latency_{model}"), "parameters": {"model": model, "tensor_parallel_size": 1}});
        fs::write(folder.join("latency-tests.json"), json!([test("m"), test("n")]).to_string()).unwrap();
        let quiet = if more.contains("quiet_for") { "" } else { "quiet_for: 0s, " };
        let config = format!(
            "state_dir: state\ngithub: {{api_url: '{}'}}\nrepositories:\n  - name: {REPO}\n    images: {{cuda: \
             'images/r:{{sha}}'}}\n    triggers:\n      pull_request: {{{quiet}{more}}}\n",
            gh.url(),
        );
        fs::write(dir.path().join("benchd.yaml"), config).unwrap();
        let config = Arc::new(Config::load(&dir.path().join("benchd.yaml")).unwrap());
        let clock = Clock::manual(start());
        let context = Self::context(&gh, &config, &clock, &dir).await;
        Self { gh, repo, context, health: Health::new(clock.clone()), clock, dir }
    }

    async fn context(gh: &StandIn, config: &Arc<Config>, clock: &Clock, dir: &TempDir) -> Context {
        let store = Store::open(&dir.path().join("state")).await.unwrap();
        let token = gh.personal_token("bench", &["repo"]);
        Context {
            queue: Queue::new(store.clone(), clock.clone(), Pace::default()),
            store,
            github: Some(GitHub::connect(gh.url(), Some(token.into())).unwrap()),
            registry: Arc::new(Registry::new(RegistrySettings::configured(&config.registries).unwrap()).unwrap()),
            clock: clock.clone(),
            target: "cuda:X:2".parse().unwrap(),
            cache: dir.path().join("cache"),
            config: config.clone(),
        }
    }

    /// The same state directory, opened anew.
    pub async fn restarted(&mut self) {
        self.context.store.close().await;
        self.context = Self::context(&self.gh, &self.context.config.clone(), &self.clock, &self.dir).await;
    }

    /// A pull request from a branch of the repository.
    pub fn own(&self) -> PullRequest {
        self.repo.commit("work", CommitSpec::new("faster").files(&["a.py"]));
        self.repo.open(PullSpec::new("work").author("bob"))
    }

    /// A pull request from a fork.
    pub fn by_fork(&self) -> (Repository, PullRequest) {
        let fork = self.repo.fork("eve");
        fork.commit("patch", CommitSpec::new("faster").files(&["a.py"]));
        let pull = self.repo.open(PullSpec::new("patch").from_fork(&fork).author("eve"));
        (fork, pull)
    }

    /// A webhook delivery arrives.
    pub async fn deliver(&self, delivery: &Delivery) {
        let envelope = Envelope { id: &delivery.guid, event: &delivery.event, body: delivery.body.as_bytes() };
        let _accepted = accept(&self.context, envelope).await.unwrap();
    }

    /// Everything that GitHub has to tell arrives, and is looked at.
    pub async fn hear(&self) -> Vec<LookAnswer> {
        for delivery in self.gh.deliveries() {
            self.deliver(&delivery).await;
        }
        self.take().await
    }

    /// The pull request is looked at because time has come, without any webhook.
    pub async fn reconcile(&self, pull: &PullRequest) -> Vec<LookAnswer> {
        let now = self.clock.now();
        let mut write = self.context.store.write(Step::MarkFound).await.unwrap();
        let mark = Mark::at_once(&REPO.parse().unwrap(), LookKind::Pull, pull.number(), "reconcile", now);
        write.look_at(&mark, now).await.unwrap();
        write.commit().await.unwrap();
        self.take().await
    }

    /// What has changed is found without any webhook, and looked at.
    pub async fn found(&self) -> Vec<LookAnswer> {
        reconcile_one(&self.context, &self.context.config.repositories[0]).await.unwrap();
        self.take().await
    }

    /// Takes looks until none is due within half a minute.
    pub async fn take(&self) -> Vec<LookAnswer> {
        let (mut rest, mut answers) = (Rest::default(), Vec::new());
        for _ in 0..15 {
            self.clock.advance(TimeDelta::seconds(2));
            self.gh.advance(TimeDelta::seconds(2));
            for (look, looked) in take_due(&self.context, &self.health, &mut rest).await.unwrap() {
                match looked {
                    Looked::Answered(answer) => answers.push(answer),
                    Looked::Postponed { error, .. } => eprintln!("{} {}: {error}", look.kind.as_str(), look.key),
                }
            }
        }
        answers
    }

    pub async fn pull_runs(&self, pull: &PullRequest) -> Vec<PullRun> {
        self.context.store.pull_runs(&REPO.parse().unwrap(), pull.number()).await.unwrap()
    }

    /// The runs of a pull request as the head they measure and how they stand.
    pub async fn runs(&self, pull: &PullRequest) -> Vec<(String, RunPhase)> {
        let runs = self.pull_runs(pull).await;
        runs.into_iter().map(|run| (run.run.sha.to_string(), run.run.state.phase())).collect()
    }

    pub async fn spec(&self, run: RunId) -> JobSpec {
        let jobs = self.context.store.jobs_of_run(run).await.unwrap();
        serde_json::from_value(jobs[0].spec.clone()).unwrap()
    }

    /// What was answered: quiet checks by title, reactions and replies.
    pub async fn told(&self, pull: &PullRequest) -> Vec<String> {
        let rows = self.context.store.answers(&REPO.parse().unwrap(), pull.number()).await.unwrap();
        rows.into_iter()
            .map(|row| match row.answer.what {
                AnswerKind::Reaction { content, .. } => content.as_str().to_owned(),
                AnswerKind::Reply { text } => text,
                AnswerKind::Check { title, .. } => format!("check: {title}"),
            })
            .collect()
    }

    /// The images of all waiting jobs are there.
    pub async fn build_images(&self) {
        for job in self.context.store.unfinished_jobs().await.unwrap() {
            if matches!(job.state, JobState::WaitingForImage { .. }) {
                assert_eq!(self.context.queue.image_found(job.id).await.unwrap(), Outcome::Performed);
            }
        }
    }

    /// A runner begins the next job.
    pub async fn begin(&self) -> ClaimedJob {
        self.build_images().await;
        let host = Inventory::new(
            self.context.target.platform,
            self.context.target.device_type.clone(),
            (0..2).map(DeviceId::from),
            Packing::Pack,
        );
        let offer = ClaimOffer { by: "gpu-1".parse().unwrap(), host, busy: Vec::new(), run: None };
        let claimed = self.context.queue.claim(&offer).await.unwrap().expect("a job waits");
        let spec: JobSpec = serde_json::from_value(claimed.job.spec.clone()).unwrap();
        let pass = PassStart {
            number: 1,
            role: Side::Candidate,
            sha: spec.sha,
            image: "images/r".to_owned(),
            digest: None,
            driver: None,
            container: json!({}),
            repro_command: String::new(),
        };
        assert_eq!(self.context.queue.begin_pass(&claimed.claim, &pass).await.unwrap(), Outcome::Performed);
        claimed
    }

    /// Every waiting job fails, so that all runs end.
    pub async fn end_all(&self) {
        while !self.context.store.unfinished_jobs().await.unwrap().is_empty() {
            let claimed = self.begin().await;
            let end = benchd::queue::AttemptEnd {
                conclusion: benchd::model::Conclusion::Failure(benchd::model::FailureKind::NoResults),
                message: None,
                artifact_bytes: None,
            };
            assert_eq!(self.context.queue.finish(&claimed.claim, &end).await.unwrap(), Outcome::Performed);
        }
    }

    /// How many runs there are for each head that are not withdrawn and that labels started.
    pub async fn by_labels(&self, pull: &PullRequest) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for run in self.pull_runs(pull).await {
            if run.withdrawn_at.is_none() && run.asked == benchd::model::Asked::Labels {
                *counted.entry(run.run.sha.to_string()).or_default() += 1;
            }
        }
        counted
    }
}

/// Sets all labels.
pub fn label_both(pull: &PullRequest) {
    for label in BOTH {
        pull.label(label);
    }
}
