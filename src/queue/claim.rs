//! What the holder of a claim does: take a job, keep it, hand in its passes, finish the attempt. Everything after the
//! claim is guarded by it, so that a runner that was given up cannot write over its successor.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::settle::finished;
use super::slots::{Holding, Inventory, Verdict, Wanting, decide, soonest};
use super::{AttemptEnd, Claim, ClaimedJob, Heartbeat, Outcome, PassEnd, PassStart, Queue, rank};
use crate::meters::{self, Phase};
use crate::model::{
    BusyDevice, Conclusion, Control, DeviceId, JobPhase, JobState, RunId, RunPhase, RunState, RunnerName,
};
use crate::step::Step;
use crate::store::{Alike, HeldJob, QueuedJob, RunnerRow, StoreError, Write};

/// How often it is written down that a runner still asks for jobs when it offers what it offered before.
const SEEN_EVERY: TimeDelta = TimeDelta::minutes(1);
/// A runner that has not asked for so long does not count as a place where a job may run one day.
const GONE_AFTER: TimeDelta = TimeDelta::days(1);

/// What a runner offers: all of its host, and what of it somebody else uses. What its own jobs hold the queue knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimOffer {
    /// Who asks.
    pub by: RunnerName,
    /// The devices of the host that jobs may have.
    pub host: Inventory,
    /// The devices that processes use which benchd did not start.
    pub busy: Vec<BusyDevice>,
    /// Only jobs of this run, whatever other runs hold and whether or not the host is paused: for a process that
    /// measures one run for a person and ends.
    pub run: Option<RunId>,
}

/// How long jobs like these usually take.
pub(super) type Durations = BTreeMap<Alike, Option<Duration>>;

/// The order in which jobs are looked at: by rank, then oldest first; of one run the job first that needs most
/// device time, so that the host is not left with one long job at the end.
pub(super) fn in_order(jobs: &mut [&QueuedJob], durations: &Durations, now: DateTime<Utc>) {
    jobs.sort_by_cached_key(|job| {
        let usual = durations.get(&job.alike).copied().flatten();
        let device_time = usual.map(|usual| usual.saturating_mul(job.alike.target.count));
        let rank = rank(&job.trigger, job.created_at, now, job.priority);
        let count = job.alike.target.count;
        (Reverse(rank), job.created_at, job.run, Reverse((device_time, count)), job.id)
    });
}

/// Puts those of `jobs`, which are in their order, whose turn on the offered host it is together into the order in which
/// the host is done with them soonest. A job is passed only by jobs that came less than [`rank::TOGETHER`] after it (as
/// urgency counts), so that none waits for ever.
pub(super) fn arrange(
    jobs: &mut [&QueuedJob],
    offer: &ClaimOffer,
    held: &[Holding],
    durations: &Durations,
    now: DateTime<Utc>,
) {
    let rank = |job: &QueuedJob| rank(&job.trigger, job.created_at, now, job.priority);
    let due = jobs.iter().enumerate().filter(|(_, job)| is_due(job, now) && offer.is_for(job));
    let mut first = None;
    let together = due.take_while(|(_, job)| first.get_or_insert(rank(job)).is_near(rank(job)));
    let (places, together): (Vec<_>, Vec<_>) = together.map(|(place, job)| (place, *job)).unzip();
    let order = soonest(&offer.host, &wanting(&together, durations), held, &offer.busy_devices(), now);
    for (place, job) in places.into_iter().zip(order.into_iter().filter_map(|n| together.get(n))) {
        if let Some(there) = jobs.get_mut(place) {
            *there = job;
        }
    }
}

/// Whether a job may be claimed at `now`.
pub(super) fn is_due(job: &QueuedJob, now: DateTime<Utc>) -> bool {
    matches!(job.state, JobState::Queued { not_before } if not_before <= now)
}

