//! What the queue decides from: jobs that wait, jobs that hold devices, and how long jobs like them took.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::SqliteExecutor;
use sqlx::sqlite::SqliteRow;

use super::codec::Columns;
use super::error::sql;
use super::jobs::{read_state, read_target};
use super::{Claim, ClaimedJob, JobRow, Store, StoreError, Write};
use crate::model::{CommitSha, JobId, JobState, Priority, RunId, RunnerName, Slot, Target, Trigger};

/// How many of the newest durations a median is made of.
const DURATIONS: u32 = 11;

/// A job that has not ended, with what its run says about its urgency and without what only its runner needs.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedJob {
    /// The job.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// What it runs on and what it measures.
    pub alike: Alike,
    /// How far it has come.
    pub state: JobState,
    /// When it was planned.
    pub created_at: DateTime<Utc>,
    /// Why its run exists.
    pub trigger: Trigger,
    /// How urgent a person said it is.
    pub priority: Option<Priority>,
    /// The commit it measures.
    pub sha: CommitSha,
}

/// A job that holds devices.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldJob {
    /// The job with its claim and slot.
    pub claimed: ClaimedJob,
    /// Since when.
    pub claimed_at: DateTime<Utc>,
}

/// What jobs have in common that take about as long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// What they run on.
    pub target: Target,
    /// The model.
    pub model: String,
    /// What of it is measured, as a short hash.
    pub selection: String,
}

impl JobRow {
    /// What it has in common with jobs that take about as long.
    pub fn alike(&self) -> Alike {
        Alike { target: self.target.clone(), model: self.model.clone(), selection: self.selection.clone() }
    }
}

fn queued(row: &SqliteRow) -> Result<QueuedJob, StoreError> {
    let columns = Columns { table: "jobs", row };
    Ok(QueuedJob {
        id: columns.id("id")?,
        run: columns.id("run_id")?,
        alike: Alike {
            target: read_target(&columns)?,
            model: columns.plain("model")?,
            selection: columns.plain("selection")?,
        },
        state: read_state(&columns)?,
        created_at: columns.instant("created_at")?,
        trigger: columns.json("run_trigger")?,
        priority: columns.maybe_priority("run_priority")?,
        sha: columns.noun("run_sha")?,
    })
}

fn held(row: &SqliteRow) -> Result<Option<HeldJob>, StoreError> {
    let job = JobRow::read(row)?;
    let (by, attempt, lease_until) = match &job.state {
        JobState::Claimed { by, attempt, lease_until } | JobState::Running { by, attempt, lease_until, .. } => {
            (by.clone(), *attempt, *lease_until)
        }
        JobState::WaitingForImage { .. } | JobState::Queued { .. } | JobState::Finished { .. } => return Ok(None),
    };
    let columns = Columns { table: "attempts", row };
    let slot = Slot { devices: columns.json("slot_devices")?, cpus: columns.maybe_noun("slot_cpus")? };
    let claimed = ClaimedJob { claim: Claim { job: job.id, attempt, by }, slot, lease_until, job };
    Ok(Some(HeldJob { claimed, claimed_at: columns.instant("slot_claimed_at")? }))
}

async fn read_unfinished(from: impl SqliteExecutor<'_>) -> Result<Vec<QueuedJob>, StoreError> {
    // The specification stays where it is: it is large, and no decision needs it.
    let statement = "select jobs.id, run_id, platform, device_type, device_count, model, selection, jobs.state,
             waiting_since, until_at, next_look_at, last_look, not_before, claimed_by, attempt, lease_until,
             jobs.started_at, conclusion, created_at, runs.trigger as run_trigger, runs.priority as run_priority, runs.sha as run_sha
         from jobs join runs on runs.id = jobs.run_id where jobs.state <> 'finished' order by jobs.id";
    let rows = sqlx::query(statement).fetch_all(from).await.map_err(sql("read the queue"))?;
    rows.iter().map(queued).collect()
}

