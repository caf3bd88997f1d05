//! Where a run is, in words: the first line of everything that people are told, and what of it they must learn at once.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::text::{clean, code, counted};
use super::{Head, JobReport, JobStanding, Publishing, PullReport, RunReport, Takes};
use crate::model::{Conclusion, FailureKind, RunState};
use crate::queue::place::Why;
use crate::store::Progress;

/// Longest foreign text within a sentence, in characters.
const PHRASE: usize = 160;
/// Most targets that a sentence names.
const TARGETS: usize = 3;

/// How foreign text stands in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In a code span, the first words bold.
    Markdown,
    /// As it is, for titles and descriptions that GitHub shows as plain text.
    Plain,
}

/// How a run stands, its jobs taken together.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Overall<'a> {
    /// The image is not there yet.
    WaitingForImage { since: DateTime<Utc>, until: DateTime<Utc> },
    /// It waits for devices.
    Queued(&'a JobReport),
    /// A fault of the house put its last open job back.
    TryingAgain(&'a JobReport),
    /// Something of it is prepared or measured, or has been.
    Running { ends_at: Option<DateTime<Utc>> },
    /// It has ended with results.
    Measured,
    /// It has ended without.
    Failed(FailureKind),
    /// Somebody stopped it.
    Cancelled,
    /// A newer run took its place.
    Superseded,
}

impl Style {
    fn quote(self, text: &str) -> String {
        match self {
            Self::Markdown => code(text, PHRASE),
            Self::Plain => clean(text, PHRASE),
        }
    }

    fn strong(self, text: &str) -> String {
        match self {
            Self::Markdown => format!("**{text}**"),
            Self::Plain => text.to_owned(),
        }
    }
}

impl RunReport {
    pub(super) fn overall(&self) -> Overall<'_> {
        match self.state {
            RunState::Measured | RunState::Published | RunState::Failed(FailureKind::PublishRefused) => {
                Overall::Measured
            }
            RunState::Failed(kind) => Overall::Failed(kind),
            RunState::Cancelled => Overall::Cancelled,
            RunState::Superseded => Overall::Superseded,
            RunState::Requested | RunState::Queued | RunState::Running => self.open(),
        }
    }

    fn open(&self) -> Overall<'_> {
        let waiting: Vec<&JobReport> =
            self.jobs().filter(|job| matches!(job.state, JobStanding::Waiting { .. })).collect();
        let ends = self.jobs().filter_map(|job| match job.state {
            JobStanding::Running { ends_at } => Some(ends_at),
            JobStanding::Waiting { .. } | JobStanding::Ended { .. } => None,
        });
        let ends: Vec<Option<DateTime<Utc>>> = ends.collect();
        let running = !ends.is_empty();
        // The end of all is known when that of each is.
        let ends_at = ends.into_iter().collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
        if !running && let Some(again) = waiting.iter().find(|job| job.tries > 0) {
            return Overall::TryingAgain(again);
        }
        if running || self.points().ended() > 0 {
            return Overall::Running { ends_at: ends_at.filter(|_| waiting.is_empty()) };
        }
        let place = |job: &JobReport| match &job.state {
            JobStanding::Waiting { position, why, .. } => {
                (matches!(why, Some(Why::WaitingForImage { .. })), position.unwrap_or(u32::MAX))
            }
            JobStanding::Running { .. } | JobStanding::Ended { .. } => (true, u32::MAX),
        };
        match waiting.into_iter().min_by_key(|job| place(job)) {
            Some(first) => match &first.state {
                JobStanding::Waiting { why: Some(Why::WaitingForImage { since, until, .. }), .. } => {
                    Overall::WaitingForImage { since: *since, until: *until }
                }
                JobStanding::Waiting { .. } | JobStanding::Running { .. } | JobStanding::Ended { .. } => {
                    Overall::Queued(first)
                }
            },
            // Every job has ended; the run is about to.
            None => Overall::Running { ends_at: None },
        }
    }
}

