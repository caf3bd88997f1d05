//! What GitHub knows of a repository's history: the commits of a branch along first parents, and whether a commit is
//! on a branch.

use std::collections::HashMap;

use serde::Deserialize;
use url::form_urlencoded;

use super::{CommitFacts, GitHub, GitHubError, WireCommit, path_segment};
use crate::model::{BranchName, CommitSha, RepoName};

/// Commits in one answer: the most that GitHub gives.
const PAGE: usize = 100;

/// Answers that are read for one history; each one brings its first commit at least.
const MAX_PAGES: usize = 20;

/// Commits of a branch along first parents, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The commits.
    pub commits: Vec<CommitFacts>,
    /// Whether the branch goes on behind them.
    pub ends: End,
}

/// Why a history has no more commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The branch begins there.
    Root,
    /// No more were asked for.
    Limit,
    /// So many side commits lie between that reading was given up.
    Pages,
}

#[derive(Deserialize)]
struct WireComparison {
    status: String,
}

impl GitHub {
    /// The commits of `branch` from its tip on along first parents, at most `limit`; `None` when there is no such
    /// branch. The list that GitHub gives also holds side commits, so each further one is asked for from the commit on
    /// that is missing: a push in between moves nothing.
    ///
    /// # Errors
    /// Any answer that is neither the commits nor "no such branch".
    pub async fn branch_commits(
        &self,
        repo: &RepoName,
        branch: &BranchName,
        limit: usize,
    ) -> Result<Option<History>, GitHubError> {
        let mut commits: Vec<CommitFacts> = Vec::new();
        let mut from = match branch.pull_request() {
            None => branch.as_str().to_owned(),
            Some(number) => match self.pull(repo, number).await? {
                Some(pull) => pull.head.sha.to_string(),
                None => return Ok(None),
            },
        };
        for _ in 0..MAX_PAGES {
            let query: String = form_urlencoded::byte_serialize(from.as_bytes()).collect();
            let route = format!("/repos/{repo}/commits?sha={query}&per_page={PAGE}");
            let Some(page) = self.read::<Vec<WireCommit>>(&route).await? else { return Ok(None) };
            let Some(tip) = page.first().map(|commit| commit.sha.clone()) else {
                return Ok(Some(History { commits, ends: End::Root }));
            };
            let mut known: HashMap<_, _> = page.into_iter().map(|c| (c.sha.clone(), CommitFacts::from(c))).collect();
            let mut next = Some(tip);
            while let Some(sha) = next {
                let Some(commit) = known.remove(&sha) else {
                    from = sha.to_string();
                    next = None;
                    continue;
                };
                let parent = commit.parents.first().cloned();
                commits.push(commit);
                match parent {
                    _ if commits.len() >= limit => return Ok(Some(History { commits, ends: End::Limit })),
                    None => return Ok(Some(History { commits, ends: End::Root })),
                    Some(parent) => next = Some(parent),
                }
            }
        }
        Ok(Some(History { commits, ends: End::Pages }))
    }

    /// Whether `sha` is the tip of `branch` or one of its ancestors: a commit of a fork can be read under the base
    /// repository's name, but is on none of its branches. `None` when branch or commit are not there.
    ///
    /// # Errors
    /// Any answer that is neither.
    pub async fn on_branch(
        &self,
        repo: &RepoName,
        branch: &BranchName,
        sha: &CommitSha,
    ) -> Result<Option<bool>, GitHubError> {
        let base = path_segment(branch.as_str());
        let comparison: Option<WireComparison> =
            self.read(&format!("/repos/{repo}/compare/{base}...{sha}?per_page=1")).await?;
        // Seen from the branch, its own commits are "behind" it.
        Ok(comparison.map(|comparison| matches!(comparison.status.as_str(), "behind" | "identical")))
    }
}
