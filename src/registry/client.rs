//! The client of the OCI distribution protocol: one token for each registry and repository, one request for each
//! candidate after it, and every failure kept apart from "absent".

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, OnceCell, Semaphore};
use url::Url;

use super::access::{Access, Stale, refused, unauthorised};
use super::challenge::{Challenge, preferred};
use crate::config::{RegistryConfig, SecretError, environment};
use crate::health::lowest_cause;
use crate::meters::{self, Call, Service};

use super::{DOCKER_HUB, Digest, ImageReference, Login, RegistryError, credentials};

/// Without all four, a registry answers with the digest of another, older manifest than the one that is pulled.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                              application/vnd.docker.distribution.manifest.list.v2+json, \
                              application/vnd.docker.distribution.manifest.v2+json";

/// Registries accept manifests of at most 4 MiB; nothing longer is read.
const MAX_BODY_BYTES: usize = 4 << 20;

/// Whether a registry has an image. An error is neither of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has, under this digest.
    Present {
        /// Of the manifest, or of the index of a multi-platform image.
        digest: Digest,
    },
    /// It has not: the registry knows no such tag, digest or repository.
    Absent,
}

/// What is said of one registry host.
#[derive(Clone, Debug, Default)]
pub struct HostSettings {
    /// Whether it speaks plain HTTP; nothing is plain by itself, loopback neither.
    pub plain_http: bool,
    /// Credentials that win over Docker's own file.
    pub login: Option<Login>,
}

/// How registries are asked.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// By host, as written in references (`127.0.0.1:5055`, `docker.io`).
    pub hosts: BTreeMap<String, HostSettings>,
    /// Folder of Docker's `config.json`; `None` asks without it.
    pub docker_config: Option<PathBuf>,
    /// Folders in which the credential helpers that the file names are looked for.
    pub helper_folders: Vec<PathBuf>,
    /// Look-ups that run at once, over all registries.
    pub concurrency: usize,
    /// For one request with its answer.
    pub timeout: Duration,
    /// How often a request is repeated after 5xx or a broken connection.
    pub retries: u32,
    /// Pause before the first repetition; it doubles each time.
    pub backoff: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            docker_config: None,
            helper_folders: Vec::new(),
            concurrency: 8,
            timeout: Duration::from_secs(30),
            retries: 2,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Asks registries. Share one: it keeps connections and tokens.
#[derive(Debug)]
pub struct Registry {
    settings: RegistrySettings,
    /// Refuses plain HTTP, also when redirected. Where the system trusts no authority there is none, and why.
    secure: Result<Client, String>,
    plain: Client,
    permits: Semaphore,
    pub(super) hosts: std::sync::Mutex<HashMap<String, Arc<OnceCell<Option<Challenge>>>>>,
    access: std::sync::Mutex<HashMap<String, Arc<Mutex<Access>>>>,
    pub(super) serial: AtomicU64,
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: String,
}

/// A manifest or an index, as far as platforms are concerned.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    manifests: Option<Vec<IndexEntry>>,
    #[serde(default)]
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct IndexEntry {
    #[serde(default)]
    digest: String,
    #[serde(default)]
    platform: Option<OciPlatform>,
}

/// An image's configuration, as far as its labels are concerned.
#[derive(Deserialize)]
struct ImageConfiguration {
    #[serde(default)]
    config: Option<ContainerConfiguration>,
}

#[derive(Deserialize)]
struct ContainerConfiguration {
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Deserialize)]
struct OciPlatform {
    architecture: String,
    os: String,
}

impl RegistrySettings {
    /// What the configuration says of registries; the rest by default, with Docker's own credential file.
    ///
    /// # Errors
    /// When a configured password cannot be read.
    pub fn configured(registries: &[RegistryConfig]) -> Result<Self, SecretError> {
        let mut hosts = BTreeMap::new();
        for registry in registries {
            let login = match (&registry.username, registry.password()) {
                (Some(username), Some(password)) => {
                    Some(Login::Password { username: username.clone(), password: password.read()? })
                }
                (Some(_) | None, _) => None,
            };
            let host = if registry.host == "index.docker.io" { DOCKER_HUB } else { &registry.host };
            hosts.insert(host.to_owned(), HostSettings { plain_http: registry.plain_http, login });
        }
        let (docker_config, helper_folders) = (environment::docker_config_dir(), environment::search_path());
        Ok(Self { hosts, docker_config, helper_folders, ..Self::default() })
    }
}

