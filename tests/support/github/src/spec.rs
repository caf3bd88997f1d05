//! How a test describes what it wants made: a commit, a pull request.

use chrono::{DateTime, Utc};

/// A commit to be made.
#[derive(Clone, Debug)]
pub struct CommitSpec {
    pub(crate) sha: Option<String>,
    pub(crate) parents: Option<Vec<String>>,
    pub(crate) author: String,
    pub(crate) message: String,
    pub(crate) at: Option<DateTime<Utc>>,
    pub(crate) files: Vec<String>,
}

impl CommitSpec {
    /// A commit with this message on top of the branch, dated now.
    pub fn new(message: &str) -> Self {
        Self {
            sha: None,
            parents: None,
            author: "octo-author".to_owned(),
            message: message.to_owned(),
            at: None,
            files: Vec::new(),
        }
    }

    /// With this id, 40 hexadecimal digits.
    #[must_use]
    pub fn sha(mut self, sha: &str) -> Self {
        self.sha = Some(sha.to_owned());
        self
    }

    /// With these parents in place of the branch's tip; a merge has two.
    #[must_use]
    pub fn parents(mut self, parents: &[&str]) -> Self {
        self.parents = Some(parents.iter().map(|&p| p.to_owned()).collect());
        self
    }

    /// With this committer's date.
    #[must_use]
    pub fn at(mut self, at: DateTime<Utc>) -> Self {
        self.at = Some(at);
        self
    }

    /// Changing these files.
    #[must_use]
    pub fn files(mut self, files: &[&str]) -> Self {
        self.files = files.iter().map(|&f| f.to_owned()).collect();
        self
    }

    /// By this person.
    #[must_use]
    pub fn author(mut self, login: &str) -> Self {
        self.author = login.to_owned();
        self
    }
}

/// A pull request to be opened.
#[derive(Clone, Debug)]
pub struct PullSpec {
    pub(crate) number: Option<u64>,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) base: Option<String>,
    pub(crate) head: String,
    pub(crate) head_repo: Option<u64>,
    pub(crate) draft: bool,
    pub(crate) labels: Vec<String>,
}

impl PullSpec {
    /// From this branch of the same repository to its default branch.
    pub fn new(head: &str) -> Self {
        Self {
            number: None,
            title: format!("Merge {head}"),
            author: "octo-author".to_owned(),
            base: None,
            head: head.to_owned(),
            head_repo: None,
            draft: false,
            labels: Vec::new(),
        }
    }

    /// With this number; the next free one otherwise.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }

    /// With this title.
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        self.title = title.to_owned();
        self
    }

    /// By this person.
    #[must_use]
    pub fn author(mut self, login: &str) -> Self {
        self.author = login.to_owned();
        self
    }

    /// The branch is one of this fork.
    #[must_use]
    pub fn from_fork(mut self, fork: &crate::Repository) -> Self {
        self.head_repo = Some(fork.id());
        self
    }

    /// Into this branch.
    #[must_use]
    pub fn base(mut self, branch: &str) -> Self {
        self.base = Some(branch.to_owned());
        self
    }

    /// As a draft.
    #[must_use]
    pub fn draft(mut self) -> Self {
        self.draft = true;
        self
    }

    /// With these labels from the beginning.
    #[must_use]
    pub fn labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|&l| l.to_owned()).collect();
        self
    }
}

/// How a pull request becomes a commit of its base branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeMethod {
    /// One new commit with one parent.
    Squash,
    /// A merge commit with two.
    Merge,
}
