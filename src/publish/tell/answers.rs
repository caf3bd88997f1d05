//! Delivers the one-off answers that people are owed, in order for each pull request.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;

use super::pace::told;
use super::write::{WriteError, reply_marker};
use super::{Conversation, Teller, Telling, What};
use crate::config::RepositoryConfig;
use crate::model::CommitSha;
use crate::publish::report::{Check, CheckEnd, CheckPhase};
use crate::step::Step;
use crate::store::{Answer, AnswerKind, AnswerRow, OwedState, PullKey, QuietCheck, ReportKey, StoreError};

/// How many answers one look delivers.
const BATCH: u32 = 100;

impl Teller {
    /// Delivers the answers that are due.
    pub(super) async fn answer_due(&self, beat: &impl Fn()) -> Result<(), StoreError> {
        let mut behind: BTreeSet<PullKey> = BTreeSet::new();
        for row in self.store.due_answers(self.clock.now(), BATCH).await? {
            let pull = PullKey { repository: row.answer.repository.clone(), number: row.answer.number };
            // What could not be told comes first when it can.
            if behind.contains(&pull) || self.is_resting() {
                continue;
            }
            beat();
            let (to, why) = match self.answer(&pull, &row).await? {
                Delivered::As(state, why) => (state, why),
                Delivered::Later => {
                    behind.insert(pull);
                    continue;
                }
            };
            let mut write = self.store.write(Step::SettleAnswer).await?;
            let _outcome = write.settle_answer(row.id, to, why.as_deref(), self.clock.now()).await?;
            write.commit().await?;
        }
        Ok(())
    }

    async fn answer(&self, pull: &PullKey, row: &AnswerRow) -> Result<Delivered, StoreError> {
        let Some(repository) = self.speaks_for(pull) else {
            return Ok(Delivered::kept("the repository is not configured, or GitHub is not"));
        };
        let Answer { key, what, .. } = &row.answer;
        let topic = (pull.clone(), key.clone());
        let done = match what {
            AnswerKind::Reaction { comment, content } => {
                let reacted = self.github.react(&pull.repository, *comment, *content).await;
                match reacted {
                    Ok(Some(())) => Ok(()),
                    Ok(None) => return Ok(Delivered::kept("the comment is gone")),
                    Err(error) => Err(error.into()),
                }
            }
            AnswerKind::Reply { text } => {
                self.put_reply(pull, &reply_marker(pull, key, &repository.report.name), text).await
            }
            AnswerKind::Check { sha, title, summary, state } => {
                let check = quiet_check(repository, sha, title, summary, *state);
                return self.answer_by_check(pull, repository, row, check).await;
            }
        };
        let error = match done {
            Ok(()) => {
                self.well(&topic);
                return Ok(Delivered::As(OwedState::Delivered, None));
            }
            Err(WriteError::Store(error)) => return Err(error),
            Err(WriteError::GitHub(error)) => error,
        };
        let telling = self.failed(&error, row.attempts, topic).await;
        self.after(row, telling).await
    }

    /// A check that no run stands for: it never takes the place of one that does.
    async fn answer_by_check(
        &self,
        pull: &PullKey,
        repository: &RepositoryConfig,
        row: &AnswerRow,
        check: Check,
    ) -> Result<Delivered, StoreError> {
        if !repository.report.check {
            return Ok(Delivered::kept("checks are off"));
        }
        if self.store.has_run_with_check(pull, check.sha.as_str()).await? {
            return Ok(Delivered::kept("a run stands for the commit"));
        }
        let key =
            ReportKey { repository: pull.repository.clone(), kind: self.check_kind(), subject: check.sha.to_string() };
        let text = format!("{}\n{}", check.title, check.summary);
        let talk =
            Conversation { pull, row: self.store.report(&key).await?, next: told(&text, &text, self.clock.now()), key };
        let telling = self.tell(&talk, Duration::ZERO, &What::Check(check)).await?;
        self.after(row, telling).await
    }

    async fn after(&self, row: &AnswerRow, telling: Telling) -> Result<Delivered, StoreError> {
        match telling {
            Telling::Told => Ok(Delivered::As(OwedState::Delivered, None)),
            Telling::Refused(reason) => Ok(Delivered::As(OwedState::Refused, Some(reason))),
            Telling::Later { at, error } => {
                let mut write = self.store.write(Step::PostponeAnswer).await?;
                let at = at.max(self.clock.now() + TimeDelta::seconds(1));
                let _outcome = write.postpone_answer(row.id, &error.unwrap_or_default(), at).await?;
                write.commit().await?;
                Ok(Delivered::Later)
            }
        }
    }
}

/// What became of an answer.
enum Delivered {
    /// It is settled.
    As(OwedState, Option<String>),
    /// It stays owed.
    Later,
}

impl Delivered {
    fn kept(why: &str) -> Self {
        Self::As(OwedState::Kept, Some(why.to_owned()))
    }
}

fn quiet_check(repository: &RepositoryConfig, sha: &CommitSha, title: &str, summary: &str, state: QuietCheck) -> Check {
    Check {
        sha: sha.clone(),
        name: repository.report.name.clone(),
        phase: CheckPhase::Completed(match state {
            QuietCheck::Waiting => CheckEnd::Waiting,
            QuietCheck::Skipped => CheckEnd::Skipped,
        }),
        title: crate::publish::report::text::clean(title, 200),
        summary: crate::publish::report::text::defuse(summary).chars().take(10_000).collect(),
        started_at: None,
        details_url: None,
    }
}
