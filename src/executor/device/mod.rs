//! What hardware this host has: platform, device type as published records name it, count. Found by the vendors' own
//! tools, so that a host is called what it has been called in the public dashboard so far.

mod host;
mod parse;
#[cfg(test)]
pub(super) mod tests;
mod tools;

use serde::Serialize;

use crate::config::DevicesConfig;
use crate::model::{DeviceType, InvalidDeviceType, Platform};

pub use tools::{ToolError, Tools};

/// The hardware of a host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceInventory {
    /// Kind of hardware.
    pub platform: Platform,
    /// Its name.
    pub device_type: DeviceType,
    /// The name in object keys.
    pub device_key: String,
    /// The name in published records.
    pub runner_type: String,
    /// How many devices jobs may use (NUMA nodes on processors).
    pub count: u32,
    /// Each of them, as far as tools tell.
    pub devices: Vec<Device>,
    /// Version of the devices' driver.
    pub driver: Option<String>,
    /// The processor.
    pub cpu: CpuDetail,
    /// Main memory.
    pub memory_bytes: Option<u64>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl DeviceInventory {
    /// The numbers of its devices; counted from 0 where the tools do not tell them.
    pub fn device_numbers(&self) -> Vec<u32> {
        match self.devices.is_empty() {
            true => (0..self.count).collect(),
            false => self.devices.iter().map(|device| device.index).collect(),
        }
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its number on this host, from 0.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uuid: Option<String>,
    /// Its own memory.
    pub memory_bytes: Option<u64>,
}

/// The processor of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuDetail {
    /// As it names itself.
    pub model: Option<String>,
    /// Physical cores in all.
    pub cores: Option<u32>,
    /// Sockets.
    pub sockets: Option<u32>,
}

/// How to go on without a tool.
const ADVICE: &str = "mend it, or say what this host has: execution.platform, execution.devices.device_type and \
                      execution.devices.count (--platform, --device-type, --count)";

/// Why it is not known what this host has.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// A tool is there and fails: never taken for "no such device".
    #[error("{0}; {ADVICE}")]
    Tool(ToolError),
    /// A tool that is needed on this platform is not there.
    #[error("`{tool}`, which names the {platform} devices, is not on PATH; {ADVICE}")]
    Missing {
        /// The tool.
        tool: &'static str,
        /// The platform.
        platform: Platform,
    },
    /// A tool answered without what was asked.
    #[error("`{tool}` does not tell {what}; {ADVICE}")]
    Untold {
        /// The tool.
        tool: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// A tool answered with a name that cannot be one.
    #[error("{0}; {ADVICE}")]
    Name(InvalidDeviceType),
    /// Devices were chosen that are not there.
    #[error("device {index} was chosen, this host has {has} (from 0)")]
    NoSuchDevice {
        /// The device.
        index: u32,
        /// How many there are.
        has: u32,
    },
    /// Devices of several kinds were chosen; results have one name.
    #[error("the chosen devices differ ({names}): choose one kind by `execution.devices.indices` or `--devices`")]
    Differ {
        /// Their names.
        names: String,
    },
    /// No device is left.
    #[error("no device was chosen: give at least one number, or leave the choice out")]
    NoneChosen,
}

impl DetectError {
    /// Whether a person chose what is not there, rather than a tool failing.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoSuchDevice { .. } | Self::Differ { .. } | Self::NoneChosen => true,
            Self::Tool(_) | Self::Missing { .. } | Self::Untold { .. } | Self::Name(_) => false,
        }
    }
}

impl From<ToolError> for DetectError {
    fn from(error: ToolError) -> Self {
        Self::Tool(error)
    }
}

impl From<InvalidDeviceType> for DetectError {
    fn from(error: InvalidDeviceType) -> Self {
        Self::Name(error)
    }
}

/// What is known of the devices.
struct Probe {
    /// Their name, unless the tools do not tell it.
    device_type: Result<DeviceType, DetectError>,
    devices: Vec<Device>,
    driver: Option<String>,
    cpu: CpuDetail,
    warnings: Vec<String>,
}

/// Finds out what this host has. `platform` and `overrides` win over the tools; where they tell everything, a tool
/// that fails is only a warning.
///
/// # Errors
/// When a tool is there and fails, or does not tell what is needed; when chosen devices are not there.
pub async fn detect(
    tools: &Tools,
    platform: Option<Platform>,
    overrides: &DevicesConfig,
) -> Result<DeviceInventory, DetectError> {
    let platform = match platform {
        Some(platform) => platform,
        None => detect_platform(tools).await?,
    };
    let probe = match probe(platform, tools).await {
        Ok(probe) => probe,
        Err(error) if overrides.device_type.is_some() && overrides.count.is_some() => {
            let warnings = vec![format!("the devices are as configured: {error}")];
            Probe { device_type: Err(error), devices: Vec::new(), driver: None, cpu: host::cpu(), warnings }
        }
        Err(error) => return Err(error),
    };
    inventory(platform, probe, overrides)
}

