//! The door for GitHub's webhooks. Who knocks is known by the signature over the raw body; what is needed of a delivery
//! is stored before the answer, and nobody outside is asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router, middleware};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::BodyExt;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::{Kind, Problem};
use super::{AppState, count};
use crate::config::{GithubConfig, SecretSource};
use crate::github::is_signed;
use crate::health::with_causes;
use crate::meters::{self, DeliveryOutcome};
use crate::trigger::delivery::{Accepted, DeliveryError, Envelope, accept, event_name};

/// Where GitHub sends to.
pub const PATH: &str = "/webhook/github";

/// The largest payload that GitHub sends; a larger event is not sent at all
/// (<https://docs.github.com/webhooks/webhook-events-and-payloads#payload-cap>).
pub const MAX_BODY_BYTES: usize = 25 * 1024 * 1024;

/// How much memory the large bodies of deliveries may take together.
const MAX_BYTES_AT_ONCE: usize = 4 * MAX_BODY_BYTES;

/// Bodies up to this size, nearly all that GitHub sends, have memory of their own: large ones that somebody else sends,
/// whose signature is not known before their end, keep none of them out.
const SMALL_BYTES: usize = 1024 * 1024;

/// How much memory the small bodies may take together.
const SMALL_BYTES_AT_ONCE: usize = 32 * SMALL_BYTES;

/// How long a body may take to arrive. GitHub gives up after 10 s in all.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

/// How long storing may take.
const STORED_WITHIN: Duration = Duration::from_secs(4);

/// How long secrets are kept before their files are read again: a secret is replaced without a restart.
const SECRETS_FOR: TimeDelta = TimeDelta::seconds(10);

/// The longest delivery id; GitHub's are UUIDs.
const LONGEST_ID_BYTES: usize = 255;

/// What the endpoint keeps between deliveries.
#[derive(Debug)]
pub struct Door {
    files: Vec<SecretSource>,
    secrets: Mutex<Option<(DateTime<Utc>, Vec<SecretString>)>>,
    memory: Semaphore,
    small: Semaphore,
}

impl Door {
    /// The door as configured.
    pub fn new(config: &GithubConfig) -> Self {
        Self {
            files: config.webhook_secret_files.iter().cloned().map(SecretSource::File).collect(),
            secrets: Mutex::default(),
            memory: Semaphore::new(MAX_BYTES_AT_ONCE),
            small: Semaphore::new(SMALL_BYTES_AT_ONCE),
        }
    }

    /// The secrets that deliveries may be signed with.
    fn secrets(&self, now: DateTime<Utc>) -> Result<Vec<SecretString>, Problem> {
        if self.files.is_empty() {
            let detail = "no webhook secret is configured: set `github.webhook_secret_files`, and the same secret in \
                          the webhook's settings on GitHub";
            return Err(Problem::not_found(detail));
        }
        let mut known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, secrets)) = known.as_ref().filter(|(read_at, _)| (now - *read_at).abs() < SECRETS_FOR) {
            return Ok(secrets.clone());
        }
        let mut secrets = Vec::new();
        for file in &self.files {
            match file.read() {
                Ok(secret) => secrets.push(secret),
                Err(error) => tracing::error!("a webhook secret cannot be used: {}", with_causes(&error)),
            }
        }
        if secrets.is_empty() {
            let detail = "no file of `github.webhook_secret_files` can be read; benchd's log says why";
            return Err(Problem::new(Kind::Unavailable, detail));
        }
        *known = Some((now, secrets.clone()));
        Ok(secrets)
    }
}

/// The one route, outside of the limits that are made for people and scripts.
pub fn routes(state: &AppState) -> Router {
    Router::new()
        .route(PATH, post(deliver))
        .method_not_allowed_fallback(|| async {
            Problem::new(Kind::MethodNotAllowed, "GitHub's deliveries are sent with POST")
        })
        .route_layer(middleware::from_fn(count))
        .with_state(state.clone())
}

/// Takes one delivery.
async fn deliver(State(state): State<AppState>, headers: HeaderMap, body: Body) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let event = event_name(text("x-github-event").unwrap_or_default());
    let (outcome, response) = match taken(&state, &headers, body).await {
        Ok(accepted) => {
            let (outcome, status) = match &accepted {
                Accepted::Marked { .. } => (DeliveryOutcome::Marked, StatusCode::ACCEPTED),
                Accepted::Known => (DeliveryOutcome::Known, StatusCode::OK),
                Accepted::Ignored { .. } | Accepted::Pong => (DeliveryOutcome::Ignored, StatusCode::OK),
            };
            tracing::debug!(delivery.id = text("x-github-delivery"), "a delivery of {event}: {accepted:?}");
            (outcome, (status, Json(accepted)).into_response())
        }
        Err(problem) => {
            let failed = problem.status >= 500;
            tracing::warn!(delivery.id = text("x-github-delivery"), "a delivery is not taken: {}", problem.detail);
            (if failed { DeliveryOutcome::Failed } else { DeliveryOutcome::Refused }, problem.into_response())
        }
    };
    meters::delivery(event, outcome);
    response
}

