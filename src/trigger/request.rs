//! From "measure this commit because of that" to a run's plan: the benchmarks as they are now, the jobs they make on
//! this host, and what the outside will be owed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::policy::{Budget, Fitted, fit};
use crate::config::{
    BenchmarksSource, ExpectedPoints, PublishTarget, RemoteService, RepositoryConfig, ScriptSource, SuiteConfig,
    SuiteFlavour, TriggerName,
};
use crate::model::{BranchName, CommitSha, ExpectedPoint, Platform, Priority, SuiteKind, Target, Trigger, Variant};
use crate::queue::RunPlan;
use crate::queue::planner::{Host, Needs, Plan, PlannedJob, Selection, plan};
use crate::queue::spec::{ImageOrder, JobSpec, Trust, UploadOrder};
use crate::store::{Commit, JobStart, NewJob, Owed, OwedKind, PullOrder, RunTerms, Scope};
use crate::suite::{Problem, Source, SourceError};

/// How often a job is tried when the infrastructure fails it, unless the caller says otherwise.
pub const DEFAULT_ATTEMPTS: u32 = 3;

/// Everything that decides what is measured.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The repository's configuration.
    pub repository: &'a RepositoryConfig,
    /// Branch that the commit is measured on.
    pub branch: BranchName,
    /// What stands in parentheses after the branch in records.
    pub local_branch: Option<String>,
    /// The commit.
    pub sha: CommitSha,
    /// The committer's date.
    pub committed_at: DateTime<Utc>,
    /// Number of ancestors along first parents of the branch, when known.
    pub position: Option<u32>,
    /// Why.
    pub trigger: Trigger,
    /// What the code may do.
    pub trust: Trust,
    /// An image given by a person instead of the configured rule.
    pub image: Option<String>,
    /// A clone that holds the commit.
    pub checkout: Option<PathBuf>,
    /// Which benchmarks.
    pub selection: Selection,
    /// One device of the host that will measure, and how many it has.
    pub target: Target,
    /// A service measured instead of the image's own server.
    pub remote: Option<&'a RemoteService>,
    /// Whether results go to the configured targets.
    pub publish: Publish,
    /// How long jobs wait for an image that is not built yet; `None` claims at once and fails without one.
    pub image_until: Option<DateTime<Utc>>,
    /// How often a job is tried when the infrastructure fails it.
    pub max_attempts: u32,
    /// How urgent a person says it is; `None` for what the trigger says.
    pub priority: Option<Priority>,
    /// How often the same benchmarks are measured, in a job each; only the first is published.
    pub repeats: u32,
    /// How much time it may take, and which benchmarks come first.
    pub budget: Budget,
    /// Variables for the suite besides the configured ones; they win.
    pub env: BTreeMap<String, String>,
    /// The commit it is to be held against, where somebody named one.
    pub baseline: Option<CommitSha>,
    /// Who asked, where known.
    pub asked_by: Option<String>,
}

/// Whether results leave the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// As configured, if the selection is the full one of its trigger.
    Configured,
    /// Even where the selection is partial, and over other results of the same commit.
    Asked,
    /// Never.
    Never,
}

/// What a selection comes to on one host.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// One for each model and device count.
    pub jobs: Vec<PlannedJob>,
    /// What was skipped and why, and which models are unknown; `None` for suites without benchmark files.
    pub plan: Option<Plan>,
    /// Faults of the benchmark files, which hide only the entries they are in.
    pub problems: Vec<Problem>,
}

/// What a request comes to.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The run to submit; without jobs there is nothing to do.
    pub run: RunPlan,
    /// What was skipped and why, and which models are unknown; `None` for suites without benchmark files.
    pub plan: Option<Plan>,
    /// Faults of the benchmark files, which hide only the entries they are in.
    pub problems: Vec<Problem>,
    /// Why results will not be published, when that is not what the configuration says.
    pub kept_back: Option<String>,
}

/// Why a request cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The benchmarks cannot be read.
    #[error("failed to read the benchmarks")]
    Benchmarks(#[from] SourceError),
    /// No rule says where the platform's images are.
    #[error("no image is configured for {platform}: set `repositories[].images.{platform}` or give --image")]
    NoImage {
        /// The platform.
        platform: crate::model::Platform,
    },
    /// A job's description cannot be written down.
    #[error("failed to write down a job")]
    Job(#[from] serde_json::Error),
}

impl RequestError {
    /// Whether the configuration or a benchmark file is at fault, rather than something outside.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoImage { .. } => true,
            Self::Benchmarks(error) => error.is_usage(),
            Self::Job(_) => false,
        }
    }
}

impl<'a> Request<'a> {
    /// A request for everything, published as configured, without a budget, that fails where there is no image.
    pub fn new(
        repository: &'a RepositoryConfig,
        branch: BranchName,
        sha: CommitSha,
        committed_at: DateTime<Utc>,
        trigger: Trigger,
        target: Target,
    ) -> Self {
        Self {
            repository,
            branch,
            local_branch: None,
            sha,
            committed_at,
            position: None,
            trigger,
            trust: Trust::Trusted,
            image: None,
            checkout: None,
            selection: Selection::default(),
            target,
            remote: None,
            publish: Publish::Configured,
            image_until: None,
            max_attempts: DEFAULT_ATTEMPTS,
            priority: None,
            repeats: 1,
            budget: Budget::default(),
            env: BTreeMap::new(),
            baseline: None,
            asked_by: None,
        }
    }

