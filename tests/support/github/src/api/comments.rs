//! What hangs on a pull request as an issue: comments, reactions, labels.

use http::Method;
use serde_json::{Value, json};

use super::{Answer, Needs, REACTIONS, Reply, Request};
use crate::identity::Identity;
use crate::world::{Comment, Labelled, Role, World};

/// Longer comments are refused.
const LONGEST_COMMENT: usize = 65_536;

const COMMENT: Needs = Needs { permission: &["issues", "pull_requests"], scope: "repo", role: Role::Read };
const LABEL: Needs = Needs { permission: &["issues", "pull_requests"], scope: "repo", role: Role::Triage };

pub(super) fn route(world: &mut World, request: &Request, repo: u64, rest: &[&str]) -> Reply {
    let get = request.method == Method::GET;
    match (request.method.as_str(), rest) {
        ("GET", ["issues", "comments"]) => Ok(of_repository(world, request, repo)),
        (_, ["issues", "comments", id, rest @ ..]) => {
            let id = id.parse().unwrap_or(0);
            let comment = world.repo(repo).comments.get(&id).ok_or_else(Answer::not_found)?.clone();
            one_comment(world, request, repo, &comment, rest)
        }
        (_, ["issues", number, rest @ ..]) => {
            let number = number.parse().ok().filter(|n| world.repo(repo).pulls.contains_key(n));
            let number = number.ok_or_else(Answer::not_found)?;
            match rest {
                [] if get => Ok(Answer::ok(world.issue_json(repo, number))),
                ["comments"] => comments(world, request, repo, number),
                ["events"] if get => {
                    let labelled = world.pull(repo, number).labelled.iter().collect();
                    Ok(request.page(world, labelled, |event: &&Labelled| {
                        json!({
                            "event": event.event, "actor": world.user_json(&event.by),
                            "label": {"name": event.label, "color": "ededed"},
                            "created_at": crate::clock::stamp(event.at), "commit_id": null,
                        })
                    }))
                }
                ["labels", name @ ..] => labels(world, request, repo, number, &name.join("/")),
                _ => Err(Answer::not_found()),
            }
        }
        _ => Err(Answer::not_found()),
    }
}

fn body(request: &Request) -> Result<String, Answer> {
    let body = request.text("body").filter(|body| !body.trim().is_empty());
    let body = body.ok_or_else(|| Answer::invalid("IssueComment", "missing_field", "body", None))?;
    if body.chars().count() > LONGEST_COMMENT {
        let message = "Body is too long (maximum is 65536 characters)";
        return Err(Answer::invalid("IssueComment", "unprocessable", "data", Some(message)));
    }
    Ok(body)
}

fn comments(world: &mut World, request: &Request, repo: u64, number: u64) -> Reply {
    if request.method == Method::POST {
        let login = world.writer(request, repo, &COMMENT)?;
        let id = world.comment(repo, number, &body(request)?, &login);
        let comment = world.repo(repo).comments.get(&id).ok_or_else(Answer::not_found)?;
        return Ok(Answer::json(201, world.comment_json(repo, comment)));
    }
    let since = request.query("since").and_then(|s| chrono::DateTime::parse_from_rfc3339(s).ok());
    let there = world.repo(repo).comments.values().filter(|c| c.number == number);
    let comments: Vec<&Comment> = there.filter(|c| since.is_none_or(|since| c.updated_at >= since)).collect();
    Ok(request.page(world, comments, |c| world.comment_json(repo, c)))
}

/// The comments of all issues, by id unless another order is asked for.
fn of_repository(world: &World, request: &Request, repo: u64) -> Answer {
    let since = request.query("since").and_then(|s| chrono::DateTime::parse_from_rfc3339(s).ok());
    let mut comments: Vec<&Comment> = world.repo(repo).comments.values().collect();
    comments.retain(|c| since.is_none_or(|since| c.updated_at >= since));
    match request.query("sort") {
        Some("updated") => comments.sort_by_key(|c| (c.updated_at, c.id)),
        Some(_) | None => comments.sort_by_key(|c| c.id),
    }
    if request.query("sort").is_some() && request.query("direction").unwrap_or("desc") == "desc" {
        comments.reverse();
    }
    request.page(world, comments, |c| world.comment_json(repo, c))
}

