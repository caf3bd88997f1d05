//! Room on disks: asked before a run, so that a full model cache is told before hours are spent.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::human;

/// Free and total room of the file system under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes that an ordinary user can still write.
    pub free_bytes: u64,
    /// Size of the file system in bytes.
    pub total_bytes: u64,
}

/// The room of a path could not be told.
#[derive(Debug, thiserror::Error)]
#[error("failed to tell the free room of {path}")]
pub struct RoomError {
    path: PathBuf,
    source: std::io::Error,
}

/// Whether the model cache has room for what a run may download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheRoom {
    /// At least the wanted room is free.
    Enough(DiskRoom),
    /// Less is free: downloads may fail in the middle of a run.
    Low {
        /// The cache's folder.
        path: PathBuf,
        /// What is there.
        room: DiskRoom,
        /// What is wanted.
        min_free_bytes: u64,
    },
}

/// The room of the file system under `path`.
///
/// # Errors
/// When the path does not exist or may not be looked at.
pub fn disk_room(path: &Path) -> Result<DiskRoom, RoomError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|error| RoomError { path: path.to_owned(), source: std::io::Error::from(error) })?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(DiskRoom { free_bytes: bytes(stat.f_bavail), total_bytes: bytes(stat.f_blocks) })
}

/// Whether the model cache at `path` has `min_free_bytes` of room.
///
/// # Errors
/// As [`disk_room`].
pub fn cache_room(path: &Path, min_free_bytes: u64) -> Result<CacheRoom, RoomError> {
    let room = disk_room(path)?;
    Ok(match room.free_bytes < min_free_bytes {
        true => CacheRoom::Low { path: path.to_owned(), room, min_free_bytes },
        false => CacheRoom::Enough(room),
    })
}

impl fmt::Display for CacheRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enough(room) => write!(f, "{} free of {}", human(room.free_bytes), human(room.total_bytes)),
            Self::Low { path, room, min_free_bytes } => write!(
                f,
                "the model cache {} has {} free of {}, less than the {} wanted (execution.cache.min_free): remove \
                 models or give it a larger disk",
                path.display(),
                human(room.free_bytes),
                human(room.total_bytes),
                human(*min_free_bytes)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_without_room_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let room = disk_room(dir.path()).unwrap();
        assert!(room.free_bytes > 0 && room.total_bytes >= room.free_bytes);
        let low = cache_room(dir.path(), u64::MAX).unwrap();
        assert!(low.to_string().contains(&dir.path().display().to_string()), "{low}");
        assert!(matches!(cache_room(dir.path(), 0).unwrap(), CacheRoom::Enough(_)));
        let error = disk_room(Path::new("/nonexistent/cache")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/cache"), "{error}");
    }
}
