//! The one source of time. Everything that needs "now" takes a [`Clock`], so that tests move time by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeZone, Utc};

/// Tells the time in UTC, from the system or from a test.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it; clones share the time.
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.timestamp_millis()))))
    }

    /// The present instant, to the millisecond.
    pub fn now(&self) -> DateTime<Utc> {
        let ms = match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
            Source::System => Utc::now().timestamp_millis(),
            Source::Manual(ms) => ms.load(Ordering::SeqCst),
        };
        Utc.timestamp_millis_opt(ms).single().unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Moves a manual clock by `step` (also backwards); the system's clock ignores it.
    pub fn advance(&self, step: chrono::Duration) {
        match &self.0 {
            Source::System => {}
            Source::Manual(ms) => {
                ms.fetch_add(step.num_milliseconds(), Ordering::SeqCst);
            }
        }
    }
}
