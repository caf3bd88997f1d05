//! Removes images that benchd itself pulled, when there are too many or the engine's disk runs low. What others
//! pulled, built or tagged is never touched.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bollard::query_parameters::{ListContainersOptions, RemoveImageOptions};

use super::ImageError;
use crate::executor::docker::{Engine, EngineError};
use crate::executor::room::disk_room;
use crate::registry::ImageReference;

/// An image that benchd pulled, as recorded when it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledImage {
    /// By digest, as pulled: removing takes away this name and, if it has no other, the image.
    pub reference: String,
    /// The engine's id.
    pub id: String,
    /// Size on the engine's disk in bytes.
    pub size_bytes: u64,
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Gone; also those that were gone before. To be taken off the record.
    pub removed: Vec<PulledImage>,
    /// Tagged by somebody since: theirs now, left alone. To be taken off the record.
    pub released: Vec<PulledImage>,
}

/// Of `ours`, ordered from the one used last to the one used longest ago, keeps `keep` of each repository; the others
/// go, and more of the oldest while the engine's disk has less than `min_free_bytes` (known only of an engine on this
/// host). The one used last always stays, and so does every image that a container uses. Leave out of `ours` what is
/// about to be used.
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
    let surplus = surplus(ours, keep);
    for (at, image) in ours.iter().enumerate().rev() {
        let needs_room = || root.as_deref().is_some_and(|root| runs_low(root, min_free_bytes));
        let goes = surplus.contains(&at) || (at > 0 && needs_room());
        if !goes || used.contains(&image.id) {
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

/// Positions of the images beyond the first `keep` of their repository. The very first is never among them.
fn surplus(ours: &[PulledImage], keep: usize) -> HashSet<usize> {
    let mut kept: HashMap<String, usize> = HashMap::new();
    let mut surplus = HashSet::new();
    for (at, image) in ours.iter().enumerate() {
        let parsed = image.reference.parse::<ImageReference>();
        let count = kept.entry(parsed.map_or_else(|_| image.reference.clone(), |r| r.name())).or_default();
        *count += 1;
        if *count > keep && at > 0 {
            surplus.insert(at);
        }
    }
    surplus
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
        Ok(seen) if seen.id.as_ref() != Some(&image.id) => return Ok(Removal::Theirs),
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
    use super::*;

    #[test]
    fn the_oldest_beyond_the_wanted_number_of_each_repository_go() {
        let image = |name: &str, n: usize| PulledImage {
            reference: format!("r.example/{name}@sha256:{n:064}"),
            id: n.to_string(),
            size_bytes: 1,
        };
        let ours = [image("a", 0), image("b", 1), image("a", 2), image("a", 3), image("b", 4)];
        let sorted = |keep| {
            let mut positions: Vec<_> = surplus(&ours, keep).into_iter().collect();
            positions.sort_unstable();
            positions
        };
        assert_eq!(sorted(5), Vec::<usize>::new());
        assert_eq!(sorted(2), [3]);
        assert_eq!(sorted(1), [2, 3, 4]);
        assert_eq!(sorted(0), [1, 2, 3, 4], "the one used last stays");
    }
}
