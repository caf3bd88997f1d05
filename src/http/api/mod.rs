//! The JSON API: one file for each resource. Each route stands in one list with the scope it needs.

pub mod artifacts;
mod extract;
pub mod jobs;
pub mod log;
pub mod queue;
pub mod runs;
pub mod schedule;
pub mod submit;
pub mod version;

use axum::middleware;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{self, Scope};
use super::{AppState, at_once, count, health, metrics};

/// All routes, with limits of their own kind and the scope each needs.
pub fn routes(state: &AppState) -> OpenApiRouter<AppState> {
    let open = OpenApiRouter::new().routes(routes!(health::healthz)).routes(routes!(health::readyz));
    let read = OpenApiRouter::new()
        .routes(routes!(metrics::metrics))
        .routes(routes!(version::version))
        .routes(routes!(runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(runs::results))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::results))
        .routes(routes!(artifacts::list))
        .routes(routes!(queue::view))
        .routes(routes!(queue::runners))
        .routes(routes!(queue::pauses))
        .routes(routes!(schedule::show));
    let streams = OpenApiRouter::new()
        .routes(routes!(log::file))
        .routes(routes!(log::follow))
        .routes(routes!(artifacts::download));
    let trigger = OpenApiRouter::new()
        .routes(routes!(submit::submit))
        .routes(routes!(runs::cancel))
        .routes(routes!(jobs::cancel))
        .routes(routes!(runs::retry))
        .routes(routes!(runs::rerun));
    let admin = OpenApiRouter::new().routes(routes!(queue::pause)).routes(routes!(queue::resume));
    let answers = open
        .merge(scoped(read, state, Scope::Read))
        .merge(scoped(trigger, state, Scope::Trigger))
        .merge(scoped(admin, state, Scope::Admin));
    at_once(answers).merge(scoped(streams, state, Scope::Read)).route_layer(middleware::from_fn(count))
}

/// Lets only those in who may do this.
fn scoped(routes: OpenApiRouter<AppState>, state: &AppState, scope: Scope) -> OpenApiRouter<AppState> {
    routes.route_layer(middleware::from_fn_with_state((state.clone(), scope), auth::require))
}
