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

/// A commit of a stretch of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchCommit {
    /// Its id.
    pub sha: CommitSha,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// The commit before it on its branch, when known.
    pub first_parent: Option<CommitSha>,
    /// Its number of ancestors along first parents, where somebody counted them.
    pub position: Option<u32>,
}

/// The oldest and the newest commit with a place on a branch: where, and when committed.
struct Edges {
    oldest: (u32, Option<DateTime<Utc>>),
    newest: (u32, Option<DateTime<Utc>>),
}

/// Where the first stretch of a branch begins whose ancestors nobody counted (only a clone can): above every count,
/// and far enough from 0 that older commits find room below.
const UNCOUNTED_FROM: u32 = 1 << 20;

/// What is left free between two stretches that do not touch, for the commits that may lie between them.
const GAP: u32 = 1000;

/// The position of the first commit of `stretch`, of which every further one stands one lower:
///
/// 1. by a commit of it that has a place;
/// 2. by the count of its ancestors, unless the branch holds places that are no counts;
/// 3. on a branch without a place: anywhere;
/// 4. above or below all others, when its commits are newer or older than those.
fn tip_position(stretch: &[BranchCommit], placed: &BTreeMap<CommitSha, u32>, edges: Option<&Edges>) -> Option<u32> {
    let length = u32::try_from(stretch.len()).ok()?;
    let anchor = (0_u32..).zip(stretch).find_map(|(behind, commit)| Some((behind, *placed.get(&commit.sha)?)));
    if let Some((behind, position)) = anchor {
        return position.checked_add(behind);
    }
    let (tip, last) = (stretch.first()?, stretch.last()?);
    let counted = edges.is_none_or(|edges| edges.newest.0 < UNCOUNTED_FROM);
    if let Some(position) = tip.position.filter(|_| counted) {
        return Some(position);
    }
    let Some(Edges { oldest, newest }) = edges else { return UNCOUNTED_FROM.checked_add(length - 1) };
    if newest.1.is_some_and(|newest| newest <= last.committed_at) {
        return newest.0.checked_add(GAP)?.max(UNCOUNTED_FROM).checked_add(length - 1);
    }
    let older = oldest.1.is_some_and(|oldest| tip.committed_at <= oldest);
    oldest.0.checked_sub(GAP).filter(|position| older && *position >= length)
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

    /// Writes down where the commits of a stretch of `branch` stand on it: newest first, each the first parent of the
    /// one before. A larger position is a newer commit. Commits that have a place keep it, and the others are placed
    /// beside them; a stretch that cannot be put in order with what is known of the branch is left out.
    pub async fn place_stretch(
        &mut self,
        repository: &RepoName,
        branch: &BranchName,
        stretch: &[BranchCommit],
    ) -> Result<(), StoreError> {
        let placed = self.placed(repository, branch, stretch).await?;
        if stretch.iter().all(|commit| placed.contains_key(&commit.sha)) {
            return Ok(());
        }
        let edges = self.edges(repository, branch).await?;
        let Some(tip) = tip_position(stretch, &placed, edges.as_ref()) else {
            tracing::debug!("the place of a stretch of {} commits on {branch} is not known", stretch.len());
            return Ok(());
        };
        for (behind, commit) in (0_u32..).zip(stretch) {
            let Some(position) = tip.checked_sub(behind).filter(|_| !placed.contains_key(&commit.sha)) else {
                continue;
            };
            self.record_commit(&Commit {
                repository: repository.clone(),
                sha: commit.sha.clone(),
                first_parent: commit.first_parent.clone(),
                committed_at: Some(commit.committed_at),
            })
            .await?;
            let statement = "insert into branch_commits (repository, branch, sha, position) values (?1, ?2, ?3, ?4)
                 on conflict do nothing";
            sqlx::query(statement)
                .bind(repository.as_str())
                .bind(branch.as_str())
                .bind(commit.sha.as_str())
                .bind(position)
                .execute(&mut *self.0)
                .await
                .map_err(sql(format!("place commit {} on {branch}", commit.sha.short())))?;
        }
        Ok(())
    }

    /// Those of a stretch that have a place.
    async fn placed(
        &mut self,
        repository: &RepoName,
        branch: &BranchName,
        stretch: &[BranchCommit],
    ) -> Result<BTreeMap<CommitSha, u32>, StoreError> {
        let shas: Vec<_> = stretch.iter().map(|commit| commit.sha.as_str()).collect();
        let statement = "select sha, position from branch_commits
             where repository = ?1 and branch = ?2 and sha in (select value from json_each(?3))";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(branch.as_str())
            .bind(to_json("branch_commits.sha", &shas)?)
            .fetch_all(&mut *self.0)
            .await
            .map_err(sql(format!("read the places of commits on {branch}")))?;
        let place = |row| {
            let columns = Columns { table: "branch_commits", row };
            Ok((columns.noun("sha")?, columns.number("position")?))
        };
        rows.iter().map(place).collect()
    }

    /// The oldest and the newest commit that have a place on `branch`.
    async fn edges(&mut self, repository: &RepoName, branch: &BranchName) -> Result<Option<Edges>, StoreError> {
        let statement = "select position, committed_at
             from branch_commits join commits using (repository, sha)
             where repository = ?1 and branch = ?2 and position in (
                 (select min(position) from branch_commits where repository = ?1 and branch = ?2),
                 (select max(position) from branch_commits where repository = ?1 and branch = ?2))
             order by position";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(branch.as_str())
            .fetch_all(&mut *self.0)
            .await
            .map_err(sql(format!("read the ends of {branch}")))?;
        let edge = |row| {
            let columns = Columns { table: "branch_commits", row };
            Ok::<_, StoreError>((columns.number("position")?, columns.maybe_instant("committed_at")?))
        };
        let (oldest, newest) = (rows.first().map(edge).transpose()?, rows.last().map(edge).transpose()?);
        Ok(oldest.zip(newest).map(|(oldest, newest)| Edges { oldest, newest }))
    }
}

