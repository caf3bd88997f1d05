//! The GitHub client: reads facts about commits and the token, and classifies what GitHub answers, so that an outage
//! or a rate limit is never taken for "not there".

mod error;
mod history;
mod signature;

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::HeaderMap;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use octocrab::Octocrab;
use octocrab::service::middleware::retry::RetryConfig;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use error::{GitHubError, RetryAfter};
pub use history::{End, History, PullRequestFacts};
pub use signature::is_signed;

use crate::config::GithubConfig;
use crate::meters::{self, Call, Service};
use crate::model::{CommitSha, RepoName};

/// How long one request may take, connection and answer together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to GitHub or a GitHub Enterprise server.
#[derive(Clone)]
pub struct GitHub {
    client: Octocrab,
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
    /// A client as configured: with the configured token, else anonymous.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn configured(config: &GithubConfig) -> Result<Self, GitHubError> {
        let token = config.token().map(|source| source.read()).transpose()?;
        Self::connect(config.api_url.as_str(), token)
    }

    /// A client for the API at `api_url` (`https://api.github.com`, or `https://HOST/api/v3` of an Enterprise server),
    /// anonymous without a token.
    ///
    /// # Errors
    /// [`GitHubError::Client`] when the URL is not one.
    pub fn connect(api_url: &str, token: Option<SecretString>) -> Result<Self, GitHubError> {
        let client = |source| GitHubError::Client { api_url: api_url.to_owned(), source: Box::new(source) };
        // The client's own retry repeats writes at once after any failure: benchd retries where it knows it is safe.
        let mut builder = Octocrab::builder()
            .base_uri(api_url)
            .map_err(client)?
            .add_retry_config(RetryConfig::None)
            .set_connect_timeout(Some(REQUEST_TIMEOUT))
            .set_read_timeout(Some(REQUEST_TIMEOUT));
        if let Some(token) = token {
            builder = builder.personal_token(token);
        }
        Ok(Self { client: builder.build().map_err(client)? })
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
        let (headers, _) = self.send("/rate_limit").await?;
        let scopes = headers.get("x-oauth-scopes").and_then(|value| value.to_str().ok());
        Ok(scopes.map_or(TokenScopes::FineGrained, |list| {
            TokenScopes::Classic(list.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect())
        }))
    }

    /// Reads `route`; `None` for 404, and for 422, GitHub's answer to a well-formed commit id that it does not know.
    async fn read<T: DeserializeOwned>(&self, route: &str) -> Result<Option<T>, GitHubError> {
        match self.send(route).await {
            Ok((_, body)) => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|source| GitHubError::Malformed { route: route.to_owned(), source }),
            Err(GitHubError::Refused { status: StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY, .. }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn send(&self, route: &str) -> Result<(HeaderMap, Vec<u8>), GitHubError> {
        let transport = |source| GitHubError::unreachable(route, source);
        let request = Request::builder()
            .method(Method::GET)
            .uri(route)
            .body(octocrab::OctoBody::empty())
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
            Ok((parts.headers, body))
        } else {
            Err(GitHubError::from_answer(route, parts.status, &parts.headers, &body))
        }
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
