//! The webhook deliveries of an App, as GitHub keeps them: what was missed is found there and asked for again.

use chrono::{DateTime, Utc};
use http::Method;
use serde::Deserialize;

use super::exchange::Ask;
use super::pull::PAGE;
use super::speaker::Speaker;
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
        let route = format!("/app/hook/deliveries?per_page={PAGE}");
        self.must_be_app(&route)?;
        let ends = |page: &Vec<HookDelivery>| page.last().is_some_and(|delivery| delivery.delivered_at < since);
        let pages: Vec<Vec<HookDelivery>> = self.wire.pages(Speaker::App, &route, PAGE, Vec::len, ends).await?;
        Ok(pages.into_iter().flatten().filter(|delivery| delivery.delivered_at >= since).collect())
    }

    /// Asks GitHub to deliver again; the event keeps its GUID.
    ///
    /// # Errors
    /// [`GitHubError::NotAnApp`] without an App, [`GitHubError::Invalid`] for what is too old.
    pub async fn redeliver(&self, id: u64) -> Result<(), GitHubError> {
        let route = format!("/app/hook/deliveries/{id}/attempts");
        self.must_be_app(&route)?;
        self.wire.exchange(Speaker::App, Ask { method: &Method::POST, route: &route, body: None }).await.map(drop)
    }
}
