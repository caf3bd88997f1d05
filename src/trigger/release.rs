//! Releases: a look at a tag finds the commit it stands for and measures it once.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Context;
use super::looks::LookError;
use crate::config::RepositoryConfig;
use crate::model::CommitSha;

/// What came of a look at a tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum TagAnswer {
    /// It is known already.
    Known {
        /// Its commit.
        sha: Option<CommitSha>,
    },
}

/// Looks at a tag.
///
/// # Errors
/// When it is not known how it stands.
pub async fn look_at_tag(
    context: &Context,
    repository: &RepositoryConfig,
    tag: &str,
    _now: DateTime<Utc>,
) -> Result<TagAnswer, LookError> {
    let known = context.store.known_tags(&repository.name).await?;
    Ok(TagAnswer::Known { sha: known.get(tag).cloned() })
}
