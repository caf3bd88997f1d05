//! Puts one text where it belongs on GitHub, whatever happened before: the comment, check run or status is looked for
//! before it is created, so that a lost answer or a kill between request and answer doubles nothing.

use url::Url;

use super::pace::hash;
use super::{Conversation, Teller, What};
use crate::github::{
    Acting, CheckConclusion, CheckOutput, CheckRun, CheckState, GitHubError, LONGEST_STATUS, Status, StatusState,
};
use crate::publish::report::text::{clean, defuse};
use crate::publish::report::{Check, CheckEnd, CheckPhase, Marker};
use crate::step::Step;
use crate::store::{PullKey, ReportKey, ReportKind, ReportRow, StoreError};

/// What keeps a text from being told.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// GitHub refuses or does not answer.
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Teller {
    /// Puts what is to be told where it belongs; returns its number, where it has one.
    pub(super) async fn put(&self, talk: &Conversation<'_>, what: &What) -> Result<Option<u64>, WriteError> {
        let row = talk.row.as_ref();
        match what {
            What::Comment { marker, body } => {
                Ok(Some(self.put_comment(talk.pull, &talk.key, row, marker, body).await?))
            }
            What::Check(check) => self.put_check(&talk.key, row, check).await,
        }
    }

    /// Puts the comment of a pull request; returns its number.
    async fn put_comment(
        &self,
        pull: &PullKey,
        key: &ReportKey,
        row: Option<&ReportRow>,
        marker: &Marker,
        body: &str,
    ) -> Result<u64, WriteError> {
        if let Some(id) = row.and_then(|row| row.remote_id)
            && self.github.update_comment(&pull.repository, id, body).await?.is_some()
        {
            return Ok(id);
        }
        // Not known, or deleted by somebody.
        if let Some(id) = self.find_comment(pull, marker, body).await? {
            return Ok(id);
        }
        self.begin(key).await?;
        Ok(self.github.create_comment(&pull.repository, pull.number, body).await?.id)
    }

    /// Puts a reply, once: one that is there already is left.
    pub(super) async fn put_reply(&self, pull: &PullKey, marker: &Marker, text: &str) -> Result<(), WriteError> {
        let body = format!("{}\n\n{marker}", defuse(text));
        if self.find_comment(pull, marker, &body).await?.is_none() {
            self.github.create_comment(&pull.repository, pull.number, &body).await?;
        }
        Ok(())
    }

    /// Our own comment with this marker, brought up to date. Others may have copied the marker: only ours count, and of
    /// several the first.
    async fn find_comment(&self, pull: &PullKey, marker: &Marker, body: &str) -> Result<Option<u64>, GitHubError> {
        let own = self.github.identity().await?;
        let comments = self.github.comments(&pull.repository, pull.number).await?;
        let is_own = |id: Option<u64>| id == Some(own.id);
        for comment in comments {
            if is_own(comment.author.map(|author| author.id)) && marker.is_in(&comment.body) {
                let there = comment.body == body
                    || self.github.update_comment(&pull.repository, comment.id, body).await?.is_some();
                if there {
                    return Ok(Some(comment.id));
                }
            }
        }
        Ok(None)
    }

    /// Puts a commit's check: a check run as an App, a status with a token. Returns its number, where it has one.
    async fn put_check(
        &self,
        key: &ReportKey,
        row: Option<&ReportRow>,
        check: &Check,
    ) -> Result<Option<u64>, WriteError> {
        match key.kind {
            ReportKind::CheckRun => Ok(Some(self.put_check_run(key, row, check).await?)),
            ReportKind::Status | ReportKind::Comment => {
                self.github.set_status(&key.repository, &check.sha, &status(check)).await?;
                Ok(None)
            }
        }
    }

    async fn put_check_run(&self, key: &ReportKey, row: Option<&ReportRow>, check: &Check) -> Result<u64, WriteError> {
        let run = check_run(check);
        if let Some(id) = row.and_then(|row| row.remote_id)
            && self.github.update_check_run(&key.repository, id, &run).await?.is_some()
        {
            return Ok(id);
        }
        let app = self.config.github.app.as_ref().map(|app| app.id);
        for seen in self.github.check_runs(&key.repository, &check.sha, &check.name).await? {
            let own = seen.app.is_none_or(|seen| Some(seen.id) == app)
                && seen.external_id.as_deref() == Some(run.external_id.as_str());
            if own && self.github.update_check_run(&key.repository, seen.id, &run).await?.is_some() {
                return Ok(seen.id);
            }
        }
        self.begin(key).await?;
        Ok(self.github.create_check_run(&key.repository, &run).await?)
    }

    /// Writes down that a creation is under way, before it is.
    async fn begin(&self, key: &ReportKey) -> Result<(), StoreError> {
        let mut write = self.store.write(Step::BeginReport).await?;
        write.begin_report(key, self.clock.now()).await?;
        write.commit().await
    }

    /// How checks are told, as whom we are.
    pub(super) fn check_kind(&self) -> ReportKind {
        match self.github.acts_as() {
            Acting::App => ReportKind::CheckRun,
            Acting::Token | Acting::Anonymous => ReportKind::Status,
        }
    }
}

