//! What a pass measured: its results directory judged against its job's points, turned into the rows of the store.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::{ExpectedPoint, FailureKind, Measurement, Platform, PointState, Variant};
use crate::queue::planner::PlannedJob;
use crate::queue::{PointOutcome, SeriesMeasurement, configurations};
use crate::results::measurement::Collector;
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
    let expected: BTreeMap<&str, &ExpectedPoint> = job.points.iter().map(|p| (p.point.as_str(), p)).collect();
    let series = |measurement: Measurement| SeriesMeasurement {
        // As the records say it.
        variant: expected
            .get(measurement.point.as_str())
            .map_or_else(|| variant_of(&measurement.benchmark), |point| point.variant),
        configuration: configurations.get(&measurement.benchmark).cloned().unwrap_or_default(),
        measurement,
    };
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
        Variant::Base | Variant::InductorGraphPartition | Variant::Unknown => false,
    };
    ExpectedPoint { suite, benchmark: benchmark.to_owned(), variant, point: point.to_owned(), eager }
}