/// The answer of a run, in one line: what came of it, or where it is.
pub fn answer(run: &RunReport, style: Style) -> String {
    let on = on_targets(run, style);
    match run.overall() {
        Overall::WaitingForImage { since, until } => format!(
            "{} of {} since {}; it is given up at {}.",
            style.strong("Waiting for the image"),
            style.quote(run.sha.short()),
            time(since),
            time(until)
        ),
        Overall::Queued(job) => format!("{}{on}{}.", style.strong("Queued"), place(job, style)),
        Overall::TryingAgain(job) => {
            let after = job.failed_before.as_ref().map(|why| format!(" after {}", style.quote(why)));
            format!(
                "{}{on}: attempt {} of {}{}; this was a fault of the machinery, not of the commit.",
                style.strong("Trying again"),
                job.tries + 1,
                job.most_tries,
                after.unwrap_or_default()
            )
        }
        Overall::Running { ends_at } => {
            let behind = run.jobs().map(|job| job.points.behind()).sum();
            let progress = Progress::of(behind, run.points().expected, ends_at).to_string();
            let comma = if progress.is_empty() { "" } else { ": " };
            format!("{}{on}{comma}{progress}.", style.strong("Running"))
        }
        Overall::Measured => result(run, &on, style),
        Overall::Failed(kind) => failed(run, kind, &on, style),
        Overall::Cancelled => {
            let why = message_of(run, &Conclusion::Cancelled).map(|why| format!(" ({})", style.quote(why)));
            format!("{}{}: nothing was measured.", style.strong("Cancelled"), why.unwrap_or_default())
        }
        Overall::Superseded => {
            let by = run.superseded_by.map_or_else(|| "a newer one".to_owned(), |by| format!("run {by}"));
            format!("{} by {by}: nothing was measured of {}.", style.strong("Superseded"), style.quote(run.sha.short()))
        }
    }
}

