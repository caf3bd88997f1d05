//! What pull requests and commits were told on GitHub: one row for each conversation (a comment, a check run, a status),
//! with what it says now, so that nothing is told twice and an answer that was lost is looked for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use super::codec::{Columns, id_column};
use super::error::sql;
use super::{RunRow, Store, StoreError, Write};
use crate::model::RepoName;

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PullKey {
    /// Whose.
    pub repository: RepoName,
    /// Its number.
    pub number: u64,
}

/// What a comment or check that is owed needs besides its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullOrder {
    /// The pull request's number.
    pub number: u64,
}

/// How something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReportKind {
    /// A pull request's comment.
    Comment,
    /// A commit's check run.
    CheckRun,
    /// A commit's status.
    Status,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportKey {
    /// In which repository.
    pub repository: RepoName,
    /// How.
    pub kind: ReportKind,
    /// About what: `#12`, or a commit.
    pub subject: String,
}

/// What a conversation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Hash of what people must learn at once.
    pub state: String,
    /// Hash of the whole text.
    pub text: String,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// A conversation as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRow {
    /// Which.
    pub key: ReportKey,
    /// GitHub's number of it; `None` while it is not known.
    pub remote_id: Option<u64>,
    /// What it says; `None` while it has said nothing.
    pub told: Option<Told>,
    /// Since when a creation is under way whose answer has not come.
    pub creating_since: Option<DateTime<Utc>>,
    /// How often telling failed since it last went well.
    pub attempts: u32,
    /// Not to be tried before.
    pub next_at: DateTime<Utc>,
    /// What the last try met.
    pub last_error: Option<String>,
}

impl ReportKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Comment => "comment",
            Self::CheckRun => "check_run",
            Self::Status => "status",
        }
    }
}

impl ReportKey {
    /// The comment of a pull request.
    pub fn comment(pull: &PullKey) -> Self {
        Self { repository: pull.repository.clone(), kind: ReportKind::Comment, subject: format!("#{}", pull.number) }
    }

    fn read(&self, row: &SqliteRow) -> Result<ReportRow, StoreError> {
        let columns = Columns { table: "reports", row };
        let told = match (columns.plain("told_state")?, columns.plain("told_text")?, columns.maybe_instant("told_at")?)
        {
            (Some(state), Some(text), Some(at)) => Some(Told { state, text, at }),
            _ => None,
        };
        Ok(ReportRow {
            key: self.clone(),
            remote_id: columns.maybe_number("remote_id")?,
            told,
            creating_since: columns.maybe_instant("creating_since")?,
            attempts: columns.number("attempts")?,
            next_at: columns.instant("next_at")?,
            last_error: columns.plain("last_error")?,
        })
    }
}

impl Write {
    /// Writes down that something is about to be created, before it is: its number is not known from now on.
    pub async fn begin_report(&mut self, key: &ReportKey, now: DateTime<Utc>) -> Result<(), StoreError> {
        let statement = "insert into reports (repository, kind, subject, creating_since) values (?1, ?2, ?3, ?4)
             on conflict do update set remote_id = null, creating_since = excluded.creating_since";
        sqlx::query(statement)
            .bind(key.repository.as_str())
            .bind(key.kind.as_str())
            .bind(&key.subject)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("begin to tell {}", key.subject)))?;
        Ok(())
    }

    /// Writes down what a conversation says now, and GitHub's number of it.
    pub async fn report_told(
        &mut self,
        key: &ReportKey,
        remote_id: Option<u64>,
        told: &Told,
    ) -> Result<(), StoreError> {
        let statement = "insert into reports (repository, kind, subject, remote_id, told_state, told_text, told_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             on conflict do update set remote_id = excluded.remote_id, told_state = excluded.told_state,
                 told_text = excluded.told_text, told_at = excluded.told_at, creating_since = null, attempts = 0,
                 next_at = 0, last_error = null";
        sqlx::query(statement)
            .bind(key.repository.as_str())
            .bind(key.kind.as_str())
            .bind(&key.subject)
            .bind(remote_id.map(id_column))
            .bind(&told.state)
            .bind(&told.text)
            .bind(told.at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("write down what {} was told", key.subject)))?;
        Ok(())
    }

    /// Counts a try that failed; the next one is at `next_at`.
    pub async fn postpone_report(
        &mut self,
        key: &ReportKey,
        error: &str,
        next_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let statement = "insert into reports (repository, kind, subject, attempts, last_error, next_at)
             values (?1, ?2, ?3, 1, ?4, ?5)
             on conflict do update set attempts = attempts + 1, last_error = excluded.last_error,
                 next_at = excluded.next_at";
        sqlx::query(statement)
            .bind(key.repository.as_str())
            .bind(key.kind.as_str())
            .bind(&key.subject)
            .bind(error)
            .bind(next_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("postpone telling {}", key.subject)))?;
        Ok(())
    }
}

