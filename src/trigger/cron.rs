//! Cron expressions: instants of a schedule, in UTC. Pure.

use chrono::{DateTime, SubsecRound, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};

/// A schedule that is understood.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: String,
    six: String,
    cron: Cron,
}

/// An expression that is not a schedule.
#[derive(Debug, thiserror::Error)]
#[error("`{expression}` is not a schedule: {reason}")]
pub struct InvalidSchedule {
    expression: String,
    reason: String,
}

impl std::str::FromStr for Schedule {
    type Err = InvalidSchedule;

    /// Six fields, seconds first, or the five of crontab(5).
    fn from_str(expression: &str) -> Result<Self, Self::Err> {
        let invalid = |reason: String| InvalidSchedule { expression: expression.to_owned(), reason };
        let six = match expression.split_whitespace().count() {
            5 => format!("0 {expression}"),
            6 => expression.to_owned(),
            fields => return Err(invalid(format!("it has {fields} fields, a schedule has 6 (seconds first) or 5"))),
        };
        let cron = CronParser::builder().seconds(Seconds::Required).build().parse(&six);
        let cron = cron.map_err(|error| invalid(error.to_string()))?;
        Ok(Self { expression: expression.to_owned(), six, cron })
    }
}

impl Schedule {
    /// The expression as written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The expression with six fields.
    pub fn with_seconds(&self) -> &str {
        &self.six
    }

    /// The first instant after `at`; `None` when there is none any more.
    pub fn after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.find_next_occurrence(&at, false).ok()
    }

    /// The last instant that is not after `at`; `None` when there never was one.
    pub fn until(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The library keeps the fraction of a second that it started from.
        self.cron.find_previous_occurrence(&at.trunc_subsecs(0), true).ok()
    }
}

/// The instant of `schedule` that was missed: the last one until `now`, when it lies after the schedule began to be
/// followed and after the last one that was written down. Of several missed ones only the last counts.
pub fn missed_tick(
    schedule: &Schedule,
    followed_since: DateTime<Utc>,
    last: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let due_at = schedule.until(now)?;
    (due_at > followed_since && last.is_none_or(|last| due_at > last)).then_some(due_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-24T{text}Z").parse().unwrap()
    }

    #[test]
    fn five_and_six_fields_in_utc() {
        let schedule = |text: &str| text.parse::<Schedule>().unwrap();
        assert_eq!(schedule("0 0 */4 * * *").after(at("01:00:00")), Some(at("04:00:00")));
        assert_eq!(schedule("15 9 * * *").after(at("01:00:00")), Some(at("09:15:00")));
        assert_eq!(schedule("0 0 */4 * * *").until(at("04:00:00.7")), Some(at("04:00:00")));
        assert_eq!(schedule("0 0 */4 * * *").until(at("03:59:59")), Some(at("00:00:00")));
        assert_eq!(schedule("0 0 */4 * * *").after(at("04:00:00")), Some(at("08:00:00")));
    }

    #[test]
    fn a_broken_expression_is_named() {
        for bad in ["", "* * *", "0 0 25 * * *", "every day at nine o'clock", "0 0 0 0 0 0 0"] {
            let error = bad.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{bad}` is not a schedule: ")), "{error}");
        }
    }

    #[test]
    fn the_last_missed_tick_is_caught_up_once() {
        let schedule: Schedule = "0 0 */4 * * *".parse().unwrap();
        let missed = |since, last, now| missed_tick(&schedule, since, last, now);
        assert_eq!(missed(at("01:00:00"), None, at("03:00:00")), None, "none was due");
        assert_eq!(missed(at("01:00:00"), None, at("13:00:00")), Some(at("12:00:00")), "of 4, 8 and 12 the last");
        assert_eq!(missed(at("01:00:00"), Some(at("12:00:00")), at("13:00:00")), None, "once");
        assert_eq!(missed(at("12:30:00"), None, at("13:00:00")), None, "before it was followed nothing is missed");
        // The clock steps back an hour: the tick that it lived through already is not due again.
        assert_eq!(missed(at("01:00:00"), Some(at("04:00:00")), at("03:10:00")), None);
        assert_eq!(missed(at("01:00:00"), Some(at("04:00:00")), at("04:00:01")), None);
    }
}
