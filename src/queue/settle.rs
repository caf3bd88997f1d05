//! The only place that expires leases, retries jobs, closes runs and owes answers to the outside. What follows from
//! the rows is decided purely ([`fate`], [`end_of_run`]); the rest writes it down.

use std::sync::PoisonError;

use chrono::{DateTime, TimeDelta, Utc};

use super::waiting::{LAST_LOOK_WITHIN, given_up};
use super::{AttemptEnd, Claim, Outcome, Pace, Queue};
use crate::model::{Conclusion, FailureKind, JobId, JobPhase, JobState, RunId, RunPhase, RunState};
use crate::step::Step;
use crate::store::{JobRow, OwedKind, OwedState, StoreError, Write};

/// What follows for a job when an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The attempt's conclusion is the job's.
    Finish,
    /// It is tried again.
    Retry {
        /// Not before this instant.
        not_before: DateTime<Utc>,
    },
}

/// How a run stands when its jobs are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// A required job has not finished.
    Open,
    /// The run ends in this state.
    Ends(RunState),
}

/// Since when rounds of settling follow each other without a gap.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Option<DateTime<Utc>>,
    since: Option<DateTime<Utc>>,
}

/// Whether the queue was watched for the time of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Throughout,
    TooShortly,
}

/// What a round of settling did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Jobs whose runner was lost.
    pub lost: Vec<JobId>,
    /// Jobs that waited for their image long enough.
    pub given_up: Vec<JobId>,
    /// Runs that moved, with the state they have now.
    pub moved: Vec<(RunId, RunState)>,
}

/// How often a job is tried that something outside keeps from its work: with the default pace for six hours.
pub const OUTAGE_ATTEMPTS: u32 = 12;

/// Whether a job that ended its attempt so is tried again: only faults of infrastructure, at most `max_attempts`
/// times in all, each wait twice as long as the one before. What may be an outage ([`FailureKind::is_outage`]) is tried
/// twelve times, unless the job is to be tried once only.
pub fn fate(conclusion: &Conclusion, attempt: u32, max_attempts: u32, pace: Pace, now: DateTime<Utc>) -> Fate {
    let attempts = match conclusion {
        Conclusion::Failure(kind) if kind.is_outage() && max_attempts > 1 => max_attempts.max(OUTAGE_ATTEMPTS),
        Conclusion::Failure(_)
        | Conclusion::Success
        | Conclusion::Incomplete
        | Conclusion::TimedOut
        | Conclusion::Cancelled
        | Conclusion::Superseded
        | Conclusion::Skipped { .. } => max_attempts,
    };
    if !conclusion.is_infrastructure() || attempt >= attempts {
        return Fate::Finish;
    }
    let doubled = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = pace.backoff_after.saturating_mul(doubled).min(pace.backoff_at_most);
    Fate::Retry { not_before: now + wait }
}

/// How a run whose jobs are these ends; `true` stands beside a job that gave results.
pub fn end_of_run(jobs: &[(&JobRow, bool)]) -> RunEnd {
    let mut conclusions = Vec::new();
    for (job, _) in jobs {
        match &job.state {
            JobState::Finished { conclusion } => conclusions.push(conclusion),
            JobState::WaitingForImage { .. }
            | JobState::Queued { .. }
            | JobState::Claimed { .. }
            | JobState::Running { .. } => {
                if job.required {
                    return RunEnd::Open;
                }
            }
        }
    }
    if jobs.iter().any(|(_, gave_results)| *gave_results) {
        return RunEnd::Ends(RunState::Measured);
    }
    let failure = conclusions.iter().find_map(|conclusion| match conclusion {
        Conclusion::Failure(kind) => Some(*kind),
        Conclusion::Success
        | Conclusion::Incomplete
        | Conclusion::TimedOut
        | Conclusion::Cancelled
        | Conclusion::Superseded
        | Conclusion::Skipped { .. } => None,
    });
    let any = |wanted: &Conclusion| conclusions.contains(&wanted);
    RunEnd::Ends(match failure {
        _ if any(&Conclusion::Cancelled) => RunState::Cancelled,
        _ if any(&Conclusion::Superseded) => RunState::Superseded,
        Some(kind) => RunState::Failed(kind),
        None => RunState::Failed(FailureKind::NothingMeasured),
    })
}

