//! Answers that GitHub may confirm for nothing: a conditional request that is answered "304 not modified" costs none of
//! the budget. Kept in memory and bounded; after a restart each is paid for once more.

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderValue;

use super::speaker::Speaker;

/// Bytes of all bodies together. A page of a hundred real pull requests has two to three million.
const MOST_BYTES: usize = 48 << 20;

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
    answers: HashMap<(Speaker, String), (u64, Known)>,
    bytes: usize,
    uses: u64,
}

impl Cache {
    pub fn find(&mut self, speaker: Speaker, route: &str) -> Option<Known> {
        self.uses += 1;
        let (used, known) = self.answers.get_mut(&(speaker, route.to_owned()))?;
        *used = self.uses;
        Some(known.clone())
    }

    pub fn keep(&mut self, speaker: Speaker, route: &str, known: Known) {
        self.forget(speaker, route);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn known(bytes: usize) -> Known {
        Known { etag: HeaderValue::from_static("\"x\""), body: Bytes::from(vec![0; bytes]), next: None }
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
        assert_eq!((cache.answers.len(), cache.bytes), (MOST_ANSWERS, MOST_ANSWERS));
        assert!(cache.find(who, "/0").is_none() && cache.find(Speaker::App, "/used").is_none());
        for n in 0..9 {
            cache.keep(who, &format!("/big{n}"), known(MOST_BYTES / 4));
        }
        assert!(cache.bytes <= MOST_BYTES);
        cache.keep(who, "/used", known(MOST_BYTES));
        assert!(cache.find(who, "/used").is_none(), "a giant is not kept, and what it replaces is wrong by then");
    }
}
