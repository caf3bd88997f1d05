//! What is expected of a benchmark and what came of it, point by point.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Better, MetricClass, Variant};

/// One point that a pass is expected to produce: a benchmark at one request rate and concurrency, or, for suites
/// without a load, the benchmark itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedPoint {
    /// `serving`, `latency`, `throughput`, `startup`, or the name of a command suite.
    pub suite: String,
    /// The benchmark's name with its variant's suffix, as in the suite file.
    pub benchmark: String,
    /// How the engine compiles.
    pub variant: Variant,
    /// Base name of the result files, for example `serving_llama8B_tp1_sharegpt_qps_4_concurrency_200`.
    pub point: String,
    /// Whether the benchmark is told to run without compilation, so that zero compilation times are right.
    pub eager: bool,
}

/// What came of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PointState {
    /// At least one valid record and no invalid one.
    Ok,
    /// Nothing shows that it was started.
    NotRun,
    /// It was started and left no valid record.
    Failed,
    /// Every value is zero.
    Zeroed,
    /// A value is NaN, infinite, or no number at all.
    NotANumber,
    /// Produced but not in the plan (adaptive search adds points); no fault.
    Extra,
}

/// No point state has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a state of a point")]
pub struct UnknownPointState(String);

impl PointState {
    /// All states.
    pub const ALL: [Self; 6] = [Self::Ok, Self::NotRun, Self::Failed, Self::Zeroed, Self::NotANumber, Self::Extra];

    /// The name in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotRun => "not_run",
            Self::Failed => "failed",
            Self::Zeroed => "zeroed",
            Self::NotANumber => "not_a_number",
            Self::Extra => "extra",
        }
    }
}

impl FromStr for PointState {
    type Err = UnknownPointState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| UnknownPointState(text.to_owned()))
    }
}

/// The values of one metric of one point in one pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The benchmark's name with its variant's suffix.
    pub benchmark: String,
    /// The point's name.
    pub point: String,
    /// The metric's name as the suite writes it.
    pub metric: String,
    /// Unit for people, may be empty.
    pub unit: String,
    /// Which direction is better; `None` for information.
    pub better: Option<Better>,
    /// How much it counts in a verdict.
    pub class: MetricClass,
    /// All raw values, in the suite's order; finite numbers.
    pub values: Vec<f64>,
}

impl Measurement {
    /// Arithmetic mean of the values; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        let mut count = 0.0;
        let mut sum = 0.0;
        for value in &self.values {
            count += 1.0;
            sum += value;
        }
        (count > 0.0).then(|| sum / count)
    }
}
