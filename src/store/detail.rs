//! The read model of one run: jobs, attempts, passes and points in one value, for `show`, the API and the dashboard.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use utoipa::ToSchema;

use super::codec::{Columns, id_column};
use super::error::sql;
use super::jobs::read_jobs_of_run;
use super::outbox::read_outbox_of_run;
use super::queued::read_usual_duration;
use super::runs::read_run;
use super::{JobRow, OutboxRow, PointCounts, Progress, RunRow, Store, StoreError};
use crate::model::{CommitSha, Conclusion, JobId, JobState, PointState, Role, RunId, RunnerName, Slot, Variant};

/// A run with all that belongs to it but its measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: RunRow,
    /// How far it has come.
    pub progress: Progress,
    /// Its jobs, oldest first.
    pub jobs: Vec<JobDetail>,
    /// What it owes and owed to the outside.
    pub outbox: Vec<OutboxRow>,
}

/// A job with its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    /// The job.
    #[serde(flatten)]
    pub job: JobRow,
    /// How far it has come.
    pub progress: Progress,
    /// Its attempts, first to last.
    pub attempts: Vec<AttemptDetail>,
}

/// An attempt with its passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptDetail {
    /// Its number, from 1.
    pub number: u32,
    /// Where it ran.
    pub runner: RunnerName,
    /// The devices and processors it had to itself.
    pub slot: Slot,
    /// The jobs that had other devices of the same host at some time meanwhile.
    pub co_tenants: Vec<JobId>,
    /// When it was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How it ended.
    #[serde(flatten)]
    pub end: Option<Conclusion>,
    /// What happened, for people.
    pub message: Option<String>,
    /// When the retention removed its artifacts.
    pub artifacts_removed_at: Option<DateTime<Utc>>,
    /// How many points its last pass has begun; the runner tells it with its heartbeats.
    pub points_begun: u32,
    /// Its passes, first to last.
    pub passes: Vec<PassDetail>,
}

/// A pass with its points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PassDetail {
    /// Its number, from 1.
    pub number: u32,
    /// Which side of a comparison it measured.
    pub role: Role,
    /// The commit it measured.
    pub sha: CommitSha,
    /// The image's reference.
    pub image: String,
    /// The image's digest.
    pub digest: Option<String>,
    /// Version of the devices' driver.
    pub driver: Option<String>,
    /// The container's specification, without secrets.
    pub container: serde_json::Value,
    /// The command that repeats it.
    pub repro_command: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The suite's exit code.
    pub exit_code: Option<i64>,
    /// What came of its points.
    pub points: Vec<PointDetail>,
}

/// What came of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PointDetail {
    /// The suite.
    pub suite: String,
    /// The benchmark with its variant's suffix.
    pub benchmark: String,
    /// How the engine compiled.
    pub variant: Variant,
    /// The point.
    pub point: String,
    /// What came of it.
    pub state: PointState,
    /// Why, when it is not ok.
    pub reason: Option<String>,
}

type PassKey = (JobId, u32, u32);
type AttemptKey = (JobId, u32);

impl Store {
    /// A run with its jobs, attempts, passes, points and outbox, all as they stood at one moment; `None` when there is
    /// no such run.
    pub async fn run_detail(&self, run: RunId) -> Result<Option<RunDetail>, StoreError> {
        let mut read = self.read().await?;
        let Some(row) = read_run(&mut *read, run).await? else { return Ok(None) };
        let mut points = points_of_run(&mut read, run).await?;
        let mut passes = passes_of_run(&mut read, run, &mut points).await?;
        let mut attempts = attempts_of_run(&mut read, run, &mut passes).await?;
        let mut jobs = Vec::new();
        for job in read_jobs_of_run(&mut *read, run).await? {
            let attempts = attempts.remove(&job.id).unwrap_or_default();
            let progress = progress(&mut read, &job, attempts.last()).await?;
            jobs.push(JobDetail { job, progress, attempts });
        }
        let progress = Progress::of_run(&jobs);
        Ok(Some(RunDetail { run: row, progress, jobs, outbox: read_outbox_of_run(&mut *read, run).await? }))
    }
}

async fn progress(
    from: &mut SqliteConnection,
    job: &JobRow,
    last: Option<&AttemptDetail>,
) -> Result<Progress, StoreError> {
    let ends_at = match (&job.state, last) {
        (JobState::Claimed { .. } | JobState::Running { .. }, Some(attempt)) => {
            let usual = read_usual_duration(&mut *from, &job.alike()).await?;
            usual.map(|usual| attempt.claimed_at + usual)
        }
        (
            JobState::WaitingForImage { .. }
            | JobState::Queued { .. }
            | JobState::Claimed { .. }
            | JobState::Running { .. }
            | JobState::Finished { .. },
            _,
        ) => None,
    };
    let points = PointCounts::of(&job.state, &job.spec, last);
    Ok(Progress::of(points.behind(), points.expected, ends_at))
}

