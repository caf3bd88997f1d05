//! The queue's verbs: submit a run, claim its jobs, keep the claim, hand in passes, finish, settle. Each is one write
//! of the store; whoever executes jobs has no other door to them.

mod claim;
mod configuration;
mod control;
mod end;
pub mod place;
pub mod planner;
mod rank;
mod settle;
pub mod slots;
pub mod spec;
mod waiting;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::model::{BranchName, Priority, RunId, RunPhase, RunState, Trigger};
use crate::step::Step;
use crate::store::{BranchCommit, Commit, NewJob, NewRun, Owed, RunTerms, Store, StoreError, Write};

pub use crate::store::{
    AttemptEnd, Claim, ClaimedJob, Heartbeat, Outcome, PassEnd, PassStart, PointOutcome, SeriesMeasurement,
};
pub use claim::ClaimOffer;
pub use configuration::configurations;
pub use end::{Cancelled, Rerun, Retried, RunningJobs};
pub use rank::{POINT, Rank, rank};
pub use settle::{Fate, RunEnd, Settled, end_of_run, fate};
pub use waiting::{LOOK_AT_LEAST_EVERY, Waiting, given_up, next_look};

/// The queue of one store.
#[derive(Clone, Debug)]
pub struct Queue {
    store: Store,
    clock: Clock,
    pace: Pace,
    watch: Arc<Mutex<settle::Watch>>,
}

/// How long things take in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a claim holds without a heartbeat. Default: 2 minutes.
    pub lease_for: Duration,
    /// How long a job waits after its first fault of infrastructure; twice as long after each further one.
    /// Default: 1 minute.
    pub backoff_after: Duration,
    /// The longest such wait. Default: 1 hour.
    pub backoff_at_most: Duration,
}

/// A commit to measure, with the jobs that were planned for it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan {
    /// The commit.
    pub commit: Commit,
    /// The branch it is measured on.
    pub branch: BranchName,
    /// The commit's number of ancestors along first parents of the branch, where somebody counted them.
    pub position: Option<u32>,
    /// Why.
    pub trigger: Trigger,
    /// How urgent a person says it is; `None` for what the trigger says.
    pub priority: Option<Priority>,
    /// What the outside is owed: uploads by every job that gave results, the rest when the run ends, however it ends.
    pub owed: Vec<Owed>,
    /// What it is accepted under.
    pub terms: RunTerms,
    /// The jobs.
    pub jobs: Vec<NewJob>,
}

/// What became of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Submitted {
    /// Its jobs stand in the queue.
    Run(RunId),
    /// It holds no job: nothing was written.
    NothingToDo,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            lease_for: Duration::from_secs(120),
            backoff_after: Duration::from_secs(60),
            backoff_at_most: Duration::from_secs(3600),
        }
    }
}

impl Queue {
    /// The queue of `store`.
    pub fn new(store: Store, clock: Clock, pace: Pace) -> Self {
        Self { store, clock, pace, watch: Arc::default() }
    }

    /// Writes down a run with all its jobs, or nothing.
    pub async fn submit_run(&self, plan: &RunPlan) -> Result<Submitted, StoreError> {
        let mut write = self.store.write(Step::SubmitRun).await?;
        let submitted = self.submit_within(&mut write, plan).await?;
        write.commit().await?;
        Ok(submitted)
    }

    /// [`Queue::submit_run`] as a part of a larger write, which its caller commits.
    pub async fn submit_within(&self, write: &mut Write, plan: &RunPlan) -> Result<Submitted, StoreError> {
        if plan.jobs.is_empty() {
            return Ok(Submitted::NothingToDo);
        }
        let now = self.clock.now();
        let Commit { repository, sha, .. } = &plan.commit;
        write.record_commit(&plan.commit).await?;
        if let (Some(_), Some(committed_at)) = (plan.position, plan.commit.committed_at) {
            let first_parent = plan.commit.first_parent.clone();
            let commit = BranchCommit { sha: sha.clone(), committed_at, first_parent, position: plan.position };
            write.place_stretch(repository, &plan.branch, &[commit]).await?;
        }
        let run = NewRun {
            repository: repository.clone(),
            sha: sha.clone(),
            branch: plan.branch.clone(),
            trigger: plan.trigger.clone(),
            priority: plan.priority,
            owed: plan.owed.clone(),
            terms: plan.terms.clone(),
        };
        let run = write.insert_run(&run, now).await?;
        for job in &plan.jobs {
            write.insert_job(run, job, now).await?;
        }
        // Nobody else can have seen the run: the move is made.
        let _performed = write.move_run(run, RunPhase::Requested, RunState::Queued, now).await?;
        tracing::info!(run.id = %run, commit.sha = %sha, "submitting a run with {} jobs", plan.jobs.len());
        Ok(Submitted::Run(run))
    }
}

#[cfg(test)]
mod tests;
