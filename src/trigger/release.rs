//! Releases: a look at a tag finds the commit it stands for, an annotated one's too, and measures it once. A tag that
//! was moved is measured again, and what still waits of its old commit gives way.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Context;
use super::delivery::is_release;
use super::looks::LookError;
use super::manual::{ManualRequest, Under, nothing_to_do, prepare};
use super::merge::source_of;
use super::policy::wants_target;
use super::resolve::{Named, ResolveError};
use crate::config::RepositoryConfig;
use crate::model::{CommitSha, RunId, RunPhase, Trigger};
use crate::queue::{RunningJobs, Submitted};
use crate::step::Step;

/// What came of a look at a tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum TagAnswer {
    /// It is not measured.
    NotMeasured {
        /// Why.
        why: String,
    },
    /// There is no such tag (any more).
    Absent,
    /// It is known, and stands for the same commit.
    Known {
        /// Its commit.
        sha: CommitSha,
    },
    /// A run was submitted.
    Submitted {
        /// The run.
        run: RunId,
        /// Its commit.
        sha: CommitSha,
        /// Runs of the commit that the tag stood for before.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        superseded: Vec<RunId>,
    },
}

/// Looks at a tag.
///
/// # Errors
/// When it is not known what it stands for, or its run cannot be planned now.
pub async fn look_at_tag(
    context: &Context,
    repository: &RepositoryConfig,
    tag: &str,
    now: DateTime<Utc>,
) -> Result<TagAnswer, LookError> {
    let not_measured = |why: String| Ok(TagAnswer::NotMeasured { why });
    if !is_release(repository, tag) {
        return not_measured("it is no release (`triggers.release`)".to_owned());
    }
    let selection = &repository.selection.release;
    if !wants_target(&selection.targets, &context.target) {
        return not_measured(format!("{} is not selected for releases", context.target));
    }
    let source = source_of(context, repository)?;
    let resolved = match source.resolve(repository, &Named::Tag(tag.to_owned())).await {
        Ok(resolved) => resolved,
        Err(ResolveError::Absent { .. }) => return Ok(TagAnswer::Absent),
        Err(error @ ResolveError::TagName(_)) => return not_measured(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let sha = resolved.sha.clone();
    if context.store.known_tags(&repository.name).await?.get(tag) == Some(&sha) {
        return Ok(TagAnswer::Known { sha });
    }
    let trigger = Trigger::Release { tag: tag.to_owned() };
    let under = Under { selection, named: "selection.release", trigger };
    let planned = prepare(context, repository, &ManualRequest::default(), &source, &resolved, under).await?;
    let mut write = context.store.write(Step::MeasureRelease).await?;
    write.keep_tag(&repository.name, tag, &sha, now).await?;
    let runs = write.release_runs(&repository.name, tag).await?;
    let answer = if runs.iter().any(|run| run.sha == sha) {
        TagAnswer::Known { sha }
    } else {
        match context.queue.submit_within(&mut write, &planned.run).await? {
            Submitted::NothingToDo => TagAnswer::NotMeasured { why: nothing_to_do(&planned, &context.target) },
            Submitted::Run(run) => {
                let mut superseded = Vec::new();
                for old in runs.iter().filter(|old| old.state.phase() == RunPhase::Queued) {
                    let _ended = context.queue.supersede_within(&mut write, old.id, run, RunningJobs::Finish).await?;
                    superseded.push(old.id);
                }
                TagAnswer::Submitted { run, sha, superseded }
            }
        }
    };
    write.commit().await?;
    Ok(answer)
}
