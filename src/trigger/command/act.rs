//! Doing what a command asks for: looked up and planned first, then written in one transaction with the answer.

use super::parse::{Command, CommandFault, RunArguments};
use super::rules::{Asker, HeadHistory, permit};
use super::tell::{Told, quoted, status, words};
use super::{Asking, CommandOutcome, Place};
use crate::config::ForkPolicy;
use crate::github::Permission;
use crate::model::{Asked, Origin, RunId, Trigger};
use crate::queue::{Cancelled, Rerun, Retried};
use crate::step::Step;
use crate::store::{Answer, AnswerKind, ApprovalRow, ApprovedBy, PullRun, Recorded, StoreError, Write};
use crate::trigger::looks::LookError;
use crate::trigger::manual::{Blame, ManualRequest, check};
use crate::trigger::pull::approval::{came_after, of_head};
use crate::trigger::pull::decide::{Approval, giving_way};
use crate::trigger::pull::submit::{HeadPlan, plan_head};
use crate::trigger::pull::{known_of, submit_head, supersede};

/// One command being answered.
pub(super) struct Acting<'a, 'b> {
    /// Who asks.
    pub asking: &'a Asking<'b>,
    /// What makes the command once.
    pub key: &'a str,
}

/// What is written for a command.
enum Deed {
    /// Only the answer.
    Say(Told),
    /// A planned run.
    Run { plan: Box<crate::queue::RunPlan>, asked: Asked },
    /// A run once more.
    Rerun(RunId),
    /// The failed jobs of a run once more.
    Retry(RunId),
    /// The end of these.
    Cancel(Vec<RunId>),
}

impl Acting<'_, '_> {
    /// Answers the command, unless it was answered meanwhile.
    pub async fn answer(&self, command: &Result<Command, CommandFault>) -> Result<CommandOutcome, LookError> {
        let (deed, approval) = match command {
            Err(fault) => (self.refusal(&Command::Help, &[]).unwrap_or_else(|| Deed::Say(Told::fault(fault))), None),
            Ok(command) => self.deed(command).await?,
        };
        self.write_down(deed, approval).await
    }

    /// Says that only the head is measured.
    pub async fn passed_by(&self) -> Result<CommandOutcome, LookError> {
        let text = "This commit is not the head any more, which alone is measured: `/benchd run` measures it.";
        self.write_down(Deed::Say(Told::nothing(text)), None).await
    }

    fn refusal(&self, command: &Command, runs: &[PullRun]) -> Option<Deed> {
        let Asking { row, repository, .. } = self.asking;
        let of_author = |run: &&PullRun| run.by.is_some() && run.by == row.author;
        let of_head: Vec<&PullRun> = runs.iter().filter(|run| run.run.sha == row.head).collect();
        let count = |of: &dyn Fn(&&PullRun) -> bool| {
            u32::try_from(of_head.iter().copied().filter(|run| of(run)).count()).unwrap_or(u32::MAX)
        };
        let head = HeadHistory {
            approved_runs: count(&|run| run.asked == Asked::Labels || !of_author(run)),
            author_reruns: count(&|run| run.asked != Asked::Labels && of_author(run)),
        };
        let config = &repository.triggers.pull_request.commands;
        let refusal = permit(self.asking.asker(), command, head, config).err()?;
        Some(Deed::Say(Told::refused(format!("{refusal}."))))
    }

