//! One container at the engine: every request that a pass makes, each repeated while the engine is away.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as ClientError;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptions, InspectContainerOptions, KillContainerOptions,
    ListContainersOptions, LogsOptions, RemoveContainerOptions, StopContainerOptions, UploadToContainerOptions,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio_util::io::ReaderStream;

use super::container::body::create_body;
use super::container::{ContainerSpec, PassId, Secrets};
use super::docker::{Engine, EngineError};

/// First and longest wait between two tries while the engine is away.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long a stream may bring nothing before it counts as broken.
const STREAM_SILENCE: Duration = Duration::from_secs(120);

/// A container of benchd's.
#[derive(Clone, Debug)]
pub struct Container {
    engine: Engine,
    id: String,
    patience: Duration,
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Made and never started.
    Created,
    /// Its main process lives.
    Running,
    /// Its main process ended.
    Ended,
}

/// What the engine knows about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// How far it is.
    pub phase: Phase,
    /// Of the main process, once it ended.
    pub exit_code: i64,
    /// Whether the kernel killed one of its processes for memory; also with exit code 0.
    pub out_of_memory: bool,
    /// When its main process began.
    pub started_at: Option<DateTime<Utc>>,
    /// When its main process ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Bytes that it wrote to its own layer, when they were asked for.
    pub written_bytes: Option<u64>,
}

/// Whether the engine could not be reached at all, so that the same request may work later.
pub fn is_away(error: &EngineError) -> bool {
    match error {
        EngineError::NotRunning { .. }
        | EngineError::Refused { .. }
        | EngineError::Lost { .. }
        | EngineError::TimedOut { .. } => true,
        EngineError::PermissionDenied { .. }
        | EngineError::UnsupportedHost { .. }
        | EngineError::TooOld { .. }
        | EngineError::Answer { .. }
        | EngineError::InStream { .. }
        | EngineError::Client { .. } => false,
    }
}

