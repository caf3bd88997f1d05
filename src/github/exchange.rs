//! One question and its answer: through the gate, with the right credentials, over redirects, by the cache, and every
//! failure classified. Nothing is repeated here but a read whose token had ended.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use octocrab::{OctoBody, Octocrab};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::Url;

use super::cache::{Cache, Known};
use super::error::{Asked, Refused};
use super::gate::Gate;
use super::limits::{Need, Told};
use super::link::{self, Leads};
use super::speaker::{App, Credentials, Minted, Speaker, repository_of};
use super::{Account, GitHubError};
use crate::health::lowest_cause;
use crate::meters::{self, Call, Service};
use crate::redact;

/// How long one request may take, connection and answer together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// No answer of GitHub is longer: a page of a hundred pull requests has two to three million bytes.
const LONGEST_ANSWER_BYTES: usize = 32 << 20;

/// Redirects that are followed for one question.
const MOST_REDIRECTS: usize = 5;

/// Pages of one list.
const MOST_PAGES: usize = 100;

/// The connection of all clones of a client.
pub(super) struct Wire {
    pub credentials: Credentials,
    pub base: Url,
    pub gate: Gate,
    pub cache: Mutex<Cache>,
    pub identity: OnceCell<Account>,
}

/// A question.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub method: &'a Method,
    pub route: &'a str,
    pub body: Option<&'a Value>,
}

impl<'a> Ask<'a> {
    pub fn read(route: &'a str) -> Self {
        Self { method: &Method::GET, route, body: None }
    }

    fn asked(&self) -> Asked {
        if *self.method == Method::GET { Asked::Read } else { Asked::Write }
    }
}

/// A success.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
    pub next: Option<String>,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self, route: &str) -> Result<T, GitHubError> {
        serde_json::from_slice(&self.body).map_err(|source| GitHubError::Malformed { route: route.to_owned(), source })
    }
}

/// An answer as it came.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// For a rate limit.
    silent_for: Option<Duration>,
}

impl Reply {
    fn refusal(&self, route: &str, asked: Asked) -> GitHubError {
        let needs = self.headers.get("x-accepted-github-permissions").and_then(|value| value.to_str().ok());
        let answer = Refused {
            status: self.status,
            body: &self.body,
            needs: needs.filter(|needs| !needs.is_empty()).map(str::to_owned),
            silent_for: self.silent_for,
        };
        GitHubError::from_answer(route, asked, &answer)
    }
}

/// Who speaks for one question.
enum Voice {
    Lasting(Octocrab),
    Minted(Minted),
}

#[derive(Deserialize)]
struct WireInstallation {
    id: u64,
}

#[derive(Deserialize)]
struct WireToken {
    token: String,
}

impl Wire {
    /// The answer to a question; any status that is not a success is an error.
    pub async fn exchange(&self, speaker: Speaker, ask: Ask<'_>) -> Result<Answer, GitHubError> {
        let (route, asked) = (ask.route, ask.asked());
        let began = Instant::now();
        loop {
            let voice = self.voice(speaker, route).await?;
            let client = match &voice {
                Voice::Lasting(client) | Voice::Minted(Minted { client, .. }) => client,
            };
            let known = match asked {
                Asked::Read => self.cached(|cache| cache.find(speaker, route)),
                Asked::Write => None,
            };
            let reply = self.once(speaker, client, ask, known.as_ref().map(|known| &known.etag)).await?;
            match (reply.status, known, &voice) {
                (StatusCode::NOT_MODIFIED, Some(known), _) => {
                    let next = link::next_page(&reply.headers, &self.base).or(known.next);
                    return Ok(Answer { headers: reply.headers, body: known.body, next });
                }
                (status, _, _) if status.is_success() => return Ok(self.answer(speaker, ask, reply)),
                // A token that was made just now and is refused all the same did not end early.
                (StatusCode::UNAUTHORIZED, _, Voice::Minted(used)) if !used.is_newer_than(began) => {
                    self.drop_token(speaker, used).await;
                    if asked == Asked::Write {
                        let reason = "the token of the installation has ended early".to_owned();
                        return Err(GitHubError::Unanswered { route: route.to_owned(), reason });
                    }
                }
                _ => return Err(reply.refusal(route, asked)),
            }
        }
    }

