//! The life of a pass: one container from its creation to its removal, and what it left. A pass whose container is
//! already there (benchd was restarted) is adopted instead of started again.

use std::io;
use std::path::Path;

use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::redact::Redactor;
use crate::step::Step;

use super::collect::{CollectError, unpack};
use super::container::{ContainerSpec, PassRequest, Profile};
use super::docker::{Engine, EngineError};
use super::entry::{Ended, LastWord, last_word};
use super::follow::{Followed, Gaps, Origin, follow};
use super::input;
use super::life::{self, Container, Phase};
use super::network;
use super::outcome::{
    INPUT_FILE, OUTCOME_FILE, PassEnd, PassError, PassEvent, PassNotice, PassOutcome, RESULTS_DIR, Results, SPEC_FILE,
    artifacts_error, gone_error,
};

/// The exit code of a main process that was killed (128 + SIGKILL).
const KILLED: i64 = 137;

/// Runs a pass to its end: adopts its container or makes one, follows it, takes its results, removes it. The log, the
/// results and what is needed to repeat it lie in the request's `artifacts`.
///
/// `cancel` stops and removes the container. When the returned future is dropped, or the process dies, the container
/// goes on, and the same call adopts it later.
///
/// # Errors
/// When there is no outcome; the container is removed then, unless the engine is away.
pub async fn run_pass(
    engine: &Engine,
    clock: &Clock,
    request: &PassRequest,
    events: &(dyn Fn(PassEvent<'_>) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<PassOutcome, PassError> {
    let spec = ContainerSpec::of(request)?;
    if let Some(outcome) = resume(engine, clock, request, events, cancel).await? {
        return Ok(outcome);
    }
    let begun = async {
        let input = input::archive(request).map_err(artifacts_error(&request.artifacts))?;
        Step::KeepInput.take(keep(&request.artifacts, &spec, &input)).await?;
        match &request.profile {
            Profile::Trusted => {}
            Profile::Untrusted { network } => network::ensure_untrusted(engine, network).await?,
        }
        let patience = request.limits.engine_patience;
        let made = Step::CreateContainer.take(Container::create(engine, &spec, &request.secrets, patience)).await;
        let container = made.map_err(|error| create_error(error, &spec.image))?;
        match fill_and_start(&container, request, input).await {
            Ok(()) => Ok(container),
            Err(error) => {
                remove(&container).await;
                Err(error)
            }
        }
    };
    let mut begun = Box::pin(begun);
    let container = tokio::select! {
        begun = &mut begun => begun?,
        () = cancel.cancelled() => {
            // A request that is broken off may make a container later, when nobody looks for it any more.
            let patience = request.limits.stop_grace;
            let _made_or_failed = tokio::time::timeout(patience, begun).await;
            if let Some(container) = life::find(engine, request.id, patience).await? {
                container.remove().await?;
            }
            return Err(PassError::Cancelled);
        }
    };
    events(PassEvent::Started);
    finish(container, Origin::Started, clock, request, events, cancel).await
}

/// Goes on with a pass that an earlier benchd began: takes the outcome that it kept, follows the container that it
/// started, or collects it if it ended meanwhile; `None` when there is neither. A container that was made and never
/// started is removed. Neither the request's image nor its workspace is needed.
///
/// # Errors
/// As [`run_pass`].
pub async fn resume(
    engine: &Engine,
    clock: &Clock,
    request: &PassRequest,
    events: &(dyn Fn(PassEvent<'_>) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<Option<PassOutcome>, PassError> {
    if let Some(outcome) = kept_outcome(&request.artifacts).await? {
        // benchd died between the end of the pass and the note of it.
        if let Some(container) = life::find(engine, request.id, request.limits.engine_patience).await? {
            container.remove().await?;
        }
        return Ok(Some(outcome));
    }
    let Some(container) = life::find(engine, request.id, request.limits.engine_patience).await? else {
        return Ok(None);
    };
    match container.look(false).await?.phase {
        Phase::Created => {
            container.remove().await?;
            Ok(None)
        }
        Phase::Running | Phase::Ended => {
            events(PassEvent::Adopted);
            finish(container, Origin::Adopted, clock, request, events, cancel).await.map(Some)
        }
    }
}

async fn keep(artifacts: &Path, spec: &ContainerSpec, input: &[u8]) -> Result<(), PassError> {
    let write = async |name: &str, bytes: &[u8]| {
        let path = artifacts.join(name);
        tokio::fs::write(&path, bytes).await.map_err(artifacts_error(&path))
    };
    tokio::fs::create_dir_all(artifacts).await.map_err(artifacts_error(artifacts))?;
    let json = serde_json::to_vec_pretty(spec).map_err(|e| artifacts_error(artifacts)(e.into()))?;
    write(SPEC_FILE, &json).await?;
    write(INPUT_FILE, input).await
}

/// Writes down how a pass ended, before its container and with it the only other witness is removed.
async fn keep_outcome(artifacts: &Path, outcome: &PassOutcome) -> Result<(), PassError> {
    let path = artifacts.join(OUTCOME_FILE);
    let partial = artifacts.join(format!("{OUTCOME_FILE}.partial"));
    let json = serde_json::to_vec_pretty(outcome).map_err(|e| artifacts_error(&path)(e.into()))?;
    tokio::fs::write(&partial, json).await.map_err(artifacts_error(&partial))?;
    tokio::fs::rename(&partial, &path).await.map_err(artifacts_error(&path))
}

/// How the pass ended, if that was written down before.
async fn kept_outcome(artifacts: &Path) -> Result<Option<PassOutcome>, PassError> {
    let path = artifacts.join(OUTCOME_FILE);
    match tokio::fs::read(&path).await {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|e| artifacts_error(&path)(e.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(artifacts_error(&path)(error)),
    }
}

fn create_error(error: EngineError, image: &str) -> PassError {
    let missing = matches!(&error, EngineError::Answer { status: 404, message, .. }
        if message.to_ascii_lowercase().contains("image"));
    if missing { PassError::ImageRemoved { image: image.to_owned() } } else { PassError::Engine(error) }
}

async fn fill_and_start(container: &Container, request: &PassRequest, input: Vec<u8>) -> Result<(), PassError> {
    if let Some(workspace) = &request.workspace {
        container.put_file(&request.suite.workdir, workspace).await?;
    }
    Step::FillContainer.take(container.put("/", input)).await?;
    Step::StartContainer.take(container.start()).await.map_err(|error| match &error {
        EngineError::Answer { message, .. } => PassError::Start { message: message.clone() },
        EngineError::NotRunning { .. }
        | EngineError::PermissionDenied { .. }
        | EngineError::Refused { .. }
        | EngineError::Lost { .. }
        | EngineError::TimedOut { .. }
        | EngineError::UnsupportedHost { .. }
        | EngineError::TooOld { .. }
        | EngineError::InStream { .. }
        | EngineError::Client { .. } => PassError::Engine(error),
    })
}

/// Removes a container whose pass failed; the error that is already on its way says more than this one.
async fn remove(container: &Container) {
    if let Err(error) = container.remove().await {
        tracing::warn!(container.id = container.id(), error = %error, "failed to remove the container");
    }
}

async fn finish(
    container: Container,
    origin: Origin,
    clock: &Clock,
    request: &PassRequest,
    events: &(dyn Fn(PassEvent<'_>) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<PassOutcome, PassError> {
    // On the heap: whoever runs a pass holds this for hours inside futures of its own.
    let outcome = Box::pin(follow_and_collect(&container, origin, clock, request, events, cancel)).await;
    match outcome {
        Ok(outcome) => {
            Step::KeepOutcome.take(keep_outcome(&request.artifacts, &outcome)).await?;
            Step::RemoveContainer.take(container.remove()).await?;
            Ok(outcome)
        }
        Err(error @ PassError::Cancelled) => {
            // Nobody waits long for an engine that is away.
            remove(&container.with_patience(request.limits.stop_grace)).await;
            Err(error)
        }
        Err(error) => {
            remove(&container).await;
            Err(error)
        }
    }
}

async fn follow_and_collect(
    container: &Container,
    origin: Origin,
    clock: &Clock,
    request: &PassRequest,
    events: &(dyn Fn(PassEvent<'_>) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<PassOutcome, PassError> {
    let followed = follow(container, origin, clock, request, events, cancel).await?;
    let Followed { inspection, stopped, points, log, gaps, mut notices } = followed;
    let mut out_of_memory = inspection.out_of_memory;
    let end = match stopped {
        Some(end) => end,
        None => {
            let word = last_word(container).await;
            out_of_memory |= word.oom_kills > 0;
            let code = inspection.exit_code;
            if code == KILLED && word.ended.is_none() && !out_of_memory && gaps == Gaps::Possible {
                notices.push(PassNotice::MemoryUnknown);
            }
            ended(out_of_memory, code, &word)
        }
    };
    let results = match &end {
        PassEnd::Cancelled => Results::None,
        PassEnd::SuiteEnded { .. }
        | PassEnd::SuiteMissing
        | PassEnd::PrepareFailed { .. }
        | PassEnd::OutOfMemory
        | PassEnd::TimedOut(_)
        | PassEnd::DiskLimit => collect(container, request).await?,
    };
    let now = clock.now();
    let by_itself = !matches!(end, PassEnd::Cancelled | PassEnd::TimedOut(_) | PassEnd::DiskLimit);
    Ok(PassOutcome {
        exit_code: by_itself.then_some(inspection.exit_code),
        end,
        out_of_memory,
        started_at: inspection.started_at.unwrap_or(now),
        ended_at: inspection.ended_at.unwrap_or(now),
        log,
        results,
        points,
        notices,
    })
}

/// How a container ended that nobody stopped: by what the kernel and the entry script say, and by its exit code when
/// the script had no time to say anything.
fn ended(out_of_memory: bool, code: i64, word: &LastWord) -> PassEnd {
    match word.ended {
        _ if out_of_memory => PassEnd::OutOfMemory,
        Some(Ended::SuiteMissing) => PassEnd::SuiteMissing,
        Some(Ended::Prepare) => PassEnd::PrepareFailed { code },
        Some(Ended::Suite) | None => PassEnd::SuiteEnded { code },
    }
}

/// Takes the results out; again from the start when the engine went away in the middle.
async fn collect(container: &Container, request: &PassRequest) -> Result<Results, PassError> {
    let suite = &request.suite;
    let path = Path::new(&suite.workdir).join(&suite.results_dir);
    let target = request.artifacts.join(RESULTS_DIR);
    let partial = request.artifacts.join(format!("{RESULTS_DIR}.partial"));
    let cap_bytes = request.limits.results_bytes;
    let until = tokio::time::Instant::now() + request.limits.engine_patience;
    loop {
        for dir in [&partial, &target] {
            match tokio::fs::remove_dir_all(dir).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(artifacts_error(dir)(error)),
                Ok(()) | Err(_) => {}
            }
        }
        // Waits for an engine that is away.
        container.look(false).await.map_err(|error| gone_error(error, request))?;
        let stream = Box::pin(container.archive(&path.display().to_string()));
        let reader = SyncIoBridge::new(StreamReader::new(stream));
        let into = partial.clone();
        let redactor = Redactor::new(request.secrets.values());
        let unpacked = tokio::task::spawn_blocking(move || unpack(reader, &into, cap_bytes, &redactor)).await;
        let results = match unpacked.map_err(|error| artifacts_error(&partial)(io::Error::other(error)))? {
            Ok(taken) if taken.files == 0 && taken.problems.is_empty() => Results::None,
            Ok(taken) => Results::Taken(taken),
            Err(CollectError::TooLarge { cap_bytes, .. }) => Results::TooLarge { cap_bytes },
            Err(CollectError::Read(error)) if error.kind() == io::ErrorKind::NotFound => Results::None,
            Err(CollectError::Read(_)) if tokio::time::Instant::now() < until => continue,
            Err(error) => return Err(PassError::Results(error)),
        };
        Step::TakeResults.take(tokio::fs::rename(&partial, &target)).await.map_err(artifacts_error(&target))?;
        return Ok(results);
    }
}
