//! The state changed over HTTP, for a demonstration whose hands are a shell: `POST /_control/ACTION` with a JSON body,
//! `repository/ACTION` and `pull/ACTION` for what is done to one. Each action is named like its method in `hands`.

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::Answer;
use crate::faults::{Fault, Rule};
use crate::log::Calls;
use crate::outbox::{DeliveryFault, FaultRule, Order};
use crate::spec::{CommitSpec, MergeMethod, PullSpec};
use crate::world::{Role, World};

/// What the actions are about; each takes what it needs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    #[serde(default)]
    repository: Option<String>,
    #[serde(default = "someone")]
    by: String,
    #[serde(default)]
    number: u64,
    #[serde(default)]
    id: u64,
    #[serde(default)]
    branch: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    sha: Option<String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    seconds: i64,
}

impl Command {
    fn commit(&self) -> CommitSpec {
        let message = if self.text.is_empty() { "A change" } else { &self.text };
        CommitSpec { sha: self.sha.clone(), files: self.files.clone(), ..CommitSpec::new(message).author(&self.by) }
    }
}

fn someone() -> String {
    "octo-maintainer".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultCommand {
    #[serde(default = "any")]
    method: String,
    route: String,
    fault: String,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    seconds: Option<u32>,
    #[serde(default = "once")]
    times: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveryFaultCommand {
    event: String,
    #[serde(default)]
    action: Option<String>,
    fault: String,
    #[serde(default)]
    seconds: u64,
    #[serde(default = "once")]
    times: u32,
}

fn any() -> String {
    "*".to_owned()
}

fn once() -> u32 {
    1
}

/// The answer to one control request.
pub(crate) fn answer(world: &mut World, method: &Method, action: &str, body: &[u8]) -> Answer {
    let done = match (method.as_str(), action) {
        ("GET", "calls") => Ok(json!(Calls(world.calls.clone()).0)),
        ("GET", "deliveries") => Ok(json!(world.outbox.history)),
        ("POST", "fault") => parse(body).and_then(|command| fault(world, command)),
        ("POST", "delivery_fault") => parse(body).and_then(|command| delivery_fault(world, command)),
        ("POST", action) => parse(body).and_then(|command| match action.split_once('/') {
            Some(("repository", action)) => act_on_repository(world, action, &command),
            Some(("pull", action)) => act_on_pull(world, action, &command),
            Some(_) | None => act(world, action, &command),
        }),
        _ => Err("POST an action, or GET calls or deliveries".to_owned()),
    };
    match done {
        Ok(value) => Answer::ok(value),
        Err(why) => Answer::json(400, json!({ "error": why })),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

fn act(world: &mut World, action: &str, command: &Command) -> Result<Value, String> {
    let by = command.by.as_str();
    match action {
        "webhook" => world.outbox.target = Some((command.name.clone(), command.text.clone())),
        "suspend" => world.suspend(true, by),
        "unsuspend" => world.suspend(false, by),
        "advance" => world.clock.advance(chrono::TimeDelta::seconds(command.seconds)),
        "clear_faults" => world.faults.clear(),
        "hold" => world.outbox.held = true,
        "release" => world.outbox.release(match command.name.as_str() {
            "" | "kept" => Order::Kept,
            "reversed" => Order::Reversed,
            "shuffled" => Order::Shuffled(command.number),
            other => return Err(format!("no order `{other}`")),
        }),
        "redeliver" => {
            let new_id = world.next_id();
            world.outbox.redeliver(command.id, new_id).ok_or("no such delivery")?;
            return Ok(json!({ "id": new_id }));
        }
        "repository" => {
            let full = command.repository.as_deref().filter(|full| full.contains('/')).ok_or("OWNER/NAME, please")?;
            let there = repository(world, Some(full)).ok();
            let id = there.unwrap_or_else(|| world.create_repo(full, None));
            return Ok(world.repository_json(id));
        }
        other => return Err(format!("no action `{other}`")),
    }
    Ok(Value::Null)
}

fn act_on_repository(world: &mut World, action: &str, command: &Command) -> Result<Value, String> {
    let (by, name) = (command.by.as_str(), command.name.as_str());
    let repo = repository(world, command.repository.as_deref())?;
    let branch = command.branch.clone().unwrap_or_else(|| world.repo(repo).default_branch.clone());
    let target = |world: &World| {
        let name = command.sha.as_deref().unwrap_or(&branch);
        world.resolve(repo, name).map(|c| c.sha.clone()).ok_or_else(|| format!("no commit `{name}`"))
    };
    match action {
        "commit" => return Ok(json!({ "sha": world.push(repo, &branch, vec![command.commit()], by) })),
        "set_branch" => {
            let sha = target(world)?;
            world.set_branch(repo, &branch, &sha, by);
        }
        "tag" => {
            let sha = target(world)?;
            world.set_tag(repo, name, &sha, false, by);
        }
        "permit" => {
            let role: Role = serde_json::from_value(json!(command.text)).map_err(|e| e.to_string())?;
            world.user(name);
            world.repo_mut(repo).roles.insert(name.to_lowercase(), role);
        }
        "rename" if name.contains('/') => world.rename(repo, name, by),
        "fork" => {
            let full = format!("{name}/{}", world.repo(repo).name);
            let fork = world.create_repo(&full, Some(repo));
            return Ok(world.repository_json(fork));
        }
        "delete" => drop(world.repos.remove(&repo)),
        "rerequest" => {
            let check = world.repo(repo).checks.get(&command.id).cloned().ok_or("no such check run")?;
            world.put_check(repo, check, "rerequested", by);
        }
        "open" => {
            let head_repo = command.from.as_deref().map(|from| repository(world, Some(from))).transpose()?;
            let (base, head) = (world.repo(repo), world.repo(head_repo.unwrap_or(repo)));
            if !base.branches.contains_key(&base.default_branch) || !head.branches.contains_key(&branch) {
                return Err(format!("no branch `{branch}`, or nothing to merge it into"));
            }
            let title = if command.text.is_empty() { "A change" } else { &command.text };
            let pull = PullSpec { head_repo, draft: command.draft, ..PullSpec::new(&branch).title(title).author(by) };
            let number = world.open_pull(repo, pull);
            return Ok(world.whole_pull_json(repo, number));
        }
        other => return Err(format!("no action `repository/{other}`")),
    }
    Ok(Value::Null)
}

fn act_on_pull(world: &mut World, action: &str, command: &Command) -> Result<Value, String> {
    let Command { by, number, id, name, text, .. } = command;
    let (number, id) = (*number, *id);
    let repo = repository(world, command.repository.as_deref())?;
    let pull = world.repo(repo).pulls.get(&number).ok_or_else(|| format!("no pull request {number}"))?.clone();
    match action {
        "label" => world.label(repo, number, name, by),
        "unlabel" => drop(world.unlabel(repo, number, name, by)),
        "push" if world.repos.contains_key(&pull.head_repo) => {
            return Ok(json!({ "sha": world.push(pull.head_repo, &pull.head_ref, vec![command.commit()], by) }));
        }
        "close" => world.close(repo, number, by),
        "reopen" => world.reopen(repo, number, by),
        "convert_to_draft" => world.set_draft(repo, number, true, by),
        "ready_for_review" => world.set_draft(repo, number, false, by),
        "merge" => {
            return Ok(json!({ "sha": world.merge(repo, number, MergeMethod::Squash, command.sha.clone(), by) }));
        }
        "comment" => return Ok(json!({ "id": world.comment(repo, number, text, by) })),
        "edit_comment" => drop(world.edit_comment(repo, id, text, by)),
        "delete_comment" => drop(world.delete_comment(repo, id, by)),
        other => return Err(format!("no action `pull/{other}`")),
    }
    Ok(Value::Null)
}

/// The repository of that name; the one made first when none is named.
fn repository(world: &World, full_name: Option<&str>) -> Result<u64, String> {
    match full_name {
        None => world.repos.keys().next().copied().ok_or_else(|| "no repository was made".to_owned()),
        Some(full) => {
            let found = full.split_once('/').and_then(|(owner, name)| world.repo_named(owner, name));
            found.map(|r| r.id).ok_or_else(|| format!("no repository `{full}`"))
        }
    }
}

fn fault(world: &mut World, command: FaultCommand) -> Result<Value, String> {
    let status = command.status;
    let seconds = command.seconds.unwrap_or(60);
    let fault = match command.fault.as_str() {
        "status" => Fault::Status(status.unwrap_or(502)),
        "status_after" => Fault::StatusAfter(status.unwrap_or(502)),
        "lost_answer" => Fault::LostAnswer,
        "reset" => Fault::Reset,
        "slow" => Fault::Slow(std::time::Duration::from_secs(seconds.into())),
        "primary_limit" => Fault::PrimaryLimit { status: status.unwrap_or(403), reset_in_s: seconds.into() },
        "secondary_limit" => Fault::SecondaryLimit { status: status.unwrap_or(403), retry_after_s: command.seconds },
        "unauthorised" => Fault::Unauthorised,
        "truncated" => Fault::Truncated,
        other => return Err(format!("no fault `{other}`")),
    };
    let id = world.next_id();
    let mut rule = Rule::once(id, &command.method, &command.route, fault);
    rule.set_left(command.times);
    world.faults.push(rule);
    Ok(json!({ "id": id }))
}

fn delivery_fault(world: &mut World, command: DeliveryFaultCommand) -> Result<Value, String> {
    let fault = match command.fault.as_str() {
        "lost" => DeliveryFault::Lost,
        "doubled" => DeliveryFault::Doubled,
        "late" => DeliveryFault::Late(std::time::Duration::from_secs(command.seconds)),
        "behind" => DeliveryFault::Behind(1),
        "wrong_secret" => DeliveryFault::WrongSecret,
        other => return Err(format!("no fault `{other}`")),
    };
    world.outbox.rules.push(FaultRule { event: command.event, action: command.action, fault, left: command.times });
    Ok(Value::Null)
}
