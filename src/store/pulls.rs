//! Pull requests as they were at the last look, the approvals of their heads, the runs that labels and commands started
//! for them, and the commands that were answered.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::SqliteExecutor;
use sqlx::sqlite::SqliteRow;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Outcome, Recorded, RunRow, Store, StoreError, Write};
use crate::model::{Asked, CommitSha, Origin, RepoName, RunId, Standing};

/// A pull request as it was at the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRow {
    /// Its repository.
    pub repository: RepoName,
    /// Its number.
    pub number: u64,
    /// Its head.
    pub head: CommitSha,
    /// When benchd saw the head first.
    pub head_seen_at: DateTime<Utc>,
    /// GitHub's time of the last change of the pull request, when the head was seen first: not before the push.
    pub head_updated_at: DateTime<Utc>,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// How it stands.
    pub standing: Standing,
    /// When it was seen to be closed, or open again.
    pub turned_at: DateTime<Utc>,
    /// Whose code its head is.
    pub origin: Origin,
    /// Who opened it.
    pub author: Option<String>,
    /// The branch it is to be merged into.
    pub base_branch: String,
    /// The title of the quiet check that its head has.
    pub said: Option<String>,
    /// How many quiet checks there were.
    pub said_count: u32,
    /// GitHub's time of the last change of it.
    pub updated_at: DateTime<Utc>,
}

/// A run that labels or a command started.
#[derive(Clone, Debug, PartialEq)]
pub struct PullRun {
    /// The run.
    pub run: RunRow,
    /// Who wanted it.
    pub asked: Asked,
    /// Who, where it was a person.
    pub by: Option<String>,
    /// When it was ended because nobody wanted it any more or a newer head came.
    pub withdrawn_at: Option<DateTime<Utc>>,
}

/// An approval of a head of a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRow {
    /// The head.
    pub sha: CommitSha,
    /// Who.
    pub by: String,
    /// How.
    pub how: ApprovedBy,
    /// When, by GitHub's time.
    pub at: DateTime<Utc>,
}

/// How a head was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovedBy {
    /// By setting a label.
    Label,
    /// By a command.
    Command,
}

/// No way of approving has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no way to approve a commit (label, command)")]
pub struct UnknownApproval(String);

impl ApprovedBy {
    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Command => "command",
        }
    }
}

impl std::str::FromStr for ApprovedBy {
    type Err = UnknownApproval;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Label, Self::Command]
            .into_iter()
            .find(|how| how.as_str() == text)
            .ok_or_else(|| UnknownApproval(text.to_owned()))
    }
}

impl PullRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "pulls", row };
        Ok(Self {
            repository: columns.noun("repository")?,
            number: columns.number("number")?,
            head: columns.noun("head_sha")?,
            head_seen_at: columns.instant("head_seen_at")?,
            head_updated_at: columns.instant("head_updated_at")?,
            labels: columns.json("labels")?,
            standing: columns.noun("standing")?,
            turned_at: columns.instant("turned_at")?,
            origin: columns.noun("origin")?,
            author: columns.plain("author")?,
            base_branch: columns.plain("base_branch")?,
            said: columns.plain("said")?,
            said_count: columns.number("said_count")?,
            updated_at: columns.instant("updated_at")?,
        })
    }
}

impl PullRun {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "pull_runs", row };
        Ok(Self {
            run: RunRow::read(row)?,
            asked: columns.noun("asked")?,
            by: columns.plain("by")?,
            withdrawn_at: columns.maybe_instant("withdrawn_at")?,
        })
    }
}

async fn read_pull(
    from: impl SqliteExecutor<'_>,
    repository: &RepoName,
    number: u64,
) -> Result<Option<PullRow>, StoreError> {
    let row = sqlx::query("select * from pulls where repository = ?1 and number = ?2")
        .bind(repository.as_str())
        .bind(id_column(number))
        .fetch_optional(from)
        .await
        .map_err(sql(format!("read the pull request #{number}")))?;
    row.as_ref().map(PullRow::read).transpose()
}

