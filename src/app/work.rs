//! The daemon's task that executes jobs: adopts what an earlier daemon left running, then claims whatever fits the
//! host's free devices. A stop begins nothing new and drops the jobs at hand, whose containers go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::runner::connect_engine;
use super::serve::{Daemon, ROOM_NEEDED_BYTES, ServeError, worker_on};
use crate::config::environment;
use crate::executor::container::PassId;
use crate::executor::device::Tools;
use crate::executor::docker::Engine;
use crate::executor::job::{JobEvent, Worker};
use crate::executor::life::remove_leftovers;
use crate::executor::room::disk_room;
use crate::executor::telemetry::{Usage, usage};
use crate::health::{Part, Pulse, with_causes};
use crate::model::{BusyDevice, DeviceId, JobState, Platform};
use crate::queue::slots::Inventory;
use crate::queue::{ClaimOffer, ClaimedJob, Heartbeat};
use crate::store::{JobRow, RunFilter, StoreError};

/// How often a job is asked for, and a lost engine looked for.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a job waits for a database that cannot be written before it tries again.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often an engine that is away is looked for.
const CONNECT_EVERY: Duration = Duration::from_secs(5);

/// Executes jobs until `stop`.
pub(super) async fn run(daemon: Arc<Daemon>, pulse: Pulse, stop: CancellationToken) -> Result<(), ServeError> {
    let Some(engine) = engine(&daemon, &pulse, &stop).await else { return Ok(()) };
    let worker = Arc::new(worker_on(&daemon, engine));
    let mut jobs = JoinSet::new();
    match adopt(&daemon, &worker).await {
        Ok(adopted) => {
            for claimed in adopted {
                tracing::info!(job.id = %claimed.claim.job, job.attempt = claimed.claim.attempt, "adopting a job");
                begin(&mut jobs, &worker, claimed);
            }
        }
        Err(error) => tracing::warn!("failed to look for jobs to adopt: {}", with_causes(&error)),
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = jobs.join_next() => { ended?; }
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
        pulse.beat();
        match claim_one(&daemon, &worker).await {
            Ok(Some(claimed)) => begin(&mut jobs, &worker, claimed),
            Ok(None) => {}
            Err(error) => daemon.health.trouble(Part::Database, with_causes(&error)),
        }
    }
    daemon.health.trouble(Part::Draining, "stopping; running containers go on and are adopted by the next start");
    // Dropped, not cancelled: a container goes on without its follower.
    jobs.abort_all();
    while jobs.join_next().await.is_some() {}
    Ok(())
}

/// The engine, as soon as it answers; `None` when the daemon stops before.
async fn engine(daemon: &Daemon, pulse: &Pulse, stop: &CancellationToken) -> Option<Engine> {
    loop {
        pulse.beat();
        // An engine that hangs holds up no stop.
        let connected = tokio::select! {
            () = stop.cancelled() => return None,
            connected = connect_engine(&daemon.config) => connected,
        };
        daemon.health.report(Part::Engine, &connected);
        if let Ok(engine) = connected {
            return Some(engine);
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(CONNECT_EVERY) => {}
        }
    }
}

/// The jobs that this runner still holds, their leases renewed; containers of attempts that are over are removed.
async fn adopt(daemon: &Daemon, worker: &Worker) -> Result<Vec<ClaimedJob>, StoreError> {
    let mut held = Vec::new();
    for claimed in daemon.queue.held(&daemon.name).await? {
        match daemon.queue.heartbeat(&claimed.claim).await? {
            Heartbeat::Renewed { lease_until } => held.push(ClaimedJob { lease_until, ..claimed }),
            Heartbeat::Lost => {}
        }
    }
    let mut known = BTreeMap::new();
    for run in daemon.store.list_runs(1000, &RunFilter::default()).await? {
        for job in daemon.store.jobs_of_run(run.run.id).await? {
            known.insert(job.id, held_attempt(&job));
        }
    }
    // Only what this store knows to be over: another benchd may use the same engine.
    let keep = |pass: &PassId| known.get(&pass.job).is_none_or(|held| *held == Some(pass.attempt));
    match remove_leftovers(&worker.engine, keep).await {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => tracing::info!("removed {} containers of attempts that are over", removed.len()),
        Err(error) => tracing::warn!("failed to look for left containers: {}", with_causes(&error)),
    }
    Ok(held)
}

