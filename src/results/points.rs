//! What came of each point: expected points held against what the files say. Pure bookkeeping beside the reading.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::names::{STARTUP_PARTS, benchmark_of, variant_of};
use super::problem::ProblemKind;
use crate::model::{ExpectedPoint, PointState, SuiteKind, Variant};

/// One point of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The benchmark's name with its variant's suffix.
    pub benchmark: String,
    /// The point's name.
    pub point: String,
    /// What came of it.
    pub state: PointState,
    /// Why it is not in order; `None` when it is.
    pub reason: Option<String>,
}

/// Where the expectation comes from: what an unexpected point means depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A plan names every point.
    Plan,
    /// The command files that the suite left; there may be none.
    Commands,
}

#[derive(Debug, Default)]
struct Tally {
    expected: Option<ExpectedPoint>,
    started: bool,
    valid: usize,
    parts: BTreeSet<String>,
    wrong: Option<(PointState, String)>,
}

/// The points of one directory.
#[derive(Debug)]
pub(super) struct Points {
    source: Source,
    /// Whether no point compiles, expected or not.
    without_compilation: bool,
    tallies: BTreeMap<String, Tally>,
}

impl Points {
    pub(super) fn expecting(source: Source, expected: Vec<ExpectedPoint>, without_compilation: bool) -> Self {
        let tallies = expected
            .into_iter()
            .map(|point| (point.point.clone(), Tally { expected: Some(point), ..Tally::default() }))
            .collect();
        Self { source, without_compilation, tallies }
    }

    /// Whether the point runs without compilation, as far as platform, plan and command say.
    pub(super) fn is_eager(&self, point: &str) -> bool {
        self.without_compilation || self.expectation(point).is_some_and(|e| e.eager)
    }

    /// The plan's word on benchmark and variant of a point, otherwise what its name says.
    pub(super) fn benchmark(&self, point: &str) -> (String, Variant) {
        match self.expectation(point) {
            Some(expected) => (expected.benchmark.clone(), expected.variant),
            None => {
                let benchmark = benchmark_of(point);
                (benchmark.to_owned(), variant_of(benchmark))
            }
        }
    }

    /// Whether anything expects the point or has shown it.
    pub(super) fn knows(&self, point: &str) -> bool {
        self.tallies.contains_key(point)
    }

    pub(super) fn started(&mut self, point: &str) {
        self.tally(point).started = true;
    }

    pub(super) fn valid(&mut self, point: &str, part: Option<&str>) {
        let tally = self.tally(point);
        tally.started = true;
        tally.valid += 1;
        if let Some(part) = part {
            tally.parts.insert(part.to_owned());
        }
    }

    /// Something is wrong with the point; the first fault is the one that is told.
    pub(super) fn wrong(&mut self, point: &str, kind: ProblemKind, message: &str) {
        let tally = self.tally(point);
        tally.started = true;
        tally.wrong.get_or_insert_with(|| (state_of(kind), message.to_owned()));
    }

    fn expectation(&self, point: &str) -> Option<&ExpectedPoint> {
        self.tallies.get(point)?.expected.as_ref()
    }

    fn tally(&mut self, point: &str) -> &mut Tally {
        self.tallies.entry(point.to_owned()).or_default()
    }

    /// The state of every point, by name.
    pub(super) fn settle(self) -> Vec<Point> {
        let source = self.source;
        let settled = |(point, tally): (String, Tally)| {
            let (state, reason) = settle_one(source, &tally);
            let benchmark = match tally.expected {
                Some(expected) => expected.benchmark,
                None => benchmark_of(&point).to_owned(),
            };
            Point { benchmark, point, state, reason }
        };
        self.tallies.into_iter().map(settled).collect()
    }
}

fn settle_one(source: Source, tally: &Tally) -> (PointState, Option<String>) {
    if let Some((state, reason)) = &tally.wrong {
        return (*state, Some(reason.clone()));
    }
    if !tally.started {
        return (PointState::NotRun, Some("nothing shows that it was started".to_owned()));
    }
    if tally.valid == 0 {
        return (PointState::Failed, Some("it was started and left no valid record".to_owned()));
    }
    let Some(expected) = &tally.expected else {
        return match source {
            Source::Plan => (PointState::Extra, None),
            Source::Commands => (PointState::Ok, None),
        };
    };
    if expected.suite == SuiteKind::Startup.as_str() {
        // Where nothing is compiled, compilation times may be left out.
        let wanted = STARTUP_PARTS.iter().filter(|part| !(expected.eager && part.ends_with("_compilation")));
        let missing: Vec<_> = wanted.filter(|part| !tally.parts.contains(**part)).copied().collect();
        if !missing.is_empty() {
            return (PointState::Failed, Some(format!("no result for {}", missing.join(", "))));
        }
    }
    (PointState::Ok, None)
}

fn state_of(kind: ProblemKind) -> PointState {
    match kind {
        ProblemKind::Zeroed => PointState::Zeroed,
        ProblemKind::NotANumber | ProblemKind::NotFinite => PointState::NotANumber,
        ProblemKind::Unreadable
        | ProblemKind::NotAFile
        | ProblemKind::TooLarge
        | ProblemKind::InvalidUtf8
        | ProblemKind::InvalidJson
        | ProblemKind::BadLine
        | ProblemKind::NoRecords
        | ProblemKind::NotARecord
        | ProblemKind::BadMetric
        | ProblemKind::NoValues
        | ProblemKind::EmptyValues
        | ProblemKind::BadShape
        | ProblemKind::HoldsSecret
        | ProblemKind::RequestsFailed
        | ProblemKind::RequestsMissing
        | ProblemKind::More => PointState::Failed,
    }
}
