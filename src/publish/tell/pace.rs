//! When a conversation is told something: a change of state at once, progress now and then, after a failure later. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::github::GitHubError;
use crate::store::{ReportRow, Told};

/// How long after a creation without an answer its trace is looked for: GitHub may still be writing it.
pub const AFTER_LOST_ANSWER: TimeDelta = TimeDelta::seconds(10);
/// How long to wait after a first failure; twice as long after each further one.
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(30);
/// The longest such wait.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);
/// The longest wait for somebody to allow us again what was forbidden: they look whether it works now.
const LONGEST_WAIT_FOR_ACCESS: TimeDelta = TimeDelta::minutes(5);

/// When a text is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It is told already.
    Told,
    /// Now, because something happened.
    Now,
    /// Now, as progress: if others have no better use for the request.
    Progress,
    /// Not before this instant.
    At(DateTime<Utc>),
}

/// What a failed request means for what was to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It is tried again.
    Later {
        /// Not before.
        at: DateTime<Utc>,
        /// Whether nothing else is worth trying before that: GitHub as a whole does not answer, or not to us.
        everything: bool,
        /// Whether a person has to know: everything but limits, which are ordinary.
        trouble: bool,
    },
    /// The text is too long for GitHub.
    TooLong,
    /// What it was to be told to is not there, or not for us to see.
    Gone,
    /// It will never be taken.
    Never,
}

/// Hashes of what is to be told, as the row keeps them.
pub fn told(state: &str, text: &str, now: DateTime<Utc>) -> Told {
    Told { state: hash(state), text: hash(text), at: now }
}

/// The first 16 bytes of a text's SHA-256, in hexadecimal.
pub fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// When `next` is told, where `row` is what was told so far; progress is told every `progress` at most.
pub fn when(row: Option<&ReportRow>, next: &Told, progress: Duration) -> When {
    let now = next.at;
    let Some(row) = row else { return When::Now };
    if row.next_at > now {
        return When::At(row.next_at);
    }
    if let Some(since) = row.creating_since
        // After a step back of the clock it lies ahead and means nothing.
        && since <= now
        && now < since + AFTER_LOST_ANSWER
    {
        return When::At(since + AFTER_LOST_ANSWER);
    }
    let Some(told) = &row.told else { return When::Now };
    if told.text == next.text && row.creating_since.is_none() {
        return When::Told;
    }
    if told.state != next.state || row.creating_since.is_some() {
        return When::Now;
    }
    match told.at + progress {
        at if at > now && told.at <= now => When::At(at),
        _ => When::Progress,
    }
}

/// What an error means after `attempts` failures before it.
pub fn judge(error: &GitHubError, attempts: u32, now: DateTime<Utc>) -> Failed {
    let later = |longest, everything| Failed::Later { at: now + doubled(attempts, longest), everything, trouble: true };
    match error {
        GitHubError::RateLimited { retry_after, .. } => {
            Failed::Later { at: now + *retry_after, everything: true, trouble: false }
        }
        GitHubError::Unanswered { .. } => later(LONGEST_WAIT, false),
        GitHubError::Unreachable { .. } | GitHubError::TimedOut { .. } | GitHubError::Unavailable { .. } => {
            later(LONGEST_WAIT, true)
        }
        GitHubError::NoAuthorities
        | GitHubError::CaFile { .. }
        | GitHubError::Proxy { .. }
        | GitHubError::Client { .. }
        | GitHubError::Secret(_)
        | GitHubError::PrivateKey { .. }
        | GitHubError::NotAnApp { .. }
        | GitHubError::LeadsAway { .. } => later(LONGEST_WAIT_FOR_ACCESS, true),
        GitHubError::Unauthorised { .. } | GitHubError::Suspended { .. } => later(LONGEST_WAIT_FOR_ACCESS, true),
        // Of one repository or one permission; others may work.
        GitHubError::NotInstalled { .. } => later(LONGEST_WAIT_FOR_ACCESS, false),
        GitHubError::Forbidden { message, .. } if message.contains("locked") => Failed::Never,
        GitHubError::Forbidden { .. } => later(LONGEST_WAIT_FOR_ACCESS, false),
        GitHubError::Gone { .. } => Failed::Gone,
        GitHubError::Invalid { .. } if error.is_too_long() => Failed::TooLong,
        GitHubError::Invalid { .. } | GitHubError::Refused { .. } | GitHubError::Request { .. } => Failed::Never,
        GitHubError::TooLarge { .. } | GitHubError::Malformed { .. } => later(LONGEST_WAIT, false),
    }
}

