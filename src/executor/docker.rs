//! The edge to the Docker Engine: connecting, the version gate, the repair of a header that bollard writes wrongly, and
//! the classes of its errors. What is done with the engine (images, containers) stands in the modules beside it.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};

use crate::health::lowest_cause;
use crate::model::Fault;

/// Where an engine listens unless configured otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// The oldest engine API that benchd was tried with: Docker Engine 20.10.
pub const MIN_API_VERSION: ApiVersion = ApiVersion(1, 41);

/// How long an engine may take to answer headers; a stop or an upload must fit into it. Bodies are not limited by it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// How long an engine may take to say its version before it counts as hanging.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);

/// The engine's API version, `major.minor`; compared to gate what an older engine lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(u32, u32);

impl ApiVersion {
    /// `major.minor` by number.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self(major, minor)
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// A Docker Engine that answered and is new enough. Clones share the connection settings.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    host: String,
    version: String,
    api_version: ApiVersion,
    architecture: String,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No socket at the address: nothing was started there.
    #[error("no Docker Engine at {host}: start it (`systemctl start docker`) or set execution.docker_host")]
    NotRunning {
        /// The address.
        host: String,
    },
    /// The socket is there, but not for this user.
    #[error(
        "this user may not use the Docker Engine at {host}: add the user to the group `docker` (`usermod -aG docker \
         USER`, then log in again) or run benchd as root"
    )]
    PermissionDenied {
        /// The address.
        host: String,
    },
    /// Something is at the address, but nobody accepts the connection.
    #[error("the Docker Engine at {host} refuses the connection: it was stopped or is still starting")]
    Refused {
        /// The address.
        host: String,
    },
    /// The connection broke or could not be made for another reason.
    #[error("failed to {action}: lost the Docker Engine at {host}: {reason}")]
    Lost {
        /// What was being done.
        action: String,
        /// The address.
        host: String,
        /// The lowest cause.
        reason: String,
    },
    /// No answer in time.
    #[error("failed to {action}: the Docker Engine at {host} did not answer in {} seconds", after.as_secs())]
    TimedOut {
        /// What was being done.
        action: String,
        /// The address.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// An address of a kind that is not supported.
    #[error(
        "`{host}` is not a Docker address that benchd can use: give unix:///path/to/docker.sock or tcp://host:port \
         (for TLS or ssh forward the socket first: `ssh -L /run/remote.sock:/var/run/docker.sock HOST`)"
    )]
    UnsupportedHost {
        /// The address.
        host: String,
    },
    /// The engine is older than [`MIN_API_VERSION`], or did not tell its version.
    #[error("the Docker Engine {version} at {host} speaks API {api}, at least {MIN_API_VERSION} is needed: upgrade it")]
    TooOld {
        /// The address.
        host: String,
        /// The engine's version.
        version: String,
        /// The engine's API version, or what it said instead.
        api: String,
    },
    /// The engine answered with an error status.
    #[error("failed to {action}: the Docker Engine answered {status}: {message}")]
    Answer {
        /// What was being done.
        action: String,
        /// HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The engine reported the error inside a stream that began well.
    #[error("failed to {action}: {message}")]
    InStream {
        /// What was being done.
        action: String,
        /// The engine's own words.
        message: String,
    },
    /// The request could not be made or the answer not be read.
    #[error("failed to {action}")]
    Client {
        /// What was being done.
        action: String,
        /// The client's error.
        source: Box<bollard::errors::Error>,
    },
}

impl EngineError {
    /// Whether a retry can help: an engine that is away, slow or answers 5xx may come back.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotRunning { .. } | Self::Refused { .. } | Self::Lost { .. } | Self::TimedOut { .. } => {
                Fault::Transient
            }
            // A full disk stays full, a missing runtime stays missing: only a person helps.
            Self::Answer { status, message, .. } if *status >= 500 && !is_lasting(message) => Fault::Transient,
            Self::InStream { message, .. } if !is_lasting(message) => Fault::Transient,
            Self::Answer { .. }
            | Self::InStream { .. }
            | Self::PermissionDenied { .. }
            | Self::UnsupportedHost { .. }
            | Self::TooOld { .. }
            | Self::Client { .. } => Fault::Permanent,
        }
    }

    /// Whether the engine said that what was named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Answer { status: 404, .. })
    }

    /// Whether the engine ran out of disk.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Answer { message, .. } | Self::InStream { message, .. } => says_disk_full(message),
            Self::NotRunning { .. }
            | Self::PermissionDenied { .. }
            | Self::Refused { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::UnsupportedHost { .. }
            | Self::TooOld { .. }
            | Self::Client { .. } => false,
        }
    }
}

