//! The queue as it stands, the machines that take from it, and pausing them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{self, Path};
use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};
use crate::http::{AppState, VERSION};
use crate::model::{Control, DeviceId, JobId, Pause};
use crate::queue::place::{QueueView, RunnerView, Why};
use crate::store::Outcome;

/// The longest reason for a pause, in bytes.
const LONGEST_WHY: usize = 1000;

/// A machine that takes jobs, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Runner {
    /// The machine, as it last asked for a job.
    #[serde(flatten)]
    pub runner: RunnerView,
    /// Its devices that jobs hold.
    pub in_use: Vec<DeviceId>,
    /// Those jobs.
    pub jobs: Vec<JobId>,
    /// Who paused it, when somebody did.
    pub paused: Option<Pause>,
    /// Its benchd, where that is the one that answers.
    pub version: Option<String>,
}

/// What to pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// `triggers` (all that starts runs by itself), `host` (the server's own runner) or `host:NAME`.
    pub what: String,
    /// Why, for people.
    pub why: Option<String>,
}

/// The queue as it stands: each job that has not ended, its place and why it does not run yet.
#[utoipa::path(
    get, path = "/api/v1/queue", tag = "queue", operation_id = "queue", security((), ("token" = ["read"])),
    responses((status = 200, body = QueueView)),
)]
pub async fn view(State(state): State<AppState>) -> Result<Json<QueueView>, Problem> {
    Ok(Json(state.queue.view().await?))
}

/// The machines that take jobs: devices, what holds them, whether they are paused.
#[utoipa::path(
    get, path = "/api/v1/runners", tag = "queue", operation_id = "runners", security((), ("token" = ["read"])),
    responses((status = 200, body = [Runner])),
)]
pub async fn runners(State(state): State<AppState>) -> Result<Json<Vec<Runner>>, Problem> {
    let view = state.queue.view().await?;
    let own = &state.host.name;
    Ok(Json(view.runners.iter().map(|runner| runner_in(&view, runner, own == &runner.name)).collect()))
}

/// What is paused.
#[utoipa::path(
    get, path = "/api/v1/pauses", tag = "queue", operation_id = "pauses", security((), ("token" = ["read"])),
    responses((status = 200, body = [Pause])),
)]
pub async fn pauses(State(state): State<AppState>) -> Result<Json<Vec<Pause>>, Problem> {
    Ok(Json(state.queue.pauses().await?))
}

/// Pauses triggers or a host until it is taken back, also over a restart. A pause that stands stays as it is (200).
#[utoipa::path(
    post, path = "/api/v1/pauses", tag = "queue", operation_id = "pause", security(("token" = ["admin"])),
    request_body = PauseRequest,
    responses(
        (status = 200, body = Pause, description = "It was paused before"),
        (status = 201, body = Pause),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn pause(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    extract::Json(request): extract::Json<PauseRequest>,
) -> Result<(StatusCode, Json<Pause>), Problem> {
    let what = control(&state, &request.what)?;
    let why = request.why.as_deref().map(str::trim).filter(|why| !why.is_empty());
    if why.is_some_and(|why| why.len() > LONGEST_WHY) {
        return Err(Problem::new(Kind::Invalid, format!("`why` has at most {LONGEST_WHY} bytes")));
    }
    let status = match state.queue.pause(&what, &caller.to_string(), why).await? {
        Outcome::Performed => StatusCode::CREATED,
        Outcome::Moved => StatusCode::OK,
    };
    let pause = state.queue.pause_of(&what).await?;
    // Somebody may have taken it back in this moment.
    let gone = || Problem::new(Kind::Conflict, format!("{what} was resumed meanwhile"));
    Ok((status, Json(pause.ok_or_else(gone)?)))
}

/// Takes a pause back.
#[utoipa::path(
    delete, path = "/api/v1/pauses/{what}", tag = "queue", operation_id = "resume",
    params(("what" = String, Path, description = "`triggers`, `host` or `host:NAME`")),
    security(("token" = ["admin"])),
    responses(
        (status = 204),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn resume(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(what): Path<String>,
) -> Result<StatusCode, Problem> {
    let what = control(&state, &what)?;
    match state.queue.resume(&what, &caller.to_string()).await? {
        Outcome::Performed => Ok(StatusCode::NO_CONTENT),
        Outcome::Moved => Err(Problem::not_found(format!("{what} is not paused"))),
    }
}

/// What a word stands for; `host` alone is the server's own runner.
fn control(state: &AppState, word: &str) -> Result<Control, Problem> {
    match word {
        "host" => Ok(Control::Host(state.host.name.clone())),
        word => {
            word.parse().map_err(|error: crate::model::UnknownControl| Problem::new(Kind::Invalid, error.to_string()))
        }
    }
}

fn runner_in(view: &QueueView, runner: &RunnerView, own: bool) -> Runner {
    let (mut in_use, mut jobs) = (Vec::new(), Vec::new());
    for place in &view.jobs {
        if let Why::Holds { by, slot, .. } = &place.why
            && *by == runner.name
        {
            in_use.extend(&slot.devices);
            jobs.push(place.job);
        }
    }
    in_use.sort_unstable();
    let host = Control::Host(runner.name.clone());
    Runner {
        runner: runner.clone(),
        in_use,
        jobs,
        paused: view.pauses.iter().find(|pause| pause.what == host).cloned(),
        version: own.then(|| VERSION.to_owned()),
    }
}
