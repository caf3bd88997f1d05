//! Runs: list, look at, ask for, stop and repeat.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Path, Query};
use super::submit::idempotency_key;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};
use crate::model::{BranchName, JobId, RepoName, RunId, RunPhase};
use crate::queue::{Cancelled, Retried};
use crate::store::{Previous, RunDetail, RunFilter, RunRow, RunSummary, SeriesValue};
use crate::trigger::again::{self, Again, AgainError};

/// How many runs a page has unless the request says.
const PAGE: u32 = 20;
/// How many runs a page may have.
const LARGEST_PAGE: u32 = 200;

/// Which runs.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only of this repository (`owner/name`).
    pub repository: Option<RepoName>,
    /// Only of this branch.
    pub branch: Option<BranchName>,
    /// Only in this state.
    pub state: Option<RunPhase>,
    /// Only of this commit: its id with all 40 digits, or a release tag.
    pub commit: Option<String>,
    /// Only those older than this run: the next page.
    pub before: Option<RunId>,
    /// How many, 1 to 200. Default: 20.
    pub limit: Option<u32>,
}

/// One value of a run with what its series had before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValueWithPrevious {
    /// The value.
    #[serde(flatten)]
    pub value: SeriesValue,
    /// What the newest earlier run of the series has.
    pub previous: Option<Previous>,
}

/// The jobs of a run that wait again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Retry {
    /// The run.
    pub run: RunId,
    /// Its jobs that wait again.
    pub jobs: Vec<JobId>,
}

/// Runs, newest first.
#[utoipa::path(
    get, path = "/api/v1/runs", tag = "runs", operation_id = "list_runs", params(ListQuery), security((), ("token" = ["read"])),
    responses(
        (status = 200, body = [RunSummary], headers(("Link" = String, description = "`rel=\"next\"`: the next page"))),
        (status = 400, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(state): State<AppState>, Query(query): Query<ListQuery>) -> Result<impl IntoResponse, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::new(Kind::Malformed, format!("in the query: `limit` is 1 to {LARGEST_PAGE}")));
    }
    let filter = RunFilter {
        repository: query.repository.clone(),
        branch: query.branch.clone(),
        state: query.state,
        commit: query.commit.clone(),
        before: query.before,
    };
    // One more than wanted tells whether there is a next page.
    let mut runs = state.store.list_runs(limit + 1, &filter).await?;
    let more = runs.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    let mut headers = HeaderMap::new();
    if more {
        runs.pop();
        if let Some(last) = runs.last() {
            let next = next_page(&query, limit, last.run.id);
            headers.extend(HeaderValue::from_str(&next).ok().map(|link| (header::LINK, link)));
        }
    }
    Ok((headers, Json(runs)))
}

/// The `Link` header (RFC 8288) of the page after `last`.
fn next_page(query: &ListQuery, limit: u32, last: RunId) -> String {
    let mut link = format!("</api/v1/runs?before={last}&limit={limit}");
    let named = [
        ("repository", query.repository.as_ref().map(RepoName::as_str)),
        ("branch", query.branch.as_ref().map(BranchName::as_str)),
        ("state", query.state.map(RunPhase::as_str)),
        ("commit", query.commit.as_deref()),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            // Writing into a text cannot fail.
            let _infallible = write!(link, "&{name}={value}");
        }
    }
    link + ">; rel=\"next\""
}

/// One run with its jobs, attempts, passes, points and what it owes.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}", tag = "runs", operation_id = "show_run", params(("run" = RunId, Path,)),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = RunDetail),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(State(state): State<AppState>, Path(run): Path<RunId>) -> Result<Json<RunDetail>, Problem> {
    let detail = state.store.run_detail(run).await?;
    detail.map(Json).ok_or_else(|| no_run(run))
}

/// All that a run measured, each value with what its series had before.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/results", tag = "runs", operation_id = "run_results", params(("run" = RunId, Path,)),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = [ValueWithPrevious]),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn results(
    State(state): State<AppState>,
    Path(run): Path<RunId>,
) -> Result<Json<Vec<ValueWithPrevious>>, Problem> {
    existing(&state, run).await?;
    let values = state.store.values_of_run(run).await?;
    let mut previous = state.store.previous_values(run).await?;
    let with_previous = |value: SeriesValue| ValueWithPrevious { previous: previous.remove(&value.series), value };
    Ok(Json(values.into_iter().map(with_previous).collect()))
}

