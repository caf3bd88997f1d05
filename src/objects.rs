//! The object store: exists, read, put once, replace, on S3 (and what is compatible) or in a folder. An error is never
//! taken for "not there": what is measured, published and overwritten hangs on the difference.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig,
};

use crate::config::{PublishTarget, TargetUrl};
use crate::health::lowest_cause;
use crate::meters::{self, Call, Service};
use crate::model::Fault;

/// Objects larger than this are not read, in bytes: a job's results stay far below.
const MAX_OBJECT_BYTES: u64 = 256 << 20;

/// How patient a target is with its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For one request, connecting included.
    pub request_for: Duration,
    /// For connecting alone.
    pub connect_for: Duration,
    /// How often a request that met an outage (5xx, no connection, time-out) is repeated.
    pub retries: usize,
    /// Wait before the first repetition; it doubles.
    pub first_wait_for: Duration,
    /// For a request with all its repetitions.
    pub total_for: Duration,
}

impl Default for Patience {
    /// 30 s a request, 10 s to connect, 4 repetitions from 200 ms on, 2 minutes in all.
    fn default() -> Self {
        Self {
            request_for: Duration::from_secs(30),
            connect_for: Duration::from_secs(10),
            retries: 4,
            first_wait_for: Duration::from_millis(200),
            total_for: Duration::from_secs(120),
        }
    }
}

/// Whether an object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// It is not, as the store itself says.
    Absent,
}

/// An object, as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key, without the target's prefix.
    pub key: String,
    /// Its size as stored.
    pub bytes: u64,
    /// The store's tag of its content.
    pub etag: Option<String>,
    /// When it was written.
    pub modified_at: DateTime<Utc>,
}

/// What came of putting an object that must not be there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOnce {
    /// It was written.
    Created,
    /// An object is there already; nothing was written.
    Exists,
}

/// Why an object could not be looked up, read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The target itself cannot be used.
    #[error("failed to open {target}")]
    Open {
        /// Which target.
        target: String,
        /// Why.
        source: object_store::Error,
    },
    /// The folder cannot be made.
    #[error("failed to make the folder {path}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key cannot be one.
    #[error("`{key}` cannot be the key of an object")]
    Key {
        /// The key.
        key: String,
        /// Why.
        source: object_store::path::Error,
    },
    /// Nothing in this process says who it is.
    #[error(
        "failed to {verb} {object}: no AWS credentials were found (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
         AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, give the host a role, or use the bucket anonymously)"
    )]
    NoCredentials {
        /// `read`, `list`, `write` or `remove`.
        verb: &'static str,
        /// The object's address.
        object: String,
        /// What looking for them ended with.
        source: Cause,
    },
    /// The credentials are refused or do not suffice.
    #[error(
        "failed to {verb} {object}: access denied (check the AWS credentials of this process; the role needs \
         s3:GetObject, s3:PutObject and s3:ListBucket on the bucket)"
    )]
    Forbidden {
        /// `read`, `list`, `write` or `remove`.
        verb: &'static str,
        /// The object's address.
        object: String,
        /// What the service said.
        source: Cause,
    },
    /// The bucket is not there, or the service does not know it.
    #[error("failed to {verb} {object}: the bucket does not exist (check its name, --endpoint and --region)")]
    NoBucket {
        /// `read`, `list`, `write` or `remove`.
        verb: &'static str,
        /// The object's address.
        object: String,
        /// What the service said.
        source: Cause,
    },
    /// The object is larger than benchd reads.
    #[error("{object} has {size} bytes, more than benchd reads")]
    TooLarge {
        /// The object's address.
        object: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The folder cannot be read or written.
    #[error("failed to {verb} {object} (is there room, and is the folder permitted to this process?)")]
    Disk {
        /// `read`, `list`, `write` or `remove`.
        verb: &'static str,
        /// The object's address.
        object: String,
        /// What the system said.
        source: Cause,
    },
    /// The service failed, was slow or not to be reached, also when asked again.
    #[error("failed to {verb} {object} (is the service up and its endpoint right?)")]
    Outage {
        /// `read`, `list`, `write` or `remove`.
        verb: &'static str,
        /// The object's address.
        object: String,
        /// The last failure.
        source: Cause,
    },
}

impl ObjectError {
    /// Whether the same step may succeed later without anybody's help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Outage { .. } | Self::Disk { .. } => Fault::Transient,
            Self::Open { .. }
            | Self::Folder { .. }
            | Self::Key { .. }
            | Self::NoCredentials { .. }
            | Self::Forbidden { .. }
            | Self::NoBucket { .. }
            | Self::TooLarge { .. } => Fault::Permanent,
        }
    }
}

