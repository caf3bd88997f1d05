//! Pauses: what people stopped, who and why, until they take it back.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;

use super::codec::Columns;
use super::error::sql;
use super::{Outcome, Store, StoreError, Write};
use crate::model::{Control, Pause};

fn read(row: &SqliteRow) -> Result<Pause, StoreError> {
    let columns = Columns { table: "controls", row };
    Ok(Pause {
        what: columns.noun("what")?,
        by: columns.plain("by")?,
        why: columns.plain("why")?,
        since: columns.instant("since")?,
    })
}

impl Write {
    /// Pauses; a pause that stands stays as it is.
    pub async fn pause(
        &mut self,
        what: &Control,
        by: &str,
        why: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "insert into controls (what, by, why, since) values (?1, ?2, ?3, ?4) on conflict do nothing";
        let done = sqlx::query(statement)
            .bind(what.to_string())
            .bind(by)
            .bind(why)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("pause {what}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Takes a pause back.
    pub async fn resume(&mut self, what: &Control) -> Result<Outcome, StoreError> {
        let done = sqlx::query("delete from controls where what = ?1")
            .bind(what.to_string())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("resume {what}")))?;
        self.1.due = true;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// A pause as this write sees it.
    pub async fn pause_of(&mut self, what: &Control) -> Result<Option<Pause>, StoreError> {
        let row = sqlx::query("select * from controls where what = ?1")
            .bind(what.to_string())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(sql(format!("read whether {what} is paused")))?;
        row.as_ref().map(read).transpose()
    }
}

impl Store {
    /// All pauses.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = sqlx::query("select * from controls order by what")
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read what is paused"))?;
        rows.iter().map(read).collect()
    }
}
