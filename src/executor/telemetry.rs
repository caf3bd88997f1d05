//! What goes on on the devices right now: which of them processes use that benchd did not start, and which processors
//! are near which device. Tools that are absent or fail tell nothing; that is said and never taken for "idle".

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::device::{ToolError, Tools};
use crate::model::{BusyDevice, CpuSet, DeviceId, Platform};
use crate::queue::slots::Core;

/// Where the kernel tells of processors, nodes and devices.
pub const SYS: &str = "/sys";

/// How long processors are watched.
const WATCHED_FOR: Duration = Duration::from_millis(500);

/// A NUMA node whose processors do other work for more than this share of the time is in use.
const BUSY_SHARE_PERCENT: u64 = 20;

/// What a look at the devices found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// These devices are used; all others are free.
    Known(Vec<BusyDevice>),
    /// It cannot be told: the tool is not there, or this platform has none.
    Unknown,
}

/// Which devices of `platform` are used, by anybody: who asks knows which of them run its own jobs.
///
/// # Errors
/// When the tool is there and does not answer.
pub async fn usage(tools: &Tools, platform: Platform) -> Result<Usage, ToolError> {
    match platform {
        Platform::Cuda => cuda_usage(tools).await,
        Platform::Rocm => rocm_usage(tools).await,
        // Gaudi's tool lists no processes.
        Platform::Hpu => Ok(Usage::Unknown),
        Platform::Cpu | Platform::Arm64Cpu => Ok(cpu_usage(Path::new("/proc/stat"), Path::new("/sys")).await),
    }
}

async fn cuda_usage(tools: &Tools) -> Result<Usage, ToolError> {
    let gpus = tools.run("nvidia-smi", &["--query-gpu=index,uuid", "--format=csv,noheader"]).await;
    let apps =
        tools.run("nvidia-smi", &["--query-compute-apps=gpu_uuid,pid,process_name", "--format=csv,noheader"]).await;
    let (Some(gpus), Some(apps)) = (gpus, apps) else { return Ok(Usage::Unknown) };
    Ok(Usage::Known(cuda_processes(&gpus?, &apps?)))
}

/// Processes of `nvidia-smi --query-compute-apps`, by the numbers that `--query-gpu` gives the devices.
fn cuda_processes(gpus: &str, apps: &str) -> Vec<BusyDevice> {
    let fields = |line: &str| line.split(',').map(|field| field.trim().to_owned()).collect::<Vec<_>>();
    let mut numbers = BTreeMap::new();
    for line in gpus.lines() {
        if let [index, uuid, ..] = fields(line).as_slice()
            && let Ok(index) = index.parse::<u32>()
        {
            numbers.insert(uuid.clone(), DeviceId::from(index));
        }
    }
    let mut busy = Vec::new();
    for line in apps.lines() {
        if let [uuid, pid, name @ ..] = fields(line).as_slice()
            && let Some(device) = numbers.get(uuid)
        {
            busy.push(BusyDevice { device: *device, by: format!("{} (pid {pid})", short_name(&name.join(","))) });
        }
    }
    busy
}

/// A process by the last part of its path; a container's process may have no name.
fn short_name(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name).trim();
    if name.is_empty() || name.starts_with('[') { "a process" } else { name }
}

async fn rocm_usage(tools: &Tools) -> Result<Usage, ToolError> {
    let Some(answer) = tools.run("rocm-smi", &["--showpidgpus", "--json"]).await else { return Ok(Usage::Unknown) };
    Ok(rocm_processes(&answer?))
}

/// Processes of `rocm-smi --showpidgpus --json`: `{"system": {"PID4242": "[0, 1]"}}`. Another form tells nothing.
fn rocm_processes(answer: &str) -> Usage {
    let Ok(answer) = serde_json::from_str::<serde_json::Value>(answer.trim()) else { return Usage::Unknown };
    let Some(processes) = answer.get("system").and_then(serde_json::Value::as_object) else {
        // No process at all is an empty object.
        return if answer.as_object().is_some_and(serde_json::Map::is_empty) {
            Usage::Known(Vec::new())
        } else {
            Usage::Unknown
        };
    };
    let mut busy = Vec::new();
    for (key, devices) in processes {
        let Some(pid) = key.strip_prefix("PID") else { continue };
        let listed = devices.as_str().map_or_else(|| devices.to_string(), str::to_owned);
        let numbers = listed.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
        busy.extend(numbers.map(|n| BusyDevice { device: DeviceId::from(n), by: format!("a process (pid {pid})") }));
    }
    busy.sort_by(|a, b| (a.device, &a.by).cmp(&(b.device, &b.by)));
    Usage::Known(busy)
}

