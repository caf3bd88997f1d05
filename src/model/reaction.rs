//! The small signs that GitHub lets people and programs put on a comment.

use serde::{Deserialize, Serialize};

/// A reaction to a comment. Source: GitHub's REST API, "Reactions".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reaction {
    /// Thumb up.
    #[serde(rename = "+1")]
    ThumbUp,
    /// Thumb down.
    #[serde(rename = "-1")]
    ThumbDown,
    /// Eyes: seen, being worked on.
    #[serde(rename = "eyes")]
    Eyes,
    /// Rocket: begun.
    #[serde(rename = "rocket")]
    Rocket,
    /// A confused face: not understood.
    #[serde(rename = "confused")]
    Confused,
}

impl Reaction {
    /// The name in GitHub's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThumbUp => "+1",
            Self::ThumbDown => "-1",
            Self::Eyes => "eyes",
            Self::Rocket => "rocket",
            Self::Confused => "confused",
        }
    }
}
