//! Jobs: what one runner does of a run for one target and model. Claiming is one guarded statement that counts the
//! attempt; a claim holds for its lease and is renewed by heartbeats, never by a long transaction.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::SqliteExecutor;
use sqlx::sqlite::SqliteRow;
use utoipa::ToSchema;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Outcome, Store, StoreError, Write};
use crate::model::{ImageLook, JobId, JobPhase, JobState, RunId, RunnerName, Slot, Target};

/// A job to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// What it runs on.
    pub target: Target,
    /// The model, as the benchmark files write it.
    pub model: String,
    /// All that the executor needs, as the planner wrote it.
    pub spec: serde_json::Value,
    /// What of the model is measured, as a short hash: jobs of the same target, model and selection take about as
    /// long.
    pub selection: String,
    /// Whether the run waits for it.
    pub required: bool,
    /// How often it is tried at most.
    pub max_attempts: u32,
    /// Whether it waits for its image or may be claimed.
    pub start: JobStart,
}

/// How a new job begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStart {
    /// It may be claimed at once.
    Queued,
    /// It waits for its image, at most until then.
    WaitingForImage {
        /// When waiting is given up.
        until: DateTime<Utc>,
    },
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// The run it belongs to.
    pub run: RunId,
    /// What it runs on.
    pub target: Target,
    /// The model, as the benchmark files write it.
    pub model: String,
    /// All that the executor needs, as the planner wrote it.
    pub spec: serde_json::Value,
    /// What of the model is measured, as a short hash.
    pub selection: String,
    /// Whether the run waits for it.
    pub required: bool,
    /// How often it is tried at most, not counting what a person's retry forgave.
    pub max_attempts: u32,
    /// How many attempts were begun.
    pub attempts_begun: u32,
    /// How many of them a person's retry forgave.
    pub attempts_before: u32,
    /// How far it has come.
    #[serde(flatten)]
    pub state: JobState,
    /// Why it ended, for people, where no attempt says so.
    pub message: Option<String>,
    /// When it was planned.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A claimed attempt: the key to everything its runner writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// Which try, from 1.
    pub attempt: u32,
    /// Who holds it.
    pub by: RunnerName,
}

/// A job that somebody holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimedJob {
    /// The key for heartbeat, passes and finish.
    pub claim: Claim,
    /// What of the host it has to itself.
    pub slot: Slot,
    /// Until when it holds without a heartbeat.
    pub lease_until: DateTime<Utc>,
    /// The job.
    pub job: JobRow,
}

/// What a heartbeat learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "heartbeat", rename_all = "snake_case")]
#[must_use]
pub enum Heartbeat {
    /// The claim holds until then.
    Renewed {
        /// Until when without another heartbeat.
        lease_until: DateTime<Utc>,
    },
    /// The job is somebody else's, cancelled or finished: stop at once.
    Lost,
}

/// A job's state from its columns.
pub(super) fn read_state(columns: &Columns<'_>) -> Result<JobState, StoreError> {
    Ok(match columns.noun::<JobPhase>("state")? {
        JobPhase::WaitingForImage => JobState::WaitingForImage {
            since: columns.instant("waiting_since")?,
            until: columns.instant("until_at")?,
            next_look_at: columns.instant("next_look_at")?,
            last_look: columns.maybe_json("last_look")?,
        },
        JobPhase::Queued => JobState::Queued { not_before: columns.instant("not_before")? },
        JobPhase::Claimed => JobState::Claimed {
            by: columns.noun("claimed_by")?,
            attempt: columns.number("attempt")?,
            lease_until: columns.instant("lease_until")?,
        },
        JobPhase::Running => JobState::Running {
            by: columns.noun("claimed_by")?,
            attempt: columns.number("attempt")?,
            lease_until: columns.instant("lease_until")?,
            started_at: columns.instant("started_at")?,
        },
        JobPhase::Finished => JobState::Finished { conclusion: columns.json("conclusion")? },
    })
}

