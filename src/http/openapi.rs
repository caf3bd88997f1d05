//! The description of the API at `/openapi.json`. Routes and description come from the same list, so that neither can
//! have what the other lacks.

use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use super::{AppState, VERSION};
use crate::model::{BranchName, JobId, RepoName, RunId, RunPhase};

/// Where the description is.
pub const PATH: &str = "/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "benchd",
        description = "Runs, jobs, logs and results of a benchd server. Errors are application/problem+json (RFC 9457). \
                       A token is sent as `Authorization: Bearer TOKEN`; the scope that an operation needs is listed \
                       with it (read < trigger < admin). Where reading is public, operations of scope read need none.",
        license(name = "Apache-2.0"),
    ),
    // What only parameters name is not collected by itself.
    components(schemas(RepoName, BranchName, RunId, JobId, RunPhase)),
    tags(
        (name = "runs", description = "Measuring one commit because of one trigger"),
        (name = "jobs", description = "What one runner does of a run for one target and model"),
        (name = "queue", description = "What waits, where it runs, and pausing it"),
        (name = "operation", description = "Probes, metrics and versions"),
    )
)]
struct Described;

/// Separates the routes from their description, with all it says of the whole added.
pub fn split(routes: OpenApiRouter<AppState>, state: &AppState) -> (Router, utoipa::openapi::OpenApi) {
    let (router, paths) = OpenApiRouter::with_openapi(Described::openapi()).merge(routes).split_for_parts();
    let mut description = paths;
    description.info.version = VERSION.to_owned();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    description.components.get_or_insert_default().add_security_scheme("token", token);
    (router.with_state(state.clone()), description)
}

/// The description as a page.
pub fn page(description: utoipa::openapi::OpenApi) -> Router {
    Router::new().route(PATH, get(|| async { Json(description) }))
}