/// A place for objects: a bucket or a folder, with the prefix of all its keys.
#[derive(Clone, Debug)]
pub struct ObjectTarget {
    url: TargetUrl,
    store: Arc<dyn ObjectStore>,
    /// Set when the store has once spoken of an object, so that its bucket is known to be there.
    bucket_seen: Arc<OnceLock<()>>,
}

impl ObjectTarget {
    /// Opens the bucket or folder at `url`; `access` says endpoint, region and whether credentials are used. S3
    /// credentials come from the usual AWS chain. A folder is made where it is missing. Nothing is sent yet.
    ///
    /// # Errors
    /// When the folder cannot be made or the S3 settings contradict each other.
    pub fn open(url: &TargetUrl, access: &PublishTarget, patience: Patience) -> Result<Self, ObjectError> {
        let opened = |source| ObjectError::Open { target: url.to_string(), source };
        let store: Arc<dyn ObjectStore> = match url {
            TargetUrl::File(path) => {
                std::fs::create_dir_all(path).map_err(|source| ObjectError::Folder { path: path.clone(), source })?;
                Arc::new(LocalFileSystem::new_with_prefix(path).map_err(opened)?.with_automatic_cleanup(true))
            }
            TargetUrl::S3 { bucket, prefix } => {
                let s3 = s3(bucket, access, patience).build().map_err(opened)?;
                if prefix.is_empty() { Arc::new(s3) } else { Arc::new(PrefixStore::new(s3, prefix.as_str())) }
            }
        };
        Ok(Self { url: url.clone(), store, bucket_seen: Arc::new(OnceLock::new()) })
    }

    /// The address of a key, for people.
    pub fn address(&self, key: &str) -> String {
        format!("{}/{key}", self.to_string().trim_end_matches('/'))
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// Whatever is not a clear answer of the store.
    pub async fn exists(&self, key: &str) -> Result<Presence, ObjectError> {
        match counted(self.store.head(&path(key)?).await) {
            Ok(_) => {}
            Err(error) => {
                self.absent(key, error)?;
                if self.bucket_seen.get().is_some() {
                    return Ok(Presence::Absent);
                }
                // The answer to HEAD has no text, so a missing bucket looks like a missing object: ask once with GET.
                match counted(self.store.get(&path(key)?).await) {
                    Ok(_) => {}
                    Err(error) => {
                        self.absent(key, error)?;
                        self.bucket_seen.get_or_init(|| ());
                        return Ok(Presence::Absent);
                    }
                }
            }
        }
        self.bucket_seen.get_or_init(|| ());
        Ok(Presence::Present)
    }

    /// The object's bytes as stored; `None` when the store says that it is not there.
    ///
    /// # Errors
    /// Whatever is not a clear answer of the store.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, ObjectError> {
        let found = match counted(self.store.get(&path(key)?).await) {
            Ok(found) => found,
            Err(error) => return self.absent(key, error).map(|()| None),
        };
        if found.meta.size > MAX_OBJECT_BYTES {
            return Err(ObjectError::TooLarge { object: self.address(key), size: found.meta.size });
        }
        found.bytes().await.map(Some).map_err(|error| self.error("read", key, error))
    }

