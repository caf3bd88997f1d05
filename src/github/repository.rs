//! A repository itself, and its tags.

use serde::Deserialize;

use super::pull::PAGE;
use super::{GitHub, GitHubError};
use crate::model::{CommitSha, RepoName};

/// What is known of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Repository {
    /// Its id, which stays when it is renamed.
    pub id: u64,
    /// `owner/name` as it is now.
    pub full_name: RepoName,
    /// The branch that pull requests usually go to.
    pub default_branch: String,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The commit it names, also when it is an object of its own.
    pub sha: CommitSha,
}

#[derive(Deserialize)]
struct WireTag {
    name: String,
    commit: WireTarget,
}

#[derive(Deserialize)]
struct WireTarget {
    sha: CommitSha,
}

impl GitHub {
    /// The repository as it is now, found under an earlier name too; `None` when there is none that we may see.
    ///
    /// # Errors
    /// Any answer that is neither.
    pub async fn repository(&self, repo: &RepoName) -> Result<Option<Repository>, GitHubError> {
        self.read(&format!("/repos/{repo}")).await
    }

    /// Every tag, in GitHub's order, which says nothing about age.
    ///
    /// # Errors
    /// Any other answer; also when the repository is not there.
    pub async fn tags(&self, repo: &RepoName) -> Result<Vec<Tag>, GitHubError> {
        let tags: Vec<WireTag> = self.pages(&format!("/repos/{repo}/tags?per_page={PAGE}")).await?;
        Ok(tags.into_iter().map(|tag| Tag { name: tag.name, sha: tag.commit.sha }).collect())
    }

    /// The tag of that name; `None` when there is none.
    ///
    /// # Errors
    /// Any answer that is neither.
    pub async fn tag(&self, repo: &RepoName, name: &str) -> Result<Option<Tag>, GitHubError> {
        let found = self.commit(repo, &format!("tags/{name}")).await?;
        Ok(found.map(|commit| Tag { name: name.to_owned(), sha: commit.sha }))
    }
}
