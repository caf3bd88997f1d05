//! What a person or a newer request does to runs: cancel, supersede, retry, rerun. Each is one write, and each answers
//! what it found, so that asking twice does no harm.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::settle::{end_claimed, finished, owe_uploads};
use super::spec::image_wait;
use super::{AttemptEnd, Claim, Outcome, Queue};
use crate::model::{Conclusion, FailureKind, JobId, JobPhase, JobState, RunId, RunPhase, RunState, Trigger};
use crate::step::Step;
use crate::store::{JobRow, JobStart, NewJob, NewRun, StoreError, Write};

/// What became of a wish to cancel or supersede.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "cancelled", rename_all = "snake_case")]
#[must_use]
pub enum Cancelled {
    /// So many jobs were ended.
    Jobs {
        /// How many.
        count: u32,
    },
    /// It had ended before.
    AlreadyEnded,
    /// There is no such run or job.
    Unknown,
}

/// What becomes of the jobs of a superseded run that have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunningJobs {
    /// They are stopped.
    Stop,
    /// They go on; only those that wait are ended.
    Finish,
}

/// What became of a wish to try the failed jobs of a run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "retried", rename_all = "snake_case")]
#[must_use]
pub enum Retried {
    /// These jobs wait again, with all their attempts.
    Jobs {
        /// Which.
        jobs: Vec<JobId>,
    },
    /// No job of it has ended without results.
    NothingFailed,
    /// A newer request took its place.
    Superseded {
        /// Which, where it is known.
        by: Option<RunId>,
    },
    /// There is no such run.
    Unknown,
}

/// What became of a wish to run a commit once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "rerun", rename_all = "snake_case")]
#[must_use]
pub enum Rerun {
    /// The new run.
    Run {
        /// Its id.
        run: RunId,
    },
    /// It was read from published objects: nobody here knows how it was measured.
    Imported,
    /// There is no such run.
    Unknown,
}

impl Queue {
    /// Ends every job of a run that has not finished, for the reason `why` ("cancelled by alice"); their runners learn
    /// it by their next heartbeat. What was measured stays.
    pub async fn cancel(&self, run: RunId, why: &str) -> Result<Cancelled, StoreError> {
        let mut write = self.store.write(Step::CancelRun).await?;
        let cancelled = self.cancel_within(&mut write, run, why).await?;
        write.commit().await?;
        Ok(cancelled)
    }

    /// [`Queue::cancel`] as a part of a larger write, which its caller commits.
    pub async fn cancel_within(&self, write: &mut Write, run: RunId, why: &str) -> Result<Cancelled, StoreError> {
        let Some(row) = write.run(run).await? else { return Ok(Cancelled::Unknown) };
        let now = self.clock.now();
        Ok(match row.state {
            // Planned and queued in one write: there is nothing to end but the run.
            RunState::Requested => {
                let _performed = write.move_run(run, RunPhase::Requested, RunState::Cancelled, now).await?;
                Cancelled::Jobs { count: 0 }
            }
            RunState::Queued | RunState::Running | RunState::Measured => {
                self.end_jobs(write, run, &Conclusion::Cancelled, why, RunningJobs::Stop, now).await?
            }
            RunState::Published | RunState::Failed(_) | RunState::Cancelled | RunState::Superseded => {
                Cancelled::AlreadyEnded
            }
        })
    }

