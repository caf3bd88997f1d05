//! Whose turn it is: urgency and waiting in one number. A point of priority is worth [`POINT`] of waiting, so that a
//! less urgent job waits for more urgent ones only while those came at most so much later; nothing starves.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::model::{Priority, Trigger};

/// What a point of priority is worth in waiting time: ten points, the step from one trigger to the next, are 4 hours.
pub const POINT: Duration = Duration::from_secs(24 * 60);

/// Jobs whose ranks are less than this apart have their turn together.
pub const TOGETHER: Duration = Duration::from_secs(10 * 60);

/// A job's place among others: the greater goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(i64);

impl Rank {
    /// Whether two jobs have their turn together: they came at nearly the same time and are equally urgent.
    pub fn is_near(self, other: Self) -> bool {
        u128::from(self.0.abs_diff(other.0)) < TOGETHER.as_millis()
    }
}

/// The rank of a job of a run that `trigger` began, queued at `queued_at`:
///
/// > waited + priority x 24 minutes
///
/// where `priority` is what a person said (`explicit`), else [`Priority::of`] the trigger, and `waited` is the time
/// since `queued_at`, at least 0 (a clock that was set back gives nobody a disadvantage for ever). Of two jobs the one
/// that goes first stays first however long both wait. A job is passed only by jobs that came less than
/// 24 minutes x (their priority - its priority) after it, at most 40 hours; jobs that came later wait for it.
pub fn rank(trigger: &Trigger, queued_at: DateTime<Utc>, now: DateTime<Utc>, explicit: Option<Priority>) -> Rank {
    let priority = explicit.unwrap_or_else(|| Priority::of(trigger));
    let waited_ms = (now - queued_at).num_milliseconds().max(0);
    let point_ms = i64::try_from(POINT.as_millis()).unwrap_or(i64::MAX);
    Rank(waited_ms.saturating_add(point_ms.saturating_mul(i64::from(priority.number()))))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::model::RunId;

    fn triggers() -> [Trigger; 9] {
        [
            Trigger::Manual,
            Trigger::Rerun { of: RunId::try_from(1).unwrap() },
            Trigger::Command { number: 1 },
            Trigger::PullRequest { number: 1 },
            Trigger::Release { tag: "v1".into() },
            Trigger::Merge,
            Trigger::Schedule,
            Trigger::Bisect,
            Trigger::AA,
        ]
    }

    fn at(minutes: i64) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap() + chrono::Duration::minutes(minutes)
    }

    #[test]
    fn what_came_together_goes_by_urgency() {
        let ranks = triggers().map(|trigger| rank(&trigger, at(0), at(5), None));
        assert!(ranks.is_sorted_by(|a, b| a >= b), "{ranks:?}");
        assert_eq!(ranks[0], ranks[1], "a rerun is asked for by a person");
        assert!(ranks[1..].is_sorted_by(|a, b| a > b), "{ranks:?}");
    }

    #[test]
    fn what_came_within_minutes_has_its_turn_together() {
        let at_minute = |minute| rank(&Trigger::Schedule, at(minute), at(60), None);
        assert!(at_minute(0).is_near(at_minute(9)) && at_minute(9).is_near(at_minute(0)));
        assert!(!at_minute(0).is_near(at_minute(10)));
        assert!(!at_minute(0).is_near(rank(&Trigger::Merge, at(0), at(60), None)), "not as urgent");
    }

    #[test]
    fn waiting_outweighs_urgency() {
        let scheduled = rank(&Trigger::Schedule, at(0), at(21 * 60), None);
        assert!(scheduled < rank(&Trigger::Manual, at(19 * 60), at(21 * 60), None));
        assert!(scheduled > rank(&Trigger::Manual, at(20 * 60 + 1), at(21 * 60), None));
        let urgent = Some(Priority::HIGHEST);
        assert!(rank(&Trigger::AA, at(0), at(1), urgent) > rank(&Trigger::Manual, at(0), at(1), None));
    }

    proptest! {
        #[test]
        fn waiting_is_bounded(
            (mine, theirs) in (0..9_usize, 0..9_usize),
            (my_start, their_start, wait) in (0..10_000_i64, 0..10_000_i64, 0..10_000_i64),
            (my_points, their_points) in (proptest::option::of(0..=100_u8), proptest::option::of(0..=100_u8)),
        ) {
            let explicit = |points: Option<u8>| points.map(|points| Priority::try_from(points).unwrap());
            let now = at(my_start.max(their_start) + wait);
            let of = |n: usize, start, points| rank(&triggers()[n], at(start), now, explicit(points));
            let (me, them) = (of(mine, my_start, my_points), of(theirs, their_start, their_points));
            let points = |n: usize, points| i64::from(explicit(points).unwrap_or(Priority::of(&triggers()[n])).number());
            let allowance = 24 * (points(theirs, their_points) - points(mine, my_points));
            prop_assert_eq!(them > me, their_start - my_start < allowance);
            prop_assert!(allowance <= 40 * 60);
            // Later on the order is the same.
            let later = now + chrono::Duration::minutes(wait);
            let of = |n: usize, start, points| rank(&triggers()[n], at(start), later, explicit(points));
            prop_assert_eq!(of(mine, my_start, my_points).cmp(&of(theirs, their_start, their_points)), me.cmp(&them));
        }

        #[test]
        fn a_clock_that_was_set_back_costs_at_most_the_step(ahead in 1..10_000_i64) {
            let (set_back, honest) = (rank(&Trigger::Merge, at(ahead), at(0), None), rank(&Trigger::Merge, at(0), at(0), None));
            prop_assert_eq!(set_back, honest);
        }
    }
}