/// A job's target from its columns.
pub(super) fn read_target(columns: &Columns<'_>) -> Result<Target, StoreError> {
    let (platform, device_type) = (columns.noun("platform")?, columns.noun("device_type")?);
    Ok(Target { platform, device_type, count: columns.number("device_count")? })
}

impl JobRow {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "jobs", row };
        Ok(Self {
            id: columns.id("id")?,
            run: columns.id("run_id")?,
            target: read_target(&columns)?,
            model: columns.plain("model")?,
            spec: columns.json("spec")?,
            selection: columns.plain("selection")?,
            required: columns.plain("required")?,
            max_attempts: columns.number("max_attempts")?,
            attempts_begun: columns.number("attempt")?,
            attempts_before: columns.number("attempts_before")?,
            state: read_state(&columns)?,
            message: columns.plain("message")?,
            created_at: columns.instant("created_at")?,
            finished_at: columns.maybe_instant("finished_at")?,
        })
    }
}

async fn read_job(from: impl SqliteExecutor<'_>, job: JobId) -> Result<Option<JobRow>, StoreError> {
    let row = sqlx::query("select * from jobs where id = ?1")
        .bind(id_column(job))
        .fetch_optional(from)
        .await
        .map_err(sql(format!("read job {job}")))?;
    row.as_ref().map(JobRow::read).transpose()
}

pub(super) async fn read_jobs_of_run(from: impl SqliteExecutor<'_>, run: RunId) -> Result<Vec<JobRow>, StoreError> {
    let rows = sqlx::query("select * from jobs where run_id = ?1 order by id")
        .bind(id_column(run))
        .fetch_all(from)
        .await
        .map_err(sql(format!("read the jobs of run {run}")))?;
    rows.iter().map(JobRow::read).collect()
}

