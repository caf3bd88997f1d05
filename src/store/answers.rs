//! One-off answers that people are owed on GitHub: a reaction to a command, a reply, a quiet check. Whoever decides
//! writes them in the transaction of the decision; whoever talks to GitHub delivers them, in order for each pull request.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Outcome, OwedState, Recorded, Store, StoreError, Write};
use crate::model::{CommitSha, Reaction, RepoName};

/// Something that people on a pull request are answered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose pull request.
    pub repository: RepoName,
    /// Its number.
    pub number: u64,
    /// What makes it once, over all repositories: "comment 12/3456 reply". At most 255 bytes.
    pub key: String,
    /// What is answered.
    pub what: AnswerKind,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AnswerKind {
    /// A reaction to a comment.
    Reaction {
        /// The comment's number.
        comment: u64,
        /// Which reaction.
        content: Reaction,
    },
    /// A comment of its own. Names and text of other people in it are defused when it is sent.
    Reply {
        /// Markdown.
        text: String,
    },
    /// A check on a commit that no run stands for. When a run of the commit exists, its check stays.
    Check {
        /// The commit.
        sha: CommitSha,
        /// One line, plain text.
        title: String,
        /// Markdown.
        summary: String,
        /// What it says of the commit.
        state: QuietCheck,
    },
}

/// What a check without a run says: never that something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuietCheck {
    /// Something is still to come before the commit is measured: a label, an approval.
    Waiting,
    /// There is nothing to measure.
    Skipped,
}

/// An answer as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRow {
    /// Its number; a later one of the same pull request is delivered later.
    pub id: u64,
    /// To whom, what.
    pub answer: Answer,
    /// How far it has come.
    pub state: OwedState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: DateTime<Utc>,
    /// When it was written down.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub settled_at: Option<DateTime<Utc>>,
    /// What the last try met.
    pub last_error: Option<String>,
}

impl AnswerRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "answers", row };
        Ok(Self {
            id: columns.number("id")?,
            answer: Answer {
                repository: columns.noun("repository")?,
                number: columns.number("number")?,
                key: columns.plain("key")?,
                what: columns.json("what")?,
            },
            state: columns.noun("state")?,
            attempts: columns.number("attempts")?,
            next_at: columns.instant("next_at")?,
            created_at: columns.instant("created_at")?,
            settled_at: columns.maybe_instant("settled_at")?,
            last_error: columns.plain("last_error")?,
        })
    }
}

impl Write {
    /// Owes an answer, once: the same key is not owed twice, also after it was delivered.
    pub async fn owe_answer(&mut self, answer: &Answer, now: DateTime<Utc>) -> Result<Recorded, StoreError> {
        let statement = "insert into answers (key, repository, number, what, state, next_at, created_at)
             values (?1, ?2, ?3, ?4, 'owed', ?5, ?5) on conflict (key) do nothing";
        let done = sqlx::query(statement)
            .bind(&answer.key)
            .bind(answer.repository.as_str())
            .bind(id_column(answer.number))
            .bind(to_json("answers.what", &answer.what)?)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("owe an answer on {}#{}", answer.repository, answer.number)))?;
        Ok(if done.rows_affected() == 0 { Recorded::Existed } else { Recorded::Inserted })
    }

    /// Ends an answer that is still owed: delivered, or kept or refused for good with the reason.
    pub async fn settle_answer(
        &mut self,
        id: u64,
        to: OwedState,
        error: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update answers set state = ?2, attempts = attempts + 1, settled_at = ?3, last_error = ?4
             where id = ?1 and state = 'owed'";
        let done = sqlx::query(statement)
            .bind(id_column(id))
            .bind(to.as_str())
            .bind(now.timestamp_millis())
            .bind(error)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("settle answer {id}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Counts a failed try of an answer that stays owed until `next_at`.
    pub async fn postpone_answer(
        &mut self,
        id: u64,
        error: &str,
        next_at: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update answers set attempts = attempts + 1, next_at = ?2, last_error = ?3
             where id = ?1 and state = 'owed'";
        let done = sqlx::query(statement)
            .bind(id_column(id))
            .bind(next_at.timestamp_millis())
            .bind(error)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("postpone answer {id}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Forgets answers that were settled before `before`, in order to keep the table small. Their keys may be owed
    /// again afterwards, so `before` lies further back than anything is told twice from outside.
    pub async fn forget_answers(&mut self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query("delete from answers where settled_at < ?1")
            .bind(before.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql("forget old answers"))?;
        Ok(done.rows_affected())
    }
}

impl Store {
    /// The answers that are due at `now`, oldest first: of each pull request only those before which nothing else is
    /// owed that is not due, so that they arrive in order.
    pub async fn due_answers(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<AnswerRow>, StoreError> {
        let statement = "select * from answers where state = 'owed' and next_at <= ?1
                 and not exists (select 1 from answers as before where before.state = 'owed'
                     and before.repository = answers.repository and before.number = answers.number
                     and before.id < answers.id and before.next_at > ?1)
             order by id limit ?2";
        let rows = sqlx::query(statement)
            .bind(now.timestamp_millis())
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the answers that are owed"))?;
        rows.iter().map(AnswerRow::read).collect()
    }

    /// All answers on a pull request, oldest first.
    pub async fn answers(&self, repository: &RepoName, number: u64) -> Result<Vec<AnswerRow>, StoreError> {
        let rows = sqlx::query("select * from answers where repository = ?1 and number = ?2 order by id")
            .bind(repository.as_str())
            .bind(id_column(number))
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the answers on {repository}#{number}")))?;
        rows.iter().map(AnswerRow::read).collect()
    }
}
