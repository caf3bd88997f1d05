//! What the kernel tells about this host, for what tools leave out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{CpuDetail, parse};

/// Model, cores and sockets by `/proc/cpuinfo`, else cores and sockets by `/sys`.
pub(super) fn cpu() -> CpuDetail {
    let told = fs::read_to_string("/proc/cpuinfo").map(|text| parse::cpuinfo(&text)).unwrap_or_default();
    let (cores, sockets) = topology(Path::new("/sys/devices/system/cpu"));
    CpuDetail { model: told.model, cores: told.cores.or(cores), sockets: told.sockets.or(sockets) }
}

/// Numbers of cores and sockets.
fn topology(cpus: &Path) -> (Option<u32>, Option<u32>) {
    let mut cores = BTreeSet::new();
    let mut sockets = BTreeSet::new();
    for cpu in numbered(cpus, "cpu") {
        let id = |file: &str| fs::read_to_string(cpus.join(&cpu).join("topology").join(file)).ok();
        if let (Some(socket), Some(core)) = (id("physical_package_id"), id("core_id")) {
            cores.insert((socket.clone(), core));
            sockets.insert(socket);
        }
    }
    let count = |n: usize| u32::try_from(n).ok().filter(|n| *n > 0);
    (count(cores.len()), count(sockets.len()))
}

/// Number of NUMA nodes; a kernel without them has one.
pub(super) fn numa_nodes() -> u32 {
    u32::try_from(numbered(Path::new("/sys/devices/system/node"), "node").len()).unwrap_or(1).max(1)
}

/// Main memory in bytes.
pub(super) fn memory_bytes() -> Option<u64> {
    parse::memory_bytes(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Version of a kernel module.
pub(super) fn module_version(module: &str) -> Option<String> {
    let version = fs::read_to_string(Path::new("/sys/module").join(module).join("version")).ok()?;
    Some(version.trim().to_owned()).filter(|v| !v.is_empty())
}

fn numbered(folder: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.strip_prefix(prefix).is_some_and(|n| n.parse::<u32>().is_ok())).collect()
}
