//! The hidden line in everything that benchd writes on a pull request, by which it is found again.

use std::fmt;

use super::PullReport;
use crate::model::RepoName;

/// The hidden line by which a comment is known as the one of a pull request and of this benchd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// What it marks: `comment`, or `answer` with a hash of its key.
    pub what: String,
    /// Whose pull request. Written for people; a repository may be renamed, so it is not compared.
    pub repository: RepoName,
    /// The pull request's number.
    pub number: u64,
    /// What this benchd is called.
    pub name: String,
}

impl Marker {
    /// The marker of a report's comment.
    pub fn of(report: &PullReport) -> Self {
        Self {
            what: "comment".to_owned(),
            repository: report.repository.clone(),
            number: report.number,
            name: report.name.clone(),
        }
    }

    /// Whether a comment carries this marker: a line of its own.
    pub fn is_in(&self, body: &str) -> bool {
        let (begin, end) = self.ends();
        body.lines().map(str::trim).any(|line| line.starts_with(&begin) && line.ends_with(&end))
    }

    fn ends(&self) -> (String, String) {
        (format!("<!-- benchd:{} of ", self.what), format!(" #{} by {} -->", self.number, self.name))
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, end) = self.ends();
        write!(f, "{begin}{}{end}", self.repository)
    }
}
