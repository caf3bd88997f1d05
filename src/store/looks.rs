//! What must be looked at on GitHub: a mark says that something may have changed, never what. The same thing marked
//! often is looked at once; a mark that comes while it is being looked at is not lost.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use utoipa::ToSchema;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Outcome, Store, StoreError, Write};
use crate::model::RepoName;

/// What kind of thing is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LookKind {
    /// A pull request; the key is its number.
    Pull,
    /// A comment on a pull request that may be a command; the key is its id.
    Comment,
    /// A check run that somebody wants again; the key is its id, or that of its suite.
    CheckRun,
    /// The tip of a branch; the key is the branch.
    Merge,
    /// A tag; the key is its name.
    Tag,
}

/// No kind of look has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is nothing that is looked at")]
pub struct UnknownLook(String);

/// A wish that something is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Whose it is.
    pub repository: RepoName,
    /// What kind of thing.
    pub kind: LookKind,
    /// Which one.
    pub key: String,
    /// Why, for people: `pull_request.labeled`, `reconcile`.
    pub reason: String,
    /// What GitHub's API does not tell later: who asked, the pull request of a comment.
    pub facts: serde_json::Value,
    /// When to look.
    pub due_at: DateTime<Utc>,
    /// How long after the first mark this one may still put the look off.
    pub patience: TimeDelta,
}

/// Something that must be looked at.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Look {
    /// Whose it is.
    pub repository: RepoName,
    /// What kind of thing.
    pub kind: LookKind,
    /// Which one.
    pub key: String,
    /// Why, by the last mark.
    pub reason: String,
    /// What the last mark knew.
    pub facts: serde_json::Value,
    /// How often it was marked.
    pub generation: u64,
    /// When it was marked first.
    pub marked_at: DateTime<Utc>,
    /// When it is looked at.
    pub due_at: DateTime<Utc>,
    /// How often looking failed.
    pub attempts: u32,
    /// What the last try met.
    pub last_error: Option<String>,
}

impl LookKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Pull, Self::Comment, Self::CheckRun, Self::Merge, Self::Tag];

    /// The name in the store and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Comment => "comment",
            Self::CheckRun => "check_run",
            Self::Merge => "merge",
            Self::Tag => "tag",
        }
    }
}

impl std::str::FromStr for LookKind {
    type Err = UnknownLook;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownLook(text.to_owned()))
    }
}

impl Mark {
    /// A look at once.
    pub fn at_once(
        repository: &RepoName,
        kind: LookKind,
        key: impl ToString,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            repository: repository.clone(),
            kind,
            key: key.to_string(),
            reason: reason.to_owned(),
            facts: serde_json::Value::Object(serde_json::Map::new()),
            due_at: now,
            patience: TimeDelta::zero(),
        }
    }

    /// With what GitHub will not tell later.
    pub fn knowing(self, facts: serde_json::Value) -> Self {
        Self { facts, ..self }
    }

    /// After `quiet` without a further such mark, and after `patience` in any case.
    pub fn after(self, quiet: TimeDelta, patience: TimeDelta) -> Self {
        Self { due_at: self.due_at + quiet, patience, ..self }
    }
}

impl Look {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "looks", row };
        Ok(Self {
            repository: columns.noun("repository")?,
            kind: columns.noun("kind")?,
            key: columns.plain("key")?,
            reason: columns.plain("reason")?,
            facts: columns.json("facts")?,
            generation: columns.number("generation")?,
            marked_at: columns.instant("marked_at")?,
            due_at: columns.instant("due_at")?,
            attempts: columns.number("attempts")?,
            last_error: columns.plain("last_error")?,
        })
    }
}

impl Write {
    /// Marks something to be looked at. Where it is marked already, the last mark says when, within its patience counted
    /// from the first one: a burst of marks is one look, and one that was put off until all is quiet comes sooner. A look
    /// that failed keeps its wait.
    pub async fn look_at(&mut self, mark: &Mark, now: DateTime<Utc>) -> Result<(), StoreError> {
        let statement = "insert into looks (repository, kind, key, reason, facts, generation, marked_at, due_at)
             values (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)
             on conflict do update set
                 reason = excluded.reason, facts = excluded.facts, generation = generation + 1,
                 due_at = max(min(excluded.due_at, marked_at + ?8), case when attempts > 0 then due_at else 0 end)";
        sqlx::query(statement)
            .bind(mark.repository.as_str())
            .bind(mark.kind.as_str())
            .bind(&mark.key)
            .bind(&mark.reason)
            .bind(to_json("looks.facts", &mark.facts)?)
            .bind(now.timestamp_millis())
            .bind(mark.due_at.timestamp_millis())
            .bind(mark.patience.num_milliseconds())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("mark {} {} of {}", mark.kind.as_str(), mark.key, mark.repository)))?;
        Ok(())
    }

    /// Whether something is marked to be looked at.
    pub async fn is_marked(&mut self, repository: &RepoName, kind: LookKind, key: &str) -> Result<bool, StoreError> {
        let found = sqlx::query("select 1 from looks where repository = ?1 and kind = ?2 and key = ?3")
            .bind(repository.as_str())
            .bind(kind.as_str())
            .bind(key)
            .fetch_optional(&mut *self.0)
            .await
            .map_err(sql(format!("look for the mark of {} {key}", kind.as_str())))?;
        Ok(found.is_some())
    }

    /// Ends a look that was done. One that was marked again meanwhile stays, and begins anew.
    pub async fn settle_look(&mut self, look: &Look, now: DateTime<Utc>) -> Result<Outcome, StoreError> {
        let doing = || format!("settle the look at {} {} of {}", look.kind.as_str(), look.key, look.repository);
        let done =
            sqlx::query("delete from looks where repository = ?1 and kind = ?2 and key = ?3 and generation = ?4")
                .bind(look.repository.as_str())
                .bind(look.kind.as_str())
                .bind(&look.key)
                .bind(id_column(look.generation))
                .execute(&mut *self.0)
                .await
                .map_err(sql(doing()))?;
        if done.rows_affected() == 0 {
            let again = "update looks set attempts = 0, last_error = null, marked_at = ?4
                 where repository = ?1 and kind = ?2 and key = ?3";
            sqlx::query(again)
                .bind(look.repository.as_str())
                .bind(look.kind.as_str())
                .bind(&look.key)
                .bind(now.timestamp_millis())
                .execute(&mut *self.0)
                .await
                .map_err(sql(doing()))?;
        }
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Puts off a look that failed, and keeps why.
    pub async fn postpone_look(
        &mut self,
        look: &Look,
        error: &str,
        next_at: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update looks set attempts = attempts + 1, last_error = ?4, due_at = max(due_at, ?5)
             where repository = ?1 and kind = ?2 and key = ?3";
        let done = sqlx::query(statement)
            .bind(look.repository.as_str())
            .bind(look.kind.as_str())
            .bind(&look.key)
            .bind(error)
            .bind(next_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("put off the look at {} {} of {}", look.kind.as_str(), look.key, look.repository)))?;
        Ok(Outcome::of(done.rows_affected()))
    }
}