    /// Every page of a list, until one is the last or `enough`. `length` counts the items of a page.
    pub async fn pages<P: DeserializeOwned>(
        &self,
        speaker: Speaker,
        route: &str,
        page_items: usize,
        length: impl Fn(&P) -> usize,
        enough: impl Fn(&P) -> bool,
    ) -> Result<Vec<P>, GitHubError> {
        let mut pages = Vec::new();
        let mut at = route.to_owned();
        for _ in 0..MOST_PAGES {
            let answer = self.exchange(speaker, Ask::read(&at)).await?;
            let page: P = answer.json(&at)?;
            if answer.next.is_none() && length(&page) >= page_items {
                // A full page stays as it is when a page is added behind it: "not modified" would hide that.
                self.cached(|cache| cache.forget(speaker, &at));
            }
            let is_enough = enough(&page);
            pages.push(page);
            match answer.next {
                Some(next) if !is_enough => at = next,
                Some(_) | None => return Ok(pages),
            }
        }
        Err(GitHubError::TooLarge { route: route.to_owned(), limit: format!("{MOST_PAGES} pages") })
    }

    /// Who asks about this route.
    pub async fn speaker(&self, route: &str) -> Result<Speaker, GitHubError> {
        match &self.credentials {
            Credentials::Anonymous(_) => Ok(Speaker::Anonymous),
            Credentials::Token(_) => Ok(Speaker::Token),
            Credentials::App(app) => self.installation(app, route).await.map(Speaker::Installation),
        }
    }

