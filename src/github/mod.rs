//! The GitHub client: every question goes through one gate that keeps to GitHub's limits, and every answer is classified,
//! so that an outage or a rate limit is never taken for "not there", nor a lost answer for "not done".

mod account;
mod cache;
mod check;
mod comment;
mod delivery;
mod error;
mod event;
mod exchange;
mod gate;
mod history;
mod installation;
mod limits;
mod link;
mod pull;
mod repository;
mod signature;
mod speaker;
mod transport;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

pub use account::{Account, AccountKind, Acting, Permission};
pub use check::{
    AppRef, CheckConclusion, CheckOutput, CheckRun, CheckSeen, CheckState, LONGEST_CHECK_TEXT, LONGEST_STATUS, Status,
    StatusState,
};
pub use comment::{Comment, LONGEST_COMMENT};
pub use delivery::HookDelivery;
pub use error::{GitHubError, InvalidField};
pub use event::LabelEvent;
pub use history::{End, History};
pub use installation::{AppFacts, Installation};
pub use pull::{Pull, PullSide, PullState, RepositoryRef};
pub use repository::{Repository, Tag};
pub use signature::is_signed;

use crate::clock::Clock;
use crate::config::GithubConfig;
use crate::model::{CommitSha, RepoName};
use exchange::{Ask, Wire};
use gate::Gate;
use limits::Pace;
use pull::PAGE;
use speaker::Credentials;
use transport::Transport;

/// A connection to GitHub or a GitHub Enterprise server. Clones share it: its gate, its tokens and what it knows.
#[derive(Clone)]
pub struct GitHub {
    wire: Arc<Wire>,
}

/// What is known of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFacts {
    /// The full id.
    pub sha: CommitSha,
    /// The committer's date, which published records carry as their timestamp.
    pub committed_at: DateTime<Utc>,
    /// Parents; the first one is the previous commit of the branch.
    pub parents: Vec<CommitSha>,
}

/// What the token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenScopes {
    /// A classic token with these OAuth scopes.
    Classic(Vec<String>),
    /// A fine-grained token or an app's: GitHub does not list its permissions.
    FineGrained,
}

#[derive(Deserialize)]
struct WireCommit {
    sha: CommitSha,
    commit: WireCommitDetail,
    #[serde(default)]
    parents: Vec<WireParent>,
}

#[derive(Deserialize)]
struct WireCommitDetail {
    committer: WireCommitter,
}

#[derive(Deserialize)]
struct WireCommitter {
    date: DateTime<Utc>,
}

#[derive(Deserialize)]
struct WireParent {
    sha: CommitSha,
}

impl From<WireCommit> for CommitFacts {
    fn from(commit: WireCommit) -> Self {
        Self {
            sha: commit.sha,
            committed_at: commit.commit.committer.date,
            parents: commit.parents.into_iter().map(|parent| parent.sha).collect(),
        }
    }
}

impl GitHub {
    /// A client as configured: the App, else the token, else anonymous.
    ///
    /// # Errors
    /// When the token, key, certificates or proxy cannot be used; each is named.
    pub fn configured(config: &GithubConfig) -> Result<Self, GitHubError> {
        Self::timed(config, Clock::system())
    }

    /// A client as configured that keeps to limits by this clock.
    ///
    /// # Errors
    /// As [`GitHub::configured`].
    pub fn timed(config: &GithubConfig, clock: Clock) -> Result<Self, GitHubError> {
        let transport = Transport::new(config)?;
        let credentials = match (&config.app, config.token()) {
            (Some(app), _) => Credentials::app(transport, app)?,
            (None, Some(token)) => Credentials::token(transport, token.read()?)?,
            (None, None) => Credentials::anonymous(transport),
        };
        Ok(Self::with(config, credentials, clock))
    }

