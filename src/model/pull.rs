//! How a pull request stands, whose code its head is, and who wanted a run of it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a pull request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Open, and not to be reviewed yet.
    Draft,
    /// Open.
    Ready,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged,
}

/// Whose code a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A branch of the repository.
    Own,
    /// A branch of a fork, or of a repository that is gone.
    Fork,
}

/// Who wanted a run of a pull request, and how much of the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// The labels.
    Labels,
    /// A person, all of it: it stands for what the labels would start.
    Whole,
    /// A person, a part of it.
    Part,
}

/// No standing, origin or asker has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not known of pull requests")]
pub struct UnknownOfPull(String);

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Ready, Self::Closed, Self::Merged];

    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Ready => "ready",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }

    /// Whether it may still be merged.
    pub fn is_open(self) -> bool {
        match self {
            Self::Draft | Self::Ready => true,
            Self::Closed | Self::Merged => false,
        }
    }
}

impl Origin {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Own, Self::Fork];

    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Fork => "fork",
        }
    }
}

impl Asked {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Labels, Self::Whole, Self::Part];

    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Whole => "whole",
            Self::Part => "part",
        }
    }

    /// Whether such a run is what the labels would start.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Labels | Self::Whole => true,
            Self::Part => false,
        }
    }
}

impl FromStr for Standing {
    type Err = UnknownOfPull;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| UnknownOfPull(text.to_owned()))
    }
}

impl FromStr for Origin {
    type Err = UnknownOfPull;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| UnknownOfPull(text.to_owned()))
    }
}

impl FromStr for Asked {
    type Err = UnknownOfPull;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| UnknownOfPull(text.to_owned()))
    }
}
