//! Who stands behind a name on GitHub, and what they may do in a repository.

use serde::Deserialize;

use super::{GitHub, GitHubError, path_segment};
use crate::model::RepoName;

/// A person or program on GitHub.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// Its id, which stays when it is renamed.
    pub id: u64,
    /// Its name: `octocat`, or `slug[bot]` of an App.
    pub login: String,
    /// What it is.
    #[serde(default, rename = "type")]
    pub kind: AccountKind,
}

/// What an account is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum AccountKind {
    /// A person, or a program that uses a person's account.
    #[default]
    User,
    /// An App.
    Bot,
    /// An organisation.
    Organization,
    /// What GitHub may invent one day.
    #[serde(other)]
    Other,
}

/// A role in a repository, the least first, so that `permission >= Permission::Write` reads as it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Nothing, or no such account.
    None,
    /// May read.
    Read,
    /// May label and close, not push.
    Triage,
    /// May push.
    Write,
    /// May push and change settings.
    Maintain,
    /// May do everything.
    Admin,
}

/// As whom the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acting {
    /// As a GitHub App: only it may write check runs.
    App,
    /// With a personal access token: commit statuses take the place of check runs.
    Token,
    /// As nobody: nothing can be written.
    Anonymous,
}

#[derive(Deserialize)]
struct WirePermission {
    #[serde(default)]
    role_name: String,
    #[serde(default)]
    permission: String,
}

impl Permission {
    fn named(word: &str) -> Option<Self> {
        match word {
            "admin" => Some(Self::Admin),
            "maintain" => Some(Self::Maintain),
            "write" => Some(Self::Write),
            "triage" => Some(Self::Triage),
            "read" => Some(Self::Read),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

impl From<WirePermission> for Permission {
    /// `permission` calls triage "read" and maintain "write", so the role comes first; a role that an organisation has
    /// made itself has a name of its own, and what it is built on stands in `permission`.
    fn from(wire: WirePermission) -> Self {
        Self::named(&wire.role_name).or_else(|| Self::named(&wire.permission)).unwrap_or(Self::None)
    }
}

impl GitHub {
    /// What `login` may do in the repository; [`Permission::None`] for an account that is not there.
    ///
    /// # Errors
    /// Any answer that is neither.
    pub async fn permission(&self, repo: &RepoName, login: &str) -> Result<Permission, GitHubError> {
        let route = format!("/repos/{repo}/collaborators/{}/permission", path_segment(login));
        let found: Option<WirePermission> = self.read(&route).await?;
        Ok(found.map_or(Permission::None, Permission::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_wins_over_the_older_word() {
        let of = |json: &str| Permission::from(serde_json::from_str::<WirePermission>(json).unwrap());
        assert_eq!(of(r#"{"permission": "read", "role_name": "triage"}"#), Permission::Triage);
        assert_eq!(of(r#"{"permission": "write", "role_name": "maintain"}"#), Permission::Maintain);
        assert_eq!(of(r#"{"permission": "write", "role_name": "release-captain"}"#), Permission::Write);
        assert_eq!(of(r#"{"permission": "admin"}"#), Permission::Admin);
        assert_eq!(of("{}"), Permission::None);
        assert!(Permission::Triage < Permission::Write && Permission::None < Permission::Read);
    }

    #[test]
    fn an_account_of_an_unknown_kind_is_read() {
        let account: Account = serde_json::from_str(r#"{"id": 1, "login": "x", "type": "Mannequin", "y": 2}"#).unwrap();
        assert_eq!(account.kind, AccountKind::Other);
    }
}
