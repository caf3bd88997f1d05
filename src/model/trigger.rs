//! Why a run exists, and for which side of a comparison a measurement is taken.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RunId;

/// Why a run exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trigger {
    /// The configured times.
    Schedule,
    /// A label or a new commit of a pull request.
    PullRequest {
        /// The pull request's number.
        number: u64,
    },
    /// A commit that reached a watched branch.
    Merge,
    /// A release tag.
    Release {
        /// The tag, for example `v0.11.0`.
        tag: String,
    },
    /// A person, on the command line or through the API.
    Manual,
    /// A comment on a pull request.
    Command {
        /// The pull request's number.
        number: u64,
    },
    /// The same commit once more.
    Rerun {
        /// The run that is repeated.
        of: RunId,
    },
    /// The search for the commit that changed a series.
    Bisect,
    /// The same image against itself: how much noise there is.
    #[serde(rename = "aa")]
    AA,
    /// It was read from published objects: benchd did not measure it here, and no files of it are here.
    Imported {
        /// The bucket or folder it was read from.
        from: String,
        /// The number of the run that its records carry, where it is not this run's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workflow_id: Option<String>,
    },
}

impl Trigger {
    /// The name in the store, the API and filters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::PullRequest { .. } => "pull_request",
            Self::Merge => "merge",
            Self::Release { .. } => "release",
            Self::Manual => "manual",
            Self::Command { .. } => "command",
            Self::Rerun { .. } => "rerun",
            Self::Bisect => "bisect",
            Self::AA => "aa",
            Self::Imported { .. } => "imported",
        }
    }

    /// Whether the run's results were read from published objects.
    pub fn is_imported(&self) -> bool {
        matches!(self, Self::Imported { .. })
    }

    /// Whether the artifacts of such a run are kept for ever: releases are what later ones are held against.
    pub fn keeps_artifacts(&self) -> bool {
        match self {
            Self::Release { .. } => true,
            Self::Schedule
            | Self::PullRequest { .. }
            | Self::Merge
            | Self::Manual
            | Self::Command { .. }
            | Self::Rerun { .. }
            | Self::Bisect
            | Self::AA
            | Self::Imported { .. } => false,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule => f.write_str("schedule"),
            Self::PullRequest { number } => write!(f, "pull request #{number}"),
            Self::Merge => f.write_str("merge"),
            Self::Release { tag } => write!(f, "release {tag}"),
            Self::Manual => f.write_str("manual"),
            Self::Command { number } => write!(f, "command on #{number}"),
            Self::Rerun { of } => write!(f, "rerun of {of}"),
            Self::Bisect => f.write_str("bisect"),
            Self::AA => f.write_str("A-A"),
            Self::Imported { .. } => f.write_str("imported"),
        }
    }
}

/// Which side of a comparison a job, pass or measurement belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The commit under judgement.
    Candidate,
    /// The commit it is held against.
    Baseline,
    /// The same image once more.
    #[serde(rename = "aa")]
    AA,
}

/// No role has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a role (candidate, baseline, aa)")]
pub struct UnknownRole(String);

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Candidate, Self::Baseline, Self::AA];

    /// The name in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Baseline => "baseline",
            Self::AA => "aa",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_on_the_wire() {
        let of = RunId::try_from(7).unwrap();
        let all = [
            Trigger::Schedule,
            Trigger::PullRequest { number: 1 },
            Trigger::Merge,
            Trigger::Release { tag: "v1".into() },
            Trigger::Manual,
            Trigger::Command { number: 1 },
            Trigger::Rerun { of },
            Trigger::Bisect,
            Trigger::AA,
            Trigger::Imported { from: "s3://b".into(), workflow_id: Some("19612345678".into()) },
        ];
        for trigger in all {
            let json = serde_json::to_value(&trigger).unwrap();
            assert_eq!(json["kind"], trigger.kind());
            assert_eq!(serde_json::from_value::<Trigger>(json).unwrap(), trigger);
        }
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
