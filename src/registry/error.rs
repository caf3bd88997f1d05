//! Why a registry gave no answer that counts. None of these says anything about whether the image exists.

use std::time::Duration;

use super::CredentialError;
use crate::health::lowest_cause;
use crate::model::Fault;

/// A registry could not be asked, or its answer decides nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// 401 or 403, also after the token was renewed.
    #[error("{host} refuses access to {repository} ({who}): {}", advice(.who, .host))]
    Unauthorised {
        /// The registry.
        host: String,
        /// The repository asked for.
        repository: String,
        /// As whom it was asked.
        who: Identity,
    },
    /// 429.
    #[error("{host} limits the rate of requests{}: log in (`docker login {host}`) or ask less often", wait(*.retry_after))]
    RateLimited {
        /// The registry.
        host: String,
        /// How long it asks to wait, if it says.
        retry_after: Option<Duration>,
    },
    /// No connection, or it broke, also when tried again.
    #[error("failed to reach the registry {host}: {reason}")]
    Unreachable {
        /// The registry, or the host of its token service.
        host: String,
        /// The lowest cause.
        reason: String,
    },
    /// The connection stands, but not the trust in it.
    #[error(
        "failed to set up TLS with the registry {host}: {reason} (a private authority belongs in the system's trust \
         store; a registry without TLS needs `plain_http: true`)"
    )]
    Tls {
        /// The registry, or the host of its token service.
        host: String,
        /// The lowest cause.
        reason: String,
    },
    /// 5xx, also when tried again.
    #[error("the registry {host} failed with status {status}")]
    Server {
        /// The registry.
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer cannot be a registry's, or breaks the protocol.
    #[error("{url} did not answer as a registry does: {reason}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The credentials for the registry could not be read.
    #[error("failed to read the credentials for the registry {host}")]
    Credentials {
        /// The registry.
        host: String,
        /// Why.
        source: CredentialError,
    },
}

/// As whom a registry was asked; never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// No credentials were found.
    Anonymous,
    /// With the password of this user.
    User(String),
    /// With an identity token.
    Token,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("asked without credentials"),
            Self::User(name) => write!(f, "asked as {name}"),
            Self::Token => f.write_str("asked with an identity token"),
        }
    }
}

fn advice(who: &Identity, host: &str) -> String {
    match who {
        Identity::Anonymous => format!(
            "give credentials (`docker login {host}`, or `username` and `password_file` of this host in `registries`), \
             or check the repository's name"
        ),
        Identity::User(_) | Identity::Token => {
            format!("check the password and that the account may pull (`docker login {host}` renews it)")
        }
    }
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |after| format!(" (wait {} seconds)", after.as_secs()))
}

impl RegistryError {
    /// Whether asking again later can help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::RateLimited { .. } | Self::Unreachable { .. } | Self::Server { .. } => Fault::Transient,
            // A proxy's maintenance page looks like a malformed answer and goes away by itself.
            Self::Malformed { .. } => Fault::Transient,
            Self::Unauthorised { .. } | Self::Tls { .. } => Fault::Permanent,
            Self::Credentials { source, .. } => source.fault(),
        }
    }

    /// How long the registry asks to wait before the next request, where it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            Self::Unauthorised { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Server { .. }
            | Self::Malformed { .. }
            | Self::Credentials { .. } => None,
        }
    }

    /// Classifies a failed exchange with `host`.
    pub(super) fn of_exchange(host: &str, error: reqwest::Error) -> Self {
        let host = host.to_owned();
        if error.is_redirect() || error.is_builder() {
            let url = error.url().map_or_else(|| host.clone(), ToString::to_string);
            return Self::Malformed { url, reason: lowest_cause(&error.without_url()) };
        }
        let timed_out = error.is_timeout();
        let error = error.without_url();
        let reason = lowest_cause(&error);
        if is_tls(&error) {
            Self::Tls { host, reason }
        } else if timed_out {
            Self::Unreachable { host, reason: "no answer in time".to_owned() }
        } else {
            Self::Unreachable { host, reason }
        }
    }
}

fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    // An I/O error does not name what it wraps as its source.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_tls(wrapped)) || error.source().is_some_and(is_tls)
}
