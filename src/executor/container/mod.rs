//! What a pass's container is: a value computed from a request, without I/O. The engine's form of it stands in
//! [`body`], the form for a person in [`command_line`].

pub mod body;
pub mod command_line;
mod environment;
mod request;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use request::{
    Binding, DeviceAccess, HfToken, InvalidHfToken, InvalidRequest, LABEL_JOB, Limits, ModelCache, PassId, PassRequest,
    Profile, Secrets, ServerWatch, SuiteFile, SuiteRun,
};

/// Where the entry script and what it reads lie in the container.
pub const BENCHD_DIR: &str = "/benchd";

/// Where an untrusted container may keep its caches; gone with the container.
const UNTRUSTED_CACHE: &str = "/tmp/benchd-cache";

/// A container, complete but for the values of its secrets. Equal requests give equal specifications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique and derived from the pass, so that a second create of the same pass is refused by the engine.
    pub name: String,
    /// By digest.
    pub image: String,
    /// Which pass it is.
    pub labels: BTreeMap<String, String>,
    /// In the order in which it is shown.
    pub env: Vec<EnvVar>,
    /// Where the suite is started.
    pub working_dir: String,
    /// Folders and files of the host.
    pub mounts: Vec<Mount>,
    /// What hardware it sees.
    pub devices: DeviceAccess,
    /// Which processors it is bound to; `None` for all.
    #[serde(default)]
    pub binding: Option<Binding>,
    /// Everything that differs between a trusted and an untrusted commit and is no environment or mount.
    pub profile: Profile,
    /// Memory including swap, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Processors' worth of time.
    pub cpus: Option<f64>,
    /// Room of `/dev/shm` in bytes.
    pub shm_bytes: u64,
}

/// One variable of the container's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: EnvValue,
}

/// The value of a variable; a secret's is filled in only when the container is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    /// As it stands.
    Plain(String),
    /// Known to [`Secrets`] under the variable's name.
    Secret,
}

/// A folder or file of the host in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the engine's host.
    pub source: PathBuf,
    /// Path in the container.
    pub target: PathBuf,
    /// Whether the container may not change it.
    pub read_only: bool,
}

impl Mount {
    /// `source:target` as in `docker run --volume`, with `:ro` when it may not be changed.
    pub fn volume(&self) -> String {
        let mode = if self.read_only { ":ro" } else { "" };
        format!("{}:{}{mode}", self.source.display(), self.target.display())
    }
}

impl ContainerSpec {
    /// The container of a pass.
    ///
    /// # Errors
    /// When the request contradicts itself; nothing was started then.
    pub fn of(request: &PassRequest) -> Result<Self, InvalidRequest> {
        request.check()?;
        let limits = &request.limits;
        Ok(Self {
            name: request.id.container_name(),
            image: request.image.clone(),
            labels: request.id.labels(),
            env: environment::of(request),
            working_dir: request.suite.workdir.clone(),
            mounts: mounts(request),
            devices: devices(request),
            binding: request.binding.clone(),
            profile: request.profile.clone(),
            memory_bytes: limits.memory_bytes,
            pids: limits.pids,
            cpus: limits.cpus,
            shm_bytes: limits.shm_bytes,
        })
    }

    /// What starts in the container, whatever the image's own entrypoint is (vLLM's differ by target).
    pub fn entrypoint() -> Vec<String> {
        vec!["bash".to_owned(), format!("{BENCHD_DIR}/entry.sh")]
    }
}

fn mounts(request: &PassRequest) -> Vec<Mount> {
    let read_only = match request.profile {
        Profile::Trusted => false,
        Profile::Untrusted { .. } => true,
    };
    let same = |path: &PathBuf| Mount { source: path.clone(), target: path.clone(), read_only };
    let mut mounts: Vec<Mount> = request.cache.dir().into_iter().map(same).collect();
    // A dataset that the suite would otherwise download; never written by anybody.
    mounts.extend(request.read_only_files.iter().map(|(source, target)| Mount {
        source: source.clone(),
        target: target.clone(),
        read_only: true,
    }));
    mounts
}

fn devices(request: &PassRequest) -> DeviceAccess {
    match (&request.profile, request.devices.clone()) {
        // Nobody but the host's own code has business with its physical memory.
        (Profile::Untrusted { .. }, DeviceAccess::Rocm { nodes, groups, visible }) => {
            let nodes = nodes.into_iter().filter(|node| node != "/dev/mem").collect();
            DeviceAccess::Rocm { nodes, groups, visible }
        }
        (Profile::Trusted | Profile::Untrusted { .. }, devices) => devices,
    }
}

#[cfg(test)]
pub(super) mod tests;
