//! How far a run or job has come, with the data that exists only in that state, and the pure tables of legal moves
//! (drawn in docs/states.md; a test keeps page and tables equal).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Conclusion, FailureKind, RunnerName};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// Accepted, not yet planned.
    Requested,
    /// Planned: its jobs stand in the queue.
    Queued,
    /// At least one job was claimed.
    Running,
    /// All required jobs are finished and at least one gave results.
    Measured,
    /// Everything that was owed to the outside is delivered.
    Published,
    /// No job gave results, or what was measured is refused for good.
    Failed(FailureKind),
    /// A person stopped it.
    Cancelled,
    /// A newer request took its place.
    Superseded,
}

/// A run's state without its data: what the store guards moves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "described at RunState")]
pub enum RunPhase {
    Requested,
    Queued,
    Running,
    Measured,
    Published,
    Failed,
    Cancelled,
    Superseded,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Its platform's image is not built yet.
    WaitingForImage {
        /// Since when.
        since: DateTime<Utc>,
        /// When waiting is given up.
        until: DateTime<Utc>,
        /// When it is looked for next.
        next_look_at: DateTime<Utc>,
        /// What the last look found.
        last_look: Option<ImageLook>,
    },
    /// May be claimed.
    Queued {
        /// Not before this instant (backoff after a fault; otherwise when it was queued).
        not_before: DateTime<Utc>,
    },
    /// A runner has taken it and prepares it.
    Claimed {
        /// Which runner.
        by: RunnerName,
        /// Which try, from 1.
        attempt: u32,
        /// Until when the claim holds without a heartbeat.
        lease_until: DateTime<Utc>,
    },
    /// Its first pass has started.
    Running {
        /// Which runner.
        by: RunnerName,
        /// Which try, from 1.
        attempt: u32,
        /// Until when the claim holds without a heartbeat.
        lease_until: DateTime<Utc>,
        /// When the first pass started.
        started_at: DateTime<Utc>,
    },
    /// Ended; only a person's retry moves it again.
    Finished {
        /// How.
        #[serde(flatten)]
        conclusion: Conclusion,
    },
}

/// A look for an image that brought none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageLook {
    /// When.
    pub at: DateTime<Utc>,
    /// What was asked for: a reference, or the look-up's command or address.
    pub asked: String,
    /// What the answer was.
    #[serde(flatten)]
    pub answer: NoImage,
}

/// Why a look brought no image. An error is not an absence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum NoImage {
    /// The registry answered that there is none.
    Absent,
    /// There was no answer.
    Unknown {
        /// The error with its causes.
        error: String,
    },
}

/// A job's state without its data: what the store guards moves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "described at JobState")]
pub enum JobPhase {
    WaitingForImage,
    Queued,
    Claimed,
    Running,
    Finished,
}

/// No state has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a state of a {1}")]
pub struct UnknownPhase(String, &'static str);

impl RunState {
    /// The state without its data.
    pub fn phase(self) -> RunPhase {
        match self {
            Self::Requested => RunPhase::Requested,
            Self::Queued => RunPhase::Queued,
            Self::Running => RunPhase::Running,
            Self::Measured => RunPhase::Measured,
            Self::Published => RunPhase::Published,
            Self::Failed(_) => RunPhase::Failed,
            Self::Cancelled => RunPhase::Cancelled,
            Self::Superseded => RunPhase::Superseded,
        }
    }
}

impl RunPhase {
    /// All states, in the order of a good run.
    pub const ALL: [Self; 8] = [
        Self::Requested,
        Self::Queued,
        Self::Running,
        Self::Measured,
        Self::Published,
        Self::Failed,
        Self::Cancelled,
        Self::Superseded,
    ];

    /// The name in the store, the API and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Measured => "measured",
            Self::Published => "published",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    /// Where a run may move from here. What was measured is never cancelled or superseded: it is published, or the
    /// place it is owed to refuses it for good. A person's retry of its failed jobs queues a run again.
    pub fn moves(self) -> &'static [Self] {
        match self {
            Self::Requested => &[Self::Queued, Self::Failed, Self::Cancelled, Self::Superseded],
            Self::Queued => &[Self::Running, Self::Measured, Self::Failed, Self::Cancelled, Self::Superseded],
            Self::Running => &[Self::Measured, Self::Failed, Self::Cancelled, Self::Superseded],
            Self::Measured => &[Self::Published, Self::Failed, Self::Queued],
            Self::Published | Self::Failed | Self::Cancelled => &[Self::Queued],
            Self::Superseded => &[],
        }
    }

    /// Whether a run may move from here to `next`.
    pub fn may_become(self, next: Self) -> bool {
        self.moves().contains(&next)
    }

    /// Whether the run has ended: only a person's retry moves it again.
    pub fn is_final(self) -> bool {
        match self {
            Self::Published | Self::Failed | Self::Cancelled | Self::Superseded => true,
            Self::Requested | Self::Queued | Self::Running | Self::Measured => false,
        }
    }
}

