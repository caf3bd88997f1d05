//! Reads published objects into the store: history on the first day, and a lost store rebuilt from its bucket. Each
//! object is one write, so it can be broken off anywhere and started again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::config::{PublishTarget, TargetUrl};
use crate::model::{Conclusion, Platform, PointState, RepoName, RunnerName};
use crate::objects::{Listed, ObjectError, ObjectTarget, Patience};
use crate::queue::planner::{Host, Selection, plan};
use crate::queue::{PointOutcome, SeriesMeasurement, configurations};
use crate::results::identity::{Hints, KnownBenchmark};
use crate::results::object::{ObjectFault, PublishedJob, PublishedMeasurement, PublishedObject, read_object};
use crate::step::Step;
use crate::store::{Commit, ImportOutcome, ImportedJob, ObjectEntry, ObjectMark, Store, StoreError};
use crate::suite::{ReadError, read_platform};

/// Objects larger than this are not read, in bytes: a job's results are a thousandth of it.
const MAX_BYTES: u64 = 64 << 20;
/// Objects that are fetched and read at once.
const AHEAD: usize = 4;
/// Objects whose faults are kept for the answer; the others are only counted.
const TOLD_OBJECTS: usize = 1000;

/// Why an import stopped. What was imported before stays, and the next one goes on there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder is not there.
    #[error("failed to read the folder {0} (it must exist)")]
    Folder(PathBuf),
    /// The place of the objects fails or refuses.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The benchmark files cannot be read.
    #[error("failed to read the benchmark files")]
    Benchmarks(#[from] ReadError),
    /// The folder of benchmark files holds none.
    #[error("{0} has no folder cuda, rocm, hpu, cpu or arm64-cpu with benchmark files")]
    NoBenchmarks(PathBuf),
    /// The reader ended without an answer.
    #[error("failed to wait for the reader")]
    Join(#[from] tokio::task::JoinError),
}

/// Where objects are read from: a bucket or folder, and where in it they begin.
#[derive(Clone, Debug)]
pub struct Source {
    target: ObjectTarget,
    /// The bucket or folder, as it stands in the store.
    pub place: String,
    /// What the keys begin with; empty for all.
    pub prefix: String,
}

/// What is to be imported.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Only commits since then.
    pub since: Option<DateTime<Utc>>,
    /// At most so many objects, the newest ones.
    pub limit: Option<usize>,
    /// Whether known objects are read once more.
    pub again: bool,
    /// What the reader is told besides.
    pub hints: Hints,
}

/// What happens, for whoever looks on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportEvent {
    /// So much is to be read.
    Begins {
        /// Objects.
        objects: usize,
        /// Their size as stored.
        bytes: u64,
    },
    /// One object is done.
    Done {
        /// Its size as stored.
        bytes: u64,
        /// So many are done now.
        done: usize,
        /// Of so many.
        objects: usize,
    },
}

/// What an import came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The bucket or folder.
    pub place: String,
    /// What the keys begin with.
    pub prefix: String,
    /// Objects there, apart from files of other kinds.
    pub objects: usize,
    /// Those that were read before and have not changed.
    pub known: usize,
    /// Those whose results are in the store now (with `--dry-run`: would be).
    pub imported: usize,
    /// Those that had changed and took the place of what was read from them before.
    pub replaced: usize,
    /// Those with the content of an object that was read before.
    pub same: usize,
    /// Those of commits before `--since`.
    pub older: usize,
    /// Those that `--limit` left.
    pub left: usize,
    /// Those without any record in order.
    pub unusable: usize,
    /// Records of the imported and replaced ones.
    pub records: u64,
    /// Jobs of the imported and replaced ones.
    pub jobs: u64,
    /// Objects with faults, known ones too.
    pub broken: usize,
    /// What was wrong.
    pub faults: Vec<Faults>,
}

/// What was wrong in one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Its key.
    pub key: String,
    /// How many faults it has.
    pub count: u64,
    /// The first of them.
    pub told: Vec<ObjectFault>,
}

impl Source {
    /// Opens `url`, which names a bucket or folder, and may go on from there with `v3/` and more; `access` says
    /// endpoint, region and whether credentials are used.
    ///
    /// # Errors
    /// When the folder is not there or the S3 settings contradict each other.
    pub fn open(url: &TargetUrl, access: &PublishTarget, repo: Option<&RepoName>) -> Result<Self, ImportError> {
        let (place, mut prefix) = match url {
            TargetUrl::S3 { bucket, prefix } => {
                let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
                let (before, below) = split(&parts, parts.iter().position(|part| *part == "v3"));
                let below = if below.is_empty() { "v3".to_owned() } else { below };
                (TargetUrl::S3 { bucket: bucket.clone(), prefix: before }, below)
            }
            TargetUrl::File(path) => {
                if !path.is_dir() {
                    return Err(ImportError::Folder(path.clone()));
                }
                let at = path.iter().position(|part| part == "v3");
                let v3_inside = path.join("v3").is_dir();
                match at.filter(|_| !v3_inside) {
                    Some(at) => {
                        let below: PathBuf = path.iter().skip(at).collect();
                        (TargetUrl::File(path.iter().take(at).collect()), below.to_string_lossy().into_owned())
                    }
                    None => (TargetUrl::File(path.clone()), if v3_inside { "v3".to_owned() } else { String::new() }),
                }
            }
        };
        if let Some(repo) = repo.filter(|_| prefix == "v3") {
            prefix = format!("v3/{repo}");
        }
        let target = ObjectTarget::open(&place, access, Patience::default())?;
        let place = PublishTarget { url: Some(place), ..access.clone() }.to_string();
        Ok(Self { target, place, prefix })
    }
}

