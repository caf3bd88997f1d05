//! Pausing and resuming what starts work: the triggers, a host. Pauses are rows: they survive a restart.

use super::{Outcome, Queue};
use crate::model::{Control, Pause};
use crate::step::Step;
use crate::store::StoreError;

impl Queue {
    /// Pauses; a pause that stands already stays as it is ([`Outcome::Moved`]).
    pub async fn pause(&self, what: &Control, by: &str, why: Option<&str>) -> Result<Outcome, StoreError> {
        let mut write = self.store.write(Step::Pause).await?;
        let outcome = write.pause(what, by, why, self.clock.now()).await?;
        write.commit().await?;
        if outcome == Outcome::Performed {
            tracing::info!("{what} paused by {by}: {}", why.unwrap_or("no reason given"));
        }
        Ok(outcome)
    }

    /// Takes a pause back; [`Outcome::Moved`] when there was none.
    pub async fn resume(&self, what: &Control, by: &str) -> Result<Outcome, StoreError> {
        let mut write = self.store.write(Step::Resume).await?;
        let outcome = write.resume(what).await?;
        write.commit().await?;
        if outcome == Outcome::Performed {
            tracing::info!("{what} resumed by {by}");
        }
        Ok(outcome)
    }

    /// All pauses that stand.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        self.store.pauses().await
    }

    /// The pause of one thing, if it is paused: what starts runs by itself asks for [`Control::Triggers`].
    pub async fn pause_of(&self, what: &Control) -> Result<Option<Pause>, StoreError> {
        Ok(self.pauses().await?.into_iter().find(|pause| pause.what == *what))
    }
}
