//! Where a branch's commits come from: GitHub's API, or a clone on this host. Always along first parents: commits that
//! were merged from the side were never the branch's tip.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Context;
use crate::config::RepositoryConfig;
use crate::git::{Checkout, GitError};
use crate::github::{End, GitHub, GitHubError};
use crate::model::{BranchName, CommitSha, Fault, RepoName};
use crate::store::BranchCommit;

/// Who is asked.
#[derive(Clone)]
pub enum CommitSource {
    /// The API.
    GitHub(GitHub),
    /// A clone, as it is.
    Checkout(Checkout),
}

/// A commit that could be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its id.
    pub sha: CommitSha,
    /// The committer's date.
    pub committed_at: DateTime<Utc>,
    /// The commit before it on its branch.
    pub first_parent: Option<CommitSha>,
    /// Its number of ancestors along first parents, when known.
    pub position: Option<u32>,
}

/// The newest commits of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Newest first.
    pub commits: Vec<Candidate>,
    /// What a person should know about where they end.
    pub note: Option<String>,
}

/// Why a branch's commits are not known.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Neither the API nor a clone may be asked.
    #[error("nobody can be asked for commits of {repo}: set `github.token_file` or `repositories[].checkout`")]
    NoSource {
        /// The repository.
        repo: RepoName,
    },
    /// There is no such branch.
    #[error("{repo} has no branch `{branch}`, as {asked} says")]
    NoBranch {
        /// The repository.
        repo: RepoName,
        /// The branch.
        branch: BranchName,
        /// Who was asked.
        asked: String,
    },
    /// GitHub could not be asked.
    #[error("failed to ask GitHub for the commits of {repo}")]
    GitHub {
        /// The repository.
        repo: RepoName,
        /// Why.
        source: GitHubError,
    },
    /// The clone could not be asked.
    #[error("failed to read the commits of the checkout")]
    Checkout(#[from] GitError),
}

impl HistoryError {
    /// Whether asking again later can help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::GitHub { source, .. } if source.is_transient() => Fault::Transient,
            Self::NoSource { .. } | Self::NoBranch { .. } | Self::GitHub { .. } | Self::Checkout(_) => Fault::Permanent,
        }
    }
}

impl From<&Candidate> for BranchCommit {
    fn from(commit: &Candidate) -> Self {
        Self {
            sha: commit.sha.clone(),
            committed_at: commit.committed_at,
            first_parent: commit.first_parent.clone(),
            position: commit.position,
        }
    }
}

impl CommitSource {
    /// Who is asked about a repository: its configured clone, else GitHub.
    ///
    /// # Errors
    /// When there is neither.
    pub fn of(context: &Context, repository: &RepositoryConfig) -> Result<Self, HistoryError> {
        match (&repository.checkout, &context.github) {
            (Some(dir), _) => Ok(Self::Checkout(Checkout::at(dir))),
            (None, Some(github)) => Ok(Self::GitHub(github.clone())),
            (None, None) => Err(HistoryError::NoSource { repo: repository.name.clone() }),
        }
    }

    /// The clone's folder, where it is one.
    pub fn checkout(&self) -> Option<&Checkout> {
        match self {
            Self::GitHub(_) => None,
            Self::Checkout(checkout) => Some(checkout),
        }
    }

    /// Who is asked, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::GitHub(_) => "GitHub".to_owned(),
            Self::Checkout(checkout) => format!("the checkout {}", checkout.dir().display()),
        }
    }

    /// The newest `limit` commits of `branch`.
    ///
    /// # Errors
    /// When they are not known; a branch that is not there is an error too.
    pub async fn branch(&self, repo: &RepoName, branch: &BranchName, limit: usize) -> Result<Branch, HistoryError> {
        let none = || HistoryError::NoBranch { repo: repo.clone(), branch: branch.clone(), asked: self.describe() };
        match self {
            Self::GitHub(github) => {
                let history = github.branch_commits(repo, branch, limit).await;
                let history = history.map_err(|source| HistoryError::GitHub { repo: repo.clone(), source })?;
                let history = history.ok_or_else(none)?;
                let commits = history.commits.into_iter().map(|commit| Candidate {
                    first_parent: commit.parents.into_iter().next(),
                    sha: commit.sha,
                    committed_at: commit.committed_at,
                    position: None,
                });
                let commits: Vec<_> = commits.collect();
                let note = match history.ends {
                    End::Root | End::Limit => None,
                    End::Pages => Some(format!(
                        "only {} commits were looked at: too many side commits lie between those of the branch",
                        commits.len()
                    )),
                };
                Ok(Branch { commits, note })
            }
            Self::Checkout(checkout) => {
                let tip = checkout.tip(branch).await?.ok_or_else(none)?;
                let logged = checkout.first_parents(&tip, limit).await?;
                let newest = checkout.position(&tip).await?;
                let note = (newest.is_none() && logged.len() < limit)
                    .then(|| format!("only {} commits were looked at: the clone is shallow", logged.len()));
                let commits = (0_u32..).zip(logged).map(|(behind, commit)| Candidate {
                    sha: commit.sha,
                    committed_at: commit.committed_at,
                    first_parent: commit.first_parent,
                    position: newest.and_then(|newest| newest.checked_sub(behind)),
                });
                Ok(Branch { commits: commits.collect(), note })
            }
        }
    }
}
