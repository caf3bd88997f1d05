//! Comments of pull requests and the reactions to them.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;

use super::pull::PAGE;
use super::{Account, GitHub, GitHubError};
use crate::model::{Reaction, RepoName};

/// GitHub refuses longer comments (characters).
pub const LONGEST_COMMENT: usize = 65_536;

/// A comment of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Its id.
    pub id: u64,
    /// The pull request (or issue) it stands under.
    pub number: Option<u64>,
    /// Who wrote it; `None` when the account is gone.
    pub author: Option<Account>,
    /// Its text: other people's, unless the author is ourselves.
    pub body: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was written or edited last.
    pub updated_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct WireComment {
    id: u64,
    issue_url: Option<String>,
    user: Option<Account>,
    body: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<WireComment> for Comment {
    fn from(wire: WireComment) -> Self {
        let number = wire.issue_url.as_deref().and_then(|url| url.rsplit('/').next()?.parse().ok());
        Self {
            id: wire.id,
            number,
            author: wire.user,
            body: wire.body.unwrap_or_default(),
            created_at: wire.created_at,
            updated_at: wire.updated_at,
        }
    }
}

impl GitHub {
    /// All comments under a pull request, oldest first.
    ///
    /// # Errors
    /// Any other answer; also when there is no such pull request.
    pub async fn comments(&self, repo: &RepoName, number: u64) -> Result<Vec<Comment>, GitHubError> {
        let comments: Vec<WireComment> =
            self.pages(&format!("/repos/{repo}/issues/{number}/comments?per_page={PAGE}")).await?;
        Ok(comments.into_iter().map(Comment::from).collect())
    }

    /// The comments under any issue or pull request that were written or edited at `since` or later, the longest
    /// unchanged first. A list that has not changed costs nothing.
    ///
    /// # Errors
    /// Any other answer; also when the repository is not there.
    pub async fn comments_since(&self, repo: &RepoName, since: DateTime<Utc>) -> Result<Vec<Comment>, GitHubError> {
        let since = since.format("%Y-%m-%dT%H:%M:%SZ");
        let route = format!("/repos/{repo}/issues/comments?since={since}&sort=updated&direction=asc&per_page={PAGE}");
        let comments: Vec<WireComment> = self.pages(&route).await?;
        Ok(comments.into_iter().map(Comment::from).collect())
    }

    /// One comment; `None` when it is gone.
    ///
    /// # Errors
    /// Any answer that is neither.
    pub async fn comment(&self, repo: &RepoName, id: u64) -> Result<Option<Comment>, GitHubError> {
        let comment: Option<WireComment> = self.read(&format!("/repos/{repo}/issues/comments/{id}")).await?;
        Ok(comment.map(Comment::from))
    }

    /// Writes a new comment under a pull request.
    ///
    /// # Errors
    /// [`GitHubError::Unanswered`] when it may have been written all the same: look for it before writing it again.
    pub async fn create_comment(&self, repo: &RepoName, number: u64, body: &str) -> Result<Comment, GitHubError> {
        let route = format!("/repos/{repo}/issues/{number}/comments");
        let written: WireComment = self.write(http::Method::POST, &route, &json!({ "body": body })).await?;
        Ok(written.into())
    }

    /// Replaces the text of a comment; `None` when it is gone.
    ///
    /// # Errors
    /// Any answer that is neither. After [`GitHubError::Unanswered`] the same edit may be sent again.
    pub async fn update_comment(&self, repo: &RepoName, id: u64, body: &str) -> Result<Option<Comment>, GitHubError> {
        let route = format!("/repos/{repo}/issues/comments/{id}");
        let written: Result<WireComment, _> = self.write(http::Method::PATCH, &route, &json!({ "body": body })).await;
        present(written).map(|written| written.map(Comment::from))
    }

    /// Reacts to a comment; `None` when it is gone. The same reaction again changes nothing.
    ///
    /// # Errors
    /// Any other answer.
    pub async fn react(&self, repo: &RepoName, comment: u64, reaction: Reaction) -> Result<Option<()>, GitHubError> {
        let route = format!("/repos/{repo}/issues/comments/{comment}/reactions");
        let body = json!({ "content": reaction.as_str() });
        let made: Result<serde::de::IgnoredAny, _> = self.write(http::Method::POST, &route, &body).await;
        present(made).map(|made| made.map(drop))
    }
}

/// `None` in place of "there is no such thing any more".
pub(super) fn present<T>(answer: Result<T, GitHubError>) -> Result<Option<T>, GitHubError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}
