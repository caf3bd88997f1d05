//! Check runs, which only apps may write, and commit statuses.

use http::Method;
use serde_json::{Value, json};

use super::{Answer, Needs, Reply, Request, commits};
use crate::clock::stamp;
use crate::identity::Identity;
use crate::world::{CheckRun, Role, Status, World};

/// Longer summaries and texts are refused.
const LONGEST_OUTPUT: usize = 65_535;
/// Longer descriptions of a status are refused.
const LONGEST_DESCRIPTION: usize = 140;
/// So many statuses of one commit and context are kept; further ones are refused.
const MOST_STATUSES: usize = 1000;

const CONCLUSIONS: [&str; 8] =
    ["action_required", "cancelled", "failure", "neutral", "skipped", "stale", "success", "timed_out"];

const CHECK: Needs = Needs { permission: &["checks"], scope: "repo", role: Role::Write };
const STATUS: Needs = Needs { permission: &["statuses"], scope: "repo:status", role: Role::Write };

/// What is listed under a commit: `commits/REF/check-runs`, `/status`, `/statuses`; `None` for other routes.
pub(super) fn of_commit(world: &World, request: &Request, repo: u64, rest: &[&str]) -> Option<Reply> {
    let ["commits", reference @ .., kind @ ("check-runs" | "status" | "statuses")] = rest else { return None };
    if request.method != Method::GET || reference.is_empty() {
        return None;
    }
    let reference = reference.join("/");
    Some(commits::find(world, repo, &reference).map(|commit| match *kind {
        "check-runs" => checks_of(world, request, repo, &commit.sha),
        "statuses" => {
            let statuses = world.repo(repo).statuses.iter().rev().filter(|s| s.sha == commit.sha).collect();
            request.page(world, statuses, |s| world.status_json(repo, s))
        }
        _ => combined(world, repo, &commit.sha),
    }))
}

pub(super) fn route(world: &mut World, request: &Request, repo: u64, rest: &[&str]) -> Reply {
    match (request.method.as_str(), rest) {
        ("POST", ["check-runs"]) => put_check(world, request, repo, None),
        ("PATCH", ["check-runs", id]) => {
            let check = id.parse().ok().and_then(|id: u64| world.repo(repo).checks.get(&id)).cloned();
            put_check(world, request, repo, Some(check.ok_or_else(Answer::not_found)?))
        }
        ("GET", ["check-runs", id]) => {
            let check = id.parse().ok().and_then(|id: u64| world.repo(repo).checks.get(&id));
            Ok(Answer::ok(world.check_json(repo, check.ok_or_else(Answer::not_found)?)))
        }
        ("POST", ["statuses", sha]) => put_status(world, request, repo, sha),
        _ => Err(Answer::not_found()),
    }
}

fn checks_of(world: &World, request: &Request, repo: u64, sha: &str) -> Answer {
    let (name, status) = (request.query("check_name"), request.query("status"));
    let fits =
        |c: &&CheckRun| c.head_sha == sha && name.is_none_or(|n| c.name == n) && status.is_none_or(|s| c.status == s);
    let mut checks: Vec<&CheckRun> = world.repo(repo).checks.values().rev().filter(fits).collect();
    if request.query("filter") != Some("all") {
        // "latest": of several runs of one name, the last one.
        let mut seen = std::collections::HashSet::new();
        checks.retain(|c| seen.insert(&c.name));
    }
    let (rows, link) = request.slice(world, &checks);
    let rows: Vec<Value> = rows.iter().map(|c| world.check_json(repo, c)).collect();
    let mut answer = Answer::ok(json!({ "total_count": checks.len(), "check_runs": rows }));
    answer.headers.extend(link.map(|link| ("link", link)));
    answer
}

