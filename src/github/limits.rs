//! When a request may be sent: one pure decision over everything GitHub has said and everything that was sent. Numbers
//! are GitHub's own ("Rate limits for the REST API", "Best practices for using the REST API").

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::header::HeaderMap;
use http::{StatusCode, header};

use super::error::words_of;
use super::speaker::Speaker;

/// GitHub asks for at least a minute of silence after a secondary limit that names no time, then for more each time.
const SECONDARY_SILENCE: TimeDelta = TimeDelta::minutes(1);

/// An instant is waited for no longer than this at once: a clock that was set must not silence us for days.
const LONGEST_SILENCE: TimeDelta = TimeDelta::minutes(65);

/// A wait that GitHub names in seconds is kept, whatever clocks say; more than a day is no limit of its.
const LONGEST_WAIT: TimeDelta = TimeDelta::days(1);

/// This part of the hourly budget is left to writes: reads stop there.
const RESERVED_PART: u64 = 10;

/// How fast requests may follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Between the end of a write and the beginning of the next one.
    pub between_writes: TimeDelta,
    /// Writes in a minute.
    pub writes_a_minute: usize,
    /// Writes in an hour.
    pub writes_an_hour: usize,
    /// Points in a minute.
    pub points_a_minute: usize,
}

impl Pace {
    /// GitHub's limits with this pause between writes; no pause means a server without limits, such as an Enterprise
    /// server by default.
    pub fn with_pause(pause: Duration) -> Self {
        let between_writes = TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX);
        let most = |limit| if pause.is_zero() { usize::MAX } else { limit };
        Self { between_writes, writes_a_minute: most(80), writes_an_hour: most(500), points_a_minute: most(900) }
    }
}

/// What a request is, as far as limits are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Asks for something new.
    Read,
    /// Asks whether something known has changed: free when it has not.
    Recheck,
    /// Changes something.
    Write,
}

impl Need {
    /// What it costs of the points (GitHub's table).
    fn points(self) -> usize {
        match self {
            Self::Read | Self::Recheck => 1,
            Self::Write => 5,
        }
    }
}

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// GitHub has asked for silence.
    Silence,
    /// The hourly budget is used, or what is left of it is kept for writes.
    Budget,
    /// Our own pace.
    Pace,
}

/// The instants of what was sent lately.
#[derive(Debug, Default)]
struct Window(VecDeque<DateTime<Utc>>);

impl Window {
    fn add(&mut self, times: usize, span: TimeDelta, now: DateTime<Utc>) {
        // What the clock puts into the future was sent before it was set back.
        self.0.retain(|at| *at + span > now && *at <= now);
        self.0.extend(std::iter::repeat_n(now, times));
    }

    /// When `times` more may be added without there being more than `most` in any `span`.
    fn free_at(&self, times: usize, most: usize, span: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
        let recent: Vec<_> = self.0.iter().filter(|at| **at + span > now && **at <= now).collect();
        let too_many = (recent.len() + times).saturating_sub(most);
        too_many.checked_sub(1).and_then(|last| recent.get(last)).map_or(now, |at| **at + span)
    }
}

/// What is left of an hourly budget.
#[derive(Clone, Copy, Debug)]
struct Budget {
    limit: u64,
    remaining: u64,
    reset_at: DateTime<Utc>,
}

/// What an answer tells about limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    limited: Option<Limited>,
    limit: Option<u64>,
    remaining: Option<u64>,
    reset_at: Option<DateTime<Utc>>,
}

/// Which limit an answer refuses for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limited {
    /// The hourly budget is used up.
    Primary { reset_at: DateTime<Utc> },
    /// Too much at once, with the time to wait when it is told.
    Secondary { wait: Option<TimeDelta> },
}

impl Told {
    /// Reads an answer. Limits come as 403 or 429, told apart from a plain refusal by their headers and, for the
    /// secondary kind, by GitHub's words.
    pub fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        let count = |name: &str| number(name).and_then(|n| u64::try_from(n).ok());
        let reset_at = number("x-ratelimit-reset").and_then(|s| DateTime::from_timestamp(s, 0));
        let remaining = count("x-ratelimit-remaining");
        let wait = number(header::RETRY_AFTER.as_str()).and_then(TimeDelta::try_seconds);
        let limited = match (status, wait, remaining, reset_at) {
            (StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS, Some(wait), _, _) => {
                Some(Limited::Secondary { wait: Some(wait) })
            }
            (StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS, None, Some(0), Some(reset_at)) => {
                Some(Limited::Primary { reset_at })
            }
            (StatusCode::TOO_MANY_REQUESTS, None, _, _) => Some(Limited::Secondary { wait: None }),
            (StatusCode::FORBIDDEN, None, _, _) if words_of(status, body).to_lowercase().contains("rate limit") => {
                Some(Limited::Secondary { wait: None })
            }
            _ => None,
        };
        // Search and others have budgets of their own.
        let core = headers.get("x-ratelimit-resource").is_none_or(|resource| resource == "core");
        let of_core = |value: Option<u64>| value.filter(|_| core);
        Self { limited, limit: of_core(count("x-ratelimit-limit")), remaining: of_core(remaining), reset_at }
    }
}

