//! The upload API, an alternative to writing into a bucket: one POST with user name, password, key and content. Every
//! answer is respected; a key that exists already is said, since what lies there cannot be compared.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::upload::UploadObject;
use crate::model::Fault;
use crate::objects::Patience;
use crate::redact::masked;

/// What came of an upload by the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiOutcome {
    /// The object was written.
    Created,
    /// An object with this key is there already and was left; whether it holds the same results is not known.
    Exists,
}

/// Why the API did not take an object.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The credentials are missing or wrong.
    #[error("failed to upload {key}: the API refuses the user name or password ({message})")]
    Forbidden {
        /// The object's key.
        key: String,
        /// What the API said.
        message: String,
    },
    /// The API does not accept the request.
    #[error("failed to upload {key}: the API answered {status} ({message})")]
    Rejected {
        /// The object's key.
        key: String,
        /// The HTTP status.
        status: StatusCode,
        /// What the API said.
        message: String,
    },
    /// The API failed, also when asked again.
    #[error("failed to upload {key}: the API answered {status} to every of {tries} tries ({message})")]
    Outage {
        /// The object's key.
        key: String,
        /// The last HTTP status.
        status: StatusCode,
        /// How often it was tried.
        tries: usize,
        /// What the API said last.
        message: String,
    },
    /// The API was not to be reached.
    #[error("failed to reach the upload API for {key} (is its address right?)")]
    Unreachable {
        /// The object's key.
        key: String,
        /// The last failure.
        source: reqwest::Error,
    },
    /// The object's own content cannot be sent.
    #[error("failed to unpack the content of {key}")]
    Content {
        /// The object's key.
        key: String,
        /// Why.
        source: std::io::Error,
    },
}

impl ApiError {
    /// Whether the same step may succeed later without anybody's help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Outage { .. } | Self::Unreachable { .. } => Fault::Transient,
            Self::Forbidden { .. } | Self::Rejected { .. } | Self::Content { .. } => Fault::Permanent,
        }
    }
}

#[derive(Serialize)]
struct Request<'a> {
    username: &'a str,
    password: &'a str,
    s3_path: &'a str,
    content: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    message: String,
}

/// A client of one upload API.
pub struct UploadClient {
    http: reqwest::Client,
    url: Url,
    username: SecretString,
    password: SecretString,
    patience: Patience,
}

impl fmt::Display for UploadClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upload API {}", self.url)
    }
}

impl UploadClient {
    /// A client of the API at `url`.
    ///
    /// # Errors
    /// When no HTTP client can be made (TLS set-up).
    pub fn new(
        url: Url,
        username: SecretString,
        password: SecretString,
        patience: Patience,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(patience.request_for)
            .connect_timeout(patience.connect_for)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, url, username, password, patience })
    }

    /// Sends the object as plain lines; a failure of the service is tried again with growing waits.
    ///
    /// # Errors
    /// When the API refuses, fails or is not to be reached.
    pub async fn upload(&self, object: &UploadObject) -> Result<ApiOutcome, ApiError> {
        let key = || object.key.clone();
        let content = super::upload::plain(&object.body)
            .and_then(|text| String::from_utf8(text).map_err(std::io::Error::other))
            .map_err(|source| ApiError::Content { key: key(), source })?;
        let request = Request {
            username: self.username.expose_secret(),
            password: self.password.expose_secret(),
            s3_path: &object.key,
            content: &content,
        };
        let mut wait_for = self.patience.first_wait_for;
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.post(&request).await {
                Ok((status, message, is_its_own)) => match status {
                    StatusCode::OK | StatusCode::CREATED if is_its_own => return Ok(ApiOutcome::Created),
                    // A page of something before it: nothing says that the object was taken.
                    StatusCode::OK | StatusCode::CREATED => ApiError::Outage { key: key(), status, tries, message },
                    StatusCode::CONFLICT => return Ok(ApiOutcome::Exists),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        return Err(ApiError::Forbidden { key: key(), message });
                    }
                    status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                        ApiError::Outage { key: key(), status, tries, message }
                    }
                    status => return Err(ApiError::Rejected { key: key(), status, message }),
                },
                Err(source) => ApiError::Unreachable { key: key(), source: source.without_url() },
            };
            if tries > self.patience.retries {
                return Err(failure);
            }
            tracing::warn!(upload.try_number = tries, "the upload API failed and is asked again: {failure}");
            tokio::time::sleep(wait_for).await;
            wait_for = (wait_for * 2).min(Duration::from_secs(15));
        }
    }

    /// Status and message of the answer, and whether it is one of the API: a JSON object with a message.
    async fn post(&self, request: &Request<'_>) -> Result<(StatusCode, String, bool), reqwest::Error> {
        let response = self.http.post(self.url.clone()).json(request).send().await?;
        let status = response.status();
        let text = response.text().await?;
        let (message, is_its_own) = match serde_json::from_str::<Answer>(&text) {
            Ok(answer) => (answer.message, true),
            Err(_) => (text, false),
        };
        // Masked before it is cut: half a secret is not found any more.
        Ok((status, masked(&message).chars().take(300).collect(), is_its_own))
    }
}