fn put_check(world: &mut World, request: &Request, repo: u64, there: Option<CheckRun>) -> Reply {
    if matches!(request.identity, Identity::User { .. }) {
        return Err(Answer::refusal(403, "You must authenticate via a GitHub App."));
    }
    let login = world.writer(request, repo, &CHECK)?;
    let now = stamp(world.clock.now());
    let is_new = there.is_none();
    let mut check = match there {
        Some(check) => check,
        None => {
            let missing = |field| Answer::refusal(422, &format!("Invalid request.\n\n\"{field}\" wasn't supplied."));
            let name = request.text("name").ok_or_else(|| missing("name"))?;
            let head_sha = request.text("head_sha").ok_or_else(|| missing("head_sha"))?;
            commits::find(world, repo, &head_sha)?;
            CheckRun {
                id: world.next_id(),
                name,
                head_sha,
                status: "queued".to_owned(),
                started_at: Some(now.clone()),
                ..CheckRun::default()
            }
        }
    };
    if let Some(name) = request.text("name") {
        check.name = name;
    }
    if let Some(status) = request.text("status") {
        if !["queued", "in_progress", "completed"].contains(&status.as_str()) {
            return Err(Answer::invalid("CheckRun", "invalid", "status", None));
        }
        if status != "completed" {
            (check.conclusion, check.completed_at) = (None, None);
        }
        check.status = status;
    }
    if let Some(conclusion) = request.text("conclusion") {
        if !CONCLUSIONS.contains(&conclusion.as_str()) {
            return Err(Answer::invalid("CheckRun", "invalid", "conclusion", None));
        }
        (check.status, check.conclusion) = ("completed".to_owned(), Some(conclusion));
    }
    if check.status == "completed" {
        if check.conclusion.is_none() {
            return Err(Answer::invalid("CheckRun", "missing_field", "conclusion", None));
        }
        check.completed_at = request.text("completed_at").or(check.completed_at).or(Some(now));
    }
    let keep = |new: Option<String>, old: &mut Option<String>| *old = new.or_else(|| old.take());
    keep(request.text("details_url"), &mut check.details_url);
    keep(request.text("started_at"), &mut check.started_at);
    if let Some(external_id) = request.text("external_id") {
        check.external_id = external_id;
    }
    if let Some(output) = request.body.get("output").filter(|o| o.is_object()) {
        let text = |name: &str| output[name].as_str().map(str::to_owned);
        for field in ["title", "summary"] {
            if text(field).is_none() {
                return Err(Answer::invalid("CheckRun", "missing_field", field, None));
            }
        }
        for field in ["summary", "text"] {
            if text(field).is_some_and(|t| t.chars().count() > LONGEST_OUTPUT) {
                let message = format!("{field} exceeds a maximum of {LONGEST_OUTPUT} characters");
                return Err(Answer::invalid("CheckRun", "invalid", field, Some(&message)));
            }
        }
        (check.title, check.summary, check.text) = (text("title"), text("summary"), text("text"));
    }
    let id = check.id;
    let action = match (check.status.as_str(), is_new) {
        (_, true) => Some("created"),
        ("completed", false) => Some("completed"),
        _ => None,
    };
    match action {
        Some(action) => world.put_check(repo, check, action, &login),
        None => drop(world.repo_mut(repo).checks.insert(id, check)),
    }
    let check = world.repo(repo).checks.get(&id).ok_or_else(Answer::not_found)?;
    Ok(Answer::json(if is_new { 201 } else { 200 }, world.check_json(repo, check)))
}

fn put_status(world: &mut World, request: &Request, repo: u64, sha: &str) -> Reply {
    let creator = world.writer(request, repo, &STATUS)?;
    let sha = commits::find(world, repo, sha)?.sha.clone();
    let state = request.text("state").filter(|s| ["error", "failure", "pending", "success"].contains(&s.as_str()));
    let state =
        state.ok_or_else(|| Answer::invalid("Status", "custom", "state", Some("State is not included in the list")))?;
    let description = request.text("description");
    if description.as_ref().is_some_and(|d| d.chars().count() > LONGEST_DESCRIPTION) {
        let message = "description is too long (maximum is 140 characters)";
        return Err(Answer::invalid("Status", "custom", "description", Some(message)));
    }
    let context = request.text("context").unwrap_or_else(|| "default".to_owned());
    if world.repo(repo).statuses.iter().filter(|s| s.sha == sha && s.context == context).count() >= MOST_STATUSES {
        let message = "This SHA and context has reached the maximum number of statuses.";
        return Err(Answer::invalid("Status", "custom", "base", Some(message)));
    }
    let (id, created_at) = (world.next_id(), world.clock.now_s());
    let status =
        Status { id, sha, state, context, description, target_url: request.text("target_url"), creator, created_at };
    let json = world.status_json(repo, &status);
    world.repo_mut(repo).statuses.push(status);
    Ok(Answer::json(201, json))
}

/// The newest status of each context, and one state for all: failure before pending before success.
fn combined(world: &World, repo: u64, sha: &str) -> Answer {
    let mut newest: Vec<&Status> = Vec::new();
    for status in world.repo(repo).statuses.iter().rev().filter(|s| s.sha == sha) {
        if newest.iter().all(|s| s.context != status.context) {
            newest.push(status);
        }
    }
    let any = |state: &str| newest.iter().any(|s| s.state == state);
    let state = if any("failure") || any("error") {
        "failure"
    } else if newest.is_empty() || any("pending") {
        "pending"
    } else {
        "success"
    };
    let url = format!("{}/repos/{}/commits/{sha}", world.base, world.repo(repo).full_name());
    Answer::ok(json!({
        "state": state, "sha": sha, "total_count": newest.len(), "repository": world.repository_json(repo),
        "statuses": newest.iter().map(|s| world.status_json(repo, s)).collect::<Vec<_>>(),
        "commit_url": url, "url": format!("{url}/status"),
    }))
}
