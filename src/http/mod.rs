//! The web server: one router with its limits, the API, probes and metrics. It reads rows; what it writes goes through
//! the verbs of `trigger` and `queue`.

pub mod api;
pub mod auth;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod problem;
mod server;
pub mod webhook;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Router, http};
use tokio_util::sync::CancellationToken;
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::{PeerIpKeyExtractor, SmartIpKeyExtractor};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use utoipa_axum::router::OpenApiRouter;

use self::auth::Tokens;
use crate::clock::Clock;
use crate::config::Config;
use crate::health::{Health, Part};
use crate::meters;
use crate::model::{RunnerName, Target};
use crate::queue::Queue;
use crate::store::Store;
use crate::store::artifacts::Artifacts;
use crate::trigger::Context;

pub use server::{ServeError, serve};

/// This benchd.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long an answer may take; streams may take longer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The largest body of a request.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The largest body that is read to its end although it is too large.
const MAX_DRAINED_BYTES: usize = 1024 * 1024;
/// How many times its requests per second an address may send at once.
const BURST: u32 = 5;

/// This host, as it takes part in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What it is called as a runner.
    pub name: RunnerName,
    /// Its hardware, with all its devices.
    pub target: Target,
}

/// All that the server needs. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// The parts of an [`AppState`].
pub struct Parts {
    /// Where runs are asked for.
    pub triggers: Context,
    /// Where everything is read.
    pub store: Store,
    /// Where runs are cancelled and retried, hosts and triggers paused.
    pub queue: Queue,
    /// The one source of time.
    pub clock: Clock,
    /// The configuration.
    pub config: Arc<Config>,
    /// What is in trouble.
    pub health: Health,
    /// This host.
    pub host: Host,
    /// Logs and results on disk.
    pub artifacts: Artifacts,
    /// Who may do what.
    pub tokens: Tokens,
    /// Webhook secrets, and the memory that bodies of deliveries may take.
    pub webhook: webhook::Door,
    /// The last counts of `/metrics`.
    pub metrics: metrics::Cache,
    /// Cancelled when the server stops: streams end then.
    pub stopping: CancellationToken,
}

impl AppState {
    /// Puts the parts together and begins to count. `name` is what this host is called as a runner.
    pub fn new(triggers: Context, health: Health, name: RunnerName, stopping: CancellationToken) -> Self {
        let _counting = meters::counted();
        let Context { config, store, queue, clock, target, .. } = triggers.clone();
        Self(Arc::new(Parts {
            tokens: Tokens::new(&config.http, health.clone()),
            artifacts: Artifacts::new(&config.state_dir),
            webhook: webhook::Door::new(&config.github),
            metrics: metrics::Cache::default(),
            host: Host { name, target },
            store,
            queue,
            clock,
            config,
            triggers,
            health,
            stopping,
        }))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Everything the server answers. Peers' addresses must be known to it ([`serve`] sees to that).
pub fn router(state: AppState) -> Router {
    let (routes, description) = openapi::split(api::routes(&state), &state);
    within_limits(routes.merge(openapi::page(description)), &state)
}

/// Wraps routes in all limits. The order is that of the way in: a request gets its id and its line in the log first,
/// and every error, whoever made it, gets its body last.
pub fn within_limits(routes: Router, state: &AppState) -> Router {
    let request_id = HeaderName::from_static("x-request-id");
    let header = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let routes = routes
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED })
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(middleware::from_fn(drain));
    limited_rate(routes, state)
        // GitHub sends from few addresses, in bursts, and up to 25 MB: the webhook has limits of its own.
        .merge(webhook::routes(state))
        .layer(CatchPanicLayer::new())
        .layer(middleware::map_response(problem::clothe))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(failed))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
}

/// Reads a body that is somewhat too large before it is refused: a client that still sends when the connection is closed
/// sees a broken pipe and not the answer.
async fn drain(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let announced = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if !announced.is_some_and(|bytes| (MAX_BODY_BYTES + 1..=MAX_DRAINED_BYTES).contains(&bytes)) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let _thrown_away = tokio::time::timeout(ANSWER_WITHIN, axum::body::to_bytes(body, MAX_DRAINED_BYTES)).await;
    next.run(Request::from_parts(head, Body::empty())).await
}

/// What is answered at once: in time and, when the client likes, compressed. Not for streams.
fn at_once(routes: OpenApiRouter<AppState>) -> OpenApiRouter<AppState> {
    routes
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_WITHIN))
        .layer(CompressionLayer::new())
}

/// Limits the requests of each address, as configured; behind a proxy the address is the one it forwards.
fn limited_rate(routes: Router, state: &AppState) -> Router {
    let config = &state.config.http;
    let period = Duration::from_secs(1) / config.requests_per_second.get();
    let burst = config.requests_per_second.get().saturating_mul(BURST);
    // Period and burst are not zero, which is all that `finish` asks for.
    if config.behind_proxy {
        let limits = GovernorConfigBuilder::default()
            .period(period)
            .burst_size(burst)
            .key_extractor(SmartIpKeyExtractor)
            .finish();
        limits.map_or(routes.clone(), |limits| routes.layer(GovernorLayer::new(limits)))
    } else {
        let limits = GovernorConfigBuilder::default()
            .period(period)
            .burst_size(burst)
            .key_extractor(PeerIpKeyExtractor)
            .finish();
        limits.map_or(routes.clone(), |limits| routes.layer(GovernorLayer::new(limits)))
    }
}

/// Counts an answer by its route.
async fn count(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    if let Some(route) = route {
        meters::http_request(method.as_str(), route.as_str(), response.status().as_u16());
    }
    response
}

/// An answer that tells of a fault here. That the daemon is not ready is told by its health, not once more for each probe.
fn failed(failure: ServerErrorsFailureClass, latency: Duration, _span: &tracing::Span) {
    if !matches!(failure, ServerErrorsFailureClass::StatusCode(StatusCode::SERVICE_UNAVAILABLE)) {
        tracing::error!(latency_ms = latency.as_millis(), "failed to answer: {failure}");
    }
}

/// The span of a request in the log; the query is left out, headers too.
fn span(request: &http::Request<Body>) -> tracing::Span {
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info_span!(
        "request", request.id = id, http.method = %request.method(), http.path = request.uri().path()
    )
}

impl AppState {
    /// Says that the server stops taking work.
    pub fn drain(&self) {
        self.health.trouble(Part::Draining, "the daemon is stopping");
    }
}
