//! Commits, branches, comparisons, refs and tags: all of it only read.

use http::Method;
use serde_json::{Value, json};

use super::{Answer, Reply, Request};
use crate::graph::{self, Comparison};
use crate::world::{Commit, PullState, World};

/// GitHub shows at most so many files of a comparison.
const MOST_FILES: usize = 300;

pub(super) fn route(world: &World, request: &Request, repo: u64, rest: &[&str]) -> Reply {
    if request.method != Method::GET {
        return Err(Answer::not_found());
    }
    if world.repo(repo).branches.is_empty() && rest.first() == Some(&"commits") {
        return Err(Answer::refusal(409, "Git Repository is empty."));
    }
    match rest {
        ["commits"] => list(world, request, repo),
        ["commits", reference @ .., "pulls"] if !reference.is_empty() => {
            let commit = find(world, repo, &reference.join("/"))?;
            Ok(pulls_of(world, request, repo, &commit.sha))
        }
        ["commits", reference @ ..] => {
            let commit = find(world, repo, &reference.join("/"))?;
            let mut json = world.commit_json(repo, commit);
            let lines = commit.files.len();
            json["stats"] = json!({ "additions": lines, "deletions": lines, "total": 2 * lines });
            json["files"] = commit.files.iter().map(|f| world.file_json(repo, &commit.sha, f)).collect();
            Ok(Answer::ok(json))
        }
        ["branches"] => {
            let branches: Vec<(&String, &String)> = world.repo(repo).branches.iter().collect();
            Ok(request.page(world, branches, |(name, sha)| branch_json(world, repo, name, sha, false)))
        }
        ["branches", name @ ..] => {
            let name = name.join("/");
            let sha = world.repo(repo).branches.get(&name).ok_or_else(|| Answer::refusal(404, "Branch not found"))?;
            Ok(Answer::ok(branch_json(world, repo, &name, sha, true)))
        }
        ["compare", basehead @ ..] => comparison(world, request, repo, &basehead.join("/")),
        ["git", "ref", name @ ..] => {
            let (name, target) = git_ref(world, repo, &name.join("/")).ok_or_else(Answer::not_found)?;
            Ok(Answer::ok(ref_json(world, repo, &name, target)))
        }
        ["git", "matching-refs", kind @ ("heads" | "tags"), prefix @ ..] => {
            let (kind, prefix) = (*kind, prefix.join("/"));
            let repository = world.repo(repo);
            let names: Vec<String> = match kind {
                "heads" => repository.branches.keys().cloned().collect(),
                _ => repository.tags.keys().cloned().collect(),
            };
            let names = names.into_iter().filter(|n| n.starts_with(&prefix)).map(|n| format!("{kind}/{n}"));
            let found: Vec<Value> = names
                .filter_map(|name| git_ref(world, repo, &name))
                .map(|(name, target)| ref_json(world, repo, &name, target))
                .collect();
            Ok(Answer::ok(Value::Array(found)))
        }
        ["git", "tags", object] => {
            let tag = world.repo(repo).tags.iter().find(|(_, t)| t.object.as_deref() == Some(object));
            let (name, target) = tag.ok_or_else(Answer::not_found)?;
            let url = format!("{}/repos/{}/git", world.base, world.repo(repo).full_name());
            Ok(Answer::ok(json!({
                "node_id": format!("TA_{object}"), "sha": object, "url": format!("{url}/tags/{object}"), "tag": name,
                "message": name,
                "object": {
                    "type": "commit", "sha": target.commit, "url": format!("{url}/commits/{}", target.commit),
                },
            })))
        }
        ["tags"] => {
            // The order is not documented; names fall, so that new versions come first.
            let tags: Vec<_> = world.repo(repo).tags.iter().rev().collect();
            let api = format!("{}/repos/{}", world.base, world.repo(repo).full_name());
            Ok(request.page(world, tags, |(name, target)| {
                json!({
                    "name": name, "node_id": format!("REF_{name}"),
                    "commit": { "sha": target.commit, "url": format!("{api}/commits/{}", target.commit) },
                    "zipball_url": format!("{api}/zipball/refs/tags/{name}"),
                    "tarball_url": format!("{api}/tarball/refs/tags/{name}"),
                })
            }))
        }
        _ => Err(Answer::not_found()),
    }
}

/// The commit that `reference` names, or the 422 that GitHub gives for one it does not know.
pub(super) fn find<'a>(world: &'a World, repo: u64, reference: &str) -> Result<&'a Commit, Answer> {
    world.resolve(repo, reference).ok_or_else(|| Answer::no_commit(reference))
}

fn list(world: &World, request: &Request, repo: u64) -> Reply {
    let tip = request.query("sha").unwrap_or(&world.repo(repo).default_branch);
    let tip = world.resolve(repo, tip).ok_or_else(Answer::not_found)?;
    let date = |name| {
        let text = request.query(name)?;
        chrono::DateTime::parse_from_rfc3339(text).ok()
    };
    let (since, until, path) = (date("since"), date("until"), request.query("path"));
    let mut commits = graph::history(&world.commits, &tip.sha);
    commits.retain(|c| since.is_none_or(|s| c.at >= s) && until.is_none_or(|u| c.at <= u));
    commits.retain(|c| path.is_none_or(|p| c.files.iter().any(|f| f.starts_with(p))));
    Ok(request.page(world, commits, |c| world.commit_json(repo, c)))
}

