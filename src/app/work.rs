//! The daemon's task that executes jobs: adopts what an earlier daemon left running, then claims whatever fits the
//! host's free devices. A stop begins nothing new and drops the jobs at hand, whose containers go on or are stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::alive::end_what_is_left;
use super::runner::connect_engine;
use super::serve::{Daemon, ServeError, has_room, worker_on};
use crate::config::{OnStop, WhenBusy, environment};
use crate::executor::container::PassId;
use crate::executor::device::Tools;
use crate::executor::docker::Engine;
use crate::executor::give_back::GivenBack;
use crate::executor::job::{JobEvent, Worker};
use crate::executor::life::remove_leftovers;
use crate::executor::telemetry::{Usage, usage};
use crate::health::{Health, Part, Pulse, with_causes};
use crate::model::{BusyDevice, Conclusion, DeviceId, FailureKind, JobId, JobState};
use crate::queue::{AttemptEnd, ClaimOffer, ClaimedJob, Heartbeat};
use crate::store::{JobRow, RunFilter, StoreError};
use crate::trigger::Context;
use crate::trigger::looks::LookError;
use crate::trigger::pull::{MayStart, may_start};

/// How often a job is asked for when nothing that this process wrote wakes the task: for what other processes wrote, for
/// waits that are over and devices that others gave back.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long stopping a container may take when the daemon stops; less than service managers wait.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(40);
/// How long a job waits for a database that cannot be written before it tries again.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often an engine that is away is looked for.
const CONNECT_EVERY: Duration = Duration::from_secs(5);

/// How often what a killed `benchd run` left is looked for.
const CLEAR_EVERY: Duration = Duration::from_secs(10);

/// How often this host shows that it is there, so that it does not look dead while nothing is claimed.
const PRESENT_EVERY: Duration = Duration::from_secs(60);

