//! Completes a log that was heard with gaps by the container's own copy of its output, which has all of it and no times.
//! Pure, and on lines without secrets: the copy is what a container says of itself, so it adds to a log and is never
//! taken for another one.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use chrono::{DateTime, Utc};

use super::Redactor;
use super::lines::{Line, Lines};

/// A log of more lines than this is not completed: they are compared in memory.
const MAX_LINES: usize = 500_000;

/// How many lines may have been heard that are not in the copy: where the engine died in the middle of a line, what is
/// heard next is that line's end.
const MAX_DAMAGED: usize = 8;

/// The lines that were heard, each as little more than its time.
#[derive(Debug, Default)]
pub struct Heard {
    lines: Vec<(u64, DateTime<Utc>)>,
    total: usize,
}

/// A line of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedLine {
    /// The line; one that was not heard has the time of the one before.
    pub line: Line,
    /// Whether it was heard.
    pub heard: bool,
}

/// What the copy says about a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Everything in it was heard.
    Whole,
    /// The whole log.
    Completed(Vec<CopiedLine>),
    /// It is the copy of another output, or somebody changed it.
    Unlike,
    /// There is too much of it.
    TooLong,
}

impl Heard {
    /// Takes note of a line.
    pub fn line(&mut self, line: &Line) {
        self.total += 1;
        if self.lines.len() < MAX_LINES {
            self.lines.push((hash(&line.text), line.at));
        }
    }

    /// Completes what was heard of a container that began at `began_at` by its `copy`.
    pub fn complete(&self, copy: &[u8], redactor: Redactor, began_at: DateTime<Utc>) -> Completion {
        let Some(texts) = texts(copy, redactor).filter(|_| self.total == self.lines.len()) else {
            return Completion::TooLong;
        };
        let wanted: Vec<u64> = self.lines.iter().map(|(hash, _)| *hash).collect();
        let copied: Vec<u64> = texts.iter().map(|text| hash(text)).collect();
        if wanted == copied {
            return Completion::Whole;
        }
        let Some(places) = places(&wanted, &copied) else { return Completion::Unlike };
        let mut times: Vec<Option<DateTime<Utc>>> = vec![None; copied.len()];
        for (place, (_, at)) in places.iter().zip(&self.lines) {
            if let Some(time) = place.and_then(|place| times.get_mut(place)) {
                *time = Some(*at);
            }
        }
        let mut last = began_at;
        let completed = texts.into_iter().zip(times).map(|(text, time)| {
            last = time.unwrap_or(last);
            CopiedLine { line: Line { at: last, text }, heard: time.is_some() }
        });
        Completion::Completed(completed.collect())
    }
}

/// The copy as lines; `None` when there are too many.
fn texts(copy: &[u8], redactor: Redactor) -> Option<Vec<String>> {
    let mut lines = Lines::new(redactor);
    let mut texts = Vec::new();
    for piece in copy.chunks(64 * 1024) {
        lines.take(DateTime::UNIX_EPOCH, piece, &mut |line| texts.push(line.text));
        if texts.len() > MAX_LINES {
            return None;
        }
    }
    lines.finish(&mut |line| texts.push(line.text));
    Some(texts)
}

/// Where each of `wanted` stands in `copied`, in order; of all ways one that leaves out the fewest (`None` within). `None`
/// when more than [`MAX_DAMAGED`] would be left out.
fn places(wanted: &[u64], copied: &[u64]) -> Option<Vec<Option<usize>>> {
    let mut index: Vec<(u64, usize)> = copied.iter().enumerate().map(|(place, hash)| (*hash, place)).collect();
    index.sort_unstable();
    let next = |hash: u64, from: usize| {
        let found = index.partition_point(|entry| *entry < (hash, from));
        index.get(found).filter(|entry| entry.0 == hash).map(|entry| entry.1)
    };
    // For each number of lines left out so far: where the rest of the copy begins at the earliest.
    let mut begins = [None; MAX_DAMAGED + 1];
    begins[0] = Some(0);
    // For each line and each of those numbers: whether it is the line that was left out last.
    let mut left_out = Vec::with_capacity(wanted.len());
    for hash in wanted {
        let mut choices = [false; MAX_DAMAGED + 1];
        let mut fewer = None;
        for (begin, choice) in begins.iter_mut().zip(&mut choices) {
            let matched = begin.and_then(|from| next(*hash, from)).map(|place| place + 1);
            let skipped = fewer;
            fewer = *begin;
            *choice = matched.is_none_or(|matched| skipped.is_some_and(|skipped| skipped < matched));
            *begin = if *choice { skipped } else { matched };
        }
        left_out.push(choices);
    }
    let mut number = begins.iter().position(Option::is_some)?;
    let mut kept = vec![true; wanted.len()];
    for (choices, kept) in left_out.iter().zip(&mut kept).rev() {
        if choices.get(number).is_some_and(|left_out| *left_out) {
            *kept = false;
            number = number.saturating_sub(1);
        }
    }
    let mut from = 0;
    let mut place = |(hash, kept): (&u64, bool)| {
        let found = kept.then(|| next(*hash, from)).flatten();
        from = found.map_or(from, |found| found + 1);
        found
    };
    Some(wanted.iter().zip(kept).map(&mut place).collect())
}

