//! Rows counted and looked up singly, for metrics, probes and the API: how many runs and jobs stand where, and
//! where a pass's files are.

use chrono::{DateTime, Utc};

use super::codec::{Columns, id_column};
use super::error::sql;
use super::{OwedKind, Store, StoreError};
use crate::model::{JobId, JobPhase, RunId, RunPhase};

/// How many rows stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs by kind of trigger and state.
    pub runs: Vec<(String, RunPhase, u64)>,
    /// Jobs that have not finished, by state.
    pub jobs: Vec<(JobPhase, u64)>,
    /// Finished jobs by conclusion and kind of failure.
    pub conclusions: Vec<(String, Option<String>, u64)>,
    /// Devices of claimed and running jobs.
    pub devices_used: u64,
    /// Since when the oldest job may be claimed.
    pub oldest_queued: Option<DateTime<Utc>>,
    /// What is owed and not delivered, by kind; every kind is there.
    pub owed: Vec<(OwedKind, u64)>,
    /// Since when the oldest of that is owed.
    pub oldest_owed: Option<DateTime<Utc>>,
}

/// One pass of a job: where its files are and whether more will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassPlace {
    /// The job's run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The pass, from 1.
    pub pass: u32,
    /// Whether it has ended, or its attempt has.
    pub ended: bool,
}

impl Counts {
    /// How many jobs are in this state.
    pub fn jobs_in(&self, phase: JobPhase) -> u64 {
        self.jobs.iter().filter(|(other, _)| *other == phase).map(|(_, jobs)| jobs).sum()
    }
}

impl Store {
    /// Counts the rows, all as they stand at one moment.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let doing = "count the rows";
        let mut read = self.read().await?;
        let statement = "select json_extract(trigger, '$.kind') as kind, state, count(*) as number
             from runs group by 1, 2 order by 1, 2";
        let rows = sqlx::query(statement).fetch_all(&mut *read).await.map_err(sql(doing))?;
        let mut counts = Counts::default();
        for row in &rows {
            let columns = Columns { table: "runs", row };
            counts.runs.push((columns.plain("kind")?, columns.noun("state")?, columns.number("number")?));
        }
        let statement = "select state, count(*) as number, min(not_before) as oldest,
                 coalesce(sum(iif(state in ('claimed', 'running'), device_count, 0)), 0) as devices
             from jobs where state <> 'finished' group by state";
        let rows = sqlx::query(statement).fetch_all(&mut *read).await.map_err(sql(doing))?;
        for row in &rows {
            let columns = Columns { table: "jobs", row };
            counts.jobs.push((columns.noun("state")?, columns.number("number")?));
            counts.devices_used += columns.number::<u64>("devices")?;
            counts.oldest_queued = counts.oldest_queued.or(columns.maybe_instant("oldest")?);
        }
        let statement = "select json_extract(conclusion, '$.conclusion') as conclusion,
                 json_extract(conclusion, '$.failure') as failure, count(*) as number
             from jobs where state = 'finished' group by 1, 2 order by 1, 2";
        let rows = sqlx::query(statement).fetch_all(&mut *read).await.map_err(sql(doing))?;
        for row in &rows {
            let columns = Columns { table: "jobs", row };
            counts.conclusions.push((
                columns.plain("conclusion")?,
                columns.plain("failure")?,
                columns.number("number")?,
            ));
        }
        let statement =
            "select kind, count(*) as number, min(created_at) as oldest from outbox where state = 'owed' group by kind";
        let rows = sqlx::query(statement).fetch_all(&mut *read).await.map_err(sql(doing))?;
        counts.owed = OwedKind::ALL.map(|kind| (kind, 0)).to_vec();
        for row in &rows {
            let columns = Columns { table: "outbox", row };
            let (kind, number) = (columns.noun::<OwedKind>("kind")?, columns.number("number")?);
            for (_, owed) in counts.owed.iter_mut().filter(|(other, _)| *other == kind) {
                *owed = number;
            }
            let oldest = columns.maybe_instant("oldest")?;
            counts.oldest_owed = [counts.oldest_owed, oldest].into_iter().flatten().min();
        }
        Ok(counts)
    }

    /// Whether the database can be written: its write lock is taken and given back, nothing is written.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let doing = "take the write lock";
        let lock = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(sql(doing))?;
        lock.rollback().await.map_err(sql(doing))
    }

    /// A pass of a job: the one that is named, or the newest of those that fit.
    pub async fn pass_place(
        &self,
        job: JobId,
        attempt: Option<u32>,
        pass: Option<u32>,
    ) -> Result<Option<PassPlace>, StoreError> {
        let statement = "select jobs.run_id, passes.attempt, passes.pass,
                 passes.finished_at is not null or attempts.finished_at is not null as ended
             from passes join attempts using (job_id, attempt) join jobs on jobs.id = passes.job_id
             where passes.job_id = ?1 and (?2 is null or passes.attempt = ?2) and (?3 is null or passes.pass = ?3)
             order by passes.attempt desc, passes.pass desc limit 1";
        let row = sqlx::query(statement)
            .bind(id_column(job))
            .bind(attempt)
            .bind(pass)
            .fetch_optional(&self.readers)
            .await
            .map_err(sql(format!("look for a pass of job {job}")))?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "passes", row: &row };
        Ok(Some(PassPlace {
            run: columns.id("run_id")?,
            attempt: columns.number("attempt")?,
            pass: columns.number("pass")?,
            ended: columns.plain("ended")?,
        }))
    }
}
