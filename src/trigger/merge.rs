//! Merges: a look at a branch finds the commits that are new since the last look, measures those that were its tip and
//! keeps the others for a later search. Who was first to tell of them, `closed`, `push` or nobody, makes no difference.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::Context;
use super::looks::LookError;
use super::manual::{ManualRequest, Under, nothing_to_do, prepare};
use super::policy::wants_target;
use super::request::Planned;
use super::resolve::Resolved;
use super::source::{Candidate, CommitSource, HistoryError};
use crate::config::RepositoryConfig;
use crate::github::PullState;
use crate::model::{BranchName, CommitSha, RunId, RunPhase, RunState, Trigger};
use crate::queue::spec::Trust;
use crate::queue::{RunningJobs, Submitted};
use crate::step::Step;
use crate::store::{BranchCommit, Commit, NewRun, RunTerms, StoreError, Write};

/// How far the last tip is looked for, in commits along first parents.
const LOOK_BACK: usize = 100;

/// How far it is looked for when it is not among those: weeks of merges.
const FAR_LOOK_BACK: usize = 1000;

/// For how long deliveries say what was a tip.
const TOLD_FOR: TimeDelta = TimeDelta::days(7);

/// For so many commits that no delivery told of GitHub is asked whether one was a merge; older ones are taken for merges.
const MOST_ASKED: usize = 10;

/// What came of a look at a branch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum MergeAnswer {
    /// Merges are not measured.
    NotMeasured {
        /// Why.
        why: String,
    },
    /// There is no such branch.
    Absent,
    /// Its tip is written down for the first time: what is there already is no merge.
    Followed {
        /// The tip.
        tip: CommitSha,
    },
    /// Nothing has come since.
    NothingNew {
        /// The tip.
        tip: CommitSha,
    },
    /// It has moved.
    Moved(Box<Moved>),
}

/// What followed from the new commits of a branch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Runs that were submitted, oldest commit first.
    pub runs: Vec<(RunId, CommitSha)>,
    /// Runs whose place the newest one took.
    pub superseded: Vec<RunId>,
    /// Why a commit is not measured, where nothing of it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nothing_to_do: Option<String>,
    /// How many commits are kept for a search only.
    pub kept: usize,
    /// The last tip is not among the newest commits: the branch was rewritten, or has moved very far.
    pub rewritten: bool,
}

/// What is to be done about new commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Measured, oldest first.
    pub measured: Vec<CommitSha>,
    /// Tips that are passed over, oldest first.
    pub passed_over: Vec<CommitSha>,
    /// Whether the newest takes the place of every merge run that waits.
    pub coalesce: bool,
}

/// Pure: which of the new commits (newest first) are measured. A tip is; of a push of several commits the newest. When
/// more merge runs would wait than `backlog`, only the newest of all is measured.
pub fn wanted(
    news: &[CommitSha],
    tips: &BTreeSet<CommitSha>,
    known: &BTreeSet<CommitSha>,
    waiting: usize,
    backlog: usize,
) -> Wanted {
    let is_tip = |(at, sha): &(usize, &CommitSha)| (*at == 0 || tips.contains(*sha)) && !known.contains(*sha);
    let mut measured: Vec<CommitSha> = news.iter().enumerate().filter(is_tip).map(|(_, sha)| sha.clone()).collect();
    measured.reverse();
    if measured.is_empty() || waiting + measured.len() <= backlog {
        return Wanted { measured, ..Wanted::default() };
    }
    let newest = measured.pop();
    Wanted { measured: newest.into_iter().collect(), passed_over: measured, coalesce: true }
}

/// Who is asked about what GitHub tells of: GitHub, unless there is only a clone to be asked.
///
/// # Errors
/// When there is neither.
pub(super) fn source_of(context: &Context, repository: &RepositoryConfig) -> Result<CommitSource, HistoryError> {
    let known_there = |github: &&crate::github::GitHub| match github.acts_as() {
        crate::github::Acting::App | crate::github::Acting::Token => true,
        crate::github::Acting::Anonymous => repository.checkout.is_none(),
    };
    match context.github.as_ref().filter(known_there) {
        Some(github) => Ok(CommitSource::GitHub(github.clone())),
        None => CommitSource::of(context, repository),
    }
}

