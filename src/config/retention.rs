//! How long things are kept that could be had again: artifacts of runs, images that benchd pulled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Size, shape};

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Files of runs (results, logs). Measurements in the store are kept for ever. The daemon looks every ten minutes,
    /// `benchd run` at its end.
    pub artifacts: ArtifactRetention,
    /// Images that benchd pulled; others are never touched.
    pub images: ImageRetention,
}

/// How long the files of a run are kept, whether it succeeded or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArtifactRetention {
    /// Files older than this go. Default: `90days`.
    #[serde(with = "shape::days")]
    pub max_age: Duration,
    /// Above this size in all, the oldest go first. Default: `50 GiB`.
    pub max_size: Size,
}

/// When pulled images are removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageRetention {
    /// This many of the images used last stay, for each repository and platform. Default: 3.
    pub keep: u32,
    /// Below this much free space on the engine's disk, more go, oldest first. Default: `50 GiB`.
    pub min_free: Size,
}

impl Default for ArtifactRetention {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(90 * 24 * 3600), max_size: Size::gib(50) }
    }
}

impl Default for ImageRetention {
    fn default() -> Self {
        Self { keep: 3, min_free: Size::gib(50) }
    }
}
