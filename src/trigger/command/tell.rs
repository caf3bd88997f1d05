//! What people are told in answer to a command.

use std::fmt::Write as _;

use super::CommandOutcome;
use super::parse::CommandFault;
use crate::model::{Reaction, RunState};
use crate::store::{PullRow, PullRun};

/// The commands, for people.
const USAGE: &str = "\
| command | what it does |
|---|---|
| `/benchd run [models=a,b] [targets=..] [suites=serving] [baseline=<sha or tag>] [repeats=n]` | measures the head |
| `/benchd rerun` | measures the head once more |
| `/benchd retry` | tries the failed jobs of the head's last run again |
| `/benchd cancel` | ends what waits or runs |
| `/benchd status` | says how it stands |
| `/benchd help` | says this |
";

/// Words that repeat what somebody wrote, as a code span: no link, picture or mention of theirs comes to life in it, and
/// nothing in it ends it.
pub(super) fn quoted(words: &dyn std::fmt::Display) -> String {
    format!("`{}`", words.to_string().replace('`', "'").replace('\n', " "))
}

/// An answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// What came of it.
    pub outcome: CommandOutcome,
    /// A comment of its own, where the pull request's comment does not say it.
    pub reply: Option<String>,
}

impl Told {
    /// It was done; the pull request's comment says the rest.
    pub fn done() -> Self {
        Self { outcome: CommandOutcome::Done, reply: None }
    }

    /// It was done, and this is to be said.
    pub fn said(text: impl Into<String>) -> Self {
        Self { outcome: CommandOutcome::Done, reply: Some(text.into()) }
    }

    /// There was nothing to do.
    pub fn nothing(text: impl Into<String>) -> Self {
        Self { outcome: CommandOutcome::NothingToDo, reply: Some(text.into()) }
    }

    /// It is refused.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { outcome: CommandOutcome::Refused, reply: Some(text.into()) }
    }

    /// It cannot be done as it is asked.
    pub fn impossible(text: impl Into<String>) -> Self {
        Self { outcome: CommandOutcome::NotUnderstood, reply: Some(text.into()) }
    }

    /// It is not understood.
    pub fn fault(fault: &CommandFault) -> Self {
        Self::impossible(format!("I did not understand that: {}\n\n{USAGE}", quoted(fault)))
    }

    /// What can be asked.
    pub fn help() -> Self {
        Self::said(format!("What can be asked in a comment:\n\n{USAGE}"))
    }

    /// The sign on the comment.
    pub fn reaction(&self) -> Option<Reaction> {
        match self.outcome {
            CommandOutcome::Done => Some(Reaction::ThumbUp),
            CommandOutcome::Refused => Some(Reaction::ThumbDown),
            CommandOutcome::NothingToDo | CommandOutcome::NotUnderstood => Some(Reaction::Confused),
            CommandOutcome::Known => None,
        }
    }
}

/// How the runs of a pull request stand.
pub(super) fn status(row: &PullRow, runs: &[PullRun]) -> String {
    let mut text = format!("The head is {}.", row.head);
    let of_head: Vec<&PullRun> = runs.iter().filter(|run| run.run.sha == row.head).collect();
    if of_head.is_empty() {
        let why = row.said.as_deref().map_or_else(String::new, |said| format!(": {said}"));
        let _infallible = write!(text, " It was not measured{why}.");
    }
    let older = runs.iter().filter(|run| run.run.sha != row.head && !run.run.state.phase().is_final());
    for run in of_head.iter().copied().chain(older) {
        let stands = words(run.run.state);
        let (id, sha) = (run.run.id, run.run.sha.short());
        let _infallible = write!(text, "\n- Run {id} of {sha} ({}) {stands}.", run.run.trigger);
    }
    text
}

/// How a run stands, after its name.
pub(super) fn words(state: RunState) -> String {
    match state {
        RunState::Requested | RunState::Queued => "waits in the queue".to_owned(),
        RunState::Running => "is running".to_owned(),
        RunState::Measured => "was measured, its results are being sent".to_owned(),
        RunState::Published => "was measured".to_owned(),
        RunState::Failed(kind) => format!("failed: {kind}"),
        RunState::Cancelled => "was cancelled".to_owned(),
        RunState::Superseded => "gave way to a newer run".to_owned(),
    }
}
