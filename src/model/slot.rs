//! What of a host a job has to itself: devices by number, and the processors bound to them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A device of a host by its number, from 0 (a NUMA node on processors).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct DeviceId(u32);

/// Logical processors, written as the kernel writes them: `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct CpuSet(BTreeSet<u32>);

/// The text is not a list of processors.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a list of processors (`0-3,8`)")]
pub struct InvalidCpuSet(String);

/// What of a host a job has to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slot {
    /// Its devices, in ascending order.
    pub devices: Vec<DeviceId>,
    /// The processors it is bound to; `None` for all of the host.
    pub cpus: Option<CpuSet>,
}

/// A device that is used by a process that benchd did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BusyDevice {
    /// Which device.
    pub device: DeviceId,
    /// By whom, for people: `python3 (pid 4242)`.
    pub by: String,
}

/// No list of processors has larger numbers; keeps `0-4294967295` from filling the memory.
const MOST_CPUS: u32 = 1 << 16;

impl DeviceId {
    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl From<u32> for DeviceId {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl CpuSet {
    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this processor is one of them.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// The processors, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = InvalidCpuSet;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidCpuSet(text.to_owned());
        let number = |text: &str| text.trim().parse().ok().filter(|n: &u32| *n < MOST_CPUS);
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = number(first).zip(number(last)).ok_or_else(invalid)?;
            if first > last {
                return Err(invalid());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl TryFrom<String> for CpuSet {
    type Error = InvalidCpuSet;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(cpus: CpuSet) -> Self {
        cpus.to_string()
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                Some(_) | None => ranges.push((cpu, cpu)),
            }
        }
        for (n, (first, last)) in ranges.into_iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_written_as_the_kernel_does() {
        for (text, written) in [("0-3,8", "0-3,8"), ("8, 0,1,2,3\n", "0-3,8"), ("5", "5"), ("", ""), ("1-1", "1")] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), written, "{text}");
        }
        for bad in ["a", "3-1", "1-", "-1", "0-4294967295", "1;2"] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
    }
}
