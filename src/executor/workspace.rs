//! The repository at a commit, as a tar for the container's working folder: for suites whose scripts or sources come
//! from the repository and not from the image.

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::git::{Checkout, GitError};
use crate::model::CommitSha;

/// How long git may take to fetch a commit and to pack it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1800);

/// Where the repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A checkout on this host that has the commit; it is only read.
    Checkout(PathBuf),
    /// A remote; only the one commit is fetched.
    Url(Url),
}

/// Why there is no workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// git failed.
    #[error("failed to take commit {sha} out of {source_name}", sha = sha.short())]
    Git {
        /// The commit.
        sha: CommitSha,
        /// The checkout or the remote, without credentials.
        source_name: String,
        /// What git said.
        #[source]
        source: GitError,
    },
    /// A remote that benchd does not fetch from.
    #[error("`{0}:` is no way to fetch a repository: use https, http, ssh, git or file")]
    Scheme(String),
    /// The password would stand in git's messages and in the list of processes.
    #[error("the address of {0} holds a password: give it to git by a credential helper instead")]
    Password(String),
    /// The folder for it cannot be made.
    #[error("failed to prepare {path}", path = path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
}

/// Packs the files of `sha` into `tar` (no `.git`); `scratch` is a folder for a repository that is fetched.
///
/// # Errors
/// See [`WorkspaceError`].
pub async fn pack(source: &Source, sha: &CommitSha, scratch: &Path, tar: &Path) -> Result<(), WorkspaceError> {
    let git_error = |source_name: String| {
        let sha = sha.clone();
        move |source| WorkspaceError::Git { sha, source_name, source }
    };
    let (checkout, name) = match source {
        Source::Checkout(dir) => (Checkout::at(dir), dir.display().to_string()),
        Source::Url(url) => {
            let name = shown(url);
            (fetch(url, sha, scratch).await?.map_err(git_error(name.clone()))?, name)
        }
    };
    let tar = std::path::absolute(tar).map_err(|source| WorkspaceError::Io { path: tar.to_owned(), source })?;
    let output = format!("--output={}", tar.display());
    let packed = checkout.run(&["archive", "--format=tar", &output, sha.as_str()], FETCH_TIMEOUT).await;
    packed.map(drop).map_err(git_error(name))
}

async fn fetch(url: &Url, sha: &CommitSha, scratch: &Path) -> Result<Result<Checkout, GitError>, WorkspaceError> {
    // git would run any command for `ext::..`, and take a leading dash for an option.
    if !["https", "http", "ssh", "git", "file"].contains(&url.scheme()) {
        return Err(WorkspaceError::Scheme(url.scheme().to_owned()));
    }
    if url.password().is_some() {
        return Err(WorkspaceError::Password(shown(url)));
    }
    tokio::fs::create_dir_all(scratch)
        .await
        .map_err(|source| WorkspaceError::Io { path: scratch.to_owned(), source })?;
    let checkout = Checkout::at(scratch);
    let steps: [&[&str]; 2] = [
        &["init", "--quiet", "--bare"],
        &["fetch", "--quiet", "--no-tags", "--depth=1", "--end-of-options", url.as_str(), sha.as_str()],
    ];
    for step in steps {
        if let Err(error) = checkout.run(step, FETCH_TIMEOUT).await {
            return Ok(Err(error));
        }
    }
    Ok(Ok(checkout))
}

/// The address without user and password.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn repository(dir: &Path) -> CommitSha {
        let git = Checkout::at(dir);
        std::fs::write(dir.join("suite.sh"), "echo hello\n").unwrap();
        for step in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["config", "uploadpack.allowAnySHA1InWant", "true"],
            &["add", "suite.sh"],
            &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=one"],
        ] {
            git.run(step, FETCH_TIMEOUT).await.unwrap();
        }
        git.resolve("HEAD").await.unwrap()
    }

    fn names(tar: &Path) -> Vec<String> {
        let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
        let entries = archive.entries().unwrap().map(|e| e.unwrap());
        let files = entries.filter(|e| e.header().entry_type().is_file());
        files.map(|e| e.path().unwrap().display().to_string()).collect()
    }

    #[tokio::test]
    async fn a_commit_is_packed_from_a_checkout_and_from_a_remote() {
        let dir = tempfile::tempdir().unwrap();
        let sha = repository(dir.path()).await;
        // Later changes of the checkout are not the commit.
        std::fs::write(dir.path().join("dirty.txt"), "x").unwrap();
        let remote = Url::from_directory_path(dir.path()).unwrap();
        for source in [Source::Checkout(dir.path().to_owned()), Source::Url(remote)] {
            let scratch = tempfile::tempdir().unwrap();
            let tar = scratch.path().join("workspace.tar");
            pack(&source, &sha, &scratch.path().join("fetched"), &tar).await.unwrap();
            assert_eq!(names(&tar), ["suite.sh"]);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_named() {
        let dir = tempfile::tempdir().unwrap();
        repository(dir.path()).await;
        let sha: CommitSha = "a".repeat(40).parse().unwrap();
        let tar = dir.path().join("w.tar");
        let missing = pack(&Source::Checkout(dir.path().to_owned()), &sha, dir.path(), &tar).await.unwrap_err();
        assert!(missing.to_string().starts_with("failed to take commit aaaaaaaaaa out of"), "{missing}");
        let strange: Url = "ext::sh -c true".parse().unwrap();
        let refused = pack(&Source::Url(strange), &sha, dir.path(), &tar).await.unwrap_err();
        assert!(matches!(refused, WorkspaceError::Scheme(_)), "{refused}");
        let password: Url = "https://me:secret@host/x.git".parse().unwrap();
        let refused = pack(&Source::Url(password), &sha, dir.path(), &tar).await.unwrap_err();
        assert!(refused.to_string().starts_with("the address of https://host/x.git holds"), "{refused}");
    }
}
