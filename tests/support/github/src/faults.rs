//! Faults of the API, by rule: which request, which fault, how often.

use std::time::Duration;

use crate::log::route_matches;

/// What goes wrong with a request. "Before" means that nothing was changed.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A 5xx before anything was done.
    Status(u16),
    /// A 5xx although the change was made.
    StatusAfter(u16),
    /// The change was made; the connection ends without an answer.
    LostAnswer,
    /// The connection is reset before anything was done.
    Reset,
    /// The answer comes after this time.
    Slow(Duration),
    /// The primary limit: 403 or 429, remaining 0, a reset that many seconds ahead of the stand-in's clock.
    PrimaryLimit {
        /// 403 or 429: both occur.
        status: u16,
        /// Seconds until `x-ratelimit-reset`.
        reset_in_s: i64,
    },
    /// The secondary limit: 403 or 429, with or without `Retry-After`.
    SecondaryLimit {
        /// 403 or 429: both occur.
        status: u16,
        /// `Retry-After`, when it is sent.
        retry_after_s: Option<u32>,
    },
    /// The token is refused: 401 "Bad credentials".
    Unauthorised,
    /// The change was made; the answer ends in the middle of its body.
    Truncated,
}

/// A fault and whom it strikes.
pub(crate) struct Rule {
    pub id: u64,
    method: String,
    route: String,
    fault: Fault,
    skip: u32,
    left: u32,
    pub struck: u32,
}

impl Rule {
    /// Strikes the next matching request only.
    pub fn once(id: u64, method: &str, route: &str, fault: Fault) -> Self {
        Self { id, method: method.to_owned(), route: route.to_owned(), fault, skip: 0, left: 1, struck: 0 }
    }

    pub fn set_left(&mut self, left: u32) {
        self.left = left;
    }

    pub fn set_skip(&mut self, skip: u32) {
        self.skip = skip;
    }
}

/// The fault that strikes this request: of the first rule that matches and is not used up.
pub(crate) fn strike(rules: &mut [Rule], method: &str, path: &str) -> Option<Fault> {
    let fits = |r: &&mut Rule| r.left > 0 && (r.method == "*" || r.method == method) && route_matches(&r.route, path);
    let rule = rules.iter_mut().find(fits)?;
    if rule.skip > 0 {
        rule.skip -= 1;
        return None;
    }
    // u32::MAX stands for "until cleared".
    rule.left = if rule.left == u32::MAX { rule.left } else { rule.left - 1 };
    rule.struck += 1;
    Some(rule.fault.clone())
}