    /// All objects below `prefix`, a few at a time as the store tells them; below the target's own prefix when it is
    /// empty.
    ///
    /// # Errors
    /// The stream ends with an error when the store cannot be asked or refuses.
    pub fn list(&self, prefix: &str) -> Result<impl Stream<Item = Result<Listed, ObjectError>> + '_, ObjectError> {
        let prefix = path(prefix.trim_matches('/'))?;
        let listed = self.store.list(Some(&prefix));
        Ok(listed.map(move |meta| {
            let meta = counted(meta).map_err(|error| self.error("list", prefix.as_ref(), error))?;
            Ok(Listed {
                key: meta.location.into(),
                bytes: meta.size,
                etag: meta.e_tag,
                modified_at: meta.last_modified,
            })
        }))
    }

    /// Writes an object where none is. Content is JSON lines, compressed with gzip.
    ///
    /// # Errors
    /// When the store refuses or fails.
    pub async fn put_once(&self, key: &str, body: Bytes) -> Result<PutOnce, ObjectError> {
        match self.put(key, body, PutMode::Create).await {
            Ok(()) => Ok(PutOnce::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(PutOnce::Exists),
            Err(error) => Err(self.error("write", key, error)),
        }
    }

    /// Writes an object, over another one if there is one.
    ///
    /// # Errors
    /// When the store refuses or fails.
    pub async fn replace(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.put(key, body, PutMode::Overwrite).await.map_err(|error| self.error("write", key, error))
    }

    /// Removes an object; in a folder, the folders that it leaves empty too. Results are never removed: this is for what
    /// was written to try the target.
    ///
    /// # Errors
    /// When the store refuses or fails.
    pub async fn remove(&self, key: &str) -> Result<(), ObjectError> {
        counted(self.store.delete(&path(key)?).await).map_err(|error| self.error("remove", key, error))
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<(), object_store::Error> {
        let attributes = match self.url {
            TargetUrl::S3 { .. } => Attributes::from_iter([
                (Attribute::ContentEncoding, "gzip"),
                (Attribute::ContentType, "application/json"),
            ]),
            // A folder keeps none and refuses them.
            TargetUrl::File(_) => Attributes::new(),
        };
        let key = ObjectPath::parse(key)?;
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        counted(self.store.put_opts(&key, body.into(), options).await).map(|_| ())
    }

    /// Whether a failure is the store's word that the object is not there.
    fn absent(&self, key: &str, error: object_store::Error) -> Result<(), ObjectError> {
        if matches!(error, object_store::Error::NotFound { .. }) && !names_no_bucket(&error) {
            Ok(())
        } else {
            Err(self.error("read", key, error))
        }
    }

    fn error(&self, verb: &'static str, key: &str, source: object_store::Error) -> ObjectError {
        let object = self.address(key);
        match self.url {
            TargetUrl::File(_) => return ObjectError::Disk { verb, object, source: Cause(source) },
            TargetUrl::S3 { .. } => {}
        }
        if names_no_bucket(&source) {
            return ObjectError::NoBucket { verb, object, source: Cause(source) };
        }
        if source.to_string().contains("/latest/api/token") {
            return ObjectError::NoCredentials { verb, object, source: Cause(source) };
        }
        // What a listing is refused with has no kind of its own.
        if verb == "list" && source.to_string().contains(" 403 ") {
            return ObjectError::Forbidden { verb, object, source: Cause(source) };
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's open enum")]
        match source {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ObjectError::Forbidden { verb, object, source: Cause(source) }
            }
            _ => ObjectError::Outage { verb, object, source: Cause(source) },
        }
    }
}

/// A failure of the service or the network. It reads as its innermost cause, which the layers around it only repeat.
#[derive(Debug)]
pub struct Cause(object_store::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An answer's XML in one line, and not for ever.
        let told = lowest_cause(&self.0).split_whitespace().collect::<Vec<_>>().join(" ");
        f.write_str(&told.chars().take(300).collect::<String>())
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for ObjectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

fn path(key: &str) -> Result<ObjectPath, ObjectError> {
    ObjectPath::parse(key).map_err(|source| ObjectError::Key { key: key.to_owned(), source })
}

/// Whether the service says that the bucket is missing: a 404 like any other but for its text.
fn names_no_bucket(error: &object_store::Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        if error.to_string().contains("NoSuchBucket") {
            return true;
        }
        next = error.source();
    }
    false
}

fn s3(bucket: &str, access: &PublishTarget, patience: Patience) -> AmazonS3Builder {
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: patience.first_wait_for, ..BackoffConfig::default() },
        max_retries: patience.retries,
        retry_timeout: patience.total_for,
    };
    // By key, so that what the environment says of the client (AWS_ALLOW_HTTP, AWS_PROXY_URL) stays.
    let client = |key: ClientConfigKey| AmazonS3ConfigKey::Client(key);
    let seconds = |time: Duration| format!("{}ms", time.as_millis());
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_config(client(ClientConfigKey::Timeout), seconds(patience.request_for))
        .with_config(client(ClientConfigKey::ConnectTimeout), seconds(patience.connect_for));
    if let Some(endpoint) = &access.endpoint {
        builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
    }
    // An endpoint with plain HTTP was asked for by name.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    if let Some(region) = &access.region {
        builder = builder.with_region(region);
    }
    if access.anonymous {
        builder = builder.with_skip_signature(true);
    }
    builder
}

/// Counts a call; "there is none" and "there is one already" are answers.
fn counted<T>(answered: Result<T, object_store::Error>) -> Result<T, object_store::Error> {
    use object_store::Error;
    let outcome = match &answered {
        Ok(_) | Err(Error::NotFound { .. } | Error::AlreadyExists { .. } | Error::Precondition { .. }) => Call::Ok,
        Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => Call::Refused,
        Err(_) => Call::Failed,
    };
    meters::api_call(Service::ObjectStore, outcome);
    answered
}