/// The marker of a reply.
pub(super) fn reply_marker(pull: &PullKey, key: &str, name: &str) -> Marker {
    Marker {
        what: format!("answer-{}", hash(key)),
        repository: pull.repository.clone(),
        number: pull.number,
        name: name.to_owned(),
    }
}

fn check_run(check: &Check) -> CheckRun {
    CheckRun {
        name: check.name.clone(),
        sha: check.sha.clone(),
        external_id: "benchd".to_owned(),
        details_url: check.details_url.as_ref().and_then(|url| Url::parse(url).ok()),
        started_at: check.started_at,
        state: match check.phase {
            CheckPhase::Queued => CheckState::Queued,
            CheckPhase::InProgress => CheckState::InProgress,
            CheckPhase::Completed(end) => CheckState::Completed(conclusion(end)),
        },
        output: CheckOutput { title: check.title.clone(), summary: check.summary.clone(), text: None },
    }
}

/// Only what the commit's own benchmarks did fails a check; everything else blocks nobody.
fn conclusion(end: CheckEnd) -> CheckConclusion {
    match end {
        CheckEnd::Good => CheckConclusion::Success,
        CheckEnd::BenchmarksFailed => CheckConclusion::Failure,
        CheckEnd::Cancelled => CheckConclusion::Cancelled,
        CheckEnd::Skipped => CheckConclusion::Skipped,
        CheckEnd::Undecided | CheckEnd::HouseFailed | CheckEnd::Superseded | CheckEnd::Waiting => {
            CheckConclusion::Neutral
        }
    }
}

/// A status knows no "neutral": what blocks nobody is a success that says in words what it is.
fn status(check: &Check) -> Status {
    let state = match check.phase {
        CheckPhase::Queued | CheckPhase::InProgress => StatusState::Pending,
        CheckPhase::Completed(CheckEnd::BenchmarksFailed) => StatusState::Failure,
        CheckPhase::Completed(CheckEnd::HouseFailed | CheckEnd::Cancelled) => StatusState::Error,
        CheckPhase::Completed(
            CheckEnd::Good | CheckEnd::Undecided | CheckEnd::Superseded | CheckEnd::Waiting | CheckEnd::Skipped,
        ) => StatusState::Success,
    };
    Status {
        state,
        context: check.name.clone(),
        description: clean(&check.title, LONGEST_STATUS),
        target_url: check.details_url.as_ref().and_then(|url| Url::parse(url).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_failed_benchmarks_fails_a_check() {
        let check = |phase| Check {
            sha: "1".repeat(40).parse().unwrap(),
            name: "benchd".into(),
            phase,
            title: "x".repeat(500),
            summary: String::new(),
            started_at: None,
            details_url: None,
        };
        for end in CheckEnd::ALL {
            let failed = end == CheckEnd::BenchmarksFailed;
            assert_eq!(conclusion(end) == CheckConclusion::Failure, failed, "{end:?}");
            let status = status(&check(CheckPhase::Completed(end)));
            assert_eq!(status.state == StatusState::Failure, failed, "{end:?}");
            assert!(status.state != StatusState::Pending && status.description.chars().count() <= LONGEST_STATUS);
        }
        assert_eq!(status(&check(CheckPhase::Queued)).state, StatusState::Pending);
    }
}
