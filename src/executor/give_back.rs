//! Giving a held job back when benchd stops and is not to leave its container running.

use std::time::Duration;

use super::container::Limits;
use super::docker::EngineError;
use super::job::{ONLY_PASS, Worker, key_of, pass_id};
use super::life::{Phase, find};
use super::outcome::OUTCOME_FILE;
use crate::queue::{ClaimedJob, Outcome};
use crate::store::StoreError;

/// How long an engine that is away is waited for when benchd stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What became of a job that was to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum GivenBack {
    /// It is queued again.
    Queued,
    /// Its container has ended already: there is something to collect.
    HasEnded,
}

/// Why a job was not given back.
#[derive(Debug, thiserror::Error)]
pub enum GiveBackError {
    /// The engine did not do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store did not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Worker {
    /// Queues a held job again, without counting the attempt, and stops and removes its container. What has ended by
    /// itself is left as it is: the next start collects it. The store is told first: a container that was stopped is never
    /// taken for one that ended, wherever the process dies.
    ///
    /// # Errors
    /// When the engine does not answer soon or the store cannot be written; the job is then adopted by the next start, or
    /// its container is removed by it.
    pub async fn give_back(&self, claimed: &ClaimedJob) -> Result<GivenBack, GiveBackError> {
        let dir = self.artifacts.pass_dir(key_of(claimed), ONLY_PASS);
        if dir.join(OUTCOME_FILE).exists() {
            return Ok(GivenBack::HasEnded);
        }
        let container = find(&self.engine, pass_id(claimed), STOP_PATIENCE).await?;
        if let Some(container) = &container
            && container.look(false).await?.phase == Phase::Ended
        {
            return Ok(GivenBack::HasEnded);
        }
        let _either: Outcome = self.queue.give_back(&claimed.claim, "benchd was stopped").await?;
        if let Some(container) = container {
            container.stop(Limits::default().stop_grace).await?;
            container.remove().await?;
        }
        Ok(GivenBack::Queued)
    }
}
