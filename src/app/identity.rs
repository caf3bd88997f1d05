//! Which commit of which repository is measured, when nobody but the command line says so: each fact is taken from the
//! first source that knows it (flags, a checkout, the image's labels, the API), and a fact that nobody knows is an error
//! that names the flag.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::git::{Checkout, GitError, repository_of_url};
use crate::github::{GitHub, GitHubError};
use crate::model::{BranchName, CommitSha, InvalidBranch, InvalidRepo, InvalidSha, RepoName};

/// What the command line and the configuration say.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// `--repo`, or the only configured repository.
    pub repo: Option<RepoName>,
    /// `--branch`.
    pub branch: Option<BranchName>,
    /// The configured branch, used when nothing else names one.
    pub default_branch: Option<BranchName>,
    /// `--commit`: a full id, or a name that the checkout or the API resolves.
    pub commit: Option<String>,
    /// `--timestamp`.
    pub committed_at: Option<DateTime<Utc>>,
}

/// A commit with everything that its records need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Repository.
    pub repo: RepoName,
    /// Branch that the commit was measured on.
    pub branch: BranchName,
    /// Commit.
    pub sha: CommitSha,
    /// The committer's date, or the image's build date where only that is known (then [`Identity::notes`] says so).
    pub committed_at: DateTime<Utc>,
    /// What a person should know about where the facts came from.
    pub notes: Vec<String>,
}

