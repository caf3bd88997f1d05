//! Passes and their points: one execution of the suite in one container, and what came of everything it was expected
//! to measure. A pass is written only by the holder of its job's claim.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::codec::{id_column, to_json};
use super::error::sql;
use super::{Claim, Outcome, SeriesMeasurement, Store, StoreError, Write};
use crate::model::{CommitSha, ExpectedPoint, PointState, Role};

/// A pass that begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassStart {
    /// Its number in the attempt, from 1.
    pub number: u32,
    /// Which side of a comparison it measures.
    pub role: Role,
    /// The commit it measures.
    pub sha: CommitSha,
    /// The image's reference.
    pub image: String,
    /// The image's digest (`sha256:...`), when the registry or the engine knows one.
    pub digest: Option<String>,
    /// Version of the devices' driver, where they have one.
    pub driver: Option<String>,
    /// The container's specification, without secrets.
    pub container: serde_json::Value,
    /// The command for a shell that repeats it; secrets stand in it by name only (`-e HF_TOKEN`).
    pub repro_command: String,
}

/// A pass that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PassEnd {
    /// The suite's exit code, when the container ran to its end.
    pub exit_code: Option<i64>,
    /// What came of every expected and every extra point.
    pub points: Vec<PointOutcome>,
    /// All that was measured.
    pub measurements: Vec<SeriesMeasurement>,
}

/// What came of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointOutcome {
    /// The point.
    #[serde(flatten)]
    pub point: ExpectedPoint,
    /// What came of it.
    pub state: PointState,
    /// Why, when it is not ok.
    pub reason: Option<String>,
}

impl Store {
    /// The image of a pass that was begun under this claim; `None` when it was not.
    pub async fn begun_with(&self, claim: &Claim, number: u32) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("select image from passes where job_id = ?1 and attempt = ?2 and pass = ?3")
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(number)
            .fetch_optional(&self.readers)
            .await
            .map_err(sql(format!("look for pass {number} of job {}", claim.job)))
    }
}

impl Write {
    /// Writes down a pass that begins, when the claim still holds; one that was begun before is adopted and keeps its
    /// start.
    pub async fn insert_pass(
        &mut self,
        claim: &Claim,
        pass: &PassStart,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "insert into passes (job_id, attempt, pass, role, sha, image, digest, driver, container,
                 repro_command, started_at)
             select ?1, ?2, ?4, ?5, ?6, ?7, ?8, ?12, ?9, ?10, ?11 from jobs
             where id = ?1 and attempt = ?2 and claimed_by = ?3 and state in ('claimed', 'running')
             on conflict (job_id, attempt, pass) do update set container = excluded.container";
        let done = sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(claim.by.as_str())
            .bind(pass.number)
            .bind(pass.role.as_str())
            .bind(pass.sha.as_str())
            .bind(&pass.image)
            .bind(&pass.digest)
            .bind(to_json("passes.container", &pass.container)?)
            .bind(&pass.repro_command)
            .bind(now.timestamp_millis())
            .bind(&pass.driver)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("begin pass {} of job {}", pass.number, claim.job)))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Writes down how a pass ended with everything it measured, when the claim still holds and it had not ended.
    pub async fn end_pass(
        &mut self,
        claim: &Claim,
        number: u32,
        end: &PassEnd,
        now: DateTime<Utc>,
    ) -> Result<Outcome, StoreError> {
        let statement = "update passes set finished_at = ?5, exit_code = ?6
             where job_id = ?1 and attempt = ?2 and pass = ?4 and finished_at is null and exists (
                 select 1 from jobs where id = ?1 and attempt = ?2 and claimed_by = ?3
                     and state in ('claimed', 'running'))";
        let done = sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(claim.by.as_str())
            .bind(number)
            .bind(now.timestamp_millis())
            .bind(end.exit_code)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("end pass {number} of job {}", claim.job)))?;
        if Outcome::of(done.rows_affected()) == Outcome::Moved {
            return Ok(Outcome::Moved);
        }
        for point in &end.points {
            self.insert_point(claim, number, point).await?;
        }
        self.insert_measurements(claim, number, &end.measurements).await?;
        Ok(Outcome::Performed)
    }

    /// Writes down a point; told twice, the first one counts.
    pub(super) async fn insert_point(
        &mut self,
        claim: &Claim,
        number: u32,
        outcome: &PointOutcome,
    ) -> Result<(), StoreError> {
        let statement = "insert into points (job_id, attempt, pass, benchmark, point, suite, variant, state, reason)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) on conflict do nothing";
        sqlx::query(statement)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(number)
            .bind(&outcome.point.benchmark)
            .bind(&outcome.point.point)
            .bind(&outcome.point.suite)
            .bind(outcome.point.variant.as_str())
            .bind(outcome.state.as_str())
            .bind(&outcome.reason)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("record point {}", outcome.point.point)))?;
        Ok(())
    }
}
