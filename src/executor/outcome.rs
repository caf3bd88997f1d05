//! How a pass can end: what it left, or why it left nothing, and which failure of a job that is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{Conclusion, FailureKind, Fault};

use super::collect::{CollectError, Taken};
use super::container::{InvalidRequest, PassRequest};
use super::docker::EngineError;
use super::log::LogSummary;
use super::log::lines::Line;
use super::watch::{Change, PointsSeen, TimeLimit};

pub use crate::store::artifacts::{LOG_FILE, RESULTS_DIR};

/// Name of what was put into the container, in a pass's artifacts.
pub const INPUT_FILE: &str = "input.tar";
/// Name of the note of how a pass ended, in a pass's artifacts.
pub const OUTCOME_FILE: &str = "outcome.json";
/// Name of the container's specification, in a pass's artifacts.
pub const SPEC_FILE: &str = "container.json";

/// What happens while a pass runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassEvent<'a> {
    /// The container runs.
    Started,
    /// A container of this pass was found, and is followed from its first line on.
    Adopted,
    /// A line was printed.
    Line(&'a Line),
    /// A line told something.
    Change(&'a Change),
    /// A benchmark is being ended because of its time or of a fatal line.
    EndingBenchmark(&'a str),
    /// The suite is being stopped.
    Stopping(&'a PassEnd),
    /// The engine went away; the container goes on.
    EngineAway,
    /// The engine is back.
    EngineBack,
}

/// How a pass ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum PassEnd {
    /// The suite ended by itself; code 0 proves nothing.
    SuiteEnded {
        /// Its exit code.
        code: i64,
    },
    /// The suite's script is not in the container.
    SuiteMissing,
    /// A command before the suite failed.
    PrepareFailed {
        /// Its exit code.
        code: i64,
    },
    /// The kernel killed the suite or a part of it for memory.
    OutOfMemory,
    /// It took too long.
    TimedOut(TimeLimit),
    /// It wrote more than it may.
    DiskLimit,
    /// A person stopped it.
    Cancelled,
}

/// In words, for people.
impl fmt::Display for PassEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuiteEnded { code } => write!(f, "it ended with exit code {code}"),
            Self::SuiteMissing => f.write_str("its script is missing"),
            Self::PrepareFailed { code } => write!(f, "a command before it failed with exit code {code}"),
            Self::OutOfMemory => f.write_str("it ran out of memory"),
            Self::TimedOut(limit) => limit.fmt(f),
            Self::DiskLimit => f.write_str("it wrote more to disk than it may"),
            Self::Cancelled => f.write_str("it was cancelled"),
        }
    }
}

/// What came out of the results folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "results", rename_all = "snake_case")]
pub enum Results {
    /// Files, in [`RESULTS_DIR`] of the artifacts.
    Taken(Taken),
    /// There is no such folder in the container, or no file in it.
    None,
    /// More than the cap; what was taken until then is in [`RESULTS_DIR`].
    TooLarge {
        /// The cap in bytes.
        cap_bytes: u64,
    },
}

/// Something about a pass that a person should know beside how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum PassNotice {
    /// Its output may have been held up, and with it what printed.
    #[error("the engine was away for {seconds} s while it ran: what it measured then may be disturbed")]
    EngineAway {
        /// How long, from the moment on when it was missed.
        seconds: u64,
    },
    /// The log was completed by the container's own copy.
    #[error("{lines} lines of the log were printed while the engine was away: their times are not known")]
    LogCompleted {
        /// How many lines were not heard, or not whole.
        lines: usize,
    },
    /// The log could not be completed.
    #[error("the log may lack what was printed while the engine was away: {why}")]
    LogMayLack {
        /// Why it could not be compared with the container's own copy.
        why: NoCompletion,
    },
    /// The engine forgets why a process was killed when it is restarted.
    #[error(
        "it was killed (exit code 137); whether for lack of memory is not known, because the engine was away or benchd \
         was"
    )]
    MemoryUnknown,
}

/// Why a log could not be completed by the container's own copy of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NoCompletion {
    /// There is no copy.
    #[error("its container has no copy of it")]
    NoCopy,
    /// The copy ends before the output does.
    #[error("it is longer than the copy that its container keeps")]
    TooLong,
    /// Somebody changed the copy.
    #[error("the copy in its container is not of the same output")]
    Unlike,
    /// The engine did not hand it out.
    #[error("the copy in its container could not be read")]
    Unread,
}

/// What a pass left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassOutcome {
    /// How it ended.
    pub end: PassEnd,
    /// The exit code of the container; `None` when it did not end by itself.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed a process for memory.
    pub out_of_memory: bool,
    /// When the container began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Its log.
    pub log: LogSummary,
    /// Its results.
    pub results: Results,
    /// How far the suite came.
    pub points: PointsSeen,
    /// What a person should know beside that.
    #[serde(default)]
    pub notices: Vec<PassNotice>,
}

