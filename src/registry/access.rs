//! Being let in to a registry: what it demands, the token or password that meets it, and who waits for whom. One
//! asks, all others wait for the same answer; a failure stands for a moment, so that an outage is met once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::challenge::{Challenge, TokenAnswer, preferred};
use super::client::lock;
use super::error::Identity;
use super::{ImageReference, Login, Registry, RegistryError};

/// How long a failed authentication stands for all who ask.
const FAILURE_STANDS_FOR: Duration = Duration::from_secs(5);

/// What is known about how to be let in to one repository.
#[derive(Debug)]
pub(super) enum Access {
    Unknown,
    Granted(Grant),
    Refused { error: RegistryError, until: Instant },
}

/// What goes with each request, and until when.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// `None`: the registry asks for nothing.
    pub(super) header: Option<HeaderValue>,
    pub(super) who: Identity,
    until: Option<Instant>,
    /// Tells one grant from the next.
    pub(super) serial: u64,
}

/// A grant that the registry no longer takes, and what it demanded instead.
pub(super) struct Stale {
    pub(super) serial: u64,
    pub(super) demand: Option<Challenge>,
}

impl Registry {
    /// What to send with requests about `image`: what is known, unless it is `stale`; else one asks and all wait.
    pub(super) async fn grant(
        &self,
        slot: &Mutex<Access>,
        image: &ImageReference,
        stale: Option<Stale>,
    ) -> Result<Grant, RegistryError> {
        let mut access = slot.lock().await;
        let now = Instant::now();
        match &*access {
            Access::Granted(grant)
                if stale.as_ref().is_none_or(|stale| stale.serial != grant.serial)
                    && grant.until.is_none_or(|until| now < until) =>
            {
                return Ok(grant.clone());
            }
            Access::Refused { error, until } if now < *until => return Err(error.clone()),
            Access::Unknown | Access::Granted(_) | Access::Refused { .. } => {}
        }
        let asked = match stale.and_then(|stale| stale.demand) {
            Some(demand) => self.meet(image, Some(demand)).await,
            None => match self.demand(image.host()).await {
                Ok(demand) => self.meet(image, demand).await,
                Err(error) => Err(error),
            },
        };
        match asked {
            Ok(grant) => {
                *access = Access::Granted(grant.clone());
                Ok(grant)
            }
            Err(error) => {
                *access = refused(&error);
                Err(error)
            }
        }
    }

    /// What the registry demands of everybody, asked once: `None` when it demands nothing.
    async fn demand(&self, host: &str) -> Result<Option<Challenge>, RegistryError> {
        let cell = Arc::clone(lock(&self.hosts).entry(host.to_owned()).or_default());
        let asked = cell.get_or_try_init(|| async {
            let answer = self.send(host, Request::new(Method::GET, self.url(host, "")?)).await?;
            match answer.status() {
                StatusCode::UNAUTHORIZED => match preferred(answer.headers()) {
                    Some(Challenge::Bearer { realm, service, mut scopes }) => {
                        // Some name a made-up repository here, which nobody may pull.
                        scopes.retain(|scope| !scope.starts_with("repository:"));
                        Ok(Some(Challenge::Bearer { realm, service, scopes }))
                    }
                    Some(Challenge::Basic) => Ok(Some(Challenge::Basic)),
                    None => Err(RegistryError::Malformed {
                        url: answer.url().to_string(),
                        reason: "401 without a challenge that benchd can meet (Bearer, Basic)".to_owned(),
                    }),
                },
                // Whatever else it says of its front page: the manifest's own answer decides.
                _ => Ok(None),
            }
        });
        asked.await.cloned()
    }

