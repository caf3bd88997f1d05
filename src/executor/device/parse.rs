//! Understands what the tools print. Pure; the names that come out are those of published records.

use super::{CpuDetail, Device};

/// Answer of `nvidia-smi --query-gpu=index,name,uuid,memory.total,driver_version --format=csv,noheader`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Nvidia {
    pub devices: Vec<Device>,
    pub driver: Option<String>,
}

/// One GPU a line. Lines that are no such answer are bare names, in order, or those of `nvidia-smi --list-gpus`.
pub(super) fn nvidia(listing: &str) -> Nvidia {
    let mut driver = None;
    let lines = listing.lines().map(str::trim).filter(|line| !line.is_empty());
    let devices = lines.zip(0..).map(|(line, position)| {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        match fields.as_slice() {
            [index, name @ .., uuid, memory, version] if index.parse::<u32>().is_ok() && !name.is_empty() => {
                driver.get_or_insert_with(|| (*version).to_owned());
                Device {
                    index: index.parse().unwrap_or(position),
                    name: name.join(", "),
                    uuid: Some((*uuid).to_owned()).filter(|u| known(u)),
                    memory_bytes: size(memory),
                }
            }
            _ => listed(position, line),
        }
    });
    let devices = devices.collect();
    Nvidia { devices, driver: driver.filter(|version| known(version)) }
}

/// `GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-..)`, or a bare name.
fn listed(position: u32, line: &str) -> Device {
    let full = line.strip_prefix(&format!("GPU {position}: ")).and_then(|rest| rest.strip_suffix(')'));
    let (name, uuid) = match full.and_then(|rest| rest.rsplit_once(" (UUID: ")) {
        Some((name, uuid)) => (name, Some(uuid.to_owned())),
        None => (line, None),
    };
    Device { index: position, name: name.to_owned(), uuid, memory_bytes: None }
}

fn known(field: &str) -> bool {
    !field.is_empty() && !field.starts_with('[') && field != "N/A"
}

/// `81559 MiB`, `98304 MB`, `201310208(0xbffc000) KB` in bytes; vendors write MB for MiB.
fn size(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit: u64 = match text.split_whitespace().next_back()? {
        "KiB" | "KB" | "kB" => 1 << 10,
        "MiB" | "MB" => 1 << 20,
        "GiB" | "GB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Answer of `rocminfo`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rocm {
    /// The last marketing name, whoever's it is: what the published records call the host.
    pub device_type: String,
    /// Whether that name belongs to an agent that says it is no GPU.
    pub named_by_other: bool,
    /// Whether agents say what they are.
    pub has_types: bool,
    pub devices: Vec<Device>,
}

#[derive(Default)]
struct Agent {
    name: String,
    marketing_name: Option<String>,
    uuid: Option<String>,
    kind: Option<String>,
    memory_bytes: Option<u64>,
}

pub(super) fn rocm(info: &str) -> Rocm {
    let mut agents: Vec<Agent> = Vec::new();
    let mut marketing_name = String::new();
    for line in info.lines() {
        if line.contains("Marketing Name") {
            marketing_name = words(line.split(':').nth(1).unwrap_or_default());
        }
        let (key, value) = line.split_once(':').map_or((line.trim(), ""), |(k, v)| (k.trim(), v.trim()));
        let number = key.strip_prefix("Agent ").is_some_and(|n| n.trim().parse::<u32>().is_ok());
        if number && value.is_empty() {
            agents.push(Agent::default());
        }
        let Some(agent) = agents.last_mut() else { continue };
        match key {
            // Instruction sets have a name too, further down.
            "Name" if agent.name.is_empty() => agent.name = value.to_owned(),
            "Marketing Name" => agent.marketing_name = Some(words(value)),
            "Uuid" => agent.uuid = Some(value.to_owned()),
            "Device Type" => agent.kind = Some(value.to_owned()),
            "Size" => agent.memory_bytes = agent.memory_bytes.max(size(value)),
            _ => {}
        }
    }
    let has_types = agents.iter().any(|agent| agent.kind.is_some());
    let is_gpu = |agent: &Agent| match &agent.kind {
        Some(kind) => kind == "GPU",
        None => !has_types && agent.name.starts_with("gfx"),
    };
    let last = agents.iter().rfind(|agent| agent.marketing_name.is_some());
    let named_by_other = last.is_some_and(|agent| agent.kind.as_deref().is_some_and(|kind| kind != "GPU"));
    let gpus = agents.into_iter().filter(is_gpu).zip(0..);
    let devices = gpus.map(|(agent, index)| Device {
        index,
        name: agent.marketing_name.filter(|name| !name.is_empty()).unwrap_or(agent.name),
        uuid: agent.uuid.filter(|uuid| known(uuid) && uuid != "GPU-XX"),
        memory_bytes: agent.memory_bytes,
    });
    let devices = devices.collect();
    Rocm { device_type: marketing_name, named_by_other, has_types, devices }
}

/// Words as `xargs` reads them: blanks squeezed, quotes and backslashes taken away. An open quote ends with the text.
fn words(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '"' | '\'' => word.get_or_insert_default().extend(chars.by_ref().take_while(|inner| *inner != c)),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words.join(" ")
}

/// Answer of `hl-smi -q`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gaudi {
    /// `Intel Gaudi3 HL-325L`; `None` without a product name.
    pub device_type: Option<String>,
    /// Whether the product is of no known generation.
    pub unknown_generation: bool,
    pub devices: Vec<Device>,
    pub driver: Option<String>,
}

