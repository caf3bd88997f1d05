//! What published records say of the machine: this host, where it measured itself.

use std::collections::BTreeMap;
use std::fs;

use crate::model::{DeviceType, Platform};
use crate::results::record::Runner;

/// This host as the runner of a job on `device_type`. What the host does not tell is left empty or 0. On a platform
/// with devices, `device_count` of them were used; without a count nothing is claimed about them.
pub fn this_host(platform: Platform, device_type: &DeviceType, device_count: Option<u32>) -> Runner {
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let devices = device_count.filter(|_| !platform.is_cpu());
    Runner {
        platform,
        device_type: device_type.clone(),
        cpu_info: std::env::consts::ARCH.to_owned(),
        cpu_count: std::thread::available_parallelism().map_or(0, |count| u32::try_from(count.get()).unwrap_or(0)),
        memory_gib: fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_gib(&text)).unwrap_or(0),
        gpu_info: devices.map_or_else(String::new, |_| device_type.as_str().to_owned()),
        gpu_count: devices.unwrap_or(0),
        gpu_memory_gib: 0,
        extra_info: BTreeMap::from([("hostname".to_owned(), hostname.trim().to_owned())]),
    }
}

/// Main memory in GiB, rounded down, from `/proc/meminfo`, which tells it in KiB.
fn memory_gib(meminfo: &str) -> Option<u32> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    u32::try_from(kib >> 20).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_rounded_down() {
        assert_eq!(memory_gib("MemTotal:       26214399 kB\nMemFree: 1 kB\n"), Some(24));
        assert_eq!(memory_gib("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn devices_are_claimed_only_where_they_are_known() {
        let device = "NVIDIA B200".parse().unwrap();
        assert_eq!(this_host(Platform::Cuda, &device, None).gpu_count, 0);
        let runner = this_host(Platform::Cuda, &device, Some(8));
        assert_eq!((runner.gpu_count, runner.gpu_info.as_str()), (8, "NVIDIA B200"));
        assert_eq!(this_host(Platform::Cpu, &device, Some(2)).gpu_count, 0);
    }
}
