//! What this store knows of commits on one target with one model: which jobs there were, how they ended, whether their
//! results went out. Picking asks here first. Also how long benchmarks took, which budgets are estimated from.

use std::collections::BTreeMap;

use super::codec::{Columns, to_json};
use super::error::sql;
use super::{Scope, Store, StoreError};
use crate::model::{BranchName, CommitSha, Conclusion, JobPhase, RepoName, RunId, Target, Trigger};

/// One job, as far as it matters for picking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownJob {
    /// Its run.
    pub run: RunId,
    /// Why the run exists.
    pub trigger: Trigger,
    /// How much of its trigger's selection the run covers.
    pub scope: Scope,
    /// How it ended; `None` while it is open.
    pub conclusion: Option<Conclusion>,
    /// Whether its run owes uploads.
    pub publishes: bool,
    /// Whether an upload of its own results is owed, delivered or refused.
    pub uploads: bool,
}

impl Store {
    /// The first repetition of every job that measures (or measured) one of `shas` on `target` with `model`, by commit,
    /// oldest first.
    pub async fn known_jobs(
        &self,
        repository: &RepoName,
        branch: &BranchName,
        target: &Target,
        model: &str,
        shas: &[CommitSha],
    ) -> Result<BTreeMap<CommitSha, Vec<KnownJob>>, StoreError> {
        let statement = "select runs.sha, jobs.run_id, runs.trigger, coalesce(runs.terms ->> 'scope', 'full') as scope,
                 jobs.state, jobs.conclusion,
                 exists (select 1 from json_each(runs.owed) as owed where owed.value ->> 'kind' = 'upload')
                     as publishes,
                 exists (select 1 from outbox where outbox.run_id = runs.id and outbox.job_id = jobs.id
                         and outbox.kind = 'upload') as uploads
             from runs join jobs on jobs.run_id = runs.id
             where runs.repository = ?1 and runs.sha in (select value from json_each(?2)) and runs.branch = ?3
                 and jobs.platform = ?4 and jobs.device_type = ?5 and jobs.device_count = ?6 and jobs.model = ?7
                 and coalesce(jobs.spec ->> 'repeat', 1) = 1
             order by jobs.id";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(to_json("runs.sha", &shas)?)
            .bind(branch.as_str())
            .bind(target.platform.as_str())
            .bind(target.device_type.as_str())
            .bind(target.count)
            .bind(model)
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("look for results of {model}")))?;
        let mut known: BTreeMap<CommitSha, Vec<KnownJob>> = BTreeMap::new();
        for row in &rows {
            let columns = Columns { table: "jobs", row };
            let conclusion = match columns.noun::<JobPhase>("state")? {
                JobPhase::Finished => Some(columns.json("conclusion")?),
                JobPhase::WaitingForImage | JobPhase::Queued | JobPhase::Claimed | JobPhase::Running => None,
            };
            let job = KnownJob {
                run: columns.id("run_id")?,
                trigger: columns.json("trigger")?,
                scope: columns.noun("scope")?,
                conclusion,
                publishes: columns.plain("publishes")?,
                uploads: columns.plain("uploads")?,
            };
            known.entry(columns.noun("sha")?).or_default().push(job);
        }
        Ok(known)
    }

    /// How long the passes of the latest successful jobs took for each point, in milliseconds, by model and device
    /// count on this kind of device: the time of a pass divided by its points, averaged over at most `jobs` jobs each.
    pub async fn point_durations(
        &self,
        repository: &RepoName,
        target: &Target,
        jobs: u32,
    ) -> Result<BTreeMap<(String, u32), u64>, StoreError> {
        let statement = "with took as (
                 select jobs.model, jobs.device_count, passes.job_id, passes.finished_at - passes.started_at as ms,
                     (select count(*) from points where points.job_id = passes.job_id
                          and points.attempt = passes.attempt and points.pass = passes.pass and points.state = 'ok')
                         as points,
                     row_number() over (partition by jobs.model, jobs.device_count order by jobs.id desc) as nth
                 from jobs
                     join runs on runs.id = jobs.run_id
                     join passes on passes.job_id = jobs.id and passes.attempt = jobs.attempt and passes.pass = 1
                 where runs.repository = ?1 and jobs.platform = ?2 and jobs.device_type = ?3
                     and jobs.state = 'finished' and jobs.conclusion ->> 'conclusion' = 'success'
                     and passes.finished_at is not null)
             select model, device_count, cast(sum(ms) / sum(points) as integer) as ms
             from took where nth <= ?4 and points > 0 and ms > 0 group by model, device_count";
        let rows = sqlx::query(statement)
            .bind(repository.as_str())
            .bind(target.platform.as_str())
            .bind(target.device_type.as_str())
            .bind(jobs)
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read how long benchmarks took"))?;
        let mut durations = BTreeMap::new();
        for row in &rows {
            let columns = Columns { table: "passes", row };
            let key = (columns.plain("model")?, columns.number("device_count")?);
            durations.insert(key, columns.number("ms")?);
        }
        Ok(durations)
    }
}
