//! The client of a benchd server's API: requests with a token, answers as the values the server keeps, and its problems
//! as errors that say what to do.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Failure;
use crate::config::SecretSource;
use crate::http::problem::Problem;

/// How long the server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer may take; streams may take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Which server, and who asks.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Ask this benchd server, for example http://127.0.0.1:8787
    #[arg(long, value_name = "URL", env = "BENCHD_SERVER")]
    pub server: Option<Url>,
    /// File that holds the token for the server
    #[arg(long, value_name = "FILE", env = "BENCHD_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

/// What went wrong with a server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server is named.
    #[error("this needs a running server: name it with --server URL or $BENCHD_SERVER")]
    NoServer,
    /// It does not answer.
    #[error("failed to reach {server} (is `benchd serve` running there?)")]
    Unreachable {
        /// The server.
        server: Url,
        /// Why.
        source: reqwest::Error,
    },
    /// It refuses.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// It answered what is not understood.
    #[error("{server} answered {status} to {path}, which is not a benchd server's answer")]
    NotUnderstood {
        /// The server.
        server: Url,
        /// What was asked.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// An answer broke off or is of another version.
    #[error("failed to read the answer of {server} to {path}")]
    Answer {
        /// The server.
        server: Url,
        /// What was asked.
        path: String,
        /// Why.
        source: reqwest::Error,
    },
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let by_person = match &error {
            ClientError::NoServer => true,
            ClientError::Refused(problem) => (400..500).contains(&problem.status),
            ClientError::Unreachable { .. } | ClientError::NotUnderstood { .. } | ClientError::Answer { .. } => false,
        };
        if let ClientError::Refused(problem) = &error
            && problem.status == 401
        {
            return Self::usage(anyhow::anyhow!("{error} (here: --token-file FILE or $BENCHD_TOKEN_FILE)"));
        }
        if by_person { Self::usage(error) } else { Self::infrastructure(error) }
    }
}

/// A server's API.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<SecretString>,
}

impl ServerArgs {
    /// The client of the server that is named.
    pub fn client(&self) -> Result<Client, Failure> {
        let server = self.server.clone().ok_or(ClientError::NoServer)?;
        let token = self.token_file.clone().map(|path| SecretSource::File(path).read()).transpose();
        let token = token.map_err(Failure::usage)?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).build();
        Ok(Client { http: http.map_err(Failure::infrastructure)?, server, token })
    }
}

impl Client {
    /// The server's address.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// Asks for a value. `path` begins with `/api/v1/` and may carry a query.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.request(Method::GET, path).timeout(ANSWER_WITHIN).send().await;
        self.value(path, self.checked(path, response).await?).await
    }

    /// Asks for something to be done.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let response = self.request(Method::POST, path).timeout(ANSWER_WITHIN).json(body).send().await;
        self.value(path, self.checked(path, response).await?).await
    }

    /// [`Client::post`] of what the server does once, however often it is sent with the same key.
    pub async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.request(Method::POST, path).header("idempotency-key", key);
        let response = request.timeout(ANSWER_WITHIN).json(body).send().await;
        self.value(path, self.checked(path, response).await?).await
    }

    /// Takes something away.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let response = self.request(Method::DELETE, path).timeout(ANSWER_WITHIN).send().await;
        self.checked(path, response).await.map(|_| ())
    }

    /// Asks for a value that also comes with a state of trouble (`/readyz` answers 503 with its reasons).
    pub async fn get_whatever_status<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.request(Method::GET, path).timeout(ANSWER_WITHIN).send().await;
        let response = response.map_err(|source| self.unreachable(source))?;
        self.value(path, response).await
    }

    /// Asks for a stream of bytes.
    pub async fn stream(&self, path: &str) -> Result<Response, ClientError> {
        let response = self.request(Method::GET, path).send().await;
        self.checked(path, response).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        // A server may live under a path of its own behind a proxy.
        let url = format!("{}{path}", self.server.as_str().trim_end_matches('/'));
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    async fn checked(&self, path: &str, response: reqwest::Result<Response>) -> Result<Response, ClientError> {
        let response = response.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes() == crate::http::problem::MEDIA_TYPE.as_bytes());
        match (problem, response.json().await) {
            (true, Ok(problem)) => Err(ClientError::Refused(problem)),
            (_, _) => Err(ClientError::NotUnderstood { server: self.server.clone(), path: path.to_owned(), status }),
        }
    }

    async fn value<T: DeserializeOwned>(&self, path: &str, response: Response) -> Result<T, ClientError> {
        let broken = |source| ClientError::Answer { server: self.server.clone(), path: path.to_owned(), source };
        response.json().await.map_err(broken)
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), source }
    }
}
