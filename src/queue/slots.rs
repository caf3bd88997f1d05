//! Decides which job may have which devices of a host. Pure: inventory, jobs that hold devices, devices that others
//! use and the jobs in their order go in; for each job a slot or the reason to wait comes out.

mod forecast;
mod inventory;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::Packing;
use crate::model::{DeviceId, JobId, Slot};

pub use forecast::{Forecast, forecast};
pub use inventory::{Core, HostDevice, Inventory};
pub use order::soonest;

/// After this long as the first in line a job's reserved devices are lent to nobody any more, however short the other
/// job is expected to be: expectations may be wrong again and again.
pub const LEND_FOR: Duration = Duration::from_secs(2 * 3600);

/// A job that waits for devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanting {
    /// The job.
    pub job: JobId,
    /// How many devices it needs.
    pub needs: u32,
    /// How long it will hold them, as far as jobs like it tell.
    pub expected: Option<Duration>,
    /// Since when it waits.
    pub since: DateTime<Utc>,
}

/// A job that holds devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The job.
    pub job: JobId,
    /// Its devices; none stands for all of the host (a claim from before devices were written down).
    pub devices: Vec<DeviceId>,
    /// When it will give them back, as far as jobs like it tell.
    pub ends_at: Option<DateTime<Utc>>,
}

/// What a job gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It may start in this slot.
    Start {
        /// Its devices and processors.
        slot: Slot,
    },
    /// The host never has so many.
    TooLarge {
        /// How many it needs.
        needs: u32,
        /// How many there are.
        has: u32,
    },
    /// Too many devices are used by processes that benchd did not start.
    Busy {
        /// Which.
        devices: Vec<DeviceId>,
    },
    /// Other jobs hold the devices, or take them first.
    Taken {
        /// Which jobs.
        by: Vec<JobId>,
    },
    /// Devices are free, but kept for a job that needs more of them and is before it.
    KeptFor {
        /// That job.
        job: JobId,
    },
}

/// Devices that nobody else is given, so that a job that needs many of them gets its turn.
#[derive(Debug)]
struct Reservation {
    job: JobId,
    devices: BTreeSet<DeviceId>,
    /// When they are all free, as far as that is known, and may be lent until then.
    lent_until: Option<DateTime<Utc>>,
}

/// Judges every job of `wanting`, best-ranked first, as if those before it that may start had started. Devices in
/// `busy` that a job of benchd holds count as its own. A verdict is made when it is asked for.
pub fn decide<'a>(
    inventory: &'a Inventory,
    wanting: &'a [Wanting],
    holding: &[Holding],
    busy: &[DeviceId],
    now: DateTime<Utc>,
) -> impl Iterator<Item = Verdict> + use<'a> {
    let mut host = Host::new(inventory, holding, busy, now);
    wanting.iter().map(move |job| host.judge(job))
}

struct Host<'a> {
    inventory: &'a Inventory,
    now: DateTime<Utc>,
    /// Which job holds a device, and until when as far as that is known.
    taken: BTreeMap<DeviceId, (JobId, Option<DateTime<Utc>>)>,
    busy: BTreeSet<DeviceId>,
    reservation: Option<Reservation>,
}

impl<'a> Host<'a> {
    fn new(inventory: &'a Inventory, holding: &[Holding], busy: &[DeviceId], now: DateTime<Utc>) -> Self {
        let mut taken = BTreeMap::new();
        for held in holding {
            let all = inventory.ids();
            let devices = if held.devices.is_empty() { all } else { held.devices.clone() };
            // What is overdue ends any moment.
            let ends_at = held.ends_at.map(|at| at.max(now));
            taken.extend(devices.into_iter().map(|device| (device, (held.job, ends_at))));
        }
        let ours = inventory.ids();
        let busy = busy.iter().filter(|device| ours.contains(device) && !taken.contains_key(device));
        Self { inventory, now, busy: busy.copied().collect(), taken, reservation: None }
    }

    fn judge(&mut self, job: &Wanting) -> Verdict {
        let has = self.inventory.count();
        if job.needs > has {
            return Verdict::TooLarge { needs: job.needs, has };
        }
        match self.inventory.packing {
            Packing::Exclusive => self.judge_alone(job),
            Packing::Pack => self.judge_beside_others(job),
        }
    }

