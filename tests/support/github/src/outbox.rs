//! Webhook deliveries: signed, in order unless told otherwise, recorded like GitHub's delivery log. A failed one is
//! never repeated by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::Instant;

use crate::Shared;
use crate::world::World;

/// GitHub gives up on an answer after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What goes wrong with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryFault {
    /// It is never sent.
    Lost,
    /// It is sent twice, with the same id.
    Doubled,
    /// It is sent after this time; others pass it.
    Late(Duration),
    /// It is sent after so many later ones (or when deliveries are released).
    Behind(usize),
    /// It is signed with another secret.
    WrongSecret,
}

/// The order in which held deliveries go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they happened.
    Kept,
    /// The last one first.
    Reversed,
    /// Shuffled, the same way for the same seed.
    Shuffled(u64),
}

/// One delivery and what became of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Delivery {
    /// Its own id: a redelivery has another one.
    pub id: u64,
    /// `X-GitHub-Delivery`: a redelivery has the same one.
    pub guid: String,
    /// `X-GitHub-Event`.
    pub event: String,
    /// The payload's action.
    pub action: Option<String>,
    /// The repository it is about.
    pub repository_id: Option<u64>,
    /// Whether it repeats an earlier one.
    pub redelivery: bool,
    /// The raw body.
    pub body: String,
    /// When it was last sent, by the stand-in's clock.
    pub delivered_at: Option<DateTime<Utc>>,
    /// The last answer; 0 when none came.
    pub status: Option<u16>,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether a webhook was set up when it happened; if not, it is only remembered here.
    pub hooked: bool,
    #[serde(skip)]
    wrong_secret: bool,
}

pub(crate) struct FaultRule {
    pub event: String,
    pub action: Option<String>,
    pub fault: DeliveryFault,
    pub left: u32,
}

#[derive(Default)]
pub(crate) struct Outbox {
    /// Where to, and the secret.
    pub target: Option<(String, String)>,
    pub history: Vec<Delivery>,
    pub rules: Vec<FaultRule>,
    pub held: bool,
    queue: VecDeque<(Option<Instant>, u64)>,
    behind: Vec<(usize, u64)>,
    in_flight: usize,
}

impl Outbox {
    /// Takes a delivery in; the fault rules say whether and when it goes out.
    fn take(&mut self, delivery: Delivery) {
        let id = delivery.id;
        if !delivery.hooked {
            self.history.push(delivery);
            return;
        }
        let fits = |r: &&mut FaultRule| {
            r.left > 0 && r.event == delivery.event && (r.action.is_none() || r.action == delivery.action)
        };
        let fault = self.rules.iter_mut().find(fits).map(|rule| {
            rule.left -= 1;
            rule.fault
        });
        self.history.push(delivery);
        for (left, _) in &mut self.behind {
            *left = left.saturating_sub(1);
        }
        match fault {
            None => self.queue.push_back((None, id)),
            Some(DeliveryFault::Lost) => {}
            Some(DeliveryFault::Doubled) => self.queue.extend([(None, id), (None, id)]),
            Some(DeliveryFault::Late(by)) => self.queue.push_back((Some(Instant::now() + by), id)),
            Some(DeliveryFault::Behind(n)) => self.behind.push((n, id)),
            Some(DeliveryFault::WrongSecret) => {
                if let Some(taken) = self.history.last_mut() {
                    taken.wrong_secret = true;
                }
                self.queue.push_back((None, id));
            }
        }
        let overtaken: Vec<u64> = self.behind.extract_if(.., |(left, _)| *left == 0).map(|(_, id)| id).collect();
        self.queue.extend(overtaken.into_iter().map(|id| (None, id)));
    }

    /// Lets held and overtaken deliveries go, in that order.
    pub fn release(&mut self, order: Order) {
        self.held = false;
        self.queue.extend(self.behind.drain(..).map(|(_, id)| (None, id)));
        let queue = self.queue.make_contiguous();
        match order {
            Order::Kept => {}
            Order::Reversed => queue.reverse(),
            Order::Shuffled(seed) => {
                let mut state = seed.wrapping_mul(2).wrapping_add(1);
                for last in (1..queue.len()).rev() {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    queue.swap(last, (state >> 33) as usize % (last + 1));
                }
            }
        }
    }

    /// Sends a recorded delivery once more: same GUID, new id. `None` when there is none of that id.
    pub fn redeliver(&mut self, id: u64, new_id: u64) -> Option<u64> {
        let again = Delivery {
            id: new_id,
            redelivery: true,
            delivered_at: None,
            status: None,
            attempts: 0,
            hooked: true,
            wrong_secret: false,
            ..self.history.iter().find(|d| d.id == id)?.clone()
        };
        self.history.push(again);
        self.queue.push_back((None, new_id));
        Some(new_id)
    }

