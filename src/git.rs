//! Runs the `git` command: the one place that knows how to call it safely (no prompts, no hooks, in the folder that is
//! named and no other, a time limit) and that tells what it said when it failed. Credential helpers and proxies of the
//! machine's configuration are used.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::model::{BranchName, CommitSha, InvalidSha};

/// How long a question to a local repository may take.
pub const LOCAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Variables that lead git to another repository than that of its folder; git sets them itself for its hooks.
const ELSEWHERE: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
];

/// What stands for the message of a command that failed without one.
const NO_MESSAGE: &str = "no message";

/// A repository on disk.
#[derive(Clone, Debug)]
pub struct Checkout {
    dir: PathBuf,
}

/// A commit as the history tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedCommit {
    /// Its id.
    pub sha: CommitSha,
    /// The committer's date.
    pub committed_at: DateTime<Utc>,
    /// The commit before it on its branch; `None` for the first.
    pub first_parent: Option<CommitSha>,
}

/// Why `git` gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The command is not there.
    #[error("failed to start `git` (is it installed?)")]
    Start(#[source] std::io::Error),
    /// There is nothing to run it in.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// The command failed.
    #[error("`git {command}` failed in {dir}: {message}", dir = dir.display())]
    Failed {
        /// Its arguments.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// The last line that it wrote to standard error.
        message: String,
    },
    /// The command took too long.
    #[error("`git {command}` did not end within {} s", after.as_secs())]
    TimedOut {
        /// Its arguments.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// The command answered something else than expected.
    #[error("`git {command}` answered {answer:?}")]
    Answer {
        /// Its arguments.
        command: String,
        /// What it wrote.
        answer: String,
    },
    /// The name could be taken for an option.
    #[error("`{0}` cannot name a revision")]
    Revision(String),
    /// The commit id is not one.
    #[error(transparent)]
    Sha(#[from] InvalidSha),
}

impl Checkout {
    /// A repository (or a folder inside one) at `dir`.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `git ARGS` in the repository and returns its standard output.
    ///
    /// # Errors
    /// Every way in which the command gives no output; its own message is kept.
    pub async fn run(&self, args: &[&str], limit: Duration) -> Result<Vec<u8>, GitError> {
        let command = args.join(" ");
        let mut git = tokio::process::Command::new("git");
        for variable in ELSEWHERE {
            git.env_remove(variable);
        }
        let child = git
            .arg("-c")
            .arg("core.hooksPath=/dev/null")
            // A service often reads a checkout that another user owns.
            .arg("-c")
            .arg("safe.directory=*")
            .args(args)
            .current_dir(&self.dir)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(limit, child)
            .await
            .map_err(|_elapsed| GitError::TimedOut { command: command.clone(), after: limit })?
            .map_err(|source| match self.dir.is_dir() {
                true => GitError::Start(source),
                false => GitError::NoFolder(self.dir.clone()),
            })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let told = said.lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        let message = told.or_else(|| said.lines().rfind(|line| !line.trim().is_empty())).unwrap_or(NO_MESSAGE);
        let message = message.to_owned();
        Err(GitError::Failed { command, dir: self.dir.clone(), message })
    }

    async fn line(&self, args: &[&str]) -> Result<String, GitError> {
        let answer = String::from_utf8_lossy(&self.run(args, LOCAL_TIMEOUT).await?).trim().to_owned();
        if answer.is_empty() { Err(GitError::Answer { command: args.join(" "), answer }) } else { Ok(answer) }
    }

    /// The commit that `revision` (a branch, tag, id or `HEAD`) names.
    ///
    /// # Errors
    /// As [`Checkout::run`], and for a name that could be taken for an option.
    pub async fn resolve(&self, revision: &str) -> Result<CommitSha, GitError> {
        if revision.starts_with('-') {
            return Err(GitError::Revision(revision.to_owned()));
        }
        Ok(self
            .line(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")])
            .await?
            .parse()?)
    }

    /// The committer's date of a commit.
    ///
    /// # Errors
    /// As [`Checkout::run`].
    pub async fn committed_at(&self, sha: &CommitSha) -> Result<DateTime<Utc>, GitError> {
        let args = ["show", "--no-patch", "--format=%ct", sha.as_str()];
        let answer = self.line(&args).await?;
        answer
            .parse()
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or(GitError::Answer { command: args.join(" "), answer })
    }

    /// The commits from `tip` on along first parents, newest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Checkout::run`].
    pub async fn first_parents(&self, tip: &CommitSha, limit: usize) -> Result<Vec<LoggedCommit>, GitError> {
        let (format, count) = ("--format=%H %ct %P", format!("--max-count={limit}"));
        let args = ["log", "--first-parent", "--no-decorate", format, &count, tip.as_str(), "--"];
        let answer = String::from_utf8_lossy(&self.run(&args, LOCAL_TIMEOUT).await?).into_owned();
        let commit = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let sha = words.next()?.parse().ok()?;
            let committed_at = DateTime::from_timestamp(words.next()?.parse().ok()?, 0)?;
            Some(LoggedCommit { sha, committed_at, first_parent: words.next().and_then(|sha| sha.parse().ok()) })
        };
        let read = |line: &str| {
            commit(line).ok_or_else(|| GitError::Answer { command: args.join(" "), answer: line.to_owned() })
        };
        answer.lines().map(read).collect()
    }

    /// The number of commits from `tip` on along first parents, `tip` not counted; `None` in a shallow clone, which
    /// does not know.
    ///
    /// # Errors
    /// As [`Checkout::run`].
    pub async fn position(&self, tip: &CommitSha) -> Result<Option<u32>, GitError> {
        if self.is_shallow().await? {
            return Ok(None);
        }
        let args = ["rev-list", "--first-parent", "--count", tip.as_str(), "--"];
        let answer = self.line(&args).await?;
        let count: u32 = answer
            .parse()
            .map_err(|_not_a_number| GitError::Answer { command: args.join(" "), answer: answer.clone() })?;
        Ok(Some(count.saturating_sub(1)))
    }

    /// Whether the clone has only a part of the history.
    ///
    /// # Errors
    /// As [`Checkout::run`].
    pub async fn is_shallow(&self) -> Result<bool, GitError> {
        Ok(self.line(&["rev-parse", "--is-shallow-repository"]).await? == "true")
    }

    /// Whether `sha` is `tip` or one of its ancestors.
    ///
    /// # Errors
    /// As [`Checkout::run`], also for a commit that the clone does not have.
    pub async fn contains(&self, tip: &CommitSha, sha: &CommitSha) -> Result<bool, GitError> {
        let base = self.run(&["merge-base", tip.as_str(), sha.as_str()], LOCAL_TIMEOUT).await;
        match base {
            Ok(answer) => Ok(String::from_utf8_lossy(&answer).trim() == sha.as_str()),
            // Exit code 1 without a word: nothing in common.
            Err(GitError::Failed { message, .. }) if message == NO_MESSAGE => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The tip of `branch` as it was last fetched, or as it is here; `None` when the clone does not have it.
    ///
    /// # Errors
    /// As [`Checkout::run`].
    pub async fn tip(&self, branch: &BranchName) -> Result<Option<CommitSha>, GitError> {
        for place in ["refs/remotes/origin/", "refs/heads/", "refs/remotes/", "refs/"] {
            if let Some(sha) = self.find(&format!("{place}{branch}")).await? {
                return Ok(Some(sha));
            }
        }
        Ok(None)
    }

    /// The commit that `revision` names; `None` when the clone has nothing of that name.
    ///
    /// # Errors
    /// As [`Checkout::resolve`].
    pub async fn find(&self, revision: &str) -> Result<Option<CommitSha>, GitError> {
        match self.resolve(revision).await {
            Ok(sha) => Ok(Some(sha)),
            // Nothing is said of a name that is not there.
            Err(GitError::Failed { message, .. }) if message == NO_MESSAGE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The branch that is checked out; `None` when `HEAD` is detached.
    ///
    /// # Errors
    /// As [`Checkout::run`].
    pub async fn branch(&self) -> Result<Option<String>, GitError> {
        let name = self.line(&["rev-parse", "--abbrev-ref", "HEAD"]).await?;
        Ok((name != "HEAD").then_some(name))
    }

    /// Where `origin` points to; `None` when there is no such remote.
    ///
    /// # Errors
    /// As [`Checkout::run`].
    pub async fn origin(&self) -> Result<Option<String>, GitError> {
        match self.line(&["remote", "get-url", "origin"]).await {
            Ok(url) => Ok(Some(url)),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `owner/name` out of a remote's URL (`https://HOST/owner/name.git`, `git@HOST:owner/name.git`).
pub fn repository_of_url(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url.split_once(':')?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let mut parts = path.rsplit('/');
    let (name, owner) = (parts.next()?, parts.next()?);
    Some(format!("{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_last_two_parts_of_its_url() {
        for url in [
            "https://github.com/vllm-project/vllm.git",
            "https://github.com/vllm-project/vllm",
            "git@github.com:vllm-project/vllm.git",
            "ssh://git@ghe.example/vllm-project/vllm",
        ] {
            assert_eq!(repository_of_url(url).as_deref(), Some("vllm-project/vllm"), "{url}");
        }
        assert_eq!(repository_of_url("/srv/vllm"), None);
    }
}
