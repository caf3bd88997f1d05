//! The check of a commit: where it is, how it ended, one line and the comment's text. An App writes it as a check run, a
//! token as a commit status.

use chrono::{DateTime, Utc};

use super::comment::body;
use super::text::clean;
use super::words::{Overall, Style, answer, conclusion_of};
use super::{PullReport, RunReport};
use crate::model::{CommitSha, Conclusion, FailureKind};

/// GitHub takes a longer title; people read no longer one. In characters.
const TITLE: usize = 200;
/// The text stays below this, in bytes; GitHub refuses more than 65,535 characters.
const TEXT: usize = 16_000;

/// A commit's check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The commit.
    pub sha: CommitSha,
    /// Its name in the list of checks.
    pub name: String,
    /// Where it is.
    pub phase: CheckPhase,
    /// One line, plain text.
    pub title: String,
    /// Markdown.
    pub summary: String,
    /// When its work began.
    pub started_at: Option<DateTime<Utc>>,
    /// Where more is.
    pub details_url: Option<String>,
}

/// Where a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckPhase {
    /// It waits.
    Queued,
    /// It is being measured.
    InProgress,
    /// It has ended.
    Completed(CheckEnd),
}

/// How a check ended. A difference alone never fails it: no significance is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckEnd {
    /// Everything was measured and nothing is worse.
    Good,
    /// It was measured, and what it means is not decided: something is worse, or there is no baseline.
    Undecided,
    /// The commit's benchmarks failed.
    BenchmarksFailed,
    /// The machinery failed, not the commit.
    HouseFailed,
    /// Somebody stopped it.
    Cancelled,
    /// A newer run took its place.
    Superseded,
    /// It is not measured yet: a label or an approval is missing.
    Waiting,
    /// There is nothing to measure.
    Skipped,
}

impl CheckEnd {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Good,
        Self::Undecided,
        Self::BenchmarksFailed,
        Self::HouseFailed,
        Self::Cancelled,
        Self::Superseded,
        Self::Waiting,
        Self::Skipped,
    ];
}

/// The check of the report's newest run.
pub fn check(report: &PullReport) -> Check {
    let run = &report.run;
    Check {
        sha: run.sha.clone(),
        name: report.name.clone(),
        phase: phase(run),
        title: clean(&answer(run, Style::Plain), TITLE),
        summary: body(report, TEXT),
        started_at: run.started_at,
        details_url: Some(details_url(report)),
    }
}

/// Where a person reads on: at the pull request's comment. What benchd itself answers is for programs.
fn details_url(report: &PullReport) -> String {
    let PullReport { repository, number, links, .. } = report;
    let comment = links.comment.map(|id| format!("#issuecomment-{id}")).unwrap_or_default();
    format!("{}/{repository}/pull/{number}{comment}", links.web.as_str().trim_end_matches('/'))
}

fn phase(run: &RunReport) -> CheckPhase {
    match run.overall() {
        Overall::WaitingForImage { .. } | Overall::Queued(_) => CheckPhase::Queued,
        Overall::TryingAgain(_) | Overall::Running { .. } => CheckPhase::InProgress,
        Overall::Measured => CheckPhase::Completed(measured(run)),
        Overall::Failed(kind) => CheckPhase::Completed(failed(run, kind)),
        Overall::Cancelled => CheckPhase::Completed(CheckEnd::Cancelled),
        Overall::Superseded => CheckPhase::Completed(CheckEnd::Superseded),
    }
}

fn measured(run: &RunReport) -> CheckEnd {
    let tally = run.tally();
    let ends: Vec<&Conclusion> = run.jobs().filter_map(conclusion_of).collect();
    let failed = |conclusion: &&&Conclusion| match conclusion {
        Conclusion::Failure(kind) => is_the_commits(*kind),
        Conclusion::TimedOut => true,
        Conclusion::Success
        | Conclusion::Incomplete
        | Conclusion::Cancelled
        | Conclusion::Superseded
        | Conclusion::Skipped { .. } => false,
    };
    if run.points().failed > 0 || ends.iter().any(|end| failed(&end)) {
        CheckEnd::BenchmarksFailed
    } else if run.points().not_run > 0 || ends.iter().any(|end| **end != Conclusion::Success) {
        CheckEnd::HouseFailed
    } else if tally.compared() == 0 || tally.worse > 0 {
        CheckEnd::Undecided
    } else {
        CheckEnd::Good
    }
}

fn failed(run: &RunReport, kind: FailureKind) -> CheckEnd {
    let timed_out = run.jobs().any(|job| matches!(conclusion_of(job), Some(Conclusion::TimedOut)));
    let skipped = run.jobs().all(|job| super::words::skip_reason(job).is_some());
    if is_the_commits(kind) || (kind == FailureKind::NothingMeasured && timed_out) {
        CheckEnd::BenchmarksFailed
    } else if kind == FailureKind::NothingMeasured && skipped {
        CheckEnd::Skipped
    } else {
        CheckEnd::HouseFailed
    }
}

/// Whether such a failure is what the commit's own code did, rather than what is around it.
fn is_the_commits(kind: FailureKind) -> bool {
    match kind {
        FailureKind::PrepareFailed { .. }
        | FailureKind::DiskLimit
        | FailureKind::OutOfMemory
        | FailureKind::SuiteExit { .. }
        | FailureKind::ServerDied
        | FailureKind::NoResults
        | FailureKind::ZeroedResults
        | FailureKind::InvalidResults
        | FailureKind::ResultsTooLarge => true,
        FailureKind::ImageMissing
        | FailureKind::RegistryUnavailable
        | FailureKind::PullFailed
        | FailureKind::WrongArchitecture
        | FailureKind::WorkspaceFailed
        | FailureKind::GithubUnavailable
        | FailureKind::EngineUnavailable
        | FailureKind::StartFailed
        | FailureKind::DeviceBusy
        | FailureKind::DiskFull
        | FailureKind::SuiteMissing
        | FailureKind::LostRunner
        | FailureKind::NothingMeasured
        | FailureKind::PublishRefused => false,
    }
}
