//! What a webhook delivery means: which things on GitHub must be looked at. Nothing else is taken from it, nobody is
//! asked, and delivery and marks are written in one transaction before the answer.

use chrono::{DateTime, TimeDelta, Utc};
use globset::Glob;
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use super::payload::{Check, Part, Payload};
use crate::config::{Config, RepositoryConfig};
use crate::model::{BranchName, CommitSha};
use crate::step::Step;
use crate::store::{Delivery, DeliveryFacts, FollowedRow, LookKind, Mark, Recorded, StoreError};

/// A pull request is looked at when no further event came for this long: GitHub sends one for each label.
const SETTLE_AFTER: TimeDelta = TimeDelta::seconds(2);

/// It is looked at after this long in any case.
const SETTLE_AT_MOST: TimeDelta = TimeDelta::seconds(20);

/// The longest text that is kept of a delivery, in bytes; GitHub's own names are shorter.
const LONGEST_TEXT_BYTES: usize = 512;

/// What a line begins with that may be a command.
const COMMAND: &str = "/benchd";

/// The events that something follows from.
pub const EVENTS: [&str; 7] = ["pull_request", "push", "create", "issue_comment", "check_run", "check_suite", "ping"];

/// The actions of a pull request that may change what is measured.
const PULL_ACTIONS: [&str; 9] = [
    "labeled",
    "unlabeled",
    "opened",
    "reopened",
    "synchronize",
    "closed",
    "edited",
    "converted_to_draft",
    "ready_for_review",
];

/// A delivery as it came, signed by GitHub.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Its id.
    pub id: &'a str,
    /// The event.
    pub event: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Accepted {
    /// It is stored, and these things are looked at.
    Marked {
        /// Kind and key of each.
        looks: Vec<String>,
    },
    /// It had come before.
    Known,
    /// Nothing follows from it.
    Ignored {
        /// Why.
        why: String,
    },
    /// The webhook was set up.
    Pong,
}

/// Why a delivery is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It is no JSON object.
    #[error("failed to read the payload as a JSON object")]
    Unreadable(#[from] serde_json::Error),
    /// It is JSON, and no object.
    #[error("the payload is no JSON object")]
    NoObject,
    /// It cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What follows from a payload.
#[derive(Clone, Debug, PartialEq)]
enum Meaning {
    /// These must be looked at; the delivery is stored with them.
    Looks(Box<Delivery>, Vec<Mark>),
    /// Nothing, and why.
    Nothing(String),
}

/// The event as metrics name it: what benchd does not know counts as `other`.
pub fn event_name(event: &str) -> &'static str {
    EVENTS.into_iter().find(|known| *known == event).unwrap_or("other")
}

/// Stores a delivery with what must be looked at because of it, once.
///
/// # Errors
/// When it is no JSON object, or the store fails: then nothing of it is kept.
pub async fn accept(context: &Context, envelope: Envelope<'_>) -> Result<Accepted, DeliveryError> {
    // Known events first: what is not known is not read.
    match event_name(envelope.event) {
        "ping" => return Ok(Accepted::Pong),
        "other" => return Ok(ignored(format!("nothing follows from the event `{}`", short(envelope.event)))),
        _ => {}
    }
    let payload = serde_json::from_slice::<Part<Payload>>(envelope.body)?.0.ok_or(DeliveryError::NoObject)?;
    let followed = context.store.followed().await?;
    let now = context.clock.now();
    match meaning(&context.config, &followed, envelope, &payload, now) {
        Meaning::Nothing(why) => Ok(ignored(why)),
        Meaning::Looks(delivery, marks) => {
            let mut write = context.store.write(Step::StoreDelivery).await?;
            if write.record_delivery(&delivery).await? == Recorded::Existed {
                return Ok(Accepted::Known);
            }
            for mark in &marks {
                write.look_at(mark, now).await?;
            }
            write.commit().await?;
            let looks = marks.iter().map(|mark| format!("{} {}", mark.kind.as_str(), mark.key)).collect();
            Ok(Accepted::Marked { looks })
        }
    }
}

fn ignored(why: String) -> Accepted {
    Accepted::Ignored { why }
}

/// Text of others, cut for messages and columns.
fn short(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The configured repository that a payload is about: by GitHub's number, which stays when it is renamed, and by name
/// where the number is not known yet.
fn repository_of<'c>(config: &'c Config, followed: &[FollowedRow], payload: &Payload) -> Option<&'c RepositoryConfig> {
    let told = payload.repository.get()?;
    let named = |name: &str| config.repositories.iter().find(|r| r.name.as_str().eq_ignore_ascii_case(name));
    let id = told.id.number();
    if let Some(known) = id.and_then(|id| followed.iter().find(|row| row.github_id == Some(id))) {
        return named(known.repository.as_str());
    }
    let found = named(told.full_name.text()?)?;
    let other = followed.iter().any(|row| {
        row.repository.as_str().eq_ignore_ascii_case(found.name.as_str()) && row.github_id.is_some() && id.is_some()
    });
    // Another repository has taken the name.
    (!other).then_some(found)
}

