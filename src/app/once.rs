//! One run on this host, from its plan to its deliveries, without a daemon: what `benchd run` does between reading its
//! arguments and printing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::alive::{AliveError, SignOfLife, end_what_is_left};
use super::runner::Runner;
use crate::config::Packing;
use crate::executor::job::{JobEvent, Worker};
use crate::health::with_causes;
use crate::model::{Conclusion, DeviceId, RunId, Target};
use crate::publish::outbox::Delivery;
use crate::queue::slots::Inventory;
use crate::queue::{ClaimOffer, ClaimedJob, RunPlan, Submitted};
use crate::store::OutboxRow;

/// How long removing old artifacts may keep a person waiting.
const SWEEP_WITHIN: Duration = Duration::from_secs(10);

/// What happens to a run, for whoever looks on.
#[derive(Clone, Debug)]
pub enum RunEvent<'a> {
    /// What the killed process of an earlier run left was removed.
    Cleared(RunId),
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
    pub deliveries: Vec<Delivery>,
    /// What became of what earlier runs still owed.
    pub earlier: Vec<Delivery>,
}

/// Submits `plan`, executes its jobs one after the other on `devices`, delivers what it owes. `None` when there is
/// nothing to measure.
///
/// # Errors
/// When the store cannot be read or written, or what a killed process left cannot be removed.
pub async fn measure(
    runner: &Runner,
    plan: &RunPlan,
    devices: &[u32],
    tell: &(dyn Fn(RunEvent<'_>) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<Option<Ended>, AliveError> {
    let state_dir = &runner.worker.state_dir;
    for run in end_what_is_left(&runner.worker.engine, &runner.store, &runner.queue, state_dir).await? {
        tell(RunEvent::Cleared(run));
    }
    let run = match runner.queue.submit_run(plan).await? {
        Submitted::Run(run) => run,
        Submitted::NothingToDo => return Ok(None),
    };
    let _alive = SignOfLife::of(run, state_dir)?;
    tell(RunEvent::Submitted { run, jobs: plan.jobs.len() });
    let Target { platform, device_type, .. } = runner.target();
    let ids = devices.iter().copied().map(DeviceId::from);
    let host = Inventory::new(platform, device_type, ids, Packing::Exclusive);
    let offer = ClaimOffer { by: runner.name.for_run(run), host, busy: Vec::new(), run: Some(run) };
    while !cancel.is_cancelled() {
        let Some(claimed) = runner.queue.claim(&offer).await? else { break };
        tell(RunEvent::JobBegan(&claimed));
        let listener = |event: JobEvent<'_>| tell(RunEvent::Job(event));
        let devices: Vec<_> = claimed.slot.devices.iter().map(|device| device.number()).collect();
        let conclusion = runner.worker.execute(&claimed, &devices, &listener, cancel).await?;
        tell(RunEvent::JobEnded(&conclusion));
    }
    if cancel.is_cancelled() {
        let _either = runner.queue.cancel(run, "stopped by a person").await?;
    }
    // What an interruption leaves owed is sent by a later call.
    let deliveries = tokio::select! {
        biased;
        () = cancel.cancelled() => Vec::new(),
        deliveries = runner.outbox.deliver_all(run) => deliveries?,
    };
    let _settled = runner.queue.settle().await?;
    sweep(runner).await;
    let (own, earlier): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(|(row, _)| row.run == run);
    let outcomes = |rows: Vec<(OutboxRow, Delivery)>| rows.into_iter().map(|(_, delivery)| delivery).collect();
    Ok(Some(Ended { run, interrupted: cancel.is_cancelled(), deliveries: outcomes(own), earlier: outcomes(earlier) }))
}

/// Removes old artifacts, as the daemon does now and then; what takes too long is left to the next run.
async fn sweep(runner: &Runner) {
    let Worker { artifacts, retention, clock, .. } = &runner.worker;
    let sweep = artifacts.sweep(&runner.store, &retention.artifacts, clock.now());
    match tokio::time::timeout(SWEEP_WITHIN, sweep).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!("failed to remove old artifacts: {}", with_causes(&error)),
        Err(_elapsed) => tracing::info!("old artifacts are left: removing them takes longer than {SWEEP_WITHIN:?}"),
    }
}
