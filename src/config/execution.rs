//! How jobs run on this host: engine, devices, limits, what a trusted and what an untrusted container gets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{CommitSha, DeviceType, Platform};

use super::{SecretSource, Size, shape};

/// Libraries that vLLM's images lack, and without the compatibility libraries that shadow the host's driver.
const VLLM_ON_CUDA: &str = "pip install torchao==0.16.0 fbgemm-gpu-genai==1.5.0; \
     rm /etc/ld.so.conf.d/cuda-compat.conf || true; ldconfig";

/// Settings of execution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutionConfig {
    /// The Docker Engine: `unix:///var/run/docker.sock`, `tcp://host:port`. Default: `$DOCKER_HOST`, else the local
    /// socket.
    pub docker_host: Option<String>,
    /// The platform of this host: cuda, rocm, hpu, cpu, arm64-cpu. Default: detected.
    pub platform: Option<Platform>,
    /// The devices of this host, where detection is wrong or some must be left alone.
    pub devices: DevicesConfig,
    /// How jobs share the devices: `exclusive` (one job at a time) or `pack` (side by side while devices are free).
    /// Default: `exclusive`.
    pub packing: Packing,
    /// What happens while somebody else uses the devices (processes on a GPU, work on a CPU's nodes): `wait` or
    /// `ignore`. Default: `wait` on GPUs, `ignore` on processors, which are seldom anybody's alone.
    pub when_busy: Option<WhenBusy>,
    /// What becomes of running containers when the daemon is stopped: `leave` (they go on, and the next start adopts
    /// them) or `stop` (they are stopped and removed, and their jobs wait for the next start). Default: `leave`.
    pub on_stop: OnStop,
    /// When a job is stopped.
    pub limits: LimitsConfig,
    /// The model cache of the host.
    pub cache: CacheConfig,
    /// File with the Hugging Face token that trusted containers get. Default: none.
    pub hf_token_file: Option<PathBuf>,
    /// Environment variable with the Hugging Face token that trusted containers get. Default: none.
    pub hf_token_env: Option<String>,
    /// Further environment variables of trusted containers. Default: none.
    #[serde(deserialize_with = "shape::variables_or_none")]
    pub env: BTreeMap<String, String>,
    /// Secret environment variables of trusted containers: for each name the file that holds the value. Default: none.
    pub env_files: BTreeMap<String, PathBuf>,
    /// A service that is measured instead of one started in the container. Default: none.
    pub remote: Option<RemoteService>,
    /// Shell commands run in the container before a suite of kind `vllm`.
    pub pre_commands: PreCommands,
    /// How a container gets at its devices.
    pub device_access: DeviceAccess,
    /// What the code of forks gets.
    pub untrusted: UntrustedConfig,
}

/// Corrections of what is detected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DevicesConfig {
    /// The device type, as the hardware names itself (`NVIDIA H100 80GB HBM3`). Default: detected.
    pub device_type: Option<DeviceType>,
    /// How many devices there are (NUMA nodes on a CPU). Default: detected.
    pub count: Option<u32>,
    /// Numbers of the devices that benchd may use, from 0. Default: all.
    pub indices: Option<Vec<u32>>,
}

/// How jobs share devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One job at a time has the whole host.
    #[default]
    Exclusive,
    /// Jobs run side by side while devices are free.
    Pack,
}

/// What happens while somebody else uses the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// Jobs wait until the devices are free.
    Wait,
    /// Jobs run beside it: what is measured may be off.
    Ignore,
}

/// What becomes of running containers when the daemon is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStop {
    /// They go on; the next start adopts them.
    #[default]
    Leave,
    /// They are stopped and removed; their jobs are queued again, as if they had not been tried.
    Stop,
}

/// When a job is stopped, and how much it may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// A whole job. Default: `6h`.
    #[serde(with = "shape::duration")]
    pub job_timeout: Duration,
    /// One point. Default: `1h`.
    #[serde(with = "shape::duration")]
    pub point_timeout: Duration,
    /// A container that prints nothing. Default: `30m`.
    #[serde(with = "shape::duration")]
    pub idle_timeout: Duration,
    /// Log of one pass; what follows is dropped, said at the end of the log. Default: `256 MiB`.
    pub log_size: Size,
    /// Results of one pass; more is a failure. Default: `2 GiB`.
    pub results_size: Size,
    /// Shared memory of a container. Default: `4 GiB`.
    pub shm_size: Size,
}

/// The model cache of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// `HF_HOME` of the containers, mounted at the same path. Default: `/mnt/hf_cache`; where that folder is missing,
    /// `hf-cache` in the state folder is used instead and models are downloaded.
    pub dir: PathBuf,
    /// Whether only models that are in the cache may be used (`TRANSFORMERS_OFFLINE=1`). Default: true.
    pub offline: bool,
    /// Less free space than this on the cache's disk is reported before a run. Default: `20 GiB`.
    pub min_free: Size,
}

/// A service that runs elsewhere. What is measured is that service, not the image of the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteService {
    /// `REMOTE_HOST` of the suite. Required.
    pub host: String,
    /// `REMOTE_PORT` of the suite. Required.
    pub port: u16,
    /// The commit that runs there. Default: unknown, results are shown and never published.
    #[serde(default)]
    pub commit: Option<CommitSha>,
}

