//! Pull requests: list, one, its files and its commits.

use http::Method;

use super::{Answer, Reply, Request, commits};
use crate::world::{Pull, PullState, World};

pub(super) fn route(world: &World, request: &Request, repo: u64, rest: &[&str]) -> Reply {
    if request.method != Method::GET {
        return Err(Answer::not_found());
    }
    let numbered = |text: &str| {
        let number = text.parse().ok().filter(|n| world.repo(repo).pulls.contains_key(n));
        number.ok_or_else(Answer::not_found)
    };
    match rest {
        ["pulls"] => Ok(list(world, request, repo)),
        ["pulls", number] => Ok(Answer::ok(world.whole_pull_json(repo, numbered(number)?))),
        ["pulls", number, "files"] => {
            let number = numbered(number)?;
            let head = &world.pull(repo, number).head_sha;
            let files = commits::of_pull(world, repo, number).map(|c| c.files()).unwrap_or_default();
            // At most 3000 files are listed.
            Ok(request.page(world, files.into_iter().take(3000).collect(), |f| world.file_json(repo, head, f)))
        }
        ["pulls", number, "commits"] => {
            let compared = commits::of_pull(world, repo, numbered(number)?);
            // At most 250 commits are listed.
            let ahead = compared.map(|c| c.ahead).unwrap_or_default().into_iter().take(250).collect();
            Ok(request.page(world, ahead, |c| world.commit_json(repo, c)))
        }
        _ => Err(Answer::not_found()),
    }
}

fn list(world: &World, request: &Request, repo: u64) -> Answer {
    let state = request.query("state").unwrap_or("open");
    let (base, head) = (request.query("base"), request.query("head"));
    let wanted = |p: &&Pull| {
        (state == "all" || (state == "open") == (p.state == PullState::Open))
            && base.is_none_or(|base| p.base_ref == base)
            && head.is_none_or(|head| format!("{}:{}", p.head_owner, p.head_ref) == head)
    };
    let mut pulls: Vec<&Pull> = world.repo(repo).pulls.values().filter(wanted).collect();
    let sort = request.query("sort").unwrap_or("created");
    pulls.sort_by_key(|p| (if sort == "updated" { p.updated_at } else { p.created_at }, p.number));
    if request.query("direction").unwrap_or(if sort == "created" { "desc" } else { "asc" }) == "desc" {
        pulls.reverse();
    }
    request.page(world, pulls, |p| world.pull_json(repo, p.number))
}