/// Jobs in their order as what they want of the host.
pub(super) fn wanting(jobs: &[&QueuedJob], durations: &Durations) -> Vec<Wanting> {
    let wanting = jobs.iter().map(|job| Wanting {
        job: job.id,
        needs: job.alike.target.count,
        expected: durations.get(&job.alike).copied().flatten(),
        since: job.created_at,
    });
    wanting.collect()
}

/// Held jobs as what they have of the host.
pub(super) fn holding(held: &[HeldJob], durations: &Durations) -> Vec<Holding> {
    let holding = held.iter().map(|held| {
        let usual = durations.get(&held.claimed.job.alike()).copied().flatten();
        let devices = held.claimed.slot.devices.clone();
        Holding { job: held.claimed.claim.job, devices, ends_at: usual.map(|usual| held.claimed_at + usual) }
    });
    holding.collect()
}

impl ClaimOffer {
    /// Whether a job is for this hardware and asked for.
    pub(super) fn is_for(&self, job: &QueuedJob) -> bool {
        let target = &job.alike.target;
        target.platform == self.host.platform
            && target.device_type == self.host.device_type
            && self.run.is_none_or(|run| run == job.run)
    }

    /// The devices that somebody else uses.
    pub(super) fn busy_devices(&self) -> Vec<DeviceId> {
        self.busy.iter().map(|busy| busy.device).collect()
    }
}

impl Queue {
    /// Takes the best-ranked queued job that the runner has devices for; `None` when there is none now, or the runner
    /// is paused. A job that no runner is large enough for ends as skipped.
    pub async fn claim(&self, offer: &ClaimOffer) -> Result<Option<ClaimedJob>, StoreError> {
        let now = self.clock.now();
        let runners = self.store.runners().await?;
        // A process that measures one run is no place where others may run one day.
        let seen = match offer.run {
            None => self.see(offer, &runners, now)?,
            Some(_) => None,
        };
        if seen.is_none() && !self.store.has_claimable(now).await? {
            return Ok(None);
        }
        let durations = self.durations(self.store.unfinished_jobs().await?.into_iter().map(|job| job.alike)).await?;

        let mut write = self.store.write(Step::ClaimJob).await?;
        if let Some(seen) = seen {
            write.see_runner(&seen).await?;
        }
        let pause = write.pause_of(&Control::Host(offer.by.clone())).await?;
        let claimed = match pause.filter(|_| offer.run.is_none()) {
            Some(_paused) => None,
            None => self.choose(&mut write, offer, &durations, largest(offer, &runners, now), now).await?,
        };
        write.commit().await?;
        if let Some(claimed) = &claimed {
            if claimed.claim.attempt == 1 {
                meters::phase(Phase::Wait, (now - claimed.job.created_at).to_std().unwrap_or_default());
            }
            tracing::info!(
                run.id = %claimed.job.run, job.id = %claimed.job.id, job.attempt = claimed.claim.attempt,
                "claimed a job for {}", claimed.claim.by
            );
        }
        Ok(claimed)
    }

    /// Writes down that a runner is there, also when it takes nothing.
    pub async fn present(&self, offer: &ClaimOffer) -> Result<(), StoreError> {
        let runners = self.store.runners().await?;
        if let Some(seen) = self.see(offer, &runners, self.clock.now())? {
            let mut write = self.store.write(Step::NoteRunner).await?;
            write.see_runner(&seen).await?;
            write.commit().await?;
        }
        Ok(())
    }

