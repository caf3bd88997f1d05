//! What a pull request is told, as one plain value, and its renderings: the comment and the check. Rows become the value
//! in `facts`; nothing here talks to anybody.

mod advice;
mod check;
mod comment;
mod facts;
mod marker;
pub mod text;
mod words;

use chrono::{DateTime, Utc};
use std::time::Duration;
use url::Url;

use crate::compare::{Difference, Tally};
use crate::model::{
    Better, CommitSha, Conclusion, JobId, MetricClass, PointState, RepoName, RunId, RunState, Target, Trigger,
};
use crate::queue::place::Why;
use crate::store::{LeftOut, Machines, PointCounts};

pub use check::{Check, CheckEnd, CheckPhase, check};
pub use comment::comment;
pub use facts::{Sources, run_report};
pub use marker::Marker;
pub use words::{Style, answer, state_key};

/// What a pull request is told.
#[derive(Clone, Debug, PartialEq)]
pub struct PullReport {
    /// Whose pull request.
    pub repository: RepoName,
    /// Its number.
    pub number: u64,
    /// What this benchd is called there.
    pub name: String,
    /// How the newest run stands to the pull request's head.
    pub head: Head,
    /// The newest run.
    pub run: RunReport,
    /// The runs before it, newest first.
    pub earlier: Vec<Earlier>,
    /// Which commands that measure it takes.
    pub takes: Takes,
    /// Where links lead.
    pub links: Links,
    /// This benchd's version.
    pub version: String,
}

/// How the newest run stands to the pull request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// It is of the head, as far as is known.
    Measured,
    /// The head has moved on and has no run.
    Moved {
        /// The head.
        to: CommitSha,
        /// Why it is not measured, where known: "waiting for label `ready`".
        why: Option<String>,
    },
}

/// Which commands that measure a pull request takes, so that none is advised that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// All of them.
    All,
    /// It is closed: failed jobs are tried again, nothing is measured anew.
    Retry,
    /// None: commands are not answered, or code of forks is not measured.
    Nothing,
}

/// Where links lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// GitHub's pages, `https://github.com`.
    pub web: Url,
    /// How others reach this benchd; `None` where they do not.
    pub public: Option<Url>,
    /// GitHub's number of the pull request's comment, once it is known.
    pub comment: Option<u64>,
}

/// A run, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// Its id.
    pub id: RunId,
    /// The commit.
    pub sha: CommitSha,
    /// Why it exists.
    pub trigger: Trigger,
    /// Who asked, where known.
    pub asked_by: Option<String>,
    /// How far it has come.
    pub state: RunState,
    /// The run that took its place.
    pub superseded_by: Option<RunId>,
    /// When it was accepted.
    pub requested_at: DateTime<Utc>,
    /// When its first job was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The branch that the baselines are of.
    pub base: String,
    /// The commit it is to be held against, where somebody named one.
    pub wanted_baseline: Option<CommitSha>,
    /// What it measures, by target.
    pub targets: Vec<TargetReport>,
    /// What its budget has no room for.
    pub left_out: Vec<LeftOut>,
    /// Where its records are.
    pub publishing: Publishing,
    /// Changes below this are not told, in percent.
    pub threshold_percent: f64,
    /// How long devices were held, all devices together.
    pub device_time: Duration,
    /// How long its first job waited for devices.
    pub waited: Option<Duration>,
}

/// Where a run's records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// They stay in the store.
    Kept,
    /// So many deliveries are still owed.
    Owed(usize),
    /// They were delivered.
    Done,
    /// A place refuses them for good.
    Refused(String),
}

/// What a run measures on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetReport {
    /// The target.
    pub target: Target,
    /// Its jobs.
    pub jobs: Vec<JobReport>,
    /// Every series that was measured and is worth telling, with its baseline.
    pub series: Vec<SeriesReport>,
    /// The commits held against, the most used first.
    pub baselines: Vec<BaselineReport>,
    /// What measured the candidate.
    pub machines: Machines,
}

/// A job, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct JobReport {
    /// Its id.
    pub id: JobId,
    /// The model.
    pub model: String,
    /// How far it has come.
    pub state: JobStanding,
    /// How often it was tried since a person last asked for it.
    pub tries: u32,
    /// How often it may be tried.
    pub most_tries: u32,
    /// What the attempt before failed of, when it is tried again.
    pub failed_before: Option<String>,
    /// Its points.
    pub points: PointCounts,
    /// Points that came to nothing.
    pub failures: Vec<PointFailure>,
    /// The command that repeats its measurement.
    pub repro_command: Option<String>,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq)]
pub enum JobStanding {
    /// It waits.
    Waiting {
        /// Its number among those that wait for the same hardware, from 1.
        position: Option<u32>,
        /// How many wait there.
        of: u32,
        /// Why.
        why: Option<Why>,
        /// When it will start, if all takes as long as usual.
        starts_at: Option<DateTime<Utc>>,
    },
    /// A runner prepares or measures it.
    Running {
        /// When it will end, if it takes as long as usual.
        ends_at: Option<DateTime<Utc>>,
    },
    /// It has ended.
    Ended {
        /// How.
        conclusion: Conclusion,
        /// What happened, for people.
        message: Option<String>,
    },
}

/// A point that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointFailure {
    /// The benchmark with its variant's suffix.
    pub benchmark: String,
    /// The point.
    pub point: String,
    /// What came of it.
    pub state: PointState,
    /// Why.
    pub reason: Option<String>,
}

/// A series of the candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesReport {
    /// The model.
    pub model: String,
    /// The benchmark with its variant's suffix.
    pub benchmark: String,
    /// The point.
    pub point: String,
    /// The metric.
    pub metric: String,
    /// Its unit, may be empty.
    pub unit: String,
    /// Which direction is better.
    pub better: Option<Better>,
    /// How much it counts.
    pub class: MetricClass,
    /// The candidate's value.
    pub candidate: f64,
    /// In how many passes it was measured.
    pub passes: usize,
    /// The baseline's value; `None` where nothing comparable was measured before.
    pub baseline: Option<f64>,
    /// How they differ; `None` without a baseline, or with one of zero.
    pub difference: Option<Difference>,
}

/// A commit that a run is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineReport {
    /// The commit.
    pub sha: CommitSha,
    /// The run that measured it.
    pub run: RunId,
    /// For how many series.
    pub series: usize,
    /// How far it lies before the commit where the pull request left its branch, where both places are known.
    pub older_by: Option<u32>,
    /// What measured it.
    pub machines: Machines,
}

/// A run before the newest one, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The run.
    pub run: RunId,
    /// Its commit.
    pub sha: CommitSha,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// What came of it: the first line that it was told by.
    pub answer: String,
}

impl RunReport {
    /// How many series changed which way, over all targets.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for target in &self.targets {
            tally += target.tally();
        }
        tally
    }

    /// Its points, over all targets.
    pub fn points(&self) -> PointCounts {
        let mut all = PointCounts::default();
        for job in self.jobs() {
            all.expected += job.points.expected;
            all.ok += job.points.ok;
            all.failed += job.points.failed;
            all.not_run += job.points.not_run;
        }
        all
    }

    /// Its jobs, over all targets.
    pub fn jobs(&self) -> impl Iterator<Item = &JobReport> {
        self.targets.iter().flat_map(|target| &target.jobs)
    }
}

impl TargetReport {
    /// How many series changed which way.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for series in &self.series {
            tally.count(series.difference.as_ref());
        }
        tally
    }
}

#[cfg(test)]
mod tests;
