//! Runners: the machines that asked for jobs, with what they offered last.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::sqlite::SqliteRow;

use super::codec::{Columns, to_json};
use super::error::sql;
use super::{Store, StoreError, Write};
use crate::model::{DeviceType, Platform, RunnerName};

/// A runner as it last asked for a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunnerRow {
    /// Its name.
    pub name: RunnerName,
    /// Kind of hardware.
    pub platform: Platform,
    /// Its hardware.
    pub device_type: DeviceType,
    /// What it offered, as the queue wrote it.
    pub offer: serde_json::Value,
    /// When it last asked, to the minute.
    pub seen_at: DateTime<Utc>,
}

fn read(row: &SqliteRow) -> Result<RunnerRow, StoreError> {
    let columns = Columns { table: "runners", row };
    Ok(RunnerRow {
        name: columns.noun("name")?,
        platform: columns.noun("platform")?,
        device_type: columns.noun("device_type")?,
        offer: columns.json("offer")?,
        seen_at: columns.instant("seen_at")?,
    })
}

impl Write {
    /// Writes down what a runner offers.
    pub async fn see_runner(&mut self, runner: &RunnerRow) -> Result<(), StoreError> {
        let statement = "insert into runners (name, platform, device_type, offer, seen_at) values (?1, ?2, ?3, ?4, ?5)
             on conflict do update set platform = excluded.platform, device_type = excluded.device_type,
                 offer = excluded.offer, seen_at = excluded.seen_at";
        sqlx::query(statement)
            .bind(runner.name.as_str())
            .bind(runner.platform.as_str())
            .bind(runner.device_type.as_str())
            .bind(to_json("runners.offer", &runner.offer)?)
            .bind(runner.seen_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("write down what {} offers", runner.name)))?;
        Ok(())
    }
}

impl Store {
    /// All runners that ever asked for a job, by name.
    pub async fn runners(&self) -> Result<Vec<RunnerRow>, StoreError> {
        let rows = sqlx::query("select * from runners order by name")
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the runners"))?;
        rows.iter().map(read).collect()
    }
}