    /// Whether [`Queue::claim`] would take or skip a job now.
    pub async fn would_begin(&self, offer: &ClaimOffer) -> Result<bool, StoreError> {
        let now = self.clock.now();
        if offer.run.is_none() && self.pause_of(&Control::Host(offer.by.clone())).await?.is_some() {
            return Ok(false);
        }
        let jobs = self.store.unfinished_jobs().await?;
        let mut jobs: Vec<_> = jobs.iter().filter(|job| is_due(job, now) && offer.is_for(job)).collect();
        let durations = self.durations(jobs.iter().map(|job| job.alike.clone())).await?;
        in_order(&mut jobs, &durations, now);
        let mut held = self.store.jobs_held_on_host(&offer.by).await?;
        held.retain(|held| offer.run.is_none_or(|run| held.claimed.job.run == run));
        let held = holding(&held, &durations);
        arrange(&mut jobs, offer, &held, &durations, now);
        let wanting = wanting(&jobs, &durations);
        let mut verdicts = decide(&offer.host, &wanting, &held, &offer.busy_devices(), now);
        Ok(verdicts.any(|verdict| matches!(verdict, Verdict::Start { .. } | Verdict::TooLarge { .. })))
    }

    /// How long jobs like each of these usually take.
    pub(super) async fn durations(&self, kinds: impl Iterator<Item = Alike>) -> Result<Durations, StoreError> {
        let mut durations = Durations::new();
        for alike in kinds {
            if let Entry::Vacant(vacant) = durations.entry(alike) {
                let usual = self.store.usual_duration(vacant.key()).await?;
                vacant.insert(usual);
            }
        }
        Ok(durations)
    }

    /// The jobs that a runner holds, with their slots: what a restart adopts. Another runner on the same host may
    /// live, so that nothing of it is among them.
    pub async fn held(&self, by: &RunnerName) -> Result<Vec<ClaimedJob>, StoreError> {
        let held = self.store.held_jobs(Some(by)).await?;
        Ok(held.into_iter().map(|held| held.claimed).collect())
    }

    async fn choose(
        &self,
        write: &mut Write,
        offer: &ClaimOffer,
        durations: &Durations,
        largest: u32,
        now: DateTime<Utc>,
    ) -> Result<Option<ClaimedJob>, StoreError> {
        let jobs = write.unfinished_jobs().await?;
        let mut jobs: Vec<_> = jobs.iter().filter(|job| is_due(job, now) && offer.is_for(job)).collect();
        in_order(&mut jobs, durations, now);
        let mut held = write.jobs_held_on_host(&offer.by).await?;
        held.retain(|held| offer.run.is_none_or(|run| held.claimed.job.run == run));
        let held = holding(&held, durations);
        arrange(&mut jobs, offer, &held, durations, now);
        let wanting = wanting(&jobs, durations);
        let verdicts = decide(&offer.host, &wanting, &held, &offer.busy_devices(), now);
        for (job, verdict) in jobs.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Start { slot } => {
                    let lease_until = now + self.pace.lease_for;
                    let claimed = write.take_job(job.id, &offer.by, &slot, now, lease_until).await?;
                    // The first claim sets the run going; later ones find it running.
                    let _either = write.move_run(job.run, RunPhase::Queued, RunState::Running, now).await?;
                    return Ok(claimed);
                }
                Verdict::TooLarge { needs, has } if needs > largest => {
                    let reason = format!("needs {needs} devices ({}), this host has {has}", offer.host.device_type);
                    self.skip(write, job, reason, now).await?;
                }
                Verdict::TooLarge { .. } | Verdict::Busy { .. } | Verdict::Taken { .. } | Verdict::KeptFor { .. } => {}
            }
        }
        Ok(None)
    }

    async fn skip(
        &self,
        write: &mut Write,
        job: &QueuedJob,
        reason: String,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let Some(row) = write.job(job.id).await? else { return Ok(()) };
        tracing::info!(job.id = %job.id, run.id = %job.run, "skipped a job: {reason}");
        let skipped = finished(Conclusion::Skipped { reason });
        // Within this write nobody else moves the job.
        let _performed = write.move_job(job.id, row.attempts_begun, JobPhase::Queued, &skipped, now).await?;
        self.settle_run(write, job.run, now).await
    }

    /// What to write down of a runner that asks: when it is new, offers something else, or was not seen for a
    /// while.
    fn see(
        &self,
        offer: &ClaimOffer,
        runners: &[RunnerRow],
        now: DateTime<Utc>,
    ) -> Result<Option<RunnerRow>, StoreError> {
        let offered =
            serde_json::to_value(offer).map_err(|source| StoreError::Json { column: "runners.offer", source })?;
        let known = runners.iter().find(|runner| runner.name == offer.by);
        if known.is_some_and(|known| known.offer == offered && (now - known.seen_at).abs() < SEEN_EVERY) {
            return Ok(None);
        }
        Ok(Some(RunnerRow {
            name: offer.by.clone(),
            platform: offer.host.platform,
            device_type: offer.host.device_type.clone(),
            offer: offered,
            seen_at: now,
        }))
    }
}

