//! Webhook deliveries: each is written down once, with the few facts that nobody can ask for later. What they claim
//! about a commit or a pull request is a hint where to look.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Recorded, Store, StoreError, Write};
use crate::model::{CommitSha, RepoName};

/// A delivery that marked something.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// GitHub's id of it (`X-GitHub-Delivery`), the same when it is delivered again.
    pub id: String,
    /// The event, for example `pull_request`.
    pub event: String,
    /// What happened, for example `labeled`; `push` has none.
    pub action: Option<String>,
    /// The configured repository.
    pub repository: RepoName,
    /// Its number on GitHub.
    pub repository_id: Option<u64>,
    /// The pull request.
    pub number: Option<u64>,
    /// The commit: a pull request's head, a merge commit, what was pushed.
    pub sha: Option<CommitSha>,
    /// The full name of what was pushed or merged into (`refs/heads/main`, `refs/tags/v1`).
    pub reference: Option<String>,
    /// Who did it.
    pub sender: Option<String>,
    /// What else is needed.
    pub facts: DeliveryFacts,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

/// Facts of single kinds of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryFacts {
    /// The label that was set or taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<u64>,
    /// The check run or suite that is wanted again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<u64>,
}

impl Delivery {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let columns = Columns { table: "deliveries", row };
        Ok(Self {
            id: columns.plain("id")?,
            event: columns.plain("event")?,
            action: columns.plain("action")?,
            repository: columns.noun("repository")?,
            repository_id: columns.maybe_number("repository_id")?,
            number: columns.maybe_number("number")?,
            sha: columns.maybe_noun("sha")?,
            reference: columns.plain("ref")?,
            sender: columns.plain("sender")?,
            facts: columns.json("facts")?,
            received_at: columns.instant("received_at")?,
        })
    }
}

impl Write {
    /// Writes down a delivery, once.
    pub async fn record_delivery(&mut self, delivery: &Delivery) -> Result<Recorded, StoreError> {
        let statement =
            "insert into deliveries (id, event, action, repository, repository_id, number, sha, ref, sender,
                 facts, received_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) on conflict do nothing";
        let done = sqlx::query(statement)
            .bind(&delivery.id)
            .bind(&delivery.event)
            .bind(&delivery.action)
            .bind(delivery.repository.as_str())
            .bind(delivery.repository_id.map(id_column))
            .bind(delivery.number.map(id_column))
            .bind(delivery.sha.as_ref().map(CommitSha::as_str))
            .bind(&delivery.reference)
            .bind(&delivery.sender)
            .bind(to_json("deliveries.facts", &delivery.facts)?)
            .bind(delivery.received_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql("record a delivery"))?;
        Ok(if done.rows_affected() == 0 { Recorded::Existed } else { Recorded::Inserted })
    }

    /// Forgets deliveries that came before `before`.
    pub async fn forget_deliveries(&mut self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query("delete from deliveries where received_at < ?1")
            .bind(before.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql("forget old deliveries"))?;
        Ok(done.rows_affected())
    }

    /// Keeps up to which instant, by GitHub's time, no delivery is open.
    pub async fn keep_deliveries_seen(&mut self, at: DateTime<Utc>) -> Result<(), StoreError> {
        let statement =
            "insert into deliveries_seen (one, at) values (1, ?1) on conflict do update set at = excluded.at";
        sqlx::query(statement)
            .bind(at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql("keep up to where deliveries were seen"))?;
        Ok(())
    }
}

impl Store {
    /// The deliveries about a pull request, oldest first.
    pub async fn deliveries_of_pull(&self, repository: &RepoName, number: u64) -> Result<Vec<Delivery>, StoreError> {
        let rows =
            sqlx::query("select * from deliveries where repository = ?1 and number = ?2 order by received_at, id")
                .bind(repository.as_str())
                .bind(id_column(number))
                .fetch_all(&self.readers)
                .await
                .map_err(sql(format!("read the deliveries about #{number}")))?;
        rows.iter().map(Delivery::read).collect()
    }

    /// The commits that deliveries since `since` said a reference (`refs/heads/main`) was moved to.
    pub async fn delivered_tips(
        &self,
        repository: &RepoName,
        reference: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<CommitSha>, StoreError> {
        let statement = "select distinct sha from deliveries
             where repository = ?1 and ref = ?2 and received_at >= ?3 and sha is not null";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(reference)
            .bind(since.timestamp_millis())
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the deliveries about {reference}")))?;
        rows.iter().map(|row| Columns { table: "deliveries", row }.noun("sha")).collect()
    }

    /// Up to which instant, by GitHub's time, no delivery is open.
    pub async fn deliveries_seen_at(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let row = sqlx::query("select at from deliveries_seen")
            .fetch_optional(&self.readers)
            .await
            .map_err(sql("read up to where deliveries were seen"))?;
        row.map(|row| Columns { table: "deliveries_seen", row: &row }.instant("at")).transpose()
    }
}
