//! Delivers the records that runs owe to the outside (what they owe in words is told by `tell`): level-triggered, from
//! the rows alone, each step repeatable. A delivery that fails stays owed and is tried again; nothing is given up because
//! a service is away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::destination::{Destination, DestinationError, SendError};
use super::runner::this_host;
use super::upload::{Existing, Part, PrepareError, Prepared, UploadOutcome, prepare};
use crate::clock::Clock;
use crate::config::{PublishTarget, RepositoryConfig};
use crate::meters::{self, Phase};
use crate::model::{Conclusion, JobPhase, JobState, RepoName, RunId};
use crate::objects::Patience;
use crate::queue::spec::{JobSpec, UploadOrder};
use crate::queue::{Queue, configurations};
use crate::redact::masked;
use crate::results::record::{Metadata, WireNumber};
use crate::results::{CheckError, Expectation};
use crate::step::Step;
use crate::store::artifacts::{Artifacts, AttemptKey};
use crate::store::{JobRow, OutboxRow, OwedKind, OwedState, Store, StoreError};

/// How long a delivery waits after its first failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long an upload waits for the other jobs that share its object.
const SIBLING_WAIT: Duration = Duration::from_secs(15);
/// Most rows that one call tries.
const BATCH: u32 = 1000;

/// The outbox of one store.
pub struct Outbox {
    store: Store,
    queue: Queue,
    artifacts: Artifacts,
    clock: Clock,
    patience: Patience,
    targets: Vec<(RepoName, PublishTarget)>,
}

/// What became of one owed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is there now.
    Delivered {
        /// Where to, for people.
        to: String,
        /// What was sent, for people.
        what: String,
    },
    /// Rightly not sent.
    Kept(String),
    /// Refused for good.
    Refused(String),
    /// Not sent before other jobs of its run have ended.
    Waiting {
        /// When it is looked at again.
        next_at: DateTime<Utc>,
    },
    /// Still owed, because the place failed or refused.
    Postponed {
        /// Why.
        reason: String,
        /// When it is tried again.
        next_at: DateTime<Utc>,
    },
}

/// Why an upload did not go through this time.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the row names no job")]
    NoJob,
    #[error("failed to read what is owed")]
    Payload(#[from] serde_json::Error),
    #[error("waits for the other device counts of the same model")]
    Siblings,
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("failed to wait for the preparation")]
    Join(#[from] tokio::task::JoinError),
}

impl UploadError {
    /// Whether no later try can help. A disk that cannot be read now may be read later.
    fn is_final(&self) -> bool {
        match self {
            Self::NoJob | Self::Payload(_) => true,
            Self::Prepare(PrepareError::Check(CheckError::Directory { source, .. })) => {
                source.kind() == std::io::ErrorKind::NotFound
            }
            Self::Prepare(_)
            | Self::Store(_)
            | Self::Siblings
            | Self::Destination(_)
            | Self::Send(_)
            | Self::Join(_) => false,
        }
    }
}

/// What is written down of an error. A service may repeat the secret that it was given.
fn told(error: UploadError) -> String {
    masked(&format!("{:#}", anyhow::Error::from(error))).into_owned()
}

impl Outbox {
    /// The outbox of `store`, whose artifacts lie in `artifacts`; `patience` says how long one try may take.
    pub fn new(store: Store, queue: Queue, artifacts: Artifacts, clock: Clock, patience: Patience) -> Self {
        Self { store, queue, artifacts, clock, patience, targets: Vec::new() }
    }

    /// With the targets that are configured now. What is owed to one of these places is sent as it is reached now, not
    /// as it was when the run was planned.
    #[must_use]
    pub fn with_targets(self, repositories: &[RepositoryConfig]) -> Self {
        let of = |repository: &RepositoryConfig| {
            repository.publish.to.iter().map(|target| (repository.name.clone(), target.clone())).collect::<Vec<_>>()
        };
        Self { targets: repositories.iter().flat_map(of).collect(), ..self }
    }

    /// Tries every upload that is due (of `run` only, when one is given), then settles their runs.
    ///
    /// # Errors
    /// When the store cannot be read or written; deliveries that fail are no errors, they stay owed.
    pub async fn deliver_due(&self, run: Option<RunId>) -> Result<Vec<(OutboxRow, Delivery)>, StoreError> {
        self.deliver(self.store.due_owed(self.clock.now(), Some(OwedKind::Upload), run, BATCH).await?).await
    }

    /// Tries every upload that is owed, what `first` owes first, also what waits after a failure: for somebody who does
    /// not come back soon.
    ///
    /// # Errors
    /// As [`Outbox::deliver_due`].
    pub async fn deliver_all(&self, first: RunId) -> Result<Vec<(OutboxRow, Delivery)>, StoreError> {
        let mut rows = self.store.due_owed(DateTime::<Utc>::MAX_UTC, Some(OwedKind::Upload), None, BATCH).await?;
        rows.sort_by_key(|row| row.run != first);
        self.deliver(rows).await
    }