fn says_disk_full(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("no space left on device") || message.contains("disk quota exceeded")
}

/// Messages of 5xx answers that no retry mends.
fn is_lasting(message: &str) -> bool {
    says_disk_full(message)
        || ["could not select device driver", "unknown or invalid runtime name", "executable file not found"]
            .iter()
            .any(|words| message.contains(words))
}

impl Engine {
    /// Connects to the engine at `host` (`unix://path`, `tcp://host:port`; [`DEFAULT_HOST`] when `None` or empty, as
    /// with `DOCKER_HOST`) and asks for its version.
    pub async fn connect(host: Option<&str>) -> Result<Self, EngineError> {
        let host = host.filter(|h| !h.is_empty()).unwrap_or(DEFAULT_HOST).to_owned();
        let action = "ask for its version";
        let timeout = REQUEST_TIMEOUT.as_secs();
        let docker = if host.starts_with("unix://") {
            Docker::connect_with_unix(&host, timeout, API_DEFAULT_VERSION)
        } else if host.starts_with("tcp://") || host.starts_with("http://") {
            Docker::connect_with_http(&host, timeout, API_DEFAULT_VERSION)
        } else {
            return Err(EngineError::UnsupportedHost { host });
        }
        .map_err(|e| classify(action, &host, e))?
        .with_request_modifier(mend_registry_auth);
        let greeting = async { docker.clone().negotiate_version().await?.version().await };
        let said = tokio::time::timeout(GREETING_TIMEOUT, greeting)
            .await
            .map_err(|_elapsed| EngineError::TimedOut {
                action: action.to_owned(),
                host: host.clone(),
                after: GREETING_TIMEOUT,
            })?
            .map_err(|e| classify(action, &host, e))?;
        let version = said.version.unwrap_or_default();
        let api = said.api_version.unwrap_or_default();
        match ApiVersion::parse(&api).filter(|v| *v >= MIN_API_VERSION) {
            Some(api_version) => {
                Ok(Self { docker, host, version, api_version, architecture: said.arch.unwrap_or_default() })
            }
            None => Err(EngineError::TooOld { host, version, api }),
        }
    }

    /// The client, for requests; wrap what it returns with [`Engine::failed_to`].
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The address, as connected to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The engine's version, for example `20.10.24`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The engine's API version, to gate features on.
    pub fn api_version(&self) -> ApiVersion {
        self.api_version
    }

    /// The architecture that its containers run on, in Go's words: `amd64`, `arm64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Whether the engine answers now.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let action = "ping the engine";
        match tokio::time::timeout(GREETING_TIMEOUT, self.docker.ping()).await {
            Ok(answer) => answer.map(drop).map_err(self.failed_to(action)),
            Err(_elapsed) => Err(EngineError::TimedOut {
                action: action.to_owned(),
                host: self.host.clone(),
                after: GREETING_TIMEOUT,
            }),
        }
    }

    /// Turns a client's error into an [`EngineError`] that names what was being done:
    /// `docker.start_container(..).await.map_err(engine.failed_to("start container abc"))`.
    pub fn failed_to(&self, action: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> EngineError {
        let (action, host) = (action.into(), self.host.clone());
        move |error| classify(&action, &host, error)
    }
}

/// dockerd reads `X-Registry-Auth` as base64url (RFC 4648 section 5) and ignores, without a word, what it cannot decode;
/// bollard 0.21 writes standard base64, so that some passwords were lost and the pull went on anonymously.
fn mend_registry_auth(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth")
        && let Ok(text) = value.to_str()
        && let Ok(mended) = text.replace('+', "-").replace('/', "_").parse()
    {
        *value = mended;
        value.set_sensitive(true);
    }
    request
}

