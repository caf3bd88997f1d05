//! What is owed to the outside: uploads, comments, check runs, notifications. A row is written in the same
//! transaction as the state change that owes it, so that no end of a run is left without an answer.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::SqliteExecutor;
use sqlx::sqlite::SqliteRow;
use utoipa::ToSchema;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Outcome, PullKey, Store, StoreError, Write};
use crate::model::{JobId, RunId};

/// Something that is owed when a run ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Owed {
    /// What.
    pub kind: OwedKind,
    /// To whom, unique within the run and kind: a target's URL, a pull request, a channel.
    pub subject: String,
    /// What the delivery needs besides the run.
    pub payload: serde_json::Value,
}

/// What is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwedKind {
    /// A job's records to a place: one row for each job that gave results.
    Upload,
    /// A comment on a pull request.
    Comment,
    /// A check run on the commit.
    CheckRun,
    /// A message to people.
    Notification,
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwedState {
    /// To be delivered.
    Owed,
    /// Delivered.
    Delivered,
    /// Not sent, and rightly so: the same commit's results of another run are there already.
    Kept,
    /// Refused for good.
    Refused,
}

/// No kind or state has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not known to the outbox")]
pub struct UnknownOwed(String);

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutboxRow {
    /// Its number.
    pub id: u64,
    /// The run that owes it.
    pub run: RunId,
    /// The job whose results it is about.
    pub job: Option<JobId>,
    /// What is owed, to whom.
    #[serde(flatten)]
    pub owed: Owed,
    /// How far it has come.
    pub state: OwedState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub settled_at: Option<DateTime<Utc>>,
    /// What the last try met.
    pub last_error: Option<String>,
}

impl OwedKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Upload, Self::Comment, Self::CheckRun, Self::Notification];

    /// The name in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Comment => "comment",
            Self::CheckRun => "check_run",
            Self::Notification => "notification",
        }
    }
}

impl OwedState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Owed, Self::Delivered, Self::Kept, Self::Refused];

    /// The name in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owed => "owed",
            Self::Delivered => "delivered",
            Self::Kept => "kept",
            Self::Refused => "refused",
        }
    }
}

impl std::str::FromStr for OwedKind {
    type Err = UnknownOwed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|k| k.as_str() == text).ok_or_else(|| UnknownOwed(text.to_owned()))
    }
}

impl std::str::FromStr for OwedState {
    type Err = UnknownOwed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| UnknownOwed(text.to_owned()))
    }
}

impl OutboxRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "outbox", row };
        let job: Option<u64> = columns.maybe_number("job_id")?;
        Ok(Self {
            id: columns.number("id")?,
            run: columns.id("run_id")?,
            job: job.map(JobId::try_from).transpose()?,
            owed: Owed {
                kind: columns.noun("kind")?,
                subject: columns.plain("subject")?,
                payload: columns.json("payload")?,
            },
            state: columns.noun("state")?,
            attempts: columns.number("attempts")?,
            next_at: columns.instant("next_at")?,
            settled_at: columns.maybe_instant("settled_at")?,
            last_error: columns.plain("last_error")?,
        })
    }
}

/// What a run owes and owed, oldest first.
pub(super) async fn read_outbox_of_run(
    from: impl SqliteExecutor<'_>,
    run: RunId,
) -> Result<Vec<OutboxRow>, StoreError> {
    let rows = sqlx::query("select * from outbox where run_id = ?1 order by id")
        .bind(id_column(run))
        .fetch_all(from)
        .await
        .map_err(sql(format!("read the outbox of run {run}")))?;
    rows.iter().map(OutboxRow::read).collect()
}

impl Write {
    /// Owes something, once: the same subject of the same run and kind (and job) is not owed twice. What is settled
    /// already is owed again: the run was retried and ends anew.
    pub async fn owe(
        &mut self,
        run: RunId,
        job: Option<JobId>,
        owed: &Owed,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let statement = "insert into outbox (run_id, job_id, kind, subject, payload, state, next_at, created_at)
             values (?1, ?2, ?3, ?4, ?5, 'owed', ?6, ?6)
             on conflict do update set payload = excluded.payload, state = 'owed', attempts = 0,
                 next_at = excluded.next_at, settled_at = null, last_error = null
             where state <> 'owed'";
        sqlx::query(statement)
            .bind(id_column(run))
            .bind(job.map(id_column))
            .bind(owed.kind.as_str())
            .bind(&owed.subject)
            .bind(to_json("outbox.payload", &owed.payload)?)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("owe a {} for run {run}", owed.kind.as_str())))?;
        Ok(())
    }

    /// Ends a row that is still owed: delivered, or kept or refused for good with the reason.
    pub async fn settle_owed(
        &mut self,
        id: u64,
        to: OwedState,
        error: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update outbox set state = ?2, attempts = attempts + 1, settled_at = ?3, last_error = ?4
             where id = ?1 and state = 'owed'";
        let done = sqlx::query(statement)
            .bind(id_column(id))
            .bind(to.as_str())
            .bind(now.timestamp_millis())
            .bind(error)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("settle outbox row {id}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Counts a failed try of a row that stays owed until `next_at`.
    pub async fn postpone_owed(&mut self, id: u64, error: &str, next_at: DateTime<Utc>) -> Result<Outcome, StoreError> {
        let statement = "update outbox set attempts = attempts + 1, next_at = ?2, last_error = ?3
             where id = ?1 and state = 'owed'";
        let done = sqlx::query(statement)
            .bind(id_column(id))
            .bind(next_at.timestamp_millis())
            .bind(error)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("postpone outbox row {id}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// What a run owes and owed, as this write sees it.
    pub async fn outbox_of_run(&mut self, run: RunId) -> Result<Vec<OutboxRow>, StoreError> {
        read_outbox_of_run(&mut *self.0, run).await
    }
}

impl Store {
    /// Rows of a kind (or of all) that are due, oldest first, at most `limit`; only of `run` when one is given.
    pub async fn due_owed(
        &self,
        now: DateTime<Utc>,
        kind: Option<OwedKind>,
        run: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let statement = "select * from outbox where state = 'owed' and next_at <= ?1 and (?2 is null or run_id = ?2)
                 and (?4 is null or kind = ?4)
             order by next_at, id limit ?3";
        let rows = sqlx::query(statement)
            .bind(now.timestamp_millis())
            .bind(run.map(id_column))
            .bind(limit)
            .bind(kind.map(OwedKind::as_str))
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the outbox"))?;
        rows.iter().map(OutboxRow::read).collect()
    }

    /// What ended runs owe to a pull request and its commits, oldest first. A run whose records are still being
    /// published is not among them: what it says may change yet.
    pub async fn owed_to_pull(&self, pull: &PullKey) -> Result<Vec<OutboxRow>, StoreError> {
        let statement = "select outbox.* from outbox join runs on runs.id = outbox.run_id
             where outbox.state = 'owed' and outbox.kind in ('comment', 'check_run') and runs.repository = ?1
                 and json_extract(outbox.payload, '$.number') = ?2
                 and runs.state not in ('requested', 'queued', 'running')
                 and not exists (select 1 from outbox as upload where upload.run_id = outbox.run_id
                     and upload.kind = 'upload' and upload.state = 'owed')
             order by outbox.id";
        let rows = sqlx::query(statement)
            .bind(pull.repository.as_str())
            .bind(id_column(pull.number))
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read what {}#{} is owed", pull.repository, pull.number)))?;
        rows.iter().map(OutboxRow::read).collect()
    }
}