/// How long to wait after so many failures, at most `longest`.
fn doubled(failures: u32, longest: TimeDelta) -> TimeDelta {
    FIRST_WAIT.checked_mul(1 << failures.min(16)).map_or(longest, |wait| wait.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ReportKey, ReportKind};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn row(told: Option<Told>) -> ReportRow {
        let key = ReportKey { repository: "o/r".parse().unwrap(), kind: ReportKind::Comment, subject: "#1".into() };
        ReportRow { key, remote_id: Some(1), told, creating_since: None, attempts: 0, next_at: at(0), last_error: None }
    }

    #[test]
    fn a_change_is_told_at_once_and_progress_now_and_then() {
        let minute = Duration::from_secs(60);
        let said = told("queued", "place 3", at(100));
        assert_eq!(when(None, &said, minute), When::Now);
        assert_eq!(when(Some(&row(None)), &said, minute), When::Now);
        let row = row(Some(said));
        assert_eq!(when(Some(&row), &told("queued", "place 3", at(500)), minute), When::Told);
        assert_eq!(when(Some(&row), &told("queued", "place 2", at(101)), minute), When::At(at(160)));
        assert_eq!(when(Some(&row), &told("queued", "place 2", at(160)), minute), When::Progress);
        assert_eq!(when(Some(&row), &told("running", "place 2", at(101)), minute), When::Now);
        assert_eq!(
            when(Some(&row), &told("queued", "place 2", at(50)), minute),
            When::Progress,
            "the clock was set back"
        );
        let later = ReportRow { next_at: at(900), ..row.clone() };
        assert_eq!(when(Some(&later), &told("running", "", at(101)), minute), When::At(at(900)));
        let lost = ReportRow { remote_id: None, creating_since: Some(at(100)), ..row };
        assert_eq!(when(Some(&lost), &told("queued", "place 3", at(101)), minute), When::At(at(110)));
        assert_eq!(when(Some(&lost), &told("queued", "place 3", at(110)), minute), When::Now);
    }

    #[test]
    fn a_limit_is_obeyed_and_is_no_trouble() {
        let route = || "/x".to_owned();
        let limited =
            GitHubError::RateLimited { route: route(), message: String::new(), retry_after: Duration::from_secs(700) };
        assert_eq!(judge(&limited, 3, at(0)), Failed::Later { at: at(700), everything: true, trouble: false });
        let revoked = GitHubError::Unauthorised { route: route(), message: String::new() };
        assert_eq!(judge(&revoked, 0, at(0)), Failed::Later { at: at(30), everything: true, trouble: true });
        assert_eq!(judge(&revoked, 40, at(0)), Failed::Later { at: at(300), everything: true, trouble: true });
        let lost = GitHubError::Unanswered { route: route(), reason: String::new() };
        assert_eq!(judge(&lost, 2, at(0)), Failed::Later { at: at(120), everything: false, trouble: true });
        let forbidden = |message: &str| GitHubError::Forbidden { route: route(), message: message.into(), needs: None };
        assert_eq!(judge(&forbidden("Unable to create comment because issue is locked."), 0, at(0)), Failed::Never);
        assert!(matches!(
            judge(&forbidden("Resource not accessible"), 0, at(0)),
            Failed::Later { everything: false, .. }
        ));
    }
}
