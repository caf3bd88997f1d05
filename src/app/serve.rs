//! The daemon: named tasks that each look at the rows and move them one step, until it is told to stop. Everything it
//! does is repeatable, so that a kill at any moment is a restart.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::runner::{self, OpenError, connect_github, detect, host_name, host_of, outbox, target_of};
use super::{images, work};
use crate::clock::Clock;
use crate::config::{Config, human};
use crate::executor::device::DeviceInventory;
use crate::executor::room::disk_room;
use crate::health::{Health, Part, Pulse, Trouble, with_causes};
use crate::http::{self, AppState};
use crate::model::RunnerName;
use crate::publish::outbox::{Delivery, Outbox};
use crate::publish::tell::Teller;
use crate::queue::slots::Inventory;
use crate::queue::{Pace, Queue};
use crate::registry::{Registry, RegistrySettings};
use crate::store::artifacts::Artifacts;
use crate::store::{Store, StoreError};
use crate::trigger::{Context, looks, reconcile, schedule};

/// Name of the file that a running daemon locks in its state directory.
pub const LOCK_FILE: &str = "benchd.lock";
/// How often the rows are looked at when nothing that this process wrote wakes a task. Every task waits first, so that
/// a fault that repeats is no busy loop.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often old artifacts are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How long after the stop a task may go on with what it is at (an upload, a look-up) before that is broken off.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
/// Below this much room on the state directory's disk no job is begun, in bytes.
const ROOM_NEEDED_BYTES: u64 = 512 << 20;
/// How often the service manager is told how the daemon is, where it keeps no watch.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How long a task may be silent before the daemon counts as hanging.
const SILENT_AT_MOST: Duration = Duration::from_secs(900);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another daemon uses the state directory.
    #[error("another benchd runs with the state directory {}: stop it, or give each its own `state_dir`", dir.display())]
    Running {
        /// The directory.
        dir: PathBuf,
    },
    /// The state directory cannot be locked.
    #[error("failed to lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("failed to listen on {address} (`http.listen`)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A part of the daemon cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A schedule cannot be followed.
    #[error(transparent)]
    Schedule(#[from] schedule::ScheduleError),
    /// The web server failed.
    #[error(transparent)]
    Http(#[from] http::ServeError),
    /// A task ended by a panic.
    #[error("a task of the daemon has failed")]
    Task(#[from] tokio::task::JoinError),
}

impl ServeError {
    /// Whether what a person gave is at fault, rather than something outside.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Open(error) => error.is_usage(),
            Self::Schedule(schedule::ScheduleError::Expression { .. }) => true,
            Self::Running { .. }
            | Self::Lock { .. }
            | Self::Listen { .. }
            | Self::Schedule(_)
            | Self::Http(_)
            | Self::Task(_) => false,
        }
    }
}

/// What the tasks share.
pub(super) struct Daemon {
    pub(super) config: Arc<Config>,
    pub(super) name: RunnerName,
    pub(super) inventory: DeviceInventory,
    /// The same as what jobs may have.
    pub(super) host: Inventory,
    pub(super) store: Store,
    pub(super) queue: Queue,
    pub(super) registry: Arc<Registry>,
    pub(super) health: Health,
    pub(super) clock: Clock,
    artifacts: Artifacts,
    outbox: Outbox,
}