/// Looks at a branch.
///
/// # Errors
/// When it is not known how it stands, or a run cannot be planned now.
pub async fn look_at_branch(
    context: &Context,
    repository: &RepositoryConfig,
    branch: &BranchName,
    now: DateTime<Utc>,
) -> Result<MergeAnswer, LookError> {
    let not_measured = |why: &str| Ok(MergeAnswer::NotMeasured { why: why.to_owned() });
    if !repository.triggers.merge.enabled || !repository.branch.contains(branch) {
        return not_measured("merges into the branch are not measured (`triggers.merge.enabled`, `branch`)");
    }
    let source = source_of(context, repository)?;
    let before = context.store.branch_tip(&repository.name, branch).await?;
    let mut commits = Vec::new();
    for look_back in [LOOK_BACK, FAR_LOOK_BACK] {
        commits = match source.branch(&repository.name, branch, look_back).await {
            Ok(found) => found.commits,
            Err(HistoryError::NoBranch { .. }) => return Ok(MergeAnswer::Absent),
            Err(error) => return Err(error.into()),
        };
        let found = before.as_ref().is_none_or(|before| commits.iter().any(|commit| commit.sha == *before));
        if found || commits.len() < look_back {
            break;
        }
    }
    let Some(tip) = commits.first().map(|commit| commit.sha.clone()) else { return Ok(MergeAnswer::Absent) };
    let told = context.store.delivered_tips(&repository.name, &format!("refs/heads/{branch}"), now - TOLD_FOR).await?;
    let mut tips: BTreeSet<CommitSha> = told.into_iter().collect();
    let (news, rewritten) = news(&commits, before.as_ref(), &tips);
    let selected = wants_target(&repository.selection.merge.targets, &context.target);
    if news.is_empty() || !selected {
        let mut write = context.store.write(Step::KeepTip).await?;
        write.keep_tip(&repository.name, branch, &tip, now).await?;
        write.commit().await?;
        return match (selected, before) {
            (false, _) => not_measured(&format!("{} is not selected for merges", context.target)),
            (true, None) => Ok(MergeAnswer::Followed { tip }),
            (true, Some(_)) => Ok(MergeAnswer::NothingNew { tip }),
        };
    }
    if let CommitSource::GitHub(github) = &source {
        let untold = news.iter().skip(1).map(|commit| &commit.sha).filter(|sha| !tips.contains(*sha));
        let untold: Vec<_> = untold.cloned().collect();
        for (at, commit) in untold.into_iter().enumerate() {
            let merged = PullState::Merged { commit: Some(commit.clone()) };
            if at >= MOST_ASKED
                || github.pulls_of(&repository.name, &commit).await?.iter().any(|pull| pull.state == merged)
            {
                tips.insert(commit);
            }
        }
    }
    let look =
        Look { context, repository, branch, source: &source, tip: &tip, stretch: &commits, news, tips, rewritten };
    look.answer(now).await
}

/// The commits that are new since `before`, newest first, and whether `before` is not among them at all. When nothing is
/// known of the branch, only what deliveries told of is new.
fn news<'c>(
    commits: &'c [Candidate],
    before: Option<&CommitSha>,
    told: &BTreeSet<CommitSha>,
) -> (&'c [Candidate], bool) {
    let upto = |count: usize| commits.get(..count).unwrap_or_default();
    match before {
        Some(before) => match commits.iter().position(|commit| commit.sha == *before) {
            Some(count) => (upto(count), false),
            // How many are new cannot be said; the tip is.
            None => (upto(1), true),
        },
        None => (upto(commits.iter().rposition(|commit| told.contains(&commit.sha)).map_or(0, |at| at + 1)), false),
    }
}