/// Pure: what must be looked at because of a payload.
fn meaning(
    config: &Config,
    followed: &[FollowedRow],
    envelope: Envelope<'_>,
    payload: &Payload,
    now: DateTime<Utc>,
) -> Meaning {
    let Some(repository) = repository_of(config, followed, payload) else {
        let name = payload.repository.get().and_then(|r| r.full_name.text()).unwrap_or("(none)");
        return Meaning::Nothing(format!("the repository {} is not followed", short(name)));
    };
    let action = payload.action.text();
    let reason = match action {
        Some(action) => format!("{}.{}", envelope.event, short(action)),
        None => envelope.event.to_owned(),
    };
    let delivery = Delivery {
        id: envelope.id.to_owned(),
        event: envelope.event.to_owned(),
        action: action.map(|action| short(action).to_owned()),
        repository: repository.name.clone(),
        repository_id: payload.repository.get().and_then(|r| r.id.number()),
        number: None,
        sha: None,
        reference: None,
        sender: payload.sender.get().and_then(|s| s.login.text()).map(|login| short(login).to_owned()),
        facts: DeliveryFacts::default(),
        received_at: now,
    };
    let reading = Reading { config, repository, payload, reason, delivery, now };
    match envelope.event {
        "pull_request" => reading.pull_request(),
        "push" => reading.push(),
        "create" => reading.created(),
        "issue_comment" => reading.comment(),
        "check_run" => reading.check(&payload.check_run, ["rerequested", "requested_action"].as_slice(), ""),
        "check_suite" => reading.check(&payload.check_suite, ["rerequested"].as_slice(), "suite/"),
        other => Meaning::Nothing(format!("nothing follows from the event `{}`", short(other))),
    }
}

/// A payload about a repository that is followed.
struct Reading<'a> {
    config: &'a Config,
    repository: &'a RepositoryConfig,
    payload: &'a Payload,
    reason: String,
    delivery: Delivery,
    now: DateTime<Utc>,
}

