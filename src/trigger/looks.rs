//! The loop that looks at GitHub: it takes what was marked, asks for the thing as it is now, and settles the look when
//! everything that follows from it is written. What a mark says is never taken for the truth.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::context::{Context, UnknownRepository};
use super::manual::ManualError;
use super::request::RequestError;
use super::resolve::ResolveError;
use super::source::HistoryError;
use super::{command, merge, pull, release};
use crate::config::RepositoryConfig;
use crate::github::GitHubError;
use crate::health::{Health, Part, Pulse};
use crate::meters;
use crate::model::{BranchName, Control};
use crate::queue::planner::InvalidFileName;
use crate::step::Step;
use crate::store::{Look, LookKind, Outcome, StoreError};

/// How often due looks are taken.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many looks are taken at a time, one after the other.
const AT_A_TIME: u32 = 50;

/// Wait after the first failure of a look; it doubles.
const RETRY_AFTER: TimeDelta = TimeDelta::seconds(10);

/// The longest such wait.
const RETRY_AT_MOST: TimeDelta = TimeDelta::minutes(30);

/// How long nothing at all is asked after GitHub did not answer; it doubles, up to [`REST_AT_MOST`].
const REST_AFTER: TimeDelta = TimeDelta::seconds(1);

/// The longest such rest.
const REST_AT_MOST: TimeDelta = TimeDelta::minutes(1);

/// A look that could not be done; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// GitHub does not say.
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    /// Nobody can be asked for commits, or who is asked fails.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// It is not known which commit is meant.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The run cannot be planned.
    #[error(transparent)]
    Plan(#[from] RequestError),
    /// The configuration names no file of the suite where it should.
    #[error(transparent)]
    FileName(#[from] InvalidFileName),
    /// The run cannot be made as configured.
    #[error(transparent)]
    Request(#[from] ManualError),
    /// No client of GitHub is there.
    #[error("GitHub cannot be asked: no client is configured")]
    NoClient,
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of a look, for the log and for tests.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "look", rename_all = "snake_case")]
pub enum LookAnswer {
    /// At a pull request.
    Pull(pull::PullAnswer),
    /// At a comment or a check run that is wanted again.
    Command(command::CommandAnswer),
    /// At the tip of a branch.
    Merge(merge::MergeAnswer),
    /// At a tag.
    Tag(release::TagAnswer),
    /// Nothing was asked.
    Passed {
        /// Why.
        why: String,
    },
}

/// What became of a due look.
#[derive(Debug)]
pub enum Looked {
    /// It was answered.
    Answered(LookAnswer),
    /// It is tried again.
    Postponed {
        /// When.
        next_at: DateTime<Utc>,
        /// What it met.
        error: LookError,
    },
}

/// How often GitHub failed to answer in a row, and until when it is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    failures: u32,
    until: Option<DateTime<Utc>>,
}

impl LookError {
    fn github(&self) -> Option<&GitHubError> {
        match self {
            Self::GitHub(error) => Some(error),
            Self::History(HistoryError::GitHub { source, .. })
            | Self::Resolve(ResolveError::History(HistoryError::GitHub { source, .. }))
            | Self::Request(ManualError::Resolve(ResolveError::History(HistoryError::GitHub { source, .. }))) => {
                Some(source)
            }
            Self::History(_)
            | Self::Resolve(_)
            | Self::Plan(_)
            | Self::FileName(_)
            | Self::Request(_)
            | Self::NoClient
            | Self::Store(_) => None,
        }
    }

    /// When GitHub said that it may be asked again.
    fn told_to_wait(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(now + self.github()?.retry_after()?)
    }

    /// Whether GitHub may answer later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        self.github().is_some_and(GitHubError::is_transient)
    }

    /// How long GitHub is to be left alone, where it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.github()?.retry_after()
    }

    /// When it is worth trying again, after `attempts` failures before this one.
    pub fn next_at(&self, attempts: u32, now: DateTime<Utc>) -> DateTime<Utc> {
        let own = now + doubled(RETRY_AFTER, attempts, RETRY_AT_MOST);
        self.told_to_wait(now).map_or(own, |told| told.max(own))
    }
}

impl Rest {
    /// The rest after a failure: only when GitHub as a whole seems not to answer.
    fn after(self, error: &LookError, now: DateTime<Utc>) -> Self {
        if !error.is_transient() {
            return Self::default();
        }
        let own = now + doubled(REST_AFTER, self.failures, REST_AT_MOST);
        let until = error.told_to_wait(now).map_or(own, |told| told.max(own));
        Self { failures: self.failures.saturating_add(1), until: Some(until) }
    }
}

