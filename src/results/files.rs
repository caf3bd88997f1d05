//! Finds and reads the files of a results directory. They come out of a container that ran anybody's code: links,
//! devices and pipes are not followed, and sizes are bounded.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::limits::{is_name, shown};

/// Larger result files are not read, in bytes: the suites' own stay below a few MiB, and what is read takes up to 16
/// times as much memory.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, device, pipe or socket.
    Other,
    /// Something whose name no program of good will gives.
    BadName,
}

/// One entry of the directory.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name; bytes that are no text are replaced, control characters escaped.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// The entries directly in `dir` that end in `.json` or `.commands`, without dot-files, sorted by name.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let wanted = name.ends_with(".json") || name.ends_with(".commands");
        if name.starts_with('.') || !wanted {
            continue;
        }
        let kind = entry.file_type()?;
        let kind = if !is_name(&name) {
            Kind::BadName
        } else if kind.is_file() {
            Kind::File
        } else if kind.is_dir() {
            Kind::Directory
        } else {
            Kind::Other
        };
        found.push(Entry { name: shown(&name), path: entry.path(), kind });
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What came of reading a file.
pub(super) enum Content {
    /// Its bytes are in the buffer.
    Read,
    /// It is larger than [`MAX_FILE_BYTES`].
    TooLarge,
}

/// Reads a file into `buffer`, which is used again for every file.
pub(super) fn read(path: &Path, buffer: &mut Vec<u8>) -> io::Result<Content> {
    buffer.clear();
    let read = fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(buffer)?;
    Ok(if u64::try_from(read).unwrap_or(u64::MAX) > MAX_FILE_BYTES { Content::TooLarge } else { Content::Read })
}