impl Reading<'_> {
    fn mark(&self, kind: LookKind, key: impl ToString) -> Mark {
        Mark::at_once(&self.repository.name, kind, key, &self.reason, self.now)
    }

    fn looks(self, mut marks: Vec<Mark>, facts: &Value) -> Meaning {
        for mark in &mut marks {
            mark.facts.clone_from(facts);
        }
        Meaning::Looks(Box::new(self.delivery), marks)
    }

    fn nothing(&self, why: &str) -> Meaning {
        Meaning::Nothing(format!("{}: {why}", self.reason))
    }

    fn pull_request(mut self) -> Meaning {
        let action = self.payload.action.text().unwrap_or_default();
        if !PULL_ACTIONS.contains(&action) {
            return self.nothing("the action changes nothing that is measured");
        }
        let pull = self.payload.pull_request.get();
        let number = self.payload.number.number().or_else(|| pull.and_then(|pull| pull.number.number()));
        let Some(number) = number.filter(|number| *number > 0) else {
            return self.nothing("it names no pull request");
        };
        let side = |side: &Part<super::payload::Side>| side.get().and_then(|side| measurable(side.sha.text()));
        self.delivery.number = Some(number);
        self.delivery.sha = pull.and_then(|pull| side(&pull.head));
        self.delivery.facts.label =
            self.payload.label.get().and_then(|label| label.name.text()).map(|label| short(label).to_owned());
        let mut marks = vec![self.mark(LookKind::Pull, number).after(SETTLE_AFTER, SETTLE_AT_MOST)];
        let merged =
            pull.filter(|pull| action == "closed" && (pull.merged.is_true() || pull.merged_at.text().is_some()));
        let base = merged.and_then(|pull| pull.base.get()?.reference.text());
        if let Some(branch) = base.and_then(|base| self.merged_into(base)) {
            self.delivery.sha = merged.and_then(|pull| measurable(pull.merge_commit_sha.text()));
            self.delivery.reference = Some(format!("refs/heads/{branch}"));
            marks.push(self.mark(LookKind::Merge, branch));
        }
        let facts = json!({ "sender": self.delivery.sender });
        self.looks(marks, &facts)
    }

    /// The branch, if merges into it are measured.
    fn merged_into(&self, branch: &str) -> Option<BranchName> {
        let followed = self.repository.branch.iter().find(|followed| followed.as_str() == branch);
        followed.filter(|_| self.repository.triggers.merge.enabled).cloned()
    }

    fn push(mut self) -> Meaning {
        let Some(reference) = self.payload.reference.text() else { return self.nothing("it names no reference") };
        let Some(sha) = measurable(self.payload.after.text()).filter(|_| !self.payload.deleted.is_true()) else {
            return self.nothing("what was deleted is not measured");
        };
        let mark = if let Some(branch) = reference.strip_prefix("refs/heads/") {
            match self.merged_into(branch) {
                Some(branch) => self.mark(LookKind::Merge, branch),
                None => return self.nothing("merges into the branch are not measured"),
            }
        } else if let Some(tag) = reference.strip_prefix("refs/tags/") {
            match self.releases(tag) {
                true => self.mark(LookKind::Tag, tag),
                false => return self.nothing("the tag is no release (`triggers.release.tags`)"),
            }
        } else {
            return self.nothing("it is neither branch nor tag");
        };
        self.delivery.sha = Some(sha);
        self.delivery.reference = Some(reference.to_owned());
        self.looks(vec![mark], &json!({}))
    }

    fn created(mut self) -> Meaning {
        let tag = self.payload.reference.text().filter(|_| self.payload.ref_type.text() == Some("tag"));
        let Some(tag) = tag.filter(|tag| self.releases(tag)) else {
            return self.nothing("it is no tag of a release (`triggers.release.tags`)");
        };
        self.delivery.reference = Some(format!("refs/tags/{tag}"));
        let mark = self.mark(LookKind::Tag, tag);
        self.looks(vec![mark], &json!({}))
    }

    fn releases(&self, tag: &str) -> bool {
        is_release(self.repository, tag) && tag.len() <= LONGEST_TEXT_BYTES
    }

    fn comment(mut self) -> Meaning {
        let (Some(issue), Some(comment)) = (self.payload.issue.get(), self.payload.comment.get()) else {
            return self.nothing("it names no comment");
        };
        // A command that is mended is a new one; each wording of a comment is answered once.
        if !matches!(self.payload.action.text(), Some("created" | "edited")) {
            return self.nothing("only a new or edited comment is a command");
        }
        let (Some(number), Some(id)) = (issue.number.number(), comment.id.number()) else {
            return self.nothing("it names no comment");
        };
        if issue.pull_request.get().is_none() {
            return self.nothing("an issue is no pull request");
        }
        let app = comment.performed_via_github_app.get().and_then(|app| app.id.number());
        if app.is_some() && app == self.config.github.app.as_ref().map(|app| app.id) {
            return self.nothing("it is our own comment");
        }
        if !may_be_command(comment.body.text().unwrap_or_default()) {
            return self.nothing("it is no command");
        }
        self.delivery.number = Some(number);
        self.delivery.facts.comment = Some(id);
        let mark = self.mark(LookKind::Comment, id);
        self.looks(vec![mark], &json!({ "number": number }))
    }

    /// A check run, or a suite of them, that somebody wants again. Only an App has check runs, and only its own are
    /// answered.
    fn check(mut self, check: &Part<Check>, actions: &[&str], prefix: &str) -> Meaning {
        let Some(check) = check.get().filter(|_| actions.contains(&self.payload.action.text().unwrap_or_default()))
        else {
            return self.nothing("only what is requested again is answered");
        };
        let app = check.app.get().and_then(|app| app.id.number());
        if app.is_none() || app != self.config.github.app.as_ref().map(|app| app.id) {
            return self.nothing("it is of another App");
        }
        let (Some(id), Some(sha)) = (check.id.number(), measurable(check.head_sha.text())) else {
            return self.nothing("it names no commit");
        };
        let facts = json!({
            "sender": self.delivery.sender, "sha": sha, "name": check.name.text().map(short),
            "external_id": check.external_id.text().map(short),
        });
        self.delivery.sha = Some(sha);
        self.delivery.facts.check = Some(id);
        let mark = self.mark(LookKind::CheckRun, format!("{prefix}{id}"));
        self.looks(vec![mark], &facts)
    }
}

/// Whether a tag of the repository is a release.
pub(super) fn is_release(repository: &RepositoryConfig, tag: &str) -> bool {
    let release = &repository.triggers.release;
    let matches = Glob::new(&release.tags).is_ok_and(|glob| glob.compile_matcher().is_match(tag));
    release.enabled && matches
}

/// Whether a comment may hold a command: a line that begins with the word.
pub(super) fn may_be_command(body: &str) -> bool {
    body.lines().any(|line| {
        let word = line.trim_start().get(..COMMAND.len());
        word.is_some_and(|word| word.eq_ignore_ascii_case(COMMAND))
    })
}

/// A commit that can be measured; all zeros stand for "nothing".
fn measurable(sha: Option<&str>) -> Option<CommitSha> {
    sha?.parse().ok()
}
