//! Every request that came in, and the questions that tests ask about them.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// One request and how it was answered.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Call {
    /// When it came, by the stand-in's clock.
    pub at: DateTime<Utc>,
    /// `GET`, `POST`, ...
    pub method: String,
    /// Path without a prefix such as `/api/v3` and without the query.
    pub path: String,
    /// What follows `?`.
    pub query: String,
    /// Who asked: `anonymous`, `app`, `installation N`, `user LOGIN`, `unknown token`.
    pub by: String,
    /// Whether `If-None-Match` was sent.
    pub conditional: bool,
    /// The body, when it was JSON.
    pub body: Value,
    /// The status that was decided; also of answers that were then lost.
    pub status: Option<u16>,
    /// The fault that struck it.
    pub fault: Option<String>,
    /// When it was answered with a rate limit: the time until which the caller is to be silent.
    pub silent_until: Option<DateTime<Utc>>,
    /// Place of its beginning among the beginnings and ends of all calls.
    pub began: u64,
    /// Place of its end; `None` while in flight.
    pub ended: Option<u64>,
}

impl Call {
    fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

/// Some calls, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Calls(pub Vec<Call>);

impl Calls {
    /// Those for which `keep` holds.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Call) -> bool) -> Self {
        Self(self.0.iter().filter(|c| keep(c)).cloned().collect())
    }

    /// Those to a route: `*` is any one segment, `**` at the end any rest.
    #[must_use]
    pub fn to(&self, method: &str, route: &str) -> Self {
        self.filter(|c| (method == "*" || c.method == method) && route_matches(route, &c.path))
    }

    /// Those that change something, token requests apart.
    #[must_use]
    pub fn writes(&self) -> Self {
        self.filter(|c| c.is_write() && !c.path.ends_with("/access_tokens"))
    }

    /// Those that were not answered "304 not modified", the only free ones.
    #[must_use]
    pub fn charged(&self) -> Self {
        self.filter(|c| c.status != Some(304) && c.path != "/rate_limit")
    }

    /// Those with `If-None-Match`.
    #[must_use]
    pub fn conditional(&self) -> Self {
        self.filter(|c| c.conditional)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// `METHOD path` of each.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(|c| format!("{} {}", c.method, c.path)).collect()
    }

    /// The most of them that were ever in flight together.
    pub fn most_at_once(&self) -> usize {
        let open_at = |tick: u64| self.0.iter().filter(|c| c.began <= tick && c.ended.is_none_or(|e| e > tick)).count();
        self.0.iter().map(|c| open_at(c.began)).max().unwrap_or(0)
    }

    /// The shortest time between two that follow each other, by the stand-in's clock.
    pub fn shortest_gap(&self) -> Option<TimeDelta> {
        self.0.windows(2).map(|pair| pair[1].at - pair[0].at).min()
    }

    /// Panics unless the calls never overlapped.
    pub fn assert_serial(&self) {
        assert!(self.most_at_once() <= 1, "{} calls were in flight together: {:?}", self.most_at_once(), self.lines());
    }

    /// Panics unless at least `gap` lies between any two.
    pub fn assert_spaced(&self, gap: TimeDelta) {
        let shortest = self.shortest_gap();
        assert!(shortest.is_none_or(|s| s >= gap), "two calls only {shortest:?} apart: {:?}", self.lines());
    }

    /// Panics when a caller that was told of a rate limit asked again before its time; `/rate_limit` is always free.
    pub fn assert_limits_obeyed(&self) {
        for (n, limited) in self.0.iter().enumerate() {
            let Some(until) = limited.silent_until else { continue };
            // What was in flight already could not know.
            let knew = |c: &&Call| limited.ended.is_some_and(|ended| c.began > ended) && c.path != "/rate_limit";
            let early = self.0[n + 1..].iter().filter(|c| c.by == limited.by).filter(knew).find(|c| c.at < until);
            assert!(early.is_none(), "told to be silent until {until}, but then came {early:?}");
        }
    }

    /// Panics when more than `most` of them cost rate budget.
    pub fn assert_at_most_charged(&self, most: usize) {
        let charged = self.charged();
        assert!(charged.count() <= most, "{} calls were not answered 304: {:?}", charged.count(), charged.lines());
    }
}

/// Whether `path` fits `route`, segment by segment.
pub(crate) fn route_matches(route: &str, path: &str) -> bool {
    let mut path = path.trim_matches('/').split('/');
    for part in route.trim_matches('/').split('/') {
        match (part, path.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (part, Some(segment)) if part == segment => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_match_by_segment() {
        assert!(route_matches("/repos/*/*/pulls/*", "/repos/o/r/pulls/5"));
        assert!(!route_matches("/repos/*/*/pulls/*", "/repos/o/r/pulls/5/files"));
        assert!(!route_matches("/repos/*/*/pulls/*", "/repos/o/r/pulls"));
        assert!(route_matches("/repos/**", "/repos/o/r/pulls/5/files"));
    }
}
