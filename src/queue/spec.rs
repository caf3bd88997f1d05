//! What a runner must know to execute a job. It is stored with the job, so that neither a restart nor a changed
//! configuration file can change what was accepted.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::planner::PlannedJob;
use crate::config::{ImageSource, PublishTarget, PullPolicy, SuiteConfig};
use crate::model::{BranchName, CommitSha, RepoName};

/// A job's commit, image, suite and benchmarks. What belongs to the host (limits, caches, secrets) is the runner's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Repository of the commit.
    pub repository: RepoName,
    /// Branch it is measured on.
    pub branch: BranchName,
    /// What stands in parentheses after the branch in records; `None` for the default.
    pub local_branch: Option<String>,
    /// The commit.
    pub sha: CommitSha,
    /// The committer's date, the timestamp of every record.
    pub committed_at: DateTime<Utc>,
    /// Who wrote the commit, as far as the container's rights depend on it.
    pub trust: Trust,
    /// Which image.
    pub image: ImageOrder,
    /// When it is pulled.
    pub pull: PullPolicy,
    /// How long it is waited for when it is not built yet.
    #[serde(default = "ninety_minutes", with = "humantime_serde")]
    pub image_wait: Duration,
    /// Whether the repository at the commit is put into the workspace, because the image lacks it.
    pub takes_repository: bool,
    /// A clone that holds the commit, for suites that take files from the repository; `None` clones it.
    pub checkout: Option<PathBuf>,
    /// What is executed.
    pub suite: SuiteConfig,
    /// `name` of every record.
    pub benchmark_name: String,
    /// Model, points and suite files.
    pub planned: PlannedJob,
    /// Which measurement of the same benchmarks in the same run, from 1; only the first is published.
    #[serde(default = "first")]
    pub repeat: u32,
}

fn first() -> u32 {
    1
}

fn ninety_minutes() -> Duration {
    Duration::from_secs(90 * 60)
}

/// [`JobSpec::image_wait`] of a stored specification, whatever else it holds.
pub(super) fn image_wait(spec: &serde_json::Value) -> Duration {
    spec.get("image_wait").and_then(|wait| humantime_serde::deserialize(wait).ok()).unwrap_or_else(ninety_minutes)
}

/// Whether a commit's code may have what the host's own jobs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Written by people with write access: token, network and caches as configured.
    Trusted,
    /// A fork's: no secrets, no network, nothing of the host that can be changed.
    Untrusted,
}

/// How the image is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageOrder {
    /// This reference, given by a person.
    Reference(String),
    /// By the repository's rule for the platform.
    Source(ImageSource),
}

/// What an upload that is owed needs to know besides its job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadOrder {
    /// Where to.
    pub target: PublishTarget,
    /// Whether other results of the same commit there are written over, as a person asked.
    pub replace: bool,
}
