//! The parts of a pass's request that follow from the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{ExecutionConfig, SuiteConfig, SuiteFlavour};
use crate::model::Platform;

use super::container::{DeviceAccess, Limits, Profile, ServerWatch, SuiteRun};

/// A line of the log with one of these says that vLLM's engine did not start; it may still take minutes to end.
const VLLM_FATAL_LINES: [&str; 1] = ["Engine core initialization failed"];

/// Where vLLM's suite looks for its dataset, below its working folder.
const SHAREGPT: &str = "benchmarks/ShareGPT_V3_unfiltered_cleaned_split.json";

impl SuiteRun {
    /// How `suite` is run on `platform`: what prepares the repository first, then the platform's commands, which are
    /// meant for vLLM's images.
    pub fn of(suite: &SuiteConfig, execution: &ExecutionConfig, platform: Platform) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (platform_commands, server) = match suite.kind {
            SuiteFlavour::Vllm => (execution.pre_commands.of(platform), Some(ServerWatch::vllm())),
            SuiteFlavour::Command => (&[][..], None),
        };
        Self {
            command: suite.command.clone(),
            workdir: text(&suite.working_dir),
            tests_dir: suite.configuration.as_deref().map(text),
            results_dir: text(&suite.results),
            pre_commands: suite.prepare.iter().chain(platform_commands).cloned().collect(),
            server,
        }
    }
}

/// Texts whose appearance in the log says that the running benchmark of `suite` cannot recover.
pub fn fatal_lines(suite: &SuiteConfig) -> Vec<String> {
    match suite.kind {
        SuiteFlavour::Vllm => VLLM_FATAL_LINES.map(str::to_owned).into(),
        SuiteFlavour::Command => Vec::new(),
    }
}

/// The plain variables of a pass: the suite's, then (for trusted commits) the host's, then the remote service.
pub fn variables(suite: &SuiteConfig, execution: &ExecutionConfig, profile: &Profile) -> BTreeMap<String, String> {
    let mut variables = suite.env.clone();
    match profile {
        Profile::Trusted => variables.extend(execution.env.clone()),
        Profile::Untrusted { .. } => {}
    }
    if let Some(remote) = &execution.remote {
        variables.insert("REMOTE_HOST".to_owned(), remote.host.clone());
        variables.insert("REMOTE_PORT".to_owned(), remote.port.to_string());
    }
    variables
}

/// Files and folders of the host that a container of a fork's code reads beside the model cache: from, to.
pub fn read_only_files(suite: &SuiteRun, execution: &ExecutionConfig, profile: &Profile) -> Vec<(PathBuf, PathBuf)> {
    let untrusted = &execution.untrusted;
    match profile {
        Profile::Trusted => Vec::new(),
        Profile::Untrusted { .. } => {
            let paths = untrusted.cache_paths.iter().map(|path| (path.clone(), path.clone()));
            let sharegpt =
                untrusted.sharegpt_file.iter().map(|path| (path.clone(), Path::new(&suite.workdir).join(SHAREGPT)));
            paths.chain(sharegpt).collect()
        }
    }
}

impl DeviceAccess {
    /// Access to the devices numbered `ids`; `all` says that these are all that the host has.
    pub fn of(execution: &ExecutionConfig, platform: Platform, ids: &[u32], all: bool) -> Self {
        let access = &execution.device_access;
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        match platform {
            Platform::Cuda => Self::Cuda { ids: names, capabilities: access.cuda.driver_capabilities.clone() },
            Platform::Rocm => {
                let rocm = &access.rocm;
                let text = |path: &PathBuf| path.to_string_lossy().into_owned();
                let mut nodes: Vec<String> = rocm.devices.iter().map(text).collect();
                if all {
                    nodes.push(text(&rocm.render_nodes));
                } else {
                    // The kernel numbers render nodes from 128, in the order of the devices.
                    nodes.extend(ids.iter().map(|id| text(&rocm.render_nodes.join(format!("renderD{}", 128 + id)))));
                }
                // ROCR counts among the devices whose nodes the process can open.
                let visible = (0..ids.len()).map(|index| index.to_string()).collect();
                Self::Rocm { nodes, groups: rocm.groups.clone(), visible }
            }
            Platform::Hpu => Self::Hpu {
                runtime: access.hpu.runtime.clone(),
                variable: access.hpu.visible_devices_env.clone(),
                modules: names,
            },
            Platform::Cpu | Platform::Arm64Cpu => Self::Cpu,
        }
    }
}

impl Profile {
    /// The profile of a fork's code.
    pub fn untrusted(execution: &ExecutionConfig) -> Self {
        Self::Untrusted { network: execution.untrusted.network.clone() }
    }
}

impl Limits {
    /// The limits of a pass on a host with `host_memory_bytes`, where that is known.
    pub fn of(execution: &ExecutionConfig, profile: &Profile, host_memory_bytes: Option<u64>) -> Self {
        let limits = &execution.limits;
        let base = Self {
            job: limits.job_timeout,
            point: Some(limits.point_timeout),
            idle: limits.idle_timeout,
            shm_bytes: limits.shm_size.bytes(),
            results_bytes: limits.results_size.bytes(),
            log_bytes: limits.log_size.bytes(),
            ..Self::default()
        };
        match profile {
            Profile::Trusted => base,
            Profile::Untrusted { .. } => {
                let untrusted = &execution.untrusted;
                let most = host_memory_bytes.map(|bytes| bytes - bytes / 20);
                Self {
                    memory_bytes: untrusted.memory.map(|size| size.bytes()).or(most),
                    pids: Some(untrusted.pids),
                    cpus: untrusted.cpus,
                    disk_bytes: Some(untrusted.disk.bytes()),
                    ..base
                }
            }
        }
    }
}
