//! Results that were published before and are read into this store: the objects they came from, so that none is read
//! twice, and the runs and jobs they are put into, which nobody here ever queued.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::codec::{Columns, id_column, size_column, to_json};
use super::error::sql;
use super::{Claim, Commit, PointOutcome, SeriesMeasurement, Store, StoreError, Write};
use crate::model::{
    BranchName, Conclusion, DeviceType, JobId, Platform, Role, RunId, RunnerName, Target, Trigger, made_at, past_id,
};

/// What tells that an object is still the one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMark {
    /// The bucket or folder.
    pub place: String,
    /// The key in it.
    pub key: String,
    /// The store's tag of its content, where it has one.
    pub etag: Option<String>,
    /// Its size as stored.
    pub bytes: u64,
    /// When it was written.
    pub modified_at: DateTime<Utc>,
}

/// What came of an object when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// SHA-256 of its bytes as stored, in hexadecimal.
    pub sha256: String,
    /// How many of its records are in order.
    pub records: u64,
    /// How many faults it has.
    pub faults: u64,
    /// The first of them, as the reader tells them.
    pub told: serde_json::Value,
}

/// An object that was read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownObject {
    /// How it looked then.
    pub mark: ObjectMark,
    /// What came of it.
    pub entry: ObjectEntry,
}

/// One job's published results.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedJob {
    /// The commit.
    pub commit: Commit,
    /// The branch.
    pub branch: BranchName,
    /// What it was measured on.
    pub target: Target,
    /// The model in lower case.
    pub model: String,
    /// The numbers of run, attempt and job, where benchd published it.
    pub own: Option<(RunId, u32, JobId)>,
    /// The numbers of run, attempt and job as its records have them.
    pub ids: [String; 3],
    /// How it ended.
    pub conclusion: Conclusion,
    /// Where it ran, as far as is told.
    pub runner: RunnerName,
    /// Its points.
    pub points: Vec<PointOutcome>,
    /// All that was measured.
    pub measurements: Vec<SeriesMeasurement>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// Its results are in the store now.
    Added {
        /// In so many jobs; those that this store has measured itself are not among them.
        jobs: u32,
    },
    /// Its results took the place of those that were read from it before.
    Replaced {
        /// In so many jobs.
        jobs: u32,
    },
    /// The same content was read before, here or from a copy.
    Same,
}

impl KnownObject {
    /// Whether an object that looks so now is still the one that was read.
    pub fn is_still(&self, now: &ObjectMark) -> bool {
        match (&self.mark.etag, &now.etag) {
            (Some(before), Some(now_tag)) if before != now_tag => false,
            _ => self.mark.bytes == now.bytes && self.mark.modified_at == now.modified_at,
        }
    }
}

impl Store {
    /// The objects of `place` that were read before, by key.
    pub async fn imported_objects(&self, place: &str) -> Result<BTreeMap<String, KnownObject>, StoreError> {
        let rows = sqlx::query("select * from imported_objects where place = ?1")
            .bind(place)
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read which objects were imported"))?;
        let known = |row| {
            let columns = Columns { table: "imported_objects", row };
            let key: String = columns.plain("key")?;
            let mark = ObjectMark {
                place: place.to_owned(),
                key: key.clone(),
                etag: columns.plain("etag")?,
                bytes: columns.number("bytes")?,
                modified_at: columns.instant("modified_at")?,
            };
            let entry = ObjectEntry {
                sha256: columns.plain("sha256")?,
                records: columns.number("records")?,
                faults: columns.number("faults")?,
                told: columns.json("told")?,
            };
            Ok((key, KnownObject { mark, entry }))
        };
        rows.iter().map(known).collect()
    }

    /// The hardware that this store knows by its full name: of its runners and of what they measured.
    pub async fn known_devices(&self) -> Result<Vec<(Platform, DeviceType)>, StoreError> {
        let statement = "select platform, device_type from runners
             union select jobs.platform, jobs.device_type from jobs join runs on runs.id = jobs.run_id
             where runs.trigger ->> 'kind' <> 'imported'";
        let rows = sqlx::query(statement).fetch_all(&self.readers).await.map_err(sql("read the known hardware"))?;
        let device = |row| {
            let columns = Columns { table: "jobs", row };
            Ok((columns.noun("platform")?, columns.noun("device_type")?))
        };
        rows.iter().map(device).collect()
    }
}

