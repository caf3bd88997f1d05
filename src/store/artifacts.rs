//! Artifacts on disk: `<state_dir>/artifacts/<run>/<job>/<attempt>/<pass>/{console.log,results/}`, and what of them is
//! removed when they grow old or large. What goes is decided purely; nothing outside the folder is ever touched.

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::{Store, StoreError};
use crate::config::ArtifactRetention;
use crate::model::{JobId, RunId};
use crate::step::Step;

/// Name of the log in a pass's folder.
pub const LOG_FILE: &str = "console.log";
/// Name of the folder of results in a pass's folder.
pub const RESULTS_DIR: &str = "results";

/// One attempt's folder of artifacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct AttemptKey {
    /// The run.
    pub run: RunId,
    /// The job.
    pub job: JobId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// An ended attempt whose artifacts are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptAttempt {
    /// Which.
    pub key: AttemptKey,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// How much room it takes; `None` when its runner was lost before it said so.
    pub bytes: Option<u64>,
    /// Whether its run is one whose artifacts stay.
    pub for_ever: bool,
    /// Whether its results are still to be uploaded.
    pub owed: bool,
}

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Whose artifacts are gone.
    pub attempts: Vec<AttemptKey>,
    /// How much room that gave.
    pub bytes: u64,
}

/// An artifact could not be made, measured or removed.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The system refused.
    #[error("failed to {doing} {path}")]
    Io {
        /// The step.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A part of the way is a link or a file: benchd makes folders only, so it was put there by somebody else.
    #[error("refused to remove {path}: it is not a folder that benchd made (a link or a file stands there)")]
    NotAFolder {
        /// What stands there.
        path: PathBuf,
    },
    /// The rows could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The folder of artifacts in a state directory.
#[derive(Clone, Debug)]
pub struct Artifacts {
    root: PathBuf,
}

impl Artifacts {
    /// The artifacts of `state_dir`; nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.join("artifacts") }
    }

    /// Where an attempt's passes lie.
    pub fn attempt_dir(&self, key: AttemptKey) -> PathBuf {
        self.parts(key).into_iter().last().unwrap_or_else(|| self.root.clone())
    }

    /// Where a pass's log and results lie.
    pub fn pass_dir(&self, key: AttemptKey, pass: u32) -> PathBuf {
        self.attempt_dir(key).join(pass.to_string())
    }

    /// A pass's log.
    pub fn log(&self, key: AttemptKey, pass: u32) -> PathBuf {
        self.pass_dir(key, pass).join(LOG_FILE)
    }

    /// A pass's results folder.
    pub fn results_dir(&self, key: AttemptKey, pass: u32) -> PathBuf {
        self.pass_dir(key, pass).join(RESULTS_DIR)
    }

    /// Makes a pass's folder and returns it.
    pub fn make_pass_dir(&self, key: AttemptKey, pass: u32) -> Result<PathBuf, ArtifactError> {
        let path = self.pass_dir(key, pass);
        std::fs::create_dir_all(&path).map_err(failed("make", &path))?;
        Ok(path)
    }

    /// How much room an attempt takes; links are not followed, an absent folder takes none.
    pub fn size(&self, key: AttemptKey) -> Result<u64, ArtifactError> {
        let mut bytes: u64 = 0;
        let mut folders = vec![self.attempt_dir(key)];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed("read", &folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(failed("read", &folder))?;
                let metadata = entry.metadata().map_err(failed("measure", &entry.path()))?;
                bytes = bytes.saturating_add(metadata.len());
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(bytes)
    }

    /// Removes an attempt's folder, and those of its job and run when they are empty then. Every folder on the way
    /// must be a real one: a link put in its place is refused, never followed.
    pub fn remove(&self, key: AttemptKey) -> Result<(), ArtifactError> {
        let parts = self.parts(key);
        for part in std::iter::once(&self.root).chain(&parts) {
            match std::fs::symlink_metadata(part) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(ArtifactError::NotAFolder { path: part.clone() }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(ArtifactError::Io { doing: "look at", path: part.clone(), source }),
            }
        }
        let [run, job, attempt] = &parts;
        std::fs::remove_dir_all(attempt).map_err(failed("remove", attempt))?;
        for parent in [job, run] {
            match std::fs::remove_dir(parent) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => break,
                removed => removed.map_err(failed("remove", parent))?,
            }
        }
        Ok(())
    }

    /// Removes what the retention does not keep and writes it down. An attempt that cannot be removed ends the sweep
    /// with its error; those before it are gone and written down.
    pub async fn sweep(
        &self,
        store: &Store,
        limits: &ArtifactRetention,
        now: DateTime<Utc>,
    ) -> Result<Swept, ArtifactError> {
        let mut swept = Swept::default();
        let mut kept = store.kept_attempts().await?;
        for attempt in kept.iter_mut().filter(|attempt| attempt.bytes.is_none()) {
            attempt.bytes = Some(self.size(attempt.key)?);
        }
        for attempt in to_remove(&kept, limits, now) {
            let (artifacts, key) = (self.clone(), attempt.key);
            let removed =
                tokio::task::spawn_blocking(move || Step::RemoveArtifacts.take_blocking(|| artifacts.remove(key)));
            let removed = removed.await;
            removed.map_err(|error| ArtifactError::Io {
                doing: "remove",
                path: self.attempt_dir(key),
                source: io::Error::other(error),
            })??;
            let mut write = store.write(Step::ForgetArtifacts).await?;
            let _either_way_gone = write.forget_artifacts(key, now).await?;
            write.commit().await?;
            swept.attempts.push(key);
            swept.bytes = swept.bytes.saturating_add(attempt.bytes.unwrap_or(0));
        }
        Ok(swept)
    }

    fn parts(&self, key: AttemptKey) -> [PathBuf; 3] {
        let run = self.root.join(key.run.to_string());
        let job = run.join(key.job.to_string());
        let attempt = job.join(key.attempt.to_string());
        [run, job, attempt]
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { doing, path, source }
}

/// Which of the kept attempts go: first all that are too old, then the oldest until the rest fits. Those of runs kept
/// for ever and those whose results are still owed to somebody stay, and count.
pub fn to_remove(kept: &[KeptAttempt], limits: &ArtifactRetention, now: DateTime<Utc>) -> Vec<KeptAttempt> {
    let mut total = kept.iter().filter_map(|attempt| attempt.bytes).fold(0, u64::saturating_add);
    let max_age = chrono::Duration::from_std(limits.max_age).unwrap_or(chrono::Duration::MAX);
    let mut removable: Vec<_> = kept.iter().copied().filter(|a| !a.for_ever && !a.owed).collect();
    removable.sort_by_key(|attempt| (attempt.finished_at, attempt.key));
    removable.retain(|attempt| {
        let goes = now.signed_duration_since(attempt.finished_at) > max_age || total > limits.max_size.bytes();
        if goes {
            total = total.saturating_sub(attempt.bytes.unwrap_or(0));
        }
        goes
    });
    removable
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeZone;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn key(n: u64) -> AttemptKey {
        AttemptKey { run: RunId::try_from(n).unwrap(), job: JobId::try_from(n + 100).unwrap(), attempt: 1 }
    }

    fn kept(n: u64, age_days: i64, bytes: u64) -> KeptAttempt {
        let finished_at = now() - chrono::Duration::days(age_days);
        KeptAttempt { key: key(n), finished_at, bytes: Some(bytes), for_ever: false, owed: false }
    }

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap()
    }

    fn gone(kept: &[KeptAttempt], max_age: Duration, max_bytes: u64) -> Vec<u64> {
        let limits = ArtifactRetention { max_age, max_size: format!("{max_bytes} B").parse().unwrap() };
        to_remove(kept, &limits, now()).iter().map(|a| a.key.run.number()).collect()
    }

    #[test]
    fn the_old_go_and_then_the_oldest_until_the_rest_fits() {
        let all = [kept(3, 1, 10), kept(1, 100, 10), kept(2, 50, 10)];
        assert_eq!(gone(&all, DAY * 90, 1000), [1]);
        assert_eq!(gone(&all, DAY * 900, 20), [1]);
        assert_eq!(gone(&all, DAY * 900, 19), [1, 2]);
        assert_eq!(gone(&all, DAY * 90, 0), [1, 2, 3]);
        assert_eq!(gone(&all, Duration::MAX, 1 << 40), [] as [u64; 0]);
        assert_eq!(gone(&[kept(1, 90, 1)], DAY * 90, 1000), [] as [u64; 0], "exactly as old as allowed");
    }

    #[test]
    fn releases_and_what_is_owed_stay_and_count() {
        let release = KeptAttempt { for_ever: true, ..kept(1, 1000, 50) };
        let owed = KeptAttempt { owed: true, ..kept(2, 1000, 50) };
        assert_eq!(gone(&[release, owed, kept(3, 1, 10)], DAY, 100), [3]);
    }

    #[test]
    fn removing_takes_empty_parents_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(dir.path());
        let (first, second) = (key(1), AttemptKey { attempt: 2, ..key(1) });
        for attempt in [first, second] {
            let pass = artifacts.make_pass_dir(attempt, 1).unwrap();
            std::fs::write(pass.join(LOG_FILE), "log").unwrap();
        }
        assert!(artifacts.size(first).unwrap() >= 3);
        artifacts.remove(first).unwrap();
        assert!(!artifacts.attempt_dir(first).exists() && artifacts.log(second, 1).exists());
        artifacts.remove(second).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("artifacts")).unwrap().count(), 0);
        artifacts.remove(second).unwrap();
        assert_eq!(artifacts.size(second).unwrap(), 0);
    }

    #[test]
    fn a_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir_all(outside.join("101/1/1")).unwrap();
        std::fs::write(outside.join("101/1/precious"), "x").unwrap();
        let artifacts = Artifacts::new(&dir.path().join("state"));
        std::fs::create_dir_all(dir.path().join("state/artifacts")).unwrap();
        // The run's folder is a link to the outside: refused.
        std::os::unix::fs::symlink(&outside, dir.path().join("state/artifacts/1")).unwrap();
        let error = artifacts.remove(key(1)).unwrap_err();
        assert!(matches!(error, ArtifactError::NotAFolder { .. }), "{error}");
        // A link inside an attempt is removed itself, and what it points to stays and is not counted.
        let pass = artifacts.make_pass_dir(key(2), 1).unwrap();
        std::os::unix::fs::symlink(&outside, pass.join(RESULTS_DIR)).unwrap();
        artifacts.remove(key(2)).unwrap();
        assert!(outside.join("101/1/precious").exists());
    }
}
