//! Every error that leaves the server, as `application/problem+json` (RFC 9457): one kind for each status, a detail
//! that says what to do, and nothing of the inside.

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::health::with_causes;
use crate::model::Fault;
use crate::store::StoreError;

/// Media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What kind of problem; docs/api.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be read.
    Malformed,
    /// A token is needed, or the one given is not known.
    Unauthorized,
    /// The token, or nobody, may do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is such a thing, and this cannot be done to it.
    MethodNotAllowed,
    /// It stands in the way of what is there.
    Conflict,
    /// It was there and the retention has removed it.
    Gone,
    /// The request is larger than allowed.
    TooLarge,
    /// The body is of another kind than JSON.
    UnsupportedMediaType,
    /// The file is shorter than what was asked for.
    OutOfRange,
    /// The request can be read and cannot be done.
    Invalid,
    /// Too many requests from one address.
    TooManyRequests,
    /// A mistake or fault inside benchd.
    Internal,
    /// Something that benchd needs does not answer now.
    Unavailable,
    /// The answer took too long.
    TimedOut,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::Gone,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::OutOfRange,
        Self::Invalid,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
        Self::TimedOut,
    ];

    /// The last part of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::OutOfRange => "out_of_range",
            Self::Invalid => "invalid",
            Self::TooManyRequests => "too_many_requests",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::OutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The same for every problem of the kind.
    pub fn title(self) -> &'static str {
        match self {
            Self::Malformed => "the request cannot be read",
            Self::Unauthorized => "a token is needed",
            Self::Forbidden => "not permitted",
            Self::NotFound => "there is no such thing",
            Self::MethodNotAllowed => "this cannot be done here",
            Self::Conflict => "it stands in the way of what is there",
            Self::Gone => "it was removed",
            Self::TooLarge => "the request is too large",
            Self::UnsupportedMediaType => "the body is not JSON",
            Self::OutOfRange => "the range is not in the file",
            Self::Invalid => "the request cannot be done",
            Self::TooManyRequests => "too many requests",
            Self::Internal => "a fault inside benchd",
            Self::Unavailable => "unavailable now",
            Self::TimedOut => "the answer took too long",
        }
    }

    /// What is told when nothing more is known.
    fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "see /openapi.json for what is understood",
            Self::Unauthorized => "send `Authorization: Bearer TOKEN`",
            Self::Forbidden => "use a token of a higher scope",
            Self::NotFound => "there is nothing at this path: /openapi.json lists what there is",
            Self::MethodNotAllowed => "the `Allow` header lists what can be done",
            Self::Conflict => "look at its state first",
            Self::Gone => "the retention has removed it",
            Self::TooLarge => "a request's body may have at most 65536 bytes",
            Self::UnsupportedMediaType => "send `Content-Type: application/json`",
            Self::OutOfRange => "the file is shorter than that",
            Self::Invalid => "see /openapi.json for what is understood",
            Self::TooManyRequests => "wait as long as the `Retry-After` header says, in seconds",
            Self::Internal => "benchd's log says more (look for the request's id, the `X-Request-Id` header)",
            Self::Unavailable => "try again later; /readyz says what is missing",
            Self::TimedOut => "try again later; /readyz says what is missing",
        }
    }
}

/// An error as it leaves the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:benchd:problem:KIND`, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of its kind, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:benchd:problem:{}", kind.as_str()),
            title: kind.title().to_owned(),
            status: kind.status().as_u16(),
            detail: detail.into(),
        }
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// A fault inside: logged here with its causes, told without them.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!("a request failed: {}", with_causes(error));
        Self::new(Kind::Internal, Kind::Internal.detail())
    }

    /// The problem that a bare status stands for.
    fn of_status(status: StatusCode) -> Self {
        match Kind::ALL.into_iter().find(|kind| kind.status() == status) {
            Some(kind) => Self::new(kind, kind.detail()),
            None => Self {
                kind: "about:blank".to_owned(),
                title: status.canonical_reason().unwrap_or("error").to_owned(),
                status: status.as_u16(),
                detail: Kind::Malformed.detail().to_owned(),
            },
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"benchd\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// Gives a body to an error that a layer answered with a bare status (limits, timeouts, panics, unknown paths).
pub async fn clothe(response: Response) -> Response {
    let status = response.status();
    let dressed = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind == MEDIA_TYPE.as_bytes() || kind == b"application/json"
    });
    if !(status.is_client_error() || status.is_server_error()) || dressed {
        return response;
    }
    let (bare, _) = response.into_parts();
    let mut clothed = Problem::of_status(status).into_response();
    for (name, value) in &bare.headers {
        let of_the_body = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING].contains(name);
        if !of_the_body {
            clothed.headers_mut().insert(name, value.clone());
        }
    }
    clothed
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::DiskFull { .. }) {
            tracing::warn!("a request found the disk full: {}", with_causes(&error));
            return Self::new(Kind::Unavailable, "the state directory's disk is full: try again when there is room");
        }
        match error.fault() {
            Fault::Transient => {
                tracing::warn!("a request found the store busy: {}", with_causes(&error));
                Self::new(Kind::Unavailable, "the database is locked by another process: try again")
            }
            Fault::Permanent => Self::internal(&error),
        }
    }
}

/// What a library says of a request's part, without its own opening words ("Failed to deserialize query string: ").
fn malformed(part: &str, text: &str) -> Problem {
    let fault = text.split_once(": ").map_or(text, |(_, fault)| fault);
    Problem::new(Kind::Malformed, format!("in the {part}: {fault}"))
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::MissingJsonContentType(_) => Self::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            // The text names line, column and field of the fault.
            JsonRejection::JsonDataError(error) => malformed("body", &error.body_text()),
            JsonRejection::JsonSyntaxError(error) => malformed("body", &error.body_text()),
            JsonRejection::BytesRejection(error) => Self::of_status(error.status()),
            // Another crate's enum that may grow.
            _ => Self::of_status(StatusCode::BAD_REQUEST),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        malformed("path", &rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        malformed("query", &rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_kind() {
        let page = include_str!("../../docs/api.md");
        let row = |kind: Kind| format!("| `{}` | {} | {} |", kind.as_str(), kind.status().as_u16(), kind.title());
        let rows: Vec<_> =
            page.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 4).collect();
        assert_eq!(rows, Kind::ALL.map(row));
    }
}