impl Queue {
    /// Looks at every open job and run and moves each by what its rows say; repeating it changes nothing. Rounds
    /// further apart than a lease ([`Pace::lease_for`]) never find a lease expired.
    pub async fn settle(&self) -> Result<Settled, StoreError> {
        let now = self.clock.now();
        let mut settled = Settled::default();
        self.draw_in(now).await?;
        if self.watch(now) == Watched::Throughout {
            for job in self.store.overdue_jobs(now).await? {
                self.settle_overdue(job.id, now, &mut settled).await?;
            }
        }
        for run in self.store.open_runs().await? {
            let mut write = self.store.write(Step::SettleRun).await?;
            self.settle_run(&mut write, run.id, now).await?;
            let state = write.run(run.id).await?.map_or(run.state, |after| after.state);
            write.commit().await?;
            if state != run.state {
                settled.moved.push((run.id, state));
            }
        }
        Ok(settled)
    }

    /// Whether the queue was looked at often enough for a holder's silence to mean something. After a start, a sleep
    /// of the host or a leap of the clock everything looks overdue: holders first have the time of a lease to report.
    fn watch(&self, now: DateTime<Utc>) -> Watched {
        let lease = TimeDelta::from_std(self.pace.lease_for).unwrap_or_default();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupted = watch.last.is_none_or(|last| now - last > lease);
        if interrupted {
            watch.since = Some(now);
        }
        watch.last = Some(now);
        // After a step back the instant lies ahead: as if the watch began now.
        watch.since = watch.since.map(|since| since.min(now));
        match watch.since {
            Some(since) if now - since >= lease => Watched::Throughout,
            Some(_) | None => Watched::TooShortly,
        }
    }

    /// After a step back of the clock leases and waits lie too far ahead: nobody is waited for longer than the pace
    /// says.
    async fn draw_in(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let (lease_until, not_before) = (now + self.pace.lease_for, now + self.pace.backoff_at_most);
        if self.store.lies_too_far_ahead(lease_until, not_before).await? {
            let mut write = self.store.write(Step::DrawIn).await?;
            write.draw_in(lease_until, not_before).await?;
            write.commit().await?;
        }
        Ok(())
    }

    /// An overdue job, looked at again under the write lock: a heartbeat may have come meanwhile.
    async fn settle_overdue(&self, job: JobId, now: DateTime<Utc>, settled: &mut Settled) -> Result<(), StoreError> {
        let mut write = self.store.write(Step::SettleOverdue).await?;
        let Some(job) = write.job(job).await? else { return Ok(()) };
        match &job.state {
            JobState::Claimed { lease_until, .. } | JobState::Running { lease_until, .. } if *lease_until < now => {
                let lost = Conclusion::Failure(FailureKind::LostRunner);
                end_claimed(&mut write, &job, lost.clone(), "the runner sent no heartbeat", now).await?;
                self.settle_attempt(&mut write, job.id, &lost, now).await?;
                settled.lost.push(job.id);
            }
            // Its last look is made at the deadline and ends it; this is for when nobody looks any more.
            JobState::WaitingForImage { since, until, last_look, .. } if *until + LAST_LOOK_WITHIN < now => {
                self.give_up(&mut write, &job, given_up(*since, last_look.as_ref(), now), now).await?;
                settled.given_up.push(job.id);
            }
            JobState::Claimed { .. }
            | JobState::Running { .. }
            | JobState::WaitingForImage { .. }
            | JobState::Queued { .. }
            | JobState::Finished { .. } => {}
        }
        write.commit().await
    }

