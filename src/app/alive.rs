//! Which `benchd run` processes live on this host: each holds a locked file for as long, so that whoever finds one
//! without its lock ends what a killed process left: its containers and its run.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::executor::container::PassId;
use crate::executor::docker::{Engine, EngineError};
use crate::executor::life::remove_leftovers;
use crate::model::{Conclusion, FailureKind, JobState, RunId};
use crate::queue::{AttemptEnd, Cancelled, Claim, Outcome, Queue};
use crate::store::{Store, StoreError};

/// The folder of these files in the state directory; each is named by its process's run.
const FOLDER: &str = "processes";
/// What is written beside an attempt, or a job, that a killed process had.
const KILLED: &str = "the `benchd run` that measured it was killed";

/// A sign of life of the process that measures a run. It ends with the process, however that ends.
#[derive(Debug)]
pub struct SignOfLife {
    path: PathBuf,
    _locked: File,
}

/// Why no sign of life could be given, or what a killed process left could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum AliveError {
    /// A file of the state directory cannot be written.
    #[error("failed to write {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine does not remove a container.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SignOfLife {
    /// Says that this process measures `run`.
    ///
    /// # Errors
    /// When its file cannot be written or locked.
    pub fn of(run: RunId, state_dir: &Path) -> Result<Self, AliveError> {
        let path = state_dir.join(FOLDER).join(run.to_string());
        let make = || {
            fs::create_dir_all(state_dir.join(FOLDER))?;
            // Nobody finds it before it is locked.
            let new = path.with_extension("new");
            let file = File::create(&new)?;
            file.lock()?;
            fs::rename(&new, &path)?;
            Ok(file)
        };
        let locked = make().map_err(|source| AliveError::File { path: path.clone(), source })?;
        Ok(Self { path, _locked: locked })
    }
}

impl Drop for SignOfLife {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "failed to remove {}", self.path.display());
        }
    }
}

/// Ends what killed `benchd run` processes left behind: their containers are removed, their jobs end as lost or
/// cancelled. A process that lives is left alone, and so is what a daemon has taken over. Returns their runs.
///
/// # Errors
/// When something of it cannot be ended; the next call tries it again.
pub async fn end_what_is_left(
    engine: &Engine,
    store: &Store,
    queue: &Queue,
    state_dir: &Path,
) -> Result<Vec<RunId>, AliveError> {
    let mut ended = Vec::new();
    for (run, path) in known(&state_dir.join(FOLDER))? {
        let failed = |source| AliveError::File { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            // It ended by itself, or somebody else was first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        end_run(engine, store, queue, run).await?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => ended.push(run),
        }
    }
    Ok(ended)
}

/// The runs whose process gave a sign of life and has not taken it back.
fn known(folder: &Path) -> Result<Vec<(RunId, PathBuf)>, AliveError> {
    let failed = |source| AliveError::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut known = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            known.push((run, entry.path()));
        }
    }
    Ok(known)
}

async fn end_run(engine: &Engine, store: &Store, queue: &Queue, run: RunId) -> Result<(), AliveError> {
    let (mut own, mut waiting, mut others) = (Vec::new(), Vec::new(), BTreeSet::new());
    for job in store.jobs_of_run(run).await? {
        match job.state {
            JobState::Claimed { by, attempt, .. } | JobState::Running { by, attempt, .. } => {
                if by.is_for_run(run) {
                    own.push(Claim { job: job.id, attempt, by });
                } else {
                    others.insert(job.id);
                }
            }
            JobState::WaitingForImage { .. } | JobState::Queued { .. } => waiting.push(job.id),
            JobState::Finished { .. } => {}
        }
    }
    // First, so that no device looks free that its container still uses.
    remove_leftovers(engine, |pass: &PassId| pass.run != run || others.contains(&pass.job)).await?;
    for claim in &own {
        let conclusion = Conclusion::Failure(FailureKind::LostRunner);
        let end = AttemptEnd { conclusion, message: Some(KILLED.to_owned()), artifact_bytes: None };
        let _ended_or_moved: Outcome = queue.finish(claim, &end).await?;
    }
    for job in waiting {
        let _ended_or_moved: Cancelled = queue.cancel_job(job, KILLED).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_as_long_as_its_sign_stands() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        assert!(known(&folder).unwrap().is_empty());
        let run: RunId = 7.try_into().unwrap();
        let sign = SignOfLife::of(run, dir.path()).unwrap();
        // What a process had no time to lock is nobody's.
        fs::write(folder.join("8.new"), "").unwrap();
        let found = known(&folder).unwrap();
        assert_eq!(found, [(run, folder.join("7"))]);
        let other = File::open(folder.join("7")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(sign);
        assert!(known(&folder).unwrap().is_empty());
    }
}
