//! How a job ends, and why it failed: typed, so that the queue knows what to repeat and a person what to do.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "conclusion", rename_all = "snake_case")]
pub enum Conclusion {
    /// Every expected point was measured.
    Success,
    /// Some points were measured, others were not run, failed or were zeroed.
    Incomplete,
    /// Nothing usable was measured.
    Failure(FailureKind),
    /// The job, a point or the silence between two lines took too long.
    TimedOut,
    /// A person stopped it.
    Cancelled,
    /// A newer request took its place.
    Superseded,
    /// It was not tried.
    Skipped {
        /// Why, for people: "needs 8 devices, this host has 2".
        reason: String,
    },
}

impl Conclusion {
    /// The name in the store, the API and filters.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Incomplete => "incomplete",
            Self::Failure(_) => "failure",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// Whether trying the job again may help because the fault lies outside what is measured. A benchmark that fails
    /// is a signal and is never repeated.
    pub fn is_infrastructure(&self) -> bool {
        match self {
            Self::Failure(kind) => kind.is_infrastructure(),
            Self::Success
            | Self::Incomplete
            | Self::TimedOut
            | Self::Cancelled
            | Self::Superseded
            | Self::Skipped { .. } => false,
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure(kind) => write!(f, "failure: {kind}"),
            Self::Skipped { reason } => write!(f, "skipped: {reason}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Success | Self::Incomplete | Self::Cancelled | Self::Superseded => f.write_str(self.as_str()),
        }
    }
}

/// Why a job, or a run without a single result, failed. The text says what happened, [`FailureKind::advice`] what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error, ToSchema)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub enum FailureKind {
    /// The registry answered that there is no such image.
    #[error("the commit's image does not exist")]
    ImageMissing,
    /// The registry could not say whether the image exists.
    #[error("the registry could not say whether the image exists")]
    RegistryUnavailable,
    /// The image exists and could not be brought here.
    #[error("the image could not be pulled")]
    PullFailed,
    /// The image is for another processor than this host has.
    #[error("the image is for another architecture")]
    WrongArchitecture,
    /// The commit's files could not be put into the workspace.
    #[error("the workspace could not be prepared")]
    WorkspaceFailed,
    /// GitHub could not say whether a fork's commit is still approved.
    #[error("GitHub could not say whether the commit is still approved")]
    GithubUnavailable,
    /// A command before the suite (pre-command, `prepare`) failed.
    #[error("a command before the suite failed with exit code {code}")]
    PrepareFailed {
        /// Its exit code.
        code: i64,
    },
    /// The engine does not answer or may not be used.
    #[error("the container engine is unavailable")]
    EngineUnavailable,
    /// The container was created and could not be started.
    #[error("the container could not be started")]
    StartFailed,
    /// A device is used by somebody else.
    #[error("a device is busy")]
    DeviceBusy,
    /// No room is left on a disk of the host.
    #[error("the disk is full")]
    DiskFull,
    /// The suite wrote more to its disk than it may.
    #[error("the suite wrote more to disk than it may")]
    DiskLimit,
    /// The kernel killed a process of the container for memory.
    #[error("the suite ran out of memory")]
    OutOfMemory,
    /// The suite's script is not where the configuration says.
    #[error("the suite's script is missing")]
    SuiteMissing,
    /// The suite ended with this code and without usable results.
    #[error("the suite failed with exit code {code}")]
    SuiteExit {
        /// Its exit code.
        code: i64,
    },
    /// The suite's server ended while the suite still waited for it.
    #[error("the server under test died")]
    ServerDied,
    /// The suite left no result of any expected point.
    #[error("the suite left no results")]
    NoResults,
    /// All values are zero.
    #[error("all results are zero")]
    ZeroedResults,
    /// Results are there and none can be used.
    #[error("no result is valid")]
    InvalidResults,
    /// Results are larger than the configured cap.
    #[error("the results are larger than allowed")]
    ResultsTooLarge,
    /// The runner stopped renewing its lease.
    #[error("the runner was lost")]
    LostRunner,
    /// Of a run: no job measured anything, and no job's failure says more.
    #[error("no job measured anything")]
    NothingMeasured,
    /// The commit's results were measured and a place they were owed to refuses them.
    #[error("the results could not be published")]
    PublishRefused,
}

impl FailureKind {
    /// All kinds, with exit code 1 where a kind has one.
    pub const ALL: [Self; 23] = [
        Self::ImageMissing,
        Self::RegistryUnavailable,
        Self::PullFailed,
        Self::WrongArchitecture,
        Self::WorkspaceFailed,
        Self::GithubUnavailable,
        Self::PrepareFailed { code: 1 },
        Self::EngineUnavailable,
        Self::StartFailed,
        Self::DeviceBusy,
        Self::DiskFull,
        Self::DiskLimit,
        Self::OutOfMemory,
        Self::SuiteMissing,
        Self::SuiteExit { code: 1 },
        Self::ServerDied,
        Self::NoResults,
        Self::ZeroedResults,
        Self::InvalidResults,
        Self::ResultsTooLarge,
        Self::LostRunner,
        Self::NothingMeasured,
        Self::PublishRefused,
    ];

