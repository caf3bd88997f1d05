//! Pull requests: a look at one asks GitHub how it stands now, decides ([`decide::decide`]), and writes everything that follows
//! in one transaction. Looking twice changes nothing.

pub(in crate::trigger) mod approval;
pub mod decide;
mod known;
pub mod paths;
mod say;
mod start;
pub(in crate::trigger) mod submit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use self::decide::{Decision, Facts, Known, Move, Question, Unwanted, decide};
use self::paths::Paths;
use self::submit::HeadPlan;
use super::Context;
use super::looks::LookError;
use crate::config::RepositoryConfig;
use crate::github::{GitHub, Pull, PullState};
use crate::model::{Asked, CommitSha, RepoName, RunId, Standing};
use crate::queue::{Cancelled, RunPlan, RunningJobs, Submitted};
use crate::step::Step;
use crate::store::{Answer, AnswerKind, ApprovalRow, LookKind, Mark, PullRow, StoreError, Write};

pub use self::start::{MayStart, may_start};

/// When GitHub's answer is older than an earlier one, it is asked again after this long.
const STALE_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);

/// How often a decision is made anew because the queue moved meanwhile, before it is left to the next look.
const MOST_ROUNDS: u32 = 3;

/// What came of a look at a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum PullAnswer {
    /// There is none of that number.
    Absent,
    /// GitHub's answer was older than what is known; it is asked again.
    Stale,
    /// This was done.
    Decided(Done),
}

/// What a look did; nothing when all was as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The run that was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted: Option<RunId>,
    /// Runs whose place the head's run took.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<RunId>,
    /// Runs that nobody wants any more, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub withdrawn: BTreeMap<RunId, String>,
    /// What the quiet check of the head says from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// When it is looked at again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again_at: Option<DateTime<Utc>>,
}

/// What a look draws on besides the store.
struct Drawn {
    pull: Pull,
    facts: Facts,
    approval: Option<ApprovalRow>,
    plan: Option<HeadPlan>,
}

/// Looks at a pull request.
///
/// # Errors
/// When it is not known how it stands, or its run cannot be planned now.
pub async fn look_at_pull(
    context: &Context,
    repository: &RepositoryConfig,
    number: u64,
    now: DateTime<Utc>,
) -> Result<PullAnswer, LookError> {
    let github = context.github.as_ref().ok_or(LookError::NoClient)?;
    let Some(pull) = github.pull(&repository.name, number).await? else { return Ok(PullAnswer::Absent) };
    let before = context.store.pull(&repository.name, number).await?;
    let Some(mut row) = seen(before, &repository.name, &pull, now) else {
        let mut write = context.store.write(Step::PostponePull).await?;
        look_again(&mut write, &repository.name, number, now + STALE_AGAIN_AFTER, now).await?;
        write.commit().await?;
        return Ok(PullAnswer::Stale);
    };
    row.head_seen_at = heard_of(context, &row).await?.unwrap_or(now).min(row.head_seen_at);
    let facts = Facts {
        head: row.head.clone(),
        standing: row.standing,
        labels: row.labels.clone(),
        origin: row.origin,
        paths: None,
        approval: None,
    };
    let mut drawn = Drawn { pull, facts, approval: None, plan: None };
    for _ in 0..MOST_ROUNDS {
        let moves = moves(context, github, repository, &row, &mut drawn, now).await?;
        if moves.contains(&Move::Submit) && drawn.plan.is_none() {
            let by = labelled_by(context, repository, &row).await?;
            drawn.plan = Some(submit::plan_by_labels(context, repository, &drawn.pull, by).await?);
        }
        let mut write = context.store.write(Step::MovePull).await?;
        let runs = write.pull_runs(&repository.name, number).await?;
        let known = known::known(&context.store, &row, &runs, now).await?;
        let policy = &repository.triggers.pull_request;
        if decide(&drawn.facts, &known, policy, now) != Decision::Moves(moves.clone()) {
            // The queue moved on meanwhile.
            continue;
        }
        let mut row = row.clone();
        let done = apply(context, repository, &mut write, &mut row, &known, &drawn, moves, now).await?;
        write.record_pull(&row).await?;
        if let Some(approval) = &drawn.approval {
            let _either = write.record_approval((&row.repository, row.number), approval).await?;
        }
        write.commit().await?;
        return Ok(PullAnswer::Decided(done));
    }
    let mut write = context.store.write(Step::PostponePull).await?;
    look_again(&mut write, &repository.name, number, now + STALE_AGAIN_AFTER, now).await?;
    write.commit().await?;
    Ok(PullAnswer::Decided(Done { again_at: Some(now + STALE_AGAIN_AFTER), ..Done::default() }))
}

