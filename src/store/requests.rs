//! Requests that carry a key of their sender: written in the same transaction as the run they start, so that a
//! repeated request finds the run instead of starting another.

use chrono::{DateTime, Utc};
use sqlx::Sqlite;

use super::codec::{Columns, id_column};
use super::error::sql;
use super::{Store, StoreError, Write};
use crate::model::RunId;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Hash of what was asked under it.
    pub fingerprint: String,
    /// The run it started.
    pub run: RunId,
}

impl Store {
    /// The request that came with `key`, if any did.
    pub async fn keyed_request(&self, key: &str) -> Result<Option<KeyedRequest>, StoreError> {
        keyed_request(&self.readers, key).await
    }
}

impl Write {
    /// As [`Store::keyed_request`], as this write sees it.
    pub async fn keyed_request(&mut self, key: &str) -> Result<Option<KeyedRequest>, StoreError> {
        keyed_request(&mut *self.0, key).await
    }

    /// Writes down what `key` started.
    pub async fn record_keyed_request(
        &mut self,
        key: &str,
        request: &KeyedRequest,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        sqlx::query("insert into keyed_requests (key, fingerprint, run_id, created_at) values (?1, ?2, ?3, ?4)")
            .bind(key)
            .bind(&request.fingerprint)
            .bind(id_column(request.run))
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql("record a request by its key"))?;
        Ok(())
    }
}

async fn keyed_request<'c>(
    reader: impl sqlx::Executor<'c, Database = Sqlite>,
    key: &str,
) -> Result<Option<KeyedRequest>, StoreError> {
    let row = sqlx::query("select fingerprint, run_id from keyed_requests where key = ?1")
        .bind(key)
        .fetch_optional(reader)
        .await
        .map_err(sql("look for a request by its key"))?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns { table: "keyed_requests", row: &row };
    Ok(Some(KeyedRequest { fingerprint: columns.plain("fingerprint")?, run: columns.id("run_id")? }))
}