async fn cpu_usage(stat: &Path, sys: &Path) -> Usage {
    let Ok(before) = fs::read_to_string(stat) else { return Usage::Unknown };
    tokio::time::sleep(WATCHED_FOR).await;
    let Ok(after) = fs::read_to_string(stat) else { return Usage::Unknown };
    Usage::Known(busy_nodes(&before, &after, &nodes(sys)))
}

/// The nodes that were busy between two readings of `/proc/stat`.
fn busy_nodes(before: &str, after: &str, nodes: &BTreeMap<u32, CpuSet>) -> Vec<BusyDevice> {
    let (before, after) = (cpu_times(before), cpu_times(after));
    let mut busy = Vec::new();
    for (node, cpus) in nodes {
        let (mut worked, mut all) = (0_u64, 0_u64);
        for cpu in cpus.iter() {
            let (Some(then), Some(now)) = (before.get(&cpu), after.get(&cpu)) else { continue };
            worked = worked.saturating_add(now.0.saturating_sub(then.0));
            all = all.saturating_add(now.1.saturating_sub(then.1));
        }
        let percent = worked.saturating_mul(100).checked_div(all).unwrap_or(0);
        if percent > BUSY_SHARE_PERCENT {
            let by = format!("processes that take {percent} % of its processors");
            busy.push(BusyDevice { device: DeviceId::from(*node), by });
        }
    }
    busy
}

/// For each processor the ticks that it worked and all its ticks. proc_stat(5): user, nice, system, idle, iowait, ..
fn cpu_times(stat: &str) -> BTreeMap<u32, (u64, u64)> {
    let mut times = BTreeMap::new();
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let Some(cpu) = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok()) else { continue };
        // guest and guest_nice are part of user and nice.
        let ticks: Vec<u64> = fields.take(8).map_while(|ticks| ticks.parse().ok()).collect();
        let all: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        times.insert(cpu, (all.saturating_sub(idle), all));
    }
    times
}

/// The processors of each NUMA node; a kernel without nodes has one.
fn nodes(sys: &Path) -> BTreeMap<u32, CpuSet> {
    let mut nodes = BTreeMap::new();
    for entry in fs::read_dir(sys.join("devices/system/node")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node")?.parse::<u32>().ok());
        if let Some(number) = number
            && let Some(cpus) = cpu_set(&entry.path().join("cpulist"))
        {
            nodes.insert(number, cpus);
        }
    }
    if nodes.is_empty()
        && let Some(cpus) = cpu_set(&sys.join("devices/system/cpu/online"))
    {
        nodes.insert(0, cpus);
    }
    nodes
}

fn cpu_set(file: &Path) -> Option<CpuSet> {
    fs::read_to_string(file).ok()?.parse().ok().filter(|cpus: &CpuSet| !cpus.is_empty())
}

/// The cores of this host with their threads and nodes; empty where the kernel does not tell.
pub fn cores(sys: &Path) -> Vec<Core> {
    let mut cores = Vec::new();
    for (node, cpus) in nodes(sys) {
        let mut seen = BTreeSet::new();
        for cpu in cpus.iter().collect::<Vec<_>>() {
            let topology = sys.join(format!("devices/system/cpu/cpu{cpu}/topology"));
            let threads =
                cpu_set(&topology.join("core_cpus_list")).or_else(|| cpu_set(&topology.join("thread_siblings_list")));
            let threads = threads.unwrap_or_else(|| [cpu].into_iter().collect());
            if seen.insert(threads.to_string()) {
                cores.push(Core { node: Some(node), cpus: threads });
            }
        }
    }
    cores
}