async fn points_of_run(
    from: &mut SqliteConnection,
    run: RunId,
) -> Result<BTreeMap<PassKey, Vec<PointDetail>>, StoreError> {
    let statement = "select points.* from points join jobs on jobs.id = points.job_id where jobs.run_id = ?1
         order by suite, benchmark, point";
    let rows = sqlx::query(statement)
        .bind(id_column(run))
        .fetch_all(&mut *from)
        .await
        .map_err(sql(format!("read the points of run {run}")))?;
    let mut found: BTreeMap<PassKey, Vec<PointDetail>> = BTreeMap::new();
    for row in &rows {
        let columns = Columns { table: "points", row };
        let key = (columns.id("job_id")?, columns.number("attempt")?, columns.number("pass")?);
        found.entry(key).or_default().push(PointDetail {
            suite: columns.plain("suite")?,
            benchmark: columns.plain("benchmark")?,
            variant: columns.noun("variant")?,
            point: columns.plain("point")?,
            state: columns.noun("state")?,
            reason: columns.plain("reason")?,
        });
    }
    Ok(found)
}

async fn passes_of_run(
    from: &mut SqliteConnection,
    run: RunId,
    points: &mut BTreeMap<PassKey, Vec<PointDetail>>,
) -> Result<BTreeMap<AttemptKey, Vec<PassDetail>>, StoreError> {
    let statement = "select passes.* from passes join jobs on jobs.id = passes.job_id where jobs.run_id = ?1
         order by passes.job_id, passes.attempt, passes.pass";
    let rows = sqlx::query(statement)
        .bind(id_column(run))
        .fetch_all(&mut *from)
        .await
        .map_err(sql(format!("read the passes of run {run}")))?;
    let mut found: BTreeMap<AttemptKey, Vec<PassDetail>> = BTreeMap::new();
    for row in &rows {
        let columns = Columns { table: "passes", row };
        let (job, attempt, number) = (columns.id("job_id")?, columns.number("attempt")?, columns.number("pass")?);
        found.entry((job, attempt)).or_default().push(PassDetail {
            number,
            role: columns.noun("role")?,
            sha: columns.noun("sha")?,
            image: columns.plain("image")?,
            digest: columns.plain("digest")?,
            driver: columns.plain("driver")?,
            container: columns.json("container")?,
            repro_command: columns.plain("repro_command")?,
            started_at: columns.instant("started_at")?,
            finished_at: columns.maybe_instant("finished_at")?,
            exit_code: columns.plain("exit_code")?,
            points: points.remove(&(job, attempt, number)).unwrap_or_default(),
        });
    }
    Ok(found)
}

async fn attempts_of_run(
    from: &mut SqliteConnection,
    run: RunId,
    passes: &mut BTreeMap<AttemptKey, Vec<PassDetail>>,
) -> Result<BTreeMap<JobId, Vec<AttemptDetail>>, StoreError> {
    let statement = "select attempts.* from attempts join jobs on jobs.id = attempts.job_id where jobs.run_id = ?1
         order by attempts.job_id, attempts.attempt";
    let rows = sqlx::query(statement)
        .bind(id_column(run))
        .fetch_all(&mut *from)
        .await
        .map_err(sql(format!("read the attempts of run {run}")))?;
    let mut found: BTreeMap<JobId, Vec<AttemptDetail>> = BTreeMap::new();
    for row in &rows {
        let columns = Columns { table: "attempts", row };
        let (job, number) = (columns.id("job_id")?, columns.number("attempt")?);
        found.entry(job).or_default().push(AttemptDetail {
            number,
            runner: columns.noun("runner")?,
            slot: Slot { devices: columns.json("devices")?, cpus: columns.maybe_noun("cpus")? },
            co_tenants: columns.json("co_tenants")?,
            claimed_at: columns.instant("claimed_at")?,
            finished_at: columns.maybe_instant("finished_at")?,
            end: columns.maybe_json("conclusion")?,
            message: columns.plain("message")?,
            artifacts_removed_at: columns.maybe_instant("artifacts_removed_at")?,
            points_begun: columns.number("points_begun")?,
            passes: passes.remove(&(job, number)).unwrap_or_default(),
        });
    }
    Ok(found)
}
