//! What GitHub answers when it does not answer the question. Every variant says whether waiting helps, and whether
//! something may have been written all the same.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::config::SecretError;

/// A question to GitHub that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum GitHubError {
    /// No certificate authority is known, so no server can be trusted.
    #[error(
        "this machine trusts no certificate authority: install the package `ca-certificates`, or name a file of \
         certificates in `github.ca_file`"
    )]
    NoAuthorities,
    /// The file with the own certificate authority is no such thing.
    #[error("failed to read certificates from {path} (`github.ca_file`): {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The proxy cannot be used.
    #[error("failed to use the proxy of `{setting}`: {reason}")]
    Proxy {
        /// The setting or variable that names it.
        setting: String,
        /// Why.
        reason: String,
    },
    /// The client cannot be built.
    #[error("failed to make a client for GitHub at `{api_url}`: {reason}")]
    Client {
        /// The configured address.
        api_url: String,
        /// Why.
        reason: String,
    },
    /// The configured token or key cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The App's key is none.
    #[error(
        "failed to read an RSA private key (PEM) from {path} (`github.app.private_key_file`): {reason}; download a new \
         one from the App's settings page"
    )]
    PrivateKey {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Only an App may ask this.
    #[error("only a GitHub App may ask for {route}: set `github.app`")]
    NotAnApp {
        /// Path of the request.
        route: String,
    },
    /// The App is not installed where it is needed.
    #[error("the GitHub App is not installed on {place}: install it there, from the App's settings page")]
    NotInstalled {
        /// The repository, or "any account".
        place: String,
    },
    /// The installation is suspended by its owner.
    #[error("the installation of the GitHub App is suspended ({route}): its owner has to allow it again")]
    Suspended {
        /// Path of the request.
        route: String,
    },
    /// The request cannot be written.
    #[error("failed to build the request {route}")]
    Request {
        /// Path of the request.
        route: String,
        /// Why.
        source: http::Error,
    },
    /// GitHub was not reached: nothing was done.
    #[error("failed to reach GitHub for {route}: {reason}")]
    Unreachable {
        /// Path of the request.
        route: String,
        /// The innermost cause.
        reason: String,
    },
    /// No answer to a read in time.
    #[error("GitHub did not answer {route} within {} s", after.as_secs())]
    TimedOut {
        /// Path of the request.
        route: String,
        /// How long was waited.
        after: Duration,
    },
    /// A write whose answer was lost: it may have been done or not. Look for its trace before doing it again.
    #[error("it is not known whether GitHub did {route}: {reason}")]
    Unanswered {
        /// Path of the request.
        route: String,
        /// What was lost.
        reason: String,
    },
    /// The token is missing, wrong or revoked.
    #[error(
        "GitHub does not accept the credentials for {route}: {message} (check `github.token_file` or `github.app`)"
    )]
    Unauthorised {
        /// Path of the request.
        route: String,
        /// GitHub's words.
        message: String,
    },
    /// We are known, but not permitted.
    #[error("GitHub does not permit {route}: {message}{}", needs_in_words(needs.as_deref()))]
    Forbidden {
        /// Path of the request.
        route: String,
        /// GitHub's words.
        message: String,
        /// The permissions that would do, as GitHub names them.
        needs: Option<String>,
    },
    /// There is no such thing, not any more, or not for us.
    #[error("GitHub knows nothing at {route}: it is gone, or may not be seen with these credentials")]
    Gone {
        /// Path of the request.
        route: String,
        /// 404, 410 or 451.
        status: StatusCode,
    },
    /// GitHub finds the request wrong.
    #[error("GitHub refuses {route}: {message}{}", fields_in_words(fields))]
    Invalid {
        /// Path of the request.
        route: String,
        /// GitHub's words.
        message: String,
        /// What is wrong.
        fields: Vec<InvalidField>,
    },
    /// A rate limit, primary or secondary, or the pace that keeps us below them.
    #[error("GitHub's rate limit is reached ({route}): {message}; again in {} s", retry_after.as_secs())]
    RateLimited {
        /// Path of the request.
        route: String,
        /// GitHub's words, or ours.
        message: String,
        /// How long not to ask.
        retry_after: Duration,
    },
    /// GitHub cannot answer a read (5xx).
    #[error("GitHub cannot answer now: {status} to {route}")]
    Unavailable {
        /// Path of the request.
        route: String,
        /// The status.
        status: StatusCode,
    },
    /// The answer lies at a place that is not GitHub's API.
    #[error("GitHub's answer to {route} leads away to {to}, which is not followed: check `github.api_url`")]
    LeadsAway {
        /// Path of the request.
        route: String,
        /// Host and scheme of the other place.
        to: String,
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
    /// The answer is longer than anything that is expected.
    #[error("GitHub's answer to {route} is too large: more than {limit}")]
    TooLarge {
        /// Path of the request.
        route: String,
        /// The limit, in words.
        limit: String,
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

/// What GitHub finds wrong with a request (`errors` of a 422).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvalidField {
    /// `IssueComment`, `CheckRun`, and so on.
    pub resource: String,
    /// The field; for a comment that is too long GitHub says `data`.
    pub field: String,
    /// `missing_field`, `invalid`, `unprocessable`, `custom`, ...
    pub code: String,
    /// GitHub's words, where it has some.
    pub message: String,
}

/// What kind of question an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Changes nothing.
    Read,
    /// Changes something.
    Write,
}

