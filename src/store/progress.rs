//! How far a job and a run have come: points, percent and the usual end, computed in one place for the comment, the API
//! and the command line.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AttemptDetail, JobDetail};
use crate::model::{JobState, PointState, Role};

/// How far a job or a run has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// How many points are behind it, whatever came of them.
    pub points_ended: usize,
    /// How many points it has.
    pub points_expected: usize,
    /// The one of the other, 0 to 100.
    pub percent: usize,
    /// When it will end if it takes as long as its like usually do; null while nobody knows: it waits, or nothing like
    /// it was measured here before.
    pub ends_at: Option<DateTime<Utc>>,
}

/// How many points of a job came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointCounts {
    /// Expected.
    pub expected: usize,
    /// How many have begun in a pass that runs.
    pub begun: usize,
    /// Measured.
    pub ok: usize,
    /// Failed, zeroed or not a number.
    pub failed: usize,
    /// Not run.
    pub not_run: usize,
}

impl PointCounts {
    /// What came of a job's points. Of a job that has ended, what was expected and nobody speaks of was not run.
    pub fn of(state: &JobState, spec: &serde_json::Value, last: Option<&AttemptDetail>) -> Self {
        let planned = spec.pointer("/planned/points").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
        let mut counts = Self { expected: planned, ..Self::default() };
        let mut extra = 0;
        if let Some(attempt) = last {
            if attempt.finished_at.is_none() {
                counts.begun = usize::try_from(attempt.points_begun).unwrap_or(0);
            }
            let passes = attempt.passes.iter().filter(|pass| pass.role == Role::Candidate);
            for point in passes.flat_map(|pass| &pass.points) {
                match point.state {
                    PointState::Ok => counts.ok += 1,
                    PointState::Extra => extra += 1,
                    PointState::NotRun => counts.not_run += 1,
                    PointState::Failed | PointState::Zeroed | PointState::NotANumber => counts.failed += 1,
                }
            }
        }
        if matches!(state, JobState::Finished { .. }) {
            counts.not_run += planned.saturating_sub(counts.ended());
        }
        counts.ok += extra;
        counts.expected = (counts.expected + extra).max(counts.ended());
        counts
    }

    /// How many have come to an end, whatever it was.
    pub fn ended(&self) -> usize {
        self.ok + self.failed + self.not_run
    }

    /// How many points are behind it. Of those that have begun, the last one runs.
    pub fn behind(&self) -> usize {
        self.ended().max(self.begun.saturating_sub(1))
    }
}

impl Progress {
    /// So many points of so many.
    pub fn of(ended: usize, expected: usize, ends_at: Option<DateTime<Utc>>) -> Self {
        let percent = (ended * 100).checked_div(expected).unwrap_or(0).min(100);
        Self { points_ended: ended, points_expected: expected, percent, ends_at }
    }

    /// A run's, from its jobs'. Its end is known when that of each open job is.
    pub(super) fn of_run(jobs: &[JobDetail]) -> Self {
        let sum = |count: fn(&Self) -> usize| jobs.iter().map(|job| count(&job.progress)).sum();
        let open = jobs.iter().filter(|job| !matches!(job.job.state, JobState::Finished { .. }));
        let ends: Option<Vec<_>> = open.map(|job| job.progress.ends_at).collect();
        Self::of(sum(|job| job.points_ended), sum(|job| job.points_expected), ends.into_iter().flatten().max())
    }
}

/// "15 of 24 points (62 %), done about 2026-09-21 15:08 UTC"; nothing when nothing is known.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.points_expected > 0 {
            let plural = if self.points_expected == 1 { "" } else { "s" };
            write!(f, "{} of {} point{plural} ({} %)", self.points_ended, self.points_expected, self.percent)?;
        }
        if let Some(ends_at) = self.ends_at {
            let comma = if self.points_expected > 0 { ", " } else { "" };
            write!(f, "{comma}done about {}", ends_at.format("%Y-%m-%d %H:%M UTC"))?;
        }
        Ok(())
    }
}