impl Store {
    /// Whether a commit's place on `branch` is known.
    pub async fn is_placed(
        &self,
        repository: &RepoName,
        branch: &BranchName,
        sha: &CommitSha,
    ) -> Result<bool, StoreError> {
        let statement = "select exists (
             select 1 from branch_commits where repository = ?1 and branch = ?2 and sha = ?3)";
        sqlx::query_scalar(statement)
            .bind(repository.as_str())
            .bind(branch.as_str())
            .bind(sha.as_str())
            .fetch_one(&self.readers)
            .await
            .map_err(sql(format!("read the place of commit {}", sha.short())))
    }

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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(n: u32) -> CommitSha {
        format!("{n:040x}").parse().unwrap()
    }

    /// The commits `newest`, `newest - 1` .. `oldest` of a branch, one an hour.
    fn stretch(newest: u32, oldest: u32, count: impl Fn(u32) -> Option<u32>) -> Vec<BranchCommit> {
        let commit = |n: u32| BranchCommit {
            sha: sha(n),
            committed_at: at(n),
            first_parent: Some(sha(n - 1)),
            position: count(n),
        };
        (oldest..=newest).rev().map(commit).collect()
    }

    fn at(n: u32) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + i64::from(n) * 3600, 0).unwrap()
    }

    fn edges(oldest: (u32, u32), newest: (u32, u32)) -> Edges {
        Edges { oldest: (oldest.1, Some(at(oldest.0))), newest: (newest.1, Some(at(newest.0))) }
    }

    #[test]
    fn a_stretch_stands_where_what_is_known_puts_it() {
        let none = BTreeMap::new();
        let (counted, uncounted) = (|n| Some(n + 7), |_| None);
        assert_eq!(tip_position(&[], &none, None), None);
        // Nothing is known.
        assert_eq!(tip_position(&stretch(50, 41, counted), &none, None), Some(57));
        let first = tip_position(&stretch(50, 41, uncounted), &none, None);
        assert_eq!(first, Some(UNCOUNTED_FROM + 9));
        // A commit of it has a place.
        let placed = BTreeMap::from([(sha(48), 1000)]);
        let known = edges((48, 1000), (48, 1000));
        for stretch in [stretch(50, 41, counted), stretch(50, 41, uncounted)] {
            assert_eq!(tip_position(&stretch, &placed, Some(&known)), Some(1002));
        }
        // It touches nothing that is known.
        let counts = edges((10, 17), (20, 27));
        assert_eq!(tip_position(&stretch(50, 41, counted), &none, Some(&counts)), Some(57));
        assert_eq!(tip_position(&stretch(50, 41, uncounted), &none, Some(&counts)), Some(UNCOUNTED_FROM + 9));
        let others = edges((60, UNCOUNTED_FROM), (70, UNCOUNTED_FROM + 10));
        let above = UNCOUNTED_FROM + 10 + GAP;
        assert_eq!(tip_position(&stretch(90, 81, uncounted), &none, Some(&others)), Some(above + 9));
        assert_eq!(tip_position(&stretch(90, 81, counted), &none, Some(&others)), Some(above + 9), "other numbers");
        assert_eq!(tip_position(&stretch(50, 41, uncounted), &none, Some(&others)), Some(UNCOUNTED_FROM - GAP));
        assert_eq!(tip_position(&stretch(65, 64, uncounted), &none, Some(&others)), None, "between, but where?");
        assert_eq!(tip_position(&stretch(5, 4, uncounted), &none, Some(&counts)), None, "no room");
    }
}
