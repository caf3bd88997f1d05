//! The probes: `/healthz` (the process and its tasks live) and `/readyz` (it can measure and publish, or why not).
//! Both answer everyone, as probes carry no tokens; the reasons are told to those who may read.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::Scope;
use crate::health::{Part, SilentTask, Trouble};
use crate::model::Control;

/// Whether the process lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// Whether every task shows signs of life.
    pub alive: bool,
    /// Those that do not.
    pub silent_tasks: Vec<SilentTask>,
}

/// Whether the daemon can measure and publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether nothing is in trouble; a pause is none.
    pub ready: bool,
    /// What is, and what is paused; left out for those who may not read.
    pub reasons: Vec<Trouble>,
}

/// Whether the process and its tasks live; 503 asks for a restart.
#[utoipa::path(
    get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, body = Alive), (status = 503, body = Alive)),
)]
pub async fn healthz(State(state): State<AppState>, headers: HeaderMap) -> (StatusCode, Json<Alive>) {
    let silent = state.health.silent_tasks();
    let alive = silent.is_empty();
    let silent_tasks = if may_read(&state, &headers) { silent } else { Vec::new() };
    (status(alive), Json(Alive { alive, silent_tasks }))
}

/// Whether work that is accepted now will be done; 503 says why not.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses((status = 200, body = Ready), (status = 503, body = Ready)),
)]
pub async fn readyz(State(state): State<AppState>, headers: HeaderMap) -> (StatusCode, Json<Ready>) {
    state.health.report(Part::Database, &state.store.ping().await);
    if let Ok(pauses) = state.queue.pauses().await {
        let own = Control::Host(state.host.name.clone());
        let ours: Vec<_> = pauses.iter().filter(|p| p.what == own || p.what == Control::Triggers).collect();
        match ours.is_empty() {
            true => state.health.well(Part::Paused),
            false => {
                state.health.trouble(Part::Paused, ours.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
        }
    }
    let troubles = state.health.troubles();
    let ready = troubles.iter().all(Trouble::is_note);
    let reasons = if may_read(&state, &headers) { troubles } else { Vec::new() };
    (status(ready), Json(Ready { ready, reasons }))
}

fn may_read(state: &AppState, headers: &HeaderMap) -> bool {
    state.tokens.admit(headers, Scope::Read).is_ok()
}

fn status(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
