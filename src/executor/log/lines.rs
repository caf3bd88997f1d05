//! Turns what a program printed for a terminal into lines of text: colours are dropped, a bare carriage return goes
//! back to the start of the line (of a progress bar only its last state stays), and a line is cut where it grows
//! without end.

use anstream::adapter::StripBytes;
use chrono::{DateTime, Utc};

use crate::redact::Redactor;

/// A line that is longer than this is written in several.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// One line of the log: no colours, no control characters, no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came.
    pub at: DateTime<Utc>,
    /// Its text, without a line feed.
    pub text: String,
}

/// Assembles lines out of timed pieces; the result does not depend on how the output was cut into pieces.
#[derive(Debug)]
pub struct Lines {
    redactor: Redactor,
    strip: StripBytes,
    text: Vec<u8>,
    at: Option<DateTime<Utc>>,
    /// A carriage return came, and what follows decides: a line feed ends the line, anything else overwrites it.
    returned: bool,
}

impl Lines {
    /// Lines without the secrets that `redactor` knows.
    pub fn new(redactor: Redactor) -> Self {
        Self { redactor, strip: StripBytes::new(), text: Vec::new(), at: None, returned: false }
    }

    /// Takes a piece that was printed at `at`; hands every line that it completes to `emit`.
    pub fn take(&mut self, at: DateTime<Utc>, bytes: &[u8], emit: &mut impl FnMut(Line)) {
        for byte in bytes {
            // No sequence of control characters goes beyond its line, whatever state a broken one leaves. One byte at a
            // time, because what the stripper makes of several depends on how they are cut.
            if *byte == b'\n' {
                self.strip = StripBytes::new();
                self.byte(at, *byte, emit);
            } else if self.strip.strip_next(std::slice::from_ref(byte)).next().is_some() {
                self.byte(at, *byte, emit);
            }
        }
    }

    /// The output ended; what is left is a line of its own.
    pub fn finish(&mut self, emit: &mut impl FnMut(Line)) {
        if !self.text.is_empty() {
            self.end_line(emit);
        }
    }

    fn byte(&mut self, at: DateTime<Utc>, byte: u8, emit: &mut impl FnMut(Line)) {
        match byte {
            b'\n' => {
                self.at.get_or_insert(at);
                self.end_line(emit);
            }
            b'\r' => self.returned = true,
            byte => {
                if self.returned {
                    self.returned = false;
                    self.text.clear();
                    self.at = None;
                }
                self.at.get_or_insert(at);
                self.text.push(byte);
                if self.text.len() >= MAX_LINE_BYTES + self.redactor.longest() {
                    self.cut_line(emit);
                }
            }
        }
    }

    fn end_line(&mut self, emit: &mut impl FnMut(Line)) {
        self.returned = false;
        let at = self.at.take().unwrap_or_default();
        let text = self.redactor.redact(&self.text);
        self.text.clear();
        emit(Line { at, text });
    }

    /// Writes the begin of a line that is too long. A secret never lies across the cut: the line is held back by the
    /// length of the longest one, and cut before a secret that it would go through.
    fn cut_line(&mut self, emit: &mut impl FnMut(Line)) {
        let cut = self.redactor.cut_before(&self.text, MAX_LINE_BYTES);
        let rest = self.text.split_off(cut);
        let at = self.at.unwrap_or_default();
        self.end_line(emit);
        self.text = rest;
        self.at = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(pieces: &[&[u8]], secrets: &[&str]) -> Vec<String> {
        let mut lines = Lines::new(Redactor::new(secrets.iter().copied()));
        let mut found = Vec::new();
        let mut emit = |line: Line| found.push(line.text);
        for piece in pieces {
            lines.take(DateTime::UNIX_EPOCH, piece, &mut emit);
        }
        lines.finish(&mut emit);
        found
    }

    #[test]
    fn a_terminal_becomes_text() {
        let printed: &[u8] = b"\x1b[32mINFO\x1b[0m started\r\n 10%|#   |\r 50%|##  |\r100%|####|\r\n\r\nlast";
        assert_eq!(lines_of(&[printed], &[]), ["INFO started", "100%|####|", "", "last"]);
    }

    #[test]
    fn a_secret_across_pieces_colours_and_cuts_is_gone() {
        let secret = "hf_abcdefghij";
        let split: &[&[u8]] = &[b"[[ -z hf_abc", b"defgh\x1b[1mij ]]\n"];
        assert_eq!(lines_of(split, &[secret]), ["[[ -z *** ]]"]);
        for offset in 0..30 {
            let long = ["x".repeat(MAX_LINE_BYTES - offset), secret.into(), "y".repeat(100_000)].concat();
            let found = lines_of(&[long.as_bytes()], &[secret]).concat();
            assert!(!found.contains("hf_") && found.contains("***"), "offset {offset}");
            assert_eq!(found.len(), long.len() - secret.len() + 3);
        }
    }

    fn printed() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            "[a-z ]{0,12}".prop_map(String::into_bytes),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\x1b[1;31m".to_vec()),
            Just(b"\x1b[K".to_vec()),
            Just(b"\x1b]0;title\x07".to_vec()),
            Just("größe ✓".as_bytes().to_vec()),
            Just(b"hf_secretsecret".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in printed(), cuts in proptest::collection::vec(1_usize..7, 1..20)) {
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest: &[u8] = &bytes;
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            let whole = lines_of(&[&bytes], &["hf_secretsecret"]);
            prop_assert_eq!(&whole, &lines_of(&pieces, &["hf_secretsecret"]));
            prop_assert!(whole.iter().all(|line| !line.contains("hf_secretsecret") && !line.contains(['\r', '\x1b'])));
        }
    }
}