#[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum that grows with its features")]
fn classify(action: &str, host: &str, error: bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    let host = host.to_owned();
    let action = action.to_owned();
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::Answer { action, status: status_code, message: message.trim().to_owned() }
        }
        Error::DockerStreamError { error } => EngineError::InStream { action, message: error },
        Error::SocketNotFoundError(_) => EngineError::NotRunning { host },
        Error::UnsupportedURISchemeError { .. } => EngineError::UnsupportedHost { host },
        Error::RequestTimeoutError => EngineError::TimedOut { action, host, after: REQUEST_TIMEOUT },
        error @ (Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. }) => {
            match io_kind(&error) {
                Some(io::ErrorKind::PermissionDenied) => EngineError::PermissionDenied { host },
                Some(io::ErrorKind::NotFound) => EngineError::NotRunning { host },
                Some(io::ErrorKind::ConnectionRefused) => EngineError::Refused { host },
                Some(_) | None => EngineError::Lost { action, host, reason: lowest_cause(&error) },
            }
        }
        error => EngineError::Client { action, source: Box::new(error) },
    }
}

fn io_kind(error: &bollard::errors::Error) -> Option<io::ErrorKind> {
    if let bollard::errors::Error::IOError { err } = error {
        return Some(err.kind());
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE;

    use super::*;

    #[test]
    fn registry_auth_becomes_base64url() {
        // Standard base64 of this text holds both `+` and `/`.
        let secret = "{\"password\":\"?>~?>~??~~\"}";
        let standard = base64::prelude::BASE64_STANDARD.encode(secret);
        assert!(standard.contains('+') && standard.contains('/'));
        let mut request = BollardRequest::new(bollard::body_full(Default::default()));
        request.headers_mut().insert("x-registry-auth", standard.parse().unwrap());
        let mended = mend_registry_auth(request);
        let value = &mended.headers()["x-registry-auth"];
        assert_eq!(BASE64_URL_SAFE.decode(value).unwrap(), secret.as_bytes());
        assert!(value.is_sensitive());
    }

    /// An engine that only knows its version.
    async fn engine_saying(version: serde_json::Value) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let answer = get(move || async move { Json(version) });
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/version", answer)).await });
        address
    }

    #[tokio::test]
    async fn an_old_engine_is_refused_and_a_new_one_taken() {
        for (api, taken) in
            [("1.24", false), ("1.40", false), ("1.41", true), ("1.53", true), ("2.0", true), ("", false)]
        {
            let host = engine_saying(serde_json::json!({"Version": "9.9", "ApiVersion": api, "Arch": "arm64"})).await;
            match Engine::connect(Some(&host)).await {
                Ok(engine) => {
                    assert!(taken, "{api}");
                    assert_eq!((engine.version(), engine.architecture()), ("9.9", "arm64"));
                }
                // What bollard cannot read as a version is an error of the client.
                Err(EngineError::TooOld { .. } | EngineError::Client { .. }) => assert!(!taken, "{api}"),
                Err(other) => panic!("{api}: {other}"),
            }
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_away_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let missing = Engine::connect(Some(&host)).await.unwrap_err();
        assert!(matches!(missing, EngineError::NotRunning { .. }), "{missing:?}");
        assert!(missing.to_string().contains("systemctl start docker"), "{missing}");
        // A socket file whose listener is gone.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let refused = Engine::connect(Some(&host)).await.unwrap_err();
        assert!(matches!(refused, EngineError::Refused { .. }), "{refused:?}");
        assert_eq!((missing.fault(), refused.fault()), (Fault::Transient, Fault::Transient));
        let ssh = Engine::connect(Some("ssh://host")).await.unwrap_err();
        assert!(matches!(ssh, EngineError::UnsupportedHost { .. }), "{ssh:?}");
        assert_eq!(ssh.fault(), Fault::Permanent);
    }

    #[test]
    fn a_socket_without_permission_names_the_group() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = classify("ping", "unix:///s", bollard::errors::Error::IOError { err: denied });
        assert!(error.to_string().contains("usermod -aG docker"), "{error}");
        assert_eq!(error.fault(), Fault::Permanent);
    }

    #[test]
    fn answers_classify_themselves() {
        let answer = |status_code, message: &str| {
            let message = message.to_owned();
            classify("start", "h", bollard::errors::Error::DockerResponseServerError { status_code, message })
        };
        assert_eq!(answer(500, "i/o timeout").fault(), Fault::Transient);
        assert_eq!(answer(404, "No such image: x").fault(), Fault::Permanent);
        assert!(answer(404, "No such image: x").is_not_found());
        let no_gpu = answer(500, "could not select device driver \"\" with capabilities: [[gpu]]");
        assert_eq!(no_gpu.fault(), Fault::Permanent);
        let full = answer(500, "write /var/lib/docker/x: no space left on device");
        assert!(full.is_disk_full() && full.fault() == Fault::Permanent);
    }
}