    /// One job at a time, on a host that nobody else uses.
    fn judge_alone(&mut self, job: &Wanting) -> Verdict {
        if !self.taken.is_empty() {
            return self.taken_by_all();
        }
        if !self.busy.is_empty() {
            return self.busy();
        }
        self.start(job, |host| host.inventory.block_of(job.needs, &host.free()))
    }

    fn judge_beside_others(&mut self, job: &Wanting) -> Verdict {
        let free = self.free();
        let kept = self.reservation.as_ref().map(|reservation| &reservation.devices);
        let open: BTreeSet<_> = free.iter().filter(|d| kept.is_none_or(|kept| !kept.contains(d))).copied().collect();
        if self.inventory.block_of(job.needs, &open).is_some() {
            return self.start(job, |host| host.inventory.block_of(job.needs, &open));
        }
        let fits = self.inventory.block_of(job.needs, &free).is_some();
        let Some(reservation) = &self.reservation else {
            self.reservation = self.reserve(job);
            let usable = self.inventory.count().saturating_sub(u32::try_from(self.busy.len()).unwrap_or(u32::MAX));
            return if usable < job.needs { self.busy() } else { self.taken_by_all() };
        };
        if !fits {
            return self.taken_by_all();
        }
        let ends_at = job.expected.map(|expected| self.now + expected);
        match (ends_at, reservation.lent_until) {
            (Some(ends_at), Some(lent_until)) if ends_at <= lent_until => {
                self.start(job, |host| host.inventory.block_of(job.needs, &free))
            }
            (Some(_) | None, Some(_) | None) => Verdict::KeptFor { job: reservation.job },
        }
    }

    /// Keeps the devices for `job` that will be free first, preferring blocks that it would be given. Nobody enters
    /// them but jobs that leave in time, so they only ever become free earlier: the job gets its turn.
    fn reserve(&self, job: &Wanting) -> Option<Reservation> {
        let usable: BTreeSet<_> = self.inventory.ids().into_iter().filter(|d| !self.busy.contains(d)).collect();
        // Unknown ends come last, and among them where fewer jobs are in the way.
        let free_at = |devices: &[DeviceId]| {
            let taken: Vec<_> = devices.iter().filter_map(|device| self.taken.get(device)).collect();
            let unknown = taken.iter().filter(|(_, ends_at)| ends_at.is_none()).count();
            (unknown, taken.iter().filter_map(|(_, ends_at)| *ends_at).max(), taken.len())
        };
        let blocks = self.inventory.aligned_blocks(job.needs);
        let whole = blocks.into_iter().filter(|block| block.iter().all(|device| usable.contains(device)));
        let devices = whole.min_by_key(|block| free_at(block)).or_else(|| {
            let mut scattered: Vec<_> = usable.iter().copied().collect();
            scattered.sort_by_key(|device| (free_at(&[*device]), *device));
            let needed = usize::try_from(job.needs).unwrap_or(usize::MAX);
            scattered.get(..needed).map(<[DeviceId]>::to_vec)
        })?;
        let (unknown, last, _) = free_at(&devices);
        let patient = self.now - job.since < chrono::Duration::from_std(LEND_FOR).unwrap_or_default();
        let lent_until = last.filter(|_| unknown == 0 && patient);
        Some(Reservation { job: job.job, devices: devices.into_iter().collect(), lent_until })
    }

    fn start(&mut self, job: &Wanting, block: impl FnOnce(&Self) -> Option<Vec<DeviceId>>) -> Verdict {
        let Some(mut devices) = block(self) else { return self.taken_by_all() };
        devices.sort_unstable();
        let ends_at = job.expected.map(|expected| self.now + expected);
        self.taken.extend(devices.iter().map(|device| (*device, (job.job, ends_at))));
        let cpus = match self.inventory.packing {
            Packing::Exclusive => None,
            Packing::Pack => self.inventory.cpus_of(&devices),
        };
        Verdict::Start { slot: Slot { devices, cpus } }
    }

    fn free(&self) -> BTreeSet<DeviceId> {
        let ids = self.inventory.ids().into_iter();
        ids.filter(|device| !self.taken.contains_key(device) && !self.busy.contains(device)).collect()
    }

    fn busy(&self) -> Verdict {
        Verdict::Busy { devices: self.busy.iter().copied().collect() }
    }

    fn taken_by_all(&self) -> Verdict {
        let by: BTreeSet<_> = self.taken.values().map(|(job, _)| *job).collect();
        Verdict::Taken { by: by.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests;
