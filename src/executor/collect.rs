//! Unpacks what a container left in its results folder. The archive comes from measured code and is not trusted: only
//! plain files and folders are taken, never outside of the target, up to a size.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::redact::Redactor;

/// More entries than this are not results.
const MAX_ENTRIES: usize = 20_000;
/// Unit of the archive's length, and the zeros at its end (POSIX ustar).
const BLOCK: u64 = 512;
const END_OF_ARCHIVE: u64 = 2 * BLOCK;
/// How deep folders may lie in each other.
const MAX_DEPTH: usize = 16;

/// What was taken, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Files written.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What was left behind or renamed.
    pub problems: Vec<ResultsProblem>,
}

/// Something in the results folder that is no plain file with a plain name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ResultsProblem {
    /// A link, a device, a socket: not taken.
    #[error("{path}: {what}, not taken")]
    NotAFile {
        /// Its path, bytes that are no plain text percent-encoded.
        path: String,
        /// What it is.
        what: String,
    },
    /// A path that would reach out of the folder: not taken.
    #[error("{path}: reaches out of the results folder, not taken")]
    Outside {
        /// The path.
        path: String,
    },
    /// A name that is not UTF-8 or holds control characters: taken under another one.
    #[error("{path}: its name is no plain text, taken under this one")]
    Renamed {
        /// The new path.
        path: String,
    },
    /// A file that could not be written here (name too long, same name twice): not taken.
    #[error("{path}: not taken: {reason}")]
    Refused {
        /// Its path.
        path: String,
        /// What the file system said.
        reason: String,
    },
}

