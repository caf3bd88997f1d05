//! The HTTP shell: reads a request, lets faults strike, identifies, charges the rate budget, asks `api`, answers
//! conditionally, and writes the log. Its own accept loop, because a lost answer is a connection that just ends.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};

use crate::Shared;
use crate::api::{Answer, Request};
use crate::faults::{Fault, strike};
use crate::identity::{Allowance, Identity};
use crate::log::Call;
use crate::world::World;

/// Bodies larger than this are refused; GitHub's own limit is not documented.
const BODY_LIMIT: usize = 10 << 20;

type Body = BoxBody<Bytes, std::io::Error>;

/// Why a connection ends without a whole answer.
#[derive(Debug)]
enum Cut {
    Lost,
    Reset,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the connection was cut by a fault: {self:?}")
    }
}

impl std::error::Error for Cut {}

/// Accepts connections for ever.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => { connections.spawn(connection(stream, shared.clone())); }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A second descriptor of the socket: a reset is asked of the socket itself, which hyper owns by then.
    let Ok(spare) = stream.as_fd().try_clone_to_owned().map(socket2::Socket::from) else { return };
    let service = service_fn(|request| {
        let (shared, spare) = (shared.clone(), &spare);
        async move {
            let answer = exchange(&shared, request).await;
            if let Err(Cut::Reset) = answer {
                let _: Result<(), _> = spare.set_linger(Some(Duration::ZERO));
            }
            answer
        }
    });
    let _: Result<(), _> =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn exchange(shared: &Shared, request: hyper::Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let body = http_body_util::Limited::new(body, BODY_LIMIT).collect().await.map_err(|_| Cut::Lost)?.to_bytes();
    let path = head.uri.path();
    if let Some(action) = path.strip_prefix("/_control/") {
        return Ok(shared.with(|world| crate::control::answer(world, &head.method, action, &body)).into_http(true));
    }
    let path = path.strip_prefix("/api/v3").unwrap_or(path).to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (index, fault) = shared.with(|world| {
        let fault = strike(&mut world.faults, head.method.as_str(), &path);
        (begin(world, &head.method, &path, &query, &head.headers, &body, fault.as_ref()), fault)
    });
    // Should the client hang up, the future is dropped and the call stays "in flight": the guard ends it.
    let mut ending = Ending { shared, index, status: None, silent_for_s: None };
    if let Some(Fault::Slow(by)) = &fault {
        tokio::time::sleep(*by).await;
    }
    let not_done = match fault {
        Some(Fault::Reset) => return Err(Cut::Reset),
        Some(Fault::Status(status)) => Some(server_error(status)),
        Some(Fault::PrimaryLimit { status, reset_in_s }) => Some(shared.with_quietly(|world| {
            let reset = world.clock.now().timestamp() + reset_in_s;
            primary_limit(status, Allowance { limit: 5000, used: 5000, reset }, reset_in_s)
        })),
        Some(Fault::SecondaryLimit { status, retry_after_s }) => Some(secondary_limit(status, retry_after_s)),
        Some(Fault::Unauthorised) => Some(Answer::refusal(401, "Bad credentials")),
        Some(Fault::StatusAfter(_) | Fault::LostAnswer | Fault::Slow(_) | Fault::Truncated) | None => None,
    };
    let answer = match not_done {
        Some(answer) => answer,
        None => shared.with(|world| answer(world, &head.method, &path, &query, &head.headers, body)),
    };
    (ending.status, ending.silent_for_s) = (Some(answer.status), answer.silent_for_s);
    let whole = |answer: Answer| answer.into_http(head.method != Method::HEAD);
    match fault {
        Some(Fault::LostAnswer) => Err(Cut::Lost),
        Some(Fault::StatusAfter(status)) => Ok(whole(server_error(status))),
        Some(Fault::Truncated) => Ok(answer.into_truncated()),
        _ => Ok(whole(answer)),
    }
}

/// Writes the end of a call into the log, however it ends.
struct Ending<'a> {
    shared: &'a Shared,
    index: u64,
    status: Option<u16>,
    silent_for_s: Option<i64>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.shared.with(|world| {
            world.ticks += 1;
            let (tick, now) = (world.ticks, world.clock.now());
            // By its beginning, not its place: the log may have been emptied meanwhile.
            if let Some(call) = world.calls.iter_mut().rev().find(|c| c.began == self.index) {
                (call.ended, call.status) = (Some(tick), self.status);
                call.silent_until = self.silent_for_s.map(|s| now + chrono::TimeDelta::seconds(s));
            }
        });
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::AUTHORIZATION)?.to_str().ok()
}

