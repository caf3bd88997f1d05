//! Removes images that benchd itself pulled, when there are too many or the engine's disk runs low. What others
//! pulled, built or tagged is never touched.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::ImageError;
use crate::executor::docker::{Engine, EngineError};
use crate::executor::room::disk_room;
use crate::registry::ImageReference;
use crate::store::PulledImage;
use bollard::query_parameters::{ListContainersOptions, RemoveImageOptions};

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Gone; also those that were gone before. To be taken off the record.
    pub removed: Vec<PulledImage>,
    /// Tagged by somebody since: theirs now, left alone. To be taken off the record.
    pub released: Vec<PulledImage>,
}

/// Of `ours` the `keep` used last stay for each repository; the others go, and more of those used longest ago while the
/// engine's disk has less than `min_free_bytes` (known only of an engine on this host). The one used last of all always
/// stays, and so does every image that a container uses. Leave out of `ours` what is about to be used.
///
/// # Errors
/// When the engine does not answer; what was removed before is gone all the same.
pub async fn prune(
    engine: &Engine,
    ours: &[PulledImage],
    keep: usize,
    min_free_bytes: u64,
) -> Result<Pruned, ImageError> {
    let mut pruned = Pruned::default();
    if ours.is_empty() {
        return Ok(pruned);
    }
    let used = images_in_use(engine).await?;
    let root = local_root(engine).await?;
    for (image, rank) in ranked(ours) {
        let needs_room = || root.as_deref().is_some_and(|root| runs_low(root, min_free_bytes));
        let goes = match rank {
            Rank::Last => false,
            Rank::Number(number) => number > keep || needs_room(),
        };
        if !goes || used.contains(&image.image_id) {
            continue;
        }
        match remove(engine, image).await? {
            Removal::Gone => pruned.removed.push(image.clone()),
            Removal::Theirs => pruned.released.push(image.clone()),
            Removal::Used => {}
        }
    }
    Ok(pruned)
}

/// How recently an image was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Last of all.
    Last,
    /// As this one of its repository, counted from 1.
    Number(usize),
}

/// The images with their ranks, the one used longest ago first.
fn ranked(ours: &[PulledImage]) -> Vec<(&PulledImage, Rank)> {
    let mut newest_first: Vec<_> = ours.iter().collect();
    newest_first.sort_by_key(|image| std::cmp::Reverse(image.last_used_at));
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut ranked = Vec::with_capacity(ours.len());
    for image in newest_first {
        let name = image.reference.parse().map_or_else(|_| image.reference.clone(), |r: ImageReference| r.name());
        let count = counts.entry(name).or_default();
        *count += 1;
        ranked.push((image, if ranked.is_empty() { Rank::Last } else { Rank::Number(*count) }));
    }
    ranked.reverse();
    ranked
}

enum Removal {
    Gone,
    Theirs,
    Used,
}

async fn remove(engine: &Engine, image: &PulledImage) -> Result<Removal, ImageError> {
    let docker = engine.docker();
    match docker.inspect_image(&image.reference).await.map_err(engine.failed_to("look at an image")) {
        Ok(seen) if seen.repo_tags.as_ref().is_some_and(|tags| !tags.is_empty()) => return Ok(Removal::Theirs),
        Ok(seen) if seen.id.as_ref() != Some(&image.image_id) => return Ok(Removal::Theirs),
        Ok(_) => {}
        Err(error) if error.is_not_found() => return Ok(Removal::Gone),
        Err(error) => return Err(error.into()),
    }
    let failed = engine.failed_to(format!("remove the image {}", image.reference));
    match docker.remove_image(&image.reference, None::<RemoveImageOptions>, None).await.map_err(failed) {
        Ok(_) => Ok(Removal::Gone),
        Err(error) if error.is_not_found() => Ok(Removal::Gone),
        // A container began to use it in between.
        Err(EngineError::Answer { status: 409, .. }) => Ok(Removal::Used),
        Err(error) => Err(error.into()),
    }
}

async fn images_in_use(engine: &Engine) -> Result<HashSet<String>, ImageError> {
    let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
    let failed = engine.failed_to("list containers");
    let containers = engine.docker().list_containers(Some(all)).await.map_err(failed)?;
    Ok(containers.into_iter().filter_map(|container| container.image_id).collect())
}

/// The folder of the engine's images, where the engine runs on this host.
async fn local_root(engine: &Engine) -> Result<Option<String>, ImageError> {
    if !engine.host().starts_with("unix://") {
        return Ok(None);
    }
    let info = engine.docker().info().await.map_err(engine.failed_to("ask where its images are"))?;
    Ok(info.docker_root_dir)
}

/// Whether the disk has less room than wanted. A disk that cannot be asked (an engine behind a forwarded socket, a
/// folder of root's) does not.
fn runs_low(root: &str, min_free_bytes: u64) -> bool {
    match disk_room(Path::new(root)) {
        Ok(room) => room.free_bytes < min_free_bytes,
        Err(error) => {
            tracing::debug!(%error, "free room of the engine's disk is unknown");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn images_are_ranked_by_use_within_their_repository() {
        let image = |name: &str, second: i64| PulledImage {
            image_id: second.to_string(),
            reference: format!("r.example/{name}@sha256:{second:064}"),
            digest: None,
            size_bytes: 1,
            last_used_at: DateTime::from_timestamp(second, 0).unwrap(),
        };
        let ours = [image("a", 50), image("b", 10), image("a", 20), image("b", 40), image("a", 30)];
        let ranks: Vec<_> = ranked(&ours).into_iter().map(|(image, rank)| (image.image_id.as_str(), rank)).collect();
        let expected = [
            ("10", Rank::Number(2)),
            ("20", Rank::Number(3)),
            ("30", Rank::Number(2)),
            ("40", Rank::Number(1)),
            ("50", Rank::Last),
        ];
        assert_eq!(ranks, expected);
    }
}