/// Why the results could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// More than the cap.
    #[error("the results are larger than {cap_bytes} bytes or more than {MAX_ENTRIES} files")]
    TooLarge {
        /// The cap.
        cap_bytes: u64,
        /// What was taken until then.
        taken: Taken,
    },
    /// The stream failed or ended before the archive did: the engine went away, and asking again may help.
    #[error("failed to read the archive of the results")]
    Read(#[source] io::Error),
    /// The disk here refused a file.
    #[error("failed to write {path}", path = path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// Unpacks the archive that `reader` yields into `target` (made here, empty before), without the first component of
/// its paths, at most `cap_bytes`, and with the secrets that `redactor` knows masked in every file.
///
/// # Errors
/// See [`CollectError`]. What was written until then stays.
pub fn unpack(reader: impl Read, target: &Path, cap_bytes: u64, redactor: &Redactor) -> Result<Taken, CollectError> {
    fs::create_dir_all(target).map_err(|source| CollectError::Write { path: target.to_owned(), source })?;
    let mut taken = Taken::default();
    let mut entries_end = 0;
    let mut archive = tar::Archive::new(Counted { inner: reader, bytes: 0 });
    for (count, entry) in archive.entries().map_err(CollectError::Read)?.enumerate() {
        let mut entry = entry.map_err(CollectError::Read)?;
        if count >= MAX_ENTRIES || taken.bytes.saturating_add(entry.size()) > cap_bytes {
            return Err(CollectError::TooLarge { cap_bytes, taken });
        }
        entries_end = entry.raw_file_position() + entry.size().next_multiple_of(BLOCK);
        let raw = entry.path_bytes().into_owned();
        let (shown, renamed) = shown_path(&raw);
        let Some(relative) = inside(&shown) else {
            taken.problems.push(ResultsProblem::Outside { path: shown });
            continue;
        };
        let kind = entry.header().entry_type();
        // A suite may write one file in place of a folder: it keeps its name.
        let alone = kind.is_file() && relative.as_os_str().is_empty();
        let path = target.join(if alone { Path::new(&shown) } else { &relative });
        if kind.is_dir() {
            if let Err(source) = fs::create_dir_all(&path) {
                refused(&mut taken, &shown, &path, source)?;
            }
            continue;
        }
        if !kind.is_file() {
            taken.problems.push(ResultsProblem::NotAFile { path: shown, what: kind_name(kind).to_owned() });
            continue;
        }
        // `create_new` follows no link and overwrites nothing.
        let parent = path.parent().unwrap_or(target);
        let mut file = match fs::create_dir_all(parent).and_then(|()| File::create_new(&path)) {
            Ok(file) => file,
            Err(source) => {
                refused(&mut taken, &shown, &path, source)?;
                continue;
            }
        };
        taken.bytes += copy(&mut redactor.masking(&mut entry), &mut file, &path)?;
        taken.files += 1;
        if renamed {
            taken.problems.push(ResultsProblem::Renamed { path: shown });
        }
    }
    let mut stream = archive.into_inner();
    io::copy(&mut stream, &mut io::sink()).map_err(CollectError::Read)?;
    if stream.bytes >= entries_end + END_OF_ARCHIVE {
        Ok(taken)
    } else {
        Err(CollectError::Read(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// A file that this file system cannot hold is a problem of that file; a full or broken disk is one of the host.
#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum; every other kind is the host's fault")]
fn refused(taken: &mut Taken, shown: &str, path: &Path, source: io::Error) -> Result<(), CollectError> {
    match source.kind() {
        io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory => {
            taken.problems.push(ResultsProblem::Refused { path: shown.to_owned(), reason: source.to_string() });
            Ok(())
        }
        _ => Err(CollectError::Write { path: path.to_owned(), source }),
    }
}

/// As [`io::copy`], telling a failing source from a failing disk.
fn copy(from: &mut impl Read, to: &mut File, path: &Path) -> Result<u64, CollectError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut copied = 0;
    loop {
        let read = from.read(&mut buffer).map_err(CollectError::Read)?;
        if read == 0 {
            return Ok(copied);
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        io::Write::write_all(to, bytes).map_err(|source| CollectError::Write { path: path.to_owned(), source })?;
        copied += u64::try_from(read).unwrap_or(0);
    }
}

fn kind_name(kind: tar::EntryType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_hard_link() {
        "a hard link"
    } else if kind.is_character_special() || kind.is_block_special() {
        "a device"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "no plain file"
    }
}

/// The path as text, and whether it had to be changed for that: bytes that are no UTF-8, and control characters, which
/// would move a terminal's cursor, become `%XX`, and a file of that
/// very name cannot be mistaken for it silently, because both are then reported or one is refused.
fn shown_path(raw: &[u8]) -> (String, bool) {
    let mut text = String::new();
    let mut changed = false;
    let mut encode = |text: &mut String, bytes: &[u8]| {
        changed = true;
        bytes.iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    };
    for chunk in raw.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                encode(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        if !chunk.invalid().is_empty() {
            encode(&mut text, chunk.invalid());
        }
    }
    (text, changed)
}

/// The path below the archive's own folder; `None` when it would leave it.
fn inside(path: &str) -> Option<PathBuf> {
    let mut components = Path::new(path).components().filter(|part| *part != Component::CurDir);
    let first = components.next()?;
    let Component::Normal(_) = first else { return None };
    let mut relative = PathBuf::new();
    for (depth, component) in components.enumerate() {
        match component {
            Component::Normal(name) if depth < MAX_DEPTH => relative.push(name),
            Component::Normal(_)
            | Component::ParentDir
            | Component::RootDir
            | Component::CurDir
            | Component::Prefix(_) => return None,
        }
    }
    Some(relative)
}

/// Counts what it reads: an archive that lacks its end is taken by the reader for a short one.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tar: &mut tar::Builder<Vec<u8>>, path: &[u8], kind: tar::EntryType, bytes: &[u8]) {
        let mut header = tar::Header::new_old();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }

    fn hostile() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let file = tar::EntryType::Regular;
        entry(&mut tar, b"results/", tar::EntryType::Directory, b"");
        entry(&mut tar, b"results/good.json", file, b"{}");
        entry(&mut tar, b"results/deep/er/x.json", file, b"[]");
        entry(&mut tar, b"results/../../escape.json", file, b"x");
        entry(&mut tar, b"/results/absolute.json", file, b"x");
        entry(&mut tar, b"results/link.json", tar::EntryType::Symlink, b"");
        entry(&mut tar, b"results/link.json/through.json", file, b"x");
        entry(&mut tar, b"results/hard.json", tar::EntryType::Link, b"");
        entry(&mut tar, b"results/null", tar::EntryType::Char, b"");
        entry(&mut tar, b"results/pipe", tar::EntryType::Fifo, b"");
        entry(&mut tar, b"results/b\xff.json", file, b"bytes");
        entry(&mut tar, b"results/\x1b[2J\n.json", file, b"text");
        entry(&mut tar, b"results/good.json", file, b"again");
        entry(&mut tar, b"results/good.json/below", file, b"x");
        tar.into_inner().unwrap()
    }

    #[test]
    fn only_plain_files_come_out() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/results");
        let taken = unpack(hostile().as_slice(), &target, 1000, &Redactor::default()).unwrap();
        assert_eq!(fs::read_to_string(target.join("good.json")).unwrap(), "{}");
        assert_eq!(fs::read_to_string(target.join("b%FF.json")).unwrap(), "bytes");
        assert_eq!(fs::read_to_string(target.join("%1B[2J%0A.json")).unwrap(), "text");
        assert!(target.join("deep/er/x.json").is_file());
        assert!(!dir.path().join("escape.json").exists() && !dir.path().join("a/escape.json").exists());
        assert!(!target.join("hard.json").exists() && !target.join("null").exists());
        assert!(!fs::symlink_metadata(target.join("link.json")).unwrap().is_symlink());
        let problems: Vec<String> = taken.problems.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(problems.join("\n"), @r"
        results/../../escape.json: reaches out of the results folder, not taken
        /results/absolute.json: reaches out of the results folder, not taken
        results/link.json: a symbolic link, not taken
        results/hard.json: a hard link, not taken
        results/null: a device, not taken
        results/pipe: a pipe, not taken
        results/b%FF.json: its name is no plain text, taken under this one
        results/%1B[2J%0A.json: its name is no plain text, taken under this one
        results/good.json: not taken: File exists (os error 17)
        results/good.json/below: not taken: File exists (os error 17)
        ");
    }

    #[test]
    fn a_cap_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let error = unpack(hostile().as_slice(), dir.path(), 3, &Redactor::default()).unwrap_err();
        assert!(matches!(error, CollectError::TooLarge { cap_bytes: 3, .. }), "{error:?}");
    }

    #[test]
    fn no_file_holds_a_secret() {
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, b"results/env.json", tar::EntryType::Regular, br#"{"HF_TOKEN": "hf_verysecret"}"#);
        let bytes = tar.into_inner().unwrap();
        let dir = tempfile::tempdir().unwrap();
        unpack(bytes.as_slice(), dir.path(), 1000, &Redactor::new(["hf_verysecret"])).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("env.json")).unwrap(), r#"{"HF_TOKEN": "***"}"#);
    }

    #[test]
    fn an_archive_that_breaks_off_anywhere_is_noticed() {
        let mut tar = tar::Builder::new(Vec::new());
        entry(&mut tar, b"results/", tar::EntryType::Directory, b"");
        entry(&mut tar, b"results/good.json", tar::EntryType::Regular, b"{}");
        let bytes = tar.into_inner().unwrap();
        for length in (0..bytes.len()).step_by(128) {
            let dir = tempfile::tempdir().unwrap();
            let error = unpack(&bytes[..length], &dir.path().join("r"), 1000, &Redactor::default()).unwrap_err();
            assert!(matches!(error, CollectError::Read(_)), "{length}: {error:?}");
        }
    }
}