fn begin(
    world: &mut World,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &serde_json::Value,
    fault: Option<&Fault>,
) -> u64 {
    world.ticks += 1;
    let by = world.identify(authorization(headers)).map_or_else(|_| "unknown token".to_owned(), |who| who.name(world));
    world.calls.push(Call {
        at: world.clock.now(),
        method: method.to_string(),
        path: path.to_owned(),
        query: query.to_owned(),
        by,
        conditional: headers.contains_key(http::header::IF_NONE_MATCH),
        body: body.clone(),
        status: None,
        silent_until: None,
        fault: fault.map(|f| format!("{f:?}")),
        began: world.ticks,
        ended: None,
    });
    world.ticks
}

fn server_error(status: u16) -> Answer {
    Answer::refusal(status, "Server Error")
}

fn primary_limit(status: u16, allowance: Allowance, silent_for_s: i64) -> Answer {
    let mut answer = Answer::refusal(status, "API rate limit exceeded");
    answer.allow(allowance);
    answer.silent_for_s = Some(silent_for_s);
    answer
}

fn secondary_limit(status: u16, retry_after_s: Option<u32>) -> Answer {
    let message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    let mut answer = Answer::refusal(status, message);
    answer.headers.extend(retry_after_s.map(|s| ("retry-after", s.to_string())));
    // Without a time, at least a minute.
    answer.silent_for_s = Some(retry_after_s.map_or(60, i64::from));
    answer
}

/// The answer to a whole request: who asks, whether they may still ask, what they get, and whether they had it before.
fn answer(
    world: &mut World,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: serde_json::Value,
) -> Answer {
    let identity = match world.identify(authorization(headers)) {
        Ok(identity) => identity,
        Err(why) => return Answer::refusal(401, why),
    };
    let who = identity.name(world);
    let now = world.clock.now();
    let cost = u64::from(path != "/rate_limit" && identity != Identity::App);
    let (allowance, allowed) = world.budget.charge(&who, cost, now);
    if !allowed {
        return primary_limit(403, allowance, allowance.reset - now.timestamp());
    }
    if !matches!(*method, Method::GET | Method::HEAD)
        && identity != Identity::App
        && let Some(wait) = world.budget.content_limit(&who, now)
    {
        return secondary_limit(403, Some(wait));
    }
    let scopes = if let Identity::User { scopes, .. } = &identity { scopes.clone() } else { None };
    let request = Request::new(method, path, query, body, identity, allowance);
    let mut answer = crate::api::answer(world, &request);
    let mut allowance = allowance;
    if method == Method::GET && answer.status == 200 {
        let etag = format!("W/\"{}\"", hex::encode(Sha256::digest(&answer.body)));
        let known = headers.get(http::header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
        if known.is_some_and(|known| known.split(',').any(|tag| tag.trim() == etag)) {
            world.budget.refund(&who);
            allowance.used -= cost;
            (answer.status, answer.body) = (304, Vec::new());
        }
        answer.headers.push(("etag", etag));
    }
    answer.allow(allowance);
    answer.headers.extend(scopes.map(|scopes| ("x-oauth-scopes", scopes.join(", "))));
    answer
}

impl Answer {
    fn allow(&mut self, allowance: Allowance) {
        self.headers.extend([
            ("x-ratelimit-limit", allowance.limit.to_string()),
            ("x-ratelimit-remaining", allowance.remaining().to_string()),
            ("x-ratelimit-used", allowance.used.to_string()),
            ("x-ratelimit-reset", allowance.reset.to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
        ]);
    }

    fn head(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(*name, value);
            }
        }
        response
    }

    fn into_http(self, with_body: bool) -> Response<Body> {
        let head = self.head();
        let body = if with_body { self.body } else { Vec::new() };
        head.map(|()| Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed())
    }

    /// The first half of the body, then the end of the connection.
    fn into_truncated(self) -> Response<Body> {
        let mut head = self.head();
        head.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        let half = Bytes::copy_from_slice(&self.body[..self.body.len() / 2]);
        let parts = [Ok(Frame::data(half)), Err(std::io::Error::other("cut by a fault"))];
        head.map(|()| StreamBody::new(stream::iter(parts)).boxed())
    }
}
