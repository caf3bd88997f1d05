//! The plain difference of two values, and how many series of a run changed which way.

use std::ops::AddAssign;

use crate::model::Better;

/// How one value differs from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Change in percent of the baseline; positive when the candidate is larger.
    pub percent: f64,
    /// What it means.
    pub change: Change,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// Worse, by the threshold or more.
    Worse,
    /// Better, by the threshold or more.
    Better,
    /// Different by the threshold or more, of a metric that has no better direction.
    Different,
    /// Smaller than the threshold.
    Same,
}

/// How many series changed which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Worse.
    pub worse: usize,
    /// Better.
    pub better: usize,
    /// Different, without a better direction.
    pub different: usize,
    /// Within the threshold.
    pub same: usize,
    /// Without a baseline, or with one of zero.
    pub alone: usize,
}

/// How `candidate` differs from `baseline`; differences below `threshold_percent` count as none. `None` when there is
/// nothing to divide by.
pub fn difference(baseline: f64, candidate: f64, better: Option<Better>, threshold_percent: f64) -> Option<Difference> {
    let percent = (candidate - baseline) / baseline.abs() * 100.0;
    if !percent.is_finite() {
        return None;
    }
    let change = match better {
        _ if percent.abs() < threshold_percent || percent.abs() < f64::EPSILON => Change::Same,
        None => Change::Different,
        Some(Better::Higher) if percent > 0.0 => Change::Better,
        Some(Better::Lower) if percent < 0.0 => Change::Better,
        Some(Better::Higher | Better::Lower) => Change::Worse,
    };
    Some(Difference { percent, change })
}

impl Tally {
    /// Counts one series more.
    pub fn count(&mut self, difference: Option<&Difference>) {
        let counter = match difference.map(|difference| difference.change) {
            Some(Change::Worse) => &mut self.worse,
            Some(Change::Better) => &mut self.better,
            Some(Change::Different) => &mut self.different,
            Some(Change::Same) => &mut self.same,
            None => &mut self.alone,
        };
        *counter += 1;
    }

    /// How many could be compared.
    pub fn compared(&self) -> usize {
        self.worse + self.better + self.different + self.same
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.worse += other.worse;
        self.better += other.better;
        self.different += other.different;
        self.same += other.same;
        self.alone += other.alone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(baseline: f64, candidate: f64, better: Option<Better>) -> Option<(i64, Change)> {
        let found = difference(baseline, candidate, better, 1.0)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole numbers of this test")]
        Some((found.percent.round() as i64, found.change))
    }

    #[test]
    fn the_direction_says_what_a_change_means() {
        assert_eq!(of(100.0, 103.0, Some(Better::Higher)), Some((3, Change::Better)));
        assert_eq!(of(100.0, 103.0, Some(Better::Lower)), Some((3, Change::Worse)));
        assert_eq!(of(100.0, 97.0, Some(Better::Lower)), Some((-3, Change::Better)));
        assert_eq!(of(100.0, 97.0, Some(Better::Higher)), Some((-3, Change::Worse)));
        assert_eq!(of(100.0, 97.0, None), Some((-3, Change::Different)));
        assert_eq!(of(100.0, 100.9, Some(Better::Lower)), Some((1, Change::Same)));
        assert_eq!(of(-100.0, -103.0, Some(Better::Higher)), Some((-3, Change::Worse)));
    }

    #[test]
    fn without_a_baseline_to_divide_by_there_is_no_difference() {
        for (baseline, candidate) in [(0.0, 1.0), (0.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            assert_eq!(difference(baseline, candidate, None, 1.0), None, "{baseline} {candidate}");
        }
        assert_eq!(difference(5.0, 5.0, None, 0.0).map(|found| found.change), Some(Change::Same));
    }
}
