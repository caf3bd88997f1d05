//! What a run's values are held against: for each series the newest earlier measurement on the base branch, at or before
//! the commit where the run's own commit left it.

use std::collections::{BTreeMap, BTreeSet};

use super::codec::{Columns, id_column};
use super::error::sql;
use super::{Store, StoreError};
use crate::model::{BranchName, CommitSha, RunId, RunnerName, Target};

/// The value that a series is held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// In which run it was measured.
    pub run: RunId,
    /// Of which commit.
    pub sha: CommitSha,
    /// Mean over its passes of each pass's mean.
    pub value: f64,
    /// How many commits it lies before the one where the run's commit left the branch, where both places are known.
    pub older_by: Option<u32>,
}

/// What measured a run on one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machines {
    /// The runners.
    pub runners: Vec<RunnerName>,
    /// The versions of their devices' drivers, as far as they are known.
    pub drivers: Vec<String>,
    /// The images by digest.
    pub digests: Vec<String>,
}

impl Machines {
    /// From the runners of attempts, and of their passes the driver and the image's digest; each is named once.
    pub fn of(
        runners: impl IntoIterator<Item = RunnerName>,
        passes: impl IntoIterator<Item = (Option<String>, Option<String>)>,
    ) -> Self {
        let (drivers, digests): (Vec<_>, Vec<_>) = passes.into_iter().unzip();
        Self {
            runners: once(runners),
            drivers: once(drivers.into_iter().flatten()),
            digests: once(digests.into_iter().flatten()),
        }
    }
}

fn once<T: Ord>(names: impl IntoIterator<Item = T>) -> Vec<T> {
    names.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

impl Store {
    /// The baseline of each series that `run` measured, by the series' number. It is of the same series (target, model,
    /// benchmark, variant, point, metric, configuration), measured as a candidate by an earlier run: of the commit that
    /// the run's terms name, else of the newest commit of `base` at or before the one that its own commit's
    /// first parents lead to, else the newest trusted measurement on that branch. Series without one are absent.
    pub async fn baselines_of_run(&self, run: RunId, base: &BranchName) -> Result<BTreeMap<u64, Baseline>, StoreError> {
        let statement = "with recursive own as (
                 select id, repository, ?2 as branch, sha, json_extract(terms, '$.baseline') as wanted
                 from runs where id = ?1),
             walk (sha, depth) as (
                 select sha, 0 from own
                 union all
                 select commits.first_parent, walk.depth + 1
                 from walk cross join own
                     join commits on commits.repository = own.repository and commits.sha = walk.sha
                 where commits.first_parent is not null and walk.depth < 250 and not exists (
                     select 1 from branch_commits b
                     where b.repository = own.repository and b.branch = own.branch and b.sha = walk.sha)),
             left_at (position) as (
                 select (select b.position
                         from walk join branch_commits b on b.repository = own.repository and b.branch = own.branch
                             and b.sha = walk.sha
                         order by walk.depth limit 1)
                 from own),
             mine as (select distinct series_id from measurements where run_id = ?1 and role = 'candidate'),
             found as materialized (
                 select mine.series_id, coalesce(
                     (select m.run_id
                      from measurements m indexed by measurements_of_commit
                          cross join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
                      where own.wanted is not null and m.series_id = mine.series_id and m.sha = own.wanted
                          and m.run_id < own.id and m.role = 'candidate'
                      order by m.run_id desc limit 1),
                     (select m.run_id
                      from branch_commits b
                          cross join measurements m indexed by measurements_of_commit
                              on m.series_id = mine.series_id and m.sha = b.sha
                          cross join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
                      where own.wanted is null and b.repository = own.repository and b.branch = own.branch
                          and (left_at.position is null or b.position <= left_at.position) and b.sha <> own.sha
                          and m.run_id < own.id and m.role = 'candidate'
                      order by b.position desc, m.run_id desc limit 1),
                     (select m.run_id
                      from measurements m
                          cross join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
                          cross join runs on runs.id = m.run_id
                      where own.wanted is null and m.series_id = mine.series_id and m.run_id < own.id
                          and m.role = 'candidate' and m.sha <> own.sha and runs.branch = own.branch
                          and json_extract(runs.trigger, '$.kind') in ('schedule', 'merge', 'release', 'manual')
                          and json_extract(jobs.spec, '$.trust') is not 'untrusted'
                      order by m.run_id desc limit 1)) as run_id
                 from mine cross join own cross join left_at)
             select found.series_id, found.run_id, m.sha, avg(m.mean) as value,
                 left_at.position - b.position as older_by
             from found cross join own cross join left_at
                 cross join measurements m on m.series_id = found.series_id and m.run_id = found.run_id
                     and m.role = 'candidate'
                 cross join jobs on jobs.id = m.job_id and jobs.attempt = m.attempt
                 left join branch_commits b on b.repository = own.repository and b.branch = own.branch
                     and b.sha = m.sha
             group by found.series_id";
        let rows = sqlx::query(statement)
            .bind(id_column(run))
            .bind(base.as_str())
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read the baselines of run {run}")))?;
        let baseline = |row| {
            let columns = Columns { table: "measurements", row };
            // A named baseline may lie after the place where the commit left the branch: then it is not older.
            let older_by: Option<i64> = columns.plain("older_by")?;
            let value = Baseline {
                run: columns.id("run_id")?,
                sha: columns.noun("sha")?,
                value: columns.plain("value")?,
                older_by: older_by.and_then(|commits| u32::try_from(commits).ok()),
            };
            Ok((columns.number("series_id")?, value))
        };
        rows.iter().map(baseline).collect()
    }

    /// What measured a run on one target, in the last attempts of its jobs.
    pub async fn machines_of_run(&self, run: RunId, target: &Target) -> Result<Machines, StoreError> {
        let statement = "select distinct attempts.runner, passes.driver, passes.digest
             from jobs join attempts on attempts.job_id = jobs.id and attempts.attempt = jobs.attempt
                 join passes on passes.job_id = jobs.id and passes.attempt = jobs.attempt and passes.role = 'candidate'
             where jobs.run_id = ?1 and jobs.platform = ?2 and jobs.device_type = ?3 and jobs.device_count = ?4
             order by 1, 2, 3";
        let rows = sqlx::query(statement)
            .bind(id_column(run))
            .bind(target.platform.as_str())
            .bind(target.device_type.as_str())
            .bind(target.count)
            .fetch_all(&self.readers)
            .await
            .map_err(sql(format!("read what measured run {run}")))?;
        let (mut runners, mut passes) = (Vec::new(), Vec::new());
        for row in &rows {
            let columns = Columns { table: "passes", row };
            runners.push(columns.noun("runner")?);
            passes.push((columns.plain("driver")?, columns.plain("digest")?));
        }
        Ok(Machines::of(runners, passes))
    }
}
