//! Runs: measuring one commit because of one trigger. Every change of state names the state it leaves.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteExecutor};
use utoipa::ToSchema;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Outcome, Owed, Store, StoreError, Write};
use crate::model::{BranchName, CommitSha, Priority, RepoName, RunId, RunPhase, RunState, Trigger};

/// A run to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its repository.
    pub repository: RepoName,
    /// The commit to measure; recorded before (`record_commit`).
    pub sha: CommitSha,
    /// The branch it is measured on.
    pub branch: BranchName,
    /// Why.
    pub trigger: Trigger,
    /// How urgent a person says it is; `None` for what the trigger says.
    pub priority: Option<Priority>,
    /// What the outside is owed when it ends.
    pub owed: Vec<Owed>,
    /// What it was accepted under.
    pub terms: RunTerms,
}

/// What a run was accepted under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunTerms {
    /// How much of its trigger's selection it covers.
    pub scope: Scope,
    /// Benchmarks of the selection that its budget has no room for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// The commit it is to be held against, where somebody named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<CommitSha>,
    /// Who asked, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
}

/// How much of its trigger's selection a run covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All that is configured for the trigger: its results stand for the commit.
    #[default]
    Full,
    /// Less, as somebody asked: its results are kept to the store unless they are asked for.
    Part,
}

/// No scope has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a scope (full, part)")]
pub struct UnknownScope(String);

impl std::str::FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Self::Full),
            "part" => Ok(Self::Part),
            _ => Err(UnknownScope(text.to_owned())),
        }
    }
}

/// A benchmark that a run does not measure although its selection has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftOut {
    /// The model in lower case.
    pub model: String,
    /// The benchmark, with its variant's suffix.
    pub benchmark: String,
    /// How many points it has.
    pub points: u32,
    /// How long it would have held the devices, in seconds, as far as is known.
    pub seconds: u64,
}

/// A run as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Its repository.
    pub repository: RepoName,
    /// The commit it measures.
    pub sha: CommitSha,
    /// The branch it is measured on.
    pub branch: BranchName,
    /// Why it exists.
    pub trigger: Trigger,
    /// How urgent a person said it is; `None` for what the trigger says.
    pub priority: Option<Priority>,
    /// The run that took its place.
    pub superseded_by: Option<RunId>,
    /// What it was accepted under.
    pub terms: RunTerms,
    /// How far it has come.
    #[serde(flatten)]
    pub state: RunState,
    /// When it was accepted.
    pub requested_at: DateTime<Utc>,
    /// When its first job was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When its jobs had ended, or it was given up.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A run with its jobs counted, for lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// The run.
    #[serde(flatten)]
    pub run: RunRow,
    /// How many jobs it has.
    pub jobs: u32,
    /// How many of them are finished.
    pub finished_jobs: u32,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only of this repository.
    pub repository: Option<RepoName>,
    /// Only of this branch.
    pub branch: Option<BranchName>,
    /// Only in this state.
    pub state: Option<RunPhase>,
    /// Only of this commit: its id, or a release tag.
    pub commit: Option<String>,
    /// Only those older than this run (the last of the page before).
    pub before: Option<RunId>,
}

impl RunRow {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "runs", row };
        let state = match columns.noun::<RunPhase>("state")? {
            RunPhase::Requested => RunState::Requested,
            RunPhase::Queued => RunState::Queued,
            RunPhase::Running => RunState::Running,
            RunPhase::Measured => RunState::Measured,
            RunPhase::Published => RunState::Published,
            RunPhase::Failed => RunState::Failed(columns.json("failure")?),
            RunPhase::Cancelled => RunState::Cancelled,
            RunPhase::Superseded => RunState::Superseded,
        };
        Ok(Self {
            id: columns.id("id")?,
            repository: columns.noun("repository")?,
            sha: columns.noun("sha")?,
            branch: columns.noun("branch")?,
            trigger: columns.json("trigger")?,
            priority: columns.maybe_priority("priority")?,
            superseded_by: columns.maybe_id("superseded_by")?,
            terms: columns.json("terms")?,
            state,
            requested_at: columns.instant("requested_at")?,
            started_at: columns.maybe_instant("started_at")?,
            finished_at: columns.maybe_instant("finished_at")?,
        })
    }
}

pub(super) async fn read_run(from: impl SqliteExecutor<'_>, run: RunId) -> Result<Option<RunRow>, StoreError> {
    let row = sqlx::query("select * from runs where id = ?1")
        .bind(id_column(run))
        .fetch_optional(from)
        .await
        .map_err(sql(format!("read run {run}")))?;
    row.as_ref().map(RunRow::read).transpose()
}