impl Write {
    /// Puts an object's results into the store, in the place of those that were read from it before. Content that was
    /// read before, from the same object or from a copy of it elsewhere, is only noted, unless `again`.
    pub async fn import_object(
        &mut self,
        mark: &ObjectMark,
        entry: &ObjectEntry,
        jobs: &[ImportedJob],
        again: bool,
        now: DateTime<Utc>,
    ) -> Result<ImportOutcome, StoreError> {
        let before = self.content_of(mark).await?;
        let same = !again
            && match &before {
                Some(sha256) => *sha256 == entry.sha256,
                None => self.has_copy(mark, entry).await?,
            };
        self.note_object(mark, entry, now).await?;
        if same {
            return Ok(ImportOutcome::Same);
        }
        let old = self.clear_jobs_of(mark).await?;
        let mut count = 0;
        let mut used = Vec::new();
        for job in jobs {
            if let Some(claim) = self.place_job(mark, job, &old, &used, now).await? {
                for point in &job.points {
                    self.insert_point(&claim, 1, point).await?;
                }
                self.insert_measurements(&claim, 1, &job.measurements).await?;
                self.link_job(mark, claim.job).await?;
                used.push(claim.job);
                count += 1;
            }
        }
        Ok(if before.is_some() {
            ImportOutcome::Replaced { jobs: count }
        } else {
            ImportOutcome::Added { jobs: count }
        })
    }