/// The row of a pull request as it is now, whatever it was before; `None` when what is known is newer.
pub(in crate::trigger) fn seen(
    before: Option<PullRow>,
    repository: &RepoName,
    pull: &Pull,
    now: DateTime<Utc>,
) -> Option<PullRow> {
    if before.as_ref().is_some_and(|before| pull.updated_at < before.updated_at) {
        return None;
    }
    let standing = match (&pull.state, pull.draft) {
        (PullState::Open, true) => Standing::Draft,
        (PullState::Open, false) => Standing::Ready,
        (PullState::Closed, _) => Standing::Closed,
        (PullState::Merged { .. }, _) => Standing::Merged,
    };
    let turned_at = match &before {
        Some(before) if before.standing.is_open() == standing.is_open() => before.turned_at,
        Some(_) | None => now,
    };
    let same_head = before.filter(|before| before.head == pull.head.sha);
    let (head_seen_at, head_updated_at, said, said_count) = match same_head {
        Some(before) => (before.head_seen_at, before.head_updated_at, before.said, before.said_count),
        None => (now, pull.updated_at, None, 0),
    };
    Some(PullRow {
        repository: repository.clone(),
        number: pull.number,
        head: pull.head.sha.clone(),
        head_seen_at,
        head_updated_at,
        labels: pull.labels.iter().cloned().collect(),
        standing,
        turned_at,
        origin: submit::origin(pull),
        author: pull.author.as_ref().map(|author| author.login.clone()),
        base_branch: pull.base.branch.clone(),
        said,
        said_count,
        updated_at: pull.updated_at,
    })
}

/// When a webhook named the head first.
async fn heard_of(context: &Context, row: &PullRow) -> Result<Option<DateTime<Utc>>, StoreError> {
    let deliveries = context.store.deliveries_of_pull(&row.repository, row.number).await?;
    Ok(deliveries.into_iter().find(|delivery| delivery.sha.as_ref() == Some(&row.head)).map(|d| d.received_at))
}

/// What is known of a pull request now, for those who decide about it otherwise.
pub(in crate::trigger) async fn known_of(
    context: &Context,
    row: &PullRow,
    now: DateTime<Utc>,
) -> Result<Known, StoreError> {
    let runs = context.store.pull_runs(&row.repository, row.number).await?;
    known::known(&context.store, row, &runs, now).await
}

/// Decides, asking GitHub what must be known.
async fn moves(
    context: &Context,
    github: &GitHub,
    repository: &RepositoryConfig,
    row: &PullRow,
    drawn: &mut Drawn,
    now: DateTime<Utc>,
) -> Result<Vec<Move>, LookError> {
    let known = known_of(context, row, now).await?;
    loop {
        match decide(&drawn.facts, &known, &repository.triggers.pull_request, now) {
            Decision::Moves(moves) => return Ok(moves),
            Decision::Ask(Question::Paths) => {
                drawn.facts.paths = Some(Paths::listed(github.pull_files(&row.repository, row.number).await?));
            }
            Decision::Ask(Question::Approval) => {
                let (approval, found) = approval::of_head(&context.store, github, repository, row).await?;
                drawn.facts.approval = Some(approval);
                drawn.approval = found;
            }
        }
    }
}

/// Who set the last of the labels, where a webhook told.
async fn labelled_by(
    context: &Context,
    repository: &RepositoryConfig,
    row: &PullRow,
) -> Result<Option<String>, StoreError> {
    let labels = &repository.triggers.pull_request.labels;
    let deliveries = context.store.deliveries_of_pull(&row.repository, row.number).await?;
    let last = deliveries.into_iter().rev().find(|delivery| {
        delivery.action.as_deref() == Some("labeled")
            && delivery.facts.label.as_ref().is_some_and(|label| labels.contains(label))
    });
    Ok(last.and_then(|delivery| delivery.sender))
}

