//! Waiting for an image that CI has not built yet: when to look again (pure), what a look found, and the end of it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Outcome, Queue};
use crate::model::{Conclusion, FailureKind, ImageLook, JobId, JobPhase, JobState, NoImage};
use crate::step::Step;
use crate::store::{JobRow, StoreError, Write};

/// The shortest wait between two looks.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(15);
/// The longest wait between two looks.
pub const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(5 * 60);
/// How long a job whose deadline has passed waits for the look that was to be the last, when nobody looks.
pub const LAST_LOOK_WITHIN: Duration = Duration::from_secs(15 * 60);

/// What became of a job after a look that brought no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Waiting {
    /// It is looked for again.
    LookAgain {
        /// When.
        at: DateTime<Utc>,
    },
    /// The deadline has passed: the job has failed.
    GivenUp,
    /// The job does not wait any more: somebody else moved it.
    Moved,
}

/// After how long to look again for an image that has been waited for this long: a tenth of it, at least 15 seconds,
/// at most 5 minutes. An image that is about to appear is found soon, one that is late costs few requests.
pub fn next_look(waited: Duration) -> Duration {
    (waited / 10).clamp(FIRST_LOOK_AFTER, LOOK_AT_LEAST_EVERY)
}

/// How waiting ends without an image: the kind of failure and what is told: how long, what was asked for, and whether
/// the registry said that there is none or said nothing. An error is not an absence.
pub fn given_up(since: DateTime<Utc>, last_look: Option<&ImageLook>, now: DateTime<Utc>) -> (FailureKind, String) {
    let waited = format!("waited {} minutes for", (now - since).num_minutes().max(0));
    match last_look {
        None => {
            (FailureKind::ImageMissing, format!("{waited} the image, and nothing looked for it: is benchd running?"))
        }
        Some(ImageLook { asked, answer: NoImage::Absent, .. }) => {
            (FailureKind::ImageMissing, format!("{waited} {asked}: it was not built in time, or is called otherwise"))
        }
        Some(ImageLook { asked, answer: NoImage::Unknown { error }, .. }) => {
            let message = format!("{waited} {asked}: whether it exists is not known, the last look failed: {error}");
            (FailureKind::RegistryUnavailable, message)
        }
    }
}

impl Queue {
    /// The jobs whose image is to be looked for now.
    pub async fn due_looks(&self) -> Result<Vec<JobRow>, StoreError> {
        let now = self.clock.now();
        self.store.due_looks(now, now + LOOK_AT_LEAST_EVERY).await
    }

    /// Queues a job whose image has been found.
    pub async fn image_found(&self, job: JobId) -> Result<Outcome, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::QueueJob).await?;
        let Some(row) = write.job(job).await? else { return Ok(Outcome::Moved) };
        let queued = JobState::Queued { not_before: now };
        let outcome = write.move_job(job, row.attempts_begun, JobPhase::WaitingForImage, &queued, now).await?;
        write.commit().await?;
        Ok(outcome)
    }

    /// Writes down that the registry has no image `asked` yet. After the deadline the job fails.
    pub async fn image_still_absent(&self, job: JobId, asked: &str) -> Result<Waiting, StoreError> {
        self.looked(job, asked, NoImage::Absent).await
    }

    /// Writes down that a look for the image `asked` brought no answer. An error is not an absence: the message after
    /// the deadline says which.
    pub async fn image_unknown(&self, job: JobId, asked: &str, error: &str) -> Result<Waiting, StoreError> {
        self.looked(job, asked, NoImage::Unknown { error: error.to_owned() }).await
    }

    async fn looked(&self, job: JobId, asked: &str, answer: NoImage) -> Result<Waiting, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::NoteLook).await?;
        let Some(row) = write.job(job).await? else { return Ok(Waiting::Moved) };
        let JobState::WaitingForImage { since, until, .. } = row.state else { return Ok(Waiting::Moved) };
        let look = ImageLook { at: now, asked: asked.to_owned(), answer };
        let waiting = if now >= until {
            self.give_up(&mut write, &row, given_up(since, Some(&look), now), now).await?;
            Waiting::GivenUp
        } else {
            // The last look is at the deadline.
            let at = (now + next_look((now - since).to_std().unwrap_or_default())).min(until);
            let _performed = write.note_look(job, &look, at).await?;
            Waiting::LookAgain { at }
        };
        write.commit().await?;
        Ok(waiting)
    }

    /// Fails a job that waited long enough.
    pub(super) async fn give_up(
        &self,
        write: &mut Write,
        job: &JobRow,
        (kind, message): (FailureKind, String),
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let missing = JobState::Finished { conclusion: Conclusion::Failure(kind) };
        // Within this write nobody else moves the job.
        let _performed = write.move_job(job.id, job.attempts_begun, JobPhase::WaitingForImage, &missing, now).await?;
        write.explain_job(job.id, &message).await?;
        tracing::info!(job.id = %job.id, run.id = %job.run, "gave up waiting: {message}");
        self.settle_run(write, job.run, now).await
    }
}
