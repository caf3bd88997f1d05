//! What follows from a pull request as it is now and from what is known of it: pure, so that every order of labels,
//! pushes and answers can be tried. Deciding twice from the same facts changes nothing.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::paths::{Ignored, Paths};
use crate::config::{DraftPolicy, ForkPolicy, PullRequestTrigger, SupersedeRunning, WithdrawnRunning};
use crate::model::{Asked, CommitSha, Origin, RunId, Standing};

/// A run of which more than so much is done is not superseded, unless configured otherwise.
const HALF_PERCENT: u32 = 50;

/// A pull request as GitHub says it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its head commit.
    pub head: CommitSha,
    /// How it stands.
    pub standing: Standing,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// Whose code its head is.
    pub origin: Origin,
    /// What it changes, once that was asked.
    pub paths: Option<Paths>,
    /// Who has approved this very head, once that was asked.
    pub approval: Option<Approval>,
}

/// Whether somebody who may has approved a head of a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// This person.
    By(String),
    /// Nobody.
    Missing,
}

/// What is known of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its runs by labels and commands, oldest first.
    pub runs: Vec<KnownRun>,
    /// When its head was seen first.
    pub head_since: DateTime<Utc>,
    /// The title of the quiet check that its head has.
    pub said: Option<String>,
}

/// A run of a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRun {
    /// The run.
    pub run: RunId,
    /// Its commit.
    pub sha: CommitSha,
    /// Who wanted it.
    pub asked: Asked,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing has begun.
    Waiting,
    /// A job was begun.
    Running {
        /// How much of it is done, 0 to 100.
        done_percent: u32,
    },
    /// It ended, however.
    Ended,
    /// It was ended because the labels were taken away, the head moved and the like: it may come again.
    Withdrawn,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This must be known first.
    Ask(Question),
    /// These, in this order; none when all is as it should be.
    Moves(Vec<Move>),
}

/// What must be known for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// [`Facts::paths`].
    Paths,
    /// [`Facts::approval`].
    Approval,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// A run of the head is submitted.
    Submit,
    /// The run of the head takes the place of this one.
    Supersede(RunId),
    /// This run is ended, and may come again.
    Withdraw(RunId, Unwanted),
    /// The head has a quiet check that says this.
    Say(Unwanted),
    /// The quiet check of the head says that nothing is waited for any more.
    Unsay,
    /// It is decided then.
    LookAgain(DateTime<Utc>),
}

/// Why a head is not measured by its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// Configuration.
    Disabled,
    /// It was closed.
    Closed,
    /// It was merged.
    Merged,
    /// It has none of the labels.
    NoLabel,
    /// It has some of the labels, and not these.
    Labels(Vec<String>),
    /// It is a draft.
    Draft,
    /// It comes from a fork, and none of those is measured.
    Fork,
    /// It comes from a fork, and nobody who may has approved this head.
    Unapproved,
    /// All that it changes needs no measurement.
    Paths,
    /// Nothing of the selection can be measured on this host.
    Nothing(String),
    /// The head is another one.
    HeadMoved,
}

/// Decides.
pub fn decide(facts: &Facts, known: &Known, policy: &PullRequestTrigger, now: DateTime<Utc>) -> Decision {
    match unwanted(facts, known, policy) {
        Err(question) => Decision::Ask(question),
        Ok(Some(unwanted)) => Decision::Moves(withdraw(facts, known, policy, unwanted)),
        Ok(None) => Decision::Moves(measure(facts, known, policy, now)),
    }
}

/// Why the head is not wanted, if it is not; or what must be asked to say so.
fn unwanted(facts: &Facts, known: &Known, policy: &PullRequestTrigger) -> Result<Option<Unwanted>, Question> {
    let missing: Vec<String> = policy.labels.iter().filter(|label| !facts.labels.contains(*label)).cloned().collect();
    let certain = match facts.standing {
        _ if !policy.enabled => Some(Unwanted::Disabled),
        Standing::Closed => Some(Unwanted::Closed),
        Standing::Merged => Some(Unwanted::Merged),
        Standing::Draft | Standing::Ready if !missing.is_empty() => {
            Some(if missing.len() == policy.labels.len() { Unwanted::NoLabel } else { Unwanted::Labels(missing) })
        }
        Standing::Draft if policy.drafts == DraftPolicy::Skip => Some(Unwanted::Draft),
        Standing::Draft | Standing::Ready => None,
    };
    if certain.is_some() {
        return Ok(certain);
    }
    match (facts.origin, policy.forks) {
        (Origin::Own, _) | (Origin::Fork, ForkPolicy::EveryCommit) => {}
        (Origin::Fork, ForkPolicy::Never) => return Ok(Some(Unwanted::Fork)),
        (Origin::Fork, ForkPolicy::ApproveEachCommit) => match &facts.approval {
            // Until it has begun, every look makes sure that who approved it still may.
            None if !has_begun(facts, known) => return Err(Question::Approval),
            Some(Approval::Missing) => return Ok(Some(Unwanted::Unapproved)),
            None | Some(Approval::By(_)) => {}
        },
    }
    if policy.ignore_paths.is_empty() || standing_run(facts, known).is_some() {
        return Ok(None);
    }
    match &facts.paths {
        None => Err(Question::Paths),
        Some(paths) => Ok(match paths.ignored(&policy.ignore_paths) {
            Ignored::All => Some(Unwanted::Paths),
            Ignored::NotAll => None,
        }),
    }
}

