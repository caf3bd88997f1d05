//! A run once more, as a person asks for it: the same commit and jobs as a new run, once for each key of its sender.

use serde_json::json;

use super::Context;
use super::key::{InvalidKey, Key, Known};
use crate::model::RunId;
use crate::queue::Rerun;
use crate::step::Step;
use crate::store::{KeyedRequest, StoreError};

/// What became of the wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Again {
    /// A new run.
    Run(RunId),
    /// The run that the same request started before.
    Existing(RunId),
    /// The run was imported: nobody here knows how it was measured.
    Imported,
    /// There is no such run.
    Unknown,
}

/// Why a run is not measured once more.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// The key cannot be one.
    #[error("`Idempotency-Key` {0}")]
    Key(#[from] InvalidKey),
    /// The key stands for another request.
    #[error("the same `Idempotency-Key` came with another request, which started run {run}")]
    Conflict {
        /// Its run.
        run: RunId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Measures the commit of the run `of` once more.
///
/// # Errors
/// When the key cannot be one or stands for another request; when the store fails.
pub async fn rerun(context: &Context, of: RunId, idempotency_key: Option<&str>) -> Result<Again, AgainError> {
    let key = idempotency_key.map(|text| Key::of(text, &json!({"rerun": of}))).transpose()?;
    let mut write = context.store.write(Step::RerunRun).await?;
    if let Some(key) = &key {
        match key.known(write.keyed_request(&key.text).await?) {
            Known::Nothing => {}
            Known::Run(run) => return Ok(Again::Existing(run)),
            Known::Other(run) => return Err(AgainError::Conflict { run }),
        }
    }
    let run = match context.queue.rerun_within(&mut write, of).await? {
        Rerun::Run { run } => run,
        Rerun::Imported => return Ok(Again::Imported),
        Rerun::Unknown => return Ok(Again::Unknown),
    };
    if let Some(Key { text, fingerprint }) = key {
        write.record_keyed_request(&text, &KeyedRequest { fingerprint, run }, context.clock.now()).await?;
    }
    write.commit().await?;
    Ok(Again::Run(run))
}
