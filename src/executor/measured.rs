//! What a pass measured: its results directory judged against its job's points, turned into the rows of the store.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::model::{ExpectedPoint, FailureKind, Measurement, Platform, PointState, Variant};
use crate::queue::planner::{PlannedJob, SuiteFile};
use crate::queue::{PointOutcome, SeriesMeasurement};
use crate::results::measurement::Collector;
use crate::results::series::configuration_hash;
use crate::results::{CheckError, Expectation, Report, check, variant_of};

/// A judged results directory.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The judgement, as `benchd results check` gives it.
    pub report: Report,
    /// Every point with what came of it.
    pub points: Vec<PointOutcome>,
    /// Everything that was measured, with its series' configuration.
    pub measurements: Vec<SeriesMeasurement>,
}

impl Measured {
    /// How many points are in order.
    pub fn good(&self) -> usize {
        self.points.iter().filter(|point| is_good(point.state)).count()
    }

    /// How many expected points are not there or not in order, and problems beside them count as one more.
    pub fn missing(&self) -> usize {
        self.points.len() - self.good() + usize::from(!self.report.problems.is_empty())
    }
}

impl Measured {
    /// Which failure it is when nothing of it is good although files came out.
    pub fn worthless(&self) -> FailureKind {
        if self.points.iter().any(|point| point.state == PointState::Zeroed) {
            FailureKind::ZeroedResults
        } else if self.report.problems.is_empty() {
            FailureKind::NoResults
        } else {
            FailureKind::InvalidResults
        }
    }
}

fn is_good(state: PointState) -> bool {
    match state {
        PointState::Ok | PointState::Extra => true,
        PointState::NotRun | PointState::Failed | PointState::Zeroed | PointState::NotANumber => false,
    }
}

/// What a job's results are held against.
pub fn expectation(job: &PlannedJob, platform: Platform) -> Expectation {
    // A suite that names no points is held against the files that it leaves.
    let points = (!job.points.is_empty()).then(|| job.points.clone());
    Expectation { points, without_compilation: !platform.has_variants() }
}

/// Judges `dir` for `job`. Blocks on the file system.
///
/// # Errors
/// When the directory cannot be read.
pub fn measure(dir: &Path, job: &PlannedJob, platform: Platform) -> Result<Measured, CheckError> {
    let mut collector = Collector::default();
    let report = check(dir, expectation(job, platform), &mut |finding| {
        collector.take(&finding);
        Ok(())
    })?;
    let configurations = configurations(&job.suite_files);
    let measurements = collector.finish();
    let series = |measurement: Measurement| SeriesMeasurement {
        variant: variant_of(&measurement.benchmark),
        configuration: configurations.get(&measurement.benchmark).cloned().unwrap_or_default(),
        measurement,
    };
    let expected: BTreeMap<&str, &ExpectedPoint> = job.points.iter().map(|p| (p.point.as_str(), p)).collect();
    let points = report.points.iter().map(|point| PointOutcome {
        point: expected
            .get(point.point.as_str())
            .map_or_else(|| unexpected(&point.benchmark, &point.point), |known| (*known).clone()),
        state: point.state,
        reason: point.reason.clone(),
    });
    Ok(Measured { points: points.collect(), measurements: measurements.into_iter().map(series).collect(), report })
}

/// When nothing came out at all: every expected point was not run.
pub fn nothing(job: &PlannedJob, reason: &str) -> Vec<PointOutcome> {
    let not_run = |point: &ExpectedPoint| PointOutcome {
        point: point.clone(),
        state: PointState::NotRun,
        reason: Some(reason.to_owned()),
    };
    job.points.iter().map(not_run).collect()
}

fn unexpected(benchmark: &str, point: &str) -> ExpectedPoint {
    let variant = variant_of(benchmark);
    let suite = benchmark.split('_').next().unwrap_or_default().to_owned();
    let eager = match variant {
        Variant::Eager => true,
        Variant::Base | Variant::InductorGraphPartition => false,
    };
    ExpectedPoint { suite, benchmark: benchmark.to_owned(), variant, point: point.to_owned(), eager }
}

/// The configuration hash of each benchmark: of its own parameters and variables, without its name and without the
/// rates and concurrencies, which make points and not series' configurations.
fn configurations(files: &[SuiteFile]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in files {
        let (defaults, tests) = match &file.content {
            Value::Array(tests) => (None, tests.as_slice()),
            Value::Object(object) => {
                (object.get("defaults"), object.get("tests").and_then(Value::as_array).map_or(&[][..], Vec::as_slice))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (None, &[][..]),
        };
        for test in tests {
            let Some(name) = test.get("test_name").and_then(Value::as_str) else { continue };
            let mut own = test.clone();
            if let Value::Object(own) = &mut own {
                for key in ["test_name", "qps_list", "max_concurrency_list"] {
                    own.shift_remove(key);
                }
                if let Some(defaults) = defaults {
                    own.insert("defaults".to_owned(), defaults.clone());
                }
            }
            found.insert(name.to_owned(), configuration_hash(&own));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_the_parameters_and_not_the_name_or_the_load() {
        let file = |text: &str| SuiteFile {
            name: "serving-tests.json".to_owned(),
            content: serde_json::from_str(text).unwrap(),
        };
        let one =
            configurations(&[file(r#"[{"test_name": "a", "qps_list": [1], "server_parameters": {"model": "m"}}]"#)]);
        let more = configurations(&[file(
            r#"[{"test_name": "b", "qps_list": [1, 4], "max_concurrency_list": [8], "server_parameters": {"model": "m"}}]"#,
        )]);
        let other =
            configurations(&[file(r#"[{"test_name": "c", "qps_list": [1], "server_parameters": {"model": "n"}}]"#)]);
        assert_eq!(one["a"], more["b"]);
        assert_ne!(one["a"], other["c"]);
    }
}