fn hash(text: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: usize) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(i64::try_from(millis).unwrap()).unwrap()
    }

    /// What is heard of a terminal that printed `pieces`, a millisecond each.
    fn heard(pieces: &[&[u8]]) -> (Heard, Vec<Line>) {
        let (mut heard, mut found) = (Heard::default(), Vec::new());
        let mut lines = Lines::new(Redactor::default());
        for (time, piece) in pieces.iter().enumerate() {
            let printed = String::from_utf8_lossy(piece).replace('\n', "\r\n");
            lines.take(at(time + 1), printed.as_bytes(), &mut |line| found.push(line));
        }
        lines.finish(&mut |line| found.push(line));
        found.iter().for_each(|line| heard.line(line));
        (heard, found)
    }

    fn complete(pieces: &[&[u8]], copy: &[u8]) -> Completion {
        heard(pieces).0.complete(copy, Redactor::default(), at(0))
    }

    fn shown(completion: Completion) -> String {
        let Completion::Completed(lines) = completion else { return format!("{completion:?}") };
        let show = |l: CopiedLine| {
            format!("{}{} {}", l.line.at.timestamp_millis(), ["?", ""][usize::from(l.heard)], l.line.text)
        };
        lines.into_iter().map(show).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_was_not_heard_is_added() {
        let copy = b"one\ntwo\nthree\n\nfour\n\nfive";
        assert_eq!(complete(&[copy], copy), Completion::Whole);
        let end_lost = complete(&[b"one\n", b"two\n"], copy);
        assert_eq!(shown(end_lost), "1 one; 2 two; 2? three; 2? ; 2? four; 2? ; 2? five");
        // The engine died in the middle of "three" and later again exactly before a line feed.
        let middle_lost = complete(&[b"one\n", b"ree\n", b"\n", b"\n", b"five"], copy);
        assert_eq!(shown(middle_lost), "1 one; 1? two; 1? three; 3 ; 3? four; 4 ; 5 five");
        assert_eq!(shown(complete(&[], b"a\n")), "0? a");
    }

    #[test]
    fn another_output_is_not_taken() {
        let printed: Vec<u8> = (0..20).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
        for copy in ["", "all is well\n", "line 0\nline 1\n"] {
            assert_eq!(complete(&[&printed], copy.as_bytes()), Completion::Unlike, "{copy:?}");
        }
        assert_eq!(complete(&[b"a\n"], &b"a\n".repeat(MAX_LINES + 2)), Completion::TooLong);
    }

    #[test]
    fn secrets_in_the_copy_are_masked() {
        let redactor = Redactor::new(["hf_secretsecret"]);
        let completion = Heard::default().complete(b"token hf_secretsecret\n", redactor, at(0));
        assert_eq!(shown(completion), "0? token ***");
    }

    proptest! {
        /// Whatever parts of the output were lost, the completed log has each line once, in order, and no time goes back.
        #[test]
        fn each_line_once(
            lines in proptest::collection::vec("(|a|b|tick|[a-z]{0,3}%\r[a-z]{0,3}|\x1b\\[1m[a-c]|größe)", 1..60),
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..80), 0..5),
        ) {
            let copy = lines.join("\n").into_bytes();
            let mut lost = vec![false; copy.len() + 1];
            for (from, length) in &cuts {
                let from = from.index(copy.len() + 1);
                lost.iter_mut().skip(from).take(*length).for_each(|lost| *lost = true);
            }
            // A character that loses a byte is a damaged one in any case; here only whole ones are lost.
            let text = std::str::from_utf8(&copy).unwrap();
            let kept: Vec<String> =
                text.char_indices().filter(|(at, _)| !lost[*at]).map(|(_, c)| c.to_string()).collect();
            let pieces: Vec<&[u8]> = kept.iter().map(String::as_bytes).collect();
            let (heard, before) = heard(&pieces);
            let whole: Vec<String> = texts(&copy, Redactor::default()).unwrap();
            match heard.complete(&copy, Redactor::default(), at(0)) {
                Completion::Whole => {
                    prop_assert_eq!(before.into_iter().map(|line| line.text).collect::<Vec<_>>(), whole);
                }
                Completion::Completed(after) => {
                    prop_assert!(after.is_sorted_by_key(|copied| copied.line.at));
                    let damaged = before.len() - after.iter().filter(|copied| copied.heard).count();
                    prop_assert!(damaged <= cuts.len(), "{damaged} damaged by {} cuts", cuts.len());
                    prop_assert_eq!(after.into_iter().map(|copied| copied.line.text).collect::<Vec<_>>(), whole);
                }
                other @ (Completion::Unlike | Completion::TooLong) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
