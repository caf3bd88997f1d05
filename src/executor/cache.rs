//! The host's model cache: whether there is one, and whether a model is in it.

use std::path::{Path, PathBuf};

use super::container::ModelCache;

/// The cache that a trusted pass gets: the host's when the folder is there, otherwise `private`, which is filled by
/// downloading whatever `online` says.
pub fn choose(host: &Path, private: PathBuf, online: bool) -> ModelCache {
    if host.is_dir() { ModelCache::Host { dir: host.to_owned(), online } } else { ModelCache::Private { dir: private } }
}

/// Whether a model can be had without a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The cache holds a snapshot of it.
    Cached,
    /// It does not.
    Missing,
}

/// Looks for `model` (`organisation/name`) below `cache` in the layout of the Hugging Face hub:
/// `hub/models--ORGANISATION--NAME/snapshots/REVISION/`. An absolute path names a folder of the image and needs no cache.
///
/// # Errors
/// When the cache is there and cannot be read: that is not "missing".
pub fn model_in_cache(cache: &Path, model: &str) -> std::io::Result<Presence> {
    if model.starts_with('/') {
        return Ok(Presence::Cached);
    }
    if model.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Ok(Presence::Missing);
    }
    let folder = format!("models--{}", model.replace('/', "--"));
    let Some(found) = same_but_for_case(&cache.join("hub"), &folder)? else { return Ok(Presence::Missing) };
    for snapshot in list(&found.join("snapshots"))? {
        if !list(&snapshot)?.is_empty() {
            return Ok(Presence::Cached);
        }
    }
    Ok(Presence::Missing)
}

/// Plans fold the case of model names, the hub's folders keep it.
fn same_but_for_case(dir: &Path, name: &str) -> std::io::Result<Option<PathBuf>> {
    let same = |path: &PathBuf| path.file_name().is_some_and(|n| n.eq_ignore_ascii_case(name));
    Ok(list(dir)?.into_iter().find(same))
}

fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect(),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_needs_a_snapshot_with_files() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path();
        let snapshot = cache.join("hub/models--meta-llama--Llama-3.1-8B/snapshots/abc");
        assert_eq!(model_in_cache(cache, "meta-llama/Llama-3.1-8B").unwrap(), Presence::Missing);
        std::fs::create_dir_all(&snapshot).unwrap();
        assert_eq!(model_in_cache(cache, "meta-llama/Llama-3.1-8B").unwrap(), Presence::Missing);
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        for (model, presence) in [
            ("meta-llama/Llama-3.1-8B", Presence::Cached),
            ("meta-llama/llama-3.1-8b", Presence::Cached),
            ("meta-llama/Llama-3.1-70B", Presence::Missing),
            ("../hub", Presence::Missing),
            ("/models/local", Presence::Cached),
        ] {
            assert_eq!(model_in_cache(cache, model).unwrap(), presence, "{model}");
        }
    }

    #[test]
    fn without_a_folder_the_cache_is_private_and_online() {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("private");
        assert_eq!(
            choose(dir.path(), private.clone(), false),
            ModelCache::Host { dir: dir.path().to_owned(), online: false }
        );
        assert_eq!(choose(&dir.path().join("absent"), private.clone(), false), ModelCache::Private { dir: private });
    }
}
