//! What a test does by hand: handles on a repository and a pull request whose methods are what people do on the site.

use std::sync::Arc;

use crate::Shared;
use crate::graph;
use crate::spec::{CommitSpec, MergeMethod, PullSpec};
use crate::world::{Pull, Role, World};

/// A repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<Shared>,
    id: u64,
    actor: String,
}

/// A pull request. Cheap to clone.
#[derive(Clone)]
pub struct PullRequest {
    shared: Arc<Shared>,
    repo: u64,
    number: u64,
    actor: String,
}

/// A comment as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommentSeen {
    /// Its id.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// What it says now.
    pub body: String,
    /// `eyes`, `+1`, ... by whomever.
    pub reactions: Vec<String>,
}

impl Repository {
    pub(crate) fn new(shared: Arc<Shared>, id: u64) -> Self {
        Self { shared, id, actor: "octo-maintainer".to_owned() }
    }

    fn act<T>(&self, act: impl FnOnce(&mut World, u64, &str) -> T) -> T {
        self.shared.with(|world| act(world, self.id, &self.actor))
    }

    /// The same repository, worked on by someone else.
    #[must_use]
    pub fn by(&self, login: &str) -> Self {
        Self { actor: login.to_owned(), ..self.clone() }
    }

    /// Its id, which renaming does not change.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `OWNER/NAME` now.
    pub fn full_name(&self) -> String {
        self.shared.with_quietly(|world| world.repo(self.id).full_name())
    }

    /// Pushes one commit; a new branch begins at the default branch.
    pub fn commit(&self, branch: &str, commit: CommitSpec) -> String {
        self.push(branch, vec![commit])
    }

    /// Pushes commits together; the last one's id.
    pub fn push(&self, branch: &str, commits: Vec<CommitSpec>) -> String {
        self.act(|world, id, actor| world.push(id, branch, commits, actor))
    }

    /// Points a branch at a commit: a new branch, or a forced push.
    ///
    /// # Panics
    /// When there is no such commit.
    pub fn set_branch(&self, branch: &str, target: &str) {
        self.act(|world, id, actor| {
            let sha = world.resolve(id, target).expect("there is no such commit").sha.clone();
            world.set_branch(id, branch, &sha, actor);
        });
    }

    /// Deletes a branch.
    pub fn delete_branch(&self, branch: &str) {
        self.act(|world, id, actor| world.delete_branch(id, branch, actor));
    }

    /// The tip of a branch.
    ///
    /// # Panics
    /// When there is no such branch.
    pub fn tip(&self, branch: &str) -> String {
        self.shared.with_quietly(|world| world.repo(self.id).branches.get(branch).expect("no such branch").clone())
    }

    /// The history of a branch, as the API lists it.
    pub fn history(&self, reference: &str) -> Vec<String> {
        self.shared.with_quietly(|world| {
            let tip = world.resolve(self.id, reference).map(|c| c.sha.clone()).unwrap_or_default();
            graph::history(&world.commits, &tip).iter().map(|c| c.sha.clone()).collect()
        })
    }

    /// Pushes a lightweight tag.
    pub fn tag(&self, name: &str, target: &str) {
        self.set_tag(name, target, false);
    }

    /// Pushes an annotated tag: its ref names a tag object.
    pub fn annotated_tag(&self, name: &str, target: &str) {
        self.set_tag(name, target, true);
    }

    fn set_tag(&self, name: &str, target: &str, annotated: bool) {
        self.act(|world, id, actor| {
            let sha = world.resolve(id, target).expect("there is no such commit").sha.clone();
            world.set_tag(id, name, &sha, annotated, actor);
        });
    }

    /// Deletes a tag.
    pub fn delete_tag(&self, name: &str) {
        self.act(|world, id, actor| world.delete_tag(id, name, actor));
    }

    /// Forks it under another owner.
    pub fn fork(&self, owner: &str) -> Self {
        let id = self.act(|world, id, _| {
            let name = format!("{owner}/{}", world.repo(id).name);
            world.create_repo(&name, Some(id))
        });
        Self { id, ..self.by(owner) }
    }

    /// Deletes it; pull requests from it keep their commits and lose their head repository.
    pub fn delete(&self) {
        self.act(|world, id, _| world.repos.remove(&id));
    }

    /// Renames or moves it; the old name is redirected.
    pub fn rename(&self, full_name: &str) {
        self.act(|world, id, actor| world.rename(id, full_name, actor));
    }

    /// Gives someone a role.
    pub fn permit(&self, login: &str, role: Role) {
        self.act(|world, id, _| {
            world.user(login);
            world.repo_mut(id).roles.insert(login.to_lowercase(), role);
        });
    }

    /// Opens a pull request.
    pub fn open(&self, pull: PullSpec) -> PullRequest {
        let number = self.act(|world, id, _| world.open_pull(id, pull));
        self.pull_request(number)
    }

    /// The pull request of that number.
    ///
    /// # Panics
    /// When there is none.
    pub fn pull_request(&self, number: u64) -> PullRequest {
        self.shared.with_quietly(|world| world.pull(self.id, number).number);
        PullRequest { shared: self.shared.clone(), repo: self.id, number, actor: self.actor.clone() }
    }

