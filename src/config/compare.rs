//! How a candidate is held against its baseline.

use serde::{Deserialize, Serialize};

/// Settings of the comparison. Thresholds are learnt from each series' own history, so there is little to set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompareConfig {
    /// Significant changes smaller than this are not told to people, in percent. Default: 1.
    pub min_effect_percent: f64,
}

impl Default for CompareConfig {
    fn default() -> Self {
        Self { min_effect_percent: 1.0 }
    }
}
