//! Where benchmark files come from: a directory, or a git repository at a ref that is fetched whenever a run is
//! planned, so that a new model needs no restart.

use std::fs::File;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::{BenchmarkSet, RawFile, ReadError, read_platform};
use super::file::SIZE_LIMIT_MIB;
use super::problem::ProblemKind;
use crate::git::{Checkout, GitError, LOCAL_TIMEOUT};
use crate::model::Platform;

/// How long fetching one commit of a repository may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(180);

/// Where benchmark files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder on this host.
    Directory(PathBuf),
    /// A folder of a repository.
    Git {
        /// Where it is fetched from; a URL or a path.
        url: String,
        /// Branch, tag, other ref or full commit id.
        reference: String,
        /// The folder in it that holds the platforms' folders; empty for the top.
        path: PathBuf,
    },
}

/// Why no benchmark files can be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder.
    #[error(transparent)]
    Directory(#[from] ReadError),
    /// What was configured cannot be a repository, ref or folder.
    #[error("`{value}` cannot be the {what} of a benchmark repository: {why}")]
    Configuration {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The cache cannot be written.
    #[error("failed to create {}", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Fetching failed.
    #[error("failed to fetch `{reference}` of the benchmark repository {url}")]
    Fetch {
        /// From where.
        url: String,
        /// What.
        reference: String,
        /// Why.
        source: GitError,
    },
    /// Reading what was fetched failed.
    #[error("failed to read the benchmark repository {url}")]
    Git {
        /// Which.
        url: String,
        /// Why.
        source: GitError,
    },
}

impl SourceError {
    /// Whether what is configured, or what lies there, is at fault rather than a server or a disk.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Directory(_) | Self::Configuration { .. } => true,
            Self::Cache { .. } | Self::Fetch { .. } | Self::Git { .. } => false,
        }
    }
}

impl Source {
    /// Reads the benchmarks of `platform` as they are now. Repositories are kept, bare, under `cache`.
    ///
    /// # Errors
    /// When the folder or repository cannot be read, or holds nothing for the platform. A repository that cannot be
    /// reached is an error, never answered from an older fetch.
    pub async fn read(&self, platform: Platform, cache: &Path) -> Result<BenchmarkSet, SourceError> {
        match self {
            Self::Directory(dir) => Ok(read_platform(dir, platform)?),
            Self::Git { url, reference, path } => read_git(url, reference, path, platform, cache).await,
        }
    }
}

async fn read_git(
    url: &str,
    reference: &str,
    path: &Path,
    platform: Platform,
    cache: &Path,
) -> Result<BenchmarkSet, SourceError> {
    let path = path.to_string_lossy();
    check("url", url, url_fault(url))?;
    check("ref", reference, reference_fault(reference))?;
    check("path", &path, path_fault(&path))?;
    let (repository, _alone) = open(url, cache).await?;
    let fetched = format!("refs/benchd/{:016x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(reference));
    let refspec = format!("+{reference}:{fetched}");
    let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", url, &refspec];
    repository.run(&fetch, FETCH_TIMEOUT).await.map_err(|source| SourceError::Fetch {
        url: url.to_owned(),
        reference: reference.to_owned(),
        source,
    })?;
    let failed = |source| SourceError::Git { url: url.to_owned(), source };
    let sha = repository.resolve(&fetched).await.map_err(failed)?;
    let top = path.trim_matches('/');
    let folder = if top.is_empty() { platform.to_string() } else { format!("{top}/{platform}") };
    let mut raw = Vec::new();
    for file in list(&repository, sha.as_str(), &folder).await.map_err(failed)? {
        let content = match file.content {
            Ok(()) => Ok(repository.run(&["cat-file", "blob", &file.id], LOCAL_TIMEOUT).await.map_err(failed)?),
            Err(kind) => Err(kind),
        };
        raw.push((file.name, content) as RawFile);
    }
    if raw.is_empty() {
        let place = format!("{url} at {} (folder {top:?})", sha.short());
        return Err(ReadError::NoPlatform { place, platform }.into());
    }
    let mut set = BenchmarkSet::of_files(platform, raw);
    set.revision = Some(sha);
    Ok(set)
}

fn check(what: &'static str, value: &str, fault: Option<&'static str>) -> Result<(), SourceError> {
    match fault {
        None => Ok(()),
        Some(why) => Err(SourceError::Configuration { what, value: value.to_owned(), why }),
    }
}

/// A leading dash would be an option, and what is in a URL is shown in messages and process lists.
fn url_fault(url: &str) -> Option<&'static str> {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
    let password = authority.split_once('@').is_some_and(|(user, _)| user.contains(':'));
    let helper = url.split_once("::").is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric()));
    if url.is_empty() || url.starts_with('-') || helper {
        Some("a URL or path is needed")
    } else if password {
        Some("a password does not belong into a URL: use git's credential helper")
    } else {
        None
    }
}

