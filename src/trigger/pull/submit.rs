//! From the head of a pull request to the plan of a run: read through the base repository (where heads of forks can be
//! read too, also when the fork is gone), untrusted unless it is a branch of the repository itself.

use crate::config::RepositoryConfig;
use crate::github::{GitHub, Pull};
use crate::model::{BranchName, Origin, Trigger};
use crate::queue::spec::Trust;
use crate::trigger::Context;
use crate::trigger::looks::LookError;
use crate::trigger::manual::{ManualError, ManualRequest, Under, nothing_to_do, prepare, unknown_models};
use crate::trigger::policy::wants_target;
use crate::trigger::request::Planned;
use crate::trigger::resolve::{ResolveError, Resolved};
use crate::trigger::source::{CommitSource, HistoryError};

/// What a run of a head comes to.
pub(in crate::trigger) enum HeadPlan {
    /// This.
    Run(Box<Planned>),
    /// Nothing is measured, and why.
    Nothing(String),
}

/// Whose code a head is.
pub(super) fn origin(pull: &Pull) -> Origin {
    if pull.is_from_fork() { Origin::Fork } else { Origin::Own }
}

/// The head as something to measure.
///
/// # Errors
/// When GitHub does not know the commit (yet), or does not say.
async fn resolved(github: &GitHub, repository: &RepositoryConfig, pull: &Pull) -> Result<Resolved, ManualError> {
    let repo = &repository.name;
    let absent = |what: String| ResolveError::Absent { repo: repo.clone(), what, asked: "GitHub".to_owned() };
    let branch: BranchName = format!("pull/{}/head", pull.number)
        .parse()
        .map_err(|_invalid| absent(format!("pull request #{}", pull.number)))?;
    let asking = |source| ResolveError::History(HistoryError::GitHub { repo: repo.clone(), source });
    let facts = github.commit(repo, pull.head.sha.as_str()).await.map_err(asking)?;
    let facts = facts.ok_or_else(|| absent(format!("commit {}", pull.head.sha)))?;
    Ok(Resolved {
        sha: facts.sha,
        committed_at: facts.committed_at,
        branch,
        trust: match origin(pull) {
            Origin::Own => Trust::Trusted,
            Origin::Fork => Trust::Untrusted,
        },
        first_parent: facts.parents.into_iter().next(),
        position: None,
    })
}

/// Plans the run of a head, narrowed as `request` says.
///
/// # Errors
/// When it cannot be planned; [`ManualError::blame`] says whose it is.
pub(in crate::trigger) async fn plan_head(
    context: &Context,
    repository: &RepositoryConfig,
    pull: &Pull,
    request: &ManualRequest,
    trigger: Trigger,
) -> Result<HeadPlan, ManualError> {
    let selection = &repository.selection.pull_request;
    if !wants_target(&selection.targets, &context.target) {
        return Ok(HeadPlan::Nothing(format!("{} is not selected for pull requests", context.target)));
    }
    let github = context.github.as_ref().ok_or_else(|| {
        let source = HistoryError::NoSource { repo: repository.name.clone() };
        ManualError::Resolve(ResolveError::History(source))
    })?;
    let resolved = resolved(github, repository, pull).await?;
    let under = Under { selection, named: "selection.pull_request", trigger };
    let source = CommitSource::GitHub(github.clone());
    let planned = prepare(context, repository, request, &source, &resolved, under).await?;
    let unknown = planned.plan.as_ref().map(|plan| plan.unknown_models.as_slice()).unwrap_or_default();
    if !unknown.is_empty() && !request.models.is_empty() {
        return Err(unknown_models(unknown, &context.target));
    }
    if planned.run.jobs.is_empty() {
        return Ok(HeadPlan::Nothing(nothing_to_do(&planned, &context.target)));
    }
    Ok(HeadPlan::Run(Box::new(planned)))
}

/// [`plan_head`] for what the labels start.
///
/// # Errors
/// When it cannot be planned (now).
pub(super) async fn plan_by_labels(
    context: &Context,
    repository: &RepositoryConfig,
    pull: &Pull,
    asked_by: Option<String>,
) -> Result<HeadPlan, LookError> {
    let request = ManualRequest { asked_by, ..ManualRequest::default() };
    Ok(plan_head(context, repository, pull, &request, Trigger::PullRequest { number: pull.number }).await?)
}