#[derive(Default, Deserialize)]
struct Refusal {
    message: Option<String>,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

impl GitHubError {
    /// Whether the same question may be answered later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Unanswered { .. }
            | Self::RateLimited { .. }
            | Self::Unavailable { .. } => true,
            Self::NoAuthorities
            | Self::CaFile { .. }
            | Self::Proxy { .. }
            | Self::Client { .. }
            | Self::Secret(_)
            | Self::PrivateKey { .. }
            | Self::NotAnApp { .. }
            | Self::NotInstalled { .. }
            | Self::Suspended { .. }
            | Self::Request { .. }
            | Self::Unauthorised { .. }
            | Self::Forbidden { .. }
            | Self::Gone { .. }
            | Self::Invalid { .. }
            | Self::LeadsAway { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. } => false,
        }
    }

    /// How long GitHub is to be left alone, where it or our pace says so.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::RateLimited { retry_after, .. } = self { Some(*retry_after) } else { None }
    }

    /// Whether there is no such thing, not any more, or not for us.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether a text was refused for its length (422 with field `data`, or a summary over its maximum).
    pub fn is_too_long(&self) -> bool {
        let Self::Invalid { fields, .. } = self else { return false };
        fields.iter().any(|field| {
            // A comment beyond the limit is told without a word about length.
            (field.field == "data" && field.code == "unprocessable")
                || field.message.contains("too long")
                || field.message.contains("maximum")
        })
    }
}

fn needs_in_words(needs: Option<&str>) -> String {
    needs.map(|needs| format!(" (it needs {needs})")).unwrap_or_default()
}

fn fields_in_words(fields: &[InvalidField]) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let words: Vec<String> = fields.iter().map(InvalidField::to_string).collect();
    format!(" ({})", words.join("; "))
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.resource, &self.field, &self.code, &self.message];
        let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(" "))
    }
}

impl From<&serde_json::Value> for InvalidField {
    /// An error is an object with any of the fields, or just words.
    fn from(error: &serde_json::Value) -> Self {
        let text = |name: &str| error.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let message = error.as_str().map_or_else(|| text("message"), str::to_owned);
        Self { resource: text("resource"), field: text("field"), code: text("code"), message }
    }
}

/// An answer that is not a success.
pub(super) struct Refused<'a> {
    pub status: StatusCode,
    pub body: &'a [u8],
    /// `X-Accepted-GitHub-Permissions`.
    pub needs: Option<String>,
    /// For a rate limit: how long to be silent.
    pub silent_for: Option<Duration>,
}

/// GitHub's own words in an answer, else the status in words.
pub(super) fn words_of(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<Refusal>(body).unwrap_or_default().message;
    said.unwrap_or_else(|| status.canonical_reason().unwrap_or("no message").to_owned())
}

impl GitHubError {
    /// Classifies an answer that is not a success.
    pub(super) fn from_answer(route: &str, asked: Asked, answer: &Refused<'_>) -> Self {
        let (route, status) = (route.to_owned(), answer.status);
        let message = words_of(status, answer.body);
        if let Some(retry_after) = answer.silent_for {
            return Self::RateLimited { route, message, retry_after };
        }
        match (status, asked) {
            (StatusCode::UNAUTHORIZED, _) => Self::Unauthorised { route, message },
            (StatusCode::FORBIDDEN, _) if message.contains("suspended") => Self::Suspended { route },
            (StatusCode::FORBIDDEN, _) => Self::Forbidden { route, message, needs: answer.needs.clone() },
            (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS, _) => {
                Self::Gone { route, status }
            }
            (StatusCode::UNPROCESSABLE_ENTITY, _) => {
                let errors = serde_json::from_slice::<Refusal>(answer.body).unwrap_or_default().errors;
                Self::Invalid { route, message, fields: errors.iter().map(InvalidField::from).collect() }
            }
            (status, Asked::Read) if status.is_server_error() => Self::Unavailable { route, status },
            (status, Asked::Write) if status.is_server_error() => {
                Self::Unanswered { route, reason: format!("it answered {status}") }
            }
            (status, Asked::Read | Asked::Write) => Self::Refused { route, status, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, asked: Asked, body: &str) -> GitHubError {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Refused { status, body: body.as_bytes(), needs: Some("checks=write".into()), silent_for: None };
        GitHubError::from_answer("/x", asked, &answer)
    }

    #[test]
    fn an_outage_is_transient_and_a_refusal_is_not() {
        assert!(matches!(answer(502, Asked::Read, "<html>"), GitHubError::Unavailable { .. }));
        assert!(answer(502, Asked::Read, "<html>").is_transient());
        let write = answer(502, Asked::Write, "");
        assert!(matches!(&write, GitHubError::Unanswered { .. }) && write.is_transient(), "{write}");
        assert!(matches!(
            answer(401, Asked::Read, r#"{"message":"Bad credentials"}"#),
            GitHubError::Unauthorised { .. }
        ));
        assert!(answer(404, Asked::Write, "{}").is_gone() && answer(410, Asked::Read, "").is_gone());
        assert!(!answer(404, Asked::Read, "{}").is_transient());
        let suspended = answer(403, Asked::Read, r#"{"message":"This installation has been suspended"}"#);
        assert!(matches!(&suspended, GitHubError::Suspended { .. }));
        let forbidden = answer(403, Asked::Write, r#"{"message":"Resource not accessible by integration"}"#);
        assert_eq!(
            forbidden.to_string(),
            "GitHub does not permit /x: Resource not accessible by integration (it needs checks=write)"
        );
    }

    #[test]
    fn what_is_invalid_is_told_in_full() {
        let told = r#"{"message": "Validation Failed", "errors": [
            {"resource": "IssueComment", "code": "unprocessable", "field": "data"}, "some words", 7]}"#;
        let error = answer(422, Asked::Write, told);
        assert!(error.is_too_long());
        assert_eq!(
            error.to_string(),
            "GitHub refuses /x: Validation Failed (IssueComment data unprocessable; some words; )"
        );
        assert!(!answer(422, Asked::Write, r#"{"message": "No commit found for SHA: x"}"#).is_too_long());
    }
}