async fn taken(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Accepted, Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let secrets = state.webhook.secrets(state.clock.now())?;
    let media_type = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = "set the content type of the webhook to `application/json` in its settings on GitHub";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    let Some(signature) = text("x-hub-signature-256") else {
        let detail = "the delivery is not signed: set a secret in the webhook's settings on GitHub";
        return Err(Problem::new(Kind::Unauthorized, detail));
    };
    let (bytes, _memory) = tokio::time::timeout(ARRIVES_WITHIN, read(&state.webhook, headers, body))
        .await
        .map_err(|_late| Problem::new(Kind::Malformed, "the body did not arrive in time"))??;
    if !is_signed(&secrets, signature, &bytes) {
        let detail = "the signature fits no secret of `github.webhook_secret_files`: is the webhook's secret the same?";
        return Err(Problem::new(Kind::Unauthorized, detail));
    }
    let (Some(event), Some(id)) = (text("x-github-event"), text("x-github-delivery")) else {
        return Err(Problem::new(Kind::Malformed, "`X-GitHub-Event` and `X-GitHub-Delivery` are needed"));
    };
    if id.is_empty() || id.len() > LONGEST_ID_BYTES {
        let detail = format!("`X-GitHub-Delivery` must have 1 to {LONGEST_ID_BYTES} characters");
        return Err(Problem::new(Kind::Malformed, detail));
    }
    let accepted = accept(&state.triggers, Envelope { id, event, body: &bytes });
    let busy = |why: String| {
        tracing::error!("a delivery cannot be stored: {why}");
        Problem::new(Kind::Unavailable, "the delivery cannot be stored now: deliver it again later")
    };
    match tokio::time::timeout(STORED_WITHIN, accepted).await {
        Ok(Ok(accepted)) => Ok(accepted),
        Ok(Err(DeliveryError::Store(error))) => Err(busy(with_causes(&error))),
        Ok(Err(error @ (DeliveryError::Unreadable(_) | DeliveryError::NoObject))) => {
            Err(Problem::new(Kind::Malformed, with_causes(&error)))
        }
        Err(_late) => Err(busy(format!("the store did not take it within {STORED_WITHIN:?}"))),
    }
}

/// Reads the body piece by piece; what is read is held against the memory of all deliveries, so that many large ones
/// are refused and not taken in.
async fn read<'d>(door: &'d Door, headers: &HeaderMap, body: Body) -> Result<(Bytes, SemaphorePermit<'d>), Problem> {
    let too_large = || {
        let detail = format!("a delivery may have at most {MAX_BODY_BYTES} bytes, as GitHub's have");
        Problem::new(Kind::TooLarge, detail)
    };
    let busy = || Problem::new(Kind::Unavailable, "too many deliveries at once: deliver it again later");
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    // A body is never longer than announced: the server reads no further.
    let room = if announced.is_some_and(|length| length <= SMALL_BYTES) { &door.small } else { &door.memory };
    let mut memory = room.try_acquire_many(0).map_err(|_none| busy())?;
    let mut bytes = BytesMut::new();
    let mut body = body;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_cut| Problem::new(Kind::Malformed, "the body was cut off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        let piece = u32::try_from(data.len()).map_err(|_large| too_large())?;
        memory.merge(room.try_acquire_many(piece).map_err(|_none| busy())?);
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_bodies_that_never_end_keep_no_small_delivery_out() {
        let door = Door::new(&GithubConfig::default());
        let _held_by_others = door.memory.try_acquire_many(MAX_BYTES_AT_ONCE.try_into().unwrap()).unwrap();
        let length = |bytes: usize| HeaderMap::from_iter([(header::CONTENT_LENGTH, bytes.into())]);
        let (small, large) = (vec![b' '; SMALL_BYTES], vec![b' '; SMALL_BYTES + 1]);
        assert_eq!(read(&door, &length(small.len()), small.clone().into()).await.unwrap().0, small);
        for unknown_or_large in [HeaderMap::new(), length(large.len())] {
            assert!(read(&door, &unknown_or_large, large.clone().into()).await.is_err());
        }
    }
}
