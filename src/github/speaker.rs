//! As whom GitHub is asked: nobody, a token's owner, the App itself, or one of its installations, whose tokens are made
//! as they are needed. octocrab signs and sends; it would repeat a refused write by itself, so the tokens of
//! installations are kept here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use octocrab::models::AppId;
use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::transport::Transport;
use super::{Acting, GitHubError};
use crate::config::{GithubApp, SecretSource};
use crate::health::lowest_cause;

/// An installation's token is replaced at this age. GitHub lets it live for an hour; one that ends sooner is noticed
/// by the refusal.
const TOKEN_AGE: Duration = Duration::from_mins(50);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Speaker {
    /// Nobody.
    Anonymous,
    /// The owner of the personal access token.
    Token,
    /// The App itself: about its installations and deliveries only.
    App,
    /// The App where it is installed.
    Installation(u64),
}

/// What GitHub is asked with.
pub(super) enum Credentials {
    /// Nothing.
    Anonymous(Octocrab),
    /// A personal access token.
    Token(Octocrab),
    /// An App's key.
    App(App),
}

/// A GitHub App.
pub(super) struct App {
    /// Signs by the key.
    pub itself: Octocrab,
    /// The one installation that is configured.
    pub installation: Option<u64>,
    /// Installations by repository (lower case).
    homes: Mutex<HashMap<String, u64>>,
    /// Held while a token is made, so that each is made once.
    pub minted: tokio::sync::Mutex<HashMap<u64, Minted>>,
}

/// A client with an installation's token.
#[derive(Clone)]
pub(super) struct Minted {
    pub client: Octocrab,
    made_at: Instant,
}

impl Minted {
    pub fn new(app: &Octocrab, token: SecretString) -> Result<Self, octocrab::Error> {
        Ok(Self { client: app.user_access_token(token)?, made_at: Instant::now() })
    }

    pub fn is_fresh(&self) -> bool {
        self.made_at.elapsed() < TOKEN_AGE
    }

    /// Whether the token was made after that instant.
    pub fn is_newer_than(&self, instant: Instant) -> bool {
        self.made_at > instant
    }

    /// Whether both hold the same token.
    pub fn is(&self, other: &Self) -> bool {
        self.made_at == other.made_at
    }
}

impl Credentials {
    pub fn anonymous(transport: Transport) -> Self {
        Self::Anonymous(octocrab(transport, AuthState::None))
    }

    pub fn token(transport: Transport, token: SecretString) -> Result<Self, GitHubError> {
        // The token may not be quoted; a line break or an umlaut in it is an accident of copying.
        if !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = "the token holds characters that no token has".to_owned();
            return Err(GitHubError::Client { api_url: transport.address(), reason });
        }
        Ok(Self::Token(octocrab(transport, AuthState::AccessToken { token })))
    }

    pub fn app(transport: Transport, config: &GithubApp) -> Result<Self, GitHubError> {
        let path = &config.private_key_file;
        let pem = SecretSource::File(path.clone()).read()?;
        let key = octocrab::auth::EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes())
            .map_err(|error| GitHubError::PrivateKey { path: path.clone(), reason: error.to_string() })?;
        let auth = octocrab::auth::AppAuth { app_id: AppId(config.id), key };
        // A key in the wrong form shows when it is used first: here, and not at the first event.
        auth.generate_bearer_token()
            .map_err(|error| GitHubError::PrivateKey { path: path.clone(), reason: lowest_cause(&error) })?;
        Ok(Self::App(App {
            itself: octocrab(transport, AuthState::App(auth)),
            installation: config.installation_id,
            homes: Mutex::default(),
            minted: tokio::sync::Mutex::default(),
        }))
    }

    pub fn acting(&self) -> Acting {
        match self {
            Self::Anonymous(_) => Acting::Anonymous,
            Self::Token(_) => Acting::Token,
            Self::App(_) => Acting::App,
        }
    }
}

impl App {
    /// The installation that is known for a repository.
    pub fn home(&self, repository: &str) -> Option<u64> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.get(&repository.to_ascii_lowercase()).copied()
    }

    pub fn settle(&self, repository: &str, installation: u64) {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.to_ascii_lowercase(), installation);
    }

    /// The installation is gone: it is asked for again.
    pub fn move_out(&self, installation: u64) {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, home| *home != installation);
    }
}

fn octocrab(transport: Transport, auth: AuthState) -> Octocrab {
    let built = OctocrabBuilder::new_empty().with_service(transport).with_auth(auth).build();
    match built {
        Ok(octocrab) => octocrab,
        Err(never) => match never {},
    }
}

/// The repository that a route is about, as `owner/name`.
pub(super) fn repository_of(route: &str) -> Option<&str> {
    let rest = route.strip_prefix("/repos/")?;
    let owner = rest.find('/')?;
    let name = rest.get(owner + 1..)?.find(['/', '?']).map_or(rest.len(), |end| owner + 1 + end);
    rest.get(..name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_its_repository() {
        for route in ["/repos/o/r", "/repos/o/r?x=/y", "/repos/o/r/pulls?a=b"] {
            assert_eq!(repository_of(route), Some("o/r"), "{route}");
        }
        assert_eq!((repository_of("/rate_limit"), repository_of("/repos/o")), (None, None));
    }
}
