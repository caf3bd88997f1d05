//! State as GitHub writes it: the JSON of answers and of webhook payloads, with the fields that clients and recorded
//! payloads have in common.

use serde_json::{Value, json};

use crate::clock::stamp;
use crate::graph;
use crate::world::{CheckRun, Comment, Commit, Pull, PullState, Reaction, Role, Status, World};

/// The part of the base URL that pages for people stand under.
fn site(base: &str) -> &str {
    base.strip_suffix("/api/v3").unwrap_or(base)
}

impl World {
    pub fn user_json(&self, login: &str) -> Value {
        let Some(user) = self.users.get(&login.to_lowercase()) else { return Value::Null };
        let (login, base) = (&user.login, &self.base);
        let api = format!("{base}/users/{}", login.replace('[', "%5B").replace(']', "%5D"));
        json!({
            "login": login, "id": user.id, "node_id": format!("U_{}", user.id),
            "avatar_url": format!("{base}/avatars/{}", user.id), "gravatar_id": "", "url": api,
            "html_url": format!("{}/{}", site(base), login.replace('[', "%5B").replace(']', "%5D")),
            "followers_url": format!("{api}/followers"), "following_url": format!("{api}/following{{/other_user}}"),
            "gists_url": format!("{api}/gists{{/gist_id}}"), "starred_url": format!("{api}/starred{{/owner}}{{/repo}}"),
            "subscriptions_url": format!("{api}/subscriptions"), "organizations_url": format!("{api}/orgs"),
            "repos_url": format!("{api}/repos"), "events_url": format!("{api}/events{{/privacy}}"),
            "received_events_url": format!("{api}/received_events"), "type": user.kind, "site_admin": false,
        })
    }

    pub fn repository_json(&self, id: u64) -> Value {
        let Some(repo) = self.repos.get(&id) else { return Value::Null };
        let (full, base) = (repo.full_name(), &self.base);
        let api = format!("{base}/repos/{full}");
        let html = format!("{}/{full}", site(base));
        let created = stamp(repo.created_at);
        json!({
            "id": id, "node_id": format!("R_{id}"), "name": repo.name, "full_name": full, "private": false,
            "owner": self.user_json(&repo.owner), "html_url": html, "description": null,
            "fork": repo.fork_of.is_some(), "url": api,
            "branches_url": format!("{api}/branches{{/branch}}"), "tags_url": format!("{api}/tags"),
            "commits_url": format!("{api}/commits{{/sha}}"),
            "compare_url": format!("{api}/compare/{{base}}...{{head}}"),
            "issues_url": format!("{api}/issues{{/number}}"), "pulls_url": format!("{api}/pulls{{/number}}"),
            "statuses_url": format!("{api}/statuses/{{sha}}"), "clone_url": format!("{html}.git"),
            "created_at": created, "updated_at": created, "pushed_at": created,
            "archived": false, "disabled": false, "visibility": "public", "default_branch": repo.default_branch,
        })
    }

    pub fn commit_json(&self, repo: u64, commit: &Commit) -> Value {
        let api = format!("{}/repos/{}", self.base, self.repo(repo).full_name());
        let html = format!("{}/{}/commit", site(&self.base), self.repo(repo).full_name());
        let url = format!("{api}/commits/{}", commit.sha);
        let email = format!("{}@example.org", commit.author);
        let person = json!({ "name": commit.author, "email": email, "date": stamp(commit.at) });
        let parent = |sha: &String| {
            let (url, html_url) = (format!("{api}/commits/{sha}"), format!("{html}/{sha}"));
            json!({ "sha": sha, "url": url, "html_url": html_url })
        };
        json!({
            "sha": commit.sha, "node_id": format!("C_{}", commit.sha),
            "commit": {
                "author": person, "committer": person, "message": commit.message,
                "tree": { "sha": commit.sha, "url": format!("{api}/git/trees/{}", commit.sha) },
                "url": format!("{api}/git/commits/{}", commit.sha), "comment_count": 0,
                "verification": { "verified": false, "reason": "unsigned", "signature": null, "payload": null },
            },
            "url": url, "html_url": format!("{html}/{}", commit.sha), "comments_url": format!("{url}/comments"),
            "author": self.user_json(&commit.author), "committer": self.user_json(&commit.author),
            "parents": commit.parents.iter().map(parent).collect::<Vec<_>>(),
        })
    }

