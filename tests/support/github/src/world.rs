//! What the stand-in knows: plain state without behaviour beyond look-ups, changed by `changes`, read by `render` and
//! `api`.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::faults::Rule;
use crate::identity::{App, Budget, Token};
use crate::log::Call;
use crate::outbox::Outbox;

/// Everything behind the one lock.
#[derive(Default)]
pub(crate) struct World {
    /// Where the API is served, without a slash at its end.
    pub base: String,
    pub clock: Clock,
    pub repos: BTreeMap<u64, Repo>,
    /// Commits of all repositories; a fork shares those of its network.
    pub commits: HashMap<String, Commit>,
    pub users: BTreeMap<String, User>,
    pub app: Option<App>,
    pub tokens: HashMap<String, Token>,
    pub budget: Budget,
    pub outbox: Outbox,
    pub faults: Vec<Rule>,
    pub calls: Vec<Call>,
    /// Beginnings and ends of calls, counted: who overlaps whom.
    pub ticks: u64,
    last_id: u64,
}

/// A person, organization or bot.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub id: u64,
    pub login: String,
    pub kind: &'static str,
}

/// What a person may do in a repository; `permission` folds triage into read and maintain into write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See.
    Read,
    /// See, and set labels.
    Triage,
    /// Push.
    Write,
    /// Push, and some settings.
    Maintain,
    /// Everything.
    Admin,
}