/// Everything that decides when a request may be sent.
#[derive(Debug)]
pub(super) struct Limits {
    pace: Pace,
    silent_until: Option<DateTime<Utc>>,
    /// Limits answered in a row.
    strikes: u32,
    budgets: HashMap<Speaker, Budget>,
    points: Window,
    writes: Window,
    wrote_at: Option<DateTime<Utc>>,
}

impl Limits {
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            silent_until: None,
            strikes: 0,
            budgets: HashMap::new(),
            points: Window::default(),
            writes: Window::default(),
            wrote_at: None,
        }
    }

    /// How long the request has to wait, and what for; `None` when it may be sent now.
    pub fn wait(&self, speaker: Speaker, need: Need, now: DateTime<Utc>) -> Option<(TimeDelta, Reason)> {
        let (minute, hour) = (TimeDelta::minutes(1), TimeDelta::hours(1));
        let pace = &self.pace;
        let silence = self.silent_until.map(|until| (until.min(now + LONGEST_SILENCE), Reason::Silence));
        let budget = self.budgets.get(&speaker).filter(|budget| budget.remaining <= reserved(speaker, need, budget));
        let budget = budget.map(|budget| (budget.reset_at.min(now + LONGEST_SILENCE), Reason::Budget));
        let paced = |at| Some((at, Reason::Pace));
        let points = paced(self.points.free_at(need.points(), pace.points_a_minute, minute, now));
        let of_writes = match need {
            Need::Read | Need::Recheck => [None, None, None],
            Need::Write => [
                // A clock that was set back has not written in the future.
                self.wrote_at.map(|at| (at.min(now) + pace.between_writes, Reason::Pace)),
                paced(self.writes.free_at(1, pace.writes_a_minute, minute, now)),
                paced(self.writes.free_at(1, pace.writes_an_hour, hour, now)),
            ],
        };
        let waits = [silence, budget, points].into_iter().chain(of_writes).flatten();
        let (until, reason) = waits.max_by_key(|(until, _)| *until)?;
        (until > now).then(|| (until - now, reason))
    }

    /// A request is being sent.
    pub fn sent(&mut self, need: Need, now: DateTime<Utc>) {
        self.points.add(need.points(), TimeDelta::minutes(1), now);
        match need {
            Need::Read | Need::Recheck => {}
            Need::Write => {
                self.writes.add(1, TimeDelta::hours(1), now);
                self.wrote_at = Some(now);
            }
        }
    }

    /// A write has ended, however it did.
    pub fn wrote(&mut self, now: DateTime<Utc>) {
        self.wrote_at = Some(now);
    }

    /// An answer has come; how long to be silent when it is a limit.
    pub fn answered(&mut self, speaker: Speaker, told: &Told, now: DateTime<Utc>) -> Option<TimeDelta> {
        if let (Some(limit), Some(remaining), Some(reset_at)) = (told.limit, told.remaining, told.reset_at) {
            let new = Budget { limit, remaining, reset_at };
            let budget = self.budgets.entry(speaker).or_insert(new);
            // Answers overtake each other: within one window the least counts.
            *budget = if budget.reset_at == reset_at && budget.remaining < remaining { *budget } else { new };
        }
        let Some(limited) = told.limited else {
            if self.silent_until.is_none_or(|until| until <= now) {
                (self.silent_until, self.strikes) = (None, 0);
            }
            return None;
        };
        // The first strike is 2^0; the exponent stays where the shift is defined.
        let doubled = 1_i32 << self.strikes.min(10);
        self.strikes = self.strikes.saturating_add(1);
        let wait = match limited {
            // A clock that goes ahead of GitHub's sees a reset in the past: even so nobody hammers.
            Limited::Primary { reset_at } => (reset_at - now).max(TimeDelta::seconds(1) * doubled).min(LONGEST_SILENCE),
            Limited::Secondary { wait: Some(wait) } => wait.clamp(TimeDelta::seconds(1), LONGEST_WAIT),
            Limited::Secondary { wait: None } => (SECONDARY_SILENCE * doubled).min(LONGEST_SILENCE),
        };
        self.silent_until = self.silent_until.max(Some(now + wait));
        Some(wait)
    }
}

/// What is to be left of the budget.
fn reserved(speaker: Speaker, need: Need, budget: &Budget) -> u64 {
    match (need, speaker) {
        (Need::Read, Speaker::Token | Speaker::Installation(_)) => budget.limit / RESERVED_PART,
        (Need::Read, Speaker::Anonymous | Speaker::App) | (Need::Recheck | Need::Write, _) => 0,
    }
}

#[cfg(test)]
mod tests;
