//! Where results go: object stores, folders, an upload API.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use super::SecretSource;
use super::secret::shown_address;
use super::triggers::TriggerName;

/// Where the results of a repository go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishConfig {
    /// Targets; every one gets every result. Default: `[]`, results stay in the store.
    pub to: Vec<PublishTarget>,
    /// Runs of which triggers are published: schedule, `pull_request` (with commands), merge, release, manual.
    /// Default: all but `pull_request`.
    pub from: Vec<TriggerName>,
    /// Whether all targets are shadows (see there). Default: false.
    pub shadow: bool,
    /// `name` of every record. Default for a suite of kind `vllm`: `vLLM benchmark`, which vLLM's dashboard asks for;
    /// else the repository's name.
    pub benchmark_name: String,
}

/// One place results are sent to. Exactly one of `url` and `api` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishTarget {
    /// `s3://bucket`, `s3://bucket/prefix` or `file:///folder`.
    pub url: Option<TargetUrl>,
    /// Address of an S3-compatible service. Default: Amazon's.
    pub endpoint: Option<Url>,
    /// Region of the bucket. Default: `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket is read without credentials. Default: false, the usual chain of AWS credentials.
    pub anonymous: bool,
    /// An upload API instead of a bucket. Default: none.
    pub api: Option<UploadApi>,
    /// Whether this runs beside an existing system: results are sent, and what lies there is not taken for measured.
    /// Default: false.
    pub shadow: bool,
}

/// An API that takes `{username, password, s3_path, content}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadApi {
    /// Where it is. Required.
    pub url: Url,
    /// File with the user name. One of this and `username_env` is required.
    #[serde(default)]
    pub username_file: Option<PathBuf>,
    /// Environment variable with the user name.
    #[serde(default)]
    pub username_env: Option<String>,
    /// File with the password. One of this and `password_env` is required.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Environment variable with the password.
    #[serde(default)]
    pub password_env: Option<String>,
}

impl PublishTarget {
    /// Whether results go to the same place: the same bucket and prefix, folder or API, however it is reached.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let api = |target: &Self| target.api.as_ref().map(|api| api.url.clone());
        match (&self.url, &other.url) {
            (Some(own), Some(others)) => own == others,
            (None, None) => api(self) == api(other),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl fmt::Display for PublishTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, &self.api) {
            (Some(url), _) => write!(f, "{url}")?,
            (None, Some(api)) => write!(f, "{}", api.url)?,
            (None, None) => f.write_str("nowhere")?,
        }
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

impl UploadApi {
    /// Where the user name is kept.
    pub fn username(&self) -> Option<SecretSource> {
        SecretSource::of(self.username_file.as_deref(), self.username_env.as_deref())
    }

    /// Where the password is kept.
    pub fn password(&self) -> Option<SecretSource> {
        SecretSource::of(self.password_file.as_deref(), self.password_env.as_deref())
    }
}

/// An object store's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TargetUrl {
    /// A bucket and what every key in it begins with (empty, or without a slash at either end).
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The prefix of every key.
        prefix: String,
    },
    /// A folder on this host, an absolute path.
    File(PathBuf),
}

/// The text is not the address of an object store.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a target (s3://bucket, s3://bucket/prefix or file:///folder)")]
pub struct UnknownTarget(String);

impl FromStr for TargetUrl {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownTarget(shown_address(text).to_owned());
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            let prefix = prefix.trim_matches('/');
            let plain = !bucket.is_empty() && bucket.chars().all(valid) && !prefix.contains(['?', '#']);
            return if plain {
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            } else {
                Err(unknown())
            };
        }
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "file" && text.starts_with("file:///"));
        url.and_then(|url| url.to_file_path().ok()).map(Self::File).ok_or_else(unknown)
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::File(path) => match Url::from_file_path(path) {
                Ok(url) => write!(f, "{url}"),
                Err(()) => write!(f, "file://{}", path.display()),
            },
        }
    }
}

impl TryFrom<String> for TargetUrl {
    type Error = UnknownTarget;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TargetUrl> for String {
    fn from(url: TargetUrl) -> Self {
        url.to_string()
    }
}

/// What is measured of a pull request is for its people; the records are of commits that a branch has.
fn default_from() -> Vec<TriggerName> {
    TriggerName::ALL.into_iter().filter(|name| *name != TriggerName::PullRequest).collect()
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { to: Vec::new(), from: default_from(), shadow: false, benchmark_name: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for text in ["s3://ossci-benchmarks", "s3://bucket/some/prefix", "file:///srv/results", "file:///a%20b"] {
            assert_eq!(text.parse::<TargetUrl>().unwrap().to_string(), text);
        }
        assert_eq!(
            "s3://b/p/".parse::<TargetUrl>().unwrap(),
            TargetUrl::S3 { bucket: "b".to_owned(), prefix: "p".to_owned() }
        );
        for text in ["", "bucket", "s3:/x", "s3://", "s3:///p", "gs://b", "file://x/y", "/srv", "s3://b/p?x"] {
            assert!(text.parse::<TargetUrl>().is_err(), "{text}");
        }
    }
}