    /// Ends one job of a run; the others go on.
    pub async fn cancel_job(&self, job: JobId, why: &str) -> Result<Cancelled, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::CancelJob).await?;
        let Some(job) = write.job(job).await? else { return Ok(Cancelled::Unknown) };
        if job.state.phase() == JobPhase::Finished {
            return Ok(Cancelled::AlreadyEnded);
        }
        end_job(&mut write, &job, &Conclusion::Cancelled, why, now).await?;
        self.settle_run(&mut write, job.run, now).await?;
        write.commit().await?;
        Ok(Cancelled::Jobs { count: 1 })
    }

    /// Lets run `by` take the place of `run`: what waits ends as superseded, what runs as `running` says. A superseded
    /// run is never retried.
    pub async fn supersede(&self, run: RunId, by: RunId, running: RunningJobs) -> Result<Cancelled, StoreError> {
        let mut write = self.store.write(Step::SupersedeRun).await?;
        let cancelled = self.supersede_within(&mut write, run, by, running).await?;
        write.commit().await?;
        Ok(cancelled)
    }

    /// [`Queue::supersede`] as a part of a larger write, which its caller commits.
    pub async fn supersede_within(
        &self,
        write: &mut Write,
        run: RunId,
        by: RunId,
        running: RunningJobs,
    ) -> Result<Cancelled, StoreError> {
        let (Some(row), Some(_)) = (write.run(run).await?, write.run(by).await?) else {
            return Ok(Cancelled::Unknown);
        };
        if row.state.phase().is_final() || row.state == RunState::Measured || run == by {
            return Ok(Cancelled::AlreadyEnded);
        }
        let now = self.clock.now();
        // Whoever came first stands beside it.
        let _either = write.supersede_run(run, by).await?;
        let why = format!("run {by} took its place");
        self.end_jobs(write, run, &Conclusion::Superseded, &why, running, now).await
    }

    /// Queues the jobs of a run again that ended without results, each with all its attempts. What measured something
    /// is not touched: to measure it once more is a rerun.
    pub async fn retry(&self, run: RunId) -> Result<Retried, StoreError> {
        let mut write = self.store.write(Step::RetryRun).await?;
        let retried = self.retry_within(&mut write, run).await?;
        write.commit().await?;
        Ok(retried)
    }

    /// [`Queue::retry`] as a part of a larger write, which its caller commits.
    pub async fn retry_within(&self, write: &mut Write, run: RunId) -> Result<Retried, StoreError> {
        let now = self.clock.now();
        let Some(row) = write.run(run).await? else { return Ok(Retried::Unknown) };
        if row.state == RunState::Superseded || row.superseded_by.is_some() {
            return Ok(Retried::Superseded { by: row.superseded_by });
        }
        let mut jobs = Vec::new();
        for job in write.jobs_of_run(run).await? {
            let JobState::Finished { conclusion } = &job.state else { continue };
            if !is_worth_a_retry(conclusion) || write.gave_results(job.id, job.attempts_begun).await? {
                continue;
            }
            let again = match start_again(&job, now) {
                JobStart::Queued => JobState::Queued { not_before: now },
                JobStart::WaitingForImage { until } => {
                    JobState::WaitingForImage { since: now, until, next_look_at: now, last_look: None }
                }
            };
            if write.move_job(job.id, job.attempts_begun, JobPhase::Finished, &again, now).await? == Outcome::Performed
            {
                write.forgive_attempts(job.id).await?;
                jobs.push(job.id);
            }
        }
        if jobs.is_empty() {
            return Ok(Retried::NothingFailed);
        }
        let from = row.state.phase();
        if from.may_become(RunPhase::Queued) {
            let _performed = write.move_run(run, from, RunState::Queued, now).await?;
        }
        tracing::info!(run.id = %run, "retried {} jobs", jobs.len());
        Ok(Retried::Jobs { jobs })
    }

    /// Queues a held job again whose work was broken off for the reason `why`; the attempt does not count.
    pub async fn give_back(&self, claim: &Claim, why: &str) -> Result<Outcome, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::GiveBack).await?;
        let end = AttemptEnd { conclusion: Conclusion::Cancelled, message: Some(why.to_owned()), artifact_bytes: None };
        if write.end_attempt(claim, &end, now).await? == Outcome::Moved {
            return Ok(Outcome::Moved);
        }
        let Some(row) = write.job(claim.job).await? else { return Ok(Outcome::Moved) };
        write.forgive_last_attempt(claim.job).await?;
        let queued = JobState::Queued { not_before: now };
        let outcome = write.move_job(claim.job, claim.attempt, row.state.phase(), &queued, now).await?;
        write.commit().await?;
        tracing::info!(job.id = %claim.job, job.attempt = claim.attempt, "gave a job back: {why}");
        Ok(outcome)
    }

    /// Measures the commit of a run once more: a new run with the same jobs, whatever the configuration says now.
    pub async fn rerun(&self, run: RunId) -> Result<Rerun, StoreError> {
        let mut write = self.store.write(Step::RerunRun).await?;
        let rerun = self.rerun_within(&mut write, run).await?;
        write.commit().await?;
        Ok(rerun)
    }

    /// [`Queue::rerun`] as a part of a larger write, which its caller commits.
    pub async fn rerun_within(&self, write: &mut Write, run: RunId) -> Result<Rerun, StoreError> {
        let now = self.clock.now();
        let Some(row) = write.run(run).await? else { return Ok(Rerun::Unknown) };
        if row.trigger.is_imported() {
            return Ok(Rerun::Imported);
        }
        let again = NewRun {
            repository: row.repository,
            sha: row.sha,
            branch: row.branch,
            trigger: Trigger::Rerun { of: run },
            priority: row.priority,
            owed: write.owed_by_run(run).await?,
            terms: row.terms,
        };
        let new = write.insert_run(&again, now).await?;
        for job in write.jobs_of_run(run).await? {
            let start = start_again(&job, now);
            let JobRow { target, model, spec, selection, required, max_attempts, .. } = job;
            let job = NewJob { target, model, spec, selection, required, max_attempts, start };
            write.insert_job(new, &job, now).await?;
        }
        // Nobody else can have seen the run: the move is made.
        let _performed = write.move_run(new, RunPhase::Requested, RunState::Queued, now).await?;
        tracing::info!(run.id = %new, "submitted a rerun of {run}");
        Ok(Rerun::Run { run: new })
    }

    async fn end_jobs(
        &self,
        write: &mut Write,
        run: RunId,
        conclusion: &Conclusion,
        why: &str,
        running: RunningJobs,
        now: DateTime<Utc>,
    ) -> Result<Cancelled, StoreError> {
        let mut count = 0;
        for job in write.jobs_of_run(run).await? {
            let ends = match job.state.phase() {
                JobPhase::Finished => false,
                JobPhase::WaitingForImage | JobPhase::Queued => true,
                JobPhase::Claimed | JobPhase::Running => running == RunningJobs::Stop,
            };
            if ends {
                end_job(write, &job, conclusion, why, now).await?;
                count += 1;
            }
        }
        self.settle_run(write, run, now).await?;
        tracing::info!(run.id = %run, "ended {count} jobs: {why}");
        Ok(if count == 0 { Cancelled::AlreadyEnded } else { Cancelled::Jobs { count } })
    }
}