    async fn deliver(&self, rows: Vec<OutboxRow>) -> Result<Vec<(OutboxRow, Delivery)>, StoreError> {
        let mut delivered = Vec::with_capacity(rows.len());
        let mut away: BTreeMap<String, Delivery> = BTreeMap::new();
        for row in rows {
            let place = row.owed.payload.to_string();
            // A place that just failed is not waited for once more for every row: they stay due.
            if let Some(postponed) = away.get(&place) {
                delivered.push((row, postponed.clone()));
                continue;
            }
            let delivery = self.upload(&row).await?;
            self.write_down(&row, &delivery).await?;
            if let Delivery::Postponed { .. } = delivery {
                away.insert(place, delivery.clone());
            }
            delivered.push((row, delivery));
        }
        if !delivered.is_empty() {
            let _moved = self.queue.settle().await?;
        }
        Ok(delivered)
    }

    async fn write_down(&self, row: &OutboxRow, delivery: &Delivery) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write(Step::SettleDelivery).await?;
        // Somebody else may have settled it meanwhile; the delivery itself is repeatable.
        let _outcome = match delivery {
            Delivery::Delivered { .. } => write.settle_owed(row.id, OwedState::Delivered, None, now).await?,
            Delivery::Kept(reason) => write.settle_owed(row.id, OwedState::Kept, Some(reason), now).await?,
            Delivery::Refused(reason) => write.settle_owed(row.id, OwedState::Refused, Some(reason), now).await?,
            Delivery::Waiting { next_at } => {
                write.postpone_owed(row.id, &UploadError::Siblings.to_string(), *next_at).await?
            }
            Delivery::Postponed { reason, next_at } => write.postpone_owed(row.id, reason, *next_at).await?,
        };
        write.commit().await?;
        match delivery {
            Delivery::Delivered { to, what } => tracing::info!(run.id = %row.run, "delivered {what} to {to}"),
            Delivery::Kept(reason) => tracing::info!(run.id = %row.run, "kept an upload: {reason}"),
            Delivery::Refused(reason) => tracing::info!(run.id = %row.run, "an upload was refused: {reason}"),
            Delivery::Waiting { .. } => tracing::debug!(run.id = %row.run, "an upload waits for other jobs"),
            // Level info: whoever called tells it, and the row keeps it.
            Delivery::Postponed { reason, .. } => {
                tracing::info!(run.id = %row.run, "an upload is still owed: {reason}")
            }
        }
        Ok(())
    }

    async fn upload(&self, row: &OutboxRow) -> Result<Delivery, StoreError> {
        match self.try_upload(row).await {
            Ok(delivery) => Ok(delivery),
            Err(UploadError::Store(error)) => Err(error),
            Err(UploadError::Siblings) => Ok(Delivery::Waiting { next_at: self.clock.now() + SIBLING_WAIT }),
            // What was measured is not there any more: no later try helps.
            Err(error) if error.is_final() => Ok(Delivery::Refused(told(error))),
            Err(error) => {
                let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(row.attempts));
                let next_at = self.clock.now() + doubled.min(LONGEST_WAIT);
                Ok(Delivery::Postponed { reason: told(error), next_at })
            }
        }
    }

    async fn try_upload(&self, row: &OutboxRow) -> Result<Delivery, UploadError> {
        let job = row.job.ok_or(UploadError::NoJob)?;
        let order: UploadOrder = serde_json::from_value(row.owed.payload.clone())?;
        let jobs = self.store.jobs_of_run(row.run).await?;
        let own = jobs.iter().find(|other| other.id == job).ok_or(UploadError::NoJob)?;
        // The key knows no device count: jobs of one model that differ in it share an object.
        let shares = |other: &&JobRow| {
            (other.target.platform, &other.target.device_type, &other.model)
                == (own.target.platform, &own.target.device_type, &own.model)
        };
        let sharing: Vec<&JobRow> = jobs.iter().filter(shares).collect();
        if sharing.iter().any(|other| other.state.phase() != JobPhase::Finished) {
            return Err(UploadError::Siblings);
        }
        let mut sources = Vec::new();
        for other in sharing.into_iter().filter(|other| has_results(other)) {
            sources.push(self.source(other)?);
        }
        let prepared = tokio::task::spawn_blocking(move || prepare(sources.iter().map(Source::part).collect()));
        let Prepared { object, .. } = prepared.await??;
        let Some(object) = object else { return Ok(Delivery::Kept("no valid record measures anything".to_owned())) };
        let repository = serde_json::from_value::<JobSpec>(own.spec.clone())?.repository;
        let configured = self.targets.iter().filter(|(name, _)| *name == repository).map(|(_, target)| target);
        let destination = Destination::open(as_reached_now(&order.target, configured), self.patience)?;
        let existing = if order.replace { Existing::Replace } else { Existing::Keep };
        let began = self.clock.now();
        let sent = destination.send(&object, existing).await;
        meters::phase(Phase::Upload, (self.clock.now() - began).to_std().unwrap_or_default());
        Ok(match sent? {
            UploadOutcome::Created | UploadOutcome::Unchanged | UploadOutcome::Replaced => Delivery::Delivered {
                to: format!("{destination}"),
                what: match object.records {
                    1 => format!("1 record as {}", object.key),
                    records => format!("{records} records as {}", object.key),
                },
            },
            UploadOutcome::Conflict | UploadOutcome::Exists => {
                Delivery::Kept(format!("other results of this commit lie at {} already", object.key))
            }
        })
    }

    fn source(&self, job: &JobRow) -> Result<Source, UploadError> {
        let spec: JobSpec = serde_json::from_value(job.spec.clone())?;
        let key = AttemptKey { run: job.run, job: job.id, attempt: job.attempts_begun };
        let points = &spec.planned.points;
        let mut runner = this_host(job.target.platform, &job.target.device_type, Some(job.target.count));
        // With these an import finds the same series again; the record itself has the device's name shortened.
        let told = [
            ("device_count", job.target.count.to_string()),
            ("device_type", job.target.device_type.to_string()),
            ("model", job.model.clone()),
        ];
        runner.extra_info.extend(told.map(|(key, value)| (key.to_owned(), value)));
        if let JobState::Finished { conclusion: Conclusion::Incomplete } = job.state {
            runner.extra_info.insert("conclusion".to_owned(), "incomplete".to_owned());
        }
        Ok(Source {
            dir: self.artifacts.results_dir(key, 1),
            expectation: Expectation {
                points: (!points.is_empty()).then(|| points.clone()),
                without_compilation: !job.target.platform.has_variants(),
            },
            metadata: Metadata {
                timestamp: u64::try_from(spec.committed_at.timestamp()).unwrap_or(0),
                benchmark_name: spec.benchmark_name,
                repo: spec.repository,
                branch: spec.branch,
                local_branch: spec.local_branch,
                sha: spec.sha,
                workflow_id: WireNumber::Number(job.run.number()),
                run_attempt: WireNumber::Number(u64::from(job.attempts_begun)),
                job_id: WireNumber::Number(job.id.number()),
                model: job.model.clone(),
                runner,
                configurations: configurations(&spec.planned.suite_files),
            },
        })
    }
}