fn reference_fault(reference: &str) -> Option<&'static str> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\+".contains(c);
    let wrong = reference.is_empty() || reference.starts_with('-') || reference.chars().any(bad);
    (wrong || reference.contains("..")).then_some("a branch, tag or commit id is needed")
}

fn path_fault(path: &str) -> Option<&'static str> {
    let wrong =
        path.starts_with(['/', '-', ':']) || path.split('/').any(|part| part == "..") || path.contains('\u{fffd}');
    wrong.then_some("a folder inside the repository is needed")
}

/// The bare repository that is kept for `url`, and its lock: git processes that write one repository at once break each
/// other, those of a `benchd run` beside the daemon, too.
async fn open(url: &str, cache: &Path) -> Result<(Checkout, File), SourceError> {
    let dir =
        cache.join(format!("benchmarks-{:016x}.git", BuildHasherDefault::<DefaultHasher>::default().hash_one(url)));
    let failed = |source| SourceError::Cache { path: dir.clone(), source };
    let place = dir.clone();
    let alone = tokio::task::spawn_blocking(move || lock(&place)).await.map_err(std::io::Error::from);
    let alone = alone.flatten().map_err(failed)?;
    let repository = Checkout::at(&dir);
    // Harmless on one that is there already.
    let init = repository.run(&["init", "--quiet", "--bare", "."], LOCAL_TIMEOUT).await;
    init.map_err(|source| SourceError::Git { url: url.to_owned(), source })?;
    Ok((repository, alone))
}

/// Waits for the repository at `dir`, and takes away what a git that was killed left locked in it.
fn lock(dir: &Path) -> std::io::Result<File> {
    let refs = dir.join("refs/benchd");
    std::fs::create_dir_all(&refs)?;
    let file = File::create(dir.with_extension("lock"))?;
    file.lock()?;
    for folder in [dir, &refs] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "lock") {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(file)
}

struct Listed {
    name: String,
    id: String,
    content: Result<(), ProblemKind>,
}

/// The `*.json` files that lie directly in `folder`.
async fn list(repository: &Checkout, sha: &str, folder: &str) -> Result<Vec<Listed>, GitError> {
    let folder = format!("{folder}/");
    let args = ["ls-tree", "-z", "--long", "--full-tree", sha, "--", &folder];
    let listing = String::from_utf8_lossy(&repository.run(&args, LOCAL_TIMEOUT).await?).into_owned();
    Ok(listing.split('\0').filter_map(|line| listed(line, &folder)).collect())
}

/// One line: mode, type, id and size separated by blanks, then a tab and the path.
fn listed(line: &str, folder: &str) -> Option<Listed> {
    let (facts, path) = line.split_once('\t')?;
    let name = path.strip_prefix(folder)?;
    if name.starts_with('.') || !name.ends_with(".json") {
        return None;
    }
    let mut facts = facts.split_ascii_whitespace();
    let (mode, kind, id, size) = (facts.next()?, facts.next()?, facts.next()?, facts.next()?);
    let content = if kind != "blob" {
        Err(ProblemKind::Folder)
    } else if mode == "120000" {
        Err(ProblemKind::Unreadable("a symbolic link inside a repository is not followed".to_owned()))
    } else if size.parse::<usize>().is_ok_and(|bytes| bytes > SIZE_LIMIT_MIB * 1024 * 1024) {
        Err(ProblemKind::TooLarge { limit_mib: SIZE_LIMIT_MIB })
    } else {
        Ok(())
    };
    Some(Listed { name: name.to_owned(), id: id.to_owned(), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_git_could_take_for_an_option() {
        for url in ["", "--upload-pack=touch /tmp/x", "ext::sh -c x", "https://user:secret@host/x.git"] {
            assert!(url_fault(url).is_some(), "{url}");
        }
        for url in [
            "/srv/benchmarks",
            "https://github.com/a/b.git",
            "git@github.com:a/b.git",
            "http://[::1]:80/x",
            "ssh://git@host:22/a/b",
        ] {
            assert_eq!(url_fault(url), None, "{url}");
        }
        for reference in ["", "-x", "a b", "main:refs/heads/x", "+main", "a..b"] {
            assert!(reference_fault(reference).is_some(), "{reference}");
        }
        assert_eq!(reference_fault("refs/pull/12/head"), None);
        for path in ["/etc", "../x", "a/../../b", "-x", ":(top)"] {
            assert!(path_fault(path).is_some(), "{path}");
        }
        assert_eq!(path_fault("perf/benchmarks/"), None);
    }
}
