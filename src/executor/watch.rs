//! Decides, from the lines of the log and the time alone, what must be done to a running pass.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::container::{Limits, PassRequest};
use super::log::lines::Line;
use super::log::progress::{Mark, SkippedBenchmark, mark};

/// How long the suite may take to go on after its benchmark was ended, before all of it is stopped.
const GOES_ON_WITHIN: TimeDelta = TimeDelta::seconds(90);

/// A limit on time that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "limit", rename_all = "snake_case")]
pub enum TimeLimit {
    /// The whole job.
    Job,
    /// No line of output.
    Idle,
    /// This point, and the suite did not go on when it was ended.
    Point {
        /// Its name.
        point: String,
    },
}

/// In words, with the setting that moves the limit.
impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job => f.write_str("the job took longer than execution.limits.job_timeout"),
            Self::Idle => f.write_str("nothing was printed for execution.limits.idle_timeout"),
            Self::Point { point } => write!(f, "{point} took longer than execution.limits.point_timeout"),
        }
    }
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End the benchmark that runs; the suite goes on.
    EndBenchmark {
        /// The point.
        point: String,
    },
    /// End the suite.
    Stop(TimeLimit),
}

/// What a line changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A point began.
    Point {
        /// Its name.
        name: String,
        /// Which one it is of those expected, from 1.
        number: usize,
    },
    /// A benchmark began that has points of its own.
    Benchmark(String),
    /// The suite left a benchmark out.
    Skipped(SkippedBenchmark),
    /// A server died.
    ServerGone,
}

/// How far the suite is and what became of its points.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsSeen {
    /// Points that were started, in order.
    pub points: Vec<String>,
    /// Points that were ended at their time limit.
    pub timed_out: Vec<String>,
    /// Benchmarks or points during which a fatal line was printed.
    pub fatal: Vec<String>,
    /// Benchmarks that the suite left out.
    pub skipped: Vec<SkippedBenchmark>,
    /// Benchmarks whose server died.
    pub server_died: Vec<String>,
}

/// The state of a pass as its log tells it.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    fatal_lines: Vec<String>,
    expected: BTreeSet<String>,
    started_at: DateTime<Utc>,
    live: bool,
    last_line_at: DateTime<Utc>,
    benchmark: Option<String>,
    current: Option<Current>,
    fatal: Option<String>,
    seen: PointsSeen,
}