/// The run that stands for the head, if there is one.
fn standing_run<'k>(facts: &Facts, known: &'k Known) -> Option<&'k KnownRun> {
    known.runs.iter().rfind(|run| run.sha == facts.head && run.asked.is_whole() && run.stage != Stage::Withdrawn)
}

fn has_begun(facts: &Facts, known: &Known) -> bool {
    standing_run(facts, known).is_some_and(|run| match run.stage {
        Stage::Running { .. } | Stage::Ended => true,
        Stage::Waiting | Stage::Withdrawn => false,
    })
}

/// The head is wanted: it has one run, and older heads give way to it.
fn measure(facts: &Facts, known: &Known, policy: &PullRequestTrigger, now: DateTime<Utc>) -> Vec<Move> {
    let mut moves = Vec::new();
    if standing_run(facts, known).is_none() {
        let quiet_for = TimeDelta::from_std(policy.quiet_for).unwrap_or_default();
        // A clock that was set back makes nobody wait longer than that.
        let since = known.head_since.min(now);
        if now < since + quiet_for {
            return vec![Move::LookAgain(since + quiet_for)];
        }
        moves.push(Move::Submit);
    }
    moves.extend(giving_way(&facts.head, known, policy).map(Move::Supersede));
    moves
}

/// The runs of other heads that a run of `head` takes the place of.
pub fn giving_way(head: &CommitSha, known: &Known, policy: &PullRequestTrigger) -> impl Iterator<Item = RunId> {
    let gives_way = |run: &&KnownRun| match run.stage {
        Stage::Waiting => true,
        Stage::Running { done_percent } => match policy.supersede_running {
            SupersedeRunning::Always => true,
            SupersedeRunning::Never => false,
            SupersedeRunning::UnlessHalfDone => done_percent <= HALF_PERCENT,
        },
        Stage::Ended | Stage::Withdrawn => false,
    };
    known.runs.iter().filter(move |run| run.sha != *head).filter(gives_way).map(|run| run.run)
}

/// The head is not wanted: what waits for it is ended, and it is said what it waits for.
fn withdraw(facts: &Facts, known: &Known, policy: &PullRequestTrigger, unwanted: Unwanted) -> Vec<Move> {
    let over = matches!(unwanted, Unwanted::Closed | Unwanted::Merged);
    let ends = |run: &&KnownRun| {
        // What a person asked for stands until the pull request is closed.
        let concerned = over || run.asked == Asked::Labels;
        concerned
            && match run.stage {
                Stage::Waiting => true,
                Stage::Running { .. } => policy.withdrawn_running == WithdrawnRunning::Cancel,
                Stage::Ended | Stage::Withdrawn => false,
            }
    };
    let why = |run: &KnownRun| {
        let of_head = matches!(unwanted, Unwanted::Unapproved | Unwanted::Paths);
        if of_head && run.sha != facts.head { Unwanted::HeadMoved } else { unwanted.clone() }
    };
    let ended = known.runs.iter().filter(ends).map(|run| Move::Withdraw(run.run, why(run)));
    let mut moves: Vec<Move> = ended.collect();
    // A head that has a run has that run's check.
    if !known.runs.iter().any(|run| run.sha == facts.head) {
        match unwanted {
            Unwanted::NoLabel if known.said.is_some() => moves.push(Move::Unsay),
            Unwanted::Disabled | Unwanted::Closed | Unwanted::Merged | Unwanted::NoLabel | Unwanted::HeadMoved => {}
            Unwanted::Labels(_)
            | Unwanted::Draft
            | Unwanted::Fork
            | Unwanted::Unapproved
            | Unwanted::Paths
            | Unwanted::Nothing(_) => {
                if known.said.as_deref() != Some(&unwanted.title()) {
                    moves.push(Move::Say(unwanted));
                }
            }
        }
    }
    moves
}
