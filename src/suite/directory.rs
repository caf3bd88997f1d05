//! Reads benchmark directories: `DIR/<platform>/*.json`, or one platform's folder itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{BenchmarkFile, SIZE_LIMIT_MIB, read_file};
use super::problem::{Problem, ProblemKind};
use crate::model::{CommitSha, Platform};

/// The good benchmarks of one platform, and what was wrong with the others.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkSet {
    /// Whose benchmarks these are.
    pub platform: Platform,
    /// Every `*.json` file, sorted by name.
    pub files: Vec<BenchmarkFile>,
    /// Everything that was found, file by file.
    pub problems: Vec<Problem>,
    /// The commit they were read at, when they come from git.
    pub revision: Option<CommitSha>,
}

/// Why a directory cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there, not a folder, or not permitted.
    #[error("failed to read the benchmark directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds nothing for this platform.
    #[error("{place} holds no benchmark files for {platform} (expected {platform}/serving-tests{}.json or its like)", platform.file_suffix())]
    NoPlatform {
        /// The directory.
        place: String,
        /// Which platform.
        platform: Platform,
    },
    /// It holds neither platform folders nor benchmark files.
    #[error("{} holds no benchmark files: expected folders cuda, rocm, hpu, cpu, arm64-cpu or one platform's *.json", .0.display())]
    Empty(PathBuf),
}

/// A file before it is understood: its name and what came of reading it.
pub(super) type RawFile = (String, Result<Vec<u8>, ProblemKind>);

impl BenchmarkSet {
    /// Understands files that were read from anywhere.
    pub(super) fn of_files(platform: Platform, mut raw: Vec<RawFile>) -> Self {
        raw.sort_by(|a, b| a.0.cmp(&b.0));
        let mut set = Self { platform, files: Vec::new(), problems: Vec::new(), revision: None };
        for (name, content) in raw {
            match content {
                Ok(bytes) => {
                    let (file, problems) = read_file(&name, platform, &bytes);
                    set.files.push(file);
                    set.problems.extend(problems);
                }
                Err(kind) => set.problems.push(Problem { file: name, at: None, benchmark: None, kind }),
            }
        }
        set
    }

    /// How many benchmarks are good.
    pub fn len(&self) -> usize {
        self.files.iter().map(|file| file.benchmarks.len()).sum()
    }

    /// Whether no benchmark is good.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads the benchmarks of `platform` from `DIR/<platform>`, or from `DIR` when it is itself that platform's folder.
///
/// # Errors
/// When the directory cannot be read or holds nothing for the platform; broken files are problems of the set.
pub fn read_platform(dir: &Path, platform: Platform) -> Result<BenchmarkSet, ReadError> {
    let folder = dir.join(platform.as_str());
    let raw = if folder.is_dir() { json_files(&folder)? } else { json_files(dir)? };
    let foreign = !folder.is_dir()
        && (named_platform(dir).is_some_and(|named| named != platform)
            || folder_platform(dir, &raw).is_some_and(|own| own.file_suffix() != platform.file_suffix()));
    if raw.is_empty() || foreign {
        return Err(ReadError::NoPlatform { place: dir.display().to_string(), platform });
    }
    Ok(BenchmarkSet::of_files(platform, raw))
}

/// Reads every platform of `dir`, or `dir` itself as one platform's folder. Problems name files with their folder.
///
/// # Errors
/// When the directory cannot be read or holds no benchmark files at all.
pub fn read_all(dir: &Path) -> Result<Vec<BenchmarkSet>, ReadError> {
    let loose = json_files(dir)?;
    let mut sets = Vec::new();
    for platform in Platform::ALL {
        let folder = dir.join(platform.as_str());
        if folder.is_dir() {
            let mut set = BenchmarkSet::of_files(platform, json_files(&folder)?);
            for problem in &mut set.problems {
                problem.file = format!("{platform}/{}", problem.file);
            }
            sets.push(set);
        }
    }
    if sets.is_empty() {
        let platform = folder_platform(dir, &loose).ok_or_else(|| ReadError::Empty(dir.to_owned()))?;
        sets.push(BenchmarkSet::of_files(platform, loose));
    } else if let Some(first) = sets.first_mut() {
        let platforms = Platform::ALL.map(Platform::as_str).join(", ");
        first.problems.extend(strays(dir, &loose)?.into_iter().map(|file| {
            let kind = ProblemKind::Stray { platforms: platforms.clone() };
            Problem { file, at: None, benchmark: None, kind }
        }));
    }
    Ok(sets)
}

/// What looks like benchmark files beside the platforms' folders: files, and folders that hold some.
fn strays(dir: &Path, loose: &[RawFile]) -> Result<Vec<String>, ReadError> {
    let looks_so = |name: &str| name.contains("-tests");
    let mut found: Vec<String> = loose.iter().map(|(name, _)| name.clone()).filter(|name| looks_so(name)).collect();
    let failed = |source| ReadError::Directory { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir()
            && name.parse::<Platform>().is_err()
            && json_files(&entry.path())?.iter().any(|(name, _)| looks_so(name))
        {
            found.push(format!("{name}/"));
        }
    }
    found.sort();
    Ok(found)
}

/// Whose folder this is: by its name, otherwise by its files' suffixes. CUDA and ROCm have the same file names.
fn folder_platform(dir: &Path, files: &[RawFile]) -> Option<Platform> {
    if let Some(platform) = named_platform(dir) {
        return Some(platform);
    }
    let suffixed = |p: &Platform| {
        let ending = format!("-tests{}.json", p.file_suffix());
        files.iter().any(|(name, _)| name.ends_with(&ending))
    };
    Platform::ALL.into_iter().rev().find(suffixed).or_else(|| (!files.is_empty()).then_some(Platform::Cuda))
}

fn named_platform(dir: &Path) -> Option<Platform> {
    dir.canonicalize().ok()?.file_name()?.to_string_lossy().parse().ok()
}

fn json_files(dir: &Path) -> Result<Vec<RawFile>, ReadError> {
    let failed = |source| ReadError::Directory { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !name.ends_with(".json") {
            continue;
        }
        found.push((name, read_limited(&entry.path())));
    }
    Ok(found)
}

fn read_limited(path: &Path) -> Result<Vec<u8>, ProblemKind> {
    let unreadable = |error: io::Error| ProblemKind::Unreadable(error.to_string());
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(ProblemKind::Folder);
    }
    let limit = SIZE_LIMIT_MIB * 1024 * 1024;
    if !metadata.is_file() || usize::try_from(metadata.len()).map_or(true, |length| length > limit) {
        return Err(ProblemKind::TooLarge { limit_mib: SIZE_LIMIT_MIB });
    }
    fs::read(path).map_err(unreadable)
}
