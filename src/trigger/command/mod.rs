//! What people ask for in comments on pull requests, and by check runs that they want again. Each command is answered
//! once, whatever is delivered twice: what it does, that it was done, and what is told are one transaction.

mod act;
mod parse;
mod rules;
mod tell;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::act::Acting;
use self::parse::{Command, commands};
use self::rules::Asker;
use super::Context;
use super::looks::LookError;
use super::pull::seen;
use crate::config::RepositoryConfig;
use crate::github::{GitHub, Permission, Pull};
use crate::model::{CommitSha, Reaction};
use crate::step::Step;
use crate::store::{Answer, AnswerKind, Look, LookKind, Mark, PullRow};

/// When GitHub's answer is older than an earlier one, it is asked again after this long.
const STALE_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);

/// What came of a look at a comment or check run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum CommandAnswer {
    /// Nothing was to be done.
    Nothing {
        /// Why.
        why: &'static str,
    },
    /// GitHub's answer was older than what is known; it is asked again.
    Stale,
    /// These commands were answered.
    Answered {
        /// Who asked.
        by: String,
        /// Each with what came of it.
        commands: Vec<AnsweredCommand>,
    },
}

/// A command that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnsweredCommand {
    /// The command.
    pub command: String,
    /// What came of it.
    pub outcome: CommandOutcome,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// It was done.
    Done,
    /// It was understood, and there was nothing to do.
    NothingToDo,
    /// Who asked may not.
    Refused,
    /// It was not understood, or cannot be done as asked.
    NotUnderstood,
    /// It was answered before.
    Known,
}

/// Where a command came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A comment.
    Comment {
        /// Its number.
        id: u64,
        /// When it was written, by GitHub's time.
        at: DateTime<Utc>,
    },
    /// The button beside a check run of this commit.
    Check {
        /// Which.
        sha: CommitSha,
    },
}

/// Who asks, about which pull request.
struct Asking<'a> {
    context: &'a Context,
    repository: &'a RepositoryConfig,
    github: &'a GitHub,
    pull: Pull,
    row: PullRow,
    by: String,
    permission: Permission,
    place: Place,
    now: DateTime<Utc>,
}

/// Looks at a comment ([`LookKind::Comment`], its id is the key) or at a check run that is wanted again.
///
/// # Errors
/// When it is not known how it stands.
pub async fn look_at_command(
    context: &Context,
    repository: &RepositoryConfig,
    look: &Look,
    now: DateTime<Utc>,
) -> Result<CommandAnswer, LookError> {
    let trigger = &repository.triggers.pull_request;
    if !trigger.enabled || !trigger.commands.enabled {
        return Ok(CommandAnswer::Nothing { why: "commands are not answered" });
    }
    match look.kind {
        LookKind::Comment => look_at_comment(context, repository, look, now).await,
        LookKind::CheckRun => look_at_check(context, repository, look, now).await,
        LookKind::Pull | LookKind::Merge | LookKind::Tag => {
            Ok(CommandAnswer::Nothing { why: "it is neither comment nor check" })
        }
    }
}

async fn look_at_comment(
    context: &Context,
    repository: &RepositoryConfig,
    look: &Look,
    now: DateTime<Utc>,
) -> Result<CommandAnswer, LookError> {
    let nothing = |why| Ok(CommandAnswer::Nothing { why });
    let github = context.github.as_ref().ok_or(LookError::NoClient)?;
    let Ok(id) = look.key.parse::<u64>() else { return nothing("the key is no number of a comment") };
    let Some(comment) = github.comment(&repository.name, id).await? else { return nothing("the comment is gone") };
    let lines = commands(&comment.body);
    let (Some(author), Some(number)) = (comment.author, comment.number) else {
        return nothing("nobody stands behind the comment");
    };
    let mut open = Vec::new();
    for line in lines {
        let key = comment_key(repository, id, &line.text);
        if !context.store.is_answered(&key).await? {
            open.push((key, line));
        }
    }
    if open.is_empty() {
        return nothing("it holds no command that is not answered");
    }
    if github.identity().await?.id == author.id {
        return nothing("it is our own comment");
    }
    let Some(pull) = github.pull(&repository.name, number).await? else { return nothing("it is no pull request") };
    let before = context.store.pull(&repository.name, number).await?;
    let Some(row) = seen(before, &repository.name, &pull, now) else {
        return again(context, look, now).await;
    };
    let permission = github.permission(&repository.name, &author.login).await?;
    let place = Place::Comment { id, at: comment.created_at };
    let mut asking = Asking { context, repository, github, pull, row, by: author.login, permission, place, now };
    // What strangers write costs little of what GitHub lets us write.
    if asking.asker() != Asker::Stranger {
        let eyes = Answer {
            repository: repository.name.clone(),
            number,
            key: format!("{} comment {id} eyes", repository.name),
            what: AnswerKind::Reaction { comment: id, content: Reaction::Eyes },
        };
        let mut write = context.store.write(Step::AcknowledgeCommand).await?;
        let _once = write.owe_answer(&eyes, now).await?;
        write.commit().await?;
    }
    let mut answered = Vec::with_capacity(open.len());
    for (key, line) in open {
        let outcome = asking.answer(&key, &line.command).await?;
        answered.push(AnsweredCommand { command: parse::shown(&line.text), outcome });
    }
    Ok(CommandAnswer::Answered { by: asking.by, commands: answered })
}

