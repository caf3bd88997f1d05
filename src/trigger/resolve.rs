//! From what a person names (commit, branch, tag, pull request) to a commit, the branch it is measured on and how far
//! its code is trusted. A commit of a fork can be read under the base repository's name: only one that is on a branch
//! counts as the repository's own.

use chrono::{DateTime, Utc};

use super::Context;
use super::source::{CommitSource, HistoryError};
use crate::config::RepositoryConfig;
use crate::git::{Checkout, GitError};
use crate::github::GitHubError;
use crate::model::{BranchName, CommitSha, RepoName};
use crate::queue::spec::Trust;
use crate::store::{BranchCommit, StoreError};

/// What is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A commit, on one of these branches.
    Commit {
        /// Its id.
        sha: CommitSha,
        /// Where it is looked for.
        branches: Vec<BranchName>,
    },
    /// The tip of a branch.
    Branch(BranchName),
    /// A tag.
    Tag(String),
    /// The head of a pull request.
    PullRequest(u64),
}

/// The commit that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Its id.
    pub sha: CommitSha,
    /// The committer's date.
    pub committed_at: DateTime<Utc>,
    /// The branch it is measured on.
    pub branch: BranchName,
    /// How far its code is trusted.
    pub trust: Trust,
    /// The commit before it, when known.
    pub first_parent: Option<CommitSha>,
    /// Its number of ancestors along first parents of the branch, when known.
    pub position: Option<u32>,
}

/// Why it is not known which commit is meant.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The repository has none of that name.
    #[error("{repo} has no {what}, as {asked} says")]
    Absent {
        /// The repository.
        repo: RepoName,
        /// What was named.
        what: String,
        /// Who was asked.
        asked: String,
    },
    /// The commit is there, but on none of the branches.
    #[error(
        "{sha} is not on {branches} of {repo} (commits of forks can be read there too): name its branch, or its pull \
         request, whose code is run without secrets"
    )]
    NotOnBranch {
        /// The commit.
        sha: CommitSha,
        /// Where it was looked for.
        branches: String,
        /// The repository.
        repo: RepoName,
    },
    /// A tag that cannot be a branch of records.
    #[error("the tag `{0}` is on no configured branch and cannot stand for one")]
    TagName(String),
    /// Nobody can be asked, or who is asked fails.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// A commit without its place.
struct Found {
    sha: CommitSha,
    committed_at: DateTime<Utc>,
    first_parent: Option<CommitSha>,
}

impl CommitSource {
    /// Finds the commit that is meant.
    ///
    /// # Errors
    /// When there is none, when it is on none of the branches it should be on, when nobody can say.
    pub async fn resolve(&self, repository: &RepositoryConfig, named: &Named) -> Result<Resolved, ResolveError> {
        let repo = &repository.name;
        match named {
            Named::Branch(branch) if branch.pull_request().is_some() => {
                let number = branch.pull_request().unwrap_or_default();
                Box::pin(self.resolve(repository, &Named::PullRequest(number))).await
            }
            Named::Branch(branch) => {
                let what = || format!("branch `{branch}`");
                let found = self.branch_tip(repo, branch).await?.ok_or_else(|| self.absent(repo, what()))?;
                self.placed(found, branch.clone(), Trust::Trusted).await
            }
            Named::Tag(tag) => {
                let found = self.tag(repo, tag).await?.ok_or_else(|| self.absent(repo, format!("tag `{tag}`")))?;
                let branch = match self.first_branch_with(repo, &repository.branch, &found.sha).await? {
                    Some(branch) => branch,
                    None => tag.parse().map_err(|_invalid| ResolveError::TagName(tag.clone()))?,
                };
                self.placed(found, branch, Trust::Trusted).await
            }
            Named::Commit { sha, branches } => {
                let found = self.commit(repo, sha).await?;
                let found = found.ok_or_else(|| self.absent(repo, format!("commit {sha}")))?;
                let branch = self.first_branch_with(repo, branches, sha).await?;
                let branch = branch.ok_or_else(|| ResolveError::NotOnBranch {
                    sha: sha.clone(),
                    branches: branches.iter().map(|b| format!("`{b}`")).collect::<Vec<_>>().join(", "),
                    repo: repo.clone(),
                })?;
                let trust = match branch.pull_request() {
                    None => Trust::Trusted,
                    // The head's owner pushed it, whoever that is.
                    Some(number) => self.trust_of_pull(repo, number).await?,
                };
                self.placed(found, branch, trust).await
            }
            Named::PullRequest(number) => self.pull_request(repo, *number).await,
        }
    }

    /// How far the commits of a pull request are trusted; those of one that is not there, or that a clone alone knows,
    /// are not.
    async fn trust_of_pull(&self, repo: &RepoName, number: u64) -> Result<Trust, ResolveError> {
        let Self::GitHub(github) = self else { return Ok(Trust::Untrusted) };
        let pull = github.pull(repo, number).await.map_err(asking(repo))?;
        Ok(if pull.is_some_and(|pull| !pull.is_from_fork()) { Trust::Trusted } else { Trust::Untrusted })
    }

