//! Measurements: every raw value of one metric of one point in one pass, by series. A series is what may be compared
//! over commits: repository, target, model, benchmark, variant, point, metric and configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::codec::{Columns, id_column, to_json};
use super::error::sql;
use super::{Claim, Outcome, Store, StoreError, Write};
use crate::model::{Better, CommitSha, JobId, Measurement, MetricClass, Role, RunId, Target, Variant};

/// A measurement with what its series needs besides job and pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesMeasurement {
    /// How the engine compiled.
    pub variant: Variant,
    /// Hash of the benchmark's own parameters; another one begins another series.
    pub configuration: String,
    /// What was measured.
    #[serde(flatten)]
    pub measurement: Measurement,
}

/// One metric of one point of a run, over all passes of one role of the last attempts of its jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesValue {
    /// The series' number in this store.
    pub series: u64,
    /// What it was measured on.
    pub target: Target,
    /// The model.
    pub model: String,
    /// The benchmark with its variant's suffix.
    pub benchmark: String,
    /// How the engine compiled.
    pub variant: Variant,
    /// The point.
    pub point: String,
    /// The metric's name.
    pub metric: String,
    /// Unit for people, may be empty.
    pub unit: String,
    /// Which direction is better; `None` for information.
    pub better: Option<Better>,
    /// How much it counts in a verdict.
    pub class: MetricClass,
    /// Which side of a comparison.
    pub role: Role,
    /// The commit.
    pub sha: CommitSha,
    /// Mean over the passes of each pass's mean.
    pub value: f64,
    /// The raw values, pass by pass.
    pub passes: Vec<Vec<f64>>,
}

/// The value that a run's series had before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Previous {
    /// In which run.
    pub run: RunId,
    /// Of which commit.
    pub sha: CommitSha,
    /// Mean over its passes of each pass's mean.
    pub value: f64,
}

impl Write {
    pub(super) async fn insert_measurements(
        &mut self,
        claim: &Claim,
        pass: u32,
        measurements: &[SeriesMeasurement],
    ) -> Result<(), StoreError> {
        for measured in measurements {
            let Measurement { point, metric, .. } = &measured.measurement;
            match measured.measurement.mean() {
                // Without a value there is nothing to remember: such a point is not "ok" and says so in its own row.
                None => {}
                Some(mean) if mean.is_finite() => {
                    let series = self.series(claim, measured).await?;
                    if self.insert_measurement(claim, pass, series, measured, mean).await? == Outcome::Moved {
                        tracing::warn!(job.id = %claim.job, "{point} gave {metric} twice, the first one counts");
                    }
                }
                // The checks before let only numbers through; what slips through must not cost the other results.
                Some(_) => tracing::warn!(job.id = %claim.job, "{metric} of {point} is no number, left out"),
            }
        }
        Ok(())
    }

    /// The series' number; a series is written down when it is first measured, and its unit and direction follow what
    /// the suite says now.
    async fn series(&mut self, claim: &Claim, measured: &SeriesMeasurement) -> Result<i64, StoreError> {
        let Measurement { benchmark, point, metric, unit, better, class, values: _ } = &measured.measurement;
        let statement =
            "insert into series (repository, platform, device_type, device_count, model, benchmark, variant,
                 point, metric, configuration, unit, better, class)
             select runs.repository, jobs.platform, jobs.device_type, jobs.device_count, jobs.model, ?2, ?3, ?4, ?5,
                 ?6, ?7, ?8, ?9
             from jobs join runs on runs.id = jobs.run_id where jobs.id = ?1
             on conflict do update set unit = excluded.unit, better = excluded.better, class = excluded.class
             returning id";
        sqlx::query_scalar(statement)
            .bind(id_column(claim.job))
            .bind(benchmark)
            .bind(measured.variant.as_str())
            .bind(point)
            .bind(metric)
            .bind(&measured.configuration)
            .bind(unit)
            .bind(better.map(Better::as_str))
            .bind(class.as_str())
            .fetch_one(&mut *self.0)
            .await
            .map_err(sql(format!("find the series of {point} {metric}")))
    }

    async fn insert_measurement(
        &mut self,
        claim: &Claim,
        pass: u32,
        series: i64,
        measured: &SeriesMeasurement,
        mean: f64,
    ) -> Result<Outcome, StoreError> {
        let statement =
            "insert into measurements (series_id, run_id, job_id, attempt, pass, role, sha, mean, raw_values)
             select ?1, jobs.run_id, ?2, ?3, ?4, passes.role, passes.sha, ?5, ?6
             from passes join jobs on jobs.id = passes.job_id
             where passes.job_id = ?2 and passes.attempt = ?3 and passes.pass = ?4
             on conflict do nothing";
        let done = sqlx::query(statement)
            .bind(series)
            .bind(id_column(claim.job))
            .bind(claim.attempt)
            .bind(pass)
            .bind(mean)
            .bind(to_json("measurements.raw_values", &measured.measurement.values)?)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("record {} {}", measured.measurement.point, measured.measurement.metric)))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Whether this attempt measured anything.
    pub async fn gave_results(&mut self, job: JobId, attempt: u32) -> Result<bool, StoreError> {
        sqlx::query_scalar("select exists (select 1 from measurements where job_id = ?1 and attempt = ?2)")
            .bind(id_column(job))
            .bind(attempt)
            .fetch_one(&mut *self.0)
            .await
            .map_err(sql(format!("look for results of job {job}")))
    }
}

