//! A host's devices as an inventory: which there are, which processors are bound to each, and which blocks of them go
//! together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Packing;
use crate::model::{CpuSet, DeviceId, DeviceType, Platform, Target};

/// What a host has for jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Inventory {
    /// Kind of hardware.
    pub platform: Platform,
    /// Its hardware.
    pub device_type: DeviceType,
    /// The devices that jobs may have, ascending.
    pub devices: Vec<HostDevice>,
    /// Whether jobs share the host.
    pub packing: Packing,
}

/// A device and the processors that go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostDevice {
    /// Which device.
    pub id: DeviceId,
    /// Its share of the processors; empty when they are not known.
    pub cpus: CpuSet,
}

/// A core of a processor with its threads, which are never given to different jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The NUMA node it belongs to.
    pub node: Option<u32>,
    /// Its logical processors.
    pub cpus: CpuSet,
}

impl Inventory {
    /// The devices `ids` of a host whose processors are not known.
    pub fn new(
        platform: Platform,
        device_type: DeviceType,
        ids: impl IntoIterator<Item = DeviceId>,
        packing: Packing,
    ) -> Self {
        let ids: BTreeSet<_> = ids.into_iter().collect();
        let devices = ids.into_iter().map(|id| HostDevice { id, cpus: CpuSet::default() }).collect();
        Self { platform, device_type, devices, packing }
    }

    /// A host with the devices 0 to `target.count` for one job at a time.
    pub fn whole(target: &Target) -> Self {
        let ids = (0..target.count).map(DeviceId::from);
        Self::new(target.platform, target.device_type.clone(), ids, Packing::Exclusive)
    }

    /// Binds cores to devices: each device gets an equal share of the cores of its NUMA node (`nodes`), and of those
    /// that no device is nearer to. A device whose node is not known counts to all of them alike.
    #[must_use]
    pub fn with_cores(mut self, cores: &[Core], nodes: &BTreeMap<DeviceId, u32>) -> Self {
        let near: BTreeSet<_> = self.devices.iter().filter_map(|device| nodes.get(&device.id)).collect();
        let all_known = self.devices.iter().all(|device| nodes.contains_key(&device.id));
        let mut groups: BTreeMap<Option<u32>, Vec<&Core>> = BTreeMap::new();
        for core in cores {
            let node = core.node.filter(|node| all_known && near.contains(node));
            groups.entry(node).or_default().push(core);
        }
        for (node, cores) in groups {
            let belongs = |device: &HostDevice| node.is_none_or(|node| nodes.get(&device.id) == Some(&node));
            let count = self.devices.iter().filter(|device| belongs(device)).count();
            for (n, device) in self.devices.iter_mut().filter(|device| belongs(device)).enumerate() {
                let share = cores.len() * n / count..cores.len() * (n + 1) / count;
                let share = cores.get(share).unwrap_or_default().iter().flat_map(|core| core.cpus.iter());
                device.cpus = device.cpus.iter().chain(share).collect();
            }
        }
        self
    }

    /// How many devices there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.devices.len()).unwrap_or(u32::MAX)
    }

    /// The target that the whole host is.
    pub fn target(&self) -> Target {
        Target { platform: self.platform, device_type: self.device_type.clone(), count: self.count() }
    }

    /// All devices, ascending.
    pub(super) fn ids(&self) -> Vec<DeviceId> {
        self.devices.iter().map(|device| device.id).collect()
    }

    /// The processors of these devices; `None` when those of one of them are not known.
    pub(super) fn cpus_of(&self, devices: &[DeviceId]) -> Option<CpuSet> {
        let chosen: Vec<_> = self.devices.iter().filter(|device| devices.contains(&device.id)).collect();
        let known = !chosen.is_empty() && chosen.iter().all(|device| !device.cpus.is_empty());
        known.then(|| chosen.iter().flat_map(|device| device.cpus.iter()).collect())
    }

    /// The blocks of `count` neighbours that begin at a multiple of `count` (rounded up to a power of two): on real
    /// hosts such devices are nearest to each other, and blocks of different sizes never cut each other.
    pub(super) fn aligned_blocks(&self, count: u32) -> Vec<Vec<DeviceId>> {
        let ids = self.ids();
        let step = usize::try_from(count.max(1).next_power_of_two()).unwrap_or(usize::MAX);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let starts = (0..ids.len()).step_by(step);
        starts.filter_map(|start| ids.get(start..start.checked_add(count)?)).map(<[DeviceId]>::to_vec).collect()
    }

    /// `count` of the free devices: an aligned block where there is one, of these the one in the fullest
    /// neighbourhood, so that large blocks stay whole; otherwise neighbours; otherwise any.
    pub(super) fn block_of(&self, count: u32, free: &BTreeSet<DeviceId>) -> Option<Vec<DeviceId>> {
        let is_free = |block: &Vec<DeviceId>| block.iter().all(|device| free.contains(device));
        let aligned = self.aligned_blocks(count).into_iter().filter(is_free);
        if let Some(block) = aligned.min_by_key(|block| (self.free_around(block, free), block.clone())) {
            return Some(block);
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let ids = self.ids();
        let neighbours = (0..ids.len()).filter_map(|start| ids.get(start..start.checked_add(count)?));
        if let Some(block) = neighbours.map(<[DeviceId]>::to_vec).find(is_free) {
            return Some(block);
        }
        let any: Vec<_> = free.iter().copied().take(count).collect();
        (any.len() == count && count > 0).then_some(any)
    }

    /// How many devices are free in the aligned blocks of twice, four times .. the size around `block`.
    fn free_around(&self, block: &[DeviceId], free: &BTreeSet<DeviceId>) -> Vec<usize> {
        let Ok(mut size) = u32::try_from(block.len()).map(u32::next_power_of_two) else { return Vec::new() };
        let mut around = Vec::new();
        while size < self.count() {
            size = size.saturating_mul(2);
            let step = usize::try_from(size).unwrap_or(usize::MAX);
            let ids = self.ids();
            let home = ids.chunks(step).find(|home| block.iter().any(|device| home.contains(device)));
            around.push(home.unwrap_or_default().iter().filter(|device| free.contains(device)).count());
        }
        around
    }
}
