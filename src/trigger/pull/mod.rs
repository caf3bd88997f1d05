//! Pull requests: what their labels, heads and forks decide.

pub mod decide;
pub mod paths;
mod say;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Context;
use super::looks::LookError;
use crate::config::RepositoryConfig;

/// What came of a look at a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum PullAnswer {
    /// Nothing is decided about pull requests yet.
    NotLookedAt,
}

/// Looks at a pull request.
///
/// # Errors
/// When it is not known how it stands.
pub async fn look_at_pull(
    _context: &Context,
    _repository: &RepositoryConfig,
    _number: u64,
    _now: DateTime<Utc>,
) -> Result<PullAnswer, LookError> {
    Ok(PullAnswer::NotLookedAt)
}
