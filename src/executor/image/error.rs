//! Why an image could not be had, told apart as far as a person or a retry cares.

use std::time::Duration;

use crate::executor::docker::EngineError;
use crate::model::{FailureKind, Fault};
use crate::registry::RegistryError;

/// An image could not be resolved or pulled.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry answered that there is no such image.
    #[error("there is no image {reference}: it was not built (yet), or the image template is wrong")]
    Missing {
        /// As asked for.
        reference: String,
    },
    /// The pull policy is `never` and the engine does not have it.
    #[error("the engine does not have {reference} and `pull: never` forbids to pull it: `docker pull {reference}`")]
    NotInEngine {
        /// As asked for.
        reference: String,
    },
    /// The image exists for other architectures only.
    #[error("{reference} was built for {}, this host needs {wanted}", has.join(", "))]
    WrongArchitecture {
        /// As asked for.
        reference: String,
        /// What the engine runs, `os/architecture`.
        wanted: String,
        /// What the image is for.
        has: Vec<String>,
    },
    /// The digest that was resolved cannot be had any more.
    #[error("{reference} vanished from the registry after it was resolved")]
    DigestGone {
        /// By digest.
        reference: String,
    },
    /// The registry let benchd look but not the engine pull.
    #[error(
        "the registry refuses to let the engine pull {reference}: {message} (check the password of this host in \
         `registries` or `docker login`)"
    )]
    Unauthorised {
        /// By digest.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The engine's disk is full.
    #[error("the engine's disk is full, failed to pull {reference}: {message} (free some room: `docker system df`)")]
    DiskFull {
        /// By digest.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The engine said nothing for too long.
    #[error("the pull of {reference} stood still for {} seconds", after.as_secs())]
    Stalled {
        /// By digest.
        reference: String,
        /// How long was waited.
        after: Duration,
    },
    /// The engine speaks TLS with a registry that does not.
    #[error(
        "the engine speaks TLS with the registry of {reference}, which does not: {message} (name the host in \
         `insecure-registries` of /etc/docker/daemon.json and restart the engine)"
    )]
    PlainRegistry {
        /// By digest.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The pull failed otherwise.
    #[error("failed to pull {reference}: {message}")]
    Pull {
        /// By digest.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The engine does not answer or refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The registry gave no answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl ImageError {
    /// Whether trying again can help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Missing { .. }
            | Self::NotInEngine { .. }
            | Self::WrongArchitecture { .. }
            | Self::Unauthorised { .. }
            | Self::DiskFull { .. }
            | Self::PlainRegistry { .. } => Fault::Permanent,
            Self::DigestGone { .. } | Self::Stalled { .. } | Self::Pull { .. } => Fault::Transient,
            Self::Engine(error) => error.fault(),
            Self::Registry(error) => error.fault(),
        }
    }

    /// What a job that failed for this reason is filed under.
    pub fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Missing { .. } | Self::NotInEngine { .. } => FailureKind::ImageMissing,
            Self::WrongArchitecture { .. } => FailureKind::WrongArchitecture,
            Self::DiskFull { .. } => FailureKind::DiskFull,
            Self::DigestGone { .. }
            | Self::Unauthorised { .. }
            | Self::Stalled { .. }
            | Self::PlainRegistry { .. }
            | Self::Pull { .. } => FailureKind::PullFailed,
            Self::Engine(_) => FailureKind::EngineUnavailable,
            Self::Registry(_) => FailureKind::RegistryUnavailable,
        }
    }

    /// What the engine's error means for the pull of `reference`: it reports whatever a registry did as its own 404
    /// or 500, or as a line inside an answer that began with 200.
    pub(super) fn of_pull(reference: String, error: EngineError) -> Self {
        let (status, message) = match error {
            EngineError::Answer { status, message, .. } => (Some(status), message),
            EngineError::InStream { message, .. } => (None, message),
            away @ (EngineError::NotRunning { .. }
            | EngineError::PermissionDenied { .. }
            | EngineError::Refused { .. }
            | EngineError::Lost { .. }
            | EngineError::TimedOut { .. }
            | EngineError::UnsupportedHost { .. }
            | EngineError::TooOld { .. }
            | EngineError::Client { .. }) => return Self::Engine(away),
        };
        let lower = message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if says(&["no space left on device", "disk quota exceeded"]) {
            Self::DiskFull { reference, message }
        } else if says(&["no matching manifest for"]) {
            let wanted = message.split_whitespace().find(|word| word.starts_with("linux/")).unwrap_or("this host's");
            Self::WrongArchitecture { reference, wanted: wanted.to_owned(), has: vec!["other platforms".to_owned()] }
        } else if says(&["server gave http response to https client"]) {
            Self::PlainRegistry { reference, message }
        } else if says(&["unauthorized", "no basic auth credentials", "authentication required", "access denied"]) {
            Self::Unauthorised { reference, message }
        } else if status == Some(404) || says(&["manifest unknown", "not found: manifest"]) {
            Self::DigestGone { reference }
        } else {
            Self::Pull { reference, message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_say_of_a_pull_is_told_apart() {
        let of = |status: Option<u16>, message: &str| {
            let (action, message) = ("pull".to_owned(), message.to_owned());
            let error = match status {
                Some(status) => EngineError::Answer { action, status, message },
                None => EngineError::InStream { action, message },
            };
            let error = ImageError::of_pull("r/x@sha256:1".to_owned(), error);
            (error.failure_kind(), error.fault())
        };
        use FailureKind::{DiskFull, PullFailed, WrongArchitecture};
        use Fault::{Permanent, Transient};
        for (status, message, expected) in [
            (None, "write /var/lib/docker/tmp/x: no space left on device", (DiskFull, Permanent)),
            (Some(500), "mkdir /var/lib/docker/x: no space left on device", (DiskFull, Permanent)),
            (Some(404), "manifest for r/x@sha256:1 not found: manifest unknown", (PullFailed, Transient)),
            (Some(500), "Get \"https://r/v2/\": no basic auth credentials", (PullFailed, Permanent)),
            (Some(500), "unauthorized: authentication required", (PullFailed, Permanent)),
            (Some(404), "pull access denied for r/x, repository does not exist", (PullFailed, Permanent)),
            (Some(500), "http: server gave HTTP response to HTTPS client", (PullFailed, Permanent)),
            (Some(500), "dial tcp 127.0.0.1:1: connect: connection refused", (PullFailed, Transient)),
            (None, "unexpected EOF", (PullFailed, Transient)),
            (Some(429), "toomanyrequests: You have reached your pull rate limit", (PullFailed, Transient)),
            (Some(404), "no matching manifest for linux/amd64 in the manifest list", (WrongArchitecture, Permanent)),
        ] {
            assert_eq!(of(status, message), expected, "{message}");
        }
    }
}