/// The NUMA nodes whose memory a job on the processors `cpus` is bound to. Only where processors are the devices: a
/// model on GPUs may be larger in main memory than one node, and what is local is taken first anyway.
pub fn memory_nodes(platform: Platform, sys: &Path, cpus: &CpuSet) -> Option<CpuSet> {
    let own = |node: &CpuSet| node.iter().any(|cpu| cpus.contains(cpu));
    let near: CpuSet = nodes(sys).into_iter().filter(|(_, node)| own(node)).map(|(number, _)| number).collect();
    (platform.is_cpu() && !near.is_empty()).then_some(near)
}

/// The NUMA node of each device, as far as it is known: a CPU's devices are its nodes, a GPU's node stands at its PCI
/// address.
///
/// # Errors
/// When the tool is there and does not answer.
pub async fn device_nodes(tools: &Tools, platform: Platform, sys: &Path) -> Result<BTreeMap<DeviceId, u32>, ToolError> {
    match platform {
        Platform::Cpu | Platform::Arm64Cpu => {
            Ok(nodes(sys).into_keys().map(|node| (DeviceId::from(node), node)).collect())
        }
        Platform::Cuda => {
            let answer = tools.run("nvidia-smi", &["--query-gpu=index,pci.bus_id", "--format=csv,noheader"]).await;
            let answer = answer.transpose()?.unwrap_or_default();
            Ok(answer.lines().filter_map(|line| node_of_gpu(line, sys)).collect())
        }
        Platform::Rocm | Platform::Hpu => Ok(BTreeMap::new()),
    }
}

