//! When the schedules are next due, and what came of their latest ticks.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::Query;
use crate::http::AppState;
use crate::http::problem::{Kind, Problem};
use crate::model::{BranchName, RepoName};
use crate::store::TickRow;
use crate::trigger::schedule;

/// How many of the next times are told at most.
const MOST_TIMES: u32 = 100;
/// How many ticks of the past are told.
const LATEST_TICKS: u32 = 20;

/// How far ahead.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleQuery {
    /// How many of the next times of each schedule, 1 to 100. Default: 1.
    pub next: Option<u32>,
}

/// All schedules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schedules {
    /// Those that are configured.
    pub schedules: Vec<Upcoming>,
    /// The latest ticks, newest first.
    pub latest: Vec<TickRow>,
}

/// A schedule and when it is next due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upcoming {
    /// Whose.
    pub repository: RepoName,
    /// The branches it follows.
    pub branches: Vec<BranchName>,
    /// As configured, in UTC.
    pub schedule: String,
    /// The next times.
    pub next: Vec<DateTime<Utc>>,
}

/// When the schedules are next due, and what came of their latest ticks.
#[utoipa::path(
    get, path = "/api/v1/schedule", tag = "queue", operation_id = "schedule", params(ScheduleQuery),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = Schedules),
        (status = 400, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(state): State<AppState>,
    Query(query): Query<ScheduleQuery>,
) -> Result<Json<Schedules>, Problem> {
    let wanted = query.next.unwrap_or(1);
    if !(1..=MOST_TIMES).contains(&wanted) {
        return Err(Problem::new(Kind::Malformed, format!("in the query: `next` is 1 to {MOST_TIMES}")));
    }
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let now = state.clock.now();
    let followed = schedule::configured(&state.config).map_err(|error| Problem::internal(&error))?;
    let upcoming = followed.into_iter().map(|followed| {
        let next = std::iter::successors(followed.schedule.after(now), |at| followed.schedule.after(*at));
        Upcoming {
            branches: branches_of(&state, &followed.repository),
            next: next.take(wanted).collect(),
            schedule: followed.schedule.expression().to_owned(),
            repository: followed.repository,
        }
    });
    Ok(Json(Schedules { schedules: upcoming.collect(), latest: state.store.latest_ticks(LATEST_TICKS).await? }))
}

fn branches_of(state: &AppState, name: &RepoName) -> Vec<BranchName> {
    let repository = state.config.repositories.iter().find(|repository| repository.name == *name);
    repository.map(|repository| repository.branch.clone()).unwrap_or_default()
}
