//! The one door to GitHub: writes go through it one at a time and paced, nothing goes through it while GitHub has asked
//! for silence, and what would have to wait for long is turned away with the time to come again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::limits::{Limits, Need, Pace, Reason, Told};
use super::speaker::Speaker;
use crate::clock::Clock;

/// A request waits this long at the door; a longer wait belongs to the loop that sends it.
const LONGEST_WAIT: TimeDelta = TimeDelta::seconds(10);

/// Reads on their way at once. GitHub allows 100 requests of all kinds.
const READS_AT_ONCE: usize = 8;

/// Lets requests through.
pub(super) struct Gate {
    clock: Clock,
    limits: Mutex<Limits>,
    reading: Semaphore,
    writing: Semaphore,
}

/// A request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnedAway {
    /// When to come again.
    pub retry_after: Duration,
    /// What it would have waited for.
    pub reason: Reason,
}

/// The right to send one request; gives way to the next one when dropped.
pub(super) struct Passage<'g> {
    gate: &'g Gate,
    need: Need,
    _turn: Option<SemaphorePermit<'g>>,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        match self.need {
            Need::Read | Need::Recheck => {}
            Need::Write => self.gate.limits().wrote(self.gate.clock.now()),
        }
    }
}

impl Gate {
    pub fn new(pace: Pace, clock: Clock) -> Self {
        let (reading, writing) = (Semaphore::new(READS_AT_ONCE), Semaphore::new(1));
        Self { clock, limits: Mutex::new(Limits::new(pace)), reading, writing }
    }

    /// Waits for the turn of a request, if that is soon.
    pub async fn enter(&self, speaker: Speaker, need: Need) -> Result<Passage<'_>, TurnedAway> {
        let turns = match need {
            Need::Read | Need::Recheck => &self.reading,
            Need::Write => &self.writing,
        };
        // Fails only for a closed semaphore, and nobody closes it.
        let turn = turns.acquire().await.ok();
        loop {
            let wait = {
                let mut limits = self.limits();
                let now = self.clock.now();
                let wait = limits.wait(speaker, need, now);
                if wait.is_none() {
                    limits.sent(need, now);
                }
                wait
            };
            let Some((wait, reason)) = wait else { return Ok(Passage { gate: self, need, _turn: turn }) };
            let retry_after = wait.to_std().unwrap_or_default();
            if wait > LONGEST_WAIT {
                return Err(TurnedAway { retry_after, reason });
            }
            // What was said meanwhile is obeyed too: it is asked again.
            tokio::time::sleep(retry_after).await;
        }
    }

    /// Tells what an answer said; how long to be silent when it is a limit.
    pub fn answered(&self, speaker: Speaker, told: &Told) -> Option<Duration> {
        let now = self.clock.now();
        self.limits().answered(speaker, told, now)?.to_std().ok()
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.reason {
            Reason::Silence => "it has asked for silence",
            Reason::Budget => "the hourly budget is used, or kept for writes",
            Reason::Pace => "no more writes now, to stay below its limits",
        })
    }
}