async fn patiently<T, F>(patience: Duration, request: impl Fn() -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let began = tokio::time::Instant::now();
    let (mut wait, longest) = RETRY_AFTER;
    loop {
        match request().await {
            Err(error) if is_away(&error) && began.elapsed() + wait < patience => {
                tracing::debug!(error = %error, "engine away, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(longest);
            }
            answer => return answer,
        }
    }
}

/// The container of a pass, whatever its state; `None` when there is none.
///
/// # Errors
/// When the engine does not answer for `patience`.
pub async fn find(engine: &Engine, id: PassId, patience: Duration) -> Result<Option<Container>, EngineError> {
    let labels: Vec<String> = id.labels().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let found = list(engine, labels, patience).await?;
    Ok(found.into_iter().next().map(|(id, _)| Container { engine: engine.clone(), id, patience }))
}

/// Removes every container of benchd's on this engine that `keep` does not claim, running or not: what a killed benchd
/// left and nobody will adopt. Returns their passes.
///
/// # Errors
/// When the engine refuses or does not answer.
pub async fn remove_leftovers(engine: &Engine, keep: impl Fn(&PassId) -> bool) -> Result<Vec<PassId>, EngineError> {
    let patience = Duration::from_secs(30);
    let mut removed = Vec::new();
    for (id, labels) in list(engine, vec![super::container::LABEL_JOB.to_owned()], patience).await? {
        let Some(pass) = PassId::from_labels(|name| labels.get(name).map(String::as_str)) else { continue };
        if !keep(&pass) {
            Container { engine: engine.clone(), id, patience }.remove().await?;
            removed.push(pass);
        }
    }
    Ok(removed)
}

type Labels = HashMap<String, String>;

async fn list(engine: &Engine, labels: Vec<String>, patience: Duration) -> Result<Vec<(String, Labels)>, EngineError> {
    let filters = HashMap::from([("label".to_owned(), labels)]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    let found = patiently(patience, || async {
        let answer = engine.docker().list_containers(Some(options.clone())).await;
        answer.map_err(engine.failed_to("list containers"))
    })
    .await?;
    let with_id = |c: bollard::models::ContainerSummary| Some((c.id?, c.labels.unwrap_or_default()));
    Ok(found.into_iter().filter_map(with_id).collect())
}

impl Container {
    /// Makes the container; what a lost answer left under its name is replaced.
    ///
    /// # Errors
    /// When the engine refuses (404: no such image) or does not answer for `patience`.
    pub async fn create(
        engine: &Engine,
        spec: &ContainerSpec,
        secrets: &Secrets,
        patience: Duration,
    ) -> Result<Self, EngineError> {
        let options = CreateContainerOptions { name: Some(spec.name.clone()), ..Default::default() };
        let body = create_body(spec, secrets);
        let action = format!("create container {}", spec.name);
        let create = || async {
            let answer = engine.docker().create_container(Some(options.clone()), body.clone()).await;
            answer.map_err(engine.failed_to(&action))
        };
        let made = match patiently(patience, create).await {
            Err(EngineError::Answer { status: 409, .. }) => {
                Self { engine: engine.clone(), id: spec.name.clone(), patience }.remove().await?;
                patiently(patience, create).await?
            }
            answer => answer?,
        };
        Ok(Self { engine: engine.clone(), id: made.id, patience })
    }

    /// The same container for somebody who waits `patience` for an engine that is away.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The engine's name for it.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn action(&self, verb: &str) -> String {
        format!("{verb} container {}", self.id.get(..12).unwrap_or(&self.id))
    }

    async fn request<T, F>(&self, verb: &str, request: impl Fn() -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let action = self.action(verb);
        patiently(self.patience, || async { request().await.map_err(self.engine.failed_to(&action)) }).await
    }

    /// Unpacks an archive into the folder `path`.
    ///
    /// # Errors
    /// When the engine refuses or does not answer.
    pub async fn put(&self, path: &str, archive: Vec<u8>) -> Result<(), EngineError> {
        let archive = Bytes::from(archive);
        let options = UploadToContainerOptions { path: path.to_owned(), ..Default::default() };
        self.request("put files into", || {
            let body = bollard::body_full(archive.clone());
            self.engine.docker().upload_to_container(&self.id, Some(options.clone()), body)
        })
        .await
    }

    /// As [`Container::put`], out of a file.
    ///
    /// # Errors
    /// When the file cannot be opened, the engine refuses or does not answer.
    pub async fn put_file(&self, path: &str, archive: &Path) -> Result<(), EngineError> {
        let options = UploadToContainerOptions { path: path.to_owned(), ..Default::default() };
        self.request("put the workspace into", || async {
            let file = tokio::fs::File::open(archive).await?;
            let body = bollard::body_try_stream(ReaderStream::with_capacity(file, 256 * 1024));
            self.engine.docker().upload_to_container(&self.id, Some(options.clone()), body).await
        })
        .await
    }

    /// Starts it; starting a container that runs is fine.
    ///
    /// # Errors
    /// When the engine refuses (its message says why) or does not answer.
    pub async fn start(&self) -> Result<(), EngineError> {
        self.request("start", || self.engine.docker().start_container(&self.id, None)).await
    }

    /// Looks at it; `size` asks for what it wrote, which costs the engine a walk.
    ///
    /// # Errors
    /// When it is gone (404) or the engine does not answer.
    pub async fn look(&self, size: bool) -> Result<Inspection, EngineError> {
        let options = InspectContainerOptions { size };
        let found =
            self.request("inspect", || self.engine.docker().inspect_container(&self.id, Some(options.clone()))).await?;
        let state = found.state.unwrap_or_default();
        let time = |text: Option<String>| {
            let at = DateTime::parse_from_rfc3339(&text?).ok()?.to_utc();
            // The engine's way to say "never".
            (at.timestamp() > 0).then_some(at)
        };
        Ok(Inspection {
            phase: match state.status {
                Some(ContainerStateStatusEnum::CREATED) => Phase::Created,
                Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => Phase::Ended,
                Some(
                    ContainerStateStatusEnum::RUNNING
                    | ContainerStateStatusEnum::PAUSED
                    | ContainerStateStatusEnum::RESTARTING
                    | ContainerStateStatusEnum::REMOVING
                    | ContainerStateStatusEnum::STOPPING
                    | ContainerStateStatusEnum::EMPTY,
                )
                | None => Phase::Running,
            },
            exit_code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
            started_at: time(state.started_at),
            ended_at: time(state.finished_at),
            written_bytes: found.size_rw.and_then(|bytes| u64::try_from(bytes).ok()),
        })
    }

    /// Its output from second `since` on, with stamps; until it ends, or what is there.
    pub fn log(&self, follow: bool, since: i32) -> impl Stream<Item = Result<LogOutput, ClientError>> + Send + use<> {
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            since,
            timestamps: true,
            tail: "all".to_owned(),
            ..Default::default()
        };
        self.engine.docker().logs(&self.id, Some(options))
    }

    /// Asks it to end, kills it after `grace`. A container that has ended is fine.
    ///
    /// # Errors
    /// When the engine refuses or does not answer.
    pub async fn stop(&self, grace: Duration) -> Result<(), EngineError> {
        // The client gives up after its own timeout, which is longer.
        let seconds = i32::try_from(grace.as_secs().min(120)).unwrap_or(120);
        let options = StopContainerOptions { t: Some(seconds), ..Default::default() };
        self.request("stop", || self.engine.docker().stop_container(&self.id, Some(options.clone()))).await
    }

    /// Sends a signal to its main process.
    ///
    /// # Errors
    /// When it does not run, or the engine does not answer.
    pub async fn signal(&self, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        self.request("signal", || self.engine.docker().kill_container(&self.id, Some(options.clone()))).await
    }

    /// The archive of `path` in it, as it comes. An error of kind `NotFound` says that the path is not there.
    pub fn archive(&self, path: &str) -> impl Stream<Item = std::io::Result<Bytes>> + Send + use<> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let found = self.engine.docker().download_from_container(&self.id, Some(options)).map_err(|error| {
            let missing = matches!(&error, ClientError::DockerResponseServerError { status_code: 404, .. });
            let kind = if missing { std::io::ErrorKind::NotFound } else { std::io::ErrorKind::ConnectionAborted };
            std::io::Error::new(kind, error)
        });
        stream::unfold(Box::pin(found), |mut found| async {
            match tokio::time::timeout(STREAM_SILENCE, found.next()).await {
                Ok(item) => item.map(|item| (item, found)),
                Err(_elapsed) => Some((Err(std::io::ErrorKind::TimedOut.into()), found)),
            }
        })
    }

    /// Removes it and its anonymous volumes, running or not. One that is gone is fine.
    ///
    /// # Errors
    /// When the engine refuses or does not answer.
    pub async fn remove(&self) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match self.request("remove", || self.engine.docker().remove_container(&self.id, Some(options.clone()))).await {
            // Gone, or somebody else is at it.
            Err(EngineError::Answer { status: 404 | 409, .. }) => Ok(()),
            answer => answer,
        }
    }
}