    /// A client for the API at `api_url` (`https://api.github.com`, or `https://HOST/api/v3` of an Enterprise server),
    /// anonymous without a token, everything else as by default.
    ///
    /// # Errors
    /// [`GitHubError::Client`] when no client can be made for the address.
    pub fn connect(api_url: &str, token: Option<SecretString>) -> Result<Self, GitHubError> {
        let refused = |error: url::ParseError| GitHubError::Client {
            api_url: api_url.to_owned(),
            reason: format!("{error} (is `github.api_url` an address?)"),
        };
        let config = GithubConfig { api_url: Url::parse(api_url).map_err(refused)?, ..GithubConfig::default() };
        let transport = Transport::new(&config)?;
        let credentials = match token {
            Some(token) => Credentials::token(transport, token)?,
            None => Credentials::anonymous(transport),
        };
        Ok(Self::with(&config, credentials, Clock::system()))
    }

    fn with(config: &GithubConfig, credentials: Credentials, clock: Clock) -> Self {
        let gate = Gate::new(Pace::with_pause(config.write_interval), clock);
        let base = config.api_url.clone();
        let (cache, identity) = Default::default();
        Self { wire: Arc::new(Wire { credentials, base, gate, cache, identity }) }
    }

    /// As whom it asks.
    pub fn acts_as(&self) -> Acting {
        self.wire.credentials.acting()
    }

    /// The commit that `reference` (a commit id, branch or tag) names; `None` when the repository has none of that name.
    ///
    /// # Errors
    /// Any answer that is neither the commit nor "no such commit".
    pub async fn commit(&self, repo: &RepoName, reference: &str) -> Result<Option<CommitFacts>, GitHubError> {
        let route = format!("/repos/{repo}/commits/{}", path_segment(reference));
        let found: Option<WireCommit> = self.read(&route).await?;
        Ok(found.map(CommitFacts::from))
    }

    /// What the token may do, from the headers of the (free) rate-limit request.
    ///
    /// # Errors
    /// [`GitHubError::Unauthorised`] for a token that GitHub does not accept, others as they come.
    pub async fn token_scopes(&self) -> Result<TokenScopes, GitHubError> {
        let route = "/rate_limit";
        let answer = self.wire.exchange(self.wire.speaker(route).await?, Ask::read(route)).await?;
        let scopes = answer.headers.get("x-oauth-scopes").and_then(|value| value.to_str().ok());
        Ok(scopes.map_or(TokenScopes::FineGrained, |list| {
            TokenScopes::Classic(list.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect())
        }))
    }

    /// Reads `route`; `None` for what is not there, and for 422, GitHub's answer to a well-formed commit id that it
    /// does not know.
    async fn read<T: DeserializeOwned>(&self, route: &str) -> Result<Option<T>, GitHubError> {
        match self.required(route).await {
            Ok(found) => Ok(Some(found)),
            Err(GitHubError::Gone { .. } | GitHubError::Invalid { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads `route`, which has to be there.
    async fn required<T: DeserializeOwned>(&self, route: &str) -> Result<T, GitHubError> {
        self.wire.exchange(self.wire.speaker(route).await?, Ask::read(route)).await?.json(route)
    }

    /// Every item of a list.
    async fn pages<T: DeserializeOwned>(&self, route: &str) -> Result<Vec<T>, GitHubError> {
        let pages: Vec<Vec<T>> = self.page_bodies(route, Vec::len).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// Every page of a list; `length` counts the items of one.
    async fn page_bodies<P: DeserializeOwned>(
        &self,
        route: &str,
        length: impl Fn(&P) -> usize,
    ) -> Result<Vec<P>, GitHubError> {
        self.wire.pages(self.wire.speaker(route).await?, route, PAGE, length, |_| false).await
    }

    /// Changes something.
    async fn write<T: DeserializeOwned>(&self, method: Method, route: &str, body: &Value) -> Result<T, GitHubError> {
        let ask = Ask { method: &method, route, body: Some(body) };
        self.wire.exchange(self.wire.speaker(route).await?, ask).await?.json(route)
    }
}

/// Percent-encodes what a URL path segment may not hold, slashes included: branch names are other people's text.
fn path_segment(text: &str) -> String {
    let mut url = url::Url::parse("http://x/").ok();
    let encoded = url.as_mut().and_then(|url| {
        url.path_segments_mut().ok()?.clear().push(text);
        Some(url.path().trim_start_matches('/').to_owned())
    });
    encoded.unwrap_or_default()
}