/// What stands before the part at `at`, and from there on; without it all stands before.
fn split(parts: &[&str], at: Option<usize>) -> (String, String) {
    let (before, below) = parts.split_at(at.unwrap_or(parts.len()));
    (before.join("/"), below.join("/"))
}

/// What the benchmark files in `folder` (a folder for each platform) say of benchmarks by name.
///
/// # Errors
/// When they cannot be read or there are none.
pub fn known_benchmarks(folder: &Path) -> Result<BTreeMap<(Platform, String), KnownBenchmark>, ImportError> {
    let mut known = BTreeMap::new();
    for platform in Platform::ALL.into_iter().filter(|platform| folder.join(platform.as_str()).is_dir()) {
        let set = read_platform(folder, platform)?;
        for job in plan(&set, &Selection::default(), &Host::default()).jobs {
            let configurations = configurations(&job.suite_files);
            for point in job.points {
                let benchmark = KnownBenchmark {
                    model: job.model.clone(),
                    devices: job.target.count,
                    variant: point.variant,
                    configuration: configurations.get(&point.benchmark).cloned().unwrap_or_default(),
                };
                known.insert((platform, point.benchmark), benchmark);
            }
        }
    }
    if known.is_empty() { Err(ImportError::NoBenchmarks(folder.to_owned())) } else { Ok(known) }
}

/// Reads what `source` holds into `store`; without a store it is only read and judged.
///
/// # Errors
/// When the place or the store fails; broken objects are no error but part of the answer.
pub async fn import(
    source: &Source,
    store: Option<&Store>,
    dry_run: bool,
    wish: &Wish,
    clock: &Clock,
    tell: &mut (dyn FnMut(ImportEvent) + Send),
) -> Result<Imported, ImportError> {
    let mut found = Imported { place: source.place.clone(), prefix: source.prefix.clone(), ..Imported::default() };
    let todo = choose(source, store, wish, &mut found).await?;
    let objects = todo.len();
    tell(ImportEvent::Begins { objects, bytes: todo.iter().map(|listed| listed.bytes).sum() });
    let mut hints = wish.hints.clone();
    if let Some(store) = store {
        hints.devices.extend(store.known_devices().await?);
    }
    let hints = std::sync::Arc::new(hints);
    let read = |listed: Listed| {
        let hints = std::sync::Arc::clone(&hints);
        async move {
            let body = match source.target.read(&listed.key).await {
                // Removed since it was listed.
                Ok(None) => return Ok(None),
                Ok(Some(body)) => body,
                Err(ObjectError::TooLarge { .. }) => return Ok(Some((listed, too_large()))),
                Err(error) => return Err(ImportError::from(error)),
            };
            let key = listed.key.clone();
            let read = tokio::task::spawn_blocking(move || read_body(&body, &key, &hints)).await?;
            Ok(Some((listed, read)))
        }
    };
    let mut done = 0;
    let mut ahead = stream::iter(todo).map(read).buffered(AHEAD);
    while let Some(next) = ahead.try_next().await? {
        done += 1;
        let Some((listed, Read { sha256, object })) = next else { continue };
        let bytes = listed.bytes;
        let of_before = |job: &PublishedJob| {
            job.stated
                .timestamp
                .zip(wish.since)
                .is_some_and(|(at, since)| i64::try_from(at).is_ok_and(|at| at < since.timestamp()))
        };
        if !object.jobs.is_empty() && object.jobs.iter().all(of_before) {
            found.older += 1;
        } else {
            found.tell_faults(&listed.key, object.faults, &object.told);
            let mark = mark(&source.place, listed);
            take(&mut found, store.filter(|_| !dry_run), &mark, sha256, object, wish.again, clock).await?;
        }
        tell(ImportEvent::Done { bytes, done, objects });
    }
    Ok(found)
}

