//! When which label was set on a pull request, and by whom.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::pull::PAGE;
use super::{Account, GitHub, GitHubError};
use crate::model::RepoName;

/// A label that was set or taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelEvent {
    /// Its name.
    pub label: String,
    /// Whether it was set.
    pub set: bool,
    /// By whom; `None` when the account is gone.
    pub by: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct WireEvent {
    event: Option<String>,
    actor: Option<Account>,
    created_at: DateTime<Utc>,
    label: Option<WireLabel>,
}

#[derive(Deserialize)]
struct WireLabel {
    name: String,
}

impl GitHub {
    /// Every change of a label of a pull request, oldest first.
    ///
    /// # Errors
    /// Any other answer; also when there is no such pull request.
    pub async fn label_events(&self, repo: &RepoName, number: u64) -> Result<Vec<LabelEvent>, GitHubError> {
        let events: Vec<WireEvent> =
            self.pages(&format!("/repos/{repo}/issues/{number}/events?per_page={PAGE}")).await?;
        let changes = events.into_iter().filter_map(|event| {
            let set = match event.event.as_deref() {
                Some("labeled") => true,
                Some("unlabeled") => false,
                Some(_) | None => return None,
            };
            let by = event.actor.map(|actor| actor.login);
            Some(LabelEvent { label: event.label?.name, set, by, at: event.created_at })
        });
        Ok(changes.collect())
    }
}
