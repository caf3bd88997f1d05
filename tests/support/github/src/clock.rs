//! The stand-in's own movable clock: token lives, rate-limit windows and every date it writes follow it.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// Wall time plus what tests added to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    ahead: TimeDelta,
}

impl Clock {
    /// Now, by this clock.
    pub fn now(&self) -> DateTime<Utc> {
        real_now() + self.ahead
    }

    /// Now, to the second: what GitHub writes into its answers.
    pub fn now_s(&self) -> DateTime<Utc> {
        self.now().trunc_subsecs(0)
    }

    /// Moves the clock, forward or back.
    pub fn advance(&mut self, by: TimeDelta) {
        self.ahead += by;
    }
}

/// Wall time. Only an app's JWT is judged by it: the client that wrote the JWT knows no other time.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the real time")]
pub(crate) fn real_now() -> DateTime<Utc> {
    Utc::now()
}

/// A date as GitHub writes it.
pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
