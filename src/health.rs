//! Whether the daemon lives and whether it can measure: its tasks and stages report here, `/healthz` and `/readyz`
//! read. It stands below all of them, so that each may report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Clock;

/// Something the daemon needs in order to measure and publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The store's database.
    Database,
    /// The container engine.
    Engine,
    /// The image registries.
    Registry,
    /// Where results are published.
    ObjectStore,
    /// GitHub's API: what is asked of it.
    Github,
    /// Comments and checks: what is told on GitHub.
    Reports,
    /// Room on the host's disks.
    Disk,
    /// The host's devices.
    Devices,
    /// The file of API tokens.
    Tokens,
    /// A person has paused triggers or this host.
    Paused,
    /// The daemon is stopping: it takes no new job.
    Draining,
}

impl Part {
    /// The name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Engine => "engine",
            Self::Registry => "registry",
            Self::ObjectStore => "object_store",
            Self::Github => "github",
            Self::Reports => "reports",
            Self::Disk => "disk",
            Self::Devices => "devices",
            Self::Tokens => "tokens",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the daemon is not ready, or, for a pause, why it does less than it could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// What is in trouble.
    pub part: Part,
    /// What is wrong, for people; without secrets.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl Trouble {
    /// Whether it is what a person wants rather than a fault: it is told, and the daemon stays ready. A paused daemon
    /// must still be sent webhooks, and the request that resumes it.
    pub fn is_note(&self) -> bool {
        self.part == Part::Paused
    }
}

/// A task that has not shown a sign of life for longer than it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentTask {
    /// Its name.
    pub task: String,
    /// Its last sign of life.
    pub silent_since: DateTime<Utc>,
}

/// The registry of troubles and signs of life. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    clock: Clock,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    troubles: BTreeMap<Part, (String, DateTime<Utc>)>,
    tasks: BTreeMap<&'static str, Task>,
}

/// A task's last sign of life. Silence is measured by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
struct Task {
    beat: Instant,
    beat_at: DateTime<Utc>,
    silent_for: Duration,
}

/// A task's way to show that it lives. Dropping it says that the task has ended as it should.
#[derive(Debug)]
pub struct Pulse {
    health: Health,
    task: &'static str,
}

impl Health {
    /// Nothing reported yet: alive and ready.
    pub fn new(clock: Clock) -> Self {
        Self { clock, known: Arc::default() }
    }

    /// Reports a part in trouble; the instant stays that of the first such report until the part is well again.
    pub fn trouble(&self, part: Part, reason: impl Into<String>) {
        let now = self.clock.now();
        let reason = reason.into();
        let mut known = self.known();
        let since = known.troubles.get(&part).map_or(now, |(_, since)| *since);
        let told = known.troubles.insert(part, (reason.clone(), since));
        drop(known);
        if told.is_none() {
            tracing::warn!(health.part = %part, "{reason}");
        }
    }

    /// Reports a part well.
    pub fn well(&self, part: Part) {
        if self.known().troubles.remove(&part).is_some() {
            tracing::info!(health.part = %part, "well again");
        }
    }

    /// Reports by a result: well, or in trouble with the error and its causes.
    pub fn report<T, E: std::error::Error>(&self, part: Part, result: &Result<T, E>) {
        match result {
            Ok(_) => self.well(part),
            Err(error) => self.trouble(part, with_causes(error)),
        }
    }

    /// A task begins; from now on it must show a sign of life at least every `silent_for`.
    pub fn task(&self, task: &'static str, silent_for: Duration) -> Pulse {
        let begun = Task { beat: Instant::now(), beat_at: self.clock.now(), silent_for };
        self.known().tasks.insert(task, begun);
        Pulse { health: self.clone(), task }
    }

    /// Everything in trouble.
    pub fn troubles(&self) -> Vec<Trouble> {
        let known = self.known();
        let trouble = |(part, (reason, since)): (&Part, &(String, DateTime<Utc>))| Trouble {
            part: *part,
            reason: reason.clone(),
            since: *since,
        };
        known.troubles.iter().map(trouble).collect()
    }

    /// The tasks that have been silent for too long.
    pub fn silent_tasks(&self) -> Vec<SilentTask> {
        let known = self.known();
        let silent = known.tasks.iter().filter(|(_, task)| task.beat.elapsed() > task.silent_for);
        silent.map(|(name, task)| SilentTask { task: (*name).to_owned(), silent_since: task.beat_at }).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is one insert or remove: whoever panicked beside it left nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// Shows that the task lives.
    pub fn beat(&self) {
        let now = self.health.clock.now();
        if let Some(task) = self.health.known().tasks.get_mut(self.task) {
            (task.beat, task.beat_at) = (Instant::now(), now);
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // A task that panics is still wanted: its silence must show.
        if !std::thread::panicking() {
            self.health.known().tasks.remove(self.task);
        }
    }
}

/// The innermost cause of an error: of nested errors of a library the one that a person can act on.
pub fn lowest_cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |cause| cause.source()).last().map(ToString::to_string).unwrap_or_default()
}

/// An error with its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        // Some errors say their cause themselves.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_lasts_from_its_first_report_until_well() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        let health = Health::new(clock.clone());
        health.trouble(Part::Registry, "connection refused");
        clock.advance(chrono::Duration::minutes(5));
        health.trouble(Part::Registry, "timed out");
        let found = health.troubles();
        assert_eq!((found[0].reason.as_str(), found[0].since), ("timed out", DateTime::UNIX_EPOCH));
        health.well(Part::Registry);
        assert_eq!(health.troubles(), []);
    }

    #[tokio::test]
    async fn a_silent_task_shows_until_it_ends() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        let health = Health::new(clock.clone());
        let _patient = health.task("sweep", Duration::from_secs(3600));
        for step in [chrono::Duration::days(1), chrono::Duration::hours(-24)] {
            clock.advance(step);
            assert_eq!(health.silent_tasks(), [], "a clock that steps makes nobody silent");
        }
        let pulse = health.task("settle", Duration::ZERO);
        let silent_since = |at: DateTime<Utc>| [SilentTask { task: "settle".to_owned(), silent_since: at }];
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(health.silent_tasks(), silent_since(DateTime::UNIX_EPOCH));
        clock.advance(chrono::Duration::minutes(1));
        pulse.beat();
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(health.silent_tasks(), silent_since(clock.now()), "since it beat last");
        drop(pulse);
        assert_eq!(health.silent_tasks(), []);
    }

    #[test]
    fn a_task_that_panics_stays_wanted() {
        let health = Health::new(Clock::manual(DateTime::UNIX_EPOCH));
        let pulse = health.task("worker", Duration::ZERO);
        let panicked = std::thread::spawn(move || {
            let _pulse = pulse;
            panic!("a mistake");
        });
        assert!(panicked.join().is_err());
        assert_eq!(health.silent_tasks().len(), 1);
    }
}