    async fn pull_request(&self, repo: &RepoName, number: u64) -> Result<Resolved, ResolveError> {
        let what = || format!("pull request #{number}");
        let branch: BranchName = format!("pull/{number}/head").parse().map_err(|_invalid| self.absent(repo, what()))?;
        match self {
            Self::GitHub(github) => {
                let pull = github.pull(repo, number).await.map_err(asking(repo))?;
                let pull = pull.ok_or_else(|| self.absent(repo, what()))?;
                let trust = if pull.is_from_fork() { Trust::Untrusted } else { Trust::Trusted };
                let found = self.commit(repo, &pull.head.sha).await?.ok_or_else(|| self.absent(repo, what()))?;
                self.placed(found, branch, trust).await
            }
            // A clone does not tell whose branch the head is.
            Self::Checkout(_) => {
                let found = self.branch_tip(repo, &branch).await?.ok_or_else(|| self.absent(repo, what()))?;
                self.placed(found, branch, Trust::Untrusted).await
            }
        }
    }

    async fn placed(&self, found: Found, branch: BranchName, trust: Trust) -> Result<Resolved, ResolveError> {
        let position = match self {
            Self::GitHub(_) => None,
            Self::Checkout(checkout) => checkout.position(&found.sha).await.map_err(HistoryError::Checkout)?,
        };
        let Found { sha, committed_at, first_parent } = found;
        Ok(Resolved { sha, committed_at, branch, trust, first_parent, position })
    }

    async fn branch_tip(&self, repo: &RepoName, branch: &BranchName) -> Result<Option<Found>, HistoryError> {
        match self {
            Self::GitHub(_) => self.named(repo, &format!("heads/{branch}")).await,
            Self::Checkout(checkout) => match checkout.tip(branch).await? {
                Some(sha) => of_checkout(checkout, &sha).await.map(Some),
                None => Ok(None),
            },
        }
    }

    async fn tag(&self, repo: &RepoName, tag: &str) -> Result<Option<Found>, HistoryError> {
        match self {
            Self::GitHub(_) => self.named(repo, &format!("tags/{tag}")).await,
            Self::Checkout(checkout) => match checkout.find(&format!("refs/tags/{tag}")).await? {
                Some(sha) => of_checkout(checkout, &sha).await.map(Some),
                None => Ok(None),
            },
        }
    }

    async fn commit(&self, repo: &RepoName, sha: &CommitSha) -> Result<Option<Found>, HistoryError> {
        match self {
            Self::GitHub(_) => self.named(repo, sha.as_str()).await,
            Self::Checkout(checkout) => match checkout.find(sha.as_str()).await? {
                Some(sha) => of_checkout(checkout, &sha).await.map(Some),
                None => Ok(None),
            },
        }
    }

    /// What GitHub knows under a name.
    async fn named(&self, repo: &RepoName, name: &str) -> Result<Option<Found>, HistoryError> {
        let Self::GitHub(github) = self else { return Ok(None) };
        let facts = github.commit(repo, name).await.map_err(asking(repo))?;
        Ok(facts.map(|facts| Found {
            sha: facts.sha,
            committed_at: facts.committed_at,
            first_parent: facts.parents.into_iter().next(),
        }))
    }

    /// The first of `branches` that has the commit.
    async fn first_branch_with(
        &self,
        repo: &RepoName,
        branches: &[BranchName],
        sha: &CommitSha,
    ) -> Result<Option<BranchName>, HistoryError> {
        for branch in branches {
            let has = match self {
                Self::GitHub(github) => {
                    github.on_branch(repo, branch, sha).await.map_err(asking(repo))?.unwrap_or(false)
                }
                Self::Checkout(checkout) => match checkout.tip(branch).await? {
                    Some(tip) => checkout.contains(&tip, sha).await?,
                    None => false,
                },
            };
            if has {
                return Ok(Some(branch.clone()));
            }
        }
        Ok(None)
    }

    fn absent(&self, repo: &RepoName, what: String) -> ResolveError {
        ResolveError::Absent { repo: repo.clone(), what, asked: self.describe() }
    }
}

/// The newest commits of the branch that is measured, where they tell the place of the commit on it and nothing else
/// does. Not knowing it keeps nobody from measuring.
///
/// # Errors
/// When the store cannot be read.
pub async fn stretch(
    context: &Context,
    repository: &RepositoryConfig,
    source: &CommitSource,
    resolved: &Resolved,
) -> Result<Vec<BranchCommit>, StoreError> {
    let Resolved { sha, branch, position, .. } = resolved;
    if position.is_some()
        || branch.pull_request().is_some()
        || context.store.is_placed(&repository.name, branch, sha).await?
    {
        return Ok(Vec::new());
    }
    let limit = usize::try_from(repository.triggers.pick.look_back).unwrap_or(usize::MAX);
    match source.branch(&repository.name, branch, limit).await {
        Ok(found) if found.commits.iter().any(|commit| commit.sha == *sha) => {
            Ok(found.commits.iter().map(BranchCommit::from).collect())
        }
        Ok(_) => Ok(Vec::new()),
        Err(error) => {
            tracing::warn!(commit.sha = %sha, "the place of the commit on {branch} is not known: {}", crate::health::with_causes(&error));
            Ok(Vec::new())
        }
    }
}

fn asking(repo: &RepoName) -> impl Fn(GitHubError) -> HistoryError {
    move |source| HistoryError::GitHub { repo: repo.clone(), source }
}

async fn of_checkout(checkout: &Checkout, sha: &CommitSha) -> Result<Found, HistoryError> {
    let logged = checkout.first_parents(sha, 1).await?.into_iter().next();
    let logged = logged.ok_or_else(|| GitError::Answer { command: "log".to_owned(), answer: String::new() })?;
    Ok(Found { sha: logged.sha, committed_at: logged.committed_at, first_parent: logged.first_parent })
}
