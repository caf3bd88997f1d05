//! One place that results are sent to, a bucket, a folder or an upload API, behind one verb: `send`.

use std::fmt;

use super::upload::{Existing, UploadObject, UploadOutcome, upload};
use super::upload_api::{ApiError, ApiOutcome, UploadClient};
use crate::config::{PublishTarget, SecretError};
use crate::model::Fault;
use crate::objects::{ObjectError, ObjectTarget, Patience};
use crate::step::Step;

/// Where objects are sent.
pub enum Destination {
    /// A bucket or a folder.
    Store(ObjectTarget),
    /// An upload API.
    Api(Box<UploadClient>),
}

/// Why a destination cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The bucket or folder cannot be opened.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// A credential of the API cannot be read.
    #[error("failed to read a credential of the upload API")]
    Secret(#[from] SecretError),
    /// No HTTP client can be made.
    #[error("failed to set up a client of the upload API")]
    Client(#[from] reqwest::Error),
    /// The configuration names neither `url` nor `api` with both credentials.
    #[error("the target names no place (give `url`, or `api` with user name and password)")]
    Nowhere,
}

/// Why an object was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// The API refused or failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl SendError {
    /// Whether the same step may succeed later without anybody's help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Store(error) => error.fault(),
            Self::Api(error) => error.fault(),
        }
    }
}

impl Destination {
    /// Opens a configured target. Nothing is sent yet.
    ///
    /// # Errors
    /// When the target's folder, settings or secrets are unusable.
    pub fn open(target: &PublishTarget, patience: Patience) -> Result<Self, DestinationError> {
        if let Some(url) = &target.url {
            return Ok(Self::Store(ObjectTarget::open(url, target, patience)?));
        }
        let api = target.api.as_ref().ok_or(DestinationError::Nowhere)?;
        let (Some(username), Some(password)) = (api.username(), api.password()) else {
            return Err(DestinationError::Nowhere);
        };
        let client = UploadClient::new(api.url.clone(), username.read()?, password.read()?, patience)?;
        Ok(Self::Api(Box::new(client)))
    }

    /// Sends the object. Repeating it is safe: equal results are left as they are. An API writes over nothing,
    /// whatever `existing` says.
    ///
    /// # Errors
    /// When the destination refuses or fails, also when asked again.
    pub async fn send(&self, object: &UploadObject, existing: Existing) -> Result<UploadOutcome, SendError> {
        match self {
            Self::Store(target) => Ok(upload(target, object, existing).await?),
            Self::Api(client) => Ok(match Step::SendRecords.take(client.upload(object)).await? {
                ApiOutcome::Created => UploadOutcome::Created,
                ApiOutcome::Exists => UploadOutcome::Exists,
            }),
        }
    }
}

/// The destination, for people.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(target) => write!(f, "{target}"),
            Self::Api(client) => write!(f, "{client}"),
        }
    }
}