    /// Reads the benchmarks and makes the plan; nothing is stored yet. Benchmark repositories are cached in `cache`.
    ///
    /// # Errors
    /// When the benchmarks cannot be read or no image is configured for the platform.
    pub async fn plan(&self, cache: &Path) -> Result<Planned, RequestError> {
        let wanted = planned_jobs(self.repository, &self.selection, &self.target, cache).await?;
        let Wanted { jobs, plan, problems } = wanted;
        let Fitted { jobs, left_out } = fit(jobs, &self.budget);
        let scope = self.scope();
        let (mut owed, kept_back) = self.uploads(scope)?;
        owed.extend(self.conversations()?);
        let mut new_jobs = Vec::with_capacity(jobs.len());
        for job in jobs {
            for repeat in 1..=self.repeats.max(1) {
                new_jobs.push(self.new_job(job.clone(), repeat)?);
            }
        }
        let commit = Commit {
            repository: self.repository.name.clone(),
            sha: self.sha.clone(),
            first_parent: None,
            committed_at: Some(self.committed_at),
        };
        let run = RunPlan {
            commit,
            branch: self.branch.clone(),
            position: self.position,
            trigger: self.trigger.clone(),
            priority: self.priority,
            owed,
            terms: RunTerms { scope, left_out, baseline: self.baseline.clone(), asked_by: self.asked_by.clone() },
            jobs: new_jobs,
        };
        Ok(Planned { run, plan, problems, kept_back })
    }

    fn new_job(&self, planned: PlannedJob, repeat: u32) -> Result<NewJob, RequestError> {
        let platform = self.target.platform;
        let mut suite = SuiteConfig::clone(&self.repository.suite);
        suite.env.extend(self.env.clone());
        let image = match (&self.image, self.repository.image_source(platform)) {
            (Some(reference), _) => ImageOrder::Reference(reference.clone()),
            (None, Some(source)) => ImageOrder::Source(source.clone()),
            (None, None) => return Err(RequestError::NoImage { platform }),
        };
        let target = planned.target.on(&self.target.device_type);
        let model = planned.model.clone();
        let selection = planned.selection();
        let spec = JobSpec {
            repository: self.repository.name.clone(),
            branch: self.branch.clone(),
            local_branch: self.local_branch.clone(),
            sha: self.sha.clone(),
            committed_at: self.committed_at,
            trust: self.trust,
            image,
            pull: self.repository.images.pull,
            image_wait: self.repository.images.wait,
            takes_repository: self.takes_repository(platform),
            checkout: self.checkout.clone(),
            suite,
            benchmark_name: self.repository.publish.benchmark_name.clone(),
            planned,
            repeat,
        };
        Ok(NewJob {
            target,
            model,
            spec: serde_json::to_value(spec)?,
            selection,
            required: true,
            max_attempts: self.max_attempts,
            start: match self.image_until {
                Some(until) => JobStart::WaitingForImage { until },
                None => JobStart::Queued,
            },
        })
    }

    /// Whether scripts or sources come from the repository: as configured, or because the image is not the commit's.
    fn takes_repository(&self, platform: Platform) -> bool {
        let suite = &self.repository.suite;
        let template = self.repository.image_source(platform).and_then(|source| source.template(&self.branch));
        match (suite.scripts, suite.kind) {
            (ScriptSource::Repository, SuiteFlavour::Vllm | SuiteFlavour::Command) => true,
            (ScriptSource::Image, SuiteFlavour::Command) => template.is_some_and(|template| !template.names_commit()),
            (ScriptSource::Image, SuiteFlavour::Vllm) => false,
        }
    }

    /// Whether suites or variants are fewer than configured for the trigger.
    fn scope(&self) -> Scope {
        let configured = trigger_name(&self.trigger).map(|name| self.repository.selection.of(name));
        let (suites, variants) =
            configured.map_or((&[][..], &[][..]), |of| (of.suites.as_slice(), of.variants.as_slice()));
        if covers(&self.selection.suites, suites, &SuiteKind::ALL)
            // A selection with base has what a complete one is looked up by.
            && (self.selection.variants.contains(&Variant::Base)
                || covers(&self.selection.variants, variants, &Variant::ALL))
        {
            Scope::Full
        } else {
            Scope::Part
        }
    }

    /// What the pull request behind this request is owed when the run ends, however it ends.
    fn conversations(&self) -> Result<Vec<Owed>, RequestError> {
        let (Trigger::PullRequest { number } | Trigger::Command { number }) = self.trigger else {
            return Ok(Vec::new());
        };
        let report = &self.repository.report;
        let payload = serde_json::to_value(PullOrder { number })?;
        let wanted = [
            (report.comment, OwedKind::Comment, format!("#{number}")),
            (report.check, OwedKind::CheckRun, self.sha.to_string()),
        ];
        let owed = wanted.into_iter().filter(|(wanted, ..)| *wanted);
        Ok(owed.map(|(_, kind, subject)| Owed { kind, subject, payload: payload.clone() }).collect())
    }

