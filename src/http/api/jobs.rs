//! Jobs: one with its attempts, and what it measured.

use axum::extract::State;
use axum::{Extension, Json};

use super::extract::Path;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};
use crate::model::{Conclusion, JobId, JobState};
use crate::queue::Cancelled;
use crate::store::{JobDetail, JobRow, SeriesValue};

/// One job with its attempts, passes and points.
#[utoipa::path(
    get, path = "/api/v1/jobs/{job}", tag = "jobs", operation_id = "show_job", params(("job" = JobId, Path,)),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = JobDetail),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(State(state): State<AppState>, Path(job): Path<JobId>) -> Result<Json<JobDetail>, Problem> {
    let row = existing(&state, job).await?;
    let run = state.store.run_detail(row.run).await?;
    let detail = run.into_iter().flat_map(|run| run.jobs).find(|detail| detail.job.id == job);
    detail.map(Json).ok_or_else(|| no_job(job))
}

/// All that a job's last attempt measured.
#[utoipa::path(
    get, path = "/api/v1/jobs/{job}/results", tag = "jobs", operation_id = "job_results", params(("job" = JobId, Path,)),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = [SeriesValue]),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn results(State(state): State<AppState>, Path(job): Path<JobId>) -> Result<Json<Vec<SeriesValue>>, Problem> {
    let row = existing(&state, job).await?;
    Ok(Json(state.store.values_of_job(row.run, job).await?))
}

/// Ends a job that has not finished; the run's other jobs go on, and what was measured stays.
#[utoipa::path(
    post, path = "/api/v1/jobs/{job}/cancel", tag = "jobs", operation_id = "cancel_job",
    params(("job" = JobId, Path,)), security(("token" = ["trigger"])),
    responses(
        (status = 200, body = JobRow, description = "The job as it is now"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(job): Path<JobId>,
) -> Result<Json<JobRow>, Problem> {
    let cancelled = state.queue.cancel_job(job, &format!("cancelled by {caller}")).await?;
    let row = existing(&state, job).await?;
    match (cancelled, &row.state) {
        // Asked twice, it is as wanted.
        (Cancelled::Jobs { .. }, _) | (_, JobState::Finished { conclusion: Conclusion::Cancelled }) => Ok(Json(row)),
        (Cancelled::Unknown, _) => Err(no_job(job)),
        (Cancelled::AlreadyEnded, state) => {
            Err(Problem::new(Kind::Conflict, format!("job {job} is {state}: there is nothing left to cancel")))
        }
    }
}

/// A job that must be there.
pub(super) async fn existing(state: &AppState, job: JobId) -> Result<JobRow, Problem> {
    state.store.job(job).await?.ok_or_else(|| no_job(job))
}

fn no_job(job: JobId) -> Problem {
    Problem::not_found(format!("there is no job {job}"))
}