fn result(run: &RunReport, on: &str, style: Style) -> String {
    let points = run.points();
    let tally = run.tally();
    let by = format!("by {} % or more", plain_percent(run.threshold_percent));
    let of = format!("of {} series", tally.compared());
    let mut text = String::new();
    let lost = run.jobs().filter(|job| ended_badly(job)).count();
    if points.failed + points.not_run + lost > 0 {
        let _ok = write!(text, "{}: ", style.strong("Incomplete"));
        let mut parts = vec![format!("{} of {} measured", points.ok, counted(points.expected, "point"))];
        for (count, word) in [(points.failed, "failed"), (points.not_run, "not run")] {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        if lost > 0 {
            parts.push(format!("{} without an end", counted(lost, "job")));
        }
        text.push_str(&parts.join(", "));
        text.push_str(". ");
    }
    let (strong, rest) = match (tally.worse, tally.better) {
        _ if tally.compared() == 0 => {
            let (strong, rest) = match &run.wanted_baseline {
                Some(wanted) => {
                    let what = format!("{}, the baseline that was asked for, is not measured.", wanted.short());
                    ("Nothing to compare with", what)
                }
                None => ("No baseline yet", "first measurement, there is nothing to compare with.".to_owned()),
            };
            return text + &format!("{}{on}: {rest}", style.strong(strong));
        }
        (0, 0) => (
            format!("No change of {} % or more", plain_percent(run.threshold_percent)),
            format!("{} series compared", tally.compared()),
        ),
        (0, better) => (format!("Better in {better} {of}"), format!("{by}, none is worse")),
        (worse, 0) => (format!("Worse in {worse} {of}"), format!("{by}, none is better")),
        (worse, better) => (format!("Worse in {worse} and better in {better} {of}"), by),
    };
    let _ok = write!(text, "{}{on}: {rest}. No significance is claimed yet.", style.strong(&strong));
    text
}

fn failed(run: &RunReport, kind: FailureKind, on: &str, style: Style) -> String {
    let mut why = kind.to_string();
    if kind == FailureKind::NothingMeasured {
        if run.jobs().any(|job| matches!(conclusion_of(job), Some(Conclusion::TimedOut))) {
            "it took longer than allowed".clone_into(&mut why);
        } else if let Some(reason) = run.jobs().find_map(skip_reason) {
            return format!("{}{on}: {}.", style.strong("Nothing to measure"), style.quote(reason));
        }
    }
    format!("{}{on}: {why}. Nothing was measured.", style.strong("Failed"))
}

/// Where a waiting job stands, as the end of a sentence.
fn place(job: &JobReport, style: Style) -> String {
    let JobStanding::Waiting { position, of, why, starts_at } = &job.state else { return String::new() };
    let mut text = String::new();
    if let Some(position) = position {
        let _ok = write!(text, ": place {position} of {of}");
    }
    if let Some(starts_at) = starts_at {
        let _ok = write!(text, ", starts about {}", time(*starts_at));
    }
    let held = why.as_ref().filter(|why| match why {
        Why::Paused { .. }
        | Why::NoRunner { .. }
        | Why::TooLarge { .. }
        | Why::DevicesBusy { .. }
        | Why::Backoff { .. } => true,
        Why::Holds { .. }
        | Why::Next { .. }
        | Why::WaitingForImage { .. }
        | Why::DevicesTaken { .. }
        | Why::KeptFor { .. } => false,
    });
    if let Some(why) = held {
        let _ok = write!(text, "; {}", style.quote(&why.to_string()));
    }
    text
}

/// What of a report people must learn at once: everything but places, progress and forecasts.
pub fn state_key(report: &PullReport) -> String {
    let mut key = String::new();
    let run = &report.run;
    let head = match &report.head {
        Head::Measured => "head",
        Head::Moved { to, .. } => to.as_str(),
    };
    let takes = match report.takes {
        Takes::All => "all",
        Takes::Retry => "retry",
        Takes::Nothing => "nothing",
    };
    let publishing = match run.publishing {
        Publishing::Kept => "kept",
        Publishing::Owed(_) => "owed",
        Publishing::Done => "done",
        Publishing::Refused(_) => "refused",
    };
    // Writing to a string does not fail.
    let _ok = write!(key, "{} {} {head} {takes} {publishing} {}", run.id, run.state, report.earlier.len());
    for job in run.jobs() {
        let (word, held) = match &job.state {
            JobStanding::Waiting { why: Some(why), .. } => match why {
                Why::WaitingForImage { .. } => ("image", ""),
                Why::Paused { .. } => ("waiting", "paused"),
                Why::TooLarge { .. } => ("waiting", "too large"),
                Why::NoRunner { .. } => ("waiting", "no runner"),
                Why::Holds { .. }
                | Why::Next { .. }
                | Why::Backoff { .. }
                | Why::DevicesBusy { .. }
                | Why::DevicesTaken { .. }
                | Why::KeptFor { .. } => ("waiting", ""),
            },
            JobStanding::Waiting { why: None, .. } => ("waiting", ""),
            JobStanding::Running { .. } => ("running", ""),
            JobStanding::Ended { conclusion, .. } => (conclusion.as_str(), ""),
        };
        let _ok = write!(key, "; {} {word} {held} {}", job.id, job.tries);
    }
    key
}

/// How a job ended, when it has.
pub(super) fn conclusion_of(job: &JobReport) -> Option<&Conclusion> {
    match &job.state {
        JobStanding::Ended { conclusion, .. } => Some(conclusion),
        JobStanding::Waiting { .. } | JobStanding::Running { .. } => None,
    }
}

/// Why a job was not tried.
pub(super) fn skip_reason(job: &JobReport) -> Option<&str> {
    match conclusion_of(job) {
        Some(Conclusion::Skipped { reason }) => Some(reason),
        Some(
            Conclusion::Success
            | Conclusion::Incomplete
            | Conclusion::Failure(_)
            | Conclusion::TimedOut
            | Conclusion::Cancelled
            | Conclusion::Superseded,
        )
        | None => None,
    }
}

/// Whether a job ended without having measured what it was to measure.
fn ended_badly(job: &JobReport) -> bool {
    match conclusion_of(job) {
        Some(
            Conclusion::Failure(_)
            | Conclusion::TimedOut
            | Conclusion::Cancelled
            | Conclusion::Superseded
            | Conclusion::Skipped { .. },
        ) => true,
        Some(Conclusion::Success | Conclusion::Incomplete) | None => false,
    }
}

fn message_of<'a>(run: &'a RunReport, wanted: &Conclusion) -> Option<&'a str> {
    run.jobs().find_map(|job| match &job.state {
        JobStanding::Ended { conclusion, message } if conclusion == wanted => message.as_deref(),
        JobStanding::Ended { .. } | JobStanding::Waiting { .. } | JobStanding::Running { .. } => None,
    })
}

fn on_targets(run: &RunReport, style: Style) -> String {
    let named: Vec<String> =
        run.targets.iter().take(TARGETS).map(|target| style.quote(&target.target.to_string())).collect();
    if named.is_empty() {
        return String::new();
    }
    let more = run.targets.len().saturating_sub(TARGETS);
    let more = if more > 0 { format!(" and {}", counted(more, "more target")) } else { String::new() };
    format!(" on {}{more}", named.join(", "))
}

/// `1`, `0.5`, `2.25`.
pub(super) fn plain_percent(percent: f64) -> String {
    let text = format!("{percent:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An instant, for people.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}