impl Store {
    /// Everything a run measured in the last attempts of its jobs, by job and series.
    pub async fn values_of_run(&self, run: RunId) -> Result<Vec<SeriesValue>, StoreError> {
        self.values(run, None).await
    }

    /// Everything that one job of a run measured in its last attempt, by series.
    pub async fn values_of_job(&self, run: RunId, job: JobId) -> Result<Vec<SeriesValue>, StoreError> {
        self.values(run, Some(job)).await
    }

    async fn values(&self, run: RunId, job: Option<JobId>) -> Result<Vec<SeriesValue>, StoreError> {
        let statement = "select series.*, m.role, m.sha, m.mean, m.raw_values
             from measurements m join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
                 join series on series.id = m.series_id
             where jobs.run_id = ?1 and (?2 is null or jobs.id = ?2)
             order by m.job_id, m.role, m.sha, m.series_id, m.pass";
        let rows = sqlx::query(statement)
            .bind(id_column(run))
            .bind(job.map(id_column))
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the values of run {run}")))?;
        let mut values: Vec<(SeriesValue, Vec<f64>)> = Vec::new();
        for row in &rows {
            let columns = Columns { table: "series", row };
            let mean: f64 = columns.plain("mean")?;
            let pass = columns.values("raw_values")?;
            let (series, role, sha) = (columns.number("id")?, columns.noun("role")?, columns.noun("sha")?);
            match values.last_mut() {
                Some((last, means)) if (last.series, last.role, &last.sha) == (series, role, &sha) => {
                    last.passes.push(pass);
                    means.push(mean);
                }
                Some(_) | None => {
                    let value = SeriesValue {
                        series,
                        target: Target {
                            platform: columns.noun("platform")?,
                            device_type: columns.noun("device_type")?,
                            count: columns.number("device_count")?,
                        },
                        model: columns.plain("model")?,
                        benchmark: columns.plain("benchmark")?,
                        variant: columns.noun("variant")?,
                        point: columns.plain("point")?,
                        metric: columns.plain("metric")?,
                        unit: columns.plain("unit")?,
                        better: columns.maybe_noun("better")?,
                        class: columns.noun("class")?,
                        role,
                        sha,
                        value: mean,
                        passes: vec![pass],
                    };
                    values.push((value, vec![mean]));
                }
            }
        }
        Ok(values.into_iter().map(|(value, means)| SeriesValue { value: mean_of(&means), ..value }).collect())
    }

    /// What each series that `run` measured had before, by the series' number. "Before" is commit order on the run's
    /// branch where the commits' positions are known; otherwise it is the newest earlier run of a commit that is not
    /// younger. Series that were not
    /// measured before are absent.
    pub async fn previous_values(&self, run: RunId) -> Result<BTreeMap<u64, Previous>, StoreError> {
        // Two walks for each series, both along an index and both ending at their first hit: back over the branch's
        // commits, and back over the runs whose commits have no place on the branch.
        let statement = "with own as (
                 select runs.id, runs.repository, runs.branch, b.position, c.committed_at
                 from runs left join branch_commits b using (repository, branch, sha)
                     join commits c using (repository, sha)
                 where runs.id = ?1),
             mine as (select distinct series_id from measurements where run_id = ?1 and role = 'candidate'),
             found as materialized (
                 select mine.series_id, coalesce(
                     (select m.run_id
                      from branch_commits b
                          cross join measurements m indexed by measurements_of_commit
                              on m.series_id = mine.series_id and m.sha = b.sha
                          cross join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
                      where b.repository = own.repository and b.branch = own.branch and b.position <= own.position
                          and (b.position < own.position or m.run_id < own.id) and m.role = 'candidate'
                      order by b.position desc, m.run_id desc limit 1),
                     (select m.run_id
                      from measurements m cross join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
                      where m.series_id = mine.series_id and m.run_id < own.id and m.role = 'candidate'
                          and (own.position is null or not exists (
                              select 1 from branch_commits b
                              where b.repository = own.repository and b.branch = own.branch and b.sha = m.sha))
                          and coalesce((select c.committed_at <= own.committed_at from commits c
                              where c.repository = own.repository and c.sha = m.sha), true)
                      order by m.run_id desc limit 1)) as run_id
                 from mine cross join own)
             select found.series_id, found.run_id, m.sha, avg(m.mean) as value
             from found
                 cross join measurements m on m.series_id = found.series_id and m.run_id = found.run_id
                     and m.role = 'candidate'
                 cross join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
             group by found.series_id";
        let rows = sqlx::query(statement)
            .bind(id_column(run))
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the values before run {run}")))?;
        let previous = |row| {
            let columns = Columns { table: "measurements", row };
            let value =
                Previous { run: columns.id("run_id")?, sha: columns.noun("sha")?, value: columns.plain("value")? };
            Ok((columns.number("series_id")?, value))
        };
        rows.iter().map(previous).collect()
    }
}

fn mean_of(values: &[f64]) -> f64 {
    let (sum, count) = values.iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}
