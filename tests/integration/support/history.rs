//! A repository's history as GitHub's API tells it: lists reach every parent, newest first, a page at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use serde_json::json;

use super::stand_in::{Asked, StandIn, answer};

/// One commit.
#[derive(Clone, Debug)]
pub struct StandInCommit {
    pub sha: String,
    pub parents: Vec<String>,
}

/// A repository: commits newest first, and where branches, tags and pull requests point.
#[derive(Clone, Debug, Default)]
pub struct StandInHistory {
    pub commits: Vec<StandInCommit>,
    pub refs: BTreeMap<String, String>,
    /// Pull requests: number, head commit, head repository, head branch.
    pub pulls: BTreeMap<u64, (String, String, String)>,
}

/// A commit id out of a number.
pub fn sha(number: usize) -> String {
    format!("{:040x}", number + 1)
}

impl StandInHistory {
    /// `shas`, newest first, each the only parent of the one before, on `branch`.
    pub fn linear(shas: &[String], branch: &str) -> Self {
        let parents = |at: usize| shas.get(at + 1).cloned().into_iter().collect();
        let commits = shas.iter().enumerate();
        let commits = commits.map(|(at, sha)| StandInCommit { sha: sha.clone(), parents: parents(at) }).collect();
        Self { commits, refs: BTreeMap::from([(branch.to_owned(), shas[0].clone())]), pulls: BTreeMap::new() }
    }

    /// Answers for the repository `repo`.
    pub async fn serve(self, repo: &str) -> StandIn {
        let (history, base) = (Arc::new(self), format!("/repos/{repo}"));
        StandIn::start(move |asked| {
            let (history, base) = (Arc::clone(&history), base.clone());
            async move { history.answer(&asked, &base) }
        })
        .await
    }

    fn resolve(&self, name: &str) -> Option<String> {
        let known = self.commits.iter().any(|commit| commit.sha == name);
        if known { Some(name.to_owned()) } else { self.refs.get(name).cloned() }
    }

    /// Everything that `tip` reaches, in the order of the list.
    fn reached(&self, tip: &str) -> Vec<&StandInCommit> {
        let mut wanted = BTreeSet::from([tip.to_owned()]);
        let mut found = Vec::new();
        for commit in &self.commits {
            if wanted.contains(&commit.sha) {
                wanted.extend(commit.parents.iter().cloned());
                found.push(commit);
            }
        }
        found
    }

    fn commit(&self, commit: &StandInCommit) -> serde_json::Value {
        let parents: Vec<_> = commit.parents.iter().map(|sha| json!({"sha": sha})).collect();
        let date = json!({"date": "2026-11-24T01:00:00Z"});
        json!({"sha": commit.sha, "commit": {"committer": date}, "parents": parents})
    }

    fn answer(&self, asked: &Asked, base: &str) -> Response<Body> {
        let json = [("content-type", "application/json")];
        let not_found = || answer(404, &json, r#"{"message":"Not Found"}"#);
        let Some(path) = asked.path.strip_prefix(base) else { return not_found() };
        let query: BTreeMap<_, _> = url::form_urlencoded::parse(asked.query.as_bytes()).into_owned().collect();
        if path == "/commits" {
            let Some(tip) = self.resolve(&query["sha"]) else { return not_found() };
            let per_page: usize = query["per_page"].parse().unwrap();
            let page: Vec<_> = self.reached(&tip).into_iter().take(per_page).map(|c| self.commit(c)).collect();
            return answer(200, &json, json!(page).to_string());
        }
        let decoded = path.replace("%2F", "/");
        if let Some(name) = decoded.strip_prefix("/commits/") {
            let found = self.resolve(name).and_then(|sha| self.commits.iter().find(|commit| commit.sha == sha));
            return found.map_or_else(
                || answer(422, &json, r#"{"message":"No commit found for SHA"}"#),
                |commit| answer(200, &json, self.commit(commit).to_string()),
            );
        }
        if let Some((base, head)) = decoded.strip_prefix("/compare/").and_then(|both| both.split_once("...")) {
            let (Some(base), Some(head)) = (self.resolve(base), self.resolve(head)) else { return not_found() };
            let reaches = |tip: &str, sha: &str| self.reached(tip).iter().any(|commit| commit.sha == sha);
            let status = match (reaches(&base, &head), reaches(&head, &base)) {
                (true, true) => "identical",
                (true, false) => "behind",
                (false, true) => "ahead",
                (false, false) => "diverged",
            };
            return answer(200, &json, json!({"status": status}).to_string());
        }
        let pull = decoded.strip_prefix("/pulls/").and_then(|number| self.pulls.get(&number.parse().ok()?));
        if let Some((head, repo, branch)) = pull {
            let own = base.trim_start_matches("/repos/");
            let id = if repo == own { 1 } else { 2 };
            let head = json!({"sha": head, "ref": branch, "repo": {"id": id, "full_name": repo}});
            let base = json!({"sha": self.commits[0].sha, "ref": "main", "repo": {"id": 1, "full_name": own}});
            let pull = json!({
                "number": 7, "state": "open", "updated_at": "2026-01-01T00:00:00Z", "head": head, "base": base,
            });
            return answer(200, &json, pull.to_string());
        }
        not_found()
    }
}
