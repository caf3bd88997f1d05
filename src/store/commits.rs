//! Commits and where they stand on their branches: order of results is commit order, never finish order.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::codec::{Columns, to_json};
use super::error::sql;
use super::{Store, StoreError, Write};
use crate::model::{BranchName, CommitSha, RepoName};

/// What is known of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its repository.
    pub repository: RepoName,
    /// Its id.
    pub sha: CommitSha,
    /// The commit before it on its branch, when known.
    pub first_parent: Option<CommitSha>,
    /// When it was committed, when known.
    pub committed_at: Option<DateTime<Utc>>,
}

impl Write {
    /// Writes down a commit; what was known before is kept where `commit` does not know it.
    pub async fn record_commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let statement = "insert into commits (repository, sha, first_parent, committed_at) values (?1, ?2, ?3, ?4)
             on conflict do update set first_parent = coalesce(excluded.first_parent, first_parent),
                                       committed_at = coalesce(excluded.committed_at, committed_at)";
        sqlx::query(statement)
            .bind(commit.repository.as_str())
            .bind(commit.sha.as_str())
            .bind(commit.first_parent.as_ref().map(CommitSha::as_str))
            .bind(commit.committed_at.map(|at| at.timestamp_millis()))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("record commit {}", commit.sha.short())))?;
        Ok(())
    }

    /// Writes down where a recorded commit stands on `branch`: `position` is its number of ancestors along first
    /// parents (`git rev-list --first-parent --count`), so a newer commit has a larger one.
    pub async fn place_commit(
        &mut self,
        repository: &RepoName,
        branch: &BranchName,
        sha: &CommitSha,
        position: u32,
    ) -> Result<(), StoreError> {
        let statement = "insert into branch_commits (repository, branch, sha, position) values (?1, ?2, ?3, ?4)
             on conflict do update set position = excluded.position";
        sqlx::query(statement)
            .bind(repository.as_str())
            .bind(branch.as_str())
            .bind(sha.as_str())
            .bind(position)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("place commit {} on {branch}", sha.short())))?;
        Ok(())
    }
}

impl Store {
    /// What is known of a commit.
    pub async fn commit(&self, repository: &RepoName, sha: &CommitSha) -> Result<Option<Commit>, StoreError> {
        let statement = "select first_parent, committed_at from commits where repository = ?1 and sha = ?2";
        let row = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(sha.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(sql(format!("read commit {}", sha.short())))?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "commits", row: &row };
        Ok(Some(Commit {
            repository: repository.clone(),
            sha: sha.clone(),
            first_parent: columns.maybe_noun("first_parent")?,
            committed_at: columns.maybe_instant("committed_at")?,
        }))
    }

    /// Where those of `shas` stand on a branch whose place is known.
    pub async fn positions(
        &self,
        repository: &RepoName,
        branch: &BranchName,
        shas: &[CommitSha],
    ) -> Result<BTreeMap<CommitSha, u32>, StoreError> {
        let statement = "select sha, position from branch_commits
             where repository = ?1 and branch = ?2 and sha in (select value from json_each(?3))";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(branch.as_str())
            .bind(to_json("branch_commits.sha", &shas)?)
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read where commits stand on {branch}")))?;
        let read = |row| {
            let columns = Columns { table: "branch_commits", row };
            Ok((columns.noun("sha")?, columns.number("position")?))
        };
        rows.iter().map(read).collect()
    }
}