/// `first`, twice as long after each further failure, at most `longest`.
fn doubled(first: TimeDelta, failures: u32, longest: TimeDelta) -> TimeDelta {
    first.checked_mul(1 << failures.min(16)).map_or(longest, |wait| wait.min(longest))
}

/// Takes due looks until `shutdown`.
pub async fn run(context: Context, health: Health, pulse: Pulse, shutdown: CancellationToken) {
    let mut rest = Rest::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        pulse.beat();
        let done = tokio::select! {
            () = shutdown.cancelled() => return,
            done = take_due(&context, &health, &mut rest) => done,
        };
        if let Err(error) = done {
            // Reading alone may work while nothing can be written: well it is when settling says so.
            health.trouble(Part::Database, crate::health::with_causes(&error));
            tracing::warn!("failed to look at GitHub, trying again: {}", crate::health::with_causes(&error));
        }
    }
}

/// Takes the looks that are due, one after the other, and says what became of each. When GitHub does not answer, the
/// rest of them wait with it.
///
/// # Errors
/// When the store fails.
pub async fn take_due(context: &Context, health: &Health, rest: &mut Rest) -> Result<Vec<(Look, Looked)>, StoreError> {
    let mut taken = Vec::new();
    let now = context.clock.now();
    if rest.until.is_some_and(|until| now < until) || context.queue.pause_of(&Control::Triggers).await?.is_some() {
        return Ok(taken);
    }
    for look in context.store.due_looks_at(now, None, AT_A_TIME).await? {
        let looked = take(context, &look).await?;
        let now = context.clock.now();
        match &looked {
            Looked::Answered(answer) => {
                *rest = Rest::default();
                health.well(Part::Github);
                let answer = serde_json::to_string(answer).unwrap_or_default();
                tracing::info!("looked at {} {} of {}: {answer}", look.kind.as_str(), look.key, look.repository);
            }
            Looked::Postponed { next_at, error } => {
                *rest = rest.after(error, now);
                if error.github().is_some() {
                    health.trouble(Part::Github, crate::health::with_causes(error));
                }
                let told = crate::health::with_causes(error);
                let (kind, key) = (look.kind.as_str(), &look.key);
                tracing::warn!("failed to look at {kind} {key} of {}, again at {next_at}: {told}", look.repository);
            }
        }
        taken.push((look, looked));
        if rest.until.is_some_and(|until| now < until) {
            break;
        }
    }
    Ok(taken)
}

/// Does one look and settles it, or puts it off.
///
/// # Errors
/// When the store fails.
pub async fn take(context: &Context, look: &Look) -> Result<Looked, StoreError> {
    let answered = match context.repository(Some(&look.repository)) {
        Ok(repository) => Box::pin(dispatch(context, repository, look)).await,
        Err(error) => Ok(unknown(&error)),
    };
    let now = context.clock.now();
    let mut write = context.store.write(Step::SettleLook).await?;
    let looked = match answered {
        Ok(answer) => {
            if write.settle_look(look, now).await? == Outcome::Moved {
                tracing::debug!("{} {} of {} was marked again", look.kind.as_str(), look.key, look.repository);
            }
            Looked::Answered(answer)
        }
        Err(LookError::Store(error)) => return Err(error),
        Err(error) => {
            let next_at = error.next_at(look.attempts, now);
            let _moved = write.postpone_look(look, &crate::health::with_causes(&error), next_at).await?;
            Looked::Postponed { next_at, error }
        }
    };
    write.commit().await?;
    meters::look(look.kind.as_str(), matches!(looked, Looked::Answered(_)));
    Ok(looked)
}

fn unknown(error: &UnknownRepository) -> LookAnswer {
    LookAnswer::Passed { why: error.to_string() }
}

async fn dispatch(context: &Context, repository: &RepositoryConfig, look: &Look) -> Result<LookAnswer, LookError> {
    let now = context.clock.now();
    let passed = |why: String| Ok(LookAnswer::Passed { why });
    match look.kind {
        LookKind::Pull => match look.key.parse() {
            Ok(number) => pull::look_at_pull(context, repository, number, now).await.map(LookAnswer::Pull),
            Err(_) => passed(format!("`{}` is no number of a pull request", look.key)),
        },
        LookKind::Comment | LookKind::CheckRun => {
            command::look_at_command(context, repository, look, now).await.map(LookAnswer::Command)
        }
        LookKind::Merge => match look.key.parse::<BranchName>() {
            Ok(branch) => merge::look_at_branch(context, repository, &branch, now).await.map(LookAnswer::Merge),
            Err(_) => passed(format!("`{}` is no branch that can be measured", look.key)),
        },
        LookKind::Tag => release::look_at_tag(context, repository, &look.key, now).await.map(LookAnswer::Tag),
    }
}
