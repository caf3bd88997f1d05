//! What octocrab sends over: an HTTP client with our own certificate authority and proxy that knows one host only and
//! follows nothing by itself.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use octocrab::OctoBody;
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Client, ClientBuilder, NoProxy, Proxy, tls};
use tower::{BoxError, Service};
use url::{Host, Url};

use super::{GitHubError, link};
use crate::config::{GithubConfig, environment};
use crate::health::lowest_cause;

/// For the connection alone, proxy and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was idle for longer is not used again.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);

/// How benchd names itself; GitHub refuses who has no name.
const NAME: &str = concat!("benchd/", env!("CARGO_PKG_VERSION"));

/// The version of the API whose answers are read here.
const API_VERSION: &str = "2022-11-28";

/// Sends requests for paths to the API's address. Whatever a request says, it goes nowhere else.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client,
    base: Url,
}

impl Service<http::Request<OctoBody>> for Transport {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The client queues by itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<OctoBody>) -> Self::Future {
        let Self { client, base } = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let route = parts.uri.path_and_query().map_or("/", |route| route.as_str());
            let url = link::address(&base, route).ok_or("the path cannot be part of an address")?;
            let request = client.request(parts.method, url).headers(parts.headers).body(Body::wrap(body));
            Ok(request.send().await?.into())
        })
    }
}

impl Transport {
    /// A transport as configured.
    pub fn new(config: &GithubConfig) -> Result<Self, GitHubError> {
        let refused = |error: reqwest::Error| {
            let reason = lowest_cause(&error);
            match reason.contains("No CA certificates") {
                true => GitHubError::NoAuthorities,
                false => GitHubError::Client { api_url: config.api_url.to_string(), reason },
            }
        };
        let mut builder = client(config.api_url.scheme());
        if let Some(path) = &config.ca_file {
            builder = builder.tls_certs_merge(authorities(path)?);
        }
        if let Some(proxy) = proxy(config)? {
            builder = builder.proxy(proxy);
        }
        Ok(Self { client: builder.build().map_err(refused)?, base: config.api_url.clone() })
    }

    /// The API's address.
    pub fn address(&self) -> String {
        self.base.to_string()
    }
}

fn client(scheme: &str) -> ClientBuilder {
    let headers = [("accept", "application/vnd.github+json"), ("x-github-api-version", API_VERSION)];
    let headers: HeaderMap = headers
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let builder = Client::builder()
        .user_agent(NAME)
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        // A write over a connection that is being closed leaves doubt: old ones are not used again.
        .pool_idle_timeout(IDLE_CONNECTION)
        // The variables are read by the configuration, and redirects followed where method and host are looked at.
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .tls_version_min(tls::Version::TLS_1_2);
    // Plain HTTP, as stand-ins speak it, needs nobody's word.
    if scheme == "http" { builder.tls_certs_only([]) } else { builder }
}

/// The certificates of `github.ca_file`, each of them good for an authority.
fn authorities(path: &Path) -> Result<Vec<Certificate>, GitHubError> {
    let refused = |reason: String| GitHubError::CaFile { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| refused(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| refused(lowest_cause(&error)))?;
    if found.is_empty() {
        return Err(refused("it holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)".to_owned()));
    }
    // Whether they can be used shows only in a client; one that trusts them alone cannot fail for another reason.
    Client::builder().tls_certs_only(found.clone()).build().map_err(|error| refused(lowest_cause(&error)))?;
    Ok(found)
}

/// The proxy of `github.proxy`, else the one that the environment names for GitHub's address.
fn proxy(config: &GithubConfig) -> Result<Option<Proxy>, GitHubError> {
    let (setting, address, except) = match &config.proxy {
        Some(proxy) => ("github.proxy".to_owned(), proxy.to_string(), None),
        None => {
            // As everywhere, this host itself is not reached over a proxy of the environment.
            let is_own = match config.api_url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                None => true,
            };
            match environment::proxy_for(config.api_url.scheme()).filter(|_| !is_own) {
                Some((variable, address)) => (variable, address, environment::no_proxy()),
                None => return Ok(None),
            }
        }
    };
    // The reason may not quote the address: proxies of the environment may have a password in it.
    let proxy = Proxy::all(address)
        .map_err(|_address| GitHubError::Proxy { setting, reason: "it is no address of a proxy".to_owned() })?;
    Ok(Some(proxy.no_proxy(except.as_deref().and_then(NoProxy::from_string))))
}