/// The attempt of a job that somebody holds.
fn held_attempt(job: &JobRow) -> Option<u32> {
    match job.state {
        JobState::Claimed { attempt, .. } | JobState::Running { attempt, .. } => Some(attempt),
        JobState::WaitingForImage { .. } | JobState::Queued { .. } | JobState::Finished { .. } => None,
    }
}

fn begin(jobs: &mut JoinSet<()>, worker: &Arc<Worker>, claimed: ClaimedJob) {
    let worker = worker.clone();
    jobs.spawn(async move {
        let job = claimed.claim.job;
        let devices: Vec<u32> = claimed.slot.devices.iter().map(|device| device.number()).collect();
        // A cancelled run is learnt by the next heartbeat.
        let cancel = CancellationToken::new();
        let log = |event: JobEvent<'_>| {
            if let JobEvent::Notice(notice) = event {
                tracing::warn!(job.id = %job, "{notice}");
            }
        };
        loop {
            match Box::pin(worker.execute(&claimed, &devices, &log, &cancel)).await {
                Ok(conclusion) => tracing::info!(job.id = %job, "the attempt ended: {conclusion}"),
                // What was measured is kept beside the store: the same attempt goes on from it.
                Err(error @ (StoreError::Locked { .. } | StoreError::DiskFull { .. })) => {
                    tracing::warn!(job.id = %job, "failed to write down a job, trying again: {}", with_causes(&error));
                    tokio::time::sleep(WRITE_AGAIN_AFTER).await;
                    continue;
                }
                Err(error) => tracing::error!(job.id = %job, "failed to write down a job: {}", with_causes(&error)),
            }
            break;
        }
    });
}

async fn claim_one(daemon: &Daemon, worker: &Worker) -> Result<Option<ClaimedJob>, StoreError> {
    if !daemon.store.has_claimable(daemon.clock.now()).await? {
        return Ok(None);
    }
    let alive = worker.engine.ping().await;
    daemon.health.report(Part::Engine, &alive);
    if alive.is_err() {
        return Ok(None);
    }
    if !has_room(daemon) {
        return Ok(None);
    }
    let inventory = &daemon.inventory;
    let ids: Vec<DeviceId> = inventory.device_numbers().into_iter().map(DeviceId::from).collect();
    let packing = daemon.config.execution.packing;
    let offer = ClaimOffer {
        by: daemon.name.clone(),
        host: Inventory::new(inventory.platform, inventory.device_type.clone(), ids, packing),
        busy: busy(daemon).await?,
        run: None,
    };
    daemon.queue.claim(&offer).await
}

/// Whether a job finds room on the state directory's disk; where the disk does not say, it is tried.
fn has_room(daemon: &Daemon) -> bool {
    let Ok(room) = disk_room(&daemon.config.state_dir) else { return true };
    let enough = room.free_bytes >= ROOM_NEEDED_BYTES;
    match enough {
        true => daemon.health.well(Part::Disk),
        false => {
            let reason = format!("{} MiB are free in the state directory", room.free_bytes >> 20);
            daemon.health.trouble(Part::Disk, reason);
        }
    }
    enough
}

/// Devices that others use. Processors are never anybody's alone, so that their load is not asked for.
async fn busy(daemon: &Daemon) -> Result<Vec<BusyDevice>, StoreError> {
    let platform = daemon.inventory.platform;
    match platform {
        Platform::Cpu | Platform::Arm64Cpu | Platform::Hpu => return Ok(Vec::new()),
        Platform::Cuda | Platform::Rocm => {}
    }
    let tools = Tools::in_folders(environment::search_path());
    let used = match usage(&tools, platform).await {
        Ok(Usage::Known(used)) => used,
        Ok(Usage::Unknown) => Vec::new(),
        Err(error) => {
            daemon.health.trouble(Part::Devices, with_causes(&error));
            return Ok(Vec::new());
        }
    };
    let held = daemon.queue.held(&daemon.name).await?;
    let own: BTreeSet<DeviceId> = held.iter().flat_map(|claimed| claimed.slot.devices.iter().copied()).collect();
    let others: Vec<BusyDevice> = used.into_iter().filter(|busy| !own.contains(&busy.device)).collect();
    match others.first() {
        Some(one) => daemon.health.trouble(Part::Devices, format!("device {} is used by {}", one.device, one.by)),
        None => daemon.health.well(Part::Devices),
    }
    Ok(others)
}
