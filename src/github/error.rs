//! What GitHub answers when it does not answer the question. Every variant says whether waiting helps.

use std::time::Duration;

use http::StatusCode;
use http::header::HeaderMap;

use crate::config::SecretError;

/// GitHub asks for at least a minute of silence after a secondary rate limit that names no time.
const SECONDARY_LIMIT_WAIT: Duration = Duration::from_mins(1);

/// When to ask again after a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this long.
    Wait(Duration),
    /// At this instant, in seconds since 1970.
    At(i64),
}

/// A question to GitHub that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum GitHubError {
    /// The client cannot be built.
    #[error("failed to use GitHub at `{api_url}`: is `github.api_url` a URL?")]
    Client {
        /// The configured address.
        api_url: String,
        /// Why.
        source: Box<octocrab::Error>,
    },
    /// The configured token cannot be read.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// The request cannot be written.
    #[error("failed to build the request {route}")]
    Request {
        /// Path of the request.
        route: String,
        /// Why.
        source: http::Error,
    },
    /// GitHub was not reached.
    #[error("failed to reach GitHub for {route}: {reason}")]
    Unreachable {
        /// Path of the request.
        route: String,
        /// The innermost cause.
        reason: String,
        /// Why.
        source: Box<octocrab::Error>,
    },
    /// No answer in time.
    #[error("GitHub did not answer {route} within {} s", after.as_secs())]
    TimedOut {
        /// Path of the request.
        route: String,
        /// How long was waited.
        after: Duration,
    },
    /// The token is missing, wrong or revoked.
    #[error("GitHub does not accept the token for {route}: {message} (check `github.token_file`)")]
    Unauthorised {
        /// Path of the request.
        route: String,
        /// GitHub's words.
        message: String,
    },
    /// A rate limit, primary or secondary.
    #[error("GitHub's rate limit is reached ({route}): {message}")]
    RateLimited {
        /// Path of the request.
        route: String,
        /// GitHub's words.
        message: String,
        /// When to ask again.
        retry: RetryAfter,
    },
    /// Another refusal.
    #[error("GitHub answered {status} to {route}: {message}")]
    Refused {
        /// Path of the request.
        route: String,
        /// The status.
        status: StatusCode,
        /// GitHub's words.
        message: String,
    },
    /// The answer is not what the API documents.
    #[error("failed to read GitHub's answer to {route}")]
    Malformed {
        /// Path of the request.
        route: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl GitHubError {
    /// Whether the same question may be answered later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::RateLimited { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Client { .. }
            | Self::Token(_)
            | Self::Request { .. }
            | Self::Unauthorised { .. }
            | Self::Malformed { .. } => false,
        }
    }

    pub(super) fn unreachable(route: &str, source: octocrab::Error) -> Self {
        // The client's own text is one word; the innermost cause is what a person can act on.
        let mut cause: &dyn std::error::Error = &source;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Unreachable { route: route.to_owned(), reason: cause.to_string(), source: Box::new(source) }
    }

    /// Classifies an answer that is not a success. Rate limits come as 403 or 429, told apart from a plain refusal by
    /// their headers and, for the secondary kind, by GitHub's words.
    pub(super) fn from_answer(route: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let route = route.to_owned();
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        let message = serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .and_then(|value| value.get("message")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no message").to_owned());
        let limited = matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
        if limited {
            let wait = number("retry-after").and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
            let exhausted = number("x-ratelimit-remaining") == Some(0);
            let retry = match (wait, exhausted, number("x-ratelimit-reset")) {
                (Some(wait), _, _) => Some(RetryAfter::Wait(wait)),
                (None, true, Some(at)) => Some(RetryAfter::At(at)),
                (None, _, _) if status == StatusCode::TOO_MANY_REQUESTS || message.contains("rate limit") => {
                    Some(RetryAfter::Wait(SECONDARY_LIMIT_WAIT))
                }
                (None, _, _) => None,
            };
            if let Some(retry) = retry {
                return Self::RateLimited { route, message, retry };
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            return Self::Unauthorised { route, message };
        }
        Self::Refused { route, status, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> GitHubError {
        let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        GitHubError::from_answer("/x", StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn rate_limits_are_told_apart_from_refusals() {
        let retry = |error| if let GitHubError::RateLimited { retry, .. } = error { Some(retry) } else { None };
        assert_eq!(retry(answer(403, &[("retry-after", "7")], "")), Some(RetryAfter::Wait(Duration::from_secs(7))));
        let primary = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1780000000")];
        assert_eq!(retry(answer(403, &primary, "")), Some(RetryAfter::At(1_780_000_000)));
        assert_eq!(retry(answer(429, &primary, "")), Some(RetryAfter::At(1_780_000_000)));
        let secondary = r#"{"message":"You have exceeded a secondary rate limit"}"#;
        assert_eq!(retry(answer(403, &[], secondary)), Some(RetryAfter::Wait(SECONDARY_LIMIT_WAIT)));
        assert_eq!(retry(answer(403, &[], r#"{"message":"Resource not accessible by integration"}"#)), None);
    }

    #[test]
    fn an_outage_is_transient_and_a_bad_token_is_not() {
        assert!(answer(502, &[], "<html>").is_transient());
        assert!(!answer(401, &[], r#"{"message":"Bad credentials"}"#).is_transient());
        assert!(!answer(404, &[], "{}").is_transient());
    }
}
