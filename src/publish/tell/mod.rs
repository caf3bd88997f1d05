//! Tells pull requests how their runs stand. Level-triggered: what a pull request should be told is rendered from the
//! rows, and told where it differs from what was told last. A kill at any moment is a restart, and doubles nothing.

mod answers;
mod pace;
mod read;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, RepositoryConfig};
use crate::github::{Acting, GitHub};
use crate::health::{Health, Part, Pulse, with_causes};
use crate::model::{RunId, RunState};
use crate::publish::report::{Check, Marker, check, comment, state_key};
use crate::queue::Queue;
use crate::queue::place::QueueView;
use crate::step::Step;
use crate::store::{
    OutboxRow, OwedKind, OwedState, PullKey, ReportKey, ReportKind, ReportRow, Store, StoreError, Told,
};
use pace::{Failed, When, judge, told, when};
use write::WriteError;

/// How often the rows are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A running run's progress is told this often at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);
/// A waiting run's place, and the progress in a check.
const PLACES_EVERY: Duration = Duration::from_secs(300);
/// Progress is told so often in an hour at most, over all pull requests. GitHub takes 500 writes of content an hour: the
/// rest is for what happened.
const PROGRESS_AN_HOUR: usize = 240;

/// What was in trouble and is not tried again for so long after its time is not wanted any more.
const TROUBLE_ENDS_AFTER: TimeDelta = TimeDelta::hours(1);

/// Tells pull requests how their runs stand.
pub struct Teller {
    store: Store,
    queue: Queue,
    github: GitHub,
    config: Arc<Config>,
    health: Health,
    clock: Clock,
    rest: Mutex<Rest>,
}

/// What the teller remembers between two looks; losing it costs some requests.
#[derive(Debug, Default)]
struct Rest {
    /// Nothing is told before this instant: GitHub does not answer, or asked for silence.
    until: Option<DateTime<Utc>>,
    /// When progress was told in the last hour.
    progress: VecDeque<DateTime<Utc>>,
    /// What could not be told and is tried again: why, and when.
    troubles: BTreeMap<Topic, (String, DateTime<Utc>)>,
    /// The answers of ended runs, which do not change any more.
    answers: BTreeMap<RunId, (RunState, String)>,
}

/// What may be in trouble: something of a pull request, by the subject of its conversation or the key of its answer.
type Topic = (PullKey, String);

/// What became of something that was to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// It is told.
    Told,
    /// It is told later.
    Later {
        /// Not before.
        at: DateTime<Utc>,
        /// Why, where something failed.
        error: Option<String>,
    },
    /// It will never be told.
    Refused(String),
}

/// One thing to be told: where, by which row, and what is known of it.
struct Conversation<'a> {
    pull: &'a PullKey,
    key: ReportKey,
    row: Option<ReportRow>,
    next: Told,
}

/// What is told.
enum What {
    Comment { marker: Marker, body: String },
    Check(Check),
}

impl Teller {
    /// The teller of one store; `github` is who it speaks as.
    pub fn new(store: Store, queue: Queue, github: GitHub, config: Arc<Config>, health: Health, clock: Clock) -> Self {
        Self { store, queue, github, config, health, clock, rest: Mutex::default() }
    }