impl Store {
    /// A conversation as it stands; `None` when it was never begun.
    pub async fn report(&self, key: &ReportKey) -> Result<Option<ReportRow>, StoreError> {
        let row = sqlx::query("select * from reports where repository = ?1 and kind = ?2 and subject = ?3")
            .bind(key.repository.as_str())
            .bind(key.kind.as_str())
            .bind(&key.subject)
            .fetch_optional(&self.readers)
            .await
            .map_err(sql(format!("read what {} was told", key.subject)))?;
        row.as_ref().map(|row| key.read(row)).transpose()
    }

    /// The pull requests that something may have to be told: of open runs that owe a comment or check, of ended ones that
    /// still owe it at `now`, and those whose head has moved since, or that were closed or opened again.
    pub async fn pulls_to_tell(&self, now: DateTime<Utc>) -> Result<Vec<PullKey>, StoreError> {
        let statement = "select runs.repository, json_extract(owed.value, '$.payload.number') as number
             from runs, json_each(runs.owed) as owed
             where runs.state in ('requested', 'queued', 'running', 'measured')
                 and json_extract(owed.value, '$.kind') in ('comment', 'check_run') and number > 0
             union
             select runs.repository, json_extract(outbox.payload, '$.number') as number
             from outbox join runs on runs.id = outbox.run_id
             where outbox.state = 'owed' and outbox.kind in ('comment', 'check_run') and outbox.next_at <= ?1
                 and number > 0
             union
             select pulls.repository, pulls.number
             from pulls join reports on reports.repository = pulls.repository and reports.kind = 'comment'
                 and reports.subject = '#' || pulls.number
             where pulls.standing in ('draft', 'ready') and pulls.head_seen_at > reports.told_at
                 or pulls.turned_at > reports.told_at";
        let rows = sqlx::query(statement)
            .bind(now.timestamp_millis())
            .fetch_all(&self.readers)
            .await
            .map_err(sql("look for pull requests to tell"))?;
        let pull = |row| {
            let columns = Columns { table: "runs", row };
            Ok(PullKey { repository: columns.noun("repository")?, number: columns.number("number")? })
        };
        rows.iter().map(pull).collect()
    }

    /// The newest runs of a pull request, newest first, at most `limit`: those that its labels or commands began, and
    /// their reruns.
    pub async fn runs_of_pull(&self, pull: &PullKey, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let statement = "with recursive own (id) as (
                 select id from runs
                 where repository = ?1 and json_extract(trigger, '$.number') = ?2
                     and json_extract(trigger, '$.number') is not null
                 union
                 select runs.id from own join runs on json_extract(runs.trigger, '$.of') = own.id
                 where json_extract(runs.trigger, '$.of') is not null)
             select runs.* from own join runs on runs.id = own.id order by runs.id desc limit ?3";
        let rows = sqlx::query(statement)
            .bind(pull.repository.as_str())
            .bind(id_column(pull.number))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the runs of {}#{}", pull.repository, pull.number)))?;
        rows.iter().map(RunRow::read).collect()
    }

    /// Whether a commit was ever asked to be measured for a pull request, by runs that owe it a check.
    pub async fn has_run_with_check(&self, pull: &PullKey, sha: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "select exists (select 1 from runs, json_each(runs.owed) as owed
                 where runs.repository = ?1 and runs.sha = ?3 and json_extract(owed.value, '$.kind') = 'check_run'
                     and json_extract(owed.value, '$.payload.number') = ?2)",
        )
        .bind(pull.repository.as_str())
        .bind(id_column(pull.number))
        .bind(sha)
        .fetch_one(&self.readers)
        .await
        .map_err(sql(format!("look for runs of {sha}")))
    }
}
