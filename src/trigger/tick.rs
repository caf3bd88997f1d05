//! One tick of a schedule, answered: for every branch and model the newest unmeasured commit, one run for each commit
//! that was found, and the answer written down in the same transaction as the runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Context;
use super::pick::{InHand, Outcome as Picked, Pick, Picker};
use super::policy::{Budget, selection_of, wants_target};
use super::request::{DEFAULT_ATTEMPTS, Publish, Request, planned_jobs};
use super::source::{Candidate, CommitSource};
use crate::config::{RepositoryConfig, TriggerName};
use crate::model::{BranchName, CommitSha, Control, RunId, Trigger};
use crate::queue::planner::Selection;
use crate::queue::{RunPlan, Submitted};
use crate::step::Step;
use crate::store::{BranchCommit, Outcome, StoreError, TickKey, TickRow};

/// Wait before a tick that could not be answered is tried again; it doubles.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The longest such wait.
const RETRY_AT_MOST: Duration = Duration::from_secs(30 * 60);

/// How many jobs of a model a recorded duration is averaged over.
pub const AVERAGED_JOBS: u32 = 5;

/// What a tick came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Why nothing was looked for, when that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<String>,
    /// Runs that were submitted.
    pub runs: Vec<SubmittedRun>,
    /// Models without a commit to measure.
    pub nothing_new: Vec<NothingNew>,
    /// What could not be said; the tick is tried again because of it.
    pub unknown: Vec<Unknown>,
}

/// A run that a tick submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubmittedRun {
    /// The run.
    pub run: RunId,
    /// Its branch.
    pub branch: BranchName,
    /// Its commit.
    pub sha: CommitSha,
    /// Its models.
    pub models: BTreeSet<String>,
}

/// A model without a commit to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NothingNew {
    /// On which branch.
    pub branch: BranchName,
    /// The model.
    pub model: String,
    /// How many devices.
    pub count: u32,
    /// The commit that is being measured already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_hand: Option<InHand>,
}

/// Something that could not be said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unknown {
    /// Of which branch, where it was not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchName>,
    /// Of which model, where it was not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// On how many devices, where it was not everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Because of which commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<CommitSha>,
    /// What was said instead.
    pub error: String,
}

/// What became of a tick.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// It is settled.
    Settled(Answer),
    /// Something could not be said: it is tried again.
    TriedAgain(Answer),
    /// Somebody else has settled it meanwhile; nothing was submitted.
    Moved,
}

/// Models and device counts by the commit that was found for them, those apart whose own results are to be replaced.
type Found = BTreeMap<(CommitSha, bool), BTreeSet<(String, u32)>>;

/// What one run is to measure.
struct Group<'a> {
    branch: &'a BranchName,
    commit: &'a Candidate,
    publish: Publish,
    wanted: BTreeSet<(String, u32)>,
}

/// Everything that is to be written.
#[derive(Default)]
struct Draft {
    answer: Answer,
    plans: Vec<(RunPlan, BTreeSet<String>)>,
    /// The newest commits of each branch, newest first.
    branches: Vec<(BranchName, Vec<BranchCommit>)>,
}

/// Answers a due tick.
///
/// # Errors
/// Only when the store fails; everything else is an answer.
pub async fn answer_tick(context: &Context, tick: &TickRow) -> Result<Answered, StoreError> {
    let key = &tick.key;
    let before: Answer = tick.answer.as_ref().and_then(|answer| Answer::deserialize(answer).ok()).unwrap_or_default();
    let passed = |why, answer: Answer| Draft { answer: Answer { passed: Some(why), ..answer }, ..Draft::default() };
    let draft = match (context.queue.pause_of(&Control::Triggers).await?, context.repository(Some(&key.repository))) {
        // What could not be said before is still to be said when triggers are resumed.
        (Some(pause), _) => passed(pause.to_string(), before),
        (None, Err(error)) => passed(error.to_string(), before.said()),
        (None, Ok(repository)) => draft(context, repository, &before).await?,
    };
    write_down(context, key, tick.attempts, draft).await
}