/// A branch that has moved.
struct Look<'a> {
    context: &'a Context,
    repository: &'a RepositoryConfig,
    branch: &'a BranchName,
    source: &'a CommitSource,
    tip: &'a CommitSha,
    /// The newest commits of the branch, also those that are not new.
    stretch: &'a [Candidate],
    news: &'a [Candidate],
    tips: BTreeSet<CommitSha>,
    rewritten: bool,
}

/// The merge runs of a branch: of the new commits, and those that wait.
struct Runs {
    known: BTreeSet<CommitSha>,
    waiting: Vec<RunId>,
}

impl Look<'_> {
    async fn answer(&self, now: DateTime<Utc>) -> Result<MergeAnswer, LookError> {
        let shas: Vec<_> = self.news.iter().map(|commit| commit.sha.clone()).collect();
        let mut write = self.context.store.write(Step::MeasureMerges).await?;
        let runs = self.runs(&mut write, &shas).await?;
        drop(write);
        let backlog = usize::try_from(self.repository.triggers.merge.backlog).unwrap_or(usize::MAX);
        let wanted = wanted(&shas, &self.tips, &runs.known, runs.waiting.len(), backlog);
        let mut plans = Vec::new();
        for commit in wanted.measured.iter().filter_map(|sha| self.news.iter().find(|commit| commit.sha == *sha)) {
            plans.push(self.plan(commit).await?);
        }
        let mut moved = Moved { rewritten: self.rewritten, ..Moved::default() };
        let mut write = self.context.store.write(Step::MeasureMerges).await?;
        // Nothing else submits merges, so that what was decided still holds; what waited may have begun.
        let waiting = self.runs(&mut write, &shas).await?.waiting;
        let stretch: Vec<_> = self.stretch.iter().map(BranchCommit::from).collect();
        write.place_stretch(&self.repository.name, self.branch, &stretch).await?;
        for commit in self.news {
            let known = Commit {
                repository: self.repository.name.clone(),
                sha: commit.sha.clone(),
                first_parent: commit.first_parent.clone(),
                committed_at: Some(commit.committed_at),
            };
            write.record_commit(&known).await?;
        }
        let mut passed_over = Vec::new();
        for sha in &wanted.passed_over {
            passed_over.push(write.insert_run(&self.passed_over(sha), now).await?);
        }
        for planned in plans {
            match self.context.queue.submit_within(&mut write, &planned.run).await? {
                Submitted::Run(run) => moved.runs.push((run, planned.run.commit.sha)),
                Submitted::NothingToDo => {
                    moved.nothing_to_do = Some(nothing_to_do(&planned, &self.context.target));
                }
            }
        }
        if let Some((newest, _)) = moved.runs.last().filter(|_| wanted.coalesce) {
            for run in waiting {
                let _ended = self.context.queue.supersede_within(&mut write, run, *newest, RunningJobs::Finish).await?;
                moved.superseded.push(run);
            }
            for run in passed_over.iter().copied() {
                let _new = write.supersede_run(run, *newest).await?;
                moved.superseded.push(run);
            }
        }
        for run in passed_over {
            let _new = write.move_run(run, RunPhase::Requested, RunState::Superseded, now).await?;
        }
        moved.kept = self.news.len() - moved.runs.len();
        write.keep_tip(&self.repository.name, self.branch, self.tip, now).await?;
        write.commit().await?;
        Ok(MergeAnswer::Moved(Box::new(moved)))
    }

    async fn runs(&self, write: &mut Write, shas: &[CommitSha]) -> Result<Runs, StoreError> {
        let rows = write.merge_runs(&self.repository.name, self.branch, shas).await?;
        let waits = |phase| phase == RunPhase::Queued;
        Ok(Runs {
            waiting: rows.iter().filter(|run| waits(run.state.phase())).map(|run| run.id).collect(),
            known: rows.into_iter().map(|run| run.sha).collect(),
        })
    }

    async fn plan(&self, commit: &Candidate) -> Result<Planned, LookError> {
        let resolved = Resolved {
            sha: commit.sha.clone(),
            committed_at: commit.committed_at,
            branch: self.branch.clone(),
            // It is on the branch: its history was read from there.
            trust: Trust::Trusted,
            first_parent: commit.first_parent.clone(),
            position: commit.position,
        };
        let selection = &self.repository.selection.merge;
        let under = Under { selection, named: "selection.merge", trigger: Trigger::Merge };
        let request = ManualRequest::default();
        Ok(prepare(self.context, self.repository, &request, self.source, &resolved, under).await?)
    }

    /// The run of a tip whose place is taken before anything of it was planned.
    fn passed_over(&self, sha: &CommitSha) -> NewRun {
        NewRun {
            repository: self.repository.name.clone(),
            sha: sha.clone(),
            branch: self.branch.clone(),
            trigger: Trigger::Merge,
            priority: None,
            owed: Vec::new(),
            terms: RunTerms::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(number: usize) -> CommitSha {
        format!("{number:040x}").parse().unwrap()
    }

    fn shas(numbers: &[usize]) -> Vec<CommitSha> {
        numbers.iter().copied().map(sha).collect()
    }

    fn set(numbers: &[usize]) -> BTreeSet<CommitSha> {
        shas(numbers).into_iter().collect()
    }

    fn measured(numbers: &[usize]) -> Wanted {
        Wanted { measured: shas(numbers), ..Wanted::default() }
    }

    #[test]
    fn every_tip_is_measured_and_of_a_push_the_newest() {
        let news = shas(&[9, 8, 7, 6]);
        assert_eq!(wanted(&news, &set(&[9]), &set(&[]), 0, 4), measured(&[9]));
        assert_eq!(wanted(&news, &set(&[]), &set(&[]), 0, 4), measured(&[9]), "the tip is one, told or not");
        assert_eq!(wanted(&news, &set(&[9, 7, 1]), &set(&[]), 0, 4), measured(&[7, 9]));
        assert_eq!(wanted(&news, &set(&[7]), &set(&[9]), 0, 4), measured(&[7]), "nothing is measured twice");
        assert_eq!(wanted(&news, &set(&[]), &set(&[9]), 9, 4), measured(&[]));
        assert_eq!(wanted(&[], &set(&[1]), &set(&[]), 9, 4), measured(&[]));
    }

    #[test]
    fn above_the_backlog_only_the_newest_is_measured() {
        let news = shas(&[9, 8, 7]);
        let all = set(&[9, 8, 7]);
        assert_eq!(wanted(&news, &all, &set(&[]), 1, 4), measured(&[7, 8, 9]), "four wait, which may");
        let newest = Wanted { measured: shas(&[9]), passed_over: shas(&[7, 8]), coalesce: true };
        assert_eq!(wanted(&news, &all, &set(&[]), 2, 4), newest);
        let every = Wanted { measured: shas(&[9]), passed_over: Vec::new(), coalesce: true };
        assert_eq!(wanted(&shas(&[9]), &all, &set(&[]), 0, 0), every, "without a backlog each takes the others' place");
    }

    #[test]
    fn what_was_there_before_a_branch_was_followed_is_not_new() {
        let candidate = |number| Candidate {
            sha: sha(number),
            committed_at: DateTime::UNIX_EPOCH,
            first_parent: None,
            position: None,
        };
        let commits: Vec<_> = [9, 8, 7, 6].into_iter().map(candidate).collect();
        let found = |before: Option<usize>, told: &[usize]| {
            let (news, rewritten) = news(&commits, before.map(sha).as_ref(), &set(told));
            (news.len(), rewritten)
        };
        assert_eq!(found(None, &[]), (0, false));
        assert_eq!(found(None, &[8]), (2, false), "from what a delivery told of on");
        assert_eq!(found(Some(7), &[]), (2, false));
        assert_eq!(found(Some(9), &[9]), (0, false));
        assert_eq!(found(Some(1), &[]), (1, true), "the branch was rewritten");
    }
}
