//! One run on this host, from its plan to its deliveries, without a daemon: what `benchd run` does between reading its
//! arguments and printing.

use tokio_util::sync::CancellationToken;

use super::runner::Runner;
use crate::executor::job::JobEvent;
use crate::model::{Conclusion, RunId};
use crate::publish::outbox::Delivery;
use crate::queue::{ClaimOffer, ClaimedJob, RunPlan, Submitted};
use crate::store::{OutboxRow, StoreError};

/// How often deliveries are tried before they are left to a later call.
const DELIVERY_ROUNDS: usize = 3;

/// What happens to a run, for whoever looks on.
#[derive(Clone, Debug)]
pub enum RunEvent<'a> {
    /// It stands in the store.
    Submitted {
        /// Its id.
        run: RunId,
        /// How many jobs it has.
        jobs: usize,
    },
    /// A job begins.
    JobBegan(&'a ClaimedJob),
    /// Something happens to the job at hand.
    Job(JobEvent<'a>),
    /// The job at hand ended.
    JobEnded(&'a Conclusion),
}

/// What a run came to.
pub struct Ended {
    /// The run.
    pub run: RunId,
    /// Whether it was stopped by a person.
    pub interrupted: bool,
    /// What became of what it owed.
    pub deliveries: Vec<(OutboxRow, Delivery)>,
}

/// Submits `plan`, executes its jobs one after the other on `devices`, delivers what it owes. `None` when there is
/// nothing to measure.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn measure(
    runner: &Runner,
    plan: &RunPlan,
    devices: &[u32],
    tell: &(dyn Fn(RunEvent<'_>) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<Option<Ended>, StoreError> {
    let run = match runner.queue.submit_run(plan).await? {
        Submitted::Run(run) => run,
        Submitted::NothingToDo => return Ok(None),
    };
    tell(RunEvent::Submitted { run, jobs: plan.jobs.len() });
    let offer = ClaimOffer { by: runner.name.clone(), target: runner.target(), run: Some(run) };
    while !cancel.is_cancelled() {
        let Some(claimed) = runner.queue.claim(&offer).await? else { break };
        tell(RunEvent::JobBegan(&claimed));
        let listener = |event: JobEvent<'_>| tell(RunEvent::Job(event));
        let conclusion = runner.worker.execute(&claimed, devices_of(&claimed, devices), &listener, cancel).await?;
        tell(RunEvent::JobEnded(&conclusion));
    }
    let interrupted = cancel.is_cancelled();
    if interrupted {
        runner.queue.cancel(run).await?;
    }
    let mut deliveries = Vec::new();
    for _ in 0..DELIVERY_ROUNDS {
        let round = runner.outbox.deliver_due(Some(run)).await?;
        let open = round.iter().any(|(_, delivery)| matches!(delivery, Delivery::Postponed { .. }));
        deliveries = merged(deliveries, round);
        if !open {
            break;
        }
    }
    let _settled = runner.queue.settle().await?;
    Ok(Some(Ended { run, interrupted, deliveries }))
}

/// The first of the devices, as many as the job needs.
fn devices_of<'a>(claimed: &ClaimedJob, devices: &'a [u32]) -> &'a [u32] {
    let count = usize::try_from(claimed.job.target.count).unwrap_or(usize::MAX);
    devices.get(..count).unwrap_or(devices)
}

/// The newest word on every row.
fn merged(mut before: Vec<(OutboxRow, Delivery)>, round: Vec<(OutboxRow, Delivery)>) -> Vec<(OutboxRow, Delivery)> {
    before.retain(|(row, _)| round.iter().all(|(newer, _)| newer.id != row.id));
    before.extend(round);
    before
}