impl JobState {
    /// The state without its data.
    pub fn phase(&self) -> JobPhase {
        match self {
            Self::WaitingForImage { .. } => JobPhase::WaitingForImage,
            Self::Queued { .. } => JobPhase::Queued,
            Self::Claimed { .. } => JobPhase::Claimed,
            Self::Running { .. } => JobPhase::Running,
            Self::Finished { .. } => JobPhase::Finished,
        }
    }
}

impl JobPhase {
    /// All states, in the order of a good job.
    pub const ALL: [Self; 5] = [Self::WaitingForImage, Self::Queued, Self::Claimed, Self::Running, Self::Finished];

    /// The name in the store, the API and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForImage => "waiting_for_image",
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::Running => "running",
            Self::Finished => "finished",
        }
    }

    /// Where a job may move from here. A lost lease or a fault of the house puts a claimed or running job back, a
    /// person's retry a finished one.
    pub fn moves(self) -> &'static [Self] {
        match self {
            Self::WaitingForImage => &[Self::Queued, Self::Finished],
            Self::Queued => &[Self::Claimed, Self::Finished],
            Self::Claimed => &[Self::Running, Self::Queued, Self::Finished],
            Self::Running => &[Self::Queued, Self::Finished],
            Self::Finished => &[Self::Queued, Self::WaitingForImage],
        }
    }

    /// Whether a job may move from here to `next`.
    pub fn may_become(self, next: Self) -> bool {
        self.moves().contains(&next)
    }
}

impl FromStr for RunPhase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| UnknownPhase(text.to_owned(), "run"))
    }
}

impl FromStr for JobPhase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| UnknownPhase(text.to_owned(), "job"))
    }
}

impl fmt::Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for JobPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(kind) => write!(f, "failed: {kind}"),
            Self::Requested
            | Self::Queued
            | Self::Running
            | Self::Measured
            | Self::Published
            | Self::Cancelled
            | Self::Superseded => f.write_str(self.phase().as_str()),
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForImage { .. } => f.write_str("waiting for its image"),
            Self::Queued { .. } => f.write_str("queued"),
            Self::Claimed { by, .. } => write!(f, "claimed by {by}"),
            Self::Running { by, .. } => write!(f, "running on {by}"),
            Self::Finished { conclusion } => conclusion.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_moves_forward_unless_it_is_retried() {
        use RunPhase::*;
        let legal = [
            (Requested, Queued),
            (Requested, Failed),
            (Requested, Cancelled),
            (Requested, Superseded),
            (Queued, Running),
            (Queued, Measured),
            (Queued, Failed),
            (Queued, Cancelled),
            (Queued, Superseded),
            (Running, Measured),
            (Running, Failed),
            (Running, Cancelled),
            (Running, Superseded),
            (Measured, Published),
            (Measured, Failed),
            (Measured, Queued),
            (Published, Queued),
            (Failed, Queued),
            (Cancelled, Queued),
        ];
        for from in RunPhase::ALL {
            for to in RunPhase::ALL {
                assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} -> {to}");
            }
            assert_eq!(from.as_str().parse::<RunPhase>().unwrap(), from);
        }
    }

    #[test]
    fn a_job_goes_back_to_the_queue_and_ends() {
        use JobPhase::*;
        let legal = [
            (WaitingForImage, Queued),
            (WaitingForImage, Finished),
            (Queued, Claimed),
            (Queued, Finished),
            (Claimed, Running),
            (Claimed, Queued),
            (Claimed, Finished),
            (Running, Queued),
            (Running, Finished),
            (Finished, Queued),
            (Finished, WaitingForImage),
        ];
        for from in JobPhase::ALL {
            for to in JobPhase::ALL {
                assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} -> {to}");
            }
            assert_eq!(from.as_str().parse::<JobPhase>().unwrap(), from);
        }
    }

    #[test]
    fn states_survive_the_wire() {
        let failed = RunState::Failed(FailureKind::SuiteExit { code: 2 });
        let json = serde_json::to_string(&failed).unwrap();
        assert_eq!(json, r#"{"state":"failed","failure":"suite_exit","code":2}"#);
        assert_eq!(serde_json::from_str::<RunState>(&json).unwrap(), failed);
        let finished = JobState::Finished { conclusion: Conclusion::Failure(FailureKind::DiskFull) };
        let json = serde_json::to_value(&finished).unwrap();
        assert_eq!(json["state"], finished.phase().as_str());
        assert_eq!((&json["conclusion"], &json["failure"]), (&"failure".into(), &"disk_full".into()));
        assert_eq!(serde_json::from_value::<JobState>(json).unwrap(), finished);
    }
}