/// Writes down what was decided.
#[expect(clippy::too_many_arguments, reason = "all that a decision is about, in one transaction")]
async fn apply(
    context: &Context,
    repository: &RepositoryConfig,
    write: &mut Write,
    row: &mut PullRow,
    known: &Known,
    drawn: &Drawn,
    moves: Vec<Move>,
    now: DateTime<Utc>,
) -> Result<Done, LookError> {
    let mut done = Done::default();
    let stands = |run: &&decide::KnownRun| run.sha == row.head && run.stage != decide::Stage::Withdrawn;
    let mut of_head = known.runs.iter().rfind(stands).map(|run| run.run);
    let (head, policy) = (row.head.clone(), &repository.triggers.pull_request);
    for step in moves {
        match step {
            Move::Submit => match &drawn.plan {
                Some(HeadPlan::Run(planned)) => {
                    let by = planned.run.terms.asked_by.as_deref();
                    done.submitted = submit_head(context, write, row, &planned.run, Asked::Labels, by).await?;
                    of_head = done.submitted;
                }
                Some(HeadPlan::Nothing(why)) => {
                    say(write, row, &Unwanted::Nothing(why.clone()), policy, &mut done, now).await?;
                }
                None => {}
            },
            Move::Supersede(run) => match of_head {
                Some(by) => {
                    let _ended = supersede(context, write, run, by, now).await?;
                    done.superseded.push(run);
                }
                None => withdraw(context, write, run, &Unwanted::HeadMoved, &mut done, now).await?,
            },
            Move::Withdraw(run, why) => withdraw(context, write, run, &why, &mut done, now).await?,
            Move::Say(unwanted) => say(write, row, &unwanted, policy, &mut done, now).await?,
            Move::Unsay => {
                say(write, row, &Unwanted::NoLabel, policy, &mut done, now).await?;
                row.said = None;
            }
            Move::LookAgain(at) => {
                look_again(write, &row.repository, row.number, at, now).await?;
                done.again_at = Some(at);
            }
        }
    }
    tracing::debug!(pr.number = row.number, commit.sha = %head, "decided: {done:?}");
    Ok(done)
}

/// Submits the run of a head and remembers for which pull request.
pub(in crate::trigger) async fn submit_head(
    context: &Context,
    write: &mut Write,
    row: &PullRow,
    plan: &RunPlan,
    asked: Asked,
    by: Option<&str>,
) -> Result<Option<RunId>, StoreError> {
    let Submitted::Run(run) = context.queue.submit_within(write, plan).await? else { return Ok(None) };
    write.record_pull_run(run, (&row.repository, row.number), &row.head, asked, by).await?;
    Ok(Some(run))
}

/// Lets the run `by` take the place of `run`, whose head may come again.
pub(in crate::trigger) async fn supersede(
    context: &Context,
    write: &mut Write,
    run: RunId,
    by: RunId,
    now: DateTime<Utc>,
) -> Result<Cancelled, StoreError> {
    let _once = write.withdraw_pull_run(run, now).await?;
    context.queue.supersede_within(write, run, by, RunningJobs::Stop).await
}

async fn withdraw(
    context: &Context,
    write: &mut Write,
    run: RunId,
    why: &Unwanted,
    done: &mut Done,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let _once = write.withdraw_pull_run(run, now).await?;
    let _ended = context.queue.cancel_within(write, run, &why.to_string()).await?;
    done.withdrawn.insert(run, why.to_string());
    Ok(())
}

/// Gives the head a quiet check, unless it says the same already.
async fn say(
    write: &mut Write,
    row: &mut PullRow,
    unwanted: &Unwanted,
    policy: &crate::config::PullRequestTrigger,
    done: &mut Done,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let title = unwanted.title();
    if row.said.as_ref() == Some(&title) {
        return Ok(());
    }
    row.said_count += 1;
    row.said = Some(title.clone());
    let answer = Answer {
        repository: row.repository.clone(),
        number: row.number,
        key: check_key(&row.repository, row.number, &row.head, row.said_count),
        what: AnswerKind::Check {
            sha: row.head.clone(),
            title: title.clone(),
            summary: unwanted.summary(policy),
            state: unwanted.quiet(),
        },
    };
    let _once = write.owe_answer(&answer, now).await?;
    done.said = Some(title);
    Ok(())
}

fn check_key(repository: &RepoName, number: u64, head: &CommitSha, count: u32) -> String {
    format!("{repository}#{number} check {head} {count}")
}

/// Marks a pull request to be looked at at `at`.
async fn look_again(
    write: &mut Write,
    repository: &RepoName,
    number: u64,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mark = Mark::at_once(repository, LookKind::Pull, number, "again", now).after(at - now, TimeDelta::days(1));
    write.look_at(&mark, now).await
}