/// A job whose image had not been found, or not yet, waits for it anew.
fn start_again(job: &JobRow, now: DateTime<Utc>) -> JobStart {
    let no_image = |kind: &FailureKind| matches!(kind, FailureKind::ImageMissing | FailureKind::RegistryUnavailable);
    let anew = JobStart::WaitingForImage { until: now + image_wait(&job.spec) };
    match &job.state {
        JobState::WaitingForImage { .. } => anew,
        JobState::Finished { conclusion: Conclusion::Failure(kind) } if no_image(kind) => anew,
        JobState::Finished { .. } | JobState::Queued { .. } | JobState::Claimed { .. } | JobState::Running { .. } => {
            JobStart::Queued
        }
    }
}

/// Ends a job wherever it stands, within the write that read it.
async fn end_job(
    write: &mut Write,
    job: &JobRow,
    conclusion: &Conclusion,
    why: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    end_claimed(write, job, conclusion.clone(), why, now).await?;
    let from = job.state.phase();
    let _performed = write.move_job(job.id, job.attempts_begun, from, &finished(conclusion.clone()), now).await?;
    write.explain_job(job.id, why).await?;
    owe_uploads(write, job, now).await
}

/// Whether a person's retry tries a job again that ended so without results.
fn is_worth_a_retry(conclusion: &Conclusion) -> bool {
    match conclusion {
        Conclusion::Failure(_) | Conclusion::TimedOut | Conclusion::Cancelled | Conclusion::Skipped { .. } => true,
        Conclusion::Success | Conclusion::Incomplete | Conclusion::Superseded => false,
    }
}
