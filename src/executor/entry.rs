//! What the entry script left in a container beside the suite's results: how the suite ended, and a copy of what was
//! printed. The measured code could have written both, so they are short or bounded, and text alone.

use std::io::{self, Read};
use std::time::Duration;

use tokio_util::io::{StreamReader, SyncIoBridge};

use super::container::{BENCHD_DIR, Limits};
use super::life::Container;

/// The longest last word of the entry script.
const MAX_WORD_BYTES: u64 = 256;
/// The longest copy of what was printed, whatever the log's size is.
const MAX_CONSOLE_BYTES: u64 = 64 << 20;
/// Tries at a file while the engine comes and goes, and the wait between two.
const TRIES: (u32, Duration) = (5, Duration::from_millis(300));

/// How the suite ended, in the entry script's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastWord {
    /// What ended; `None` when the script had no time to say anything.
    pub ended: Option<Ended>,
    /// How often the kernel killed a process of the container for memory, where that was counted.
    pub oom_kills: u64,
}

/// What ended a container by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The suite, with its exit code.
    Suite,
    /// There was no suite.
    SuiteMissing,
    /// A command before the suite.
    Prepare,
}

/// The copy of what was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConsoleCopy {
    /// All of it.
    Whole(Vec<u8>),
    /// It reached its size.
    Full,
    /// There is none.
    Absent,
}

impl LastWord {
    fn of(text: &str) -> Self {
        let mut words = text.split_ascii_whitespace();
        let ended = match words.next() {
            None => None,
            Some("suite-missing") => Some(Ended::SuiteMissing),
            Some("prepare-failed") => Some(Ended::Prepare),
            Some(_) => Some(Ended::Suite),
        };
        Self { ended, oom_kills: words.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0) }
    }
}

/// How large the copy of what is printed gets, in KiB.
pub(super) fn console_kib(limits: &Limits) -> u64 {
    limits.log_bytes.min(MAX_CONSOLE_BYTES).div_ceil(1024)
}

/// The entry script's last word.
pub(super) async fn last_word(container: &Container) -> LastWord {
    match read(container, "outcome", MAX_WORD_BYTES).await {
        Ok(bytes) => LastWord::of(&String::from_utf8_lossy(&bytes.unwrap_or_default())),
        Err(error) => {
            tracing::warn!(container.id = container.id(), %error, "failed to read how the suite ended");
            LastWord::default()
        }
    }
}

/// The copy of what `container` printed.
///
/// # Errors
/// When the engine stays away or refuses.
pub(super) async fn console(container: &Container, limits: &Limits) -> io::Result<ConsoleCopy> {
    let size = console_kib(limits) * 1024;
    let bytes = read(container, "console", size).await?;
    let is_full = |bytes: &Vec<u8>| u64::try_from(bytes.len()).is_ok_and(|length| length >= size);
    Ok(match bytes {
        None => ConsoleCopy::Absent,
        Some(bytes) if is_full(&bytes) => ConsoleCopy::Full,
        Some(bytes) => ConsoleCopy::Whole(bytes),
    })
}

/// The first `max_bytes` of a plain file of the entry script's; `None` when there is no such file.
async fn read(container: &Container, name: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let path = format!("{BENCHD_DIR}/{name}");
    let (mut tries, wait) = TRIES;
    loop {
        // Waits for an engine that is away.
        container.look(false).await.map_err(io::Error::other)?;
        let reader = SyncIoBridge::new(StreamReader::new(Box::pin(container.archive(&path))));
        let reading = tokio::task::spawn_blocking(move || first_file(reader, max_bytes)).await;
        match reading.map_err(io::Error::other)? {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) if tries > 1 => tries -= 1,
            answer => return answer,
        }
        tokio::time::sleep(wait).await;
    }
}

/// The first `max_bytes` of the archive's first entry, if it is a plain file.
fn first_file(archive: impl Read, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let entry = entry?;
    if !entry.header().entry_type().is_file() {
        return Ok(None);
    }
    let length = entry.size().min(max_bytes);
    let mut bytes = Vec::new();
    entry.take(length).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|read| read == length) {
        true => Ok(Some(bytes)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_may_be_anything() {
        let word = |text| LastWord::of(text);
        assert_eq!(word("suite-ended 0 2\n"), LastWord { ended: Some(Ended::Suite), oom_kills: 2 });
        assert_eq!(word("prepare-failed 3 \n"), LastWord { ended: Some(Ended::Prepare), oom_kills: 0 });
        assert_eq!(word("suite-missing 66 0"), LastWord { ended: Some(Ended::SuiteMissing), oom_kills: 0 });
        assert_eq!(word(""), LastWord::default());
        assert_eq!(word("suite-ended -1 -1"), LastWord { ended: Some(Ended::Suite), oom_kills: 0 });
    }

    fn archive(kind: tar::EntryType, size: u64, bytes: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path("console").unwrap();
        header.set_cksum();
        [header.as_bytes().as_slice(), bytes].concat()
    }

    #[test]
    fn only_a_plain_file_is_read_and_only_so_far() {
        let file = |size, max| first_file(archive(tar::EntryType::Regular, size, b"abcdef").as_slice(), max);
        assert_eq!(file(6, 100).unwrap().unwrap(), b"abcdef");
        // One that claims to be huge is not read to its end.
        assert_eq!(file(1 << 40, 3).unwrap().unwrap(), b"abc");
        assert_eq!(file(7, 100).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(first_file(archive(tar::EntryType::Symlink, 0, b"").as_slice(), 9).unwrap(), None);
        assert!(first_file(&b""[..], 9).is_err());
    }
}