/// The most devices that a runner of this hardware has.
fn largest(offer: &ClaimOffer, runners: &[RunnerRow], now: DateTime<Utc>) -> u32 {
    let alike = runners.iter().filter(|runner| {
        runner.platform == offer.host.platform
            && runner.device_type == offer.host.device_type
            && runner.name.host() != offer.by.host()
            && now - runner.seen_at < GONE_AFTER
    });
    let others = alike.filter_map(|runner| ClaimOffer::deserialize(&runner.offer).ok());
    others.map(|other| other.host.count()).max().unwrap_or(0).max(offer.host.count())
}

impl Queue {
    /// Keeps a claim for another lease, or learns that it is lost.
    pub async fn heartbeat(&self, claim: &Claim) -> Result<Heartbeat, StoreError> {
        let mut write = self.store.write(Step::RenewLease).await?;
        let heartbeat = write.renew_lease(claim, self.clock.now() + self.pace.lease_for).await?;
        write.commit().await?;
        Ok(heartbeat)
    }

    /// Writes down how many points a pass has begun, for whoever follows it.
    pub async fn note_points(&self, claim: &Claim, begun: u32) -> Result<Outcome, StoreError> {
        let mut write = self.store.write(Step::NoteProgress).await?;
        let outcome = write.note_points(claim, begun).await?;
        write.commit().await?;
        Ok(outcome)
    }

    /// Writes down that a pass begins; the first one sets the job running.
    pub async fn begin_pass(&self, claim: &Claim, pass: &PassStart) -> Result<Outcome, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::BeginPass).await?;
        if write.insert_pass(claim, pass, now).await? == Outcome::Moved {
            return Ok(Outcome::Moved);
        }
        if let Some(JobState::Claimed { by, attempt, lease_until }) = write.job(claim.job).await?.map(|job| job.state) {
            let running = JobState::Running { by, attempt, lease_until, started_at: now };
            // Within this write nobody else moves the job.
            let _performed = write.move_job(claim.job, attempt, JobPhase::Claimed, &running, now).await?;
        }
        write.commit().await?;
        Ok(Outcome::Performed)
    }

    /// Writes down how a pass ended and all it measured.
    pub async fn end_pass(&self, claim: &Claim, number: u32, end: &PassEnd) -> Result<Outcome, StoreError> {
        let mut write = self.store.write(Step::EndPass).await?;
        let outcome = write.end_pass(claim, number, end, self.clock.now()).await?;
        write.commit().await?;
        Ok(outcome)
    }

    /// Ends the attempt. What follows for its job and run (another attempt, the end, what is owed) is settled in the
    /// same write.
    pub async fn finish(&self, claim: &Claim, end: &AttemptEnd) -> Result<Outcome, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::FinishAttempt).await?;
        if write.end_attempt(claim, end, now).await? == Outcome::Moved {
            return Ok(Outcome::Moved);
        }
        self.settle_attempt(&mut write, claim.job, &end.conclusion, now).await?;
        write.commit().await?;
        tracing::info!(job.id = %claim.job, job.attempt = claim.attempt, "finished an attempt: {}", end.conclusion);
        Ok(Outcome::Performed)
    }
}