/// `0, 00000000:1B:00.0` and what the kernel says of that address; -1 stands for "no node".
fn node_of_gpu(line: &str, sys: &Path) -> Option<(DeviceId, u32)> {
    let (index, address) = line.split_once(',')?;
    let address = address.trim().to_lowercase();
    // The tool writes the domain with eight digits, the kernel with four.
    let address = address.strip_prefix("0000").filter(|rest| rest.len() == "0000:1b:00.0".len()).unwrap_or(&address);
    let node = fs::read_to_string(sys.join("bus/pci/devices").join(address).join("numa_node")).ok()?;
    Some((DeviceId::from(index.trim().parse::<u32>().ok()?), node.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::device::tests::make_tool;
    use super::*;

    fn used(usage: Usage) -> Vec<(u32, String)> {
        let Usage::Known(busy) = usage else { panic!("{usage:?}") };
        busy.into_iter().map(|busy| (busy.device.number(), busy.by)).collect()
    }

    #[tokio::test]
    async fn processes_are_found_by_the_vendors_tools() {
        let folder = tempfile::tempdir().unwrap();
        let tools = Tools::in_folders(vec![folder.path().to_owned()]);
        for platform in [Platform::Cuda, Platform::Rocm, Platform::Hpu] {
            assert_eq!(usage(&tools, platform).await.unwrap(), Usage::Unknown, "no tool");
        }
        let script = "case \"$1\" in
            *gpu=*) echo '0, GPU-aa'; echo '1, GPU-bb'; echo ' 10, GPU-cc' ;;
            *apps=*) echo 'GPU-cc, 4242, /usr/bin/python3'; echo 'GPU-aa, 7, [Not Found]'; echo 'GPU-zz, 8, x'; echo ;;
            esac";
        make_tool(folder.path(), "nvidia-smi", script);
        let found = used(usage(&tools, Platform::Cuda).await.unwrap());
        assert_eq!(found, [(10, "python3 (pid 4242)".to_owned()), (0, "a process (pid 7)".to_owned())]);
        make_tool(folder.path(), "rocm-smi", "echo '{\"system\": {\"PID4242\": \"[1, 0]\", \"x\": \"\"}}'");
        let found = used(usage(&tools, Platform::Rocm).await.unwrap());
        assert_eq!(found.iter().map(|(device, _)| *device).collect::<Vec<_>>(), [0, 1]);
        make_tool(folder.path(), "nvidia-smi", "echo 'Unable to determine the device handle'; exit 15");
        let error = usage(&tools, Platform::Cuda).await.unwrap_err();
        assert!(error.to_string().contains("Unable to determine"), "{error}");
    }

    #[test]
    fn what_the_tool_of_amd_says_otherwise_tells_nothing() {
        assert_eq!(rocm_processes("{}"), Usage::Known(Vec::new()));
        assert_eq!(rocm_processes(r#"{"system": {}}"#), Usage::Known(Vec::new()));
        for odd in ["", "No KFD PIDs currently running", "[]", r#"{"card0": 1}"#] {
            assert_eq!(rocm_processes(odd), Usage::Unknown, "{odd}");
        }
    }

    /// A host with two nodes of two cores with two threads each.
    fn two_nodes() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let write = |file: String, text: &str| {
            let file = sys.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        for (node, cpus) in [(0, "0-1,4-5\n"), (1, "2-3,6-7\n")] {
            write(format!("devices/system/node/node{node}/cpulist"), cpus);
        }
        for cpu in 0..8 {
            let threads = format!("{},{}\n", cpu % 4, cpu % 4 + 4);
            write(format!("devices/system/cpu/cpu{cpu}/topology/core_cpus_list"), &threads);
        }
        for (address, node) in [("0000:1b:00.0", "0\n"), ("0001:3a:00.0", "1\n"), ("0000:4c:00.0", "-1\n")] {
            write(format!("bus/pci/devices/{address}/numa_node"), node);
        }
        sys
    }

    #[tokio::test]
    async fn processors_are_near_their_devices() {
        let sys = two_nodes();
        let found: Vec<_> = cores(sys.path()).into_iter().map(|core| (core.node, core.cpus.to_string())).collect();
        let expected = [(0, "0,4"), (0, "1,5"), (1, "2,6"), (1, "3,7")];
        assert_eq!(found, expected.map(|(node, cpus)| (Some(node), cpus.to_owned())));
        let folder = tempfile::tempdir().unwrap();
        let tools = Tools::in_folders(vec![folder.path().to_owned()]);
        let lines = "echo '0, 00000000:1B:00.0'; echo '1, 00000001:3A:00.0'; echo '2, 00000000:4C:00.0'; echo '3, ?'";
        make_tool(folder.path(), "nvidia-smi", lines);
        let nodes = device_nodes(&tools, Platform::Cuda, sys.path()).await.unwrap();
        assert_eq!(nodes, BTreeMap::from([(DeviceId::from(0), 0), (DeviceId::from(1), 1)]));
        let nodes = device_nodes(&tools, Platform::Cpu, sys.path()).await.unwrap();
        assert_eq!(nodes, BTreeMap::from([(DeviceId::from(0), 0), (DeviceId::from(1), 1)]));
        assert!(cores(folder.path()).is_empty(), "a kernel that tells nothing");
        let near = |platform, cpus: &str| memory_nodes(platform, sys.path(), &cpus.parse().unwrap());
        assert_eq!(near(Platform::Cpu, "1,5"), Some("0".parse().unwrap()));
        assert_eq!(near(Platform::Cpu, "1,3"), Some("0-1".parse().unwrap()));
        assert_eq!(near(Platform::Cuda, "1,5"), None);
        assert_eq!(memory_nodes(Platform::Cpu, folder.path(), &"1".parse().unwrap()), None);
    }

    #[test]
    fn a_node_whose_processors_work_is_busy() {
        let sys = two_nodes();
        let stat = |busy: u64| {
            let lines = (0..8).map(|cpu| {
                // Processors 2, 3, 6 and 7 worked; waiting for a disk is no work.
                let user = if [2, 3, 6, 7].contains(&cpu) { busy } else { 0 };
                format!("cpu{cpu} {user} 0 0 {} {busy} 0 0 0 0 0\n", 1000 + 100 - user)
            });
            format!("cpu 9 9 9 9\n{}intr 5\n", lines.collect::<String>())
        };
        let nodes = nodes(sys.path());
        let found = busy_nodes(&stat(0), &stat(50), &nodes);
        assert_eq!(found.iter().map(|busy| busy.device.number()).collect::<Vec<_>>(), [1], "{found:?}");
        assert_eq!(busy_nodes(&stat(50), &stat(50), &nodes), [], "no time has passed");
        assert_eq!(busy_nodes("", "nonsense", &nodes), []);
    }
}
