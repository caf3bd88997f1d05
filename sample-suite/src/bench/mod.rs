//! The four benchmarks. Each measures, writes the native result and the records.

pub mod latency;
pub mod serve;
pub mod startup;
pub mod throughput;

use serde_json::{Map, Value};

use crate::stats::percentile;

/// The percentiles vLLM reports for times.
fn percentiles(values: &[f64]) -> Map<String, Value> {
    [10, 25, 50, 75, 90, 99]
        .map(|percent| (percent.to_string(), percentile(values, percent.into()).into()))
        .into_iter()
        .collect()
}
