//! What people ask for in comments and by check runs that they want again.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Context;
use super::looks::LookError;
use crate::config::RepositoryConfig;
use crate::store::Look;

/// What came of a look at a comment or check run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum CommandAnswer {
    /// Nothing is decided about commands yet.
    NotLookedAt,
}

/// Looks at a comment ([`LookKind::Comment`](crate::store::LookKind::Comment), its id is the key) or at a check run that
/// is wanted again.
///
/// # Errors
/// When it is not known how it stands.
pub async fn look_at_command(
    _context: &Context,
    _repository: &RepositoryConfig,
    _look: &Look,
    _now: DateTime<Utc>,
) -> Result<CommandAnswer, LookError> {
    Ok(CommandAnswer::NotLookedAt)
}