/// Why the commit is not known.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No source knows the fact.
    #[error("{what} is not known: give {flag}{tried}")]
    Unknown {
        /// Which fact.
        what: &'static str,
        /// The flag that states it.
        flag: &'static str,
        /// Which sources were asked, for people; may be empty.
        tried: String,
    },
    /// The commit is named, but the repository does not have it.
    #[error("`{reference}` is no commit of {repo}")]
    NoSuchCommit {
        /// What was asked for.
        reference: String,
        /// Where.
        repo: RepoName,
    },
    /// The checkout could not be asked.
    #[error("failed to read the checkout")]
    Checkout(#[from] GitError),
    /// GitHub could not be asked.
    #[error("failed to ask GitHub about the commit")]
    GitHub(#[from] GitHubError),
    /// A source says something that is no repository.
    #[error(transparent)]
    Repo(#[from] InvalidRepo),
    /// A source says something that is no branch.
    #[error(transparent)]
    Branch(#[from] InvalidBranch),
    /// A source says something that is no commit.
    #[error(transparent)]
    Sha(#[from] InvalidSha),
}

impl IdentityError {
    /// Whether something outside failed, rather than what the person gave.
    pub fn is_infrastructure(&self) -> bool {
        match self {
            Self::GitHub(error) => error.is_transient(),
            Self::Unknown { .. }
            | Self::NoSuchCommit { .. }
            | Self::Checkout(_)
            | Self::Repo(_)
            | Self::Branch(_)
            | Self::Sha(_) => false,
        }
    }
}

/// Where facts come from besides what was said.
pub struct Sources<'a> {
    /// A clone on disk (`--checkout`).
    pub checkout: Option<&'a Checkout>,
    /// GitHub's API, when it may be asked.
    pub github: Option<&'a GitHub>,
    /// Labels of the image given by `--image` (`org.opencontainers.image.*`).
    pub labels: &'a HashMap<String, String>,
}

const LABEL_SOURCE: &str = "org.opencontainers.image.source";
const LABEL_REVISION: &str = "org.opencontainers.image.revision";
const LABEL_CREATED: &str = "org.opencontainers.image.created";

/// Puts the facts together.
///
/// # Errors
/// [`IdentityError::Unknown`] naming the flag for a fact that no source knows; the sources' own errors.
pub async fn identify(said: &Said, sources: &Sources<'_>) -> Result<Identity, IdentityError> {
    let repo = repository(said, sources).await?;
    let branch = branch(said, sources).await?;
    let mut notes = Vec::new();
    let (sha, committed_at) = commit(said, sources, &repo, &branch, &mut notes).await?;
    Ok(Identity { repo, branch, sha, committed_at, notes })
}

async fn repository(said: &Said, sources: &Sources<'_>) -> Result<RepoName, IdentityError> {
    if let Some(repo) = &said.repo {
        return Ok(repo.clone());
    }
    if let Some(checkout) = sources.checkout
        && let Some(repo) = checkout.origin().await?.as_deref().and_then(repository_of_url)
    {
        return Ok(repo.parse()?);
    }
    match sources.labels.get(LABEL_SOURCE).and_then(|url| repository_of_url(url)) {
        Some(repo) => Ok(repo.parse()?),
        None => Err(unknown("the repository", "--repo owner/name", sources)),
    }
}

async fn branch(said: &Said, sources: &Sources<'_>) -> Result<BranchName, IdentityError> {
    if let Some(branch) = &said.branch {
        return Ok(branch.clone());
    }
    if let Some(checkout) = sources.checkout
        && let Some(branch) = checkout.branch().await?
    {
        return Ok(branch.parse()?);
    }
    said.default_branch.clone().ok_or_else(|| unknown("the branch", "--branch", sources))
}

async fn commit(
    said: &Said,
    sources: &Sources<'_>,
    repo: &RepoName,
    branch: &BranchName,
    notes: &mut Vec<String>,
) -> Result<(CommitSha, DateTime<Utc>), IdentityError> {
    let full: Option<CommitSha> = said.commit.as_deref().and_then(|text| text.parse().ok());
    if let (Some(sha), Some(at)) = (&full, said.committed_at) {
        return Ok((sha.clone(), at));
    }
    if let Some(checkout) = sources.checkout {
        let sha = checkout.resolve(said.commit.as_deref().unwrap_or("HEAD")).await?;
        let at = match said.committed_at {
            Some(at) => at,
            None => checkout.committed_at(&sha).await?,
        };
        return Ok((sha, at));
    }
    // Labels of another repository are those of the image that this one was built from.
    let source = sources.labels.get(LABEL_SOURCE).and_then(|url| repository_of_url(url));
    let own = |label| sources.labels.get(label).filter(|_| source.as_ref().is_none_or(|of| of == repo.as_str()));
    let labelled: Option<CommitSha> = match own(LABEL_REVISION) {
        Some(revision) if said.commit.is_none() => Some(revision.parse()?),
        Some(_) | None => None,
    };
    let known = full.or(labelled);
    if let (Some(sha), Some(at)) = (&known, said.committed_at) {
        return Ok((sha.clone(), at));
    }
    if let Some(github) = sources.github {
        let reference = match (&known, &said.commit) {
            (Some(sha), _) => sha.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => branch.as_str().to_owned(),
        };
        let found = github.commit(repo, &reference).await?;
        let facts = found.ok_or_else(|| IdentityError::NoSuchCommit { reference, repo: repo.clone() })?;
        return Ok((facts.sha, said.committed_at.unwrap_or(facts.committed_at)));
    }
    let Some(sha) = known else {
        return Err(unknown("the commit", "--commit with all 40 digits", sources));
    };
    let built = own(LABEL_CREATED).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    match built {
        Some(at) => {
            notes.push(format!("the commit's time is not known; the image's build time {at} stands in for it"));
            Ok((sha, at.with_timezone(&Utc)))
        }
        None => Err(unknown("the commit's time", "--timestamp", sources)),
    }
}

fn unknown(what: &'static str, flag: &'static str, sources: &Sources<'_>) -> IdentityError {
    let mut others = Vec::new();
    if sources.checkout.is_none() {
        others.push("--checkout DIR");
    }
    if sources.github.is_none() {
        others.push("a GitHub token in the configuration");
    }
    let tried = if others.is_empty() { String::new() } else { format!(" (or {})", others.join(", ")) };
    IdentityError::Unknown { what, flag, tried }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "9816774803221e23e6f26178546c65c2466e2c90";

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    async fn of(said: &Said, labels: &HashMap<String, String>) -> Result<Identity, IdentityError> {
        identify(said, &Sources { checkout: None, github: None, labels }).await
    }

    #[tokio::test]
    async fn flags_say_everything() {
        let said = Said {
            repo: Some("o/r".parse().unwrap()),
            branch: Some("main".parse().unwrap()),
            commit: Some(SHA.to_owned()),
            committed_at: DateTime::from_timestamp(1_780_007_200, 0),
            ..Said::default()
        };
        let identity = of(&said, &HashMap::new()).await.unwrap();
        assert_eq!((identity.sha.as_str(), identity.committed_at.timestamp()), (SHA, 1_780_007_200));
    }

    #[tokio::test]
    async fn an_image_says_what_it_was_built_from() {
        let labels = labels(&[
            (LABEL_SOURCE, "https://github.com/o/r"),
            (LABEL_REVISION, SHA),
            (LABEL_CREATED, "2026-05-28T23:00:00Z"),
            // The tag of an image, often of the one that this was built from.
            ("org.opencontainers.image.ref.name", "ubuntu"),
        ]);
        let main = Said { default_branch: Some("main".parse().unwrap()), ..Said::default() };
        let identity = of(&main, &labels).await.unwrap();
        assert_eq!((identity.repo.as_str(), identity.sha.as_str()), ("o/r", SHA));
        assert_eq!(identity.branch.as_str(), "main");
        assert!(identity.notes[0].contains("build time"), "{:?}", identity.notes);
        let other = Said { repo: Some("other/project".parse().unwrap()), ..main };
        let error = of(&other, &labels).await.unwrap_err().to_string();
        assert!(error.contains("--commit"), "the labels are another project's: {error}");
    }

    #[tokio::test]
    async fn a_missing_fact_names_its_flag() {
        let mut said = Said::default();
        let flag = |error: IdentityError| error.to_string();
        assert!(flag(of(&said, &HashMap::new()).await.unwrap_err()).contains("--repo"));
        said.repo = Some("o/r".parse().unwrap());
        assert!(flag(of(&said, &HashMap::new()).await.unwrap_err()).contains("--branch"));
        said.branch = Some("main".parse().unwrap());
        assert!(flag(of(&said, &HashMap::new()).await.unwrap_err()).contains("--commit"));
        said.commit = Some(SHA.to_owned());
        assert!(flag(of(&said, &HashMap::new()).await.unwrap_err()).contains("--timestamp"));
    }
}