async fn read_runs(
    from: impl SqliteExecutor<'_>,
    repository: &RepoName,
    number: u64,
) -> Result<Vec<PullRun>, StoreError> {
    let statement = "select runs.*, pull_runs.asked, pull_runs.by, pull_runs.withdrawn_at
         from pull_runs join runs on runs.id = pull_runs.run_id
         where pull_runs.repository = ?1 and pull_runs.number = ?2 order by runs.id";
    let rows = sqlx::query(statement)
        .bind(repository.as_str())
        .bind(id_column(number))
        .fetch_all(from)
        .await
        .map_err(sql(format!("read the runs of the pull request #{number}")))?;
    rows.iter().map(PullRun::read).collect()
}

impl Write {
    /// A pull request as this write sees it.
    pub async fn pull(&mut self, repository: &RepoName, number: u64) -> Result<Option<PullRow>, StoreError> {
        read_pull(&mut *self.0, repository, number).await
    }

    /// Writes down how a pull request stands now.
    pub async fn record_pull(&mut self, pull: &PullRow) -> Result<(), StoreError> {
        let statement =
            "insert into pulls (repository, number, head_sha, head_seen_at, head_updated_at, labels, standing,
                 origin, author, base_branch, said, said_count, updated_at, turned_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             on conflict do update set head_sha = excluded.head_sha, head_seen_at = excluded.head_seen_at,
                 head_updated_at = excluded.head_updated_at, labels = excluded.labels, standing = excluded.standing,
                 origin = excluded.origin, author = excluded.author, base_branch = excluded.base_branch,
                 said = excluded.said, said_count = excluded.said_count, updated_at = excluded.updated_at,
                 turned_at = excluded.turned_at";
        sqlx::query(statement)
            .bind(pull.repository.as_str())
            .bind(id_column(pull.number))
            .bind(pull.head.as_str())
            .bind(pull.head_seen_at.timestamp_millis())
            .bind(pull.head_updated_at.timestamp_millis())
            .bind(to_json("pulls.labels", &pull.labels)?)
            .bind(pull.standing.as_str())
            .bind(pull.origin.as_str())
            .bind(&pull.author)
            .bind(&pull.base_branch)
            .bind(&pull.said)
            .bind(pull.said_count)
            .bind(pull.updated_at.timestamp_millis())
            .bind(pull.turned_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("record the pull request #{}", pull.number)))?;
        Ok(())
    }

    /// The runs that labels and commands started for a pull request, oldest first, as this write sees them.
    pub async fn pull_runs(&mut self, repository: &RepoName, number: u64) -> Result<Vec<PullRun>, StoreError> {
        read_runs(&mut *self.0, repository, number).await
    }

    /// Writes down for which pull request a run was started, and who wanted it.
    pub async fn record_pull_run(
        &mut self,
        run: RunId,
        pull: (&RepoName, u64),
        sha: &CommitSha,
        asked: Asked,
        by: Option<&str>,
    ) -> Result<(), StoreError> {
        let statement = "insert into pull_runs (run_id, repository, number, sha, asked, by)
             values (?1, ?2, ?3, ?4, ?5, ?6)";
        sqlx::query(statement)
            .bind(id_column(run))
            .bind(pull.0.as_str())
            .bind(id_column(pull.1))
            .bind(sha.as_str())
            .bind(asked.as_str())
            .bind(by)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("record run {run} of the pull request #{}", pull.1)))?;
        Ok(())
    }

    /// Lets the head of a run come again: it was ended because nobody wanted it, or for a newer head.
    pub async fn withdraw_pull_run(&mut self, run: RunId, now: DateTime<Utc>) -> Result<Outcome, StoreError> {
        let done = sqlx::query("update pull_runs set withdrawn_at = ?2 where run_id = ?1 and withdrawn_at is null")
            .bind(id_column(run))
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("withdraw run {run}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Takes back that a run was withdrawn, because somebody had it tried again, unless another one has its place.
    pub async fn restore_pull_run(&mut self, run: RunId) -> Result<(), StoreError> {
        sqlx::query("update or ignore pull_runs set withdrawn_at = null where run_id = ?1")
            .bind(id_column(run))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("take back that run {run} was withdrawn")))?;
        Ok(())
    }

    /// Writes down an approval, once for each person and head.
    pub async fn record_approval(
        &mut self,
        pull: (&RepoName, u64),
        approval: &ApprovalRow,
    ) -> Result<Recorded, StoreError> {
        let statement = "insert into approvals (repository, number, sha, by, how, at)
             values (?1, ?2, ?3, ?4, ?5, ?6) on conflict do nothing";
        let done = sqlx::query(statement)
            .bind(pull.0.as_str())
            .bind(id_column(pull.1))
            .bind(approval.sha.as_str())
            .bind(&approval.by)
            .bind(approval.how.as_str())
            .bind(approval.at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("record an approval of {}", approval.sha.short())))?;
        Ok(if done.rows_affected() == 0 { Recorded::Existed } else { Recorded::Inserted })
    }

    /// Writes down that a command is being answered, once.
    pub async fn record_command(
        &mut self,
        key: &str,
        pull: (&RepoName, u64),
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<Recorded, StoreError> {
        let statement = "insert into commands (key, repository, number, by, answered_at)
             values (?1, ?2, ?3, ?4, ?5) on conflict do nothing";
        let done = sqlx::query(statement)
            .bind(key)
            .bind(pull.0.as_str())
            .bind(id_column(pull.1))
            .bind(by)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql("record a command"))?;
        Ok(if done.rows_affected() == 0 { Recorded::Existed } else { Recorded::Inserted })
    }
}