/// The answer to a tick that was answered in part `before`: what was said then stays said.
async fn draft(context: &Context, repository: &RepositoryConfig, before: &Answer) -> Result<Draft, StoreError> {
    let mut draft = Draft { answer: before.clone().said(), ..Draft::default() };
    let configured = &repository.selection.schedule;
    if !wants_target(&configured.targets, &context.target) {
        draft.answer.passed = Some(format!("{} is not selected for the schedule", context.target));
        return Ok(draft);
    }
    let selection = match context.told_file_names() {
        Ok(file_names) => Selection { file_names, ..selection_of(configured) },
        Err(error) => return Ok(draft.unknown(None, &error)),
    };
    let wanted = planned_jobs(repository, &selection, &context.target, &context.cache).await;
    let (source, wanted) = match (CommitSource::of(context, repository), wanted) {
        (Ok(source), Ok(wanted)) => (source, wanted),
        (Err(error), _) => return Ok(draft.unknown(None, &error)),
        (Ok(_), Err(error)) => return Ok(draft.unknown(None, &error)),
    };
    for branch in repository.branch.iter().filter(|branch| before.leaves_open(branch, None)) {
        let (store, registry) = (Some(&context.store), &context.registry);
        let platform = context.target.platform;
        let mut picker = match Picker::open(store, registry, repository, &source, branch.clone(), platform).await {
            Ok(picker) => picker,
            Err(error) => {
                draft = draft.unknown(Some(branch), &error);
                continue;
            }
        };
        let mut found = Found::new();
        for job in wanted.jobs.iter().filter(|job| before.leaves_open(branch, Some((&job.model, job.target.count)))) {
            match picker.pick(&job.target.on(&context.target.device_type), &job.model).await {
                Err(error) => draft.answer.unknown.push(Unknown {
                    branch: Some(branch.clone()),
                    model: Some(job.model.clone()),
                    count: Some(job.target.count),
                    sha: None,
                    error: crate::health::with_causes(&error),
                }),
                Ok(pick) => draft.take(branch, pick, &mut found),
            }
        }
        draft.branches.push((branch.clone(), picker.branch().commits.iter().map(BranchCommit::from).collect()));
        for commit in &picker.branch().commits {
            for publish in [Publish::Configured, Publish::Asked] {
                let Some(wanted) = found.remove(&(commit.sha.clone(), publish == Publish::Asked)) else { continue };
                let group = Group { branch, commit, publish, wanted };
                draft.plan(context, repository, &selection, group).await?;
            }
        }
    }
    Ok(draft)
}

impl Answer {
    /// The part that stays said.
    fn said(self) -> Self {
        Self { passed: None, unknown: Vec::new(), ..self }
    }

    /// Whether a branch (or a model with a device count on it) is still to be looked at: all are the first time, and
    /// later those that nothing could be said of.
    fn leaves_open(&self, branch: &BranchName, job: Option<(&str, u32)>) -> bool {
        let covers = |unknown: &Unknown| {
            unknown.branch.as_ref().is_none_or(|of| of == branch)
                && job.is_none_or(|(model, count)| {
                    unknown.model.as_ref().is_none_or(|of| of == model) && unknown.count.is_none_or(|of| of == count)
                })
        };
        self.unknown.is_empty() || self.unknown.iter().any(covers)
    }
}

impl Draft {
    fn unknown(mut self, branch: Option<&BranchName>, error: &dyn std::error::Error) -> Self {
        let error = crate::health::with_causes(error);
        self.answer.unknown.push(Unknown { branch: branch.cloned(), model: None, count: None, sha: None, error });
        self
    }