    pub fn file_json(&self, repo: u64, sha: &str, file: &str) -> Value {
        let full = self.repo(repo).full_name();
        let blob: String = sha.chars().rev().collect();
        json!({
            "sha": blob, "filename": file, "status": "modified", "additions": 1, "deletions": 1, "changes": 2,
            "blob_url": format!("{}/{full}/blob/{sha}/{file}", site(&self.base)),
            "raw_url": format!("{}/{full}/raw/{sha}/{file}", site(&self.base)),
            "contents_url": format!("{}/repos/{full}/contents/{file}?ref={sha}", self.base),
            "patch": "@@ -1 +1 @@\n-before\n+after",
        })
    }

    pub fn label_json(&self, repo: u64, name: &str) -> Value {
        let id = name.bytes().fold(7_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into())) >> 20;
        let mut url = url::Url::parse(&self.base).expect("the base is a URL");
        url.path_segments_mut().expect("the base has a path").pop_if_empty().extend([
            "repos",
            &self.repo(repo).owner,
            &self.repo(repo).name,
            "labels",
            name,
        ]);
        json!({
            "id": id, "node_id": format!("LA_{id}"), "url": url, "name": name, "color": "ededed", "default": false,
            "description": null,
        })
    }

    fn labels_json(&self, repo: u64, number: u64) -> Vec<Value> {
        self.pull(repo, number).labels.iter().map(|name| self.label_json(repo, name)).collect()
    }

    fn association(&self, repo: u64, login: &str) -> &'static str {
        if self.role(repo, login) > Role::Read { "MEMBER" } else { "CONTRIBUTOR" }
    }

    /// A pull request as in lists; the whole one has `whole_pull_json`'s fields too.
    pub fn pull_json(&self, repo: u64, number: u64) -> Value {
        let pull = self.pull(repo, number);
        let full = self.repo(repo).full_name();
        let (api, html) = (format!("{}/repos/{full}", self.base), format!("{}/{full}/pull/{number}", site(&self.base)));
        let url = format!("{api}/pulls/{number}");
        let (closed_at, merged_at) = match &pull.state {
            PullState::Open => (None, None),
            PullState::Closed { at } => (Some(stamp(*at)), None),
            PullState::Merged { at, .. } => (Some(stamp(*at)), Some(stamp(*at))),
        };
        let side = |owner: &str, branch: &str, sha: &str, side: u64| {
            json!({
                "label": format!("{owner}:{branch}"), "ref": branch, "sha": sha,
                "user": self.user_json(owner), "repo": self.repository_json(side),
            })
        };
        json!({
            "url": url, "id": pull.id, "node_id": format!("PR_{}", pull.id), "html_url": html,
            "diff_url": format!("{html}.diff"), "patch_url": format!("{html}.patch"),
            "issue_url": format!("{api}/issues/{number}"), "number": number,
            "state": if pull.state == PullState::Open { "open" } else { "closed" }, "locked": false,
            "title": pull.title, "user": self.user_json(&pull.author), "body": pull.body,
            "created_at": stamp(pull.created_at), "updated_at": stamp(pull.updated_at),
            "closed_at": closed_at, "merged_at": merged_at, "merge_commit_sha": pull.merge_sha,
            "assignee": null, "assignees": [], "requested_reviewers": [], "requested_teams": [],
            "labels": self.labels_json(repo, number), "milestone": null, "draft": pull.draft,
            "commits_url": format!("{url}/commits"), "review_comments_url": format!("{url}/comments"),
            "review_comment_url": format!("{api}/pulls/comments{{/number}}"),
            "comments_url": format!("{api}/issues/{number}/comments"),
            "statuses_url": format!("{api}/statuses/{}", pull.head_sha),
            "head": side(&pull.head_owner, &pull.head_ref, &pull.head_sha, pull.head_repo),
            "base": side(&self.repo(repo).owner, &pull.base_ref, &pull.base_sha, repo),
            "author_association": self.association(repo, &pull.author),
            "auto_merge": null, "active_lock_reason": null,
        })
    }

    /// A pull request as it is got alone or sent in a payload.
    pub fn whole_pull_json(&self, repo: u64, number: u64) -> Value {
        let pull = self.pull(repo, number);
        let comparison = graph::compare(&self.commits, &pull.base_sha, &pull.head_sha);
        let (commits, files) = comparison.map_or((0, 0), |c| (c.ahead.len(), c.files().len()));
        let (merged, by, open) = match &pull.state {
            PullState::Open => (false, None, true),
            PullState::Closed { .. } => (false, None, false),
            PullState::Merged { by, .. } => (true, Some(by), false),
        };
        let comments = self.repo(repo).comments.values().filter(|c| c.number == number).count();
        let mut whole = self.pull_json(repo, number);
        let more = json!({
            "merged": merged, "mergeable": open.then_some(true), "rebaseable": open.then_some(true),
            "mergeable_state": if open { "clean" } else { "unknown" },
            "merged_by": by.map(|login| self.user_json(login)), "comments": comments, "review_comments": 0,
            "maintainer_can_modify": false, "commits": commits, "additions": files, "deletions": files,
            "changed_files": files,
        });
        if let (Some(whole), Value::Object(more)) = (whole.as_object_mut(), more) {
            whole.extend(more);
        }
        whole
    }

    /// The pull request as the issue that it also is.
    pub fn issue_json(&self, repo: u64, number: u64) -> Value {
        let pull = self.pull_json(repo, number);
        let mut issue = serde_json::Map::new();
        for key in [
            "id",
            "node_id",
            "html_url",
            "number",
            "state",
            "locked",
            "title",
            "user",
            "body",
            "labels",
            "created_at",
            "updated_at",
            "closed_at",
            "comments_url",
            "assignee",
            "assignees",
            "milestone",
            "author_association",
            "draft",
            "active_lock_reason",
        ] {
            issue.insert(key.to_owned(), pull[key].clone());
        }
        let api = format!("{}/repos/{}", self.base, self.repo(repo).full_name());
        let links: serde_json::Map<String, Value> = ["url", "html_url", "diff_url", "patch_url", "merged_at"]
            .map(|key| (key.to_owned(), pull[key].clone()))
            .into_iter()
            .collect();
        issue.insert("url".to_owned(), pull["issue_url"].clone());
        issue.insert("repository_url".to_owned(), json!(api));
        issue.insert("labels_url".to_owned(), json!(format!("{api}/issues/{number}/labels{{/name}}")));
        issue.insert("events_url".to_owned(), json!(format!("{api}/issues/{number}/events")));
        issue.insert(
            "comments".to_owned(),
            json!(self.repo(repo).comments.values().filter(|c| c.number == number).count()),
        );
        issue.insert("pull_request".to_owned(), Value::Object(links));
        Value::Object(issue)
    }

    pub fn comment_json(&self, repo: u64, comment: &Comment) -> Value {
        let full = self.repo(repo).full_name();
        let url = format!("{}/repos/{full}/issues/comments/{}", self.base, comment.id);
        let mut reactions = json!({ "url": format!("{url}/reactions"), "total_count": comment.reactions.len() });
        for content in crate::api::REACTIONS {
            reactions[content] = json!(comment.reactions.iter().filter(|r| r.content == content).count());
        }
        json!({
            "url": url, "id": comment.id, "node_id": format!("IC_{}", comment.id),
            "html_url": format!("{}/{full}/pull/{}#issuecomment-{}", site(&self.base), comment.number, comment.id),
            "issue_url": format!("{}/repos/{full}/issues/{}", self.base, comment.number),
            "user": self.user_json(&comment.author), "created_at": stamp(comment.created_at),
            "updated_at": stamp(comment.updated_at), "body": comment.body, "reactions": reactions,
            "author_association": self.association(repo, &comment.author),
            "performed_via_github_app": if comment.by_app { self.app_json() } else { Value::Null },
        })
    }

    pub fn reaction_json(&self, reaction: &Reaction) -> Value {
        json!({
            "id": reaction.id, "node_id": format!("REA_{}", reaction.id), "user": self.user_json(&reaction.user),
            "content": reaction.content, "created_at": stamp(reaction.created_at),
        })
    }

    pub fn app_json(&self) -> Value {
        let Some(app) = &self.app else { return Value::Null };
        json!({
            "id": app.id, "slug": app.slug, "node_id": format!("A_{}", app.id),
            "client_id": format!("Iv23li{}", app.id),
            "owner": self.user_json(&app.slug), "name": app.slug, "description": null,
            "external_url": format!("{}/apps/{}", site(&self.base), app.slug),
            "html_url": format!("{}/apps/{}", site(&self.base), app.slug),
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "permissions": app.permissions,
            "events": ["check_run", "create", "issue_comment", "pull_request", "push"], "installations_count": 1,
        })
    }

    pub fn installation_json(&self) -> Value {
        let Some(app) = &self.app else { return Value::Null };
        let owner = self.repos.values().next().map_or(&app.slug, |r| &r.owner);
        let id = app.installation;
        json!({
            "id": id, "account": self.user_json(owner), "repository_selection": "selected",
            "access_tokens_url": format!("{}/app/installations/{id}/access_tokens", self.base),
            "repositories_url": format!("{}/installation/repositories", self.base),
            "html_url": format!("{}/settings/installations/{id}", site(&self.base)),
            "app_id": app.id, "app_slug": app.slug,
            "target_id": self.users.get(&owner.to_lowercase()).map(|u| u.id), "target_type": "Organization",
            "permissions": app.permissions, "events": self.app_json()["events"], "single_file_name": null,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "suspended_at": app.suspended.then(|| stamp(self.clock.now())), "suspended_by": null,
        })
    }

    pub fn check_json(&self, repo: u64, check: &CheckRun) -> Value {
        let full = self.repo(repo).full_name();
        let url = format!("{}/repos/{full}/check-runs/{}", self.base, check.id);
        let html = format!("{}/{full}/runs/{}", site(&self.base), check.id);
        let api = format!("{}/repos/{full}", self.base);
        let here = json!({ "id": repo, "name": self.repo(repo).name, "url": api });
        let side = |branch: &str, sha: &str| json!({ "ref": branch, "sha": sha, "repo": here });
        let pull = |p: &Pull| {
            json!({
                "id": p.id, "number": p.number, "url": format!("{api}/pulls/{}", p.number),
                "head": side(&p.head_ref, &p.head_sha), "base": side(&p.base_ref, &p.base_sha),
            })
        };
        // Pull requests from forks are not listed.
        let listed = |p: &&Pull| p.head_sha == check.head_sha && p.head_repo == repo && p.state == PullState::Open;
        let pulls: Vec<Value> = self.repo(repo).pulls.values().filter(listed).map(pull).collect();
        json!({
            "id": check.id, "name": check.name, "node_id": format!("CR_{}", check.id), "head_sha": check.head_sha,
            "external_id": check.external_id, "url": url, "html_url": html,
            "details_url": check.details_url.clone().unwrap_or(html), "status": check.status,
            "conclusion": check.conclusion, "started_at": check.started_at, "completed_at": check.completed_at,
            "output": {
                "title": check.title, "summary": check.summary, "text": check.text,
                "annotations_count": 0, "annotations_url": format!("{url}/annotations"),
            },
            "check_suite": { "id": check.id / 2, "head_sha": check.head_sha }, "app": self.app_json(),
            "pull_requests": pulls,
        })
    }

    pub fn status_json(&self, repo: u64, status: &Status) -> Value {
        json!({
            "url": format!("{}/repos/{}/statuses/{}", self.base, self.repo(repo).full_name(), status.sha),
            "avatar_url": null, "id": status.id, "node_id": format!("SC_{}", status.id), "state": status.state,
            "description": status.description, "target_url": status.target_url, "context": status.context,
            "created_at": stamp(status.created_at), "updated_at": stamp(status.created_at),
            "creator": self.user_json(&status.creator),
        })
    }
}
