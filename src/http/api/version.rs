//! Which benchd this is.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::VERSION;

/// Which benchd this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Its version.
    pub version: String,
}

/// Which benchd this is.
#[utoipa::path(
    get, path = "/api/v1/version", tag = "operation", security((), ("token" = ["read"])),
    responses((status = 200, body = Version)),
)]
pub async fn version() -> Json<Version> {
    Json(Version { version: VERSION.to_owned() })
}
