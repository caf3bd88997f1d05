//! From a reference to an image that the engine can run: what the engine has, else what the registry has now, pulled
//! by exactly that digest. Pruning of what was pulled stands in [`prune`].

mod error;
mod progress;
mod prune;
mod pull;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

pub use error::ImageError;
pub use progress::PullProgress;
pub use prune::{Pruned, prune};
pub use pull::{PULL_IDLE_TIMEOUT, pull};

use crate::config::PullPolicy;
use crate::executor::docker::Engine;
use crate::registry::{Digest, ImageReference, Presence, Registry};
use crate::step::Step;
use crate::store::PulledImage;

/// An image that the registry had when it was asked: what is run is this digest, whatever the tag says later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// As asked for.
    pub reference: ImageReference,
    /// What it was.
    pub digest: Digest,
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyImage {
    /// As asked for.
    pub reference: ImageReference,
    /// What the registry calls it; `None` for an image that was never in one.
    pub digest: Option<Digest>,
    /// What the engine calls it: containers are created from this, so that no tag can move in between.
    pub id: String,
    /// Its size on the engine's disk, in bytes, layers shared with other images included.
    pub size_bytes: u64,
    /// Its labels, among them where it came from (`org.opencontainers.image.revision` ..).
    pub labels: BTreeMap<String, String>,
    /// How it came here.
    pub origin: Origin,
}

/// How an image came to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there before.
    Found,
    /// benchd pulled it, and may prune it.
    Pulled,
}

/// Where an image is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The engine has it.
    InEngine(ReadyImage),
    /// The registry has it, for this host's architecture.
    InRegistry(ResolvedImage),
}

impl ReadyImage {
    /// The reference that names exactly this image for other hosts too, where there is one; for records and `docker run`.
    pub fn exact(&self) -> ImageReference {
        self.digest.as_ref().map_or_else(|| self.reference.clone(), |digest| self.reference.pinned(digest))
    }

    /// What to record, so that it can be pruned later; `None` when it is not benchd's to prune.
    pub fn pulled(&self, now: DateTime<Utc>) -> Option<PulledImage> {
        match self.origin {
            Origin::Found => None,
            Origin::Pulled => Some(PulledImage {
                image_id: self.id.clone(),
                reference: self.exact().to_string(),
                digest: self.digest.as_ref().map(ToString::to_string),
                size_bytes: self.size_bytes,
                last_used_at: now,
            }),
        }
    }
}

impl ResolvedImage {
    /// The reference by digest.
    pub fn pinned(&self) -> ImageReference {
        self.reference.pinned(&self.digest)
    }
}

/// Finds out where `reference` is to be had. `always` asks the registry what the tag means now, `if-missing` only when
/// the engine does not know the reference, `never` does not ask it at all.
///
/// # Errors
/// [`ImageError::Missing`] only when the registry said so; an image for another architecture is refused here, before
/// it is pulled.
pub async fn resolve(
    engine: &Engine,
    registry: &Registry,
    reference: &ImageReference,
    policy: PullPolicy,
) -> Result<Resolution, ImageError> {
    match policy {
        PullPolicy::Always => {}
        PullPolicy::IfMissing => {
            if let Some(found) = in_engine(engine, reference, reference).await? {
                return Ok(Resolution::InEngine(found));
            }
        }
        PullPolicy::Never => {
            let found = in_engine(engine, reference, reference).await?;
            return found
                .map(Resolution::InEngine)
                .ok_or_else(|| ImageError::NotInEngine { reference: reference.to_string() });
        }
    }
    let digest = match registry.look_up(reference).await? {
        Presence::Present { digest } => digest,
        Presence::Absent => return Err(ImageError::Missing { reference: reference.to_string() }),
    };
    resolve_found(engine, registry, ResolvedImage { reference: reference.clone(), digest }).await
}

/// As [`resolve`] of an image that the registry was already asked about, when its commit was picked: whatever the tag
/// means by now, it is this digest.
///
/// # Errors
/// As [`resolve`]; [`ImageError::DigestGone`] when the registry has it no more.
pub async fn resolve_found(
    engine: &Engine,
    registry: &Registry,
    resolved: ResolvedImage,
) -> Result<Resolution, ImageError> {
    let reference = &resolved.reference;
    if let Some(found) = in_engine(engine, reference, &resolved.pinned()).await? {
        return Ok(Resolution::InEngine(found));
    }
    match registry.platforms(&resolved.pinned()).await? {
        Some(platforms) => {
            let wanted = format!("linux/{}", engine.architecture());
            if !platforms.contains(&wanted) {
                return Err(ImageError::WrongArchitecture { reference: reference.to_string(), wanted, has: platforms });
            }
        }
        None => return Err(ImageError::DigestGone { reference: resolved.pinned().to_string() }),
    }
    Ok(Resolution::InRegistry(resolved))
}

/// Resolves `reference` and pulls it if need be. When its digest vanished in between (the tag was pushed again and
/// the old manifest deleted), it is resolved once more.
///
/// # Errors
/// As [`resolve`] and [`pull`].
pub async fn obtain(
    engine: &Engine,
    registry: &Registry,
    reference: &ImageReference,
    policy: PullPolicy,
    progress: &watch::Sender<PullProgress>,
) -> Result<ReadyImage, ImageError> {
    match obtain_once(engine, registry, reference, policy, progress).await {
        Err(ImageError::DigestGone { reference: gone }) => {
            tracing::warn!(image = %gone, "the image vanished from the registry before it was pulled, resolving again");
            obtain_once(engine, registry, reference, policy, progress).await
        }
        other => other,
    }
}

async fn obtain_once(
    engine: &Engine,
    registry: &Registry,
    reference: &ImageReference,
    policy: PullPolicy,
    progress: &watch::Sender<PullProgress>,
) -> Result<ReadyImage, ImageError> {
    match resolve(engine, registry, reference, policy).await? {
        Resolution::InEngine(ready) => Ok(ready),
        Resolution::InRegistry(resolved) => {
            let pulling = pull(engine, registry, &resolved, progress, PULL_IDLE_TIMEOUT);
            Step::PullImage.take(Box::pin(pulling)).await
        }
    }
}

/// The image that the engine knows as `name`, if it has it, for whoever asked for `reference`.
async fn in_engine(
    engine: &Engine,
    reference: &ImageReference,
    name: &ImageReference,
) -> Result<Option<ReadyImage>, ImageError> {
    let failed = engine.failed_to(format!("look at the image {name}"));
    let seen = match engine.docker().inspect_image(&name.to_string()).await.map_err(failed) {
        Ok(seen) => seen,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let has = seen.architecture.unwrap_or_default();
    if !has.is_empty() && has != engine.architecture() {
        return Err(ImageError::WrongArchitecture {
            reference: reference.to_string(),
            wanted: format!("linux/{}", engine.architecture()),
            has: vec![format!("{}/{has}", seen.os.unwrap_or_default())],
        });
    }
    let digests = seen.repo_digests.unwrap_or_default();
    let own = digests.iter().filter_map(|digest| digest.parse::<ImageReference>().ok());
    let digest = own.filter(|known| known.name() == reference.name()).find_map(|known| known.digest().cloned());
    Ok(Some(ReadyImage {
        reference: reference.clone(),
        digest: name.digest().cloned().or(digest),
        id: seen.id.unwrap_or_default(),
        size_bytes: seen.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        labels: seen.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect(),
        origin: Origin::Found,
    }))
}