/// Lists what is there and leaves out what is known or not wanted; the newest first.
async fn choose(
    source: &Source,
    store: Option<&Store>,
    wish: &Wish,
    found: &mut Imported,
) -> Result<Vec<Listed>, ImportError> {
    let known = match store {
        Some(store) => store.imported_objects(&source.place).await?,
        None => BTreeMap::new(),
    };
    let mut todo = Vec::new();
    let mut listing = std::pin::pin!(source.target.list(&source.prefix)?);
    while let Some(listed) = listing.try_next().await? {
        if ![".json", ".jsonl", ".gz"].iter().any(|end| listed.key.ends_with(end)) {
            continue;
        }
        found.objects += 1;
        let before = known.get(&listed.key).filter(|_| !wish.again);
        if let Some(before) = before.filter(|before| before.is_still(&mark(&source.place, listed.clone()))) {
            found.known += 1;
            let told: Vec<ObjectFault> = serde_json::from_value(before.entry.told.clone()).unwrap_or_default();
            found.tell_faults(&listed.key, before.entry.faults, &told);
        } else if wish.since.is_some_and(|since| listed.modified_at < since) {
            // It was published before: so is its commit.
            found.older += 1;
        } else {
            todo.push(listed);
        }
    }
    todo.sort_by(|a, b| b.modified_at.cmp(&a.modified_at).then_with(|| a.key.cmp(&b.key)));
    if let Some(limit) = wish.limit.filter(|limit| todo.len() > *limit) {
        found.left = todo.len() - limit;
        todo.truncate(limit);
    }
    Ok(todo)
}

/// Puts one object into the store.
async fn take(
    found: &mut Imported,
    store: Option<&Store>,
    mark: &ObjectMark,
    sha256: String,
    object: PublishedObject,
    again: bool,
    clock: &Clock,
) -> Result<(), ImportError> {
    let records = object.records;
    let usable = records > 0;
    let entry = ObjectEntry {
        sha256,
        records,
        faults: object.faults,
        told: serde_json::to_value(&object.told).unwrap_or_default(),
    };
    let broken = object.faults > 0;
    let jobs: Vec<ImportedJob> = object.jobs.into_iter().map(|job| imported_job(job, broken)).collect();
    let outcome = match store {
        None => ImportOutcome::Added { jobs: u32::try_from(jobs.len()).unwrap_or(u32::MAX) },
        Some(store) => {
            let mut write = store.write(Step::ImportObject).await?;
            let outcome = write.import_object(mark, &entry, &jobs, again, clock.now()).await?;
            write.commit().await?;
            outcome
        }
    };
    let (number, jobs) = match outcome {
        ImportOutcome::Same => (&mut found.same, None),
        ImportOutcome::Added { .. } | ImportOutcome::Replaced { .. } if !usable => (&mut found.unusable, None),
        ImportOutcome::Added { jobs } => (&mut found.imported, Some(jobs)),
        ImportOutcome::Replaced { jobs } => (&mut found.replaced, Some(jobs)),
    };
    *number += 1;
    if let Some(jobs) = jobs {
        found.records += records;
        found.jobs += u64::from(jobs);
    }
    Ok(())
}

impl Imported {
    fn tell_faults(&mut self, key: &str, count: u64, told: &[ObjectFault]) {
        if count == 0 {
            return;
        }
        self.broken += 1;
        if self.faults.len() < TOLD_OBJECTS {
            self.faults.push(Faults { key: key.to_owned(), count, told: told.to_vec() });
        }
    }
}

/// An object's content.
struct Read {
    sha256: String,
    object: PublishedObject,
}

fn read_body(body: &Bytes, key: &str, hints: &Hints) -> Read {
    if u64::try_from(body.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return too_large();
    }
    Read { sha256: hex(&Sha256::digest(body)), object: read_object(body, key, hints) }
}

fn too_large() -> Read {
    let fault = ObjectFault { line: 0, message: format!("more than {} MiB: not read", MAX_BYTES >> 20) };
    let object = PublishedObject { faults: 1, told: vec![fault], ..PublishedObject::default() };
    Read { sha256: hex(&[0; 32]), object }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mark(place: &str, listed: Listed) -> ObjectMark {
    let Listed { key, bytes, etag, modified_at } = listed;
    // As precise as the store keeps it.
    let modified_at = DateTime::from_timestamp_millis(modified_at.timestamp_millis()).unwrap_or(modified_at);
    ObjectMark { place: place.to_owned(), key, etag, bytes, modified_at }
}

fn imported_job(job: PublishedJob, broken: bool) -> ImportedJob {
    let PublishedJob { stated, points, measurements } = job;
    let committed_at = stated.timestamp.and_then(|seconds| i64::try_from(seconds).ok());
    let committed_at = committed_at.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let ok = |point| PointOutcome { point, state: PointState::Ok, reason: None };
    let series = |PublishedMeasurement { variant, configuration, measurement }| SeriesMeasurement {
        variant,
        configuration,
        measurement,
    };
    ImportedJob {
        commit: Commit { repository: stated.repo, sha: stated.sha, first_parent: None, committed_at },
        branch: stated.branch,
        target: stated.target,
        model: stated.model,
        own: stated.own.map(|own| (own.run, own.attempt, own.job)),
        ids: stated.ids,
        conclusion: if broken || stated.incomplete { Conclusion::Incomplete } else { Conclusion::Success },
        runner: stated.hostname.parse().unwrap_or_else(|_untold| RunnerName::unknown()),
        points: points.into_iter().map(ok).collect(),
        measurements: measurements.into_iter().map(series).collect(),
    }
}