    /// Tells what there is to tell, again and again, until `stop`.
    pub async fn run(self, pulse: Pulse, stop: CancellationToken) {
        if self.github.acts_as() == Acting::Anonymous {
            tracing::info!("pull requests are not told anything: neither `github.app` nor a token is configured");
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            pulse.beat();
            // A request that is cut off by the stop is one whose answer was lost: the next start looks for its trace.
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.tell_due(|| pulse.beat()) => done,
            };
            if let Err(error) = done {
                // Reading alone may work while nothing can be written: well it is when settling says so.
                self.health.trouble(Part::Database, with_causes(&error));
                tracing::warn!("failed to tell pull requests: {}", with_causes(&error));
            }
        }
    }

    /// Tells everything that is due, once. `beat` is called between two things.
    ///
    /// # Errors
    /// When the store fails; what GitHub does not take stays owed.
    pub async fn tell_due(&self, beat: impl Fn()) -> Result<(), StoreError> {
        if self.is_resting() {
            return Ok(());
        }
        self.forget_troubles();
        self.answer_due(&beat).await?;
        let pulls = self.store.pulls_to_tell(self.clock.now()).await?;
        if pulls.is_empty() {
            return Ok(());
        }
        let view = self.queue.view().await?;
        for pull in &pulls {
            if self.is_resting() {
                break;
            }
            beat();
            self.tell_pull(pull, &view).await?;
        }
        Ok(())
    }

    /// Tells one pull request and the commits that were measured for it, and settles what they were owed.
    async fn tell_pull(&self, pull: &PullKey, view: &QueueView) -> Result<(), StoreError> {
        let Some(repository) = self.speaks_for(pull) else {
            return self.keep(pull, "the repository is not configured, or GitHub is not").await;
        };
        let owed = self.store.owed_to_pull(pull).await?;
        let Some(report) = self.pull_report(pull, repository, view).await? else {
            return self.keep(pull, "its runs are gone").await;
        };
        if repository.report.comment {
            let progress = if report.run.state == RunState::Running { PROGRESS_EVERY } else { PLACES_EVERY };
            let text = comment(&report);
            let talk = self.conversation(pull, ReportKey::comment(pull), &state_key(&report), &text).await?;
            let marker = Marker::of(&report);
            let told = self.tell(&talk, progress, &What::Comment { marker, body: text }).await?;
            self.settle(owed.iter().filter(|row| row.owed.kind == OwedKind::Comment), &told).await?;
        } else {
            self.keep_rows(owed.iter().filter(|row| row.owed.kind == OwedKind::Comment), "comments are off").await?;
        }
        self.tell_checks(pull, repository, view, &owed).await
    }

    /// Tells the commits of a pull request: the newest run's, and those whose ended runs still owe it.
    async fn tell_checks(
        &self,
        pull: &PullKey,
        repository: &RepositoryConfig,
        view: &QueueView,
        owed: &[OutboxRow],
    ) -> Result<(), StoreError> {
        let checks = || owed.iter().filter(|row| row.owed.kind == OwedKind::CheckRun);
        if !repository.report.check {
            return self.keep_rows(checks(), "checks are off").await;
        }
        for report in self.check_reports(pull, repository, view, owed).await? {
            let check = check(&report);
            let subject = check.sha.to_string();
            // A status is told changes only: GitHub keeps a thousand of each commit and name, and no text.
            let text = match self.check_kind() {
                ReportKind::Status => state_key(&report),
                ReportKind::CheckRun | ReportKind::Comment => format!("{}\n{}", check.title, check.summary),
            };
            let key = ReportKey { repository: pull.repository.clone(), kind: self.check_kind(), subject };
            let talk = self.conversation(pull, key, &state_key(&report), &text).await?;
            let told = self.tell(&talk, PLACES_EVERY, &What::Check(check)).await?;
            self.settle(checks().filter(|row| row.owed.subject == talk.key.subject), &told).await?;
        }
        Ok(())
    }

    async fn conversation<'a>(
        &self,
        pull: &'a PullKey,
        key: ReportKey,
        state: &str,
        text: &str,
    ) -> Result<Conversation<'a>, StoreError> {
        let row = self.store.report(&key).await?;
        Ok(Conversation { pull, key, row, next: told(state, text, self.clock.now()) })
    }

    /// Tells one thing if it is time, and writes down what came of it.
    async fn tell(&self, talk: &Conversation<'_>, progress: Duration, what: &What) -> Result<Telling, StoreError> {
        match when(talk.row.as_ref(), &talk.next, progress) {
            When::Told => {
                self.renew(talk).await?;
                return Ok(Telling::Told);
            }
            When::At(at) => return Ok(Telling::Later { at, error: None }),
            When::Progress if !self.may_tell_progress() => {
                return Ok(Telling::Later { at: talk.next.at + TimeDelta::minutes(5), error: None });
            }
            When::Progress | When::Now => {}
        }
        // What came before it in this look met a GitHub that does not answer.
        if let Some(at) = self.resting_until() {
            return Ok(Telling::Later { at, error: None });
        }
        let put = self.put(talk, what).await;
        let topic = (talk.pull.clone(), talk.key.subject.clone());
        let mut write = self.store.write(Step::NoteReport).await?;
        let telling = match put {
            Ok(remote) => {
                write.report_told(&talk.key, remote, &talk.next).await?;
                self.well(&topic);
                tracing::info!("told {} {}", talk.key.repository, talk.key.subject);
                Telling::Told
            }
            Err(WriteError::Store(error)) => return Err(error),
            Err(WriteError::GitHub(error)) => {
                let attempts = talk.row.as_ref().map_or(0, |row| row.attempts);
                let telling = self.failed(&error, attempts, topic).await;
                let (at, reason) = match &telling {
                    Telling::Later { at, error } => (*at, error.clone().unwrap_or_default()),
                    // Something new may be told again one day, not the same at once.
                    Telling::Refused(reason) => (self.clock.now() + TimeDelta::hours(1), reason.clone()),
                    Telling::Told => (self.clock.now(), String::new()),
                };
                write.postpone_report(&talk.key, &reason, at).await?;
                telling
            }
        };
        write.commit().await?;
        Ok(telling)
    }

    /// Writes down that news of the pull request do not change what it was told, so that they are not looked at again.
    async fn renew(&self, talk: &Conversation<'_>) -> Result<(), StoreError> {
        let Some(ReportRow { remote_id, told: Some(told), .. }) = &talk.row else { return Ok(()) };
        let known = self.store.pull(&talk.pull.repository, talk.pull.number).await?;
        let news = known.map(|pull| pull.head_seen_at.max(pull.turned_at)).filter(|news| *news > told.at);
        if let Some(news) = news.filter(|_| talk.key.kind == ReportKind::Comment) {
            let mut write = self.store.write(Step::NoteReport).await?;
            let next = Told { at: news.max(talk.next.at), ..talk.next.clone() };
            write.report_told(&talk.key, *remote_id, &next).await?;
            write.commit().await?;
        }
        Ok(())
    }

    /// What a refusal means: for this, and for everything else.
    async fn failed(&self, error: &crate::github::GitHubError, attempts: u32, topic: Topic) -> Telling {
        let now = self.clock.now();
        let pull = &topic.0;
        let reason = with_causes(error);
        let mut failed = judge(error, attempts, now);
        if failed == Failed::Gone {
            // A pull request that is gone is told nothing any more; a repository that we may not see is waited for.
            failed = match self.github.repository(&pull.repository).await {
                Ok(Some(_)) => Failed::Never,
                Ok(None) | Err(_) => {
                    Failed::Later { at: now + TimeDelta::minutes(5), everything: false, trouble: true }
                }
            };
        }
        match failed {
            Failed::Later { at, everything, trouble } => {
                if everything {
                    self.rest().until = Some(at);
                }
                tracing::info!("{} #{} is told later, at {at}: {reason}", pull.repository, pull.number);
                if trouble {
                    self.health.trouble(Part::Reports, reason.clone());
                    self.rest().troubles.insert(topic, (reason.clone(), at));
                }
                Telling::Later { at, error: Some(reason) }
            }
            Failed::TooLong | Failed::Gone | Failed::Never => {
                tracing::warn!("{} #{} will not be told: {reason}", pull.repository, pull.number);
                self.well(&topic);
                Telling::Refused(reason)
            }
        }
    }

    /// Ends the trouble of one thing, which is told, or never will be; that of others stands.
    fn well(&self, topic: &Topic) {
        self.rest().troubles.remove(topic);
        self.report_troubles();
    }

    /// Ends troubles of what is not to be told any more, whatever became of it.
    fn forget_troubles(&self) {
        let now = self.clock.now();
        let all = self.rest().troubles.len();
        self.rest().troubles.retain(|_, (_, again_at)| now < *again_at + TROUBLE_ENDS_AFTER);
        if self.rest().troubles.len() < all {
            self.report_troubles();
        }
    }

    fn report_troubles(&self) {
        let left = self.rest().troubles.values().next().map(|(reason, _)| reason.clone());
        match left {
            Some(reason) => self.health.trouble(Part::Reports, reason),
            None => self.health.well(Part::Reports),
        }
    }

    /// Settles rows of the outbox by what became of their conversation.
    async fn settle(&self, rows: impl Iterator<Item = &OutboxRow>, telling: &Telling) -> Result<(), StoreError> {
        let rows: Vec<&OutboxRow> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut write = self.store.write(Step::SettleReport).await?;
        for row in rows {
            // Somebody else may have settled it meanwhile.
            let _outcome = match telling {
                Telling::Told => write.settle_owed(row.id, OwedState::Delivered, None, now).await?,
                Telling::Refused(reason) => write.settle_owed(row.id, OwedState::Refused, Some(reason), now).await?,
                Telling::Later { at, error: Some(error) } => write.postpone_owed(row.id, error, *at).await?,
                Telling::Later { error: None, .. } => continue,
            };
        }
        write.commit().await?;
        // A run that owes nothing more is published.
        let _moved = self.queue.settle().await?;
        Ok(())
    }

    /// Settles everything that a pull request was owed: it is rightly not told.
    async fn keep(&self, pull: &PullKey, why: &str) -> Result<(), StoreError> {
        let owed = self.store.owed_to_pull(pull).await?;
        self.keep_rows(owed.iter(), why).await
    }

    async fn keep_rows(&self, rows: impl Iterator<Item = &OutboxRow>, why: &str) -> Result<(), StoreError> {
        let rows: Vec<&OutboxRow> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut write = self.store.write(Step::KeepReport).await?;
        for row in rows {
            let _outcome = write.settle_owed(row.id, OwedState::Kept, Some(why), now).await?;
        }
        write.commit().await?;
        let _moved = self.queue.settle().await?;
        Ok(())
    }

    /// The repository of a pull request, where we may speak.
    fn speaks_for(&self, pull: &PullKey) -> Option<&RepositoryConfig> {
        if self.github.acts_as() == Acting::Anonymous {
            return None;
        }
        self.config.repositories.iter().find(|repository| repository.name == pull.repository)
    }

    /// Until when nothing is told, when nothing is told now.
    fn resting_until(&self) -> Option<DateTime<Utc>> {
        let now = self.clock.now();
        let mut rest = self.rest();
        // An instant far ahead is from before the clock was set back.
        rest.until = rest.until.filter(|until| now < *until && *until < now + TimeDelta::hours(2));
        rest.until
    }

    fn is_resting(&self) -> bool {
        self.resting_until().is_some()
    }

    /// Whether one write more may be spent on progress; counts it.
    fn may_tell_progress(&self) -> bool {
        let now = self.clock.now();
        let mut rest = self.rest();
        while rest.progress.front().is_some_and(|at| *at <= now - TimeDelta::hours(1) || *at > now) {
            rest.progress.pop_front();
        }
        let may = rest.progress.len() < PROGRESS_AN_HOUR;
        if may {
            rest.progress.push_back(now);
        }
        may
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        // Every change is one step: whoever panicked beside it left nothing half done.
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