impl Store {
    /// The looks that are due at `now`, the longest due first, at most `limit`; of one kind or of all.
    pub async fn due_looks_at(
        &self,
        now: DateTime<Utc>,
        kind: Option<LookKind>,
        limit: u32,
    ) -> Result<Vec<Look>, StoreError> {
        let statement = "select * from looks where due_at <= ?1 and (?2 is null or kind = ?2)
             order by due_at, repository, kind, key limit ?3";
        let rows = sqlx::query(statement)
            .bind(now.timestamp_millis())
            .bind(kind.map(LookKind::as_str))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the due looks"))?;
        rows.iter().map(Look::read).collect()
    }

    /// Every look that waits, the next one first, at most `limit`.
    pub async fn waiting_looks(&self, limit: u32) -> Result<Vec<Look>, StoreError> {
        let rows = sqlx::query("select * from looks order by due_at, repository, kind, key limit ?1")
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the waiting looks"))?;
        rows.iter().map(Look::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Step;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_000_000 + second, 0).unwrap()
    }

    fn mark(second: i64) -> Mark {
        let mark = Mark::at_once(&"o/r".parse().unwrap(), LookKind::Pull, 7, "test", at(second));
        mark.after(TimeDelta::seconds(2), TimeDelta::seconds(5))
    }

    async fn marked(store: &Store, second: i64) {
        let mut write = store.write(Step::MarkFound).await.unwrap();
        write.look_at(&mark(second), at(second)).await.unwrap();
        write.commit().await.unwrap();
    }

    async fn only(store: &Store) -> Look {
        store.waiting_looks(9).await.unwrap().pop().unwrap()
    }

    #[tokio::test]
    async fn marks_put_a_look_off_and_only_so_far() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        for (second, due) in [(0, 2), (1, 3), (2, 4), (4, 5), (9, 5)] {
            marked(&store, second).await;
            assert_eq!(only(&store).await.due_at, at(due), "marked after {second} s");
        }
        assert_eq!(store.due_looks_at(at(4), None, 9).await.unwrap(), []);
        assert_eq!(store.due_looks_at(at(5), Some(LookKind::Tag), 9).await.unwrap(), []);
        assert_eq!(store.due_looks_at(at(5), Some(LookKind::Pull), 9).await.unwrap()[0].generation, 5);
    }

    #[tokio::test]
    async fn a_mark_brings_a_look_forward_that_waits_for_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let mut write = store.write(Step::PostponePull).await.unwrap();
        let quiet = Mark::at_once(&"o/r".parse().unwrap(), LookKind::Pull, 7, "again", at(0));
        write.look_at(&quiet.after(TimeDelta::seconds(90), TimeDelta::days(1)), at(0)).await.unwrap();
        write.commit().await.unwrap();
        assert_eq!(only(&store).await.due_at, at(90));
        marked(&store, 1).await;
        assert_eq!(only(&store).await.due_at, at(3));
    }

    #[tokio::test]
    async fn what_is_marked_while_it_is_looked_at_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        marked(&store, 0).await;
        let look = only(&store).await;
        marked(&store, 3).await;
        let mut write = store.write(Step::SettleLook).await.unwrap();
        assert_eq!(write.settle_look(&look, at(4)).await.unwrap(), Outcome::Moved);
        write.commit().await.unwrap();
        let look = only(&store).await;
        let mut write = store.write(Step::SettleLook).await.unwrap();
        assert_eq!(write.settle_look(&look, at(5)).await.unwrap(), Outcome::Performed);
        write.commit().await.unwrap();
        assert_eq!(store.waiting_looks(9).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_mark_does_not_shorten_the_wait_after_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        marked(&store, 0).await;
        let mut write = store.write(Step::SettleLook).await.unwrap();
        let look = only(&store).await;
        let _there = write.postpone_look(&look, "GitHub is away", at(60)).await.unwrap();
        write.commit().await.unwrap();
        marked(&store, 3).await;
        let look = only(&store).await;
        assert_eq!((look.due_at, look.attempts, look.last_error.as_deref()), (at(60), 1, Some("GitHub is away")));
    }
}