/// Why a pass left nothing.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The request contradicts itself.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// The image was there a moment ago.
    #[error(
        "the image {image} was removed from this host before its container was made: the next attempt pulls it again"
    )]
    ImageRemoved {
        /// The image.
        image: String,
    },
    /// The container was made and could not be started; it was removed.
    #[error("failed to start the container: {message}{}", start_hint(message))]
    Start {
        /// The engine's words.
        message: String,
    },
    /// The container was removed by somebody else.
    #[error("the container {name} is gone: somebody removed it")]
    Gone {
        /// Its name.
        name: String,
    },
    /// The engine refused something or stayed away.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine answers, and its log of the container cannot be read.
    #[error("failed to read the container's log")]
    LogLost {
        /// What the client said.
        source: Box<bollard::errors::Error>,
    },
    /// A file of the artifacts could not be written.
    #[error("failed to write {path}", path = path.display())]
    Artifacts {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The results could not be read out of the container.
    #[error(transparent)]
    Results(CollectError),
    /// It was cancelled before there was a container.
    #[error("cancelled before the container was started")]
    Cancelled,
}

fn start_hint(message: &str) -> &'static str {
    if message.contains("could not select device driver") {
        " (the engine has no GPU runtime: install the NVIDIA Container Toolkit and restart the engine)"
    } else if message.contains("unknown or invalid runtime name") {
        " (install this platform's container runtime and register it with the engine)"
    } else if message.contains("failed to create endpoint") || message.contains("bridge") {
        " (the engine's network is damaged: restart the engine)"
    } else {
        ""
    }
}

impl PassError {
    /// The failure that a job ends with; `None` when it was cancelled.
    pub fn failure_kind(&self) -> Option<FailureKind> {
        let full = |error: &io::Error, other| {
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if full { FailureKind::DiskFull } else { other }
        };
        Some(match self {
            Self::Request(_) => FailureKind::WorkspaceFailed,
            Self::ImageRemoved { .. } => FailureKind::PullFailed,
            Self::Start { message } if message.contains("no space left on device") => FailureKind::DiskFull,
            Self::Start { .. } => FailureKind::StartFailed,
            Self::Engine(error) if error.is_disk_full() => FailureKind::DiskFull,
            Self::Gone { .. } | Self::LogLost { .. } | Self::Engine(_) => FailureKind::EngineUnavailable,
            Self::Artifacts { source, .. } | Self::Results(CollectError::Write { source, .. }) => {
                full(source, FailureKind::WorkspaceFailed)
            }
            Self::Results(CollectError::TooLarge { .. }) => FailureKind::ResultsTooLarge,
            Self::Results(CollectError::Read(_)) => FailureKind::EngineUnavailable,
            Self::Cancelled => return None,
        })
    }

    /// Whether repeating the pass may help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Engine(error) => error.fault(),
            Self::ImageRemoved { .. }
            | Self::Gone { .. }
            | Self::LogLost { .. }
            | Self::Results(CollectError::Read(_)) => Fault::Transient,
            Self::Request(_)
            | Self::Start { .. }
            | Self::Artifacts { .. }
            | Self::Results(CollectError::TooLarge { .. } | CollectError::Write { .. })
            | Self::Cancelled => Fault::Permanent,
        }
    }
}

impl PassOutcome {
    /// What went wrong with the pass itself, whatever its results are; `None` when nothing did.
    pub fn failure(&self) -> Option<FailureKind> {
        match &self.end {
            PassEnd::SuiteMissing => Some(FailureKind::SuiteMissing),
            PassEnd::PrepareFailed { code } => Some(FailureKind::PrepareFailed { code: *code }),
            PassEnd::OutOfMemory => Some(FailureKind::OutOfMemory),
            PassEnd::DiskLimit => Some(FailureKind::DiskLimit),
            PassEnd::TimedOut(_) | PassEnd::Cancelled => None,
            PassEnd::SuiteEnded { code } => match (&self.results, code) {
                (Results::TooLarge { .. }, _) => Some(FailureKind::ResultsTooLarge),
                (_, 1..) | (_, ..=-1) => Some(FailureKind::SuiteExit { code: *code }),
                (_, 0) if !self.points.server_died.is_empty() => Some(FailureKind::ServerDied),
                (Results::None, 0) => Some(FailureKind::NoResults),
                (Results::Taken(_), 0) => None,
            },
        }
    }

    /// How the job ends when it is this one pass, of which `measured` points are good and `missing` are not there or
    /// bad.
    pub fn conclude(&self, measured: usize, missing: usize) -> Conclusion {
        match (&self.end, self.failure()) {
            (PassEnd::Cancelled, _) => Conclusion::Cancelled,
            (PassEnd::TimedOut(_), _) if measured == 0 => Conclusion::TimedOut,
            (PassEnd::TimedOut(_), _) => Conclusion::Incomplete,
            (_, failure) if measured == 0 => Conclusion::Failure(failure.unwrap_or(FailureKind::NoResults)),
            (_, Some(_)) => Conclusion::Incomplete,
            (_, None) if missing > 0 => Conclusion::Incomplete,
            (_, None) => Conclusion::Success,
        }
    }
}

pub(super) fn artifacts_error(path: &Path) -> impl FnOnce(io::Error) -> PassError + use<> {
    let path = path.to_owned();
    move |source| PassError::Artifacts { path, source }
}

pub(super) fn gone_error(error: EngineError, request: &PassRequest) -> PassError {
    if error.is_not_found() { PassError::Gone { name: request.id.container_name() } } else { PassError::Engine(error) }
}