/// What runs now: a point, or a benchmark that has not come to its first point.
#[derive(Debug)]
struct Current {
    name: String,
    since: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl Watch {
    /// A pass whose container began at `started_at` and is looked at from `now` on.
    pub fn new(request: &PassRequest, started_at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self {
            limits: request.limits.clone(),
            fatal_lines: request.fatal_lines.clone(),
            expected: request.expected_points.iter().cloned().collect(),
            started_at,
            live: false,
            last_line_at: now,
            benchmark: None,
            current: None,
            fatal: None,
            seen: PointsSeen::default(),
        }
    }

    /// What was printed before is read: from now on a line is as old as its coming, whatever the clock of its stamp says.
    pub fn caught_up(&mut self) {
        self.live = true;
    }

    /// Takes note of a line that came at `now`.
    pub fn line(&mut self, line: &Line, now: DateTime<Utc>) -> Option<Change> {
        self.last_line_at = now;
        let at = if self.live { now } else { line.at };
        if let Some(current) = &self.current
            && self.fatal_lines.iter().any(|text| line.text.contains(text.as_str()))
            && self.seen.fatal.last() != Some(&current.name)
        {
            self.seen.fatal.push(current.name.clone());
            self.fatal = Some(current.name.clone());
        }
        match mark(&line.text)? {
            Mark::Benchmark(name) => {
                self.benchmark = Some(name.clone());
                let is_point = self.expected.contains(&name);
                self.begin(name.clone(), at);
                Some(if is_point { self.point(name) } else { Change::Benchmark(name) })
            }
            Mark::Point(name) => {
                self.begin(name.clone(), at);
                Some(self.point(name))
            }
            Mark::Skipped(skipped) => {
                self.seen.skipped.push(skipped.clone());
                Some(Change::Skipped(skipped))
            }
            Mark::ServerGone => {
                let benchmark = self.benchmark.clone().unwrap_or_default();
                if self.seen.server_died.last() != Some(&benchmark) {
                    self.seen.server_died.push(benchmark);
                }
                Some(Change::ServerGone)
            }
        }
    }

    fn begin(&mut self, name: String, at: DateTime<Utc>) {
        self.current = Some(Current { name, since: at, ended_at: None });
    }

    fn point(&mut self, name: String) -> Change {
        self.seen.points.push(name.clone());
        Change::Point { name, number: self.seen.points.len() }
    }

    /// What the time `now` asks for; each action is asked for once.
    pub fn due(&mut self, now: DateTime<Utc>) -> Option<Action> {
        let after = |since: DateTime<Utc>, limit: std::time::Duration| {
            TimeDelta::from_std(limit).is_ok_and(|limit| now - since > limit)
        };
        if after(self.started_at, self.limits.job) {
            return Some(Action::Stop(TimeLimit::Job));
        }
        if after(self.last_line_at, self.limits.idle) {
            return Some(Action::Stop(TimeLimit::Idle));
        }
        let fatal = self.fatal.take();
        let current = self.current.as_mut()?;
        match current.ended_at {
            Some(ended_at) if now - ended_at > GOES_ON_WITHIN => {
                Some(Action::Stop(TimeLimit::Point { point: current.name.clone() }))
            }
            Some(_) => None,
            None => {
                let too_long = self.limits.point.is_some_and(|limit| after(current.since, limit));
                let fatal = fatal.is_some_and(|name| name == current.name);
                if !too_long && !fatal {
                    return None;
                }
                current.ended_at = Some(now);
                if too_long {
                    self.seen.timed_out.push(current.name.clone());
                }
                Some(Action::EndBenchmark { point: current.name.clone() })
            }
        }
    }

    /// Takes over what `whole` saw of the same pass, which was not there to end anything.
    pub fn replace_seen(&mut self, whole: Self) {
        let timed_out = std::mem::take(&mut self.seen.timed_out);
        self.seen = PointsSeen { timed_out, ..whole.seen };
    }

    /// What became of the points.
    pub fn into_seen(self) -> PointsSeen {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::executor::container::tests::request;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn line(seconds: i64, text: &str) -> Line {
        Line { at: at(seconds), text: text.to_owned() }
    }

    fn watch() -> Watch {
        let mut request = request();
        request.limits.job = Duration::from_secs(1000);
        request.limits.idle = Duration::from_secs(200);
        request.limits.point = Some(Duration::from_secs(100));
        request.expected_points = vec!["latency_a".into(), "serving_b_qps_1_concurrency_2".into()];
        request.fatal_lines = vec!["EngineCore failed to start".into()];
        Watch::new(&request, at(0), at(0))
    }

    #[test]
    fn a_point_is_ended_once_and_then_the_suite() {
        let mut watch = watch();
        let change = watch.line(&line(10, "Running test case latency_a"), at(10));
        assert_eq!(change, Some(Change::Point { name: "latency_a".into(), number: 1 }));
        assert_eq!(watch.due(at(110)), None);
        assert_eq!(watch.due(at(111)), Some(Action::EndBenchmark { point: "latency_a".into() }));
        assert_eq!(watch.due(at(112)), None);
        let stop = Action::Stop(TimeLimit::Point { point: "latency_a".into() });
        assert_eq!(watch.due(at(111 + 91)), Some(stop));
        assert_eq!(watch.into_seen().timed_out, ["latency_a"]);
    }

    #[test]
    fn the_next_point_has_its_own_time() {
        let mut watch = watch();
        assert_eq!(
            watch.line(&line(0, "Running test case serving_b"), at(0)),
            Some(Change::Benchmark("serving_b".into()))
        );
        watch.line(&line(90, " new test name serving_b_qps_1_concurrency_2"), at(90));
        assert_eq!(watch.due(at(150)), None);
        watch.line(&line(150, "benchd: the server is gone: x"), at(150));
        watch.line(&line(151, "benchd: the server is gone: x"), at(151));
        let seen = watch.into_seen();
        assert_eq!(
            (seen.server_died, seen.points),
            (vec!["serving_b".to_owned()], vec!["serving_b_qps_1_concurrency_2".to_owned()])
        );
    }

    #[test]
    fn silence_and_the_whole_job_end_the_suite() {
        let mut idle = watch();
        idle.line(&line(1, "x"), at(1));
        assert_eq!(idle.due(at(201)), None);
        assert_eq!(idle.due(at(202)), Some(Action::Stop(TimeLimit::Idle)));
        let mut job = watch();
        job.line(&line(1000, "x"), at(1000));
        assert_eq!(job.due(at(1001)), Some(Action::Stop(TimeLimit::Job)));
    }

    #[test]
    fn a_fatal_line_ends_its_benchmark_at_once() {
        let mut watch = watch();
        watch.line(&line(1, "EngineCore failed to start"), at(1));
        assert_eq!(watch.due(at(2)), None, "nothing runs yet");
        watch.line(&line(3, "Running test case latency_a"), at(3));
        watch.line(&line(4, "ERROR EngineCore failed to start."), at(4));
        watch.line(&line(4, "ERROR EngineCore failed to start."), at(4));
        assert_eq!(watch.due(at(5)), Some(Action::EndBenchmark { point: "latency_a".into() }));
        assert_eq!(watch.due(at(6)), None);
        assert_eq!(watch.into_seen().fatal, ["latency_a"]);
    }
}