fn inventory(platform: Platform, probe: Probe, overrides: &DevicesConfig) -> Result<DeviceInventory, DetectError> {
    let Probe { device_type, mut devices, driver, cpu, mut warnings } = probe;
    let mut device_type = match &overrides.device_type {
        Some(device_type) => device_type.clone(),
        None => device_type?,
    };
    let has = overrides.count.unwrap_or_else(|| u32::try_from(devices.len()).unwrap_or(u32::MAX));
    // Of a count that is told, each device has a number, whether a tool knows it or not.
    let name = || if platform.is_cpu() { "NUMA node".to_owned() } else { device_type.to_string() };
    let known: Vec<_> = devices.iter().map(|device| device.index).collect();
    let untold = (0..has).filter(|index| overrides.count.is_some() && !known.contains(index));
    devices.extend(untold.map(|index| Device { index, name: name(), uuid: None, memory_bytes: None }));
    devices.sort_by_key(|device| device.index);
    devices.retain(|device| device.index < has);
    let count = match &overrides.indices {
        None => has,
        Some(chosen) => {
            let mut chosen = chosen.clone();
            chosen.sort_unstable();
            chosen.dedup();
            if let Some(index) = chosen.iter().find(|index| **index >= has) {
                return Err(DetectError::NoSuchDevice { index: *index, has });
            }
            devices.retain(|device| chosen.contains(&device.index));
            u32::try_from(chosen.len()).ok().filter(|n| *n > 0).ok_or(DetectError::NoneChosen)?
        }
    };
    let mut names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    // The name was asked of GPU 0, which may be another one than those that were chosen.
    if platform == Platform::Cuda && overrides.indices.is_some() && overrides.device_type.is_none() {
        match names.as_slice() {
            [name] if is_name(name) => device_type = name.parse()?,
            [_] => return Err(DetectError::Untold { tool: "nvidia-smi", what: "the name of the chosen GPU" }),
            [] => {}
            _ => return Err(DetectError::Differ { names: names.join(", ") }),
        }
    }
    if names.len() > 1 && !platform.is_cpu() {
        warnings.push(format!("the devices differ ({}); results are named by {device_type}", names.join(", ")));
    }
    let memory_bytes = host::memory_bytes();
    let (device_key, runner_type) = (device_type.device_key(), device_type.runner_type());
    Ok(DeviceInventory {
        platform,
        device_type,
        device_key,
        runner_type,
        count,
        devices,
        driver,
        cpu,
        memory_bytes,
        warnings,
    })
}

/// The first vendor's tool that is there says the platform; without one it is the processor's architecture.
///
/// # Errors
/// When the processor's architecture is needed and the tool that tells it fails.
pub async fn detect_platform(tools: &Tools) -> Result<Platform, DetectError> {
    let vendors = [("nvidia-smi", Platform::Cuda), ("rocm-smi", Platform::Rocm), ("hl-smi", Platform::Hpu)];
    if let Some((_, platform)) = vendors.into_iter().find(|(tool, _)| tools.find(tool).is_some()) {
        return Ok(platform);
    }
    let machine = match tools.run("uname", &["-m"]).await {
        Some(machine) => machine?,
        None => std::env::consts::ARCH.to_owned(),
    };
    Ok(match machine.trim() {
        "aarch64" | "arm64" => Platform::Arm64Cpu,
        _ => Platform::Cpu,
    })
}

async fn probe(platform: Platform, tools: &Tools) -> Result<Probe, DetectError> {
    match platform {
        Platform::Cuda => nvidia(tools).await,
        Platform::Rocm => rocm(tools).await,
        Platform::Hpu => gaudi(tools).await,
        Platform::Cpu | Platform::Arm64Cpu => cpu(platform, tools).await,
    }
}

async fn needed(tools: &Tools, platform: Platform, tool: &'static str, args: &[&str]) -> Result<String, DetectError> {
    let answer = tools.run(tool, args).await.ok_or(DetectError::Missing { tool, platform })?;
    Ok(answer?)
}

/// Whether `nvidia-smi` tells a name: it also ends well with "[GPU requires reset]", "No devices were found" or "Failed to
/// initialize NVML: Unknown Error". No GPU has a colon in its name.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('[') && !text.starts_with("No devices") && !text.contains(':')
}