    /// Moves a claimed or running job by how its attempt ended, and its run when that was the last thing it waited for.
    pub(super) async fn settle_attempt(
        &self,
        write: &mut Write,
        job: JobId,
        conclusion: &Conclusion,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let Some(job) = write.job(job).await? else { return Ok(()) };
        let tried = job.attempts_begun.saturating_sub(job.attempts_before);
        let next = match fate(conclusion, tried, job.max_attempts, self.pace, now) {
            Fate::Retry { not_before } => JobState::Queued { not_before },
            Fate::Finish => finished(conclusion.clone()),
        };
        let moved = write.move_job(job.id, job.attempts_begun, job.state.phase(), &next, now).await?;
        if moved == Outcome::Performed && next.phase() == JobPhase::Finished {
            owe_uploads(write, &job, now).await?;
            self.settle_run(write, job.run, now).await?;
        }
        Ok(())
    }

    /// Closes a run whose required jobs have finished and owes its answers; publishes one that owes nothing more.
    pub(super) async fn settle_run(&self, write: &mut Write, run: RunId, now: DateTime<Utc>) -> Result<(), StoreError> {
        let Some(row) = write.run(run).await? else { return Ok(()) };
        let from = row.state.phase();
        let next = match from {
            RunPhase::Queued | RunPhase::Running => {
                let jobs = write.jobs_of_run(run).await?;
                let mut judged = Vec::with_capacity(jobs.len());
                for job in &jobs {
                    judged.push((job, write.gave_results(job.id, job.attempts_begun).await?));
                }
                end_of_run(&judged)
            }
            RunPhase::Measured => delivered(write, run).await?,
            RunPhase::Requested
            | RunPhase::Published
            | RunPhase::Failed
            | RunPhase::Cancelled
            | RunPhase::Superseded => RunEnd::Open,
        };
        let RunEnd::Ends(state) = next else { return Ok(()) };
        if write.move_run(run, from, state, now).await? == Outcome::Moved {
            return Ok(());
        }
        tracing::info!(run.id = %run, "the run is {state}");
        if from == RunPhase::Measured {
            return Ok(());
        }
        for owed in write.owed_by_run(run).await? {
            if owed.kind != OwedKind::Upload {
                write.owe(run, None, &owed, now).await?;
            }
        }
        if state == RunState::Measured
            && let RunEnd::Ends(state) = delivered(write, run).await?
        {
            let _performed = write.move_run(run, RunPhase::Measured, state, now).await?;
        }
        Ok(())
    }
}

pub(super) fn finished(conclusion: Conclusion) -> JobState {
    JobState::Finished { conclusion }
}

/// A measured run is published when nothing is owed any more, and failed when an upload was refused for good.
async fn delivered(write: &mut Write, run: RunId) -> Result<RunEnd, StoreError> {
    let outbox = write.outbox_of_run(run).await?;
    if outbox.iter().any(|row| row.state == OwedState::Owed) {
        return Ok(RunEnd::Open);
    }
    let refused = outbox.iter().any(|row| row.owed.kind == OwedKind::Upload && row.state == OwedState::Refused);
    Ok(RunEnd::Ends(if refused { RunState::Failed(FailureKind::PublishRefused) } else { RunState::Published }))
}

/// The uploads of a job that has just finished, when it gave results.
pub(super) async fn owe_uploads(write: &mut Write, job: &JobRow, now: DateTime<Utc>) -> Result<(), StoreError> {
    let repeated = job.spec.get("repeat").and_then(serde_json::Value::as_u64).is_some_and(|repeat| repeat > 1);
    if repeated || !write.gave_results(job.id, job.attempts_begun).await? {
        return Ok(());
    }
    for owed in write.owed_by_run(job.run).await? {
        if owed.kind == OwedKind::Upload {
            write.owe(job.run, Some(job.id), &owed, now).await?;
        }
    }
    Ok(())
}

/// Ends the open attempt of a job that somebody holds.
pub(super) async fn end_claimed(
    write: &mut Write,
    job: &JobRow,
    conclusion: Conclusion,
    message: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if let JobState::Claimed { by, attempt, .. } | JobState::Running { by, attempt, .. } = &job.state {
        let claim = Claim { job: job.id, attempt: *attempt, by: by.clone() };
        let end = AttemptEnd { conclusion, message: Some(message.to_owned()), artifact_bytes: None };
        let _performed = write.end_attempt(&claim, &end, now).await?;
    }
    Ok(())
}
