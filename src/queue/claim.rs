//! What the holder of a claim does: take a job, keep it, hand in its passes, finish the attempt. Everything after the
//! claim is guarded by it, so that a runner that was given up cannot write over its successor.

use super::{AttemptEnd, Claim, ClaimOffer, ClaimedJob, Heartbeat, Outcome, PassEnd, PassStart, Queue};
use crate::model::{JobId, JobPhase, JobState, RunPhase, RunState};
use crate::store::StoreError;

impl Queue {
    /// Takes the oldest queued job that fits what the runner offers; `None` when there is none now.
    pub async fn claim(&self, offer: &ClaimOffer) -> Result<Option<ClaimedJob>, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write("claim a job").await?;
        let Some(claimed) = write.claim_job(offer, now, now + self.pace.lease_for).await? else { return Ok(None) };
        // The first claim sets the run going; later ones find it running.
        let _running_either_way = write.move_run(claimed.job.run, RunPhase::Queued, RunState::Running, now).await?;
        write.commit().await?;
        tracing::info!(
            run.id = %claimed.job.run, job.id = %claimed.job.id, job.attempt = claimed.claim.attempt,
            "claimed a job for {}", claimed.claim.by
        );
        Ok(Some(claimed))
    }

    /// Keeps a claim for another lease, or learns that it is lost.
    pub async fn heartbeat(&self, claim: &Claim) -> Result<Heartbeat, StoreError> {
        let mut write = self.store.write("renew a lease").await?;
        let heartbeat = write.renew_lease(claim, self.clock.now() + self.pace.lease_for).await?;
        write.commit().await?;
        Ok(heartbeat)
    }

    /// Writes down that a pass begins; the first one sets the job running.
    pub async fn begin_pass(&self, claim: &Claim, pass: &PassStart) -> Result<Outcome, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write("begin a pass").await?;
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
        let mut write = self.store.write("end a pass").await?;
        let outcome = write.end_pass(claim, number, end, self.clock.now()).await?;
        write.commit().await?;
        Ok(outcome)
    }

    /// Ends the attempt. What follows for its job and run (another attempt, the end, what is owed) is settled in the
    /// same write.
    pub async fn finish(&self, claim: &Claim, end: &AttemptEnd) -> Result<Outcome, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write("finish an attempt").await?;
        if write.end_attempt(claim, end, now).await? == Outcome::Moved {
            return Ok(Outcome::Moved);
        }
        self.settle_attempt(&mut write, claim.job, &end.conclusion, now).await?;
        write.commit().await?;
        tracing::info!(job.id = %claim.job, job.attempt = claim.attempt, "finished an attempt: {}", end.conclusion);
        Ok(Outcome::Performed)
    }

    /// Queues a job whose image has been found.
    pub async fn image_found(&self, job: JobId) -> Result<Outcome, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write("queue a job").await?;
        let queued = JobState::Queued { not_before: now };
        let outcome = write.move_job(job, 0, JobPhase::WaitingForImage, &queued, now).await?;
        write.commit().await?;
        Ok(outcome)
    }
}
