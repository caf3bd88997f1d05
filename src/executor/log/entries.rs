//! Takes the engine's log stream apart into timed pieces, and drops what was read before: a stream that broke off is
//! asked for again from the last second on, and the engine repeats that second.

use chrono::{DateTime, Utc};

/// What the engine writes before each piece: RFC 3339 with nine digits and a blank, always this long.
const STAMP_BYTES: usize = "2026-01-02T03:04:05.123456789Z ".len();

/// The engine cuts a line that is longer than its buffer into pieces of this size and stamps each of them.
const PIECE_BYTES: usize = 16 * 1024;

/// A timed piece of output: a whole line with its line feed, or a part of a long line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When the engine read it.
    pub at: DateTime<Utc>,
    /// The bytes, as printed.
    pub bytes: Vec<u8>,
}

/// Cuts the stream into entries, whatever pieces it arrives in, and skips the ones that a repeated stream repeats.
#[derive(Debug, Default)]
pub struct Entries {
    buffer: Vec<u8>,
    /// The second of the newest entry, and how many entries at or after its begin were handed out.
    second: Option<(i64, u64)>,
    skip: u64,
}

impl Entries {
    /// Where to ask a new stream to begin, in seconds since 1970; 0 before the first entry.
    pub fn since(&self) -> i32 {
        self.second.and_then(|(second, _)| i32::try_from(second).ok()).unwrap_or(0)
    }

    /// A new stream begins, asked for with [`Entries::since`]: what it repeats will be skipped, and what the broken one
    /// left unfinished will come again whole.
    pub fn reopen(&mut self) {
        self.buffer.clear();
        self.skip = self.second.map_or(0, |(_, seen)| seen);
    }

    /// Takes bytes of the stream and returns the entries that they complete.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Entry> {
        self.buffer.extend_from_slice(bytes);
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(rest) = self.buffer.get(from..)
            && let Some(length) = complete_entry(rest)
        {
            let entry = rest.get(..length).map(entry);
            from += length;
            found.extend(entry);
        }
        self.buffer.drain(..from);
        found.into_iter().filter(|entry| self.is_new(entry)).collect()
    }

    /// The stream ended because the container did: the last line may lack its line feed.
    pub fn finish(&mut self) -> Option<Entry> {
        let rest = std::mem::take(&mut self.buffer);
        if rest.len() <= STAMP_BYTES {
            return None;
        }
        Some(entry(&rest)).filter(|entry| self.is_new(entry))
    }

    fn is_new(&mut self, entry: &Entry) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let second = entry.at.timestamp();
        self.second = match self.second {
            // The host's clock may step back: the entry still belongs to what a stream from `last` on would repeat
            // only if it is not older.
            Some((last, seen)) if second < last => Some((last, seen)),
            Some((last, seen)) if second == last => Some((last, seen + 1)),
            Some(_) | None => Some((second, 1)),
        };
        true
    }
}

/// The length of the first entry in `buffer`, if it is there whole.
fn complete_entry(buffer: &[u8]) -> Option<usize> {
    let content = buffer.get(STAMP_BYTES..)?;
    match content.iter().take(PIECE_BYTES + 1).position(|b| *b == b'\n') {
        Some(feed) => Some(STAMP_BYTES + feed + 1),
        // A full piece is followed by the stamp of the next one; without it the line is just this long.
        None if content.len() >= PIECE_BYTES => Some(STAMP_BYTES + PIECE_BYTES),
        None => None,
    }
}

fn entry(bytes: &[u8]) -> Entry {
    let (stamp, content) = bytes.split_at_checked(STAMP_BYTES).unwrap_or((&[], bytes));
    match parse_stamp(stamp) {
        Some(at) => Entry { at, bytes: content.to_vec() },
        // Not the engine's form: nothing is lost, it is only not timed.
        None => Entry { at: DateTime::UNIX_EPOCH, bytes: bytes.to_vec() },
    }
}

fn parse_stamp(stamp: &[u8]) -> Option<DateTime<Utc>> {
    let text = std::str::from_utf8(stamp).ok()?.strip_suffix(' ')?;
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamped(second: i64, nano: u32, text: &[u8]) -> Vec<u8> {
        let at = DateTime::from_timestamp(second, nano).unwrap();
        let mut bytes = format!("{} ", at.format("%Y-%m-%dT%H:%M:%S%.9fZ")).into_bytes();
        bytes.extend_from_slice(text);
        bytes
    }

    #[test]
    fn long_lines_are_stamped_in_the_middle() {
        let long = vec![b'x'; PIECE_BYTES];
        let stream =
            [stamped(5, 1, &long), stamped(5, 2, &long), stamped(5, 3, b"end\r\n"), stamped(6, 0, b"next\n")].concat();
        let found = Entries::default().take(&stream);
        let lengths: Vec<_> = found.iter().map(|e| e.bytes.len()).collect();
        assert_eq!(lengths, [PIECE_BYTES, PIECE_BYTES, 5, 5]);
        assert_eq!(found[3].at.timestamp(), 6);
    }

    #[test]
    fn a_last_line_without_a_feed_is_had() {
        let mut entries = Entries::default();
        assert!(entries.take(&stamped(5, 1, b"no feed")).is_empty());
        assert_eq!(entries.finish().unwrap().bytes, b"no feed");
        assert_eq!(entries.finish(), None);
    }

    proptest! {
        /// A stream that breaks anywhere, any number of times, in any pieces, is had without gap or repeat.
        #[test]
        fn no_gap_and_no_repeat(
            steps in proptest::collection::vec(0_u32..700_000_000, 1..40),
            breaks in proptest::collection::vec((0_usize..3000, 1_usize..200), 0..6),
        ) {
            let mut nanos = 1_000_000_000_u64;
            let lines: Vec<(u64, Vec<u8>)> = steps.iter().enumerate().map(|(i, step)| {
                nanos += u64::from(*step);
                (nanos, format!("line {i}\n").into_bytes())
            }).collect();
            let stream_since = |since: i32| -> Vec<u8> {
                lines.iter().filter(|(at, _)| at / 1_000_000_000 >= u64::try_from(since).unwrap()).flat_map(|(at, text)| {
                    stamped((at / 1_000_000_000) as i64, (at % 1_000_000_000) as u32, text)
                }).collect()
            };
            let mut entries = Entries::default();
            let mut got = Vec::new();
            for (length, chunk) in breaks.into_iter().chain([(usize::MAX, 50)]) {
                entries.reopen();
                let stream = stream_since(entries.since());
                for piece in stream[..length.min(stream.len())].chunks(chunk) {
                    got.extend(entries.take(piece));
                }
            }
            prop_assert_eq!(
                got.into_iter().map(|e| e.bytes).collect::<Vec<_>>(),
                lines.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
            );
        }
    }
}
