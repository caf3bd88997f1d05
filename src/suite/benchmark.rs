//! One benchmark as the suite will read it, and its variants.

use serde_json::{Map, Value};

use super::compilation::{CompilationConfig, is_eager};
use crate::model::{ExpectedPoint, SuiteKind, Variant};

/// A request rate and a concurrency of a serving benchmark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests per second as the suite writes it into names: a number or `inf`.
    pub rate: String,
    /// Largest number of requests at a time; `None` where the file gives none and the suite asks for `null`.
    pub concurrency: Option<u64>,
}

/// A benchmark without faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Benchmark {
    /// Its name.
    pub name: String,
    /// Which suite runs it.
    pub suite: SuiteKind,
    /// The model as it is written.
    pub model: String,
    /// How many devices (NUMA nodes on processors) it occupies.
    pub devices: u32,
    /// What a serving benchmark is loaded with, in the order of the suite; empty for other suites.
    pub loads: Vec<Load>,
    /// The entry as it stands in its file.
    pub(super) entry: Map<String, Value>,
    /// The entry with its file's defaults, as the suite reads it.
    pub(super) merged: Map<String, Value>,
}

/// The sections that hold the engine's options.
const ENGINE_SECTIONS: [&str; 2] = ["parameters", "server_parameters"];

impl Benchmark {
    /// The model's name for comparing and for keys: trimmed, lower case.
    pub fn model_key(&self) -> String {
        self.model.trim().to_lowercase()
    }

    /// The entry of a variant: a copy with the variant's suffix and compilation configuration. Without one of its own
    /// (base) it takes `configured`; a variant's configuration replaces that one, they are not merged.
    pub fn entry_of(&self, variant: Variant, configured: Option<&CompilationConfig>) -> Map<String, Value> {
        self.vary(&self.entry, variant, configured)
    }

    /// The points that a variant is expected to produce.
    pub fn points_of(&self, variant: Variant, configured: Option<&CompilationConfig>) -> Vec<ExpectedPoint> {
        let merged = self.vary(&self.merged, variant, configured);
        let eager = ENGINE_SECTIONS.iter().filter_map(|s| merged.get(*s)?.as_object()).any(is_eager);
        let benchmark = format!("{}{}", self.name, variant.name_suffix());
        let point = |point: String| ExpectedPoint {
            suite: self.suite.as_str().to_owned(),
            benchmark: benchmark.clone(),
            variant,
            point,
            eager,
        };
        match self.suite {
            SuiteKind::Serving => {
                let name = |load: &Load| {
                    let concurrency = load.concurrency.map_or_else(|| "null".to_owned(), |c| c.to_string());
                    point(format!("{benchmark}_qps_{}_concurrency_{concurrency}", load.rate))
                };
                self.loads.iter().map(name).collect()
            }
            SuiteKind::Latency | SuiteKind::Throughput | SuiteKind::Startup => vec![point(benchmark.clone())],
        }
    }

    fn vary(
        &self,
        entry: &Map<String, Value>,
        variant: Variant,
        configured: Option<&CompilationConfig>,
    ) -> Map<String, Value> {
        let mut entry = entry.clone();
        entry.insert("test_name".to_owned(), Value::String(format!("{}{}", self.name, variant.name_suffix())));
        let own = CompilationConfig::of_variant(variant);
        if let Some(config) = own.as_ref().or(configured) {
            for section in ENGINE_SECTIONS.iter().filter(|s| self.merged.contains_key(**s)) {
                let parameters = entry.entry(*section).or_insert(Value::Null);
                if parameters.is_null() {
                    *parameters = Value::Object(Map::new());
                }
                if let Value::Object(parameters) = parameters {
                    config.set_in(parameters);
                }
            }
        }
        entry
    }
}
