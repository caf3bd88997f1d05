//! Pull requests as they are now. Only the few fields that are needed are read, everything else may come as it likes.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{Account, GitHub, GitHubError};
use crate::model::{CommitSha, RepoName};

/// The most of a list in one answer.
pub(super) const PAGE: usize = 100;

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Open, closed or merged.
    pub state: PullState,
    /// Whether it is a draft.
    pub draft: bool,
    /// Its title: other people's text.
    pub title: String,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Who opened it; `None` when the account is gone.
    pub author: Option<Account>,
    /// What is to be merged.
    pub head: PullSide,
    /// What it is to be merged into.
    pub base: PullSide,
    /// When anything about it changed last.
    pub updated_at: DateTime<Utc>,
    /// How many commits it adds; lists do not tell.
    pub commits: Option<u64>,
}

/// Whether a pull request is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullState {
    /// Open.
    Open,
    /// Closed without being merged.
    Closed,
    /// Merged.
    Merged {
        /// The commit on the base branch, merged, squashed or rebased; of an open pull request GitHub tells a test
        /// merge in its place, which is on no branch and stands nowhere here.
        commit: Option<CommitSha>,
    },
}

/// One end of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSide {
    /// The commit.
    pub sha: CommitSha,
    /// The branch.
    pub branch: String,
    /// The repository; `None` when it is gone, as deleted forks are.
    pub repository: Option<RepositoryRef>,
}

/// A repository that is named in passing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RepositoryRef {
    /// Its id, which stays when it is renamed.
    pub id: u64,
    /// `owner/name`.
    pub full_name: String,
}

impl Pull {
    /// Whether the head lies outside of the repository that it is to be merged into. A head whose repository is gone
    /// was outside.
    pub fn is_from_fork(&self) -> bool {
        match (&self.head.repository, &self.base.repository) {
            (Some(head), Some(base)) => head.id != base.id,
            (None, _) | (_, None) => true,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WirePull {
    number: u64,
    state: String,
    #[serde(default)]
    draft: bool,
    title: Option<String>,
    #[serde(default)]
    labels: Vec<WireLabel>,
    user: Option<Account>,
    head: WireSide,
    base: WireSide,
    updated_at: DateTime<Utc>,
    #[serde(default)]
    merged: bool,
    merged_at: Option<DateTime<Utc>>,
    merge_commit_sha: Option<CommitSha>,
    commits: Option<u64>,
}

#[derive(Deserialize)]
struct WireLabel {
    name: Option<String>,
}

#[derive(Deserialize)]
struct WireSide {
    #[serde(rename = "ref")]
    branch: String,
    sha: CommitSha,
    repo: Option<RepositoryRef>,
}

#[derive(Deserialize)]
struct WireFile {
    filename: String,
    previous_filename: Option<String>,
}

impl From<WireSide> for PullSide {
    fn from(side: WireSide) -> Self {
        Self { sha: side.sha, branch: side.branch, repository: side.repo }
    }
}

impl From<WirePull> for Pull {
    fn from(wire: WirePull) -> Self {
        let state = match (wire.merged || wire.merged_at.is_some(), wire.state.as_str()) {
            (true, _) => PullState::Merged { commit: wire.merge_commit_sha },
            (false, "open") => PullState::Open,
            (false, _) => PullState::Closed,
        };
        Self {
            number: wire.number,
            state,
            draft: wire.draft,
            title: wire.title.unwrap_or_default(),
            labels: wire.labels.into_iter().filter_map(|label| label.name).collect(),
            author: wire.user,
            head: wire.head.into(),
            base: wire.base.into(),
            updated_at: wire.updated_at,
            commits: wire.commits,
        }
    }
}

impl GitHub {
    /// The pull request as it is now; `None` when there is none of that number.
    ///
    /// # Errors
    /// Any answer that is neither.
    pub async fn pull(&self, repo: &RepoName, number: u64) -> Result<Option<Pull>, GitHubError> {
        let pull: Option<WirePull> = self.read(&format!("/repos/{repo}/pulls/{number}")).await?;
        Ok(pull.map(Pull::from))
    }

    /// Every open pull request, oldest first. A list that has not changed costs nothing.
    ///
    /// # Errors
    /// Any other answer; also when the repository is not there.
    pub async fn open_pulls(&self, repo: &RepoName) -> Result<Vec<Pull>, GitHubError> {
        let route = format!("/repos/{repo}/pulls?state=open&sort=created&direction=asc&per_page={PAGE}");
        let pulls: Vec<WirePull> = self.pages(&route).await?;
        Ok(pulls.into_iter().map(Pull::from).collect())
    }

    /// The pull requests that brought `sha` into the default branch, or open ones that hold it; none for a commit that
    /// is not there.
    ///
    /// # Errors
    /// Any other answer.
    pub async fn pulls_of(&self, repo: &RepoName, sha: &CommitSha) -> Result<Vec<Pull>, GitHubError> {
        let route = format!("/repos/{repo}/commits/{sha}/pulls?per_page={PAGE}");
        let pulls: Option<Vec<WirePull>> = self.read(&route).await?;
        Ok(pulls.unwrap_or_default().into_iter().map(Pull::from).collect())
    }

    /// The paths that a pull request changes, a moved file's old path too. GitHub lists 3,000 files at most.
    ///
    /// # Errors
    /// Any other answer; also when there is no such pull request.
    pub async fn pull_files(&self, repo: &RepoName, number: u64) -> Result<Vec<String>, GitHubError> {
        let files: Vec<WireFile> = self.pages(&format!("/repos/{repo}/pulls/{number}/files?per_page={PAGE}")).await?;
        Ok(files.into_iter().flat_map(|file| std::iter::once(file.filename).chain(file.previous_filename)).collect())
    }
}
