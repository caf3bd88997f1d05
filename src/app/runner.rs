//! This host as a runner: its hardware, engine, registries, store and outbox, opened once from the configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, SecretError, environment};
use crate::executor::device::{self, DetectError, DeviceInventory, Tools};
use crate::executor::docker::{Engine, EngineError};
use crate::executor::job::Worker;
use crate::executor::telemetry::{SYS, cores, device_nodes};
use crate::github::{GitHub, GitHubError};
use crate::health::with_causes;
use crate::model::{DeviceId, InvalidRunnerName, RunnerName, Target};
use crate::objects::Patience;
use crate::publish::outbox::Outbox;
use crate::queue::slots::Inventory;
use crate::queue::{Pace, Queue};
use crate::registry::{Registry, RegistryError, RegistrySettings};
use crate::store::artifacts::Artifacts;
use crate::store::{Store, StoreError};

/// Everything that measuring on this host needs.
pub struct Runner {
    /// The host's name, of which the name is made under which it claims jobs.
    pub name: RunnerName,
    /// Its hardware.
    pub inventory: DeviceInventory,
    /// The queue.
    pub queue: Queue,
    /// The store.
    pub store: Store,
    /// What executes jobs.
    pub worker: Worker,
    /// What delivers results.
    pub outbox: Outbox,
}

/// Why this host cannot measure.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The hardware is not known.
    #[error(transparent)]
    Device(#[from] DetectError),
    /// The engine is not usable.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The registries' client cannot be built.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host has no usable name.
    #[error(transparent)]
    Name(#[from] InvalidRunnerName),
    /// GitHub's client cannot be built.
    #[error(transparent)]
    GitHub(#[from] GitHubError),
}

impl OpenError {
    /// Whether what a person gave is at fault, rather than something outside.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Device(error) => error.is_usage(),
            Self::Secret(_) | Self::Name(_) | Self::GitHub(_) => true,
            Self::Engine(_) | Self::Registry(_) | Self::Store(_) => false,
        }
    }
}

/// Finds out what hardware this host has, as configured.
///
/// # Errors
/// When a tool fails or the configuration contradicts the hardware.
pub async fn detect(config: &Config) -> Result<DeviceInventory, DetectError> {
    let tools = Tools::in_folders(environment::search_path());
    device::detect(&tools, config.execution.platform, &config.execution.devices).await
}

/// What jobs may have of this host, with the cores that go with each device. Where those are not known, jobs side by
/// side share the cores, and that is told.
pub async fn host_of(config: &Config, inventory: &DeviceInventory) -> Inventory {
    let (platform, sys) = (inventory.platform, Path::new(SYS));
    let ids: Vec<_> = inventory.device_numbers().into_iter().map(DeviceId::from).collect();
    let host = Inventory::new(platform, inventory.device_type.clone(), ids, config.execution.packing);
    let tools = Tools::in_folders(environment::search_path());
    let nodes = device_nodes(&tools, platform, sys).await.unwrap_or_else(|error| {
        tracing::warn!("which processors are near which device is not known: {}", with_causes(&error));
        BTreeMap::new()
    });
    host.with_cores(&cores(sys), &nodes)
}

/// Connects to the engine, as configured.
///
/// # Errors
/// When it does not answer or is too old.
pub async fn connect_engine(config: &Config) -> Result<Engine, EngineError> {
    let host = config.execution.docker_host.clone().or_else(environment::docker_host);
    Engine::connect(host.as_deref()).await
}

/// GitHub's API, as configured; without a token it answers a few questions an hour about public repositories.
///
/// # Errors
/// When the App's key or the token cannot be read, or certificates or proxy cannot be used.
pub fn connect_github(config: &Config) -> Result<GitHub, OpenError> {
    Ok(GitHub::configured(&config.github)?)
}

/// The name of this host.
///
/// # Errors
/// When it is empty.
pub fn host_name() -> Result<RunnerName, InvalidRunnerName> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().parse()
}

impl Runner {
    /// Opens everything below `state_dir`.
    ///
    /// # Errors
    /// Whatever of it cannot be had, and what to do.
    pub async fn open(
        config: &Config,
        inventory: DeviceInventory,
        engine: Engine,
        state_dir: &Path,
        clock: &Clock,
    ) -> Result<Self, OpenError> {
        let registry = Arc::new(Registry::new(RegistrySettings::configured(&config.registries)?)?);
        let store = Store::open(state_dir).await?;
        let queue = Queue::new(store.clone(), clock.clone(), Pace::default());
        let outbox = outbox(config, &store, &queue, state_dir, clock);
        let worker = worker(config, &inventory, engine, registry, &queue, &store, state_dir, clock);
        Ok(Self { name: host_name()?, inventory, queue, store, worker, outbox })
    }

    /// All of this host's devices as one target.
    pub fn target(&self) -> Target {
        target_of(&self.inventory)
    }
}

/// What executes jobs on this host.
#[expect(clippy::too_many_arguments, reason = "the one place where a worker's parts come together")]
pub fn worker(
    config: &Config,
    inventory: &DeviceInventory,
    engine: Engine,
    registry: Arc<Registry>,
    queue: &Queue,
    store: &Store,
    state_dir: &Path,
    clock: &Clock,
) -> Worker {
    Worker {
        engine,
        registry,
        queue: queue.clone(),
        store: store.clone(),
        artifacts: Artifacts::new(state_dir),
        state_dir: state_dir.to_owned(),
        execution: config.execution.clone(),
        retention: config.retention.clone(),
        clone_url: config.github.clone_url(),
        memory_bytes: inventory.memory_bytes,
        device_count: inventory.count,
        driver: inventory.driver.clone(),
        clock: clock.clone(),
    }
}

/// What delivers the results below `state_dir`.
pub fn outbox(config: &Config, store: &Store, queue: &Queue, state_dir: &Path, clock: &Clock) -> Outbox {
    Outbox::new(store.clone(), queue.clone(), Artifacts::new(state_dir), clock.clone(), Patience::default())
        .with_targets(&config.repositories)
}

/// All devices of a host as one target.
pub fn target_of(inventory: &DeviceInventory) -> Target {
    Target { platform: inventory.platform, device_type: inventory.device_type.clone(), count: inventory.count }
}