async fn read_held(from: impl SqliteExecutor<'_>, by: Option<&RunnerName>) -> Result<Vec<HeldJob>, StoreError> {
    let statement = "select jobs.*, attempts.devices as slot_devices, attempts.cpus as slot_cpus,
             attempts.claimed_at as slot_claimed_at
         from jobs join attempts on attempts.job_id = jobs.id and attempts.attempt = jobs.attempt
         where jobs.state in ('claimed', 'running') and (?1 is null or jobs.claimed_by = ?1) order by jobs.id";
    let rows = sqlx::query(statement)
        .bind(by.map(RunnerName::as_str))
        .fetch_all(from)
        .await
        .map_err(sql("read the jobs that hold devices"))?;
    Ok(rows.iter().map(held).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

pub(super) async fn read_usual_duration(
    from: impl SqliteExecutor<'_>,
    alike: &Alike,
) -> Result<Option<Duration>, StoreError> {
    let statement = "select attempts.finished_at - attempts.claimed_at as took
         from jobs join attempts on attempts.job_id = jobs.id and attempts.attempt = jobs.attempt
         where jobs.platform = ?1 and jobs.device_type = ?2 and jobs.device_count = ?3 and jobs.model = ?4
             and jobs.selection = ?5 and jobs.state = 'finished'
             and json_extract(jobs.conclusion, '$.conclusion') in ('success', 'incomplete')
             and attempts.finished_at > attempts.claimed_at
         order by jobs.id desc limit ?6";
    let mut took: Vec<i64> = sqlx::query_scalar(statement)
        .bind(alike.target.platform.as_str())
        .bind(alike.target.device_type.as_str())
        .bind(alike.target.count)
        .bind(&alike.model)
        .bind(&alike.selection)
        .bind(DURATIONS)
        .fetch_all(from)
        .await
        .map_err(sql(format!("read how long {} takes", alike.model)))?;
    took.sort_unstable();
    let median = took.get(took.len() / 2).and_then(|ms| u64::try_from(*ms).ok());
    Ok(median.map(Duration::from_millis))
}

/// Those that runners on the host of `by` hold.
fn on_host(by: &RunnerName, mut held: Vec<HeldJob>) -> Vec<HeldJob> {
    held.retain(|held| held.claimed.claim.by.host() == by.host());
    held
}

impl Write {
    /// All jobs that have not ended, oldest first, as this write sees them.
    pub async fn unfinished_jobs(&mut self) -> Result<Vec<QueuedJob>, StoreError> {
        read_unfinished(&mut *self.0).await
    }

    /// The jobs that the runners on the host of `by` hold, as this write sees them.
    pub async fn jobs_held_on_host(&mut self, by: &RunnerName) -> Result<Vec<HeldJob>, StoreError> {
        Ok(on_host(by, read_held(&mut *self.0, None).await?))
    }
}

impl Store {
    /// All jobs that have not ended, oldest first.
    pub async fn unfinished_jobs(&self) -> Result<Vec<QueuedJob>, StoreError> {
        read_unfinished(&self.readers).await
    }

    /// All jobs that have not ended and those of them that hold devices, as they stood at one moment.
    pub async fn unfinished_and_held(&self) -> Result<(Vec<QueuedJob>, Vec<HeldJob>), StoreError> {
        let mut read = self.read().await?;
        Ok((read_unfinished(&mut *read).await?, read_held(&mut *read, None).await?))
    }

    /// The jobs that the runners on the host of `by` hold, oldest first.
    pub async fn jobs_held_on_host(&self, by: &RunnerName) -> Result<Vec<HeldJob>, StoreError> {
        Ok(on_host(by, read_held(&self.readers, None).await?))
    }

    /// The jobs that a runner holds, or all that are held, oldest first.
    pub async fn held_jobs(&self, by: Option<&RunnerName>) -> Result<Vec<HeldJob>, StoreError> {
        read_held(&self.readers, by).await
    }

    /// Jobs whose image is to be looked for now; also those whose next look lies after `latest`, where no look is ever
    /// put: the clock was set back.
    pub async fn due_looks(&self, now: DateTime<Utc>, latest: DateTime<Utc>) -> Result<Vec<JobRow>, StoreError> {
        let statement = "select * from jobs where state = 'waiting_for_image'
             and (next_look_at <= ?1 or next_look_at > ?2) order by id";
        let rows = sqlx::query(statement)
            .bind(now.timestamp_millis())
            .bind(latest.timestamp_millis())
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the images to look for"))?;
        rows.iter().map(JobRow::read).collect()
    }

    /// Whether any job may be claimed now: a glance that takes no write lock.
    pub async fn has_claimable(&self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        sqlx::query_scalar("select exists (select 1 from jobs where state = 'queued' and not_before <= ?1)")
            .bind(now.timestamp_millis())
            .fetch_one(&self.readers)
            .await
            .map_err(sql("look for a claimable job"))
    }

    /// The median time that the newest measured attempts of such jobs held their devices; `None` when there was none.
    pub async fn usual_duration(&self, alike: &Alike) -> Result<Option<Duration>, StoreError> {
        read_usual_duration(&self.readers, alike).await
    }
}