impl Write {
    /// Writes down a requested run and gives it its id.
    pub async fn insert_run(&mut self, run: &NewRun, now: DateTime<Utc>) -> Result<RunId, StoreError> {
        let new_id: RunId = self.new_id(now).await?;
        let statement = "insert into runs (id, repository, sha, branch, trigger, state, owed, requested_at, priority,
                 terms)
             values (?1, ?2, ?3, ?4, ?5, 'requested', ?6, ?7, ?8, ?9)";
        sqlx::query(statement)
            .bind(id_column(new_id))
            .bind(run.repository.as_str())
            .bind(run.sha.as_str())
            .bind(run.branch.as_str())
            .bind(to_json("runs.trigger", &run.trigger)?)
            .bind(to_json("runs.owed", &run.owed)?)
            .bind(now.timestamp_millis())
            .bind(run.priority.map(Priority::number))
            .bind(to_json("runs.terms", &run.terms)?)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("insert a run of {}", run.sha.short())))?;
        Ok(new_id)
    }

    /// Moves a run from one state to another, when it still is in the first.
    pub async fn move_run(
        &mut self,
        run: RunId,
        from: RunPhase,
        to: RunState,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let phase = to.phase();
        if !from.may_become(phase) {
            return Err(StoreError::IllegalMove { what: "run", from: from.to_string(), to: phase.to_string() });
        }
        let failure = match to {
            RunState::Failed(kind) => Some(to_json("runs.failure", &kind)?),
            RunState::Requested
            | RunState::Queued
            | RunState::Running
            | RunState::Measured
            | RunState::Published
            | RunState::Cancelled
            | RunState::Superseded => None,
        };
        let statement = "update runs set state = ?3, failure = ?4,
                 started_at = case ?3 when 'running' then ?5 else started_at end,
                 finished_at = case when ?6 then coalesce(finished_at, ?5) when ?3 = 'queued' then null
                     else finished_at end
             where id = ?1 and state = ?2";
        let done = sqlx::query(statement)
            .bind(id_column(run))
            .bind(from.as_str())
            .bind(phase.as_str())
            .bind(failure)
            .bind(now.timestamp_millis())
            .bind(phase == RunPhase::Measured || phase.is_final())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("move run {run} to {phase}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Writes down which run takes this one's place, when none has yet.
    pub async fn supersede_run(&mut self, run: RunId, by: RunId) -> Result<Outcome, StoreError> {
        let done = sqlx::query("update runs set superseded_by = ?2 where id = ?1 and superseded_by is null")
            .bind(id_column(run))
            .bind(id_column(by))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("supersede run {run}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// A run as this write sees it.
    pub async fn run(&mut self, run: RunId) -> Result<Option<RunRow>, StoreError> {
        read_run(&mut *self.0, run).await
    }

    /// The merge runs of a branch that wait for their first job, and all those of `shas`.
    pub async fn merge_runs(
        &mut self,
        repository: &RepoName,
        branch: &BranchName,
        shas: &[CommitSha],
    ) -> Result<Vec<RunRow>, StoreError> {
        let statement = "select * from runs where repository = ?1 and branch = ?2 and trigger ->> 'kind' = 'merge'
                 and (state = 'queued' or sha in (select value from json_each(?3))) order by id";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(branch.as_str())
            .bind(to_json("runs.sha", &shas)?)
            .fetch_all(&mut *self.0)
            .await
            .map_err(sql(format!("read the merge runs of {branch}")))?;
        rows.iter().map(RunRow::read).collect()
    }

    /// The runs of a release tag, oldest first.
    pub async fn release_runs(&mut self, repository: &RepoName, tag: &str) -> Result<Vec<RunRow>, StoreError> {
        let statement = "select * from runs where repository = ?1 and trigger ->> 'kind' = 'release'
                 and trigger ->> 'tag' = ?2 order by id";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(tag)
            .fetch_all(&mut *self.0)
            .await
            .map_err(sql(format!("read the runs of the release {tag}")))?;
        rows.iter().map(RunRow::read).collect()
    }

    /// What is owed to the outside when this run ends.
    pub async fn owed_by_run(&mut self, run: RunId) -> Result<Vec<Owed>, StoreError> {
        let row = sqlx::query("select owed from runs where id = ?1")
            .bind(id_column(run))
            .fetch_one(&mut *self.0)
            .await
            .map_err(sql(format!("read what run {run} owes")))?;
        Columns { table: "runs", row: &row }.json("owed")
    }
}

impl Store {
    /// A run as it stands.
    pub async fn run(&self, run: RunId) -> Result<Option<RunRow>, StoreError> {
        read_run(&self.readers, run).await
    }

    /// The runs that something may still happen to, oldest first.
    pub async fn open_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let statement = "select * from runs where state in ('requested', 'queued', 'running', 'measured') order by id";
        let rows = sqlx::query(statement).fetch_all(&self.readers).await.map_err(sql("read the open runs"))?;
        rows.iter().map(RunRow::read).collect()
    }

    /// The newest runs that pass the filter, newest first, at most `limit`.
    pub async fn list_runs(&self, limit: u32, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "select runs.*, (select count(*) from jobs where run_id = runs.id) as jobs,
                 (select count(*) from jobs where run_id = runs.id and jobs.state = 'finished') as finished_jobs
             from runs where true",
        );
        if let Some(repository) = &filter.repository {
            query.push(" and repository = ").push_bind(repository.as_str());
        }
        if let Some(branch) = &filter.branch {
            query.push(" and branch = ").push_bind(branch.as_str());
        }
        if let Some(state) = filter.state {
            query.push(" and state = ").push_bind(state.as_str());
        }
        if let Some(commit) = &filter.commit {
            query.push(" and (sha = lower(").push_bind(commit).push(") or trigger ->> 'tag' = ").push_bind(commit);
            query.push(" or sha in (select tags.sha from tags where tags.repository = runs.repository and tag = ");
            query.push_bind(commit).push("))");
        }
        if let Some(before) = filter.before {
            query.push(" and id < ").push_bind(id_column(before));
        }
        query.push(" order by id desc limit ").push_bind(limit);
        let rows = query.build().fetch_all(&self.readers).await.map_err(sql("list the runs"))?;
        let summary = |row: &SqliteRow| {
            let columns = Columns { table: "runs", row };
            Ok(RunSummary {
                run: RunRow::read(row)?,
                jobs: columns.number("jobs")?,
                finished_jobs: columns.number("finished_jobs")?,
            })
        };
        rows.iter().map(summary).collect()
    }
}