async fn nvidia(tools: &Tools) -> Result<Probe, DetectError> {
    let (cuda, smi) = (Platform::Cuda, "nvidia-smi");
    let first = needed(tools, cuda, smi, &["-i", "0", "--query-gpu=name", "--format=csv,noheader"]).await?;
    let name = first.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if !is_name(name) {
        return Err(DetectError::Untold { tool: smi, what: "the name of GPU 0" });
    }
    let mut warnings = Vec::new();
    let query = ["--query-gpu=index,name,uuid,memory.total,driver_version", "--format=csv,noheader"];
    let listing = match needed(tools, cuda, smi, &query).await {
        Ok(listing) => listing,
        Err(error) => {
            warnings.push(format!("details of the GPUs are not known: {error}"));
            needed(tools, cuda, smi, &["--list-gpus"]).await.unwrap_or_default()
        }
    };
    let mut found = parse::nvidia(&listing);
    if found.devices.is_empty() {
        warnings.push("nvidia-smi does not list its GPUs: taken for one".to_owned());
        found.devices.push(Device { index: 0, name: name.to_owned(), uuid: None, memory_bytes: None });
    }
    let device_type = name.parse().map_err(DetectError::from);
    let (devices, driver) = (found.devices, found.driver);
    Ok(Probe { device_type, devices, driver, cpu: gpu_host_cpu(tools, &mut warnings).await, warnings })
}

async fn rocm(tools: &Tools) -> Result<Probe, DetectError> {
    needed(tools, Platform::Rocm, "rocm-smi", &[]).await?;
    let info = needed(tools, Platform::Rocm, "rocminfo", &[]).await?;
    let mut found = parse::rocm(&info);
    let mut warnings = Vec::new();
    if found.devices.is_empty() {
        if found.has_types {
            return Err(DetectError::Untold { tool: "rocminfo", what: "any agent that is a GPU" });
        }
        warnings.push("rocminfo does not tell which agents are GPUs: taken for one".to_owned());
        found.devices.push(Device { index: 0, name: found.device_type.clone(), uuid: None, memory_bytes: None });
    }
    if found.named_by_other {
        warnings.push(format!("the last agent of rocminfo, {}, is no GPU; results are named by it", found.device_type));
    }
    let device_type = if found.device_type.is_empty() {
        Err(DetectError::Untold { tool: "rocminfo", what: "a `Marketing Name`" })
    } else {
        found.device_type.parse().map_err(DetectError::from)
    };
    let cpu = gpu_host_cpu(tools, &mut warnings).await;
    Ok(Probe { device_type, devices: found.devices, driver: host::module_version("amdgpu"), cpu, warnings })
}

async fn gaudi(tools: &Tools) -> Result<Probe, DetectError> {
    let found = parse::gaudi(&needed(tools, Platform::Hpu, "hl-smi", &["-q"]).await?);
    let mut warnings = Vec::new();
    if found.unknown_generation {
        warnings.push("the product is neither an HL-2xx (Gaudi2) nor an HL-3xx (Gaudi3)".to_owned());
    }
    let untold = DetectError::Untold { tool: "hl-smi", what: "a `Product Name`" };
    let device_type = found.device_type.ok_or(untold).and_then(|name| Ok(name.parse()?));
    let cpu = gpu_host_cpu(tools, &mut warnings).await;
    Ok(Probe { device_type, devices: found.devices, driver: found.driver, cpu, warnings })
}

/// On a host with accelerators the processor is a detail: a failing `lscpu` is a warning.
async fn gpu_host_cpu(tools: &Tools, warnings: &mut Vec<String>) -> CpuDetail {
    match tools.run("lscpu", &[]).await {
        Some(Ok(listing)) => detail(&parse::lscpu(&listing)),
        Some(Err(error)) => {
            warnings.push(format!("the processor is known by the kernel alone: {error}"));
            host::cpu()
        }
        None => host::cpu(),
    }
}

/// What `lscpu` tells, completed by the kernel.
fn detail(told: &parse::Lscpu) -> CpuDetail {
    let own = host::cpu();
    CpuDetail {
        model: told.model.clone().or(own.model),
        cores: told.cores().or(own.cores),
        sockets: told.sockets.or(own.sockets),
    }
}

async fn cpu(platform: Platform, tools: &Tools) -> Result<Probe, DetectError> {
    let told = parse::lscpu(&needed(tools, platform, "lscpu", &[]).await?);
    let cpu = detail(&told);
    let untold = |what| DetectError::Untold { tool: "lscpu", what };
    let mut warnings = Vec::new();
    let named = if platform == Platform::Arm64Cpu {
        told.vendor.as_deref().and_then(parse::arm_device_type).ok_or(untold("the `Vendor ID`"))
    } else {
        match (told.model.as_deref(), cpu.cores) {
            (None, _) => Err(untold("the `Model name`")),
            (Some(_), None) => Err(untold("the numbers of cores and sockets, and neither does the kernel")),
            (Some(model), Some(cores)) => {
                if told.cores().is_none() {
                    warnings.push(format!("lscpu does not tell cores and sockets; the kernel counts {cores} cores"));
                }
                parse::x86_device_type(model, cores).ok_or(untold("a `Model name` that names the processor"))
            }
        }
    };
    let device_type = named.and_then(|name| Ok(name.parse()?));
    let nodes = told.numa_nodes.unwrap_or_else(host::numa_nodes);
    let node = |index| Device { index, name: "NUMA node".to_owned(), uuid: None, memory_bytes: None };
    Ok(Probe { device_type, devices: (0..nodes).map(node).collect(), driver: None, cpu, warnings })
}