    /// Meets what the registry demands: with a token, a password, or nothing.
    async fn meet(&self, image: &ImageReference, demand: Option<Challenge>) -> Result<Grant, RegistryError> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let Some(demand) = demand else {
            return Ok(Grant { header: None, who: Identity::Anonymous, until: None, serial });
        };
        let login = self.login(image.host()).await?;
        let who = match &login {
            None => Identity::Anonymous,
            Some(Login::Password { username, .. }) => Identity::User(username.clone()),
            Some(Login::IdentityToken(_)) => Identity::Token,
        };
        let (header, until) = match (demand, &login) {
            (Challenge::Basic, Some(Login::Password { username, password })) => {
                (secret_header(&basic(username, password.expose_secret())), None)
            }
            (Challenge::Basic, Some(Login::IdentityToken(_)) | None) => return Err(unauthorised(image, who)),
            (Challenge::Bearer { realm, service, scopes }, login) => {
                let answer = self.token(image, login.as_ref(), &who, realm, service, scopes).await?;
                let until = Instant::now() + answer.lifetime();
                let token = answer.token().map(|token| format!("Bearer {}", token.expose_secret()));
                (token.as_deref().and_then(secret_header), Some(until))
            }
        };
        match header {
            Some(header) => Ok(Grant { header: Some(header), who, until, serial }),
            None => Err(RegistryError::Malformed {
                url: image.host().to_owned(),
                reason: "its token or the credentials hold characters that no header can".to_owned(),
            }),
        }
    }

    async fn token(
        &self,
        image: &ImageReference,
        login: Option<&Login>,
        who: &Identity,
        mut realm: Url,
        service: Option<String>,
        mut scopes: Vec<String>,
    ) -> Result<TokenAnswer, RegistryError> {
        let malformed =
            |url: &Url, reason: &str| RegistryError::Malformed { url: url.to_string(), reason: reason.to_owned() };
        if realm.scheme() != "https" && !self.is_plain(image.host()) {
            return Err(malformed(&realm, "a token service without TLS is not trusted with credentials"));
        }
        let pull = format!("repository:{}:pull", image.repository());
        if !scopes.contains(&pull) {
            scopes.push(pull);
        }
        let request = match login {
            Some(Login::IdentityToken(token)) => {
                // The OAuth 2 form takes all scopes in one field (token specification, "oauth").
                let body = form_urlencoded::Serializer::new(String::new())
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "benchd")
                    .append_pair("service", service.as_deref().unwrap_or_default())
                    .append_pair("scope", &scopes.join(" "))
                    .append_pair("refresh_token", token.expose_secret())
                    .finish();
                let mut request = Request::new(Method::POST, realm.clone());
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, form);
                *request.body_mut() = Some(body.into());
                request
            }
            Some(Login::Password { .. }) | None => {
                let scopes = scopes.iter().map(|scope| ("scope", scope.as_str()));
                let service = service.as_deref().map(|service| ("service", service));
                realm.query_pairs_mut().extend_pairs(scopes).extend_pairs(service);
                let mut request = Request::new(Method::GET, realm.clone());
                if let Some(Login::Password { username, password }) = login {
                    request.url_mut().query_pairs_mut().append_pair("account", username);
                    let header = secret_header(&basic(username, password.expose_secret()));
                    request.headers_mut().extend(header.map(|header| (AUTHORIZATION, header)));
                }
                request
            }
        };
        let host = realm.host_str().unwrap_or_default();
        // Whether a plain realm is allowed was settled above, by the registry's own setting.
        let client = self.client(host, self.is_plain(image.host()))?;
        let answer = self.send_by(client, host, request).await?;
        match answer.status() {
            StatusCode::OK => {
                let body = self.body(host, answer).await?;
                let token: TokenAnswer =
                    serde_json::from_slice(&body).map_err(|_quotes_the_token| malformed(&realm, "no token in it"))?;
                match token.token() {
                    Some(_) => Ok(token),
                    None => Err(malformed(&realm, "no token in it")),
                }
            }
            // The OAuth 2 form answers wrong tokens with 400.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                Err(unauthorised(image, who.clone()))
            }
            status => Err(malformed(&realm, &format!("unexpected status {status}"))),
        }
    }
}

pub(super) fn refused(error: &RegistryError) -> Access {
    Access::Refused { error: error.clone(), until: Instant::now() + FAILURE_STANDS_FOR }
}

pub(super) fn unauthorised(image: &ImageReference, who: Identity) -> RegistryError {
    RegistryError::Unauthorised { host: image.host().to_owned(), repository: image.repository().to_owned(), who }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{username}:{password}")))
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistrySettings;

    #[tokio::test]
    async fn a_token_service_without_tls_gets_no_credentials() {
        let registry = Registry::new(RegistrySettings::default()).unwrap();
        let image: ImageReference = "r.example/a/b:c".parse().unwrap();
        let realm = Url::parse("http://127.0.0.1:1/token").unwrap();
        let demand = Challenge::Bearer { realm, service: None, scopes: Vec::new() };
        let error = registry.meet(&image, Some(demand)).await.unwrap_err();
        assert!(error.to_string().contains("without TLS is not trusted"), "{error}");
    }

    #[tokio::test]
    async fn docker_hub_is_asked_where_it_answers() {
        let registry = Registry::new(RegistrySettings::default()).unwrap();
        let image: ImageReference = "debian:12".parse().unwrap();
        let url = registry.url(image.host(), &format!("{}/manifests/{}", image.repository(), image.wanted())).unwrap();
        assert_eq!(url.as_str(), "https://registry-1.docker.io/v2/library/debian/manifests/12");
    }
}
