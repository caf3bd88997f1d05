//! Asking for a run: the door of manual requests, which reads and answers; `trigger` decides.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::extract;
use crate::health::with_causes;
use crate::http::AppState;
use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};
use crate::trigger::manual::{self, Blame, ManualAnswer, ManualError, ManualRequest};

/// The header with the sender's key (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Asks for a run. Sent again with the same `Idempotency-Key`, it finds the run that it started.
#[utoipa::path(
    post, path = "/api/v1/runs", tag = "runs", operation_id = "submit_run", security(("token" = ["trigger"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body = ManualRequest,
    responses(
        (status = 202, body = ManualAnswer, description = "Accepted", headers(("Location" = String))),
        (status = 200, body = ManualAnswer, description = "Nothing to do, a dry run, or the run of the same key"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn submit(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    extract::Json(request): extract::Json<ManualRequest>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let request = ManualRequest { asked_by: caller.name, ..request };
    // On a task of its own: a client that goes away, or the time limit, stops the answer and not the decision.
    let triggers = state.triggers.clone();
    let submitted = tokio::spawn(async move { manual::submit(&triggers, request, key.as_deref()).await }).await;
    let answer = submitted.map_err(|error| Problem::internal(&error))?.map_err(refused)?;
    let (status, run) = match &answer {
        ManualAnswer::Accepted { run, .. } => (StatusCode::ACCEPTED, Some(run)),
        ManualAnswer::Existing { run } => (StatusCode::OK, Some(run)),
        ManualAnswer::NothingToDo { .. } | ManualAnswer::Planned { .. } => (StatusCode::OK, None),
    };
    let location = run.and_then(|run| HeaderValue::try_from(format!("/api/v1/runs/{run}")).ok());
    let headers = HeaderMap::from_iter(location.map(|location| (header::LOCATION, location)));
    Ok((status, headers, Json(answer)).into_response())
}

/// The sender's key, when there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    match headers.get(IDEMPOTENCY_KEY).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(key)) => Ok(Some(key.to_owned())),
        Some(Err(_)) => Err(Problem::new(Kind::Invalid, "`Idempotency-Key` must be 1 to 255 visible ASCII characters")),
    }
}

/// Why a request is not accepted, for its sender.
fn refused(error: ManualError) -> Problem {
    if let ManualError::Store(error) = error {
        return error.into();
    }
    let kind = match error.blame() {
        Blame::Request => Kind::Invalid,
        Blame::NotFound => Kind::NotFound,
        Blame::Forbidden => Kind::Forbidden,
        Blame::Conflict => Kind::Conflict,
        Blame::Outside => Kind::Unavailable,
        Blame::House => {
            // The configuration or the benchmark files are at fault: the sender may be the one who can mend them.
            tracing::error!("a request cannot be planned: {}", with_causes(&error));
            Kind::Internal
        }
    };
    Problem::new(kind, with_causes(&error))
}
