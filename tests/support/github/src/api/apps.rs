//! What stands outside of repositories: the caller, users, the app and its installation, its deliveries, rate limits.

use serde_json::{Value, json};

use super::{Answer, Reply, Request};
use crate::clock::stamp;
use crate::identity::Identity;
use crate::outbox::Delivery;
use crate::world::World;

/// Deliveries older than this cannot be redelivered any more.
const REDELIVERY_DAYS: i64 = 3;

pub(super) fn route(world: &mut World, request: &Request, path: &[&str]) -> Reply {
    match (request.method.as_str(), path) {
        ("GET", ["rate_limit"]) => {
            let a = request.allowance;
            let rate = json!({ "limit": a.limit, "used": a.used, "remaining": a.remaining(), "reset": a.reset });
            Ok(Answer::ok(json!({ "resources": { "core": rate, "search": rate, "graphql": rate }, "rate": rate })))
        }
        ("GET", ["user"]) => match &request.identity {
            Identity::User { login, .. } => Ok(Answer::ok(world.user_json(login))),
            Identity::Installation => Err(Answer::refusal(403, "Resource not accessible by integration")),
            Identity::App => Err(Answer::refusal(401, "A JSON web token could not be decoded")),
            Identity::Anonymous => Err(Answer::refusal(401, "Requires authentication")),
        },
        ("GET", ["users", login]) => {
            let user = world.user_json(login);
            if user.is_null() { Err(Answer::not_found()) } else { Ok(Answer::ok(user)) }
        }
        ("GET", ["installation", "repositories"]) if request.identity == Identity::Installation => {
            let repos: Vec<Value> =
                world.repos.values().filter(|r| r.fork_of.is_none()).map(|r| world.repository_json(r.id)).collect();
            let (rows, link) = request.slice(world, &repos);
            let mut answer = Answer::ok(json!({ "total_count": repos.len(), "repositories": rows }));
            answer.headers.extend(link.map(|link| ("link", link)));
            Ok(answer)
        }
        ("DELETE", ["installation", "token"]) if request.identity == Identity::Installation => {
            world.drop_tokens();
            Ok(Answer::empty())
        }
        (_, ["app", rest @ ..]) => {
            if request.identity != Identity::App {
                return Err(Answer::refusal(401, "A JSON web token could not be decoded"));
            }
            of_app(world, request, rest)
        }
        _ => Err(Answer::not_found()),
    }
}

fn of_app(world: &mut World, request: &Request, rest: &[&str]) -> Reply {
    let installed = |world: &World, id: &str| {
        let there = world.app.as_ref().is_some_and(|app| app.installation.to_string() == id);
        if there { Ok(()) } else { Err(Answer::not_found()) }
    };
    match (request.method.as_str(), rest) {
        ("GET", []) => Ok(Answer::ok(world.app_json())),
        ("GET", ["installations"]) => Ok(request.page(world, vec![world.installation_json()], Value::clone)),
        ("GET", ["installations", id]) => {
            installed(world, id)?;
            Ok(Answer::ok(world.installation_json()))
        }
        ("POST", ["installations", id, "access_tokens"]) => {
            installed(world, id)?;
            if world.app.as_ref().is_some_and(|app| app.suspended) {
                return Err(Answer::refusal(403, "This installation has been suspended"));
            }
            let (token, expires_at) = world.grant_installation_token();
            Ok(Answer::json(
                201,
                json!({
                    "token": token, "expires_at": stamp(expires_at),
                    "permissions": world.app.as_ref().map(|app| &app.permissions), "repository_selection": "selected",
                }),
            ))
        }
        ("GET", ["hook", "deliveries"]) => Ok(deliveries(world, request)),
        ("GET", ["hook", "deliveries", id]) => {
            let id: u64 = id.parse().unwrap_or(0);
            let delivery = sent(world).into_iter().find(|d| d.id == id).ok_or_else(Answer::not_found)?;
            let mut json = delivery_json(world, delivery);
            json["url"] = json!(world.outbox.target.as_ref().map(|(url, _)| url));
            json["request"] = json!({
                "headers": { "X-GitHub-Event": delivery.event, "X-GitHub-Delivery": delivery.guid },
                "payload": serde_json::from_str::<Value>(&delivery.body).unwrap_or_default(),
            });
            json["response"] = json!({ "headers": {}, "payload": "" });
            Ok(Answer::ok(json))
        }
        ("POST", ["hook", "deliveries", id, "attempts"]) => {
            let id: u64 = id.parse().unwrap_or(0);
            let delivery = sent(world).into_iter().find(|d| d.id == id).ok_or_else(Answer::not_found)?;
            let oldest = world.clock.now() - chrono::TimeDelta::days(REDELIVERY_DAYS);
            if delivery.delivered_at.is_some_and(|at| at < oldest) {
                return Err(Answer::refusal(422, "The delivery is too old to be redelivered."));
            }
            let new_id = world.next_id();
            world.outbox.redeliver(id, new_id);
            Ok(Answer::json(202, json!({})))
        }
        _ => Err(Answer::not_found()),
    }
}

/// GitHub lists what it tried to send, newest first. A lost delivery was tried and got no answer.
fn sent(world: &World) -> Vec<&Delivery> {
    world.outbox.history.iter().rev().filter(|d| d.hooked).collect()
}

fn delivery_json(world: &World, delivery: &Delivery) -> Value {
    let status = delivery.status.unwrap_or(0);
    let word = match status {
        200..300 => "OK".to_owned(),
        0 => "failed to connect to host".to_owned(),
        other => format!("Invalid HTTP Response: {other}"),
    };
    let delivered_at = delivery.delivered_at.unwrap_or_else(|| world.clock.now());
    json!({
        "id": delivery.id, "guid": delivery.guid, "delivered_at": stamp(delivered_at),
        "redelivery": delivery.redelivery, "duration": 0.1, "status": word, "status_code": status,
        "event": delivery.event, "action": delivery.action,
        "installation_id": world.app.as_ref().map(|app| app.installation),
        "repository_id": delivery.repository_id, "throttled_at": null,
    })
}

/// Pages by cursor: the id to begin at.
fn deliveries(world: &World, request: &Request) -> Answer {
    let per_page = request.query("per_page").and_then(|v| v.parse().ok()).unwrap_or(30).clamp(1, 100);
    let cursor = request.query("cursor").and_then(|c| c.parse::<u64>().ok());
    let mut all = sent(world);
    all.retain(|d| cursor.is_none_or(|cursor| d.id <= cursor));
    let rows = all.iter().take(per_page).map(|d| delivery_json(world, d)).collect();
    let mut answer = Answer::ok(Value::Array(rows));
    if let Some(next) = all.get(per_page) {
        let url = format!("{}/app/hook/deliveries?per_page={per_page}&cursor={}", world.base, next.id);
        answer.headers.push(("link", format!("<{url}>; rel=\"next\"")));
    }
    answer
}