    /// What a command comes to, and whether it approves the head.
    async fn deed(&self, command: &Command) -> Result<(Deed, Option<ApprovalRow>), LookError> {
        let Asking { context, row, .. } = self.asking;
        let runs = context.store.pull_runs(&row.repository, row.number).await?;
        if let Some(refusal) = self.refusal(command, &runs) {
            return Ok((refusal, None));
        }
        let of_head = |run: &&PullRun| run.run.sha == row.head;
        let last = runs.iter().rfind(of_head);
        let say = |told: Told| Ok((Deed::Say(told), None));
        match command {
            Command::Help => say(Told::help()),
            Command::Status => say(Told::said(status(row, &runs))),
            Command::Cancel => {
                let open = runs.iter().filter(|run| !run.run.state.phase().is_final());
                let open: Vec<RunId> = open.map(|run| run.run.id).collect();
                if open.is_empty() {
                    return say(Told::nothing("Nothing waits or runs here."));
                }
                Ok((Deed::Cancel(open), None))
            }
            Command::Retry => match last {
                Some(run) => Ok((Deed::Retry(run.run.id), None)),
                None if row.standing.is_open() => {
                    say(Told::nothing("The head was not measured yet: `/benchd run` measures it."))
                }
                None => say(Told::nothing("The head was not measured, and the pull request is closed.")),
            },
            Command::Run(_) | Command::Rerun if !row.standing.is_open() => {
                say(Told::impossible("The pull request is closed: its head is not measured any more."))
            }
            Command::Run(arguments) => {
                let open = |run: &&PullRun| of_head(run) && run.asked.is_whole() && !run.run.state.phase().is_final();
                match runs.iter().rfind(open) {
                    Some(run) if *arguments == RunArguments::default() => say(already(run)),
                    Some(_) | None => self.measuring(async || self.run(arguments).await).await,
                }
            }
            Command::Rerun => match last {
                Some(run) if !run.run.state.phase().is_final() => say(already(run)),
                Some(run) => self.measuring(async || Ok(Deed::Rerun(run.run.id))).await,
                None => self.measuring(async || self.run(&RunArguments::default()).await).await,
            },
        }
    }

    /// A deed that executes the head's code: it must be allowed for forks, and approved where that is asked.
    async fn measuring(
        &self,
        deed: impl AsyncFnOnce() -> Result<Deed, LookError>,
    ) -> Result<(Deed, Option<ApprovalRow>), LookError> {
        let Asking { context, repository, github, row, by, permission, place, now, .. } = self.asking;
        let say = |text: &str| Ok((Deed::Say(Told::impossible(text)), None));
        let approval = match (row.origin, repository.triggers.pull_request.forks) {
            (Origin::Own, _) | (Origin::Fork, ForkPolicy::EveryCommit) => None,
            (Origin::Fork, ForkPolicy::Never) => return say("Code of forks is not measured here."),
            (Origin::Fork, ForkPolicy::ApproveEachCommit) => {
                let at = match place {
                    Place::Comment { at, .. } => Some(*at).filter(|at| came_after(row, *at)),
                    Place::Check { .. } => Some(*now),
                };
                match at.filter(|_| *permission >= Permission::Write) {
                    Some(at) => {
                        let (sha, by) = (row.head.clone(), by.clone());
                        Some(ApprovalRow { sha, by, how: ApprovedBy::Command, at })
                    }
                    None => match of_head(&context.store, github, repository, row).await? {
                        (Approval::By(_), found) => found,
                        (Approval::Missing, _) => {
                            return say(&format!(
                                "Nobody with write permission has approved this commit. It was not known before the \
                                 comment, so the comment may have meant another one: look at {} and ask once more.",
                                row.head
                            ));
                        }
                    },
                }
            }
        };
        Ok((deed().await?, approval))
    }

    async fn run(&self, arguments: &RunArguments) -> Result<Deed, LookError> {
        let Asking { context, repository, pull, row, by, .. } = self.asking;
        let RunArguments { models, targets, suites, baseline, repeats } = arguments.clone();
        let request = ManualRequest {
            pull_request: Some(row.number),
            models,
            targets,
            suites,
            baseline,
            repeats,
            asked_by: Some(by.clone()),
            ..ManualRequest::default()
        };
        let trigger = Trigger::Command { number: row.number };
        let planned = match check(&request, repository, &context.target) {
            Ok(_named) => plan_head(context, repository, pull, &request, trigger).await,
            Err(error) => Err(error),
        };
        match planned {
            Ok(HeadPlan::Run(planned)) => {
                let asked = if arguments.is_whole() { Asked::Whole } else { Asked::Part };
                Ok(Deed::Run { plan: Box::new(planned.run), asked })
            }
            Ok(HeadPlan::Nothing(why)) => {
                Ok(Deed::Say(Told::nothing(format!("Nothing is measured: {}", quoted(&why)))))
            }
            Err(error) => match error.blame() {
                Blame::Request | Blame::NotFound | Blame::Forbidden | Blame::Conflict => {
                    Ok(Deed::Say(Told::impossible(format!("That cannot be measured: {}", quoted(&error)))))
                }
                Blame::Outside | Blame::House => Err(error.into()),
            },
        }
    }