    /// Whether everything that may go out has gone out and was answered.
    pub fn is_settled(&self) -> bool {
        self.in_flight == 0 && (self.queue.is_empty() || self.held)
    }

    fn next(&mut self) -> Next {
        if self.held || self.target.is_none() {
            return Next::Nothing;
        }
        let now = Instant::now();
        // What is not late goes first: a late one is passed by all that wait with it, however slow the machine.
        let prompt = self.queue.iter().position(|(due, _)| due.is_none());
        let overdue = || self.queue.iter().position(|(due, _)| due.is_some_and(|due| due <= now));
        if let Some(at) = prompt.or_else(overdue)
            && let Some((_, id)) = self.queue.remove(at)
            && let Some(delivery) = self.history.iter().find(|d| d.id == id)
        {
            self.in_flight += 1;
            return Next::Send(Box::new(delivery.clone()));
        }
        self.queue.iter().filter_map(|(due, _)| *due).min().map_or(Next::Nothing, Next::At)
    }
}

enum Next {
    Send(Box<Delivery>),
    At(Instant),
    Nothing,
}

impl World {
    /// Tells the webhook of an event. `sender`, `repository` and `installation` are added to the payload. Events of
    /// forks are not told: hooks and apps hang on the repository that they were set up for.
    pub fn emit(&mut self, event: &str, repo: Option<u64>, sender: &str, payload: Value) {
        let mut payload = payload;
        if let Some(repo) = repo {
            if self.repo(repo).fork_of.is_some() {
                return;
            }
            payload["repository"] = self.repository_json(repo);
        }
        payload["sender"] = self.user_json(sender);
        if let (Some(app), None) = (&self.app, payload.get("installation")) {
            payload["installation"] = json!({ "id": app.installation, "node_id": format!("I_{}", app.installation) });
        }
        self.send(event, &payload);
    }

    /// Records a delivery and queues it, when there is a webhook.
    pub fn send(&mut self, event: &str, payload: &Value) {
        let id = self.next_id();
        let digits = self.next_sha(event);
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().to_owned();
        let delivery = Delivery {
            id,
            guid: [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"),
            event: event.to_owned(),
            action: payload.get("action").and_then(Value::as_str).map(str::to_owned),
            repository_id: payload.pointer("/repository/id").and_then(Value::as_u64),
            redelivery: false,
            body: payload.to_string(),
            // One that is lost was tried at once, too.
            delivered_at: Some(self.clock.now_s()),
            status: None,
            attempts: 0,
            hooked: self.outbox.target.is_some(),
            wrong_secret: false,
        };
        self.outbox.take(delivery);
    }
}

/// `X-Hub-Signature-256` of a raw body.
pub(crate) fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Sends what is due, one after the other, for ever.
pub(crate) async fn deliver(shared: Arc<Shared>) {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build().expect("a plain client");
    loop {
        let changed = shared.changed.notified();
        match shared.with_quietly(|world| (world.outbox.next(), world.outbox.target.clone(), world.app.is_some())) {
            (Next::Send(delivery), Some((url, secret)), by_app) => {
                let secret = if delivery.wrong_secret { "not the secret" } else { &secret };
                let status = send(&client, &url, secret, by_app, &delivery).await;
                shared.with(|world| {
                    let now = world.clock.now_s();
                    world.outbox.in_flight -= 1;
                    if let Some(sent) = world.outbox.history.iter_mut().find(|d| d.id == delivery.id) {
                        sent.attempts += 1;
                        sent.status = Some(status);
                        sent.delivered_at = Some(now);
                    }
                });
            }
            (Next::At(due), ..) => {
                let _: Result<(), _> = tokio::time::timeout_at(due, changed).await;
            }
            _ => changed.await,
        }
    }
}

async fn send(client: &reqwest::Client, url: &str, secret: &str, by_app: bool, delivery: &Delivery) -> u16 {
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("user-agent", "GitHub-Hookshot/5717c0d")
        .header("x-github-event", &delivery.event)
        .header("x-github-delivery", &delivery.guid)
        .header("x-github-hook-id", "1")
        .header("x-github-hook-installation-target-type", if by_app { "integration" } else { "repository" })
        .header("x-hub-signature-256", signature(secret, delivery.body.as_bytes()))
        .body(delivery.body.clone());
    request.send().await.map_or(0, |answer| answer.status().as_u16())
}