    async fn content_of(&mut self, mark: &ObjectMark) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("select sha256 from imported_objects where place = ?1 and key = ?2")
            .bind(&mark.place)
            .bind(&mark.key)
            .fetch_optional(&mut *self.0)
            .await
            .map_err(sql(format!("look for {}", mark.key)))
    }

    /// Whether the same object was read from another place.
    async fn has_copy(&mut self, mark: &ObjectMark, entry: &ObjectEntry) -> Result<bool, StoreError> {
        let statement = "select exists (select 1 from imported_objects where key = ?1 and sha256 = ?2 and place <> ?3)";
        sqlx::query_scalar(statement)
            .bind(&mark.key)
            .bind(&entry.sha256)
            .bind(&mark.place)
            .fetch_one(&mut *self.0)
            .await
            .map_err(sql(format!("look for a copy of {}", mark.key)))
    }

    async fn note_object(
        &mut self,
        mark: &ObjectMark,
        entry: &ObjectEntry,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let statement =
            "insert into imported_objects (place, key, etag, bytes, modified_at, sha256, imported_at, records, faults,
                 told)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             on conflict do update set etag = excluded.etag, bytes = excluded.bytes,
                 modified_at = excluded.modified_at, sha256 = excluded.sha256, imported_at = excluded.imported_at,
                 records = excluded.records, faults = excluded.faults, told = excluded.told";
        sqlx::query(statement)
            .bind(&mark.place)
            .bind(&mark.key)
            .bind(&mark.etag)
            .bind(size_column(mark.bytes))
            .bind(mark.modified_at.timestamp_millis())
            .bind(&entry.sha256)
            .bind(now.timestamp_millis())
            .bind(size_column(entry.records))
            .bind(size_column(entry.faults))
            .bind(to_json("imported_objects.told", &entry.told)?)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("note the object {}", mark.key)))?;
        Ok(())
    }

    /// Takes the results that were read from this object before out of its jobs. The jobs stay, as others may point to
    /// them, and are taken for the new results where they fit.
    async fn clear_jobs_of(&mut self, mark: &ObjectMark) -> Result<Vec<JobId>, StoreError> {
        let doing = || format!("replace what was imported from {}", mark.key);
        let rows = sqlx::query("delete from imported_jobs where place = ?1 and key = ?2 returning job_id")
            .bind(&mark.place)
            .bind(&mark.key)
            .fetch_all(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            let job: JobId = Columns { table: "imported_jobs", row }.id("job_id")?;
            for statement in [
                "delete from measurements where job_id = ?1",
                "delete from points where job_id = ?1",
                "update jobs set conclusion = '{\"conclusion\":\"superseded\"}',
                     message = 'the object it was read from holds other results now' where id = ?1",
            ] {
                sqlx::query(statement).bind(id_column(job)).execute(&mut *self.0).await.map_err(sql(doing()))?;
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    async fn link_job(&mut self, mark: &ObjectMark, job: JobId) -> Result<(), StoreError> {
        sqlx::query("insert into imported_jobs (place, key, job_id) values (?1, ?2, ?3)")
            .bind(&mark.place)
            .bind(&mark.key)
            .bind(id_column(job))
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("note the jobs of {}", mark.key)))?;
        Ok(())
    }

    /// Finds or makes the rows that hold a job's results; `None` when this store has measured it itself, or has it from
    /// another object.
    async fn place_job(
        &mut self,
        mark: &ObjectMark,
        job: &ImportedJob,
        old: &[JobId],
        used: &[JobId],
        now: DateTime<Utc>,
    ) -> Result<Option<Claim>, StoreError> {
        // Ids of a time to come are not believed: all later ones would have to be larger.
        let believed = |id: u64| made_at(id).is_some_and(|at| at <= now + chrono::Duration::days(1));
        let own = job.own.filter(|(run, _, id)| believed(run.number()) && believed(id.number()));
        let mut kept = None;
        if let Some((run, attempt, id)) = own {
            match (self.run(run).await?, self.job(id).await?) {
                (Some(row), Some(known)) if known.run == run && is_of(&row, job) => {
                    if !old.contains(&id) || used.contains(&id) {
                        return Ok(None);
                    }
                    kept = Some((run, attempt, Some(id)));
                }
                (Some(row), None) if is_of(&row, job) && row.trigger.is_imported() && self.is_free(id).await? => {
                    kept = Some((run, attempt, Some(id)));
                }
                (None, None) if self.is_free(run).await? && self.is_free(id).await? && run.number() != id.number() => {
                    kept = Some((run, attempt, Some(id)));
                }
                // Somebody else's run or job has the number here: this one gets another.
                (Some(_) | None, Some(_) | None) => {}
            }
        }
        self.record_commit(&job.commit).await?;
        let at = job.commit.committed_at.unwrap_or(mark.modified_at).min(now);
        let (run, attempt, id) = match kept {
            Some(kept) => kept,
            None => {
                let run = match self.imported_run(mark, job).await? {
                    Some(run) => run,
                    None => self.past_id(at).await?,
                };
                (run, 1, self.old_job(run, job, old, used).await?)
            }
        };
        let theirs = if kept.is_some() { None } else { Some(job.ids[0].clone()) };
        self.insert_imported_run(mark, job, run, theirs, now).await?;
        let id = match id {
            Some(id) => id,
            None => self.past_id(at).await?,
        };
        let claim = Claim { job: id, attempt, by: job.runner.clone() };
        self.insert_imported_job(mark, job, run, &claim).await?;
        self.remember_id(run.number().max(id.number())).await?;
        Ok(Some(claim))
    }

    /// The run that others' results of the same commit, branch and number were put into.
    async fn imported_run(&mut self, mark: &ObjectMark, job: &ImportedJob) -> Result<Option<RunId>, StoreError> {
        let statement = "select id from runs where repository = ?1 and sha = ?2 and branch = ?3
                 and trigger ->> 'kind' = 'imported' and trigger ->> 'workflow_id' = ?4 and trigger ->> 'from' = ?5
             order by id limit 1";
        let row = sqlx::query(statement)
            .bind(job.commit.repository.as_str())
            .bind(job.commit.sha.as_str())
            .bind(job.branch.as_str())
            .bind(&job.ids[0])
            .bind(&mark.place)
            .fetch_optional(&mut *self.0)
            .await
            .map_err(sql(format!("look for the run of {}", mark.key)))?;
        row.as_ref().map(|row| Columns { table: "runs", row }.id("id")).transpose()
    }

    /// A job that held results of the same target and model from this object before.
    async fn old_job(
        &mut self,
        run: RunId,
        job: &ImportedJob,
        old: &[JobId],
        used: &[JobId],
    ) -> Result<Option<JobId>, StoreError> {
        for id in old.iter().filter(|id| !used.contains(id)) {
            let known = self.job(*id).await?;
            if known.is_some_and(|known| known.run == run && known.target == job.target && known.model == job.model) {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    async fn insert_imported_run(
        &mut self,
        mark: &ObjectMark,
        job: &ImportedJob,
        run: RunId,
        workflow_id: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let trigger = Trigger::Imported { from: mark.place.clone(), workflow_id };
        let published_at = mark.modified_at.min(now);
        // benchd's own numbers say when the run was requested, the others only that of the commit.
        let requested_at = match job.own {
            Some((own, ..)) if own == run => made_at(own.number()).unwrap_or(published_at),
            Some(_) | None => published_at,
        };
        let statement =
            "insert into runs (id, repository, sha, branch, trigger, state, owed, requested_at, finished_at)
             values (?1, ?2, ?3, ?4, ?5, 'published', '[]', ?6, ?7)
             on conflict do nothing";
        sqlx::query(statement)
            .bind(id_column(run))
            .bind(job.commit.repository.as_str())
            .bind(job.commit.sha.as_str())
            .bind(job.branch.as_str())
            .bind(to_json("runs.trigger", &trigger)?)
            .bind(requested_at.timestamp_millis())
            .bind(published_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("insert the run of {}", mark.key)))?;
        Ok(())
    }

    async fn insert_imported_job(
        &mut self,
        mark: &ObjectMark,
        job: &ImportedJob,
        run: RunId,
        claim: &Claim,
    ) -> Result<(), StoreError> {
        let [workflow_id, run_attempt, job_id] = &job.ids;
        let spec = json!({"imported": {"from": mark.place, "key": mark.key, "workflow_id": workflow_id,
            "run_attempt": run_attempt, "job_id": job_id}});
        let conclusion = to_json("jobs.conclusion", &job.conclusion)?;
        let (id, at) = (id_column(claim.job), mark.modified_at.timestamp_millis());
        let doing = || format!("insert the job of {}", mark.key);
        let statement = "insert into jobs (id, run_id, platform, device_type, device_count, model, spec, required,
                 max_attempts, state, attempt, conclusion, created_at, finished_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, 'finished', ?8, ?9, ?10, ?10)
             on conflict (id) do update set spec = excluded.spec, attempt = excluded.attempt,
                 conclusion = excluded.conclusion, message = null, finished_at = excluded.finished_at";
        sqlx::query(statement)
            .bind(id)
            .bind(id_column(run))
            .bind(job.target.platform.as_str())
            .bind(job.target.device_type.as_str())
            .bind(job.target.count)
            .bind(&job.model)
            .bind(spec.to_string())
            .bind(claim.attempt)
            .bind(&conclusion)
            .bind(at)
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        let statement = "insert into attempts (job_id, attempt, runner, claimed_at, finished_at, conclusion,
                 artifacts_removed_at)
             values (?1, ?2, ?3, ?4, ?4, ?5, ?4)
             on conflict do update set finished_at = excluded.finished_at, conclusion = excluded.conclusion";
        sqlx::query(statement)
            .bind(id)
            .bind(claim.attempt)
            .bind(claim.by.as_str())
            .bind(at)
            .bind(&conclusion)
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        let statement = "insert into passes (job_id, attempt, pass, role, sha, image, container, repro_command,
                 started_at, finished_at)
             values (?1, ?2, 1, ?3, ?4, '', '{}', '', ?5, ?5)
             on conflict do nothing";
        sqlx::query(statement)
            .bind(id)
            .bind(claim.attempt)
            .bind(Role::Candidate.as_str())
            .bind(job.commit.sha.as_str())
            .bind(at)
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing()))?;
        Ok(())
    }

    /// An id that says when its commit was made, so that runs of others stand in the order of their commits and before
    /// all that is measured here later.
    async fn past_id<T: TryFrom<u64, Error = crate::model::InvalidId> + Into<u64> + Copy>(
        &mut self,
        at: DateTime<Utc>,
    ) -> Result<T, StoreError> {
        let mut random = [0; 2];
        getrandom::fill(&mut random)?;
        let mut number = past_id(at, u16::from_le_bytes(random));
        loop {
            let id = T::try_from(number)?;
            if self.is_free(id).await? {
                // Taken at once, so that a run and its jobs do not get the same.
                return Ok(id);
            }
            number += 1;
        }
    }

    async fn is_free(&mut self, id: impl Into<u64>) -> Result<bool, StoreError> {
        let statement = "select not exists (select 1 from runs where id = ?1)
             and not exists (select 1 from jobs where id = ?1)";
        sqlx::query_scalar(statement)
            .bind(id_column(id))
            .fetch_one(&mut *self.0)
            .await
            .map_err(sql("look for a free id"))
    }

    /// Ids made from now on are larger.
    async fn remember_id(&mut self, id: u64) -> Result<(), StoreError> {
        let statement = "insert into id_clock (one, last) values (1, ?1)
             on conflict do update set last = max(last, excluded.last)";
        sqlx::query(statement).bind(id_column(id)).execute(&mut *self.0).await.map_err(sql("remember an id"))?;
        Ok(())
    }
}

fn is_of(run: &super::RunRow, job: &ImportedJob) -> bool {
    (&run.repository, &run.sha, &run.branch) == (&job.commit.repository, &job.commit.sha, &job.branch)
}
