//! Merges: a look at a branch finds the commits that are new since the last look, measures those that were its tip and
//! keeps the others for a later search.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Context;
use super::looks::LookError;
use crate::config::RepositoryConfig;
use crate::model::{BranchName, CommitSha};

/// What came of a look at a branch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum MergeAnswer {
    /// Its tip is written down for the first time.
    Followed {
        /// The tip.
        tip: Option<CommitSha>,
    },
}

/// Looks at a branch.
///
/// # Errors
/// When it is not known how it stands.
pub async fn look_at_branch(
    context: &Context,
    repository: &RepositoryConfig,
    branch: &BranchName,
    _now: DateTime<Utc>,
) -> Result<MergeAnswer, LookError> {
    Ok(MergeAnswer::Followed { tip: context.store.branch_tip(&repository.name, branch).await? })
}