/// The configured target of the place of `planned`; `planned` itself when it is configured as it was, or no more, or
/// more than one is of this name.
fn as_reached_now<'a>(
    planned: &'a PublishTarget,
    configured: impl Iterator<Item = &'a PublishTarget>,
) -> &'a PublishTarget {
    let same: Vec<_> = configured.filter(|target| target.is_same_place(planned)).collect();
    match same.as_slice() {
        [only] => only,
        [] | [_, ..] => planned,
    }
}

/// A job's results on disk and what its records say of themselves.
struct Source {
    dir: PathBuf,
    expectation: Expectation,
    metadata: Metadata,
}

impl Source {
    fn part(&self) -> Part<'_> {
        Part { dir: &self.dir, expectation: self.expectation.clone(), metadata: &self.metadata }
    }
}

fn has_results(job: &JobRow) -> bool {
    match &job.state {
        JobState::Finished { conclusion: Conclusion::Success | Conclusion::Incomplete } => true,
        JobState::Finished {
            conclusion:
                Conclusion::Failure(_)
                | Conclusion::TimedOut
                | Conclusion::Cancelled
                | Conclusion::Superseded
                | Conclusion::Skipped { .. },
        }
        | JobState::WaitingForImage { .. }
        | JobState::Queued { .. }
        | JobState::Claimed { .. }
        | JobState::Running { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_reached_as_it_is_configured_now() {
        let target = |url: &str, endpoint: &str| PublishTarget {
            url: Some(url.parse().unwrap()),
            endpoint: Some(endpoint.parse().unwrap()),
            ..PublishTarget::default()
        };
        let planned = target("s3://results/v3", "http://old");
        let now = |configured: &[PublishTarget]| as_reached_now(&planned, configured.iter()).clone();
        let moved = target("s3://results/v3/", "http://new");
        let another = target("s3://results", "http://another");
        assert_eq!(now(&[another.clone(), moved.clone()]), moved);
        assert_eq!(now(&[]), planned);
        assert_eq!(now(&[another]), planned);
        // Two services with a bucket of this name: which of them was meant is known from the plan alone.
        assert_eq!(now(&[moved, target("s3://results/v3", "http://third")]), planned);
    }
}
