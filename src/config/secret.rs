//! Where a secret is kept: a file or an environment variable. Its value is read when it is used and never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::environment;
use crate::redact;

/// Whether an address (`scheme://user:password@host`, also without the scheme) holds a password.
pub(super) fn holds_password(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let Some((_, secret)) = rest.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) else { return false };
    // `host:5000/path@x` has a port.
    let first = secret.split('/').next().unwrap_or_default();
    first.len() == secret.len() || !first.chars().all(|c| c.is_ascii_digit())
}

/// What is repeated of an address: nothing of one that holds a password.
pub(super) fn shown_address(address: &str) -> &str {
    if holds_password(address) { "USER:PASSWORD@.." } else { address }
}

/// Where one secret is kept. Printing it tells the place, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The file's content, without white space around it.
    File(PathBuf),
    /// The value of this environment variable, without white space around it.
    Env(String),
}

/// A secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or not permitted.
    #[error("failed to read the secret in {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The variable is not set, or not UTF-8.
    #[error("the environment variable {0}, which holds a secret by configuration, is not set")]
    Unset(String),
    /// Nothing is in it.
    #[error("the secret in {0} is empty")]
    Empty(SecretSource),
}

impl SecretSource {
    /// The place named by a pair of keys (`token_file`, `token_env`); the file wins, the check refuses both.
    pub fn of(file: Option<&Path>, env: Option<&str>) -> Option<Self> {
        file.map(|path| Self::File(path.to_owned())).or_else(|| env.map(|name| Self::Env(name.to_owned())))
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// When the file or variable cannot be read or is empty; the message names the place.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let value = match self {
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|source| SecretError::Unreadable { path: path.clone(), source })?,
            Self::Env(name) => environment::text(name).ok_or_else(|| SecretError::Unset(name.clone()))?,
        };
        match value.trim() {
            "" => Err(SecretError::Empty(self.clone())),
            value => {
                redact::learn(value);
                Ok(SecretString::from(value))
            }
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_file_is_read_trimmed_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cret?>~\n").unwrap();
        let secret = SecretSource::File(path.clone()).read().unwrap();
        assert_eq!(secret.expose_secret(), "s3cret?>~");
        assert!(!format!("{secret:?}").contains("s3cret"));
        std::fs::write(&path, " \n").unwrap();
        let error = SecretSource::File(path.clone()).read().unwrap_err();
        assert_eq!(error.to_string(), format!("the secret in {} is empty", path.display()));
    }

    #[test]
    fn a_missing_place_is_named() {
        let error = SecretSource::Env("BENCHD_TEST_NOT_SET".to_owned()).read().unwrap_err();
        assert!(error.to_string().contains("BENCHD_TEST_NOT_SET"));
        let error = SecretSource::File("/nonexistent/token".into()).read().unwrap_err();
        assert_eq!(error.to_string(), "failed to read the secret in /nonexistent/token");
    }
}