    async fn write_down(&self, deed: Deed, approval: Option<ApprovalRow>) -> Result<CommandOutcome, LookError> {
        let Asking { context, repository, row, by, now, .. } = self.asking;
        let pull = (&row.repository, row.number);
        let known = known_of(context, row, *now).await?;
        let mut write = context.store.write(Step::AnswerCommand).await?;
        if write.record_command(self.key, pull, by, *now).await? == Recorded::Existed {
            return Ok(CommandOutcome::Known);
        }
        write.record_pull(row).await?;
        if let Some(approval) = &approval {
            let _once = write.record_approval(pull, approval).await?;
        }
        let told = match deed {
            Deed::Say(told) => told,
            Deed::Run { plan, asked } => {
                match submit_head(context, &mut write, row, &plan, asked, Some(by.as_str())).await? {
                    Some(run) => {
                        for older in giving_way(&row.head, &known, &repository.triggers.pull_request) {
                            let _ended = supersede(context, &mut write, older, run, *now).await?;
                        }
                        Told::done()
                    }
                    None => Told::nothing("Nothing is measured."),
                }
            }
            Deed::Rerun(of) => match context.queue.rerun_within(&mut write, of).await? {
                Rerun::Run { run } => {
                    let asked = known.runs.iter().find(|known| known.run == of).map(|known| known.asked);
                    let asked = if asked.is_none_or(Asked::is_whole) { Asked::Whole } else { Asked::Part };
                    write.record_pull_run(run, pull, &row.head, asked, Some(by.as_str())).await?;
                    Told::done()
                }
                Rerun::Imported => {
                    Told::nothing(format!("Run {of} was imported: nobody here knows how it was measured."))
                }
                Rerun::Unknown => Told::nothing("There is no such run any more."),
            },
            Deed::Retry(run) => match context.queue.retry_within(&mut write, run).await? {
                Retried::Jobs { .. } => {
                    write.restore_pull_run(run).await?;
                    Told::done()
                }
                Retried::NothingFailed => Told::nothing(format!("No job of run {run} has failed.")),
                Retried::Superseded { .. } => Told::nothing(format!("Run {run} gave way to a newer one.")),
                Retried::Unknown => Told::nothing("There is no such run any more."),
            },
            Deed::Cancel(runs) => {
                let mut ended = 0;
                for run in runs {
                    match context.queue.cancel_within(&mut write, run, &format!("cancelled by {by}")).await? {
                        Cancelled::Jobs { .. } => ended += 1,
                        Cancelled::AlreadyEnded | Cancelled::Unknown => {}
                    }
                }
                if ended == 0 { Told::nothing("Nothing waits or runs here.") } else { Told::done() }
            }
        };
        self.tell(&mut write, &told).await?;
        write.commit().await?;
        tracing::info!(pr.number = row.number, "answered a command of {by}: {:?}", told.outcome);
        Ok(told.outcome)
    }

    /// Owes the sign on the comment and the reply. Of several refusals on one comment one is told, of a stranger's on a
    /// pull request, too.
    async fn tell(&self, write: &mut Write, told: &Told) -> Result<(), StoreError> {
        let Asking { row, place, by, now, .. } = self.asking;
        let owed = |key: String, what| Answer { repository: row.repository.clone(), number: row.number, key, what };
        if let (Place::Comment { id, .. }, Some(content)) = (place, told.reaction()) {
            let what = AnswerKind::Reaction { comment: *id, content };
            let key = format!("{} comment {id} {}", row.repository, content.as_str());
            let _once = write.owe_answer(&owed(key, what), *now).await?;
        }
        if let Some(text) = &told.reply {
            let key = match (told.outcome, self.asking.asker(), place) {
                (CommandOutcome::Refused, Asker::Stranger, _) => {
                    format!("{}#{} refused {by}", row.repository, row.number)
                }
                (CommandOutcome::Refused, Asker::Permitted | Asker::Author, Place::Comment { id, .. }) => {
                    format!("{} comment {id} refused", row.repository)
                }
                _ => format!("{} reply", self.key),
            };
            let text = match place {
                Place::Comment { .. } => text.clone(),
                // Beside a check nobody sees what is answered to.
                Place::Check { sha } => format!("\"Re-run\" by {} beside the check of {sha}: {text}", quoted(by)),
            };
            let _once = write.owe_answer(&owed(key, AnswerKind::Reply { text }), *now).await?;
        }
        Ok(())
    }
}

fn already(run: &PullRun) -> Told {
    Told::nothing(format!("Run {} of this head {} already.", run.run.id, words(run.run.state)))
}