fn one_comment(world: &mut World, request: &Request, repo: u64, comment: &Comment, rest: &[&str]) -> Reply {
    // One's own comment, or with push access anybody's. An app needs only its permission.
    let may_change = |world: &World| {
        let own = matches!(&request.identity, Identity::User { login, .. } if *login == comment.author);
        let role = if own { Role::Read } else { Role::Write };
        world.writer(request, repo, &Needs { role, ..COMMENT })
    };
    match (request.method.as_str(), rest) {
        ("GET", []) => Ok(Answer::ok(world.comment_json(repo, comment))),
        // Documented is PATCH; POST is taken for it too.
        ("PATCH" | "POST", []) => {
            let login = may_change(world)?;
            world.edit_comment(repo, comment.id, &body(request)?, &login);
            let comment = world.repo(repo).comments.get(&comment.id).ok_or_else(Answer::not_found)?;
            Ok(Answer::ok(world.comment_json(repo, comment)))
        }
        ("DELETE", []) => {
            let login = may_change(world)?;
            world.delete_comment(repo, comment.id, &login);
            Ok(Answer::empty())
        }
        ("GET", ["reactions"]) => {
            let wanted = request.query("content");
            let reactions = comment.reactions.iter().filter(|r| wanted.is_none_or(|w| r.content == w)).collect();
            Ok(request.page(world, reactions, |r| world.reaction_json(r)))
        }
        ("POST", ["reactions"]) => {
            let login = world.writer(request, repo, &COMMENT)?;
            let content = request.text("content").filter(|c| REACTIONS.contains(&c.as_str()));
            let content = content.ok_or_else(|| Answer::invalid("Reaction", "invalid", "content", None))?;
            let (reaction, new) = world.react(repo, comment.id, &content, &login).ok_or_else(Answer::not_found)?;
            Ok(Answer::json(if new { 201 } else { 200 }, world.reaction_json(&reaction)))
        }
        ("DELETE", ["reactions", id]) => {
            world.writer(request, repo, &COMMENT)?;
            let id: u64 = id.parse().unwrap_or(0);
            if let Some(comment) = world.repo_mut(repo).comments.get_mut(&comment.id) {
                comment.reactions.retain(|r| r.id != id);
            }
            Ok(Answer::empty())
        }
        _ => Err(Answer::not_found()),
    }
}

fn labels(world: &mut World, request: &Request, repo: u64, number: u64, name: &str) -> Reply {
    let all = |world: &World| -> Vec<Value> {
        world.pull(repo, number).labels.iter().map(|l| world.label_json(repo, l)).collect()
    };
    match request.method.as_str() {
        "GET" => {
            let labels = all(world);
            Ok(request.page(world, labels, Value::clone))
        }
        "POST" => {
            let login = world.writer(request, repo, &LABEL)?;
            // `{"labels": [..]}` or the bare list; each a name or `{"name": ..}`.
            let list = request.body.get("labels").unwrap_or(&request.body).as_array().cloned().unwrap_or_default();
            for label in &list {
                if let Some(label) = label.as_str().or_else(|| label["name"].as_str()) {
                    world.label(repo, number, label, &login);
                }
            }
            Ok(Answer::ok(json!(all(world))))
        }
        "DELETE" => {
            let login = world.writer(request, repo, &LABEL)?;
            if !world.unlabel(repo, number, name, &login) {
                return Err(Answer::refusal(404, "Label does not exist"));
            }
            Ok(Answer::ok(json!(all(world))))
        }
        _ => Err(Answer::not_found()),
    }
}
