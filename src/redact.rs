//! Takes known secrets out of text by their value, also in the forms in which programs pass them on: percent-encoded
//! and base64 (plain or inside something longer). The secrets that this process has read are known to all of it, so that
//! no line of its own log can hold one.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::sync::{PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Parts of a secret that are shorter than this are not looked for: they would blacken ordinary text.
const MIN_BYTES: usize = 4;

/// Knows the secrets of a pass.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    matcher: Option<AhoCorasick>,
    longest: usize,
}

impl Redactor {
    /// Redacts `secrets`; each line of a secret of several lines counts on its own, as lines are what a log holds.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let forms: BTreeSet<String> = secrets.into_iter().flat_map(forms).filter(|f| f.len() >= MIN_BYTES).collect();
        let longest = forms.iter().map(String::len).max().unwrap_or(0);
        // Building fails only beyond 2^31 bytes of secrets.
        let matcher = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&forms).ok();
        Self { matcher: matcher.filter(|_| longest > 0), longest }
    }

    /// The length of the longest form in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// `bytes` as text, every secret masked and every control character dropped.
    pub fn redact(&self, bytes: &[u8]) -> String {
        let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| *c == '\t' || !c.is_control()).collect();
        self.mask(&text).into_owned()
    }

    /// `text` with every secret masked and nothing else changed.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(matcher) = self.matcher.as_ref().filter(|matcher| matcher.is_match(text)) else {
            return Cow::Borrowed(text);
        };
        let mut masked = String::with_capacity(text.len());
        matcher.replace_all_with(text, &mut masked, |_, _, to| {
            to.push_str(MASK);
            true
        });
        Cow::Owned(masked)
    }

    /// `from` with every secret masked and nothing else changed, also where it arrives in pieces.
    pub fn masking<R: Read>(&self, from: R) -> Masking<'_, R> {
        Masking { redactor: self, from, waiting: Vec::new(), masked: io::Cursor::default(), ended: false }
    }

    /// The last place at or before `limit` where `bytes` can be cut without going through a secret or a character.
    pub fn cut_before(&self, bytes: &[u8], limit: usize) -> usize {
        let straddles = |m: &aho_corasick::Match| m.start() < limit && limit < m.end();
        let mut cut = self
            .matcher
            .as_ref()
            .and_then(|matcher| matcher.find_iter(bytes).find(straddles))
            .map_or(limit, |found| found.start());
        let is_continuation = |at: usize| bytes.get(at).is_some_and(|b| b & 0b1100_0000 == 0b1000_0000);
        let boundary = cut;
        while cut > 0 && is_continuation(cut) && boundary - cut < 4 {
            cut -= 1;
        }
        if cut == 0 || is_continuation(cut) { boundary } else { cut }
    }
}

/// Bytes that [`Masking`] asks for at once.
const PIECE_BYTES: u64 = 64 << 10;

/// What is read through a [`Redactor`].
#[derive(Debug)]
pub struct Masking<'r, R> {
    redactor: &'r Redactor,
    from: R,
    /// Read and not yet looked at to the end: a secret may begin in it.
    waiting: Vec<u8>,
    masked: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl<R: Read> Read for Masking<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(matcher) = &self.redactor.matcher else { return self.from.read(buffer) };
        loop {
            let read = self.masked.read(buffer)?;
            if read > 0 || self.ended || buffer.is_empty() {
                return Ok(read);
            }
            self.ended = self.from.by_ref().take(PIECE_BYTES).read_to_end(&mut self.waiting)? == 0;
            let sure = if self.ended { 0 } else { self.redactor.longest };
            let cut = self.redactor.cut_before(&self.waiting, self.waiting.len().saturating_sub(sure));
            let rest = self.waiting.split_off(cut);
            let whole = std::mem::replace(&mut self.waiting, rest);
            let mut masked = Vec::with_capacity(whole.len());
            matcher.replace_all_with_bytes(&whole, &mut masked, |_, _, to| {
                to.extend_from_slice(MASK.as_bytes());
                true
            });
            self.masked = io::Cursor::new(masked);
        }
    }
}

/// So many secrets that pass by themselves are remembered.
const MOST_PASSING: usize = 32;

/// What this process has read as a secret so far.
struct Learnt {
    secrets: BTreeSet<String>,
    /// Those that are worth nothing after a while, the oldest first.
    passing: VecDeque<String>,
    redactor: Redactor,
}

impl Learnt {
    fn rebuild(&mut self) {
        self.redactor = Redactor::new(self.secrets.iter().chain(&self.passing).map(String::as_str));
    }
}

static LEARNT: RwLock<Learnt> = RwLock::new(Learnt {
    secrets: BTreeSet::new(),
    passing: VecDeque::new(),
    redactor: Redactor { matcher: None, longest: 0 },
});

