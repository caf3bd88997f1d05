//! Schedules and their ticks: each instant is written down once, stays due until it is answered, and keeps its answer.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use utoipa::ToSchema;

use super::codec::{Columns, to_json};
use super::error::sql;
use super::{Outcome, Store, StoreError, Write};
use crate::model::RepoName;

/// One instant of one schedule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct TickKey {
    /// Whose schedule.
    pub repository: RepoName,
    /// The expression as configured.
    pub schedule: String,
    /// The instant.
    pub due_at: DateTime<Utc>,
}

/// A schedule that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Its last tick that was written down.
    pub last_tick_at: Option<DateTime<Utc>>,
}

/// A tick as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TickRow {
    /// Which.
    #[serde(flatten)]
    pub key: TickKey,
    /// How far it has come.
    #[serde(flatten)]
    pub state: TickState,
    /// How often it was tried and could not be answered.
    pub attempts: u32,
    /// What came of it; of one that is still due, why not yet.
    pub answer: Option<serde_json::Value>,
}

/// How far a tick has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TickState {
    /// It waits to be answered.
    Due {
        /// Not before this instant.
        next_at: DateTime<Utc>,
    },
    /// It was answered.
    Answered {
        /// When.
        settled_at: DateTime<Utc>,
    },
    /// The next tick of its schedule came before it could be answered.
    Overtaken {
        /// When.
        settled_at: DateTime<Utc>,
    },
}

/// Whether a row was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Recorded {
    /// It is new.
    Inserted,
    /// It was there before.
    Existed,
}

impl TickRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "ticks", row };
        let state = match columns.plain::<String>("state")?.as_str() {
            "due" => TickState::Due { next_at: columns.instant("next_at")? },
            "answered" => TickState::Answered { settled_at: columns.instant("settled_at")? },
            "overtaken" => TickState::Overtaken { settled_at: columns.instant("settled_at")? },
            other => return Err(columns.bad("state", other)),
        };
        let key = TickKey {
            repository: columns.noun("repository")?,
            schedule: columns.plain("schedule")?,
            due_at: columns.instant("due_at")?,
        };
        Ok(Self { key, state, attempts: columns.number("attempts")?, answer: columns.maybe_json("answer")? })
    }
}

impl Write {
    /// Begins to follow a schedule at `now`, unless it is followed already.
    pub async fn follow_schedule(
        &mut self,
        repository: &RepoName,
        schedule: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        sqlx::query("insert into schedules (repository, schedule, since) values (?1, ?2, ?3) on conflict do nothing")
            .bind(repository.as_str())
            .bind(schedule)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("follow the schedule `{schedule}`")))?;
        Ok(())
    }

    /// Writes down that a tick is due, once; older ones of the same schedule that still wait are overtaken by it.
    pub async fn record_tick(&mut self, key: &TickKey, now: DateTime<Utc>) -> Result<Recorded, StoreError> {
        let doing = || format!("record a tick of `{}`", key.schedule);
        let statement =
            "insert into ticks (repository, schedule, due_at, state, next_at) values (?1, ?2, ?3, 'due', ?4)
             on conflict do nothing";
        let done = sqlx::query(statement)
            .bind(key.repository.as_str())
            .bind(&key.schedule)
            .bind(key.due_at.timestamp_millis())
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        if done.rows_affected() == 0 {
            return Ok(Recorded::Existed);
        }
        let statement = "update ticks set state = 'overtaken', next_at = null, settled_at = ?4
             where repository = ?1 and schedule = ?2 and due_at < ?3 and state = 'due'";
        sqlx::query(statement)
            .bind(key.repository.as_str())
            .bind(&key.schedule)
            .bind(key.due_at.timestamp_millis())
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        Ok(Recorded::Inserted)
    }

    /// Answers a tick that is still due.
    pub async fn answer_tick(
        &mut self,
        key: &TickKey,
        answer: &serde_json::Value,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update ticks set state = 'answered', next_at = null, settled_at = ?4, answer = ?5
             where repository = ?1 and schedule = ?2 and due_at = ?3 and state = 'due'";
        let done = sqlx::query(statement)
            .bind(key.repository.as_str())
            .bind(&key.schedule)
            .bind(key.due_at.timestamp_millis())
            .bind(now.timestamp_millis())
            .bind(to_json("ticks.answer", answer)?)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("answer a tick of `{}`", key.schedule)))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Puts off a tick that could not be answered, and keeps why.
    pub async fn postpone_tick(
        &mut self,
        key: &TickKey,
        answer: &serde_json::Value,
        next_at: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update ticks set attempts = attempts + 1, next_at = ?4, answer = ?5
             where repository = ?1 and schedule = ?2 and due_at = ?3 and state = 'due'";
        let done = sqlx::query(statement)
            .bind(key.repository.as_str())
            .bind(&key.schedule)
            .bind(key.due_at.timestamp_millis())
            .bind(next_at.timestamp_millis())
            .bind(to_json("ticks.answer", answer)?)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("put off a tick of `{}`", key.schedule)))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Forgets ticks that were due before `before` and are settled.
    pub async fn forget_ticks(&mut self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query("delete from ticks where due_at < ?1 and state <> 'due'")
            .bind(before.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql("forget old ticks"))?;
        Ok(done.rows_affected())
    }
}

impl Store {
    /// How a schedule stands at `now`; `None` when it was never followed.
    pub async fn schedule(
        &self,
        repository: &RepoName,
        schedule: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        let statement = "select since, (select max(due_at) from ticks where ticks.repository = schedules.repository
                     and ticks.schedule = schedules.schedule and due_at <= ?3) as last_tick_at
             from schedules where repository = ?1 and schedule = ?2";
        let row = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(schedule)
            .bind(now.timestamp_millis())
            .fetch_optional(&self.readers)
            .await
            .map_err(sql(format!("read the schedule `{schedule}`")))?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "schedules", row: &row };
        let last_tick_at = columns.maybe_instant("last_tick_at")?;
        Ok(Some(ScheduleRow { since: columns.instant("since")?, last_tick_at }))
    }

    /// The ticks that wait to be answered at `now`, oldest first.
    pub async fn due_ticks(&self, now: DateTime<Utc>) -> Result<Vec<TickRow>, StoreError> {
        let rows = sqlx::query("select * from ticks where state = 'due' and next_at <= ?1 order by due_at")
            .bind(now.timestamp_millis())
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the due ticks"))?;
        rows.iter().map(TickRow::read).collect()
    }

    /// The latest ticks, newest first.
    pub async fn latest_ticks(&self, limit: u32) -> Result<Vec<TickRow>, StoreError> {
        let rows = sqlx::query("select * from ticks order by due_at desc, repository, schedule limit ?1")
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the latest ticks"))?;
        rows.iter().map(TickRow::read).collect()
    }
}