/// Runs the daemon until `stop` is cancelled: then no job is begun any more, and running containers go on or are stopped
/// (`execution.on_stop`). `ready` is called with the addresses once requests are answered.
///
/// # Errors
/// When a part of it cannot be opened, or a task fails.
pub async fn serve(
    config: Config,
    clock: Clock,
    stop: CancellationToken,
    ready: impl FnOnce(&[SocketAddr]),
) -> Result<(), ServeError> {
    // A broken schedule is told before anything is begun.
    schedule::configured(&config)?;
    let config = Arc::new(config);
    let _lock = lock(&config.state_dir)?;
    let (daemon, context) = open(&config, &clock).await?;
    let mut listeners = Vec::new();
    for address in &config.http.listen {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.map_err(|source| ServeError::Listen { address: *address, source })?);
    }
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let state = AppState::new(context.clone(), daemon.health.clone(), daemon.name.clone(), stop.child_token());
    let mut tasks: JoinSet<Result<(), ServeError>> = JoinSet::new();
    let pulse = |name| daemon.health.task(name, SILENT_AT_MOST);
    tasks.spawn(looping(settle_one, daemon.clone(), pulse("settle"), Rhythm::OnChange, stop.clone()));
    tasks.spawn(looping(sweep_one, daemon.clone(), pulse("sweep"), Rhythm::Every(SWEEP_EVERY), stop.clone()));
    tasks.spawn(images::run(daemon.clone(), pulse("images"), stop.clone()));
    tasks.spawn(looping(deliver_one, daemon.clone(), pulse("deliver"), Rhythm::OnChange, stop.clone()));
    tasks.spawn(work::run(daemon.clone(), context.clone(), pulse("work"), stop.clone()));
    let (looking, health, stopped) = (context.clone(), daemon.health.clone(), stop.clone());
    let looked = pulse("github");
    tasks.spawn(async move {
        looks::run(looking, health, looked, stopped).await;
        Ok(())
    });
    let (asking, health, stopped) = (context.clone(), daemon.health.clone(), stop.clone());
    let asked = pulse("reconcile");
    tasks.spawn(async move {
        reconcile::run(asking, health, asked, stopped).await;
        Ok(())
    });
    if let Some(github) = context.github.clone() {
        let teller = Teller::new(
            daemon.store.clone(),
            daemon.queue.clone(),
            github,
            config.clone(),
            daemon.health.clone(),
            clock.clone(),
        );
        let (told, stopped) = (pulse("tell"), stop.clone());
        tasks.spawn(async move {
            teller.run(told, stopped).await;
            Ok(())
        });
    }
    let (scheduled, stopped) = (context, stop.clone());
    tasks.spawn(async move { Ok(schedule::run(scheduled, stopped).await?) });
    let (serving, stopped) = (state, stop.clone());
    tasks.spawn(async move { Ok(http::serve(listeners, serving, stopped).await?) });
    tasks.spawn(watchdog(daemon.health.clone(), stop.clone()));
    ready(&addresses);
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status(&daemon.health))]);
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended.map_err(ServeError::from).and_then(|ended| ended) {
            // One task that cannot go on ends all: the service manager starts the daemon anew.
            stop.cancel();
            result = Err(error);
        }
    }
    daemon.store.close().await;
    result
}

async fn open(config: &Arc<Config>, clock: &Clock) -> Result<(Arc<Daemon>, Context), ServeError> {
    let inventory = detect(config).await.map_err(OpenError::from)?;
    let settings = RegistrySettings::configured(&config.registries).map_err(OpenError::from)?;
    let registry = Arc::new(Registry::new(settings).map_err(OpenError::from)?);
    let store = Store::open(&config.state_dir).await.map_err(OpenError::from)?;
    let queue = Queue::new(store.clone(), clock.clone(), Pace::default());
    let daemon = Arc::new(Daemon {
        config: config.clone(),
        name: host_name().map_err(OpenError::from)?,
        store: store.clone(),
        queue: queue.clone(),
        registry: registry.clone(),
        health: Health::new(clock.clone()),
        clock: clock.clone(),
        artifacts: Artifacts::new(&config.state_dir),
        outbox: outbox(config, &store, &queue, &config.state_dir, clock),
        host: host_of(config, &inventory).await,
        inventory,
    });
    let context = Context {
        config: config.clone(),
        store,
        queue,
        github: Some(connect_github(config)?),
        registry,
        clock: clock.clone(),
        target: target_of(&daemon.inventory),
        cache: config.state_dir.join("benchmarks"),
    };
    Ok((daemon, context))
}