/// Shell commands before the suite, for each platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreCommands {
    /// On NVIDIA GPUs. Default: what vLLM's images need (`torchao`, `fbgemm-gpu-genai`, the compatibility libraries
    /// of CUDA removed).
    #[serde(deserialize_with = "shape::one_or_many")]
    pub cuda: Vec<String>,
    /// On AMD GPUs. Default: none.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub rocm: Vec<String>,
    /// On Intel Gaudi. Default: none.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub hpu: Vec<String>,
    /// On x86 CPUs. Default: none.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub cpu: Vec<String>,
    /// On 64-bit ARM CPUs. Default: none.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub arm64_cpu: Vec<String>,
}

/// How a container gets at its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceAccess {
    /// NVIDIA GPUs.
    pub cuda: CudaAccess,
    /// AMD GPUs.
    pub rocm: RocmAccess,
    /// Intel Gaudi.
    pub hpu: HpuAccess,
}

/// NVIDIA GPUs, by a device request of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CudaAccess {
    /// `NVIDIA_DRIVER_CAPABILITIES`. Default: `all`.
    pub driver_capabilities: String,
}

/// AMD GPUs, by device files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RocmAccess {
    /// Device files that every container gets. Default: `[/dev/kfd]`.
    pub devices: Vec<PathBuf>,
    /// Folder of the render nodes. A container of all devices gets the folder, a container of some gets their nodes
    /// alone. Default: `/dev/dri`.
    pub render_nodes: PathBuf,
    /// Groups of the process, known in the image. Default: `[video]`.
    pub groups: Vec<String>,
}

/// Intel Gaudi, by a runtime of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HpuAccess {
    /// The engine's runtime. Default: `habana`.
    pub runtime: String,
    /// Environment variable that tells the runtime which modules a container sees. Default:
    /// `HABANA_VISIBLE_DEVICES`.
    pub visible_devices_env: String,
}

/// What a container gets whose code comes from a fork: no secrets, no capabilities, no network beyond its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UntrustedConfig {
    /// Memory. Default: all but a twentieth of the host's.
    pub memory: Option<Size>,
    /// Processors, may be a fraction. Default: all.
    pub cpus: Option<f64>,
    /// Processes and threads. Default: 16384.
    pub pids: u32,
    /// What it may write outside its mounts, watched while it runs. Default: `50 GiB`.
    pub disk: Size,
    /// Name of the engine's internal network (no way out of the host), made when it is missing. Default:
    /// `benchd-untrusted`.
    pub network: String,
    /// Folders of the host that are mounted read-only at the same path, beside the model cache. Default: none.
    pub cache_paths: Vec<PathBuf>,
    /// The ShareGPT data set, mounted read-only where the suite looks for it. Default: none, benchmarks that need it
    /// are skipped.
    pub sharegpt_file: Option<PathBuf>,
}

impl ExecutionConfig {
    /// What happens on `platform` while somebody else uses the devices.
    pub fn when_busy(&self, platform: Platform) -> WhenBusy {
        let usual = if platform.is_cpu() { WhenBusy::Ignore } else { WhenBusy::Wait };
        self.when_busy.unwrap_or(usual)
    }

    /// Where the Hugging Face token is kept, if one is configured.
    pub fn hf_token(&self) -> Option<SecretSource> {
        SecretSource::of(self.hf_token_file.as_deref(), self.hf_token_env.as_deref())
    }
}

impl PreCommands {
    /// The commands for `platform`.
    pub fn of(&self, platform: Platform) -> &[String] {
        match platform {
            Platform::Cuda => &self.cuda,
            Platform::Rocm => &self.rocm,
            Platform::Hpu => &self.hpu,
            Platform::Cpu => &self.cpu,
            Platform::Arm64Cpu => &self.arm64_cpu,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Self {
            job_timeout: minutes(6 * 60),
            point_timeout: minutes(60),
            idle_timeout: minutes(30),
            log_size: Size::mib(256),
            results_size: Size::gib(2),
            shm_size: Size::gib(4),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("/mnt/hf_cache"), offline: true, min_free: Size::gib(20) }
    }
}

impl Default for PreCommands {
    fn default() -> Self {
        Self {
            cuda: vec![VLLM_ON_CUDA.to_owned()],
            rocm: Vec::new(),
            hpu: Vec::new(),
            cpu: Vec::new(),
            arm64_cpu: Vec::new(),
        }
    }
}

impl Default for CudaAccess {
    fn default() -> Self {
        Self { driver_capabilities: "all".to_owned() }
    }
}

impl Default for RocmAccess {
    fn default() -> Self {
        Self {
            devices: vec![PathBuf::from("/dev/kfd")],
            render_nodes: PathBuf::from("/dev/dri"),
            groups: vec!["video".to_owned()],
        }
    }
}

impl Default for HpuAccess {
    fn default() -> Self {
        Self { runtime: "habana".to_owned(), visible_devices_env: "HABANA_VISIBLE_DEVICES".to_owned() }
    }
}

impl Default for UntrustedConfig {
    fn default() -> Self {
        Self {
            memory: None,
            cpus: None,
            pids: 16384,
            disk: Size::gib(50),
            network: "benchd-untrusted".to_owned(),
            cache_paths: Vec::new(),
            sharegpt_file: None,
        }
    }
}
