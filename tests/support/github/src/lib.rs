//! A stateful stand-in for GitHub: the documented REST API and signed webhooks over real HTTP, with faults on demand
//! and a log of every request. Tests start it in process and change its state by hand; the executable serves it to a
//! demonstration, which changes the state through `/_control`.

mod api;
mod changes;
mod clock;
mod control;
mod faults;
mod graph;
mod hands;
mod identity;
mod log;
mod outbox;
mod render;
mod server;
mod spec;
mod world;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

pub use faults::Fault;
pub use hands::{CommentSeen, PullRequest, Repository};
pub use log::{Call, Calls};
pub use outbox::{Delivery, DeliveryFault, Order};
pub use spec::{CommitSpec, MergeMethod, PullSpec};
pub use world::Role;

use faults::Rule;
use identity::{App, Token};
use outbox::FaultRule;
use world::World;

/// State behind one lock, and who waits for its change.
pub(crate) struct Shared {
    world: Mutex<World>,
    changed: Notify,
}

impl Shared {
    /// Reads or changes the state and wakes who waits for changes.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let result = self.with_quietly(act);
        self.changed.notify_waiters();
        result
    }

    pub fn with_quietly<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        // A test that failed while holding the lock has already said why.
        act(&mut self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The running stand-in, on a thread of its own, so that a test may block, pause its time or have no runtime at all. It
/// stops when dropped.
pub struct StandIn {
    shared: Arc<Shared>,
    url: String,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its port is free when this returns.
            let _: Result<(), _> = thread.join();
        }
    }
}

/// What a client needs to be the app.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AppCredentials {
    /// The app's id.
    pub app_id: u64,
    /// Its one installation.
    pub installation_id: u64,
    /// The login that its writes carry, `SLUG[bot]`.
    pub login: String,
    /// The private key, PKCS#8 PEM.
    pub private_key_pem: String,
}

impl StandIn {
    /// Starts on a free loopback port.
    ///
    /// # Panics
    /// Without a loopback port.
    pub fn start() -> Self {
        Self::listen("127.0.0.1:0").expect("a loopback port is free")
    }

