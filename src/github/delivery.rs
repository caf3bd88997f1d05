//! The webhook deliveries of an App, as GitHub keeps them: what was missed is found there and asked for again.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{GitHub, GitHubError};

/// One attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HookDelivery {
    /// Of this attempt.
    pub id: u64,
    /// `X-GitHub-Delivery`: the same for all attempts of one event.
    pub guid: String,
    /// When it was tried.
    pub delivered_at: DateTime<Utc>,
    /// Whether it was asked for again.
    #[serde(default)]
    pub redelivery: bool,
    /// The HTTP status of our answer; 0 when there was none.
    #[serde(default)]
    pub status_code: u16,
    /// The event, such as `pull_request`.
    pub event: String,
    /// Its action, where events have one.
    #[serde(default)]
    pub action: Option<String>,
    /// The repository's id.
    #[serde(default)]
    pub repository_id: Option<u64>,
}

impl HookDelivery {
    /// Whether it was taken.
    pub fn was_taken(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

impl GitHub {
    /// The App's deliveries since `since`, newest first. GitHub delivers again only what is younger than three days.
    ///
    /// # Errors
    /// [`GitHubError::NotAnApp`] without an App, any other answer as it comes.
    pub async fn hook_deliveries(&self, since: DateTime<Utc>) -> Result<Vec<HookDelivery>, GitHubError> {
        self.as_app_until("/app/hook/deliveries?per_page=100", |delivery: &HookDelivery| delivery.delivered_at < since)
            .await
    }

    /// Asks GitHub to deliver again; the event keeps its GUID.
    ///
    /// # Errors
    /// [`GitHubError::NotAnApp`] without an App, [`GitHubError::Invalid`] for what is too old.
    pub async fn redeliver(&self, id: u64) -> Result<(), GitHubError> {
        self.write_as_app(&format!("/app/hook/deliveries/{id}/attempts")).await
    }
}