    /// Whether the fault lies in the house and not in what is measured: such a job is tried again (bounded, with
    /// backoff). A missing image is waited for instead.
    pub fn is_infrastructure(self) -> bool {
        match self {
            Self::RegistryUnavailable
            | Self::PullFailed
            | Self::WorkspaceFailed
            | Self::GithubUnavailable
            | Self::EngineUnavailable
            | Self::StartFailed
            | Self::DeviceBusy
            | Self::DiskFull
            | Self::LostRunner => true,
            Self::ImageMissing
            | Self::WrongArchitecture
            | Self::PrepareFailed { .. }
            | Self::DiskLimit
            | Self::OutOfMemory
            | Self::SuiteMissing
            | Self::SuiteExit { .. }
            | Self::ServerDied
            | Self::NoResults
            | Self::ZeroedResults
            | Self::InvalidResults
            | Self::ResultsTooLarge
            | Self::NothingMeasured
            | Self::PublishRefused => false,
        }
    }

    /// Whether something outside of the host may simply be away: such a job is tried for hours, not minutes.
    pub fn is_outage(self) -> bool {
        match self {
            Self::RegistryUnavailable
            | Self::PullFailed
            | Self::WorkspaceFailed
            | Self::GithubUnavailable
            | Self::EngineUnavailable => true,
            Self::StartFailed
            | Self::DeviceBusy
            | Self::DiskFull
            | Self::LostRunner
            | Self::ImageMissing
            | Self::WrongArchitecture
            | Self::PrepareFailed { .. }
            | Self::DiskLimit
            | Self::OutOfMemory
            | Self::SuiteMissing
            | Self::SuiteExit { .. }
            | Self::ServerDied
            | Self::NoResults
            | Self::ZeroedResults
            | Self::InvalidResults
            | Self::ResultsTooLarge
            | Self::NothingMeasured
            | Self::PublishRefused => false,
        }
    }

    /// What a person can do about it: one sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::ImageMissing => "Wait for the commit's image build, or check the image template of this platform.",
            Self::RegistryUnavailable => {
                "Check that the registry can be reached and its credentials (`benchd doctor`)."
            }
            Self::PullFailed => "Look at the pull's error; check the network, the credentials and the free disk space.",
            Self::WrongArchitecture => "Check the image template: this host's platform needs an image of its own.",
            Self::WorkspaceFailed => "Check that the repository can be fetched and the state directory be written.",
            Self::GithubUnavailable => "Check that GitHub can be reached and its credentials hold (`benchd doctor`).",
            Self::PrepareFailed { .. } => {
                "Read the end of the log: the commit does not build, or the command is wrong."
            }
            Self::EngineUnavailable => "Start the Docker Engine, or check `docker_host` and the socket's permissions.",
            Self::StartFailed => "Look at the engine's message; a GPU host needs its container runtime installed.",
            Self::DeviceBusy => "See which process holds the device, or let benchd use other devices.",
            Self::DiskFull => "Free disk space, or lower the retention of images and artifacts.",
            Self::DiskLimit => {
                "See what the suite writes; raise `disk` in the limits of untrusted code if it is right."
            }
            Self::OutOfMemory => "Raise the memory limit, or measure this model on a larger host.",
            Self::SuiteMissing => "Check the suite's command and working folder against the image.",
            Self::SuiteExit { .. } | Self::ServerDied => "Read the end of the log: the commit itself may be broken.",
            Self::NoResults => "Read the log, and check that the suite's results folder is the configured one.",
            Self::ZeroedResults => "Read the log: requests failed although the suite went on.",
            Self::InvalidResults => "See the list of problems; the suite wrote files that cannot be read as results.",
            Self::ResultsTooLarge => "Raise the cap on results, or let the suite write less into its results folder.",
            Self::LostRunner => "Check that the runner is on and benchd runs on it; the job is tried again by itself.",
            Self::NothingMeasured => "See how each of its jobs ended (`benchd show`).",
            Self::PublishRefused => "See what the bucket or API answered; results are kept and can be uploaded again.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conclusion_survives_the_wire() {
        let mut all = vec![
            Conclusion::Success,
            Conclusion::Incomplete,
            Conclusion::TimedOut,
            Conclusion::Cancelled,
            Conclusion::Superseded,
            Conclusion::Skipped { reason: "needs 8 devices, this host has 2".into() },
        ];
        all.extend(FailureKind::ALL.map(Conclusion::Failure));
        for conclusion in all {
            let json = serde_json::to_value(&conclusion).unwrap();
            assert_eq!(json["conclusion"], conclusion.as_str());
            assert_eq!(serde_json::from_value::<Conclusion>(json).unwrap(), conclusion);
        }
        let json = serde_json::to_string(&Conclusion::Failure(FailureKind::SuiteExit { code: 137 })).unwrap();
        assert_eq!(json, r#"{"conclusion":"failure","failure":"suite_exit","code":137}"#);
    }

    #[test]
    fn every_kind_is_listed_once_and_says_what_to_do() {
        let texts: std::collections::BTreeSet<_> = FailureKind::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), FailureKind::ALL.len());
        assert!(FailureKind::ALL.iter().all(|k| k.advice().ends_with('.')));
        let retried = FailureKind::ALL.iter().filter(|k| k.is_infrastructure()).count();
        assert_eq!(retried, 9, "a kind that is retried is a decision");
    }
}
