//! Which revision is measured: repository, branch and commit, each checked once when it enters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A commit id: 40 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct CommitSha(String);

/// The text is not a full commit id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a commit id (40 hexadecimal digits; abbreviated ids are not accepted)")]
pub struct InvalidSha(String);

impl CommitSha {
    /// The 40 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 10 digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }
}

impl FromStr for CommitSha {
    type Err = InvalidSha;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sha = text.trim().to_ascii_lowercase();
        // An all-zero id is git's "no commit" (a deleted branch), never something to measure.
        let valid = sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit()) && sha.bytes().any(|b| b != b'0');
        if valid { Ok(Self(sha)) } else { Err(InvalidSha(text.to_owned())) }
    }
}

impl TryFrom<String> for CommitSha {
    type Error = InvalidSha;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CommitSha> for String {
    fn from(sha: CommitSha) -> Self {
        sha.0
    }
}

impl fmt::Display for CommitSha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository as `owner/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct RepoName(String);

/// The text is not `owner/name`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a repository name (expected `owner/name`)")]
pub struct InvalidRepo(String);

impl RepoName {
    /// `owner/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepoName {
    type Err = InvalidRepo;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |p: &str| {
            !p.is_empty()
                && p != "."
                && p != ".."
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(InvalidRepo(text.to_owned())),
        }
    }
}

impl TryFrom<String> for RepoName {
    type Error = InvalidRepo;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RepoName> for String {
    fn from(repo: RepoName) -> Self {
        repo.0
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The branch a commit was measured on: `main`, `releases/v0.11.0` or `pull/123/head` (never `refs/...`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

/// The text cannot be a branch.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a branch name (git's rules; no parentheses, which end the name in published records; of a pull \
     request only pull/N/head)"
)]
pub struct InvalidBranch(String);

impl BranchName {
    /// The name without `refs/heads/` or `refs/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the default main branch, exactly `main`.
    pub fn is_main(&self) -> bool {
        self.0 == "main"
    }

    /// The number of the pull request whose head this is.
    pub fn pull_request(&self) -> Option<u64> {
        self.0.strip_prefix("pull/")?.strip_suffix("/head")?.parse().ok()
    }

    /// `head_branch` of published records: `main(refs/heads/main)` for main, otherwise the name, followed by another
    /// local branch in parentheses when one is given (design: what the public dashboard shows by default).
    pub fn head_branch(&self, local: Option<&str>) -> String {
        match local.filter(|l| !l.is_empty() && *l != "main") {
            Some(local) => format!("{}({local})", self.0),
            None if self.is_main() => "main(refs/heads/main)".to_owned(),
            None => self.0.clone(),
        }
    }
}

/// Whether this is a reference of a pull request beside its head: `pull/5/merge` is other people's code under a name that
/// looks like one of the repository's own branches.
fn is_other_ref_of_pull(name: &str) -> bool {
    let rest = name.strip_prefix("pull/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(number, rest)| number.parse::<u64>().is_ok() && rest != "head")
}

impl FromStr for BranchName {
    type Err = InvalidBranch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_prefix("refs/heads/").or_else(|| text.strip_prefix("refs/")).unwrap_or(text);
        let bad_char = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\()".contains(c);
        let bad_part = |p: &str| p.is_empty() || p.starts_with('.') || p.ends_with(".lock");
        let invalid = name.is_empty()
            || name.chars().any(bad_char)
            || name.split('/').any(bad_part)
            || name.contains("..")
            || name.contains("@{")
            || name.starts_with("refs/")
            || is_other_ref_of_pull(name)
            || name.starts_with('-')
            || name.ends_with('.');
        if invalid { Err(InvalidBranch(text.to_owned())) } else { Ok(Self(name.to_owned())) }
    }
}

impl TryFrom<String> for BranchName {
    type Error = InvalidBranch;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BranchName> for String {
    fn from(branch: BranchName) -> Self {
        branch.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha_is_forty_hex_and_not_zero() {
        assert!("9816774803221e23e6f26178546c65c2466e2c90".parse::<CommitSha>().is_ok());
        for bad in ["", "98167748", &"0".repeat(40), &"g".repeat(40)] {
            assert!(bad.parse::<CommitSha>().is_err(), "{bad}");
        }
    }

    #[test]
    fn branch_is_written_as_the_public_dashboard_reads_it() {
        let main: BranchName = "refs/heads/main".parse().unwrap();
        assert_eq!(main.head_branch(None), "main(refs/heads/main)");
        let pull: BranchName = "refs/pull/123/head".parse().unwrap();
        assert_eq!((pull.as_str(), pull.pull_request()), ("pull/123/head", Some(123)));
        assert_eq!(pull.head_branch(None), "pull/123/head");
        assert_eq!(pull.head_branch(Some("feature")), "pull/123/head(feature)");
        assert_eq!(main.head_branch(Some("main")), "main(refs/heads/main)");
        for other in ["pull/5/merge", "refs/pull/5/merge", "pull/5/head/x", "refs/heads/refs/pull/5/merge"] {
            assert!(other.parse::<BranchName>().is_err(), "{other} would be trusted");
        }
        assert!("pull/of/cables".parse::<BranchName>().is_ok());
    }
}
