//! What benchd follows on GitHub and how it stood at the last look: repositories, the tips of branches, tags. What was
//! there before benchd followed it is not news.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::codec::{Columns, id_column};
use super::error::sql;
use super::{Store, StoreError, Write};
use crate::model::{BranchName, CommitSha, RepoName};

/// A repository that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedRow {
    /// Its configured name.
    pub repository: RepoName,
    /// Its number on GitHub, where it is known.
    pub github_id: Option<u64>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Up to which instant, by GitHub's time, comments were read without a webhook.
    pub comments_seen_at: Option<DateTime<Utc>>,
}

impl Write {
    /// Begins to follow a repository at `now`, unless it is followed already, and keeps its number on GitHub. A number
    /// belongs to one name: the one that is configured now.
    pub async fn follow_repository(
        &mut self,
        repository: &RepoName,
        github_id: Option<u64>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let doing = || format!("follow {repository}");
        let id = github_id.map(id_column);
        sqlx::query("update followed set github_id = null where github_id = ?1 and repository <> ?2")
            .bind(id)
            .bind(repository.as_str())
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        let statement = "insert into followed (repository, github_id, since) values (?1, ?2, ?3)
             on conflict (repository) do update set github_id = coalesce(excluded.github_id, github_id)";
        sqlx::query(statement)
            .bind(repository.as_str())
            .bind(id)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        Ok(())
    }

    /// Keeps up to which instant, by GitHub's time, comments were read.
    pub async fn keep_comments_seen(&mut self, repository: &RepoName, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("update followed set comments_seen_at = ?2 where repository = ?1")
            .bind(repository.as_str())
            .bind(at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("keep up to where comments of {repository} were read")))?;
        Ok(())
    }

    /// Keeps the tip of a branch as it was seen.
    pub async fn keep_tip(
        &mut self,
        repository: &RepoName,
        branch: &BranchName,
        sha: &CommitSha,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let statement = "insert into branch_tips (repository, branch, sha, seen_at) values (?1, ?2, ?3, ?4)
             on conflict do update set sha = excluded.sha, seen_at = excluded.seen_at";
        sqlx::query(statement)
            .bind(repository.as_str())
            .bind(branch.as_str())
            .bind(sha.as_str())
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("keep the tip of {branch}")))?;
        Ok(())
    }

    /// Keeps a tag with the commit it stands for.
    pub async fn keep_tag(
        &mut self,
        repository: &RepoName,
        tag: &str,
        sha: &CommitSha,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let statement = "insert into tags (repository, tag, sha, seen_at) values (?1, ?2, ?3, ?4)
             on conflict do update set sha = excluded.sha, seen_at = excluded.seen_at";
        sqlx::query(statement)
            .bind(repository.as_str())
            .bind(tag)
            .bind(sha.as_str())
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("keep the tag `{tag}`")))?;
        Ok(())
    }
}

impl Store {
    /// Every repository that is followed.
    pub async fn followed(&self) -> Result<Vec<FollowedRow>, StoreError> {
        let rows = sqlx::query("select * from followed order by repository")
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the followed repositories"))?;
        let read = |row| {
            let columns = Columns { table: "followed", row };
            Ok(FollowedRow {
                repository: columns.noun("repository")?,
                github_id: columns.maybe_number("github_id")?,
                since: columns.instant("since")?,
                comments_seen_at: columns.maybe_instant("comments_seen_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The tip of a branch at the last look; `None` before the first.
    pub async fn branch_tip(
        &self,
        repository: &RepoName,
        branch: &BranchName,
    ) -> Result<Option<CommitSha>, StoreError> {
        let row = sqlx::query("select sha from branch_tips where repository = ?1 and branch = ?2")
            .bind(repository.as_str())
            .bind(branch.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(sql(format!("read the tip of {branch}")))?;
        row.map(|row| Columns { table: "branch_tips", row: &row }.noun("sha")).transpose()
    }

    /// The tags that are known, with the commit each stands for.
    pub async fn known_tags(&self, repository: &RepoName) -> Result<BTreeMap<String, CommitSha>, StoreError> {
        let rows = sqlx::query("select tag, sha from tags where repository = ?1")
            .bind(repository.as_str())
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the tags of {repository}")))?;
        let read = |row| {
            let columns = Columns { table: "tags", row };
            Ok((columns.plain("tag")?, columns.noun("sha")?))
        };
        rows.iter().map(read).collect()
    }
}
