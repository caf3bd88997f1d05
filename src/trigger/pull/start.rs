//! The last question before a job of a fork begins: whether somebody who has approved its commit still may.

use chrono::{DateTime, Utc};

use super::approval;
use super::decide::Unwanted;
use crate::config::ForkPolicy;
use crate::model::{Origin, RunId};
use crate::step::Step;
use crate::store::PullRow;
use crate::trigger::Context;
use crate::trigger::looks::LookError;

/// Whether a job may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MayStart {
    /// It may.
    Yes,
    /// It may not; its run was ended for this reason.
    No {
        /// Why.
        why: String,
    },
}

/// Asks whether a job of `run` may begin, and ends the run when it may not. Only commits of forks that are approved one
/// by one are asked about.
///
/// # Errors
/// When GitHub does not say.
pub async fn may_start(context: &Context, run: RunId, now: DateTime<Utc>) -> Result<MayStart, LookError> {
    let Some((number, pull_run)) = context.store.pull_of_run(run).await? else { return Ok(MayStart::Yes) };
    let Ok(repository) = context.repository(Some(&pull_run.run.repository)) else { return Ok(MayStart::Yes) };
    let Some(row) = context.store.pull(&repository.name, number).await? else { return Ok(MayStart::Yes) };
    match (row.origin, repository.triggers.pull_request.forks) {
        (Origin::Own, _) | (Origin::Fork, ForkPolicy::EveryCommit) => return Ok(MayStart::Yes),
        (Origin::Fork, ForkPolicy::ApproveEachCommit | ForkPolicy::Never) => {}
    }
    let unwanted = match repository.triggers.pull_request.forks {
        ForkPolicy::Never => Unwanted::Fork,
        ForkPolicy::EveryCommit | ForkPolicy::ApproveEachCommit => {
            let github = context.github.as_ref().ok_or(LookError::NoClient)?;
            let row = PullRow { head: pull_run.run.sha, ..row };
            match approval::known_of(&context.store, github, repository, &row).await? {
                Some(_) => return Ok(MayStart::Yes),
                None => Unwanted::Unapproved,
            }
        }
    };
    let why = unwanted.to_string();
    let mut write = context.store.write(Step::RefuseStart).await?;
    let _once = write.withdraw_pull_run(run, now).await?;
    let _ended = context.queue.cancel_within(&mut write, run, &why).await?;
    write.commit().await?;
    Ok(MayStart::No { why })
}