/// Keeps a second daemon from the same state directory, for as long as the file is open.
fn lock(dir: &Path) -> Result<File, ServeError> {
    let path = dir.join(LOCK_FILE);
    let failed = |source| ServeError::Lock { path: path.clone(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::Running { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// When a task looks again.
#[derive(Clone, Copy)]
enum Rhythm {
    /// When a row has changed that may give it something to do, and now and then.
    OnChange,
    /// After this time.
    Every(Duration),
}

/// What `work` comes to; `None` when it had not come to anything so long after the stop. Whatever the daemon
/// does may be broken off: a kill would do the same.
async fn unless_stopped<T>(stop: &CancellationToken, after: Duration, work: impl Future<Output = T>) -> Option<T> {
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(after).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = stopped => None,
    }
}

/// Runs `one` again and again; it only logs what `one` could not do, waits and listens for the stop.
async fn looping<F>(
    one: impl Fn(Arc<Daemon>) -> F + Send,
    daemon: Arc<Daemon>,
    pulse: Pulse,
    rhythm: Rhythm,
    stop: CancellationToken,
) -> Result<(), ServeError>
where
    F: Future<Output = Result<(), StoreError>> + Send,
{
    let mut changes = daemon.store.changes();
    loop {
        let wait = async {
            match rhythm {
                Rhythm::Every(every) => tokio::time::sleep(every).await,
                Rhythm::OnChange => tokio::select! {
                    // The sender lives as long as the store.
                    _sender = changes.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                },
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = wait => {}
        }
        pulse.beat();
        let Some(done) = unless_stopped(&stop, FINISH_WITHIN, one(daemon.clone())).await else { return Ok(()) };
        if let Err(error) = done {
            // Reading alone may work while nothing can be written: well it is when settling says so.
            daemon.health.trouble(Part::Database, with_causes(&error));
            tracing::warn!("failed to move the rows on: {}", with_causes(&error));
        }
    }
}

async fn settle_one(daemon: Arc<Daemon>) -> Result<(), StoreError> {
    // Also while no job waits: what runs needs room too.
    let _told = has_room(&daemon);
    daemon.store.ping().await?;
    daemon.health.well(Part::Database);
    let paused = daemon.queue.pauses().await?;
    match paused.first() {
        Some(pause) => daemon.health.trouble(Part::Paused, format!("{} is paused by {}", pause.what, pause.by)),
        None => daemon.health.well(Part::Paused),
    }
    daemon.queue.settle().await.map(drop)
}

/// Whether a job finds room on the state directory's disk, which is told; where the disk does not say, it is tried.
pub(super) fn has_room(daemon: &Daemon) -> bool {
    match disk_room(&daemon.config.state_dir) {
        Ok(room) if room.free_bytes < ROOM_NEEDED_BYTES => {
            daemon.health.trouble(Part::Disk, format!("{} are free in the state directory", human(room.free_bytes)));
            false
        }
        Ok(_) => {
            daemon.health.well(Part::Disk);
            true
        }
        Err(error) => {
            daemon.health.trouble(Part::Disk, with_causes(&error));
            true
        }
    }
}

async fn sweep_one(daemon: Arc<Daemon>) -> Result<(), StoreError> {
    let limits = &daemon.config.retention.artifacts;
    match daemon.artifacts.sweep(&daemon.store, limits, daemon.clock.now()).await {
        Ok(swept) if swept.attempts.is_empty() => {}
        Ok(swept) => tracing::info!("removed artifacts of {} attempts, {} bytes", swept.attempts.len(), swept.bytes),
        Err(error) => tracing::warn!("failed to remove old artifacts: {}", with_causes(&error)),
    }
    Ok(())
}

async fn deliver_one(daemon: Arc<Daemon>) -> Result<(), StoreError> {
    let delivered = daemon.outbox.deliver_due(None).await?;
    let owed = delivered.iter().find_map(|(_, delivery)| match delivery {
        Delivery::Postponed { reason, .. } => Some(reason),
        Delivery::Delivered { .. } | Delivery::Kept(_) | Delivery::Refused(_) | Delivery::Waiting { .. } => None,
    });
    match owed {
        Some(reason) => daemon.health.trouble(Part::ObjectStore, reason.clone()),
        None if delivered.is_empty() => {}
        None => daemon.health.well(Part::ObjectStore),
    }
    Ok(())
}

/// Tells the service manager that the daemon lives, as long as no task is silent for too long, and how it is.
async fn watchdog(health: Health, stop: CancellationToken) -> Result<(), ServeError> {
    let every = sd_notify::watchdog_enabled().map_or(TELL_EVERY, |timeout| timeout / 2);
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                notify(&[sd_notify::NotifyState::Stopping, sd_notify::NotifyState::Status("stopping")]);
                return Ok(());
            }
            () = tokio::time::sleep(every) => {}
        }
        match health.silent_tasks().first() {
            None => notify(&[sd_notify::NotifyState::Watchdog, sd_notify::NotifyState::Status(&status(&health))]),
            Some(silent) => tracing::error!("the task {} is silent since {}", silent.task, silent.silent_since),
        }
    }
}

/// What `systemctl status` shows: one line, as `/readyz`.
fn status(health: &Health) -> String {
    let told =
        |ready: &str, trouble: &Trouble| format!("{ready}: {}: {}", trouble.part, trouble.reason.replace('\n', " "));
    let troubles = health.troubles();
    match (troubles.iter().find(|trouble| !trouble.is_note()), troubles.first()) {
        (Some(trouble), _) => told("not ready", trouble),
        (None, Some(note)) => told("ready", note),
        (None, None) => "ready".to_owned(),
    }
}

/// A message to the service manager, if there is one.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager was not told: {error}");
    }
}

/// The worker of this daemon on an engine.
pub(super) fn worker_on(daemon: &Daemon, engine: crate::executor::docker::Engine) -> crate::executor::job::Worker {
    runner::worker(
        &daemon.config,
        &daemon.inventory,
        engine,
        daemon.registry.clone(),
        &daemon.queue,
        &daemon.store,
        &daemon.config.state_dir,
        &daemon.clock,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_waits_for_nothing_that_takes_long() {
        let (stop, moment) = (CancellationToken::new(), Duration::from_millis(10));
        let work = async || {
            tokio::time::sleep(moment).await;
            "done"
        };
        assert_eq!(unless_stopped(&stop, Duration::ZERO, work()).await, Some("done"), "nobody stops");
        stop.cancel();
        assert_eq!(unless_stopped(&stop, Duration::from_secs(600), work()).await, Some("done"), "it has time to end");
        assert_eq!(unless_stopped(&stop, moment, std::future::pending::<()>()).await, None);
    }
}
