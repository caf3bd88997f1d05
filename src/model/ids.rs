//! Names of runs, jobs and runners. Ids are positive integers below 2^53 (exact in JSON and JavaScript), ordered by
//! time and unique over hosts; published records carry them as `workflow_id` and `job_id`.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Ids stay below this: integers that a double holds exactly.
const LIMIT: u64 = 1 << 53;
/// Low bits of an id that are random, so that two hosts hardly ever make the same id in the same millisecond.
const RANDOM_BITS: u32 = 12;
/// Milliseconds of 2024-01-01T00:00:00Z since 1970: ids count from there, which lasts until 2093.
const EPOCH_MS: i64 = 1_704_067_200_000;

/// The number is not an id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an id of a run or job (a positive integer below 2^53; `benchd runs` lists them)")]
pub struct InvalidId(String);

/// All ids below 2^53 are used, or the clock stands after 2093.
#[derive(Debug, thiserror::Error)]
#[error("failed to make an id: the clock stands after the year 2093, set the host's time")]
pub struct IdsExhausted;

/// The next id after `last` at `now`: its high bits are milliseconds since 2024, its low 12 bits are those of `random`.
/// Every id takes a millisecond of its own, so ids are strictly increasing whatever the clock does, and a burst of ids
/// stays as unlikely to collide with another host's as a single one.
pub fn next_id(last: Option<u64>, now: DateTime<Utc>, random: u16) -> Result<u64, IdsExhausted> {
    let now_ms = u64::try_from(now.timestamp_millis().saturating_sub(EPOCH_MS)).unwrap_or(0).max(1);
    let ms = last.map_or(now_ms, |last| now_ms.max((last >> RANDOM_BITS).saturating_add(1)));
    let low = u64::from(random) & ((1 << RANDOM_BITS) - 1);
    let id = ms.checked_mul(1 << RANDOM_BITS).map(|high| high | low);
    id.filter(|id| *id < LIMIT).ok_or(IdsExhausted)
}

/// An id that seems to be made at `at`, in the past: for runs that were not made here. Before 2024 its high bits are
/// seconds since 1970, so that the order stays. It may be taken.
pub fn past_id(at: DateTime<Utc>, random: u16) -> u64 {
    let low = u64::from(random) & ((1 << RANDOM_BITS) - 1);
    let since = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).ok().filter(|time| *time > 0);
    let id = since(EPOCH_MS, at.timestamp_millis()).and_then(|ms| ms.checked_mul(1 << RANDOM_BITS));
    id.map_or_else(|| since(0, at.timestamp()).unwrap_or(1), |high| high | low).min(LIMIT - 1)
}

/// When an id was made; `None` for one that was not made from a time since 2024.
pub fn made_at(id: u64) -> Option<DateTime<Utc>> {
    let ms = i64::try_from(id >> RANDOM_BITS).ok().filter(|ms| *ms > 0)?;
    DateTime::from_timestamp_millis(EPOCH_MS.checked_add(ms)?)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl $name {
            /// The number, as published.
            pub fn number(self) -> u64 {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = InvalidId;

            fn try_from(number: u64) -> Result<Self, Self::Error> {
                if (1..LIMIT).contains(&number) { Ok(Self(number)) } else { Err(InvalidId(number.to_string())) }
            }
        }

        impl From<$name> for u64 {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let number: u64 = text.trim().parse().map_err(|_| InvalidId(text.to_owned()))?;
                number.try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A run: measuring one commit because of one trigger.
    RunId
);
id!(
    /// A job: the part of a run that one runner does for one target and model.
    JobId
);

/// A machine with benchd on it, as it calls itself (usually its host name): one non-empty line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct RunnerName(String);

/// The text cannot name a runner.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a runner's name (one non-empty line of at most 255 bytes)")]
pub struct InvalidRunnerName(String);

impl RunnerName {
    /// A machine that nobody named.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the process that measures `run` on this host for a person, and no other run: `HOST/run-ID`.
    #[must_use]
    pub fn for_run(&self, run: RunId) -> Self {
        // A host's name has at most 64 bytes (hostname(7)), so that this is one too.
        Self(format!("{}/run-{run}", self.host()))
    }

    /// Whether this is the name of the process that measures `run` for a person.
    pub fn is_for_run(&self, run: RunId) -> bool {
        self.0.split_once('/').is_some_and(|(_, process)| process == format!("run-{run}"))
    }

    /// The host's name, of which processes of their own name share the devices.
    pub fn host(&self) -> &str {
        self.0.split_once('/').map_or(self.as_str(), |(host, _)| host)
    }
}

impl FromStr for RunnerName {
    type Err = InvalidRunnerName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        let valid = !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
        if valid { Ok(Self(name.to_owned())) } else { Err(InvalidRunnerName(text.to_owned())) }
    }
}

impl TryFrom<String> for RunnerName {
    type Error = InvalidRunnerName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunnerName> for String {
    fn from(name: RunnerName) -> Self {
        name.0
    }
}

impl fmt::Display for RunnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_time_ordered_and_fit_a_double() {
        let now = Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap();
        let first = next_id(None, now, 4095).unwrap();
        let second = next_id(Some(first), now, 0).unwrap();
        let later = next_id(Some(first), now + chrono::Duration::days(1), 0).unwrap();
        assert!(first < second && second < later && later < LIMIT);
        assert!(next_id(None, Utc.with_ymd_and_hms(2100, 1, 1, 0, 0, 0).unwrap(), 0).is_err());
        assert_ne!(next_id(None, DateTime::UNIX_EPOCH, 0).unwrap(), 0, "a clock before 2024 still makes positive ids");
    }

    #[test]
    fn text_is_checked_once() {
        for bad in ["", "0", "-1", "9007199254740992", "x", "1.5"] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
        assert_eq!(" 42 ".parse::<JobId>().unwrap().number(), 42);
        assert!("a\nb".parse::<RunnerName>().is_err());
    }

    #[test]
    fn ids_of_the_past_keep_its_order() {
        let at = |year| Utc.with_ymd_and_hms(year, 6, 1, 12, 0, 0).unwrap();
        let ids: Vec<u64> = [2019, 2023, 2024, 2025].map(|year| past_id(at(year), 7)).into();
        assert!(ids.is_sorted() && ids[0] > 0, "{ids:?}");
        assert!(past_id(DateTime::UNIX_EPOCH, 0) > 0 && past_id(DateTime::<Utc>::MAX_UTC, 0) < LIMIT);
        assert_eq!(made_at(next_id(None, at(2026), 9).unwrap()), Some(at(2026)));
        assert_eq!(made_at(past_id(at(2025), 9)), Some(at(2025)));
        assert_eq!(made_at(4095), None);
    }

    proptest! {
        #[test]
        fn strictly_increasing_though_the_clock_steps_back(
            steps in proptest::collection::vec((-10_000_000_i64..10_000_000, any::<u16>()), 1..200),
        ) {
            let mut now = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap();
            let mut last = None;
            for (step_ms, random) in steps {
                now += chrono::Duration::milliseconds(step_ms);
                let id = next_id(last, now, random).unwrap();
                prop_assert!(last.is_none_or(|last| id > last));
                prop_assert!((1..LIMIT).contains(&id));
                last = Some(id);
            }
        }
    }
}