    /// Starts on that address.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn listen(address: &str) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { world: Mutex::new(World::at(&url)), changed: Notify::new() });
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (state, stopped) = (shared.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("inside of a runtime");
                tokio::select! {
                    () = server::serve(listener, state.clone()) => {}
                    () = outbox::deliver(state.clone()) => {}
                    () = stopped.notified() => {}
                }
            });
        });
        Ok(Self { shared, url, stop, thread: Some(thread) })
    }

    /// The base URL of the API. `URL/api/v3` is served too, as an Enterprise server has it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The repository of that name, made (empty, default branch `main`) when it is not there.
    pub fn repository(&self, full_name: &str) -> Repository {
        let id = self.shared.with(|world| {
            let there = full_name.split_once('/').and_then(|(owner, name)| Some(world.repo_named(owner, name)?.id));
            there.unwrap_or_else(|| world.create_repo(full_name, None))
        });
        Repository::new(self.shared.clone(), id)
    }

    /// A pull request of the repository that was made first.
    ///
    /// # Panics
    /// When there is none of that number.
    pub fn pull_request(&self, number: u64) -> PullRequest {
        let first = self.shared.with_quietly(|world| *world.repos.keys().next().expect("no repository was made"));
        Repository::new(self.shared.clone(), first).pull_request(number)
    }

    /// Makes the app of this id and slug, installed on every repository.
    pub fn install_app(&self, id: u64, slug: &str) -> AppCredentials {
        self.shared.with(|world| {
            let installation_id = world.next_id();
            let app = App::new(id, slug, installation_id);
            let login = app.login();
            world.user(&login);
            world.user(slug);
            let private_key_pem = app.private_key_pem.clone();
            world.app = Some(app);
            AppCredentials { app_id: id, installation_id, login, private_key_pem }
        })
    }

    /// Sets what the app may do: `("checks", "read")`; "none" takes it away.
    pub fn permit_app(&self, permission: &str, level: &str) {
        self.shared.with(|world| {
            let app = world.app.as_mut().expect("no app was installed");
            app.permissions.insert(permission.to_owned(), level.to_owned());
        });
    }

    /// Suspends the installation, or ends that; the event is sent.
    pub fn suspend_installation(&self, suspended: bool) {
        self.shared.with(|world| world.suspend(suspended, "octo-admin"));
    }

    /// A classic token of that person with these scopes (`repo`, `public_repo`, `repo:status`).
    pub fn personal_token(&self, login: &str, scopes: &[&str]) -> String {
        self.token_of(login, Some(scopes.iter().map(|&s| s.to_owned()).collect()), "ghp")
    }

    /// A fine-grained token of that person; its permissions are not listed anywhere.
    pub fn fine_grained_token(&self, login: &str) -> String {
        self.token_of(login, None, "github_pat")
    }

    fn token_of(&self, login: &str, scopes: Option<Vec<String>>, prefix: &str) -> String {
        self.shared.with(|world| {
            world.user(login);
            let token = format!("{prefix}_{}", world.next_sha(login));
            world.tokens.insert(token.clone(), Token::Personal { login: login.to_owned(), scopes });
            token
        })
    }

    /// Revokes a token: 401 from now on.
    pub fn revoke_token(&self, token: &str) {
        self.shared.with(|world| world.tokens.remove(token));
    }

    /// Revokes every installation token that was handed out.
    pub fn revoke_installation_tokens(&self) {
        self.shared.with(|world| world.tokens.retain(|_, token| matches!(token, Token::Personal { .. })));
    }

    /// Moves the stand-in's clock: installation tokens, rate windows and dates follow it. JWTs are judged by wall time.
    pub fn advance(&self, by: TimeDelta) {
        self.shared.with(|world| world.clock.advance(by));
    }

    /// Now, by the stand-in's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.with_quietly(|world| world.clock.now())
    }

    /// Allows each caller so many requests an hour from now on.
    pub fn limit_requests(&self, an_hour: u64) {
        self.shared.with(|world| world.budget.limit = Some(an_hour));
    }

    /// Keeps the secondary limits on content by itself from now on: 80 writes a minute, 500 an hour, then 403 with
    /// `Retry-After`.
    pub fn limit_content(&self) {
        self.shared.with(|world| world.budget.limits_content = true);
    }

    /// Makes the next matching request (route as in [`Calls::to`], `*` for any method) fail that way.
    pub fn fault(&self, method: &str, route: &str, fault: Fault) -> ArmedFault {
        let id = self.shared.with(|world| {
            let id = world.next_id();
            world.faults.push(Rule::once(id, method, route, fault));
            id
        });
        ArmedFault { shared: self.shared.clone(), id }
    }

    /// Takes every fault away.
    pub fn clear_faults(&self) {
        self.shared.with(|world| world.faults.clear());
    }

    /// Every request so far.
    pub fn calls(&self) -> Calls {
        self.shared.with_quietly(|world| Calls(world.calls.clone()))
    }

    /// Forgets the requests so far.
    pub fn forget_calls(&self) {
        self.shared.with(|world| world.calls.clear());
    }

    /// Sends events to that URL from now on, signed with the secret.
    pub fn webhook(&self, url: &str, secret: &str) {
        self.shared.with(|world| world.outbox.target = Some((url.to_owned(), secret.to_owned())));
    }

    /// Sends any event with any payload, signed like the others: what GitHub may send one day.
    pub fn send_event(&self, event: &str, payload: &serde_json::Value) {
        self.shared.with(|world| world.send(event, payload));
    }

    /// Makes the next so many deliveries of an event (and action) go wrong that way.
    pub fn delivery_fault(&self, event: &str, action: Option<&str>, fault: DeliveryFault, times: u32) {
        let action = action.map(str::to_owned);
        let rule = FaultRule { event: event.to_owned(), action, fault, left: times };
        self.shared.with(|world| world.outbox.rules.push(rule));
    }

    /// Keeps deliveries back until they are released.
    pub fn hold_deliveries(&self) {
        self.shared.with(|world| world.outbox.held = true);
    }

    /// Lets everything that is held or overtaken go, in that order.
    pub fn release_deliveries(&self, order: Order) {
        self.shared.with(|world| world.outbox.release(order));
    }

    /// Does something whose deliveries then go out in that order.
    pub fn in_order<T>(&self, order: Order, act: impl FnOnce() -> T) -> T {
        self.hold_deliveries();
        let result = act();
        self.release_deliveries(order);
        result
    }

    /// Every event so far, also lost and held ones and those from before the webhook was set up, which were never sent.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.with_quietly(|world| world.outbox.history.clone())
    }

    /// Sends the delivery with this GUID again: same GUID, same body, a new id.
    ///
    /// # Panics
    /// When there is none.
    pub fn redeliver(&self, guid: &str) {
        self.shared.with(|world| {
            let id = world.outbox.history.iter().find(|d| d.guid == guid).map(|d| d.id).expect("no such delivery");
            let new_id = world.next_id();
            world.outbox.redeliver(id, new_id);
        });
    }

    /// Waits until every delivery that may go out has been answered or has failed.
    pub async fn settled(&self) {
        self.wait_until(|world| world.outbox.is_settled()).await;
    }

    /// Waits until so many calls to the route were answered.
    pub async fn called(&self, method: &str, route: &str, times: usize) {
        let done =
            |world: &World| Calls(world.calls.clone()).to(method, route).filter(|c| c.ended.is_some()).count() >= times;
        self.wait_until(done).await;
    }

    async fn wait_until(&self, done: impl Fn(&World) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.with_quietly(|world| done(world)) {
                return;
            }
            changed.await;
        }
    }
}

/// A fault that waits for its request; strikes once unless told otherwise.
pub struct ArmedFault {
    shared: Arc<Shared>,
    id: u64,
}

impl ArmedFault {
    fn change<T: Default>(&self, act: impl FnOnce(&mut Rule) -> T) -> T {
        self.shared.with(|world| world.faults.iter_mut().find(|r| r.id == self.id).map(act).unwrap_or_default())
    }

    /// Strikes so many requests.
    pub fn times(self, times: u32) -> Self {
        self.change(|rule| rule.set_left(times));
        self
    }

    /// Strikes until faults are cleared.
    pub fn forever(self) -> Self {
        self.times(u32::MAX)
    }

    /// Lets so many matching requests pass first.
    pub fn after(self, passed: u32) -> Self {
        self.change(|rule| rule.set_skip(passed));
        self
    }

    /// How many requests it has struck.
    pub fn struck(&self) -> u32 {
        self.change(|rule| rule.struck)
    }
}