impl Write {
    /// Writes down a job of `run` and gives it its id.
    pub async fn insert_job(&mut self, run: RunId, job: &NewJob, now: DateTime<Utc>) -> Result<JobId, StoreError> {
        let id: JobId = self.new_id(now).await?;
        let (state, until, not_before) = match job.start {
            JobStart::Queued => (JobPhase::Queued, None, Some(now)),
            JobStart::WaitingForImage { until } => (JobPhase::WaitingForImage, Some(until), None),
        };
        let statement = "insert into jobs (id, run_id, platform, device_type, device_count, model, spec, required,
                 max_attempts, state, until_at, not_before, created_at, selection, waiting_since, next_look_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15)";
        sqlx::query(statement)
            .bind(id_column(id))
            .bind(id_column(run))
            .bind(job.target.platform.as_str())
            .bind(job.target.device_type.as_str())
            .bind(job.target.count)
            .bind(&job.model)
            .bind(to_json("jobs.spec", &job.spec)?)
            .bind(job.required)
            .bind(job.max_attempts.max(1))
            .bind(state.as_str())
            .bind(until.map(|at| at.timestamp_millis()))
            .bind(not_before.map(|at| at.timestamp_millis()))
            .bind(now.timestamp_millis())
            .bind(&job.selection)
            .bind(until.map(|_| now.timestamp_millis()))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("insert a job of run {run}")))?;
        self.1.due = true;
        Ok(id)
    }

    /// Takes a job that still is queued, counts the attempt and writes down who holds it, with which devices.
    pub async fn take_job(
        &mut self,
        job: JobId,
        by: &RunnerName,
        slot: &Slot,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ClaimedJob>, StoreError> {
        let statement = "update jobs set state = 'claimed', attempt = attempt + 1, claimed_by = ?2, lease_until = ?3,
                 not_before = null
             where state = 'queued' and id = ?1 returning *";
        let row = sqlx::query(statement)
            .bind(id_column(job))
            .bind(by.as_str())
            .bind(lease_until.timestamp_millis())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(sql(format!("claim job {job}")))?;
        let Some(row) = row else { return Ok(None) };
        let job = JobRow::read(&row)?;
        let claim = Claim { job: job.id, attempt: job.attempts_begun, by: by.clone() };
        self.insert_attempt(&claim, slot, now).await?;
        Ok(Some(ClaimedJob { claim, slot: slot.clone(), lease_until, job }))
    }

    /// Renews a claim that still holds.
    pub async fn renew_lease(&mut self, claim: &Claim, lease_until: DateTime<Utc>) -> Result<Heartbeat, StoreError> {
        let statement = "update jobs set lease_until = ?4
             where id = ?1 and attempt = ?2 and claimed_by = ?3 and state in ('claimed', 'running')";
        let done = sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(claim.by.as_str())
            .bind(lease_until.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("renew the lease of job {}", claim.job)))?;
        Ok(match Outcome::of(done.rows_affected()) {
            Outcome::Performed => Heartbeat::Renewed { lease_until },
            Outcome::Moved => Heartbeat::Lost,
        })
    }

    /// Moves a job from one state to another, when it still is in the first and at this attempt.
    pub async fn move_job(
        &mut self,
        job: JobId,
        attempt: u32,
        from: JobPhase,
        to: &JobState,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let phase = to.phase();
        if !from.may_become(phase) {
            return Err(StoreError::IllegalMove { what: "job", from: from.to_string(), to: phase.to_string() });
        }
        let mut columns = Moved::default();
        match to {
            JobState::WaitingForImage { since, until, next_look_at, last_look } => {
                columns.until = Some(*until);
                columns.waiting_since = Some(*since);
                columns.next_look_at = Some(*next_look_at);
                columns.last_look = last_look.as_ref().map(|look| to_json("jobs.last_look", look)).transpose()?;
            }
            JobState::Queued { not_before } => columns.not_before = Some(*not_before),
            JobState::Claimed { by, lease_until, .. } => {
                columns.by = Some(by);
                columns.lease_until = Some(*lease_until);
            }
            JobState::Running { by, lease_until, started_at, .. } => {
                columns.by = Some(by);
                columns.lease_until = Some(*lease_until);
                columns.started_at = Some(*started_at);
            }
            JobState::Finished { conclusion } => {
                columns.conclusion = Some(to_json("jobs.conclusion", conclusion)?);
                columns.finished_at = Some(now);
            }
        }
        let statement = "update jobs set state = ?4, until_at = ?5, not_before = ?6, claimed_by = ?7,
                 lease_until = ?8, started_at = ?9, conclusion = ?10, finished_at = ?11, waiting_since = ?12,
                 next_look_at = ?13, last_look = ?14
             where id = ?1 and attempt = ?2 and state = ?3";
        let ms = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_millis());
        let done = sqlx::query(statement)
            .bind(id_column(job))
            .bind(attempt)
            .bind(from.as_str())
            .bind(phase.as_str())
            .bind(ms(columns.until))
            .bind(ms(columns.not_before))
            .bind(columns.by.map(RunnerName::as_str))
            .bind(ms(columns.lease_until))
            .bind(ms(columns.started_at))
            .bind(columns.conclusion)
            .bind(ms(columns.finished_at))
            .bind(ms(columns.waiting_since))
            .bind(ms(columns.next_look_at))
            .bind(columns.last_look)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("move job {job} to {phase}")))?;
        let outcome = Outcome::of(done.rows_affected());
        self.1.due |= outcome == Outcome::Performed && !matches!(phase, JobPhase::Claimed | JobPhase::Running);
        Ok(outcome)
    }

    /// Writes down a look that brought no image, and when the next one is; the job still waits.
    pub async fn note_look(
        &mut self,
        job: JobId,
        look: &ImageLook,
        next_look_at: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update jobs set last_look = ?2, next_look_at = ?3
             where id = ?1 and state = 'waiting_for_image'";
        let done = sqlx::query(statement)
            .bind(id_column(job))
            .bind(to_json("jobs.last_look", look)?)
            .bind(next_look_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("note a look for the image of job {job}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Says why a job ended, where no attempt does.
    pub async fn explain_job(&mut self, job: JobId, message: &str) -> Result<(), StoreError> {
        sqlx::query("update jobs set message = ?2 where id = ?1")
            .bind(id_column(job))
            .bind(message)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("explain job {job}")))?;
        Ok(())
    }

    /// Forgives a job's attempts so far: it has its whole budget again.
    pub async fn forgive_attempts(&mut self, job: JobId) -> Result<(), StoreError> {
        sqlx::query("update jobs set attempts_before = attempt, message = null where id = ?1")
            .bind(id_column(job))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("forgive the attempts of job {job}")))?;
        Ok(())
    }

    /// Forgives a job's last attempt: it was broken off through no fault of anything.
    pub async fn forgive_last_attempt(&mut self, job: JobId) -> Result<(), StoreError> {
        sqlx::query("update jobs set attempts_before = min(attempts_before + 1, attempt) where id = ?1")
            .bind(id_column(job))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("forgive an attempt of job {job}")))?;
        Ok(())
    }

    /// Brings instants back that lie further ahead than they can have been put: the clock was set back meanwhile.
    pub async fn draw_in(&mut self, lease_until: DateTime<Utc>, not_before: DateTime<Utc>) -> Result<(), StoreError> {
        let statements = [
            (
                "update jobs set lease_until = ?1 where state in ('claimed', 'running') and lease_until > ?1",
                lease_until,
            ),
            ("update jobs set not_before = ?1 where state = 'queued' and not_before > ?1", not_before),
            ("update outbox set next_at = ?1 where state = 'owed' and next_at > ?1", not_before),
            ("update ticks set next_at = ?1 where state = 'due' and next_at > ?1", not_before),
        ];
        for (statement, at) in statements {
            sqlx::query(statement)
                .bind(at.timestamp_millis())
                .execute(&mut *self.0)
                .await
                .map_err(sql("draw in what lies too far ahead"))?;
        }
        Ok(())
    }

    /// A job as this write sees it.
    pub async fn job(&mut self, job: JobId) -> Result<Option<JobRow>, StoreError> {
        read_job(&mut *self.0, job).await
    }

    /// The jobs of a run as this write sees them, oldest first.
    pub async fn jobs_of_run(&mut self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        read_jobs_of_run(&mut *self.0, run).await
    }
}