/// Remembers a secret that was read, for [`masked`].
pub fn learn(secret: &str) {
    let mut learnt = LEARNT.write().unwrap_or_else(PoisonError::into_inner);
    if learnt.secrets.insert(secret.to_owned()) {
        learnt.rebuild();
    }
}

/// Remembers a secret that ends by itself, such as a token for an hour: only the newest ones are kept, as a daemon gets
/// new ones for months.
pub fn learn_passing(secret: &str) {
    let mut learnt = LEARNT.write().unwrap_or_else(PoisonError::into_inner);
    if !learnt.passing.iter().any(|known| known == secret) {
        learnt.passing.push_back(secret.to_owned());
        while learnt.passing.len() > MOST_PASSING {
            learnt.passing.pop_front();
        }
        learnt.rebuild();
    }
}

/// `text` with every secret masked that this process has read.
pub fn masked(text: &str) -> Cow<'_, str> {
    LEARNT.read().unwrap_or_else(PoisonError::into_inner).redactor.mask(text)
}

/// Whether `text` holds a secret that this process has read.
pub fn holds_secret(text: &str) -> bool {
    matches!(masked(text), Cow::Owned(_))
}

fn forms(secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in secret.lines().map(str::trim).filter(|part| part.len() >= MIN_BYTES) {
        found.push(part.to_owned());
        found.push(url::form_urlencoded::byte_serialize(part.as_bytes()).collect());
        found.push(part.replace('"', "\\\"").replace('/', "\\/"));
        for offset in 0..3 {
            found.push(inside_base64(part, offset, |bytes| BASE64_STANDARD_NO_PAD.encode(bytes)));
            found.push(inside_base64(part, offset, |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes)));
        }
    }
    found
}

/// The characters that only the secret decides when it is encoded `offset` bytes (modulo 3) behind something else.
fn inside_base64(secret: &str, offset: usize, encode: impl Fn(&[u8]) -> String) -> String {
    let bytes = [&[0].repeat(offset), secret.as_bytes()].concat();
    let first = (offset * 8).div_ceil(6);
    let whole = bytes.len() * 8 / 6;
    encode(&bytes).get(first..whole).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_masked() {
        let secret = "hf_s3cr?t/value~";
        let redactor = Redactor::new([secret]);
        let mut texts = vec![format!("token={secret};"), "hf_s3cr%3Ft%2Fvalue%7E".into()];
        for prefix in ["", "u", "us", "user:"] {
            texts.push(BASE64_STANDARD_NO_PAD.encode(format!("{prefix}{secret}")));
            texts.push(BASE64_URL_SAFE_NO_PAD.encode(format!("{prefix}{secret}tail")));
        }
        for text in &texts {
            assert!(redactor.redact(text.as_bytes()).contains(MASK), "{text}");
        }
        assert_eq!(redactor.redact(b"nothing here"), "nothing here");
    }

    #[test]
    fn what_is_read_in_pieces_is_masked_and_bytes_stay() {
        let redactor = Redactor::new(["hf_secret", "hf_secretsecret"]);
        // Secrets over every border of the pieces, and bytes that are no text.
        let piece = usize::try_from(PIECE_BYTES).unwrap();
        for before in (piece - 20..piece + 2).chain([0, 1]) {
            let filler = vec![0xc3; before];
            let text = [&filler, b"hf_secretsecret".as_slice(), &filler, b"hf_secret", b"\xff hf_secr"].concat();
            let mut masked = Vec::new();
            redactor.masking(text.as_slice()).read_to_end(&mut masked).unwrap();
            assert!(masked == [&filler, b"***".as_slice(), &filler, b"***", b"\xff hf_secr"].concat(), "{before}");
        }
        let mut same = Vec::new();
        Redactor::default().masking(b"hf_secret".as_slice()).read_to_end(&mut same).unwrap();
        assert_eq!(same, b"hf_secret");
    }

    #[test]
    fn lines_of_a_key_count_alone_and_short_ones_do_not() {
        let redactor = Redactor::new(["-----BEGIN-----\nMIIEabcdef\nab\n", ""]);
        assert_eq!(redactor.redact(b"x MIIEabcdef ab"), "x *** ab");
        assert_eq!(Redactor::new(["", "abc"]).redact(b"abc"), "abc");
    }

    #[test]
    fn what_was_learnt_is_masked_and_lines_stay() {
        assert_eq!(masked("learnt-value\n"), "learnt-value\n");
        learn("learnt-value");
        learn("learnt-value");
        assert_eq!(masked("a learnt-value\nb\n"), "a ***\nb\n");
        assert!(holds_secret("a learnt-value") && !holds_secret("a value"));
    }

    #[test]
    fn a_secret_inside_another_goes_with_it() {
        assert_eq!(Redactor::new(["hf_abc", "hf_abcdef"]).redact(b"hf_abcdef hf_abc"), "*** ***");
    }
}
