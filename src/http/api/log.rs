//! The log of a pass: as a file of which ranges can be asked, and as a stream that grows with it and ends when the pass
//! ends. A stream that broke is taken up again by its offset in bytes.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa::IntoParams;

use super::extract::{Path, Query};
use super::jobs;
use crate::http::AppState;
use crate::http::problem::{Kind, Problem};
use crate::model::JobId;
use crate::store::PassPlace;
use crate::store::artifacts::AttemptKey;

/// Header that tells the attempt whose log is sent.
pub const ATTEMPT: HeaderName = HeaderName::from_static("benchd-attempt");
/// Header that tells the pass whose log is sent.
pub const PASS: HeaderName = HeaderName::from_static("benchd-pass");

/// How often a growing log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How much of a log is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Which pass.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PassQuery {
    /// The attempt, from 1. Default: the last.
    pub attempt: Option<u32>,
    /// The pass, from 1. Default: the last.
    pub pass: Option<u32>,
}

/// Which pass, and from where.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FollowQuery {
    /// The attempt, from 1. Default: the last.
    pub attempt: Option<u32>,
    /// The pass, from 1. Default: the last.
    pub pass: Option<u32>,
    /// How many bytes of the log are known already. Default: 0.
    #[serde(default)]
    pub offset: u64,
}

/// The log of a pass as it is now; `Range` is understood.
#[utoipa::path(
    get, path = "/api/v1/jobs/{job}/log", tag = "jobs", operation_id = "job_log", params(("job" = JobId, Path,), PassQuery),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 206, body = String, content_type = "text/plain", description = "The range that was asked for"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 410, body = Problem, content_type = "application/problem+json"),
        (status = 416, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn file(
    State(state): State<AppState>,
    Path(job): Path<JobId>,
    Query(query): Query<PassQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let found = Found::look(&state, job, query.attempt, query.pass).await?;
    if !tokio::fs::try_exists(&found.path).await.is_ok_and(|exists| exists) {
        return Err(found.nothing());
    }
    let mut response = ServeFile::new(&found.path).oneshot(request).await.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response.headers_mut().extend(found.headers());
    Ok(response)
}

/// The log of a pass as it grows: what is there, then what comes, until the pass ends. Broken off, it is taken up again
/// with `offset`; `Benchd-Attempt` and `Benchd-Pass` tell whose log it is.
#[utoipa::path(
    get, path = "/api/v1/jobs/{job}/log/follow", tag = "jobs", operation_id = "follow_job_log", params(("job" = JobId, Path,), FollowQuery),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 410, body = Problem, content_type = "application/problem+json"),
        (status = 416, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn follow(
    State(state): State<AppState>,
    Path(job): Path<JobId>,
    Query(query): Query<FollowQuery>,
) -> Result<Response, Problem> {
    let found = Found::look(&state, job, query.attempt, query.pass).await?;
    let there = tokio::fs::metadata(&found.path).await.map(|metadata| metadata.len());
    match there {
        Ok(bytes) if query.offset > bytes => {
            let detail = format!("the log has {bytes} bytes, {} are known already: begin anew", query.offset);
            return Err(Problem::new(Kind::OutOfRange, detail));
        }
        Ok(_) => {}
        Err(_) if found.place.ended => return Err(found.nothing()),
        // It is made in a moment.
        Err(_) => {}
    }
    let mut headers = found.headers();
    headers.insert(header::CONTENT_TYPE, TEXT);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would hold back what is meant to be seen at once.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    let following = Following { state, job, found, offset: query.offset };
    let body = Body::from_stream(stream::try_unfold(following, Following::next));
    Ok((headers, body).into_response())
}

/// A pass whose log is asked for.
#[derive(Clone, Debug)]
struct Found {
    place: PassPlace,
    path: PathBuf,
}

impl Found {
    async fn look(state: &AppState, job: JobId, attempt: Option<u32>, pass: Option<u32>) -> Result<Self, Problem> {
        let row = jobs::existing(state, job).await?;
        let Some(place) = state.store.pass_place(job, attempt, pass).await? else {
            return Err(Problem::not_found(match (attempt, pass) {
                (None, None) => format!("job {job} has no log yet: it is {}", row.state),
                (_, _) => format!("job {job} has no such attempt or pass"),
            }));
        };
        let key = AttemptKey { run: place.run, job, attempt: place.attempt };
        Ok(Self { place, path: state.artifacts.log(key, place.pass) })
    }

    fn headers(&self) -> HeaderMap {
        let PassPlace { attempt, pass, .. } = self.place;
        HeaderMap::from_iter([(ATTEMPT, attempt.into()), (PASS, pass.into())])
    }

    /// Why there is no file.
    fn nothing(&self) -> Problem {
        let PassPlace { attempt, pass, ended, .. } = self.place;
        match ended {
            true => Problem::new(Kind::Gone, format!("the log of attempt {attempt}, pass {pass} is not kept any more")),
            false => Problem::not_found(format!("attempt {attempt}, pass {pass} has not written a log yet")),
        }
    }
}

/// A reader of a growing log.
struct Following {
    state: AppState,
    job: JobId,
    found: Found,
    offset: u64,
}

impl Following {
    /// The next piece; `None` at the end of the pass, or when the server stops.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        loop {
            // Whether it has ended is asked before reading: what was written until then is read for certain.
            let PassPlace { attempt, pass, .. } = self.found.place;
            let place = self.state.store.pass_place(self.job, Some(attempt), Some(pass)).await;
            let ended = place.map_err(std::io::Error::other)?.is_none_or(|place| place.ended);
            let piece = self.read().await?;
            if !piece.is_empty() {
                self.offset = self.offset.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
                return Ok(Some((piece, self)));
            }
            if ended {
                return Ok(None);
            }
            tokio::select! {
                () = self.state.stopping.cancelled() => return Ok(None),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn read(&self) -> Result<Bytes, std::io::Error> {
        let mut file = match File::open(&self.found.path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Bytes::new()),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.offset)).await?;
        let mut piece = Vec::with_capacity(CHUNK_BYTES);
        let limit = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut piece).await?;
        Ok(piece.into())
    }
}