fn branch_json(world: &World, repo: u64, name: &str, sha: &str, whole: bool) -> Value {
    let api = format!("{}/repos/{}", world.base, world.repo(repo).full_name());
    let commit = match world.commits.get(sha).filter(|_| whole) {
        Some(commit) => world.commit_json(repo, commit),
        None => json!({ "sha": sha, "url": format!("{api}/commits/{sha}") }),
    };
    json!({ "name": name, "commit": commit, "protected": false })
}

/// `heads/NAME` or `tags/NAME`, and what it points at: a commit, or an annotated tag's object. Ids are not refs.
fn git_ref(world: &World, repo: u64, name: &str) -> Option<(String, (&'static str, String))> {
    let repo = world.repo(repo);
    let target = if let Some(branch) = name.strip_prefix("heads/") {
        ("commit", repo.branches.get(branch)?.clone())
    } else {
        let tag = repo.tags.get(name.strip_prefix("tags/")?)?;
        tag.object.clone().map_or_else(|| ("commit", tag.commit.clone()), |object| ("tag", object))
    };
    Some((name.to_owned(), target))
}

fn ref_json(world: &World, repo: u64, name: &str, (kind, sha): (&str, String)) -> Value {
    let git = format!("{}/repos/{}/git", world.base, world.repo(repo).full_name());
    json!({
        "ref": format!("refs/{name}"), "node_id": format!("REF_{name}"), "url": format!("{git}/refs/{name}"),
        "object": { "type": kind, "sha": sha, "url": format!("{git}/{kind}s/{sha}") },
    })
}

/// `BASE...HEAD`, each a ref of this repository or `OWNER:ref` of one in its fork network.
fn comparison(world: &World, request: &Request, repo: u64, basehead: &str) -> Reply {
    let (base, head) = basehead.split_once("...").ok_or_else(Answer::not_found)?;
    let side = |reference: &str| {
        let network = world.repo(repo).network;
        let (side, name) = match reference.split_once(':') {
            Some((owner, name)) => {
                let owned = |r: &&crate::world::Repo| r.network == network && r.owner.eq_ignore_ascii_case(owner);
                (world.repos.values().find(owned)?.id, name)
            }
            None => (repo, reference),
        };
        world.resolve(side, name)
    };
    let (base, head) = side(base).zip(side(head)).ok_or_else(Answer::not_found)?;
    let no_ancestor = || Answer::refusal(404, &format!("No common ancestor between {} and {}.", base.sha, head.sha));
    let compared = graph::compare(&world.commits, &base.sha, &head.sha).ok_or_else(no_ancestor)?;
    let (rows, link) = request.slice(world, &compared.ahead);
    // Without a page asked for, up to 250 commits come at once.
    let rows = if request.query.contains_key("per_page") || request.query.contains_key("page") {
        rows
    } else {
        &compared.ahead[..compared.ahead.len().min(250)]
    };
    let files: Vec<Value> = match request.query("page") {
        None | Some("1") => {
            compared.files().iter().take(MOST_FILES).map(|f| world.file_json(repo, &head.sha, f)).collect()
        }
        Some(_) => Vec::new(),
    };
    let url = format!("{}/repos/{}/compare/{basehead}", world.base, world.repo(repo).full_name());
    let mut answer = Answer::ok(json!({
        "url": url, "html_url": url, "permalink_url": url,
        "diff_url": format!("{url}.diff"), "patch_url": format!("{url}.patch"),
        "base_commit": world.commit_json(repo, base), "merge_base_commit": world.commit_json(repo, compared.merge_base),
        "status": compared.status(), "ahead_by": compared.ahead.len(), "behind_by": compared.behind,
        "total_commits": compared.ahead.len(),
        "commits": rows.iter().map(|c| world.commit_json(repo, c)).collect::<Vec<_>>(), "files": files,
    }));
    answer.headers.extend(link.map(|link| ("link", link)));
    Ok(answer)
}

/// What a pull request adds to its base.
pub(super) fn of_pull(world: &World, repo: u64, number: u64) -> Option<Comparison<'_>> {
    let pull = world.pull(repo, number);
    graph::compare(&world.commits, &pull.base_sha, &pull.head_sha)
}

/// The merged pull request that brought a commit into the default branch; else the open ones that contain it.
fn pulls_of(world: &World, request: &Request, repo: u64, sha: &str) -> Answer {
    let contains = |number| of_pull(world, repo, number).is_some_and(|c| c.ahead.iter().any(|c| c.sha == sha));
    let brought = world.repo(repo).pulls.values().filter(|p| {
        let merged = matches!(p.state, PullState::Merged { .. });
        (merged && p.merge_sha == sha) || contains(p.number)
    });
    let numbers: Vec<u64> = brought.map(|p| p.number).collect();
    request.page(world, numbers, |&number| world.pull_json(repo, number))
}