pub(super) fn gaudi(listing: &str) -> Gaudi {
    let mut devices: Vec<Device> = Vec::new();
    let mut driver = None;
    let mut product = None;
    for line in listing.lines() {
        let mut fields = line.split(':');
        let (key, value) = (fields.next().unwrap_or_default().trim(), fields.next().unwrap_or_default().trim());
        match key {
            _ if line.contains("Product Name") => {
                product.get_or_insert_with(|| value.to_owned());
                let index = u32::try_from(devices.len()).unwrap_or(u32::MAX);
                devices.push(Device { index, name: value.to_owned(), uuid: None, memory_bytes: None });
            }
            "Driver Version" if known(value) => {
                driver.get_or_insert_with(|| value.to_owned());
            }
            "UUID" => set(&mut devices, |device| device.uuid = Some(value.to_owned()).filter(|u| known(u))),
            // The first total of a device is that of its memory.
            "Total" => set(&mut devices, |device| device.memory_bytes = device.memory_bytes.or_else(|| size(value))),
            _ => {}
        }
    }
    let product = product.filter(|name| !name.is_empty());
    let generation = product.as_deref().map(|name| match name.strip_prefix("HL-").and_then(|n| n.chars().next()) {
        Some('2') => "Intel Gaudi2",
        Some('3') => "Intel Gaudi3",
        Some(_) | None => "Intel Gaudi",
    });
    Gaudi {
        device_type: generation.zip(product.as_ref()).map(|(generation, name)| format!("{generation} {name}")),
        unknown_generation: generation == Some("Intel Gaudi"),
        devices,
        driver,
    }
}

fn set(devices: &mut [Device], change: impl FnOnce(&mut Device)) {
    if let Some(device) = devices.last_mut() {
        change(device);
    }
}

/// Answer of `lscpu`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lscpu {
    pub model: Option<String>,
    pub vendor: Option<String>,
    pub cores_per_socket: Option<u32>,
    pub sockets: Option<u32>,
    pub numa_nodes: Option<u32>,
}

/// Lines about the BIOS (`BIOS Model name`, shown to root) say nothing of the processor that counts.
pub(super) fn lscpu(listing: &str) -> Lscpu {
    let mut found = Lscpu::default();
    let mut bios_model = None;
    for line in listing.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let text = || Some(value.to_owned()).filter(|v| !v.is_empty() && v != "-");
        let number = || value.parse().ok().filter(|n| *n > 0);
        match key.trim() {
            "Model name" => found.model = found.model.take().or_else(text),
            "BIOS Model name" => bios_model = bios_model.or_else(text),
            "Vendor ID" => found.vendor = found.vendor.take().or_else(text),
            "Core(s) per socket" => found.cores_per_socket = found.cores_per_socket.or_else(number),
            "Socket(s)" => found.sockets = found.sockets.or_else(number),
            "NUMA node(s)" => found.numa_nodes = found.numa_nodes.or_else(number),
            _ => {}
        }
    }
    // Older tools know no name for an ARM core, but the BIOS may have one for the machine.
    if found.model.is_none() && found.vendor.as_deref() == Some("ARM") {
        found.model = bios_model;
    }
    found
}

impl Lscpu {
    /// All cores, in one number.
    pub fn cores(&self) -> Option<u32> {
        self.cores_per_socket?.checked_mul(self.sockets?)
    }
}

/// The name of an x86 processor in published records: the model without its decoration, blanks as `_`, then the number
/// of cores: `Xeon_Platinum_8480+_112c`. `None` when nothing is left of the model.
pub(super) fn x86_device_type(model: &str, cores: u32) -> Option<String> {
    let mut name = model.to_owned();
    for decoration in ["Intel(R)", "(R)", "(TM)", "CPU", "Processor"] {
        name = name.replace(decoration, "");
    }
    let name = name.split_whitespace().collect::<Vec<_>>().join("_");
    (!name.is_empty()).then(|| format!("{name}_{cores}c"))
}

/// The name of an ARM processor in published records: the vendor's second word, or its only one.
pub(super) fn arm_device_type(vendor: &str) -> Option<String> {
    let mut words = vendor.split_whitespace();
    let first = words.next()?;
    Some(words.next().unwrap_or(first).to_owned())
}

/// What `/proc/cpuinfo` says: the model, and cores and sockets by their ids where it has them.
pub(super) fn cpuinfo(text: &str) -> CpuDetail {
    let mut model = None;
    let mut sockets = std::collections::BTreeSet::new();
    let mut cores = std::collections::BTreeSet::new();
    let mut socket = "";
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key.trim() {
            "model name" => model = model.or_else(|| Some(value.to_owned()).filter(|v| !v.is_empty())),
            "physical id" => {
                socket = value;
                sockets.insert(value);
            }
            "core id" => {
                cores.insert((socket, value));
            }
            _ => {}
        }
    }
    let count = |n: usize| u32::try_from(n).ok().filter(|n| *n > 0);
    CpuDetail { model, cores: count(cores.len()), sockets: count(sockets.len()) }
}

/// `MemTotal` of `/proc/meminfo` in bytes.
pub(super) fn memory_bytes(text: &str) -> Option<u64> {
    text.lines().find_map(|line| size(line.strip_prefix("MemTotal:")?.trim()))
}