/// The columns that exist only in some states.
#[derive(Default)]
struct Moved<'a> {
    until: Option<DateTime<Utc>>,
    waiting_since: Option<DateTime<Utc>>,
    next_look_at: Option<DateTime<Utc>>,
    last_look: Option<String>,
    not_before: Option<DateTime<Utc>>,
    by: Option<&'a RunnerName>,
    lease_until: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    conclusion: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

impl Store {
    /// The jobs of a run, oldest first.
    pub async fn jobs_of_run(&self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        read_jobs_of_run(&self.readers, run).await
    }

    /// A job as it stands.
    pub async fn job(&self, job: JobId) -> Result<Option<JobRow>, StoreError> {
        read_job(&self.readers, job).await
    }

    /// Whether an instant lies further ahead than it can have been put ([`Write::draw_in`]).
    pub async fn lies_too_far_ahead(
        &self,
        lease_until: DateTime<Utc>,
        not_before: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let statement = "select exists (select 1 from jobs where state in ('claimed', 'running') and lease_until > ?1)
             or exists (select 1 from jobs where state = 'queued' and not_before > ?2)
             or exists (select 1 from outbox where state = 'owed' and next_at > ?2)
             or exists (select 1 from ticks where state = 'due' and next_at > ?2)";
        sqlx::query_scalar(statement)
            .bind(lease_until.timestamp_millis())
            .bind(not_before.timestamp_millis())
            .fetch_one(&self.readers)
            .await
            .map_err(sql("look for what lies too far ahead"))
    }

    /// Jobs whose lease or wait for an image ended before `now`.
    pub async fn overdue_jobs(&self, now: DateTime<Utc>) -> Result<Vec<JobRow>, StoreError> {
        let statement =
            "select * from jobs where state <> 'finished' and (lease_until < ?1 or until_at < ?1) order by id";
        let rows = sqlx::query(statement)
            .bind(now.timestamp_millis())
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the overdue jobs"))?;
        rows.iter().map(JobRow::read).collect()
    }
}
