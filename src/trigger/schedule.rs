//! The schedules of all repositories: the cron scheduler only writes down that a tick is due, once for each instant; a
//! loop answers what is due. So a tick survives a restart, and one that fell into it is caught up once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Context;
use super::cron::{InvalidSchedule, Schedule, missed_tick};
use super::tick::{Answered, answer_tick};
use crate::config::Config;
use crate::model::RepoName;
use crate::step::Step;
use crate::store::{Recorded, StoreError, TickKey};

/// How often due ticks are looked for without a call: for those that are tried again, and for instants that the cron
/// scheduler slept through.
const LOOK_AFTER: Duration = Duration::from_secs(30);

/// How long settled ticks are kept.
const KEEP_DAYS: i64 = 90;

/// Why schedules cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// An expression is none.
    #[error("failed to schedule {repository}")]
    Expression {
        /// Whose it is.
        repository: RepoName,
        /// What is wrong.
        source: InvalidSchedule,
    },
    /// The cron scheduler refuses.
    #[error("failed to follow the schedule `{schedule}`")]
    Scheduler {
        /// Which.
        schedule: String,
        /// Why.
        source: JobSchedulerError,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A schedule of a repository.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Whose.
    pub repository: RepoName,
    /// When.
    pub schedule: Schedule,
}

/// All configured schedules.
///
/// # Errors
/// For an expression that is none.
pub fn configured(config: &Config) -> Result<Vec<Followed>, ScheduleError> {
    let mut all = Vec::new();
    for repository in &config.repositories {
        for expression in &repository.triggers.schedule {
            let named = |source| ScheduleError::Expression { repository: repository.name.clone(), source };
            let schedule = expression.parse().map_err(named)?;
            all.push(Followed { repository: repository.name.clone(), schedule });
        }
    }
    Ok(all)
}

/// Follows the schedules until `shutdown`. Ticks are answered one after the other.
///
/// # Errors
/// When a schedule cannot be followed. A tick that cannot be answered is logged and tried again.
pub async fn run(context: Context, shutdown: CancellationToken) -> Result<(), ScheduleError> {
    let followed = configured(&context.config)?;
    let (due, bodies) = (Arc::new(Notify::new()), TaskTracker::new());
    let refused = |source| ScheduleError::Scheduler { schedule: "(all)".to_owned(), source };
    let mut scheduler = JobScheduler::new().await.map_err(refused)?;
    for one in &followed {
        let job = cron_job(&context, one, &due, &bodies, &shutdown)?;
        scheduler.add(job).await.map_err(|source| refused_by(one, source))?;
    }
    scheduler.start().await.map_err(refused)?;
    loop {
        let looked = tokio::select! {
            () = shutdown.cancelled() => break,
            looked = look(&context, &followed) => looked,
        };
        if let Err(error) = looked {
            tracing::warn!("failed to answer the schedule, trying again: {}", crate::health::with_causes(&error));
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = due.notified() => {}
            () = tokio::time::sleep(LOOK_AFTER) => {}
        }
    }
    // It waits for nothing and may fire once more: its bodies look at the token, and those that run are waited for.
    if let Err(error) = scheduler.shutdown().await {
        tracing::debug!("the cron scheduler is gone already: {error}");
    }
    bodies.close();
    bodies.wait().await;
    Ok(())
}

fn refused_by(followed: &Followed, source: JobSchedulerError) -> ScheduleError {
    ScheduleError::Scheduler { schedule: followed.schedule.expression().to_owned(), source }
}

/// A cron job whose body writes down the tick and wakes the loop, nothing more.
fn cron_job(
    context: &Context,
    followed: &Followed,
    due: &Arc<Notify>,
    bodies: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Job, ScheduleError> {
    let shared = (context.clone(), followed.clone(), Arc::clone(due), bodies.clone(), shutdown.clone());
    let body = move |_job, _scheduler| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let (context, followed, due, bodies, shutdown) = shared.clone();
        let tracked = bodies.track_future(async move {
            if shutdown.is_cancelled() {
                return;
            }
            match catch_up(&context, &followed).await {
                Ok(_) => due.notify_one(),
                Err(error) => {
                    tracing::warn!("failed to write down a tick, looking again: {}", crate::health::with_causes(&error))
                }
            }
        });
        Box::pin(tracked)
    };
    Job::new_async(followed.schedule.with_seconds(), body).map_err(|source| refused_by(followed, source))
}

/// Writes down what is due by now and answers it.
///
/// # Errors
/// When the store fails.
pub async fn look(context: &Context, followed: &[Followed]) -> Result<(), StoreError> {
    for one in followed {
        let _due = catch_up(context, one).await?;
    }
    let now = context.clock.now();
    for tick in context.store.due_ticks(now).await? {
        let at = tick.key.due_at;
        match answer_tick(context, &tick).await? {
            Answered::Settled(answer) => tracing::info!(
                "answered the tick of {at} for {}: {} runs, {} models without a new commit",
                tick.key.repository,
                answer.runs.len(),
                answer.nothing_new.len()
            ),
            Answered::TriedAgain(answer) => tracing::warn!(
                "the tick of {at} for {} is tried again: {}",
                tick.key.repository,
                answer.unknown.first().map(|unknown| unknown.error.as_str()).unwrap_or_default()
            ),
            Answered::Moved => tracing::debug!("the tick of {at} for {} was settled meanwhile", tick.key.repository),
        }
    }
    Ok(())
}

/// Writes down the last instant of a schedule until now, unless it is written down already or lies before the schedule
/// began to be followed.
///
/// # Errors
/// When the store fails.
pub async fn catch_up(context: &Context, followed: &Followed) -> Result<Option<DateTime<Utc>>, StoreError> {
    let Followed { repository, schedule } = followed;
    let now = context.clock.now();
    let Some(standing) = context.store.schedule(repository, schedule.expression(), now).await? else {
        let mut write = context.store.write(Step::FollowSchedule).await?;
        write.follow_schedule(repository, schedule.expression(), now).await?;
        write.commit().await?;
        return Ok(None);
    };
    let Some(due_at) = missed_tick(schedule, standing.since, standing.last_tick_at, now) else { return Ok(None) };
    let key = TickKey { repository: repository.clone(), schedule: schedule.expression().to_owned(), due_at };
    let mut write = context.store.write(Step::RecordTick).await?;
    let recorded = write.record_tick(&key, now).await?;
    write.forget_ticks(now - chrono::Duration::days(KEEP_DAYS)).await?;
    write.commit().await?;
    Ok((recorded == Recorded::Inserted).then_some(due_at))
}
