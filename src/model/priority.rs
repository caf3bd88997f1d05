//! How urgent a run is: what its trigger says, unless a person says otherwise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Trigger;

/// How urgent a run is, from 0 (whenever nothing else is to do) to 100 (before everything else). What a point is
/// worth in waiting time says `queue::rank`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

/// The number is not a priority.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a priority (0 to 100; a manual request has 60)")]
pub struct InvalidPriority(String);

impl Priority {
    /// The most urgent.
    pub const HIGHEST: Self = Self(100);

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// What a trigger's runs have: manual 60, command 50, pull request 40, release 30, merge 20, schedule 10,
    /// bisection 5, A-A 0. A rerun was asked for by a person and counts as manual.
    pub fn of(trigger: &Trigger) -> Self {
        Self(match trigger {
            Trigger::Manual | Trigger::Rerun { .. } => 60,
            Trigger::Command { .. } => 50,
            Trigger::PullRequest { .. } => 40,
            Trigger::Release { .. } => 30,
            Trigger::Merge => 20,
            Trigger::Schedule => 10,
            Trigger::Bisect => 5,
            Trigger::AA | Trigger::Imported { .. } => 0,
        })
    }
}

impl TryFrom<u8> for Priority {
    type Error = InvalidPriority;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number <= Self::HIGHEST.0 { Ok(Self(number)) } else { Err(InvalidPriority(number.to_string())) }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl FromStr for Priority {
    type Err = InvalidPriority;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: u8 = text.trim().parse().map_err(|_number| InvalidPriority(text.to_owned()))?;
        number.try_into()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_0_to_100_is_a_priority() {
        assert_eq!("60".parse::<Priority>().unwrap(), Priority::of(&Trigger::Manual));
        for bad in ["101", "-1", "high", "", "256", "1.5"] {
            assert!(bad.parse::<Priority>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Priority>("101").is_err());
        assert_eq!(serde_json::from_str::<Priority>("100").unwrap(), Priority::HIGHEST);
    }
}
