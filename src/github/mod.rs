//! The GitHub client: reads facts about commits and the token, and classifies what GitHub answers, so that an outage
//! or a rate limit is never taken for "not there".

mod account;
mod check;
mod comment;
mod delivery;
mod error;
mod event;
mod history;
mod pull;
mod repository;
mod signature;

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use octocrab::Octocrab;
use octocrab::service::middleware::retry::RetryConfig;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use account::{Account, AccountKind, Acting, Permission};
pub use check::{
    AppRef, CheckConclusion, CheckOutput, CheckRun, CheckSeen, CheckState, LONGEST_CHECK_TEXT, LONGEST_STATUS, Status,
    StatusState,
};
pub use comment::{Comment, LONGEST_COMMENT};
pub use delivery::HookDelivery;
pub use error::{GitHubError, InvalidField};
pub use event::LabelEvent;
pub use history::{End, History, PullRequestFacts};
pub use pull::{Pull, PullSide, PullState, RepositoryRef};
pub use repository::{Repository, Tag};
pub use signature::is_signed;

use crate::config::GithubConfig;
use crate::meters::{self, Call, Service};
use crate::model::{CommitSha, RepoName};
use error::{Asked, Refused};

/// How long one request may take, connection and answer together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to GitHub or a GitHub Enterprise server.
#[derive(Clone)]
pub struct GitHub {
    client: Octocrab,
    acting: Acting,
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
        let token = config.token().map(|source| source.read()).transpose()?;
        Self::connect(config.api_url.as_str(), token)
    }

    /// A client for the API at `api_url` (`https://api.github.com`, or `https://HOST/api/v3` of an Enterprise server),
    /// anonymous without a token.
    ///
    /// # Errors
    /// [`GitHubError::Client`] when no client can be made for the address.
    pub fn connect(api_url: &str, token: Option<SecretString>) -> Result<Self, GitHubError> {
        let client =
            |source: octocrab::Error| GitHubError::Client { api_url: api_url.to_owned(), reason: source.to_string() };
        // The client's own retry repeats writes at once after any failure: benchd retries where it knows it is safe.
        let mut builder = Octocrab::builder()
            .base_uri(api_url)
            .map_err(client)?
            .add_retry_config(RetryConfig::None)
            .set_connect_timeout(Some(REQUEST_TIMEOUT))
            .set_read_timeout(Some(REQUEST_TIMEOUT));
        let acting = if token.is_some() { Acting::Token } else { Acting::Anonymous };
        if let Some(token) = token {
            builder = builder.personal_token(token);
        }
        Ok(Self { client: builder.build().map_err(client)?, acting })
    }

    /// As whom it asks.
    pub fn acts_as(&self) -> Acting {
        self.acting
    }

    /// Our own account: the App's, or the token's owner.
    ///
    /// # Errors
    /// [`GitHubError::Unauthorised`] for an anonymous client, any other answer as it comes.
    pub async fn identity(&self) -> Result<Account, GitHubError> {
        self.required("/user").await
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
        let (parts, _) = self.send(Method::GET, "/rate_limit", None).await?;
        let scopes = parts.headers.get("x-oauth-scopes").and_then(|value| value.to_str().ok());
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

    async fn required<T: DeserializeOwned>(&self, route: &str) -> Result<T, GitHubError> {
        let (_, body) = self.send(Method::GET, route, None).await?;
        serde_json::from_slice(&body).map_err(|source| GitHubError::Malformed { route: route.to_owned(), source })
    }

    /// Every item of a list.
    async fn pages<T: DeserializeOwned>(&self, route: &str) -> Result<Vec<T>, GitHubError> {
        let pages: Vec<Vec<T>> = self.page_bodies(route).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// Every page of a list.
    async fn page_bodies<T: DeserializeOwned>(&self, route: &str) -> Result<Vec<T>, GitHubError> {
        Ok(vec![self.required(route).await?])
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: &serde_json::Value,
    ) -> Result<T, GitHubError> {
        let (_, body) = self.send(method, route, Some(body)).await?;
        serde_json::from_slice(&body).map_err(|source| GitHubError::Malformed { route: route.to_owned(), source })
    }

    async fn as_app_until<T: DeserializeOwned>(
        &self,
        route: &str,
        _ends: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, GitHubError> {
        Err(GitHubError::NotAnApp { route: route.to_owned() })
    }

    async fn write_as_app(&self, route: &str) -> Result<(), GitHubError> {
        Err(GitHubError::NotAnApp { route: route.to_owned() })
    }

    async fn send(
        &self,
        method: Method,
        route: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(http::response::Parts, Vec<u8>), GitHubError> {
        let asked = if method == Method::GET { Asked::Read } else { Asked::Write };
        let transport =
            |source: octocrab::Error| GitHubError::Unreachable { route: route.to_owned(), reason: lowest(&source) };
        let request = Request::builder()
            .method(method)
            .uri(route)
            .body(body.map_or_else(octocrab::OctoBody::empty, |body| body.to_string().into()))
            .map_err(|source| GitHubError::Request { route: route.to_owned(), source })?;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, async {
            let response: Response<_> = self.client.execute(request).await.map_err(transport)?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(transport)?.to_bytes().to_vec();
            Ok::<_, GitHubError>((parts, body))
        });
        let answered = answer.await;
        let outcome = match &answered {
            Ok(Ok((parts, _))) => Call::of_status(parts.status.as_u16()),
            Ok(Err(_)) | Err(_) => Call::Failed,
        };
        meters::api_call(Service::Github, outcome);
        let (parts, body) = answered
            .map_err(|_elapsed| GitHubError::TimedOut { route: route.to_owned(), after: REQUEST_TIMEOUT })??;
        if parts.status.is_success() {
            return Ok((parts, body));
        }
        let refused = Refused { status: parts.status, body: &body, needs: None, silent_for: None };
        Err(GitHubError::from_answer(route, asked, &refused))
    }
}

/// The innermost cause: what a person can act on.
fn lowest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
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
