//! The App as GitHub sees it: who we are, where it is installed, and what it may do there.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::exchange::Ask;
use super::speaker::Speaker;
use super::{Account, Acting, GitHub, GitHubError, path_segment};
use crate::model::RepoName;

/// What an installation must be permitted, and why. A comment needs one of its two.
const NEEDED: [(&[&str], Level, &str); 5] = [
    (&["checks"], Level::Write, "check runs"),
    (&["contents"], Level::Read, "commits and tags"),
    (&["metadata"], Level::Read, "repositories and people's roles"),
    (&["pull_requests"], Level::Read, "pull requests and their labels"),
    (&["pull_requests", "issues"], Level::Write, "the comment on a pull request"),
];

/// What a permission allows, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Read,
    Write,
}

/// The App.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AppFacts {
    /// Its id.
    pub id: u64,
    /// Its name in addresses; its account is `slug[bot]`.
    pub slug: String,
}

/// The App where it is installed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Installation {
    /// Its id.
    pub id: u64,
    /// Whose repositories it is installed on.
    #[serde(default)]
    pub account: Option<Account>,
    /// What it may do: `checks` to `write`, and so on.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
    /// When its owner suspended it.
    #[serde(default)]
    pub suspended_at: Option<DateTime<Utc>>,
}

impl Installation {
    /// What it is not permitted and needs, each as `checks: write (check runs)`.
    pub fn missing(&self) -> Vec<String> {
        let level = |name: &&str| match self.permissions.get(*name).map(String::as_str) {
            Some("write" | "admin") => Some(Level::Write),
            Some("read") => Some(Level::Read),
            Some(_) | None => None,
        };
        let lacking = NEEDED.iter().filter(|(names, needed, _)| !names.iter().any(|n| level(n) >= Some(*needed)));
        lacking
            .map(|(names, needed, what)| {
                let word = match needed {
                    Level::Read => "read",
                    Level::Write => "write",
                };
                format!("{}: {word} ({what})", names.join(" or "))
            })
            .collect()
    }
}

impl GitHub {
    /// Our own account: the App's, or the token's owner. It is asked for once.
    ///
    /// # Errors
    /// [`GitHubError::Unauthorised`] for an anonymous client, any other answer as it comes.
    pub async fn identity(&self) -> Result<Account, GitHubError> {
        let found = self.wire.identity.get_or_try_init(async || match self.acts_as() {
            Acting::App => {
                let login = format!("{}[bot]", self.app().await?.slug);
                self.required(&format!("/users/{}", path_segment(&login))).await
            }
            Acting::Token | Acting::Anonymous => self.required("/user").await,
        });
        found.await.cloned()
    }

    /// The App that this client is.
    ///
    /// # Errors
    /// [`GitHubError::NotAnApp`] without an App, [`GitHubError::Unauthorised`] for a wrong id or key.
    pub async fn app(&self) -> Result<AppFacts, GitHubError> {
        self.required_by_app("/app").await
    }

    /// The App's installation on a repository.
    ///
    /// # Errors
    /// [`GitHubError::NotAnApp`] without an App, [`GitHubError::NotInstalled`] where it is not.
    pub async fn installation(&self, repo: &RepoName) -> Result<Installation, GitHubError> {
        match self.required_by_app(&format!("/repos/{repo}/installation")).await {
            Err(error) if error.is_gone() => Err(GitHubError::NotInstalled { place: repo.to_string() }),
            answer => answer,
        }
    }

    async fn required_by_app<T: serde::de::DeserializeOwned>(&self, route: &str) -> Result<T, GitHubError> {
        self.must_be_app(route)?;
        self.wire.exchange(Speaker::App, Ask::read(route)).await?.json(route)
    }

    pub(super) fn must_be_app(&self, route: &str) -> Result<(), GitHubError> {
        match self.acts_as() {
            Acting::App => Ok(()),
            Acting::Token | Acting::Anonymous => Err(GitHubError::NotAnApp { route: route.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let installation = |permissions: &str| -> Installation {
            serde_json::from_str(&format!(r#"{{"id": 1, "permissions": {permissions}}}"#)).unwrap()
        };
        let all = r#"{"checks": "write", "contents": "read", "metadata": "read", "pull_requests": "read", "issues": "write"}"#;
        assert_eq!(installation(all).missing(), Vec::<String>::new());
        let few = r#"{"checks": "read", "contents": "write", "metadata": "read", "pull_requests": "read"}"#;
        assert_eq!(
            installation(few).missing(),
            ["checks: write (check runs)", "pull_requests or issues: write (the comment on a pull request)"]
        );
        assert_eq!(installation("{}").missing().len(), 5);
    }
}