impl Registry {
    /// A client with these settings; asks nothing yet. On a system without trusted authorities (no package
    /// `ca-certificates`) it still speaks to plain registries.
    ///
    /// # Errors
    /// When no client can be set up at all.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let client = || {
            Client::builder()
                .user_agent(concat!("benchd/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(settings.timeout.min(Duration::from_secs(10)))
                .timeout(settings.timeout)
        };
        Ok(Self {
            secure: client().https_only(true).build().map_err(|error| lowest_cause(&error)),
            plain: client()
                .build()
                .or_else(|_| client().tls_certs_only([]).build())
                .map_err(|error| RegistryError::of_exchange("(any)", error))?,
            permits: Semaphore::new(settings.concurrency.max(1)),
            hosts: std::sync::Mutex::default(),
            access: std::sync::Mutex::default(),
            serial: AtomicU64::new(0),
            settings,
        })
    }

    /// Whether the registry has `image`, and under which digest. Not bounded beyond
    /// [`RegistrySettings::concurrency`]: ask for many candidates at once.
    ///
    /// # Errors
    /// Whenever the registry did not clearly say "here" or "not here".
    pub async fn look_up(&self, image: &ImageReference) -> Result<Presence, RegistryError> {
        let _permit = self.permits.acquire().await.ok();
        let path = format!("manifests/{}", image.wanted());
        let answer = self.ask(Method::HEAD, image, &path).await?;
        if answer.status() == StatusCode::NOT_FOUND && says_registry(answer.headers()) {
            return Ok(Presence::Absent);
        }
        if answer.status().is_success()
            && let Some(digest) = digest_of(&answer)?
        {
            return same(image, digest, answer.url().as_str());
        }
        // An answer to HEAD has no body: only GET tells a registry's 404 from a web server's, and what to hash.
        let answer = self.ask(Method::GET, image, &path).await?;
        let url = answer.url().to_string();
        let (status, said) = (answer.status(), digest_of(&answer)?);
        let body = self.body(image.host(), answer).await?;
        if status == StatusCode::NOT_FOUND {
            return match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(body) if body.errors.iter().any(|e| is_absence(&e.code)) => Ok(Presence::Absent),
                Ok(_) | Err(_) => Err(RegistryError::Malformed {
                    url,
                    reason: "404 without a registry's error code; is this the registry's address?".to_owned(),
                }),
            };
        }
        parse_manifest(&url, &body)?;
        same(image, said.unwrap_or_else(|| Digest::of(&body)), &url)
    }

    /// The platforms that `image` was built for, as `os/architecture` in Go's words (`linux/arm64`): one or two
    /// requests. `None` when the image is absent.
    ///
    /// # Errors
    /// As [`Registry::look_up`].
    pub async fn platforms(&self, image: &ImageReference) -> Result<Option<Vec<String>>, RegistryError> {
        let _permit = self.permits.acquire().await.ok();
        let Some(mut manifest) = self.manifest(image, image.wanted()).await? else { return Ok(None) };
        let written = |platform: OciPlatform| format!("{}/{}", platform.os, platform.architecture);
        if let Some(entries) = manifest.manifests.take() {
            // Attestations stand in an index as `unknown/unknown`.
            let real = entries.into_iter().filter_map(|entry| entry.platform).filter(|p| p.architecture != "unknown");
            return Ok(Some(real.map(written).collect()));
        }
        Ok(Some(vec![written(self.configuration(image, manifest).await?)]))
    }

    /// The labels of `image` as it was built for `linux/architecture` (Go's words), without pulling it. `None` when
    /// there is no such image.
    ///
    /// # Errors
    /// As [`Registry::look_up`].
    pub async fn labels(
        &self,
        image: &ImageReference,
        architecture: &str,
    ) -> Result<Option<HashMap<String, String>>, RegistryError> {
        let _permit = self.permits.acquire().await.ok();
        let Some(mut manifest) = self.manifest(image, image.wanted()).await? else { return Ok(None) };
        if let Some(entries) = manifest.manifests.take() {
            let fits = |entry: &IndexEntry| {
                entry.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture)
            };
            let Some(entry) = entries.into_iter().find(fits) else { return Ok(None) };
            let Some(found) = self.manifest(image, &entry.digest).await? else { return Ok(None) };
            manifest = found;
        }
        let configuration: ImageConfiguration = self.configuration(image, manifest).await?;
        Ok(Some(configuration.config.and_then(|config| config.labels).unwrap_or_default()))
    }

    /// The manifest named `wanted`; `None` when it is absent.
    async fn manifest(&self, image: &ImageReference, wanted: &str) -> Result<Option<Manifest>, RegistryError> {
        let answer = self.ask(Method::GET, image, &format!("manifests/{wanted}")).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let url = answer.url().to_string();
        parse_manifest(&url, &self.body(image.host(), answer).await?).map(Some)
    }

    /// The configuration that a manifest names.
    async fn configuration<T: DeserializeOwned>(
        &self,
        image: &ImageReference,
        manifest: Manifest,
    ) -> Result<T, RegistryError> {
        let digest = manifest.config.map(|config| config.digest).unwrap_or_default();
        let answer = self.ask(Method::GET, image, &format!("blobs/{digest}")).await?;
        let url = answer.url().to_string();
        serde_json::from_slice(&self.body(image.host(), answer).await?)
            .map_err(|e| RegistryError::Malformed { url, reason: format!("no image configuration: {e}") })
    }

    /// The credentials for `host`: the configured ones, else those of Docker's own file and helpers.
    ///
    /// # Errors
    /// When there are some that cannot be read.
    pub async fn login(&self, host: &str) -> Result<Option<Login>, RegistryError> {
        if let Some(login) = self.settings.hosts.get(host).and_then(|settings| settings.login.as_ref()) {
            return Ok(Some(login.clone()));
        }
        match &self.settings.docker_config {
            Some(folder) => credentials::of_docker(folder, host, &self.settings.helper_folders)
                .await
                .map_err(|source| RegistryError::Credentials { host: host.to_owned(), source }),
            None => Ok(None),
        }
    }

    /// One authorised request about `image`; comes back with success or 404, everything else is an error.
    async fn ask(&self, method: Method, image: &ImageReference, path: &str) -> Result<Response, RegistryError> {
        let (host, repository) = (image.host(), image.repository());
        let url = self.url(host, &format!("{repository}/{path}"))?;
        let slot =
            Arc::clone(lock(&self.access).entry(image.name()).or_insert_with(|| Arc::new(Mutex::new(Access::Unknown))));
        let mut grant = self.grant(&slot, image, None).await?;
        let mut renewed = false;
        loop {
            let mut request = Request::new(method.clone(), url.clone());
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
            if let Some(header) = &grant.header {
                request.headers_mut().insert(AUTHORIZATION, header.clone());
            }
            let answer = self.send(host, request).await?;
            match answer.status() {
                status if status.is_success() || status == StatusCode::NOT_FOUND => return Ok(answer),
                StatusCode::UNAUTHORIZED if !renewed => {
                    // The token ran out or was revoked, or the registry demands more than its front page said.
                    renewed = true;
                    let stale = Stale { serial: grant.serial, demand: preferred(answer.headers()) };
                    grant = self.grant(&slot, image, Some(stale)).await?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let error = unauthorised(image, grant.who);
                    if answer.status() == StatusCode::UNAUTHORIZED {
                        *slot.lock().await = refused(&error);
                    }
                    return Err(error);
                }
                status => {
                    return Err(RegistryError::Malformed {
                        url: url.to_string(),
                        reason: format!("unexpected status {status}"),
                    });
                }
            }
        }
    }

    pub(super) fn is_plain(&self, host: &str) -> bool {
        self.settings.hosts.get(host).is_some_and(|settings| settings.plain_http)
    }

    /// `path` below the registry's `/v2/`.
    pub(super) fn url(&self, host: &str, path: &str) -> Result<Url, RegistryError> {
        let scheme = if self.is_plain(host) { "http" } else { "https" };
        let address = if host == DOCKER_HUB { "registry-1.docker.io" } else { host };
        let text = format!("{scheme}://{address}/v2/{path}");
        Url::parse(&text).map_err(|e| RegistryError::Malformed { url: text, reason: e.to_string() })
    }

    pub(super) async fn send(&self, host: &str, request: Request) -> Result<Response, RegistryError> {
        self.send_by(self.client(host, self.is_plain(host))?, host, request).await
    }

    /// The client that may speak plain HTTP with `host`, or the one that never does.
    pub(super) fn client(&self, host: &str, plain: bool) -> Result<&Client, RegistryError> {
        match &self.secure {
            _ if plain => Ok(&self.plain),
            Ok(secure) => Ok(secure),
            Err(reason) => Err(RegistryError::Tls {
                host: host.to_owned(),
                reason: format!("{reason}; is the package ca-certificates installed?"),
            }),
        }
    }

    /// Sends, and repeats after 5xx and broken connections; 429 is the caller's to wait for.
    pub(super) async fn send_by(
        &self,
        client: &Client,
        host: &str,
        request: Request,
    ) -> Result<Response, RegistryError> {
        let mut pause = self.settings.backoff;
        let mut left = self.settings.retries;
        loop {
            // Bodies are whole in memory, so that every request can be repeated.
            let again =
                request.try_clone().unwrap_or_else(|| Request::new(request.method().clone(), request.url().clone()));
            let answered = client.execute(again).await;
            let outcome = answered.as_ref().map_or(Call::Failed, |answer| Call::of_status(answer.status().as_u16()));
            meters::api_call(Service::Registry, outcome);
            let error = match answered {
                Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    return Err(RegistryError::RateLimited {
                        host: host.to_owned(),
                        retry_after: retry_after(answer.headers()),
                    });
                }
                Ok(answer) if answer.status().is_server_error() => {
                    RegistryError::Server { host: host.to_owned(), status: answer.status().as_u16() }
                }
                Ok(answer) => return Ok(answer),
                Err(error) => RegistryError::of_exchange(host, error),
            };
            let worth_it = matches!(error, RegistryError::Server { .. } | RegistryError::Unreachable { .. });
            if left == 0 || !worth_it {
                return Err(error);
            }
            left -= 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    pub(super) async fn body(&self, host: &str, mut answer: Response) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| RegistryError::of_exchange(host, e))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(RegistryError::Malformed {
                    url: answer.url().to_string(),
                    reason: format!("longer than {MAX_BODY_BYTES} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The content of a lock that no panic leaves half written.
pub(super) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The header by which a registry of the distribution protocol names itself, on errors too.
fn says_registry(headers: &HeaderMap) -> bool {
    headers.get("docker-distribution-api-version").is_some_and(|value| value.as_bytes().starts_with(b"registry/2"))
}

/// Error codes that mean "not here" (distribution specification; Harbor says NOT_FOUND).
fn is_absence(code: &str) -> bool {
    matches!(code, "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND")
}

/// Present under this digest, which must be the one asked for where one was.
fn same(image: &ImageReference, digest: Digest, url: &str) -> Result<Presence, RegistryError> {
    match image.digest() {
        Some(wanted) if *wanted != digest => Err(RegistryError::Malformed {
            url: url.to_owned(),
            reason: format!("asked for {wanted}, it names {digest}"),
        }),
        Some(_) | None => Ok(Presence::Present { digest }),
    }
}

fn digest_of(answer: &Response) -> Result<Option<Digest>, RegistryError> {
    let Some(value) = answer.headers().get("docker-content-digest") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse().map(Some).map_err(|e: super::InvalidDigest| RegistryError::Malformed {
        url: answer.url().to_string(),
        reason: e.to_string(),
    })
}

fn parse_manifest(url: &str, body: &[u8]) -> Result<Manifest, RegistryError> {
    match serde_json::from_slice::<Manifest>(body) {
        Ok(manifest) if manifest.manifests.is_some() || manifest.config.is_some() => Ok(manifest),
        Ok(_) | Err(_) => {
            Err(RegistryError::Malformed { url: url.to_owned(), reason: "no image manifest or index".to_owned() })
        }
    }
}

/// Seconds, or an HTTP date (RFC 9110 section 10.2.3). Of a date only its distance to the answer's own `Date` counts.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    let now = chrono::DateTime::parse_from_rfc2822(headers.get(reqwest::header::DATE)?.to_str().ok()?).ok()?;
    (at - now).to_std().ok()
}