    fn cached<T>(&self, act: impl FnOnce(&mut Cache) -> T) -> T {
        act(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self, speaker: Speaker, ask: Ask<'_>, reply: Reply) -> Answer {
        let Reply { headers, body, .. } = reply;
        let next = link::next_page(&headers, &self.base);
        match (ask.asked(), headers.get(header::ETAG)) {
            (Asked::Read, Some(etag)) => {
                let known = Known { etag: etag.clone(), body: body.clone(), next: next.clone() };
                self.cached(|cache| cache.keep(speaker, ask.route, known));
            }
            (Asked::Read, None) => self.cached(|cache| cache.forget(speaker, ask.route)),
            (Asked::Write, _) => {}
        }
        Answer { headers, body, next }
    }

    /// One request with its redirects, through the gate.
    async fn once(
        &self,
        speaker: Speaker,
        client: &Octocrab,
        ask: Ask<'_>,
        etag: Option<&HeaderValue>,
    ) -> Result<Reply, GitHubError> {
        let need = match (ask.asked(), speaker, etag) {
            // Tokens and deliveries are no content, and the App's own.
            (Asked::Write, Speaker::App, _) | (Asked::Read, _, None) => Need::Read,
            (Asked::Write, Speaker::Anonymous | Speaker::Token | Speaker::Installation(_), _) => Need::Write,
            (Asked::Read, _, Some(_)) => Need::Recheck,
        };
        let mut route = ask.route.to_owned();
        let passage = self.gate.enter(speaker, need).await;
        let _passage = passage.map_err(|away| GitHubError::RateLimited {
            route: route.clone(),
            message: away.to_string(),
            retry_after: away.retry_after,
        })?;
        for _ in 0..=MOST_REDIRECTS {
            let mut reply = self.transmit(client, Ask { route: &route, ..ask }, etag).await?;
            let told = Told::of(reply.status, &reply.headers, &reply.body);
            reply.silent_for = self.gate.answered(speaker, &told);
            let moved = matches!(
                reply.status,
                StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT
            );
            let leads = if moved { link::moved_to(&reply.headers, &route, &self.base) } else { None };
            match leads {
                None => return Ok(reply),
                Some(Leads::Here(to)) => route = to,
                Some(Leads::Away(to)) => return Err(GitHubError::LeadsAway { route: ask.route.to_owned(), to }),
            }
        }
        let to = format!("more than {MOST_REDIRECTS} places, one after the other");
        Err(GitHubError::LeadsAway { route: ask.route.to_owned(), to })
    }

    /// One exchange on the wire.
    async fn transmit(
        &self,
        client: &Octocrab,
        ask: Ask<'_>,
        etag: Option<&HeaderValue>,
    ) -> Result<Reply, GitHubError> {
        let mut request = Request::builder().method(ask.method).uri(ask.route);
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let body = match ask.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                body.to_string().into()
            }
            None => OctoBody::empty(),
        };
        let request =
            request.body(body).map_err(|source| GitHubError::Request { route: ask.route.to_owned(), source })?;
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, async {
            let (parts, body) = client.execute(request).await.map_err(|error| lost(ask, &error))?.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER_BYTES).collect().await.map_err(|error| match error
                .is::<LengthLimitError>(
            ) {
                true => GitHubError::TooLarge {
                    route: ask.route.to_owned(),
                    limit: format!("{} MiB", LONGEST_ANSWER_BYTES >> 20),
                },
                false => lost(ask, error.as_ref()),
            })?;
            Ok(Reply { status: parts.status, headers: parts.headers, body: body.to_bytes(), silent_for: None })
        });
        let answered = answered.await.unwrap_or_else(|_elapsed| {
            let (route, after) = (ask.route.to_owned(), REQUEST_TIMEOUT);
            Err(match ask.asked() {
                Asked::Read => GitHubError::TimedOut { route, after },
                Asked::Write => {
                    GitHubError::Unanswered { route, reason: format!("no answer came within {} s", after.as_secs()) }
                }
            })
        });
        let outcome = answered.as_ref().map_or(Call::Failed, |reply| Call::of_status(reply.status.as_u16()));
        meters::api_call(Service::Github, outcome);
        answered
    }

    async fn voice(&self, speaker: Speaker, route: &str) -> Result<Voice, GitHubError> {
        match (&self.credentials, speaker) {
            (Credentials::App(app), Speaker::Installation(id)) => self.minted(app, id, route).await.map(Voice::Minted),
            (Credentials::App(App { itself: client, .. }), _)
            | (Credentials::Token(client) | Credentials::Anonymous(client), _) => Ok(Voice::Lasting(client.clone())),
        }
    }

    /// The installation that may ask about a route: the configured one, else the one of its repository, else any.
    async fn installation(&self, app: &App, route: &str) -> Result<u64, GitHubError> {
        let repository = repository_of(route);
        let known = app.installation.or_else(|| app.home(repository.unwrap_or_default()));
        if let Some(known) = known {
            return Ok(known);
        }
        let found = match repository {
            Some(repository) => {
                let route = format!("/repos/{repository}/installation");
                self.as_app::<WireInstallation>(app, Ask::read(&route)).await
            }
            None => {
                let route = "/app/installations?per_page=1";
                let found = self.as_app::<Vec<WireInstallation>>(app, Ask::read(route)).await?;
                let gone = || GitHubError::Gone { route: route.to_owned(), status: StatusCode::NOT_FOUND };
                found.into_iter().next().ok_or_else(gone)
            }
        };
        let place = repository.unwrap_or("any account");
        let found = found.map_err(|error| not_installed(error, place))?;
        app.settle(repository.unwrap_or_default(), found.id);
        Ok(found.id)
    }

    /// A client with a token of the installation that has some time left.
    async fn minted(&self, app: &App, installation: u64, route: &str) -> Result<Minted, GitHubError> {
        let mut minted = app.minted.lock().await;
        if let Some(fresh) = minted.get(&installation).filter(|minted| minted.is_fresh()) {
            return Ok(fresh.clone());
        }
        let path = format!("/app/installations/{installation}/access_tokens");
        let made = self.as_app::<WireToken>(app, Ask { method: &Method::POST, route: &path, body: None }).await;
        let WireToken { token } = made.map_err(|error| {
            if let GitHubError::Unanswered { route, reason } = error {
                // A token that was made and lost harms nobody, and what was to be done with it was not begun.
                return GitHubError::Unreachable { route, reason };
            }
            if error.is_gone() {
                app.move_out(installation);
            }
            not_installed(error, repository_of(route).unwrap_or("any account"))
        })?;
        redact::learn_passing(&token);
        let new = Minted::new(&app.itself, token.into())
            .map_err(|error| GitHubError::Unreachable { route: path, reason: lowest_cause(&error) })?;
        minted.insert(installation, new.clone());
        Ok(new)
    }

    /// Forgets a token that was refused, unless there is a newer one already.
    async fn drop_token(&self, speaker: Speaker, used: &Minted) {
        if let (Credentials::App(app), Speaker::Installation(id)) = (&self.credentials, speaker) {
            let mut minted = app.minted.lock().await;
            if minted.get(&id).is_some_and(|minted| minted.is(used)) {
                minted.remove(&id);
            }
        }
    }

    /// A question of the App itself.
    async fn as_app<T: DeserializeOwned>(&self, app: &App, ask: Ask<'_>) -> Result<T, GitHubError> {
        let reply = self.once(Speaker::App, &app.itself, ask, None).await?;
        if reply.status.is_success() {
            return self.answer(Speaker::App, ask, reply).json(ask.route);
        }
        Err(reply.refusal(ask.route, ask.asked()))
    }
}

fn not_installed(error: GitHubError, place: &str) -> GitHubError {
    if error.is_gone() { GitHubError::NotInstalled { place: place.to_owned() } } else { error }
}

/// A request or an answer was lost on the way. Only what never had a connection was certainly not done.
fn lost(ask: Ask<'_>, error: &(dyn std::error::Error + 'static)) -> GitHubError {
    let (route, reason) = (ask.route.to_owned(), lowest_cause(error));
    let mut causes = std::iter::successors(Some(error), |cause| cause.source());
    let was_sent = causes.find_map(|cause| cause.downcast_ref::<reqwest::Error>()).is_some_and(|e| !e.is_connect());
    match ask.asked() {
        Asked::Write if was_sent => GitHubError::Unanswered { route, reason },
        Asked::Read | Asked::Write => GitHubError::Unreachable { route, reason },
    }
}