/// Stops a run: its waiting jobs end at once, its running ones when their runner hears of it; what was measured stays.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/cancel", tag = "runs", operation_id = "cancel_run",
    params(("run" = RunId, Path,)), security(("token" = ["trigger"])),
    responses(
        (status = 200, body = RunRow, description = "The run as it is now"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<RunId>,
) -> Result<Json<RunRow>, Problem> {
    let cancelled = state.queue.cancel(run, &format!("cancelled by {caller}")).await?;
    let row = existing(&state, run).await?;
    match (cancelled, row.state.phase()) {
        // Asked twice, it is as wanted.
        (Cancelled::Jobs { count: 1.. }, _) | (_, RunPhase::Cancelled) => Ok(Json(row)),
        (Cancelled::Unknown, _) => Err(no_run(run)),
        (Cancelled::Jobs { .. } | Cancelled::AlreadyEnded, phase) => {
            Err(Problem::new(Kind::Conflict, format!("run {run} is {phase}: there is nothing left to cancel")))
        }
    }
}

/// Queues the jobs of a run again that ended without results, each with all its attempts.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/retry", tag = "runs", operation_id = "retry_run",
    params(("run" = RunId, Path,)), security(("token" = ["trigger"])),
    responses(
        (status = 200, body = Retry),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn retry(State(state): State<AppState>, Path(run): Path<RunId>) -> Result<Json<Retry>, Problem> {
    let conflict = |detail| Err(Problem::new(Kind::Conflict, detail));
    match state.queue.retry(run).await? {
        Retried::Jobs { jobs } => Ok(Json(Retry { run, jobs })),
        Retried::NothingFailed => {
            conflict(format!("no job of run {run} ended without results; measuring it once more is a rerun"))
        }
        Retried::Superseded { by: Some(by) } => conflict(format!("run {by} took the place of run {run}")),
        Retried::Superseded { by: None } => conflict(format!("a newer run took the place of run {run}")),
        Retried::Unknown => Err(no_run(run)),
    }
}

/// Measures the commit of a run once more: a new run with the same jobs. Sent again with the same `Idempotency-Key`, it
/// finds that run.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/rerun", tag = "runs", operation_id = "rerun_run",
    params(
        ("run" = RunId, Path,),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
    ),
    security(("token" = ["trigger"])),
    responses(
        (status = 202, body = RunRow, description = "The new run", headers(("Location" = String))),
        (status = 200, body = RunRow, description = "The run of the same key", headers(("Location" = String))),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn rerun(
    State(state): State<AppState>,
    headers: HeaderMap,
    Path(run): Path<RunId>,
) -> Result<impl IntoResponse, Problem> {
    let key = idempotency_key(&headers)?;
    let (status, run) = match again::rerun(&state.triggers, run, key.as_deref()).await {
        Ok(Again::Run(run)) => (StatusCode::ACCEPTED, run),
        Ok(Again::Existing(run)) => (StatusCode::OK, run),
        Ok(Again::Imported) => {
            let detail =
                format!("run {run} was imported, nothing here knows how it was measured: ask for a run of its commit");
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Ok(Again::Unknown) => return Err(no_run(run)),
        Err(AgainError::Store(error)) => return Err(error.into()),
        Err(error @ AgainError::Key(_)) => return Err(Problem::new(Kind::Invalid, error.to_string())),
        Err(error @ AgainError::Conflict { .. }) => return Err(Problem::new(Kind::Conflict, error.to_string())),
    };
    let location = [(header::LOCATION, format!("/api/v1/runs/{run}"))];
    Ok((status, location, Json(existing(&state, run).await?)))
}

/// A run that must be there.
pub(super) async fn existing(state: &AppState, run: RunId) -> Result<RunRow, Problem> {
    state.store.run(run).await?.ok_or_else(|| no_run(run))
}

fn no_run(run: RunId) -> Problem {
    Problem::not_found(format!("there is no run {run}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_keeps_the_filter() {
        let query = ListQuery {
            branch: Some("releases/v0.11+x".parse().unwrap()),
            state: Some(RunPhase::Failed),
            ..ListQuery::default()
        };
        let link = next_page(&query, 5, RunId::try_from(7).unwrap());
        let expected = "</api/v1/runs?before=7&limit=5&branch=releases%2Fv0.11%2Bx&state=failed>; rel=\"next\"";
        assert_eq!(link, expected);
    }
}
