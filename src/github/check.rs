//! Check runs, which only an App may write, and commit statuses, which a token writes in their place.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::comment::present;
use super::pull::PAGE;
use super::{GitHub, GitHubError};
use crate::model::{CommitSha, RepoName};

/// GitHub refuses a longer summary or text of a check run (characters).
pub const LONGEST_CHECK_TEXT: usize = 65_535;

/// GitHub refuses a longer description of a commit status (characters).
pub const LONGEST_STATUS: usize = 140;

/// A check run as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRun {
    /// Its name, which people see in the list of checks.
    pub name: String,
    /// The commit.
    pub sha: CommitSha,
    /// Our own word for it, by which it is found again.
    pub external_id: String,
    /// Where its details are.
    pub details_url: Option<Url>,
    /// When its work began.
    pub started_at: Option<DateTime<Utc>>,
    /// Where it is.
    pub state: CheckState,
    /// What it says.
    pub output: CheckOutput,
}

/// Where a check run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// Waits.
    Queued,
    /// Works.
    InProgress,
    /// Has ended.
    Completed(CheckConclusion),
}

/// How a check run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckConclusion {
    /// Well.
    Success,
    /// Badly.
    Failure,
    /// Neither: it says something and blocks nothing.
    Neutral,
    /// Called off.
    Cancelled,
    /// Not needed.
    Skipped,
    /// Too late.
    TimedOut,
    /// Somebody has to do something.
    ActionRequired,
    /// GitHub itself gave up waiting.
    Stale,
}

/// What a check run says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckOutput {
    /// One line.
    pub title: String,
    /// Markdown, at most [`LONGEST_CHECK_TEXT`].
    pub summary: String,
    /// More Markdown below it, at most [`LONGEST_CHECK_TEXT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A check run that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CheckSeen {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The commit.
    pub head_sha: CommitSha,
    /// The word that its writer gave it.
    #[serde(default)]
    pub external_id: Option<String>,
    /// `queued`, `in_progress`, `completed`, or what GitHub may invent.
    pub status: String,
    /// How it ended, in GitHub's word.
    #[serde(default)]
    pub conclusion: Option<String>,
    /// The App that wrote it.
    #[serde(default)]
    pub app: Option<AppRef>,
}

/// An App that is named in passing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AppRef {
    /// Its id.
    pub id: u64,
}

/// A commit status as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: StatusState,
    /// Its name; of several with one name the last one counts.
    pub context: String,
    /// One line, at most [`LONGEST_STATUS`].
    pub description: String,
    /// Where its details are.
    pub target_url: Option<Url>,
}

/// The state of a commit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusState {
    /// Not known yet.
    Pending,
    /// Well.
    Success,
    /// Badly.
    Failure,
    /// Could not be found out.
    Error,
}

#[derive(Deserialize)]
struct WireChecks {
    check_runs: Vec<CheckSeen>,
}

#[derive(Deserialize)]
struct WireId {
    id: u64,
}

impl CheckRun {
    fn body(&self) -> Value {
        let (status, conclusion) = match self.state {
            CheckState::Queued => ("queued", None),
            CheckState::InProgress => ("in_progress", None),
            CheckState::Completed(conclusion) => ("completed", Some(conclusion)),
        };
        let mut body = json!({
            "name": self.name, "head_sha": self.sha.as_str(), "external_id": self.external_id, "status": status,
            "output": self.output,
        });
        // GitHub takes null for a value here, so what is not there is left out.
        let more = [
            ("conclusion", conclusion.map(|conclusion| json!(conclusion))),
            ("details_url", self.details_url.as_ref().map(|url| json!(url))),
            ("started_at", self.started_at.map(|at| json!(at.to_rfc3339()))),
        ];
        if let Some(fields) = body.as_object_mut() {
            fields.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        body
    }
}

impl GitHub {
    /// The check runs of that name on a commit, the newest first, of whatever App.
    ///
    /// # Errors
    /// Any other answer; also when the commit is not there.
    pub async fn check_runs(
        &self,
        repo: &RepoName,
        sha: &CommitSha,
        name: &str,
    ) -> Result<Vec<CheckSeen>, GitHubError> {
        let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let route = format!("/repos/{repo}/commits/{sha}/check-runs?check_name={name}&filter=all&per_page={PAGE}");
        let pages: Vec<WireChecks> = self.page_bodies(&route, |page: &WireChecks| page.check_runs.len()).await?;
        Ok(pages.into_iter().flat_map(|page| page.check_runs).collect())
    }

    /// Writes a new check run and returns its id.
    ///
    /// # Errors
    /// [`GitHubError::Unanswered`] when it may have been written all the same: look for it before writing it again.
    pub async fn create_check_run(&self, repo: &RepoName, check: &CheckRun) -> Result<u64, GitHubError> {
        let written: WireId =
            self.write(http::Method::POST, &format!("/repos/{repo}/check-runs"), &check.body()).await?;
        Ok(written.id)
    }

    /// Changes a check run; `None` when it is gone.
    ///
    /// # Errors
    /// Any answer that is neither. After [`GitHubError::Unanswered`] the same change may be sent again.
    pub async fn update_check_run(
        &self,
        repo: &RepoName,
        id: u64,
        check: &CheckRun,
    ) -> Result<Option<()>, GitHubError> {
        let route = format!("/repos/{repo}/check-runs/{id}");
        let written: Result<WireId, _> = self.write(http::Method::PATCH, &route, &check.body()).await;
        present(written).map(|written| written.map(drop))
    }

    /// Sets a commit status. GitHub keeps 1,000 of each commit and context.
    ///
    /// # Errors
    /// Any other answer. After [`GitHubError::Unanswered`] the same status may be set again.
    pub async fn set_status(&self, repo: &RepoName, sha: &CommitSha, status: &Status) -> Result<(), GitHubError> {
        let mut body = json!({ "state": status.state, "context": status.context, "description": status.description });
        if let (Some(fields), Some(url)) = (body.as_object_mut(), &status.target_url) {
            fields.insert("target_url".to_owned(), json!(url));
        }
        let _written: WireId = self.write(http::Method::POST, &format!("/repos/{repo}/statuses/{sha}"), &body).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_left_out() {
        let check = CheckRun {
            name: "benchd".into(),
            sha: "1".repeat(40).parse().unwrap(),
            external_id: "run-1".into(),
            details_url: None,
            started_at: None,
            state: CheckState::Queued,
            output: CheckOutput { title: "t".into(), summary: "s".into(), text: None },
        };
        assert_eq!(
            check.body(),
            json!({"name": "benchd", "head_sha": "1".repeat(40), "external_id": "run-1", "status": "queued",
                   "output": {"title": "t", "summary": "s"}})
        );
        let done = CheckRun { state: CheckState::Completed(CheckConclusion::TimedOut), ..check };
        assert_eq!((&done.body()["status"], &done.body()["conclusion"]), (&json!("completed"), &json!("timed_out")));
    }
}
