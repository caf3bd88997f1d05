//! Every change of state, each with the events that GitHub sends for it. The API and the test's own hands call the same
//! ones, so that both look alike from outside.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::clock::stamp;
use crate::graph;
use crate::spec::{CommitSpec, MergeMethod, PullSpec};
use crate::world::{CheckRun, Comment, Commit, Labelled, Pull, PullState, Reaction, Repo, TagTarget, World};

/// What stands for "no commit" in push events.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl World {
    pub fn create_repo(&mut self, full_name: &str, fork_of: Option<u64>) -> u64 {
        let (owner, name) = full_name.split_once('/').unwrap_or_else(|| panic!("`{full_name}` is not OWNER/NAME"));
        let id = self.next_id();
        self.user(owner);
        let origin = fork_of.map(|id| self.repo(id));
        let repo = Repo {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            former: Vec::new(),
            fork_of,
            network: origin.map_or(id, |o| o.network),
            default_branch: origin.map_or_else(|| "main".to_owned(), |o| o.default_branch.clone()),
            branches: origin.map(|o| o.branches.clone()).unwrap_or_default(),
            tags: origin.map(|o| o.tags.clone()).unwrap_or_default(),
            pulls: Default::default(),
            comments: Default::default(),
            checks: Default::default(),
            statuses: Vec::new(),
            roles: Default::default(),
            created_at: self.clock.now_s(),
        };
        self.repos.insert(id, repo);
        id
    }

    pub fn rename(&mut self, repo: u64, full_name: &str, actor: &str) {
        let (owner, name) = full_name.split_once('/').unwrap_or_else(|| panic!("`{full_name}` is not OWNER/NAME"));
        self.user(owner);
        let old_name = self.repo(repo).name.clone();
        let renamed = self.repo_mut(repo);
        renamed.former.push(renamed.full_name().to_lowercase());
        (renamed.owner, renamed.name) = (owner.to_owned(), name.to_owned());
        let changes = json!({ "repository": { "name": { "from": old_name } } });
        self.emit("repository", Some(repo), actor, json!({ "action": "renamed", "changes": changes }));
    }

    /// Writes a commit into the network without any branch pointing at it.
    pub fn write_commit(&mut self, repo: u64, parents: Vec<String>, spec: CommitSpec) -> String {
        let sha = spec.sha.unwrap_or_else(|| self.next_sha(&spec.message));
        self.user(&spec.author);
        let commit = Commit {
            sha: sha.clone(),
            network: self.repo(repo).network,
            parents: spec.parents.unwrap_or(parents),
            author: spec.author,
            message: spec.message,
            at: spec.at.unwrap_or_else(|| self.clock.now_s()),
            files: spec.files,
        };
        self.commits.insert(sha.clone(), commit);
        sha
    }

    /// Commits on top of a branch, pushed together; a branch that is not there yet begins at the default branch.
    pub fn push(&mut self, repo: u64, branch: &str, specs: Vec<CommitSpec>, actor: &str) -> String {
        let branches = &self.repo(repo).branches;
        let mut tip = branches.get(branch).or_else(|| branches.get(&self.repo(repo).default_branch)).cloned();
        for spec in specs {
            tip = Some(self.write_commit(repo, tip.into_iter().collect(), spec));
        }
        let tip = tip.unwrap_or_else(|| panic!("nothing to push to `{branch}`"));
        self.set_branch(repo, branch, &tip, actor);
        tip
    }

    /// Points a branch at a commit (also back: a forced push) and tells the open pull requests that have it as head.
    pub fn set_branch(&mut self, repo: u64, branch: &str, sha: &str, actor: &str) {
        let before = self.repo_mut(repo).branches.insert(branch.to_owned(), sha.to_owned());
        self.emit_push(repo, &format!("refs/heads/{branch}"), before.as_deref(), Some(sha), actor);
        for (base, number) in self.open_pulls_from(repo, branch) {
            let before = self.pull(base, number).head_sha.clone();
            if before != sha {
                self.pull_mut(base, number).head_sha = sha.to_owned();
                self.test_merge(base, number);
                self.emit_pull("synchronize", base, number, actor, json!({ "before": before, "after": sha }));
            }
        }
    }

    /// `(repository, number)` of the open pull requests whose head is this branch.
    fn open_pulls_from(&self, repo: u64, branch: &str) -> Vec<(u64, u64)> {
        let pulls = self.repos.values().flat_map(|base| base.pulls.values().map(|p| (base.id, p)));
        let from_here = |p: &Pull| p.head_repo == repo && p.head_ref == branch && p.state == PullState::Open;
        pulls.filter(|(_, p)| from_here(p)).map(|(base, p)| (base, p.number)).collect()
    }

    /// Deletes a branch, which closes the pull requests from it.
    pub fn delete_branch(&mut self, repo: u64, branch: &str, actor: &str) {
        for (base, number) in self.open_pulls_from(repo, branch) {
            self.close(base, number, actor);
        }
        let before = self.repo_mut(repo).branches.remove(branch);
        self.emit_push(repo, &format!("refs/heads/{branch}"), before.as_deref(), None, actor);
    }

    pub fn set_tag(&mut self, repo: u64, tag: &str, sha: &str, annotated: bool, actor: &str) {
        let object = annotated.then(|| self.next_sha(tag));
        let after = object.clone().unwrap_or_else(|| sha.to_owned());
        self.repo_mut(repo).tags.insert(tag.to_owned(), TagTarget { commit: sha.to_owned(), object });
        let payload = json!({ "ref": tag, "ref_type": "tag", "master_branch": self.repo(repo).default_branch,
            "description": null, "pusher_type": "user" });
        self.emit("create", Some(repo), actor, payload);
        self.emit_push(repo, &format!("refs/tags/{tag}"), None, Some(&after), actor);
    }

    pub fn delete_tag(&mut self, repo: u64, tag: &str, actor: &str) {
        let before = self.repo_mut(repo).tags.remove(tag).map(|t| t.object.unwrap_or(t.commit));
        self.emit("delete", Some(repo), actor, json!({ "ref": tag, "ref_type": "tag", "pusher_type": "user" }));
        self.emit_push(repo, &format!("refs/tags/{tag}"), before.as_deref(), None, actor);
    }

    fn emit_push(&mut self, repo: u64, name: &str, before: Option<&str>, after: Option<&str>, actor: &str) {
        self.user(actor);
        let full = self.repo(repo).full_name();
        let head = after.and_then(|sha| self.resolve(repo, sha).or_else(|| self.resolve(repo, name)));
        let commit = |c: &Commit| {
            let person =
                json!({ "name": c.author, "email": format!("{}@example.org", c.author), "username": c.author });
            json!({ "id": c.sha, "tree_id": c.sha, "distinct": true, "message": c.message, "timestamp": stamp(c.at),
                "url": format!("{}/{full}/commit/{}", self.base, c.sha), "author": person, "committer": person,
                "added": [], "removed": [], "modified": c.files })
        };
        let comparison = before.zip(head).and_then(|(before, head)| graph::compare(&self.commits, before, &head.sha));
        let pushed: Vec<Value> = comparison.iter().flat_map(|c| c.ahead.iter().map(|c| commit(c))).take(2048).collect();
        let payload = json!({
            "ref": name, "before": before.unwrap_or(NO_COMMIT), "after": after.unwrap_or(NO_COMMIT),
            "created": before.is_none(), "deleted": after.is_none(), "forced": comparison.is_some_and(|c| c.behind > 0),
            "base_ref": null, "compare": format!("{}/{full}/compare", self.base), "commits": pushed,
            "head_commit": head.map(commit), "pusher": { "name": actor, "email": format!("{actor}@example.org") },
        });
        self.emit("push", Some(repo), actor, payload);
    }

    pub fn emit_pull(&mut self, action: &str, repo: u64, number: u64, actor: &str, more: Value) {
        self.user(actor);
        let now = self.clock.now_s();
        self.pull_mut(repo, number).updated_at = now;
        let mut payload =
            json!({ "action": action, "number": number, "pull_request": self.whole_pull_json(repo, number) });
        if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
            payload.extend(more);
        }
        self.emit("pull_request", Some(repo), actor, payload);
    }

    /// Makes the commit that GitHub tests mergeability with: readable, on neither branch.
    fn test_merge(&mut self, repo: u64, number: u64) {
        let pull = self.pull(repo, number).clone();
        let base = self.repo(repo).branches.get(&pull.base_ref).cloned().unwrap_or(pull.base_sha);
        let message = format!("Merge {} into {base}", pull.head_sha);
        let sha = self.write_commit(repo, vec![base.clone(), pull.head_sha], CommitSpec::new(&message));
        let pull = self.pull_mut(repo, number);
        (pull.merge_sha, pull.base_sha) = (sha, base);
    }

    pub fn open_pull(&mut self, repo: u64, spec: PullSpec) -> u64 {
        let id = self.next_id();
        let head_repo = spec.head_repo.unwrap_or(repo);
        self.user(&spec.author);
        let head_sha = self
            .repo(head_repo)
            .branches
            .get(&spec.head)
            .cloned()
            .unwrap_or_else(|| panic!("there is no branch `{}`", spec.head));
        let base = spec.base.unwrap_or_else(|| self.repo(repo).default_branch.clone());
        let base_sha =
            self.repo(repo).branches.get(&base).cloned().unwrap_or_else(|| panic!("there is no branch `{base}`"));
        let number = spec.number.unwrap_or_else(|| self.repo(repo).pulls.keys().next_back().map_or(1, |n| n + 1));
        let now = self.clock.now_s();
        let pull = Pull {
            id,
            number,
            title: spec.title,
            body: String::new(),
            author: spec.author.clone(),
            state: PullState::Open,
            draft: spec.draft,
            labelled: spec.labels.iter().map(|label| labelled("labeled", label, &spec.author, now)).collect(),
            labels: spec.labels,
            base_ref: base,
            base_sha,
            head_owner: self.repo(head_repo).owner.clone(),
            head_repo,
            head_ref: spec.head,
            head_sha,
            merge_sha: String::new(),
            created_at: now,
            updated_at: now,
        };
        self.repo_mut(repo).pulls.insert(number, pull);
        self.test_merge(repo, number);
        self.emit_pull("opened", repo, number, &spec.author, json!({}));
        number
    }

    /// Sets a label; nothing happens when it is there.
    pub fn label(&mut self, repo: u64, number: u64, label: &str, actor: &str) {
        let now = self.clock.now_s();
        let pull = self.pull_mut(repo, number);
        if !pull.labels.iter().any(|l| l == label) {
            pull.labels.push(label.to_owned());
            pull.labelled.push(labelled("labeled", label, actor, now));
            let label = self.label_json(repo, label);
            self.emit_pull("labeled", repo, number, actor, json!({ "label": label }));
        }
    }

    /// Takes a label off; false when it was not there.
    pub fn unlabel(&mut self, repo: u64, number: u64, label: &str, actor: &str) -> bool {
        let now = self.clock.now_s();
        let pull = self.pull_mut(repo, number);
        let before = pull.labels.len();
        pull.labels.retain(|l| l != label);
        let was_there = pull.labels.len() < before;
        if was_there {
            pull.labelled.push(labelled("unlabeled", label, actor, now));
            let label = self.label_json(repo, label);
            self.emit_pull("unlabeled", repo, number, actor, json!({ "label": label }));
        }
        was_there
    }

    pub fn set_draft(&mut self, repo: u64, number: u64, draft: bool, actor: &str) {
        self.pull_mut(repo, number).draft = draft;
        self.emit_pull(if draft { "converted_to_draft" } else { "ready_for_review" }, repo, number, actor, json!({}));
    }

    pub fn close(&mut self, repo: u64, number: u64, actor: &str) {
        let at = self.clock.now_s();
        self.pull_mut(repo, number).state = PullState::Closed { at };
        self.emit_pull("closed", repo, number, actor, json!({}));
    }

    /// Opens it again, at what was pushed to its branch meanwhile.
    pub fn reopen(&mut self, repo: u64, number: u64, actor: &str) {
        let pull = self.pull(repo, number);
        let tip = self.repos.get(&pull.head_repo).and_then(|head| head.branches.get(&pull.head_ref)).cloned();
        let pull = self.pull_mut(repo, number);
        pull.state = PullState::Open;
        if let Some(tip) = tip {
            pull.head_sha = tip;
        }
        self.test_merge(repo, number);
        self.emit_pull("reopened", repo, number, actor, json!({}));
    }

    /// Merges: the base branch gets the commit, `closed` and `push` are sent.
    pub fn merge(&mut self, repo: u64, number: u64, method: MergeMethod, sha: Option<String>, actor: &str) -> String {
        self.user(actor);
        let pull = self.pull(repo, number).clone();
        let base =
            self.repo(repo).branches.get(&pull.base_ref).cloned().unwrap_or_else(|| panic!("the base branch is gone"));
        let files = graph::compare(&self.commits, &base, &pull.head_sha).map(|c| c.files()).unwrap_or_default();
        let (parents, message) = match method {
            MergeMethod::Squash => (vec![base.clone()], format!("{} (#{number})", pull.title)),
            MergeMethod::Merge => (vec![base.clone(), pull.head_sha.clone()], format!("Merge pull request #{number}")),
        };
        let spec = CommitSpec { sha, files, author: pull.author, ..CommitSpec::new(&message) };
        let merged = self.write_commit(repo, parents, spec);
        let at = self.clock.now_s();
        let pull_now = self.pull_mut(repo, number);
        pull_now.state = PullState::Merged { at, by: actor.to_owned() };
        (pull_now.merge_sha, pull_now.base_sha) = (merged.clone(), base);
        self.emit_pull("closed", repo, number, actor, json!({}));
        self.set_branch(repo, &pull.base_ref, &merged, actor);
        merged
    }

    pub fn comment(&mut self, repo: u64, number: u64, body: &str, actor: &str) -> u64 {
        self.user(actor);
        let (id, now) = (self.next_id(), self.clock.now_s());
        let by_app = self.app.as_ref().is_some_and(|app| app.login() == actor);
        let comment = Comment {
            id,
            number,
            author: actor.to_owned(),
            by_app,
            body: body.to_owned(),
            created_at: now,
            updated_at: now,
            reactions: Vec::new(),
        };
        self.repo_mut(repo).comments.insert(id, comment);
        self.emit_comment("created", repo, id, actor, json!({}));
        id
    }

    pub fn edit_comment(&mut self, repo: u64, id: u64, body: &str, actor: &str) -> bool {
        self.user(actor);
        let now = self.clock.now_s();
        let Some(comment) = self.repo_mut(repo).comments.get_mut(&id) else { return false };
        let from = std::mem::replace(&mut comment.body, body.to_owned());
        comment.updated_at = now;
        self.emit_comment("edited", repo, id, actor, json!({ "changes": { "body": { "from": from } } }));
        true
    }

    pub fn delete_comment(&mut self, repo: u64, id: u64, actor: &str) -> bool {
        self.user(actor);
        let there = self.repo(repo).comments.contains_key(&id);
        if there {
            self.emit_comment("deleted", repo, id, actor, json!({}));
            self.repo_mut(repo).comments.remove(&id);
        }
        there
    }

    fn emit_comment(&mut self, action: &str, repo: u64, id: u64, actor: &str, more: Value) {
        let Some(number) = self.repo(repo).comments.get(&id).map(|c| c.number) else { return };
        let now = self.clock.now_s();
        self.pull_mut(repo, number).updated_at = now;
        let Some(comment) = self.repo(repo).comments.get(&id) else { return };
        let mut payload = json!({
            "action": action, "issue": self.issue_json(repo, number), "comment": self.comment_json(repo, comment),
        });
        if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
            payload.extend(more);
        }
        self.emit("issue_comment", Some(repo), actor, payload);
    }

    /// Reacts to a comment; `None` when there is none, the reaction and whether it is new otherwise.
    pub fn react(&mut self, repo: u64, comment: u64, content: &str, actor: &str) -> Option<(Reaction, bool)> {
        self.user(actor);
        let (id, created_at) = (self.next_id(), self.clock.now_s());
        let reactions = &mut self.repo_mut(repo).comments.get_mut(&comment)?.reactions;
        if let Some(there) = reactions.iter().find(|r| r.content == content && r.user == actor) {
            return Some((there.clone(), false));
        }
        let reaction = Reaction { id, user: actor.to_owned(), content: content.to_owned(), created_at };
        reactions.push(reaction.clone());
        Some((reaction, true))
    }

    pub fn put_check(&mut self, repo: u64, check: CheckRun, action: &str, actor: &str) {
        self.user(actor);
        let payload = json!({ "action": action, "check_run": self.check_json(repo, &check) });
        self.repo_mut(repo).checks.insert(check.id, check);
        self.emit("check_run", Some(repo), actor, payload);
    }

    /// Someone wants all checks of a commit to run again.
    pub fn rerequest_suite(&mut self, repo: u64, sha: &str, actor: &str) {
        self.user(actor);
        let Some(check) = self.repo(repo).checks.values().find(|c| c.head_sha == sha) else { return };
        let mut suite = self.check_json(repo, check)["check_suite"].clone();
        let branch = self.repo(repo).branches.iter().find(|(_, tip)| *tip == sha).map(|(name, _)| name.clone());
        let pulls = self.check_json(repo, check)["pull_requests"].clone();
        suite["head_branch"] = json!(branch);
        (suite["status"], suite["conclusion"], suite["pull_requests"]) = (json!("queued"), Value::Null, pulls);
        suite["app"] = self.app_json();
        self.emit("check_suite", Some(repo), actor, json!({ "action": "rerequested", "check_suite": suite }));
    }

    pub fn suspend(&mut self, suspended: bool, actor: &str) {
        self.user(actor);
        if let Some(app) = &mut self.app {
            app.suspended = suspended;
        }
        let action = if suspended { "suspend" } else { "unsuspend" };
        let installation = self.installation_json();
        self.emit("installation", None, actor, json!({ "action": action, "installation": installation }));
    }
}

fn labelled(event: &'static str, label: &str, by: &str, at: DateTime<Utc>) -> Labelled {
    Labelled { event, label: label.to_owned(), by: by.to_owned(), at }
}
