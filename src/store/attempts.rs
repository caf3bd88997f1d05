//! Attempts: every try at a job, with its end and the room its artifacts take. A job keeps all its attempts.

use chrono::{DateTime, Utc};

use super::artifacts::{AttemptKey, KeptAttempt};
use super::codec::{Columns, id_column, size_column, to_json};
use super::error::sql;
use super::{Claim, Outcome, Store, StoreError, Write};
use crate::model::{Conclusion, Slot, Trigger};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AttemptEnd {
    /// How.
    pub conclusion: Conclusion,
    /// What happened, for people: the error with its causes; secrets were taken out before.
    pub message: Option<String>,
    /// How much room its artifacts take, when that is known.
    pub artifact_bytes: Option<u64>,
}

impl Write {
    pub(super) async fn insert_attempt(
        &mut self,
        claim: &Claim,
        slot: &Slot,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let statement = "insert into attempts (job_id, attempt, runner, claimed_at, devices, cpus, co_tenants)
             values (?1, ?2, ?3, ?4, ?5, ?6,
                 (select json_group_array(id) from jobs where claimed_by = ?3 and id <> ?1))";
        sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(claim.by.as_str())
            .bind(now.timestamp_millis())
            .bind(to_json("attempts.devices", &slot.devices)?)
            .bind(slot.cpus.as_ref().map(ToString::to_string))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("begin attempt {} of job {}", claim.attempt, claim.job)))?;
        // The others have a co-tenant more; one that was tried again beside them is named once.
        let statement = "update attempts set co_tenants = json_insert(co_tenants, '$[#]', ?1)
             where finished_at is null and runner = ?2 and job_id <> ?1
                 and not exists (select 1 from json_each(attempts.co_tenants) where value = ?1)";
        sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.by.as_str())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("note the co-tenants of job {}", claim.job)))?;
        Ok(())
    }

    /// Writes down how many points a pass that runs has begun, when the claim still holds.
    pub async fn note_points(&mut self, claim: &Claim, begun: u32) -> Result<Outcome, StoreError> {
        let statement = "update attempts set points_begun = ?4
             where job_id = ?1 and attempt = ?2 and runner = ?3 and finished_at is null";
        let done = sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(claim.by.as_str())
            .bind(begun)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("note the progress of job {}", claim.job)))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Ends an attempt that is still open and still its job's last one.
    pub async fn end_attempt(
        &mut self,
        claim: &Claim,
        end: &AttemptEnd,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update attempts set finished_at = ?4, conclusion = ?5, message = ?6, artifact_bytes = ?7
             where job_id = ?1 and attempt = ?2 and finished_at is null and exists (
                 select 1 from jobs where id = ?1 and attempt = ?2 and claimed_by = ?3
                     and state in ('claimed', 'running'))";
        let done = sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(claim.by.as_str())
            .bind(now.timestamp_millis())
            .bind(to_json("attempts.conclusion", &end.conclusion)?)
            .bind(&end.message)
            .bind(end.artifact_bytes.map(size_column))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("end attempt {} of job {}", claim.attempt, claim.job)))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Writes down that an attempt's artifacts are gone.
    pub async fn forget_artifacts(&mut self, key: AttemptKey, now: DateTime<Utc>) -> Result<Outcome, StoreError> {
        let statement = "update attempts set artifacts_removed_at = ?3
             where job_id = ?1 and attempt = ?2 and artifacts_removed_at is null";
        let done = sqlx::query(statement)
            .bind(id_column(key.job))
            .bind(key.attempt)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("forget the artifacts of job {}", key.job)))?;
        Ok(Outcome::of(done.rows_affected()))
    }
}

impl Store {
    /// The ended attempts whose artifacts are on disk, oldest first, for the retention to judge.
    pub async fn kept_attempts(&self) -> Result<Vec<KeptAttempt>, StoreError> {
        let statement = "select jobs.run_id, attempts.job_id, attempts.attempt, attempts.finished_at,
                 attempts.artifact_bytes, runs.trigger,
                 exists (select 1 from outbox where outbox.run_id = runs.id and outbox.state = 'owed'
                         and outbox.kind = 'upload') as owed
             from attempts join jobs on jobs.id = attempts.job_id join runs on runs.id = jobs.run_id
             where attempts.finished_at is not null and attempts.artifacts_removed_at is null
             order by attempts.finished_at, attempts.job_id, attempts.attempt";
        let rows =
            sqlx::query(statement).fetch_all(&self.readers).await.map_err(sql("read the attempts with artifacts"))?;
        let kept = |row| {
            let columns = Columns { table: "attempts", row };
            let trigger: Trigger = columns.json("trigger")?;
            Ok(KeptAttempt {
                key: AttemptKey {
                    run: columns.id("run_id")?,
                    job: columns.id("job_id")?,
                    attempt: columns.number("attempt")?,
                },
                finished_at: columns.instant("finished_at")?,
                bytes: columns.maybe_number("artifact_bytes")?,
                for_ever: trigger.keeps_artifacts(),
                owed: columns.plain("owed")?,
            })
        };
        rows.iter().map(kept).collect()
    }
}