/// Executes jobs until `stop`.
pub(super) async fn run(
    daemon: Arc<Daemon>,
    context: Context,
    pulse: Pulse,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Some(engine) = engine(&daemon, &pulse, &stop).await else { return Ok(()) };
    let worker = Arc::new(worker_on(&daemon, engine));
    let mut jobs = JoinSet::new();
    let Some(adopted) = adopted(&daemon, &pulse, &stop).await else { return Ok(()) };
    for claimed in adopted {
        tracing::info!(job.id = %claimed.claim.job, job.attempt = claimed.claim.attempt, "adopting a job");
        if may_begin(&daemon, &context, &claimed).await {
            begin(&mut jobs, &daemon.health, &worker, claimed);
        }
    }
    let mut is_swept = sweep_engine(&daemon, &worker).await;
    let mut clearing = interval(CLEAR_EVERY);
    clearing.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    let mut presenting = interval(PRESENT_EVERY);
    presenting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Before the first look, so that nothing is missed in between.
    let mut changes = daemon.store.changes();
    while !stop.is_cancelled() {
        pulse.beat();
        match claim_one(&daemon, &worker).await {
            Ok(Some(claimed)) => {
                if may_begin(&daemon, &context, &claimed).await {
                    begin(&mut jobs, &daemon.health, &worker, claimed);
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => daemon.health.trouble(Part::Database, with_causes(&error)),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = jobs.join_next() => { ended?; }
            // The sender lives as long as the store.
            _sender = changes.changed() => {}
            _ = clearing.tick() => {
                clear(&daemon, &worker).await;
                is_swept = is_swept || sweep_engine(&daemon, &worker).await;
            }
            _ = presenting.tick() => present(&daemon).await,
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
    let becomes = match daemon.config.execution.on_stop {
        OnStop::Leave => "go on and are adopted by the next start",
        OnStop::Stop => "are stopped, their jobs wait for the next start",
    };
    daemon.health.trouble(Part::Draining, format!("stopping; running containers {becomes}"));
    // Dropped, not cancelled: a container goes on without its follower.
    jobs.abort_all();
    while jobs.join_next().await.is_some() {}
    match daemon.config.execution.on_stop {
        OnStop::Leave => {}
        OnStop::Stop => give_back_all(&daemon, &worker).await,
    }
    Ok(())
}

/// Stops the containers of all jobs at hand and queues the jobs again; what cannot be stopped in time goes on.
async fn give_back_all(daemon: &Daemon, worker: &Arc<Worker>) {
    let held = match daemon.queue.held(&daemon.name).await {
        Ok(held) => held,
        Err(error) => return tracing::warn!("failed to look for jobs to stop: {}", with_causes(&error)),
    };
    let mut stopping = JoinSet::new();
    for claimed in held {
        let worker = worker.clone();
        stopping.spawn(async move {
            let job = claimed.claim.job;
            match tokio::time::timeout(GIVE_BACK_WITHIN, worker.give_back(&claimed)).await {
                Ok(Ok(GivenBack::Queued)) => {}
                Ok(Ok(GivenBack::HasEnded)) => tracing::info!(job.id = %job, "has ended, the next start collects it"),
                Ok(Err(error)) => tracing::warn!(job.id = %job, "failed to stop a job: {}", with_causes(&error)),
                Err(_elapsed) => tracing::warn!(job.id = %job, "a job was not stopped within {GIVE_BACK_WITHIN:?}"),
            }
        });
    }
    while stopping.join_next().await.is_some() {}
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

/// The jobs that this runner still holds, as soon as the store can be written: a job that is not adopted runs on beside
/// its next attempt. `None` when the daemon stops before.
async fn adopted(daemon: &Daemon, pulse: &Pulse, stop: &CancellationToken) -> Option<Vec<ClaimedJob>> {
    loop {
        pulse.beat();
        match adopt(daemon).await {
            Ok(adopted) => return Some(adopted),
            Err(error) => {
                tracing::warn!("failed to look for jobs to adopt, trying again: {}", with_causes(&error));
                daemon.health.trouble(Part::Database, with_causes(&error));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(WRITE_AGAIN_AFTER) => {}
        }
    }
}

/// The jobs that this runner still holds, their leases renewed.
async fn adopt(daemon: &Daemon) -> Result<Vec<ClaimedJob>, StoreError> {
    let mut held = Vec::new();
    for claimed in daemon.queue.held(&daemon.name).await? {
        match daemon.queue.heartbeat(&claimed.claim).await? {
            Heartbeat::Renewed { lease_until } => held.push(ClaimedJob { lease_until, ..claimed }),
            Heartbeat::Lost => {}
        }
    }
    Ok(held)
}

/// Removes the containers of attempts that are over; whether that was done.
async fn sweep_engine(daemon: &Daemon, worker: &Worker) -> bool {
    let known = match held_attempts(daemon).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!("failed to look for left containers, trying again: {}", with_causes(&error));
            return false;
        }
    };
    // Only what this store knows to be over: another benchd may use the same engine.
    let keep = |pass: &PassId| known.get(&pass.job).is_none_or(|held| *held == Some(pass.attempt));
    match remove_leftovers(&worker.engine, keep).await {
        Ok(removed) if removed.is_empty() => true,
        Ok(removed) => {
            tracing::info!("removed {} containers of attempts that are over", removed.len());
            true
        }
        Err(error) => {
            tracing::warn!("failed to look for left containers, trying again: {}", with_causes(&error));
            false
        }
    }
}

/// The jobs of the newest runs, each with the attempt that somebody holds.
async fn held_attempts(daemon: &Daemon) -> Result<BTreeMap<JobId, Option<u32>>, StoreError> {
    let mut known = BTreeMap::new();
    for run in daemon.store.list_runs(1000, &RunFilter::default()).await? {
        for job in daemon.store.jobs_of_run(run.run.id).await? {
            known.insert(job.id, held_attempt(&job));
        }
    }
    Ok(known)
}

/// Says that this host is there, with what it offers.
async fn present(daemon: &Daemon) {
    if let Err(error) = daemon.queue.present(&offer(daemon)).await {
        tracing::warn!("failed to note this runner: {}", with_causes(&error));
    }
}

/// Ends what killed `benchd run` processes left on this host.
async fn clear(daemon: &Daemon, worker: &Worker) {
    match end_what_is_left(&worker.engine, &daemon.store, &daemon.queue, &daemon.config.state_dir).await {
        Ok(runs) => {
            runs.iter().for_each(|run| tracing::info!(run.id = %run, "removed what a killed `benchd run` left"))
        }
        Err(error) => tracing::warn!("failed to remove what a killed `benchd run` left: {}", with_causes(&error)),
    }
}

/// The attempt of a job that somebody holds.
fn held_attempt(job: &JobRow) -> Option<u32> {
    match job.state {
        JobState::Claimed { attempt, .. } | JobState::Running { attempt, .. } => Some(attempt),
        JobState::WaitingForImage { .. } | JobState::Queued { .. } | JobState::Finished { .. } => None,
    }
}

fn begin(jobs: &mut JoinSet<()>, health: &Health, worker: &Arc<Worker>, claimed: ClaimedJob) {
    let (worker, health) = (worker.clone(), health.clone());
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
                Ok(conclusion) => {
                    tracing::info!(job.id = %job, "the attempt ended: {conclusion}");
                    if conclusion == Conclusion::Failure(FailureKind::RegistryUnavailable) {
                        health.trouble(Part::Registry, format!("job {job}: {conclusion}"));
                    } else if !conclusion.is_infrastructure() {
                        // Its image was had.
                        health.well(Part::Registry);
                    }
                }
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

/// All of this host, with nobody else on it.
fn offer(daemon: &Daemon) -> ClaimOffer {
    ClaimOffer { by: daemon.name.clone(), host: daemon.host.clone(), busy: Vec::new(), run: None }
}

/// Whether a job that is held may begin: a fork's commit that is approved one by one only while somebody who approved
/// it still may. One that may not is ended; where GitHub does not say, the attempt is and comes again.
async fn may_begin(daemon: &Daemon, context: &Context, claimed: &ClaimedJob) -> bool {
    let (job, run) = (claimed.claim.job, claimed.job.run);
    match claimed.job.state {
        // It was asked about before.
        JobState::Running { .. } => return true,
        JobState::WaitingForImage { .. }
        | JobState::Queued { .. }
        | JobState::Claimed { .. }
        | JobState::Finished { .. } => {}
    }
    let error = match may_start(context, run, daemon.clock.now()).await {
        Ok(MayStart::Yes) => return true,
        Ok(MayStart::No { why }) => {
            tracing::info!(job.id = %job, run.id = %run, "not started: {why}");
            return false;
        }
        // Its lease runs out, then it comes again.
        Err(LookError::Store(error)) => {
            daemon.health.trouble(Part::Database, with_causes(&error));
            return false;
        }
        Err(error) => with_causes(&error),
    };
    tracing::warn!(job.id = %job, "failed to ask whether the commit is still approved: {error}");
    daemon.health.trouble(Part::Github, format!("job {job}: {error}"));
    let end = AttemptEnd {
        conclusion: Conclusion::Failure(FailureKind::GithubUnavailable),
        message: Some(error),
        artifact_bytes: None,
    };
    if let Err(error) = daemon.queue.finish(&claimed.claim, &end).await {
        tracing::warn!(job.id = %job, "failed to give a job back: {}", with_causes(&error));
    }
    false
}

async fn claim_one(daemon: &Daemon, worker: &Worker) -> Result<Option<ClaimedJob>, StoreError> {
    if !daemon.store.has_claimable(daemon.clock.now()).await? {
        // Nobody waits for them.
        daemon.health.well(Part::Devices);
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
    let free = offer(daemon);
    // While no job could begin anyway, nobody is asked: what is being measured is not disturbed.
    if !daemon.queue.would_begin(&free).await? {
        return Ok(None);
    }
    let Some(busy) = busy(daemon).await? else { return Ok(None) };
    daemon.queue.claim(&ClaimOffer { busy, ..free }).await
}

/// The devices that others use; `None` when the tool that tells it fails, which is not taken for "none".
async fn busy(daemon: &Daemon) -> Result<Option<Vec<BusyDevice>>, StoreError> {
    let platform = daemon.inventory.platform;
    match daemon.config.execution.when_busy(platform) {
        WhenBusy::Ignore => return Ok(Some(Vec::new())),
        WhenBusy::Wait => {}
    }
    let tools = Tools::in_folders(environment::search_path());
    let used = match usage(&tools, platform).await {
        Ok(Usage::Known(used)) => used,
        Ok(Usage::Unknown) => Vec::new(),
        Err(error) => {
            let reason = format!("whether the devices are free is not known: {}", with_causes(&error));
            daemon.health.trouble(Part::Devices, reason);
            return Ok(None);
        }
    };
    let held = daemon.store.jobs_held_on_host(&daemon.name).await?;
    let own: BTreeSet<DeviceId> = held.iter().flat_map(|held| held.claimed.slot.devices.iter().copied()).collect();
    let others: Vec<BusyDevice> = used.into_iter().filter(|busy| !own.contains(&busy.device)).collect();
    match others.first() {
        Some(one) => daemon.health.trouble(Part::Devices, format!("device {} is used by {}", one.device, one.by)),
        None => daemon.health.well(Part::Devices),
    }
    Ok(Some(others))
}