impl Store {
    /// A pull request as it was at the last look.
    pub async fn pull(&self, repository: &RepoName, number: u64) -> Result<Option<PullRow>, StoreError> {
        read_pull(&self.readers, repository, number).await
    }

    /// The pull requests that were open at the last look, by number.
    pub async fn open_pulls(&self, repository: &RepoName) -> Result<Vec<PullRow>, StoreError> {
        let statement = "select * from pulls where repository = ?1 and standing in ('draft', 'ready') order by number";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the open pull requests of {repository}")))?;
        rows.iter().map(PullRow::read).collect()
    }

    /// The pull requests whose head this commit is or was, as far as it was measured for them, newest first.
    pub async fn pulls_of_commit(&self, repository: &RepoName, sha: &CommitSha) -> Result<Vec<PullRow>, StoreError> {
        let statement = "select * from pulls where repository = ?1 and (head_sha = ?2 or number in (
                 select pull_runs.number from pull_runs join runs on runs.id = pull_runs.run_id
                 where pull_runs.repository = ?1 and runs.sha = ?2))
             order by head_sha = ?2 desc, number desc";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(sha.as_str())
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("look for the pull request of {}", sha.short())))?;
        rows.iter().map(PullRow::read).collect()
    }

    /// The runs that labels and commands started for a pull request, oldest first.
    pub async fn pull_runs(&self, repository: &RepoName, number: u64) -> Result<Vec<PullRun>, StoreError> {
        read_runs(&self.readers, repository, number).await
    }

    /// The pull request that a run was started for.
    pub async fn pull_of_run(&self, run: RunId) -> Result<Option<(u64, PullRun)>, StoreError> {
        let statement = "select runs.*, pull_runs.asked, pull_runs.by, pull_runs.withdrawn_at, pull_runs.number
             from pull_runs join runs on runs.id = pull_runs.run_id where runs.id = ?1";
        let row = sqlx::query(statement)
            .bind(id_column(run))
            .fetch_optional(&self.readers)
            .await
            .map_err(sql(format!("read the pull request of run {run}")))?;
        let Some(row) = row else { return Ok(None) };
        let number = Columns { table: "pull_runs", row: &row }.number("number")?;
        Ok(Some((number, PullRun::read(&row)?)))
    }

    /// The approvals of a head, oldest first.
    pub async fn approvals(
        &self,
        repository: &RepoName,
        number: u64,
        sha: &CommitSha,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let statement = "select * from approvals where repository = ?1 and number = ?2 and sha = ?3 order by at, by";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(id_column(number))
            .bind(sha.as_str())
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the approvals of {}", sha.short())))?;
        let approval = |row: &SqliteRow| {
            let columns = Columns { table: "approvals", row };
            Ok(ApprovalRow {
                sha: columns.noun("sha")?,
                by: columns.plain("by")?,
                how: columns.noun("how")?,
                at: columns.instant("at")?,
            })
        };
        rows.iter().map(approval).collect()
    }

    /// Whether a command was answered.
    pub async fn is_answered(&self, key: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar("select exists (select 1 from commands where key = ?1)")
            .bind(key)
            .fetch_one(&self.readers)
            .await
            .map_err(sql("look for a command"))
    }
}