    /// The check runs of a commit, as the API shows them, oldest first.
    pub fn check_runs(&self, sha: &str) -> Vec<serde_json::Value> {
        self.shared.with_quietly(|world| {
            let checks = world.repo(self.id).checks.values().filter(|c| c.head_sha == sha);
            checks.map(|c| world.check_json(self.id, c)).collect()
        })
    }

    /// The statuses of a commit, as the API shows them, oldest first.
    pub fn statuses(&self, sha: &str) -> Vec<serde_json::Value> {
        self.shared.with_quietly(|world| {
            let statuses = world.repo(self.id).statuses.iter().filter(|s| s.sha == sha);
            statuses.map(|s| world.status_json(self.id, s)).collect()
        })
    }

    /// Presses "Re-run" on a check run.
    ///
    /// # Panics
    /// When there is none of that id.
    pub fn rerequest(&self, check_run: u64) {
        self.act(|world, id, actor| {
            let check = world.repo(id).checks.get(&check_run).expect("there is no such check run").clone();
            world.put_check(id, check, "rerequested", actor);
        });
    }

    /// Presses "Re-run all checks" on a commit: the app is told of its suite.
    pub fn rerequest_all(&self, sha: &str) {
        self.act(|world, id, actor| world.rerequest_suite(id, sha, actor));
    }
}

impl PullRequest {
    fn act<T>(&self, act: impl FnOnce(&mut World, u64, u64, &str) -> T) -> T {
        self.shared.with(|world| act(world, self.repo, self.number, &self.actor))
    }

    fn see<T>(&self, see: impl FnOnce(&Pull) -> T) -> T {
        self.shared.with_quietly(|world| see(world.pull(self.repo, self.number)))
    }

    /// The same pull request, worked on by someone else.
    #[must_use]
    pub fn by(&self, login: &str) -> Self {
        Self { actor: login.to_owned(), ..self.clone() }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The sha of its head now.
    pub fn head(&self) -> String {
        self.see(|pull| pull.head_sha.clone())
    }

    /// `merge_commit_sha`: the test merge while it is open, the commit of the base branch once merged.
    pub fn merge_commit(&self) -> String {
        self.see(|pull| pull.merge_sha.clone())
    }

    /// Sets a label.
    pub fn label(&self, label: &str) {
        self.act(|world, repo, number, actor| world.label(repo, number, label, actor));
    }

    /// Takes a label off.
    pub fn unlabel(&self, label: &str) {
        self.act(|world, repo, number, actor| world.unlabel(repo, number, label, actor));
    }

    /// Pushes a commit to its head branch.
    pub fn push(&self, commit: CommitSpec) -> String {
        self.act(|world, repo, number, actor| {
            let pull = world.pull(repo, number).clone();
            world.push(pull.head_repo, &pull.head_ref, vec![commit], actor)
        })
    }

    /// Turns it into a draft.
    pub fn convert_to_draft(&self) {
        self.act(|world, repo, number, actor| world.set_draft(repo, number, true, actor));
    }

    /// Says that it is ready for review.
    pub fn ready_for_review(&self) {
        self.act(|world, repo, number, actor| world.set_draft(repo, number, false, actor));
    }

    /// Closes it unmerged.
    pub fn close(&self) {
        self.act(|world, repo, number, actor| world.close(repo, number, actor));
    }

    /// Opens it again.
    pub fn reopen(&self) {
        self.act(|world, repo, number, actor| world.reopen(repo, number, actor));
    }

    /// Squashes it into its base branch; the new commit's id.
    pub fn merge(&self) -> String {
        self.merge_as(MergeMethod::Squash, None)
    }

    /// Merges it that way, into a commit with that id when one is given.
    pub fn merge_as(&self, method: MergeMethod, sha: Option<&str>) -> String {
        self.act(|world, repo, number, actor| world.merge(repo, number, method, sha.map(str::to_owned), actor))
    }

    /// Writes a comment; its id.
    pub fn comment(&self, body: &str) -> u64 {
        self.act(|world, repo, number, actor| world.comment(repo, number, body, actor))
    }

    /// Changes a comment.
    pub fn edit_comment(&self, id: u64, body: &str) {
        self.act(|world, repo, _, actor| world.edit_comment(repo, id, body, actor));
    }

    /// Deletes a comment.
    pub fn delete_comment(&self, id: u64) {
        self.act(|world, repo, _, actor| world.delete_comment(repo, id, actor));
    }

    /// Its comments, oldest first.
    pub fn comments(&self) -> Vec<CommentSeen> {
        self.shared.with_quietly(|world| {
            let comments = world.repo(self.repo).comments.values().filter(|c| c.number == self.number);
            comments
                .map(|c| CommentSeen {
                    id: c.id,
                    author: c.author.clone(),
                    body: c.body.clone(),
                    reactions: c.reactions.iter().map(|r| r.content.clone()).collect(),
                })
                .collect()
        })
    }

    /// Its labels.
    pub fn labels(&self) -> Vec<String> {
        self.see(|pull| pull.labels.clone())
    }
}
