//! What a person may pause, and a pause.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RunnerName;

/// What can be paused. Written `triggers` and `host:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Control {
    /// Everything that starts runs by itself: schedule, pull requests, merges, releases. People may still ask.
    Triggers,
    /// A runner takes no more jobs; what it runs goes on.
    Host(RunnerName),
}

/// A pause: who, why and since when. It holds until it is taken back, whatever is restarted meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// What is paused: `triggers` or `host:NAME`.
    #[schema(value_type = String)]
    pub what: Control,
    /// Who paused it.
    pub by: String,
    /// Why, for people.
    pub why: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Nothing of this name can be paused.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be paused (`triggers`, `host:NAME`)")]
pub struct UnknownControl(String);

impl FromStr for Control {
    type Err = UnknownControl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownControl(text.to_owned());
        match text.split_once(':') {
            None if text == "triggers" => Ok(Self::Triggers),
            Some(("host", name)) => name.parse().map(Self::Host).map_err(|_name| unknown()),
            None | Some(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Triggers => f.write_str("triggers"),
            Self::Host(name) => write!(f, "host:{name}"),
        }
    }
}

impl TryFrom<String> for Control {
    type Error = UnknownControl;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Control> for String {
    fn from(control: Control) -> Self {
        control.to_string()
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} paused by {} since {}", self.what, self.by, self.since.format("%Y-%m-%d %H:%M:%SZ"))?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for text in ["triggers", "host:gpu-1", "host:a:b"] {
            assert_eq!(text.parse::<Control>().unwrap().to_string(), text);
        }
        for bad in ["", "host", "host:", "trigger", "Triggers", "hosts:x"] {
            assert!(bad.parse::<Control>().is_err(), "{bad}");
        }
    }
}