    /// What every job that gives results owes, and why it owes less than configured.
    fn uploads(&self, scope: Scope) -> Result<(Vec<Owed>, Option<String>), RequestError> {
        let configured = &self.repository.publish;
        if configured.to.is_empty() {
            return Ok((Vec::new(), None));
        }
        let kept_back = match (self.publish, self.remote) {
            (Publish::Never, _) => Some("publishing was not wanted".to_owned()),
            (Publish::Configured | Publish::Asked, Some(remote)) if remote.commit.as_ref() != Some(&self.sha) => {
                Some("a remote service was measured, which is not stated to run this commit".to_owned())
            }
            (Publish::Configured, _) if scope == Scope::Part => {
                Some("only a part of the suite was selected".to_owned())
            }
            (Publish::Configured, _) if !trigger_name(&self.trigger).is_some_and(|t| configured.from.contains(&t)) => {
                Some(format!("runs of the trigger `{}` are not published", self.trigger.kind()))
            }
            (Publish::Configured | Publish::Asked, _) => None,
        };
        if kept_back.is_some() {
            return Ok((Vec::new(), kept_back));
        }
        let owed = configured.to.iter().map(|target| {
            let replace = self.publish == Publish::Asked;
            let payload = serde_json::to_value(UploadOrder { target: target.clone(), replace })?;
            Ok(Owed { kind: OwedKind::Upload, subject: subject_of(target), payload })
        });
        Ok((owed.collect::<Result<_, serde_json::Error>>()?, None))
    }
}

/// What would be measured on `target`, budget aside: the targets and models that there are to pick commits for.
///
/// # Errors
/// When the benchmarks cannot be read.
pub async fn planned_jobs(
    repository: &RepositoryConfig,
    selection: &Selection,
    target: &Target,
    cache: &Path,
) -> Result<Wanted, RequestError> {
    let expected = match (&repository.suite.configuration, &repository.suite.expected) {
        (Some(_), ExpectedPoints::Benchmarks) => None,
        (Some(_) | None, expected) => Some(expected),
    };
    if let Some(expected) = expected {
        let jobs = vec![command_job(repository, expected, target)];
        return Ok(Wanted { jobs, plan: None, problems: Vec::new() });
    }
    let source = match repository.benchmarks.clone() {
        BenchmarksSource::Folder(path) => Source::Directory(path),
        BenchmarksSource::Git { url, reference, path } => Source::Git { url, reference, path },
    };
    let set = source.read(target.platform, cache).await?;
    let host = Host { device_type: Some(target.device_type.clone()), devices: Some(target.count) };
    let plan = plan(&set, selection, &host);
    Ok(Wanted { jobs: plan.jobs.clone(), plan: Some(plan), problems: set.problems })
}

/// The one job of a suite that has no benchmark files: its command is run once, with all devices.
fn command_job(repository: &RepositoryConfig, expected: &ExpectedPoints, target: &Target) -> PlannedJob {
    let names = match expected {
        ExpectedPoints::Named(names) => names.as_slice(),
        ExpectedPoints::Any | ExpectedPoints::Benchmarks => &[],
    };
    let point = |name: &String| ExpectedPoint {
        suite: "command".to_owned(),
        benchmark: name.clone(),
        variant: Variant::Base,
        point: name.clone(),
        eager: false,
    };
    let model = repository.name.as_str().to_lowercase();
    PlannedJob {
        target: Needs { platform: target.platform, device_type: Some(target.device_type.clone()), count: target.count },
        model_name: model.clone(),
        model,
        points: names.iter().map(point).collect(),
        suite_files: Vec::new(),
    }
}

/// Whether a list of wanted things holds all that is configured; an empty list means `all` of them.
fn covers<T: PartialEq>(wanted: &[T], configured: &[T], all: &[T]) -> bool {
    let configured = if configured.is_empty() { all } else { configured };
    wanted.is_empty() || configured.iter().all(|one| wanted.contains(one))
}

/// What a target is called in the outbox.
fn subject_of(target: &PublishTarget) -> String {
    match (&target.url, &target.api) {
        (Some(url), _) => url.to_string(),
        (None, Some(api)) => api.url.to_string(),
        (None, None) => "nowhere".to_owned(),
    }
}

/// The configuration's name of a trigger; `None` for those that measure what the store keeps to itself.
pub fn trigger_name(trigger: &Trigger) -> Option<TriggerName> {
    match trigger {
        Trigger::Schedule => Some(TriggerName::Schedule),
        Trigger::PullRequest { .. } | Trigger::Command { .. } => Some(TriggerName::PullRequest),
        Trigger::Merge => Some(TriggerName::Merge),
        Trigger::Release { .. } => Some(TriggerName::Release),
        Trigger::Manual => Some(TriggerName::Manual),
        Trigger::Rerun { .. } | Trigger::Bisect | Trigger::AA | Trigger::Imported { .. } => None,
    }
}