async fn look_at_check(
    context: &Context,
    repository: &RepositoryConfig,
    look: &Look,
    now: DateTime<Utc>,
) -> Result<CommandAnswer, LookError> {
    let nothing = |why| Ok(CommandAnswer::Nothing { why });
    let github = context.github.as_ref().ok_or(LookError::NoClient)?;
    let fact = |name: &str| look.facts.get(name).and_then(serde_json::Value::as_str);
    let (Some(by), Some(Ok(sha))) = (fact("sender"), fact("sha").map(str::parse::<CommitSha>)) else {
        return nothing("it is not known who wants which commit again");
    };
    // The same wish, delivered again, is the same mark; a later wish is a later one.
    let key =
        format!("{} check {} {} {}", repository.name, look.key, look.marked_at.timestamp_millis(), look.generation);
    if context.store.is_answered(&key).await? {
        return nothing("it is answered");
    }
    let known = context.store.pulls_of_commit(&repository.name, &sha).await?;
    let Some(before) = known.into_iter().find(|pull| pull.standing.is_open()) else {
        return nothing("the commit is of no open pull request");
    };
    let Some(pull) = github.pull(&repository.name, before.number).await? else {
        return nothing("the pull request is gone");
    };
    let is_head = pull.head.sha == sha;
    let Some(row) = seen(Some(before), &repository.name, &pull, now) else {
        return again(context, look, now).await;
    };
    let permission = github.permission(&repository.name, by).await?;
    let by = by.to_owned();
    let place = Place::Check { sha };
    let mut asking = Asking { context, repository, github, pull, row, by, permission, place, now };
    let outcome =
        if is_head { asking.answer(&key, &Ok(Command::Rerun)).await? } else { asking.passed_by(&key).await? };
    let commands = vec![AnsweredCommand { command: "rerun".to_owned(), outcome }];
    Ok(CommandAnswer::Answered { by: asking.by, commands })
}

/// What makes a command of a comment once: an edit that leaves its words leaves it answered.
fn comment_key(repository: &RepositoryConfig, id: u64, text: &str) -> String {
    let hash: String = Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{} comment {id} {hash}", repository.name)
}

/// Marks the same look to be done again.
async fn again(context: &Context, look: &Look, now: DateTime<Utc>) -> Result<CommandAnswer, LookError> {
    let mark = Mark::at_once(&look.repository, look.kind, &look.key, &look.reason, now)
        .knowing(look.facts.clone())
        .after(STALE_AGAIN_AFTER, TimeDelta::days(1));
    let mut write = context.store.write(Step::PostponeCommand).await?;
    write.look_at(&mark, now).await?;
    write.commit().await?;
    Ok(CommandAnswer::Stale)
}

impl Asking<'_> {
    fn asker(&self) -> Asker {
        let config = &self.repository.triggers.pull_request.commands;
        Asker::of(self.permission, &self.by, self.row.author.as_deref(), config)
    }

    /// Answers one command, once.
    async fn answer(
        &mut self,
        key: &str,
        command: &Result<Command, parse::CommandFault>,
    ) -> Result<CommandOutcome, LookError> {
        Acting { asking: self, key }.answer(command).await
    }

    /// Answers somebody who wants an older head measured again, once.
    async fn passed_by(&mut self, key: &str) -> Result<CommandOutcome, LookError> {
        Acting { asking: self, key }.passed_by().await
    }
}
