//! Answers that GitHub may confirm for nothing: a conditional request that is answered "304 not modified" costs none of
//! the budget. Kept in memory, packed and bounded; after a restart each is paid for once more.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::HeaderValue;

use super::speaker::Speaker;

/// Bytes of all packed bodies together. A page of a hundred real pull requests has two to three million, packed a tenth
/// of that.
const MOST_BYTES: usize = 12 << 20;

/// Answers, whatever their length.
const MOST_ANSWERS: usize = 4096;

/// An answer and the mark by which GitHub knows it again.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub etag: HeaderValue,
    pub body: Bytes,
    /// Where the next page is.
    pub next: Option<String>,
}

/// What was answered, the least recently used thrown away first. An answer belongs to who asked: the mark changes with
/// the credentials.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// When each was used last, and the answer with its body packed.
    answers: HashMap<(Speaker, String), (u64, Known)>,
    bytes: usize,
    uses: u64,
}

impl Cache {
    pub fn find(&mut self, speaker: Speaker, route: &str) -> Option<Known> {
        self.uses += 1;
        let (used, known) = self.answers.get_mut(&(speaker, route.to_owned()))?;
        *used = self.uses;
        Some(Known { body: unpacked(&known.body).ok()?, ..known.clone() })
    }

    pub fn keep(&mut self, speaker: Speaker, route: &str, known: Known) {
        self.forget(speaker, route);
        let Ok(body) = packed(&known.body) else { return };
        let known = Known { body, ..known };
        if known.body.len() > MOST_BYTES / 2 {
            return;
        }
        self.uses += 1;
        self.bytes += known.body.len();
        self.answers.insert((speaker, route.to_owned()), (self.uses, known));
        while self.bytes > MOST_BYTES || self.answers.len() > MOST_ANSWERS {
            let oldest = self.answers.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            let Some((speaker, route)) = oldest else { break };
            self.forget(speaker, &route);
        }
    }

    pub fn forget(&mut self, speaker: Speaker, route: &str) {
        if let Some((_, known)) = self.answers.remove(&(speaker, route.to_owned())) {
            self.bytes -= known.body.len();
        }
    }
}

fn packed(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish().map(Bytes::from)
}

fn unpacked(body: &[u8]) -> io::Result<Bytes> {
    let mut whole = Vec::new();
    GzDecoder::new(body).read_to_end(&mut whole)?;
    Ok(whole.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that packing makes no smaller.
    fn known(bytes: usize) -> Known {
        let mut body = vec![0; bytes];
        getrandom::fill(&mut body).unwrap();
        Known { etag: HeaderValue::from_static("\"x\""), body: body.into(), next: None }
    }

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let mut cache = Cache::default();
        let who = Speaker::Token;
        cache.keep(who, "/used", known(1));
        for n in 0..MOST_ANSWERS + 5 {
            assert!(cache.find(who, "/used").is_some(), "{n}");
            cache.keep(who, &format!("/{n}"), known(1));
        }
        assert_eq!(cache.answers.len(), MOST_ANSWERS);
        assert!(cache.find(who, "/0").is_none() && cache.find(Speaker::App, "/used").is_none());
        for n in 0..9 {
            cache.keep(who, &format!("/big{n}"), known(MOST_BYTES / 4));
        }
        assert!(cache.bytes <= MOST_BYTES);
        cache.keep(who, "/used", known(MOST_BYTES));
        assert!(cache.find(who, "/used").is_none(), "a giant is not kept, and what it replaces is wrong by then");
    }

    #[test]
    fn a_list_is_given_back_whole_and_takes_little_room() {
        let mut cache = Cache::default();
        let list = serde_json::json!(vec![serde_json::json!({"number": 1, "title": "a pull request"}); 10_000]);
        let body = Bytes::from(list.to_string());
        cache.keep(Speaker::Token, "/list", Known { body: body.clone(), ..known(0) });
        assert_eq!(cache.find(Speaker::Token, "/list").unwrap().body, body);
        assert!(cache.bytes < body.len() / 10, "{} of {}", cache.bytes, body.len());
        cache.forget(Speaker::Token, "/list");
        assert_eq!(cache.bytes, 0);
    }
}
