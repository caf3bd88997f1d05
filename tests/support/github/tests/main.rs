//! The stand-in, driven by the client that benchd uses.
#![allow(missing_docs, clippy::disallowed_methods, reason = "tests")]

mod apps;
mod control;
mod faults;
mod payloads;
mod reading;
mod receiver;
mod webhooks;
mod writing;

use github_standin::{AppCredentials, CommitSpec, StandIn};
use octocrab::Octocrab;
use octocrab::service::middleware::retry::RetryConfig;
use serde_json::Value;

/// A client without retries of its own, anonymous without a token.
fn client(url: &str, token: Option<&str>) -> Octocrab {
    let builder = Octocrab::builder().base_uri(url).unwrap().add_retry_config(RetryConfig::None);
    match token {
        Some(token) => builder.personal_token(token.to_owned()),
        None => builder,
    }
    .build()
    .unwrap()
}

/// The same as the app, and as its installation.
fn app_clients(gh: &StandIn, app: &AppCredentials) -> (Octocrab, Octocrab) {
    let key = octocrab::jsonwebtoken::EncodingKey::from_rsa_pem(app.private_key_pem.as_bytes()).unwrap();
    let builder = Octocrab::builder().base_uri(gh.url()).unwrap().add_retry_config(RetryConfig::None);
    let as_app = builder.app(app.app_id.into(), key).build().unwrap();
    let as_installation = as_app.installation(app.installation_id.into()).unwrap();
    (as_app, as_installation)
}

async fn read(client: &Octocrab, route: &str) -> Value {
    client.get(route, None::<&()>).await.unwrap_or_else(|e| panic!("{route}: {e:?}"))
}

/// The status and body of an answer, whatever it is.
async fn raw(
    client: &Octocrab,
    method: &str,
    route: &str,
    body: Option<Value>,
    headers: &[(&str, &str)],
) -> (u16, Value, http::HeaderMap) {
    let mut request = http::Request::builder().method(method).uri(route);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.map(|b| b.to_string()).unwrap_or_default();
    let response = client.execute(request.body(octocrab::OctoBody::from(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default(), head.headers)
}

/// `o/r` with one commit on `main`, one pull request (1) from `work`.
async fn small() -> (StandIn, github_standin::Repository, github_standin::PullRequest) {
    let gh = StandIn::start();
    let repo = gh.repository("o/r");
    repo.commit("main", CommitSpec::new("first").files(&["README.md"]));
    repo.set_branch("work", "main");
    repo.commit("work", CommitSpec::new("work").files(&["a.py"]));
    let pull = repo.open(github_standin::PullSpec::new("work"));
    (gh, repo, pull)
}