impl Role {
    pub(crate) fn role_name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Triage => "triage",
            Self::Write => "write",
            Self::Maintain => "maintain",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn permission(self) -> &'static str {
        match self {
            Self::Read | Self::Triage => "read",
            Self::Write | Self::Maintain => "write",
            Self::Admin => "admin",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Repo {
    pub id: u64,
    pub owner: String,
    pub name: String,
    /// Names it had before, lower case: redirected.
    pub former: Vec<String>,
    pub fork_of: Option<u64>,
    /// The repository at the root of the fork network, whose commits are shared.
    pub network: u64,
    pub default_branch: String,
    pub branches: BTreeMap<String, String>,
    pub tags: BTreeMap<String, TagTarget>,
    pub pulls: BTreeMap<u64, Pull>,
    pub comments: BTreeMap<u64, Comment>,
    pub checks: BTreeMap<u64, CheckRun>,
    pub statuses: Vec<Status>,
    pub roles: BTreeMap<String, Role>,
    pub created_at: DateTime<Utc>,
}

impl Repo {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TagTarget {
    pub commit: String,
    /// The tag object of an annotated tag.
    pub object: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub sha: String,
    pub network: u64,
    pub parents: Vec<String>,
    pub author: String,
    pub message: String,
    /// The committer's date.
    pub at: DateTime<Utc>,
    pub files: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PullState {
    Open,
    Closed { at: DateTime<Utc> },
    Merged { at: DateTime<Utc>, by: String },
}

/// A label that was set or taken off.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// `labeled` or `unlabeled`.
    pub event: &'static str,
    pub label: String,
    pub by: String,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub id: u64,
    pub number: u64,
    pub title: String,
    pub body: String,
    pub author: String,
    pub state: PullState,
    pub draft: bool,
    pub labels: Vec<String>,
    /// Every label that was set or taken off.
    pub labelled: Vec<Labelled>,
    pub base_ref: String,
    pub base_sha: String,
    pub head_owner: String,
    pub head_repo: u64,
    pub head_ref: String,
    pub head_sha: String,
    /// While open: the test merge, on neither branch. When merged: the commit of the base branch.
    pub merge_sha: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub(crate) struct Comment {
    pub id: u64,
    pub number: u64,
    pub author: String,
    pub by_app: bool,
    pub body: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub reactions: Vec<Reaction>,
}

#[derive(Clone, Debug)]
pub(crate) struct Reaction {
    pub id: u64,
    pub user: String,
    pub content: String,
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct CheckRun {
    pub id: u64,
    pub name: String,
    pub head_sha: String,
    pub status: String,
    pub conclusion: Option<String>,
    pub external_id: String,
    pub details_url: Option<String>,
    pub title: Option<String>,
    pub summary: Option<String>,
    pub text: Option<String>,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub id: u64,
    pub sha: String,
    pub state: String,
    pub context: String,
    pub description: Option<String>,
    pub target_url: Option<String>,
    pub creator: String,
    pub created_at: DateTime<Utc>,
}

impl World {
    /// An empty one, served at that base URL.
    pub fn at(base: &str) -> Self {
        Self { base: base.to_owned(), ..Self::default() }
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        1_000_000 + self.last_id
    }

    /// A made-up object id, 40 hexadecimal digits, never given twice.
    pub fn next_sha(&mut self, seed: &str) -> String {
        let id = self.next_id();
        hex::encode(Sha256::digest(format!("{id} {seed}"))).chars().take(40).collect()
    }

    /// The user of that login, made when new. `[bot]` logins are bots.
    pub fn user(&mut self, login: &str) -> User {
        let id = self.next_id();
        let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
        self.users.entry(login.to_lowercase()).or_insert_with(|| User { id, login: login.to_owned(), kind }).clone()
    }

    /// The repository of that present name, in any case.
    pub fn repo_named(&self, owner: &str, name: &str) -> Option<&Repo> {
        self.repos.values().find(|r| r.owner.eq_ignore_ascii_case(owner) && r.name.eq_ignore_ascii_case(name))
    }

    /// The repository that once had this name.
    pub fn repo_formerly(&self, owner: &str, name: &str) -> Option<&Repo> {
        let full = format!("{owner}/{name}").to_lowercase();
        self.repos.values().find(|r| r.former.contains(&full))
    }

    pub fn repo(&self, id: u64) -> &Repo {
        self.repos.get(&id).unwrap_or_else(|| panic!("repository {id} was deleted"))
    }

    pub fn repo_mut(&mut self, id: u64) -> &mut Repo {
        self.repos.get_mut(&id).unwrap_or_else(|| panic!("repository {id} was deleted"))
    }

    pub fn pull(&self, repo: u64, number: u64) -> &Pull {
        self.repo(repo).pulls.get(&number).unwrap_or_else(|| panic!("there is no pull request {number}"))
    }

    pub fn pull_mut(&mut self, repo: u64, number: u64) -> &mut Pull {
        self.repo_mut(repo).pulls.get_mut(&number).unwrap_or_else(|| panic!("there is no pull request {number}"))
    }

    /// The commit that `reference` names in `repo`: a branch, a tag, `heads/..`, `tags/..`, `refs/..`, `pull/N/head`,
    /// or an id (whole, or from 7 digits on) of the fork network.
    pub fn resolve(&self, repo: u64, reference: &str) -> Option<&Commit> {
        let repo = self.repo(repo);
        let short = reference.strip_prefix("refs/").unwrap_or(reference);
        let branch = || repo.branches.get(short.strip_prefix("heads/").unwrap_or(short));
        let tag = || repo.tags.get(short.strip_prefix("tags/").unwrap_or(short)).map(|t| &t.commit);
        let pull = || {
            let number = short.strip_prefix("pull/")?.strip_suffix("/head")?.parse().ok()?;
            repo.pulls.get(&number).map(|p| &p.head_sha)
        };
        if let Some(sha) = branch().or_else(tag).or_else(pull) {
            return self.commits.get(sha);
        }
        if let Some(commit) = self.commits.get(reference) {
            return Some(commit).filter(|c| c.network == repo.network);
        }
        let start = reference.to_lowercase();
        let is_id = reference.len() >= 7 && reference.bytes().all(|b| b.is_ascii_hexdigit());
        let in_network = |c: &&Commit| c.network == repo.network && c.sha.starts_with(&start);
        is_id.then(|| self.commits.values().find(in_network)).flatten()
    }

    /// What `login` may do in `repo`; everybody may read.
    pub fn role(&self, repo: u64, login: &str) -> Role {
        let repo = self.repo(repo);
        let owner = repo.owner.eq_ignore_ascii_case(login).then_some(Role::Admin);
        repo.roles.get(&login.to_lowercase()).copied().or(owner).unwrap_or(Role::Read)
    }
}