    fn take(&mut self, branch: &BranchName, pick: Pick, found: &mut Found) {
        let Pick { target, model, outcome, .. } = pick;
        match outcome {
            Picked::Found { sha, replaces_own, .. } => {
                found.entry((sha, replaces_own)).or_default().insert((model, target.count));
            }
            Picked::NothingNew { in_hand } => {
                let (branch, count) = (branch.clone(), target.count);
                self.answer.nothing_new.push(NothingNew { branch, model, count, in_hand });
            }
            Picked::Unknown { sha, error } => {
                let (branch, model, count) = (Some(branch.clone()), Some(model), Some(target.count));
                self.answer.unknown.push(Unknown { branch, model, count, sha: Some(sha), error });
            }
        }
    }

    /// The run of one commit with the models and device counts it was picked for.
    async fn plan(
        &mut self,
        context: &Context,
        repository: &RepositoryConfig,
        selection: &Selection,
        group: Group<'_>,
    ) -> Result<(), StoreError> {
        let Group { branch, commit, publish, wanted } = group;
        let configured = repository.selection.of(TriggerName::Schedule);
        let recorded = context.store.point_durations(&repository.name, &context.target, AVERAGED_JOBS).await?;
        let models = wanted.iter().map(|(model, _)| model.clone()).collect::<BTreeSet<_>>();
        let mut selection = selection.clone();
        if repository.suite.configuration.is_some() {
            selection.models = models.iter().cloned().collect();
        }
        let request = Request {
            position: commit.position,
            checkout: repository.checkout.clone(),
            selection,
            remote: context.config.execution.remote.as_ref(),
            publish,
            max_attempts: DEFAULT_ATTEMPTS,
            budget: Budget { limit: configured.budget, canary: configured.canary.clone(), recorded },
            ..Request::new(
                repository,
                branch.clone(),
                commit.sha.clone(),
                commit.committed_at,
                Trigger::Schedule,
                context.target.clone(),
            )
        };
        match request.plan(&context.cache).await {
            Err(error) => {
                let error = crate::health::with_causes(&error);
                let unknown = |(model, count)| Unknown {
                    branch: Some(branch.clone()),
                    model: Some(model),
                    count: Some(count),
                    sha: Some(commit.sha.clone()),
                    error: error.clone(),
                };
                self.answer.unknown.extend(wanted.into_iter().map(unknown));
            }
            Ok(planned) => {
                let mut plan = planned.run;
                plan.commit.first_parent.clone_from(&commit.first_parent);
                plan.jobs.retain(|job| wanted.contains(&(job.model.clone(), job.target.count)));
                self.plans.push((plan, models));
            }
        }
        Ok(())
    }
}

/// Runs, and the answer that names them, in one transaction: after a crash either both are there or neither.
async fn write_down(context: &Context, key: &TickKey, attempts: u32, draft: Draft) -> Result<Answered, StoreError> {
    let Draft { mut answer, plans, branches } = draft;
    let now = context.clock.now();
    let mut write = context.store.write(Step::AnswerTick).await?;
    for (branch, commits) in &branches {
        // Also where nothing is submitted: the next look finds commits that it knows.
        write.place_stretch(&key.repository, branch, commits).await?;
    }
    for (plan, models) in plans {
        if let Submitted::Run(run) = context.queue.submit_within(&mut write, &plan).await? {
            let (branch, sha) = (plan.branch, plan.commit.sha);
            answer.runs.push(SubmittedRun { run, branch, sha, models });
        }
    }
    let written = serde_json::to_value(&answer).unwrap_or_default();
    let outcome = if answer.unknown.is_empty() {
        write.answer_tick(key, &written, now).await?
    } else {
        let wait = RETRY_AFTER.saturating_mul(1 << attempts.min(16)).min(RETRY_AT_MOST);
        write.postpone_tick(key, &written, now + wait).await?
    };
    match outcome {
        Outcome::Moved => Ok(Answered::Moved),
        Outcome::Performed => {
            write.commit().await?;
            let settled = answer.unknown.is_empty();
            Ok(if settled { Answered::Settled(answer) } else { Answered::TriedAgain(answer) })
        }
    }
}
