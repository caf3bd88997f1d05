//! What a job's attempts left on disk: a list, and each file. What comes out of a container is untrusted: a path stays in
//! its attempt's folder, links are not followed, and a browser is told to save, never to show.

use std::path::{Component, PathBuf};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa::ToSchema;

use super::extract::Path;
use super::jobs;
use crate::http::AppState;
use crate::http::problem::{Kind, Problem};
use crate::model::JobId;
use crate::store::artifacts::AttemptKey;

/// How many files are listed at most.
const MOST_FILES: usize = 10_000;

/// A file of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its path in the attempt's folder: `1/console.log`, `1/results/...`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// The files of an attempt, by path.
#[utoipa::path(
    get, path = "/api/v1/jobs/{job}/attempts/{attempt}/artifacts", tag = "jobs", operation_id = "list_artifacts",
    params(("job" = JobId, Path,), ("attempt" = u32, Path, description = "From 1")),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = [Artifact]),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 410, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    Path((job, attempt)): Path<(JobId, u32)>,
) -> Result<Json<Vec<Artifact>>, Problem> {
    let folder = folder(&state, job, attempt).await?;
    let listed = tokio::task::spawn_blocking(move || files_in(&folder)).await;
    let files = listed.map_err(|error| Problem::internal(&error))?.map_err(|error| Problem::internal(&error))?;
    Ok(Json(files))
}

/// One file of an attempt; `Range` is understood.
#[utoipa::path(
    get, path = "/api/v1/jobs/{job}/attempts/{attempt}/artifacts/{*path}", tag = "jobs", operation_id = "download_artifact",
    params(
        ("job" = JobId, Path,), ("attempt" = u32, Path, description = "From 1"),
        ("path" = String, Path, description = "As listed"),
    ),
    security((), ("token" = ["read"])),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 410, body = Problem, content_type = "application/problem+json"),
        (status = 416, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn download(
    State(state): State<AppState>,
    Path((job, attempt, path)): Path<(JobId, u32, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let folder = folder(&state, job, attempt).await?;
    let absent = || Problem::not_found(format!("attempt {attempt} of job {job} has no such file"));
    let file = file_in(folder, &path).await.ok_or_else(absent)?;
    let mut response = ServeFile::new(file).oneshot(request).await.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// The folder of an attempt that has one.
async fn folder(state: &AppState, job: JobId, attempt: u32) -> Result<PathBuf, Problem> {
    let row = jobs::existing(state, job).await?;
    if !(1..=row.attempts_begun).contains(&attempt) {
        return Err(Problem::not_found(format!("job {job} has no attempt {attempt}")));
    }
    let folder = state.artifacts.attempt_dir(AttemptKey { run: row.run, job, attempt });
    match tokio::fs::symlink_metadata(&folder).await {
        Ok(metadata) if metadata.is_dir() => Ok(folder),
        Ok(_) | Err(_) => Err(Problem::new(
            Kind::Gone,
            format!("attempt {attempt} of job {job} has no files (any more): it left none, or the retention took them"),
        )),
    }
}

/// The files below a folder; links and what is no file are left out.
fn files_in(folder: &std::path::Path) -> std::io::Result<Vec<Artifact>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && files.len() < MOST_FILES
                && let Some(path) = entry.path().strip_prefix(folder).ok().and_then(std::path::Path::to_str)
            {
                files.push(Artifact { path: path.to_owned(), bytes: entry.metadata()?.len() });
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The file at a path in a folder, when every step of the way is a real folder and its end a file.
async fn file_in(folder: PathBuf, path: &str) -> Option<PathBuf> {
    let mut at = folder;
    let mut is_file = false;
    for component in std::path::Path::new(path).components() {
        let Component::Normal(name) = component else { return None };
        at.push(name);
        let metadata = tokio::fs::symlink_metadata(&at).await.ok()?;
        if metadata.is_symlink() {
            return None;
        }
        is_file = metadata.is_file();
    }
    is_file.then_some(at)
}
