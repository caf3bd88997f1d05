//! What no webhook told of: every few minutes GitHub is asked how pull requests, branches, tags and comments stand, and
//! what differs from the rows is marked to be looked at. What has not changed is asked conditionally and costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::delivery::{event_name, is_release, may_be_command};
use super::looks::LookError;
use super::merge::source_of;
use super::policy::wants_target;
use super::source::HistoryError;
use crate::config::{ForkPolicy, PullRequestTrigger, RepositoryConfig};
use crate::github::{Acting, GitHub, GitHubError, HookDelivery, Pull, Tag};
use crate::health::{Health, Part, Pulse};
use crate::model::{Origin, Standing};
use crate::step::Step;
use crate::store::{FollowedRow, LookKind, Mark, PullRow};

/// Why a reconcile marks something, for people.
const REASON: &str = "reconcile";

/// GitHub delivers again only what is younger (3 days), with an hour to spare.
const REDELIVERED_FOR: TimeDelta = TimeDelta::hours(71);

/// Deliveries are looked for so far back the first time.
const FIRST_LOOK_BACK: TimeDelta = TimeDelta::hours(1);

/// A delivery is listed so soon after it was made, and tried no longer.
const LISTED_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// At most so many deliveries are asked for again at a time.
const MOST_REDELIVERED: usize = 20;

/// A delivery that failed so often is not asked for again.
const MOST_TRIES: usize = 3;

/// How long deliveries are kept.
const KEEP: TimeDelta = TimeDelta::days(35);

/// How often the task shows that it lives while it waits.
const BEAT_EVERY: Duration = Duration::from_secs(60);

/// How soon GitHub is asked again after it did not answer, if `github.reconcile` is not sooner.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What a reconcile of one repository found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Kind and key of everything that is looked at because of it.
    pub marked: BTreeSet<String>,
}

/// Reconciles at once and then again and again until `shutdown`.
pub async fn run(context: Context, health: Health, pulse: Pulse, shutdown: CancellationToken) {
    loop {
        pulse.beat();
        let wait = tokio::select! {
            () = shutdown.cancelled() => return,
            wait = reconcile(&context, &health) => wait,
        };
        let again = tokio::time::sleep(wait);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = &mut again => break,
                () = tokio::time::sleep(BEAT_EVERY) => pulse.beat(),
            }
        }
    }
}

/// Reconciles every repository, and says how long to wait before the next time.
async fn reconcile(context: &Context, health: &Health) -> Duration {
    let every = context.config.github.reconcile;
    let mut failed = None;
    for repository in &context.config.repositories {
        match reconcile_one(context, repository).await {
            Ok(found) if found.marked.is_empty() => {}
            Ok(found) => {
                let marked: Vec<_> = found.marked.into_iter().collect();
                tracing::info!("found without a webhook in {}: {}", repository.name, marked.join(", "));
            }
            Err(error) => {
                tracing::warn!(
                    "failed to reconcile {}, trying again: {}",
                    repository.name,
                    crate::health::with_causes(&error)
                );
                failed = Some(error);
            }
        }
    }
    if failed.is_none()
        && let Err(error) = redeliver(context).await
    {
        tracing::warn!("failed to ask for lost deliveries, trying again: {}", crate::health::with_causes(&error));
        failed = Some(error);
    }
    match failed {
        Some(error) => {
            // An outage of the store is told by those who need it more.
            if !matches!(error, LookError::Store(_)) {
                health.trouble(Part::Github, crate::health::with_causes(&error));
            }
            let soon = if error.is_transient() { every.min(AGAIN_AFTER) } else { every };
            error.retry_after().map_or(soon, |told| told.max(soon))
        }
        None => {
            if context.github.as_ref().is_some_and(is_known) {
                health.well(Part::Github);
            }
            every
        }
    }
}

/// Whether GitHub knows us: sixty requests an hour are not enough to follow anything.
fn is_known(github: &GitHub) -> bool {
    match github.acts_as() {
        Acting::App | Acting::Token => true,
        Acting::Anonymous => false,
    }
}

/// Asks how a repository stands and marks what differs from the rows. The first time, tags and tips are only written
/// down: what is there already is not news.
///
/// # Errors
/// When GitHub does not say, or the store fails; what was marked before stays.
pub async fn reconcile_one(context: &Context, repository: &RepositoryConfig) -> Result<Found, LookError> {
    let mut found = Found::default();
    let Some(github) = context.github.as_ref().filter(|github| is_known(github)) else {
        if repository.checkout.is_some() {
            branches(context, repository, &mut found).await?;
        }
        return Ok(found);
    };
    let followed = follow(context, github, repository).await?;
    let triggers = &repository.triggers;
    if triggers.pull_request.enabled {
        pulls(context, github, repository, &mut found).await?;
    }
    if triggers.merge.enabled {
        branches(context, repository, &mut found).await?;
    }
    if triggers.release.enabled {
        tags(context, github, repository, followed.is_none(), &mut found).await?;
    }
    if triggers.pull_request.enabled && triggers.pull_request.commands.enabled {
        comments(context, github, repository, followed.as_ref(), &mut found).await?;
    }
    if followed.is_none() {
        // Last, so that a first time that failed is a first time again.
        let id = github.repository(&repository.name).await?.map(|known| known.id);
        let mut write = context.store.write(Step::FollowRepository).await?;
        write.follow_repository(&repository.name, id, context.clock.now()).await?;
        write.commit().await?;
    }
    let mut write = context.store.write(Step::ForgetDeliveries).await?;
    write.forget_deliveries(context.clock.now() - KEEP).await?;
    write.commit().await?;
    Ok(found)
}

/// The repository as it is followed, with GitHub's number for it as it is now.
async fn follow(
    context: &Context,
    github: &GitHub,
    repository: &RepositoryConfig,
) -> Result<Option<FollowedRow>, LookError> {
    let followed = context.store.followed().await?.into_iter().find(|row| row.repository == repository.name);
    let Some(known) = github.repository(&repository.name).await? else { return Ok(followed) };
    if !known.full_name.as_str().eq_ignore_ascii_case(repository.name.as_str()) {
        tracing::warn!(
            "{} is called {} now: change `repositories[].name` when it suits; until then redirects are followed",
            repository.name,
            known.full_name
        );
    }
    if followed.as_ref().is_some_and(|row| row.github_id != Some(known.id)) {
        let mut write = context.store.write(Step::FollowRepository).await?;
        write.follow_repository(&repository.name, Some(known.id), context.clock.now()).await?;
        write.commit().await?;
    }
    Ok(followed)
}

/// Kind and key of what is looked at, and what GitHub does not tell later.
type Thing = (LookKind, String, Value);

async fn mark(
    context: &Context,
    repository: &RepositoryConfig,
    things: Vec<Thing>,
    found: &mut Found,
) -> Result<(), LookError> {
    if things.is_empty() {
        return Ok(());
    }
    let now = context.clock.now();
    let mut write = context.store.write(Step::MarkFound).await?;
    for (kind, key, facts) in things {
        write.look_at(&Mark::at_once(&repository.name, kind, &key, REASON, now).knowing(facts), now).await?;
        found.marked.insert(format!("{} {key}", kind.as_str()));
    }
    write.commit().await?;
    Ok(())
}

async fn pulls(
    context: &Context,
    github: &GitHub,
    repository: &RepositoryConfig,
    found: &mut Found,
) -> Result<(), LookError> {
    let open = github.open_pulls(&repository.name).await?;
    let known = context.store.open_pulls(&repository.name).await?;
    let changed = changed_pulls(&open, &known, &repository.triggers.pull_request);
    let marks = changed.into_iter().map(|number| (LookKind::Pull, number.to_string(), json!({})));
    mark(context, repository, marks.collect(), found).await
}

/// Pure: the pull requests that stand otherwise than the rows say, as far as a label makes them matter.
fn changed_pulls(open: &[Pull], known: &[PullRow], policy: &PullRequestTrigger) -> BTreeSet<u64> {
    let rows: BTreeMap<u64, &PullRow> = known.iter().map(|row| (row.number, row)).collect();
    let matters = |label: &String| policy.labels.contains(label);
    let mut changed = BTreeSet::new();
    for pull in open {
        let labels: BTreeSet<&String> = pull.labels.iter().filter(|label| matters(label)).collect();
        let differs = match rows.get(&pull.number) {
            None => !labels.is_empty(),
            Some(row) => {
                let before: BTreeSet<&String> = row.labels.iter().filter(|label| matters(label)).collect();
                let same_standing = (row.standing == Standing::Draft) == pull.draft;
                // An approving label may have been taken away and set again: only the instant tells.
                let may_be_approved = policy.forks == ForkPolicy::ApproveEachCommit
                    && row.origin == Origin::Fork
                    && pull.updated_at > row.updated_at;
                labels != before
                    || (!labels.is_empty() && (row.head != pull.head.sha || !same_standing || may_be_approved))
            }
        };
        if differs {
            changed.insert(pull.number);
        }
    }
    let still: BTreeSet<u64> = open.iter().map(|pull| pull.number).collect();
    changed.extend(rows.keys().filter(|number| !still.contains(number)));
    changed
}

async fn branches(context: &Context, repository: &RepositoryConfig, found: &mut Found) -> Result<(), LookError> {
    let source = source_of(context, repository)?;
    let mut moved = Vec::new();
    for branch in &repository.branch {
        let tip = match source.branch(&repository.name, branch, 1).await {
            Ok(found) => found.commits.into_iter().next().map(|commit| commit.sha),
            Err(HistoryError::NoBranch { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if tip.is_some() && tip != context.store.branch_tip(&repository.name, branch).await? {
            moved.push((LookKind::Merge, branch.to_string(), json!({})));
        }
    }
    mark(context, repository, moved, found).await
}

async fn tags(
    context: &Context,
    github: &GitHub,
    repository: &RepositoryConfig,
    first: bool,
    found: &mut Found,
) -> Result<(), LookError> {
    let tags = github.tags(&repository.name).await?;
    let known = context.store.known_tags(&repository.name).await?;
    let news: Vec<&Tag> = tags.iter().filter(|tag| known.get(&tag.name) != Some(&tag.sha)).collect();
    let measured = !first && wants_target(&repository.selection.release.targets, &context.target);
    let (releases, others): (Vec<&Tag>, Vec<&Tag>) =
        news.into_iter().partition(|tag| measured && is_release(repository, &tag.name));
    if !others.is_empty() {
        let now = context.clock.now();
        let mut write = context.store.write(Step::KeepTags).await?;
        for tag in others {
            // One that a webhook told of while the first reconcile was under way is news all the same.
            if !write.is_marked(&repository.name, LookKind::Tag, &tag.name).await? {
                write.keep_tag(&repository.name, &tag.name, &tag.sha, now).await?;
            }
        }
        write.commit().await?;
    }
    let marks = releases.into_iter().map(|tag| (LookKind::Tag, tag.name.clone(), json!({})));
    mark(context, repository, marks.collect(), found).await
}

async fn comments(
    context: &Context,
    github: &GitHub,
    repository: &RepositoryConfig,
    followed: Option<&FollowedRow>,
    found: &mut Found,
) -> Result<(), LookError> {
    // The same instant is asked for until something newer is there: so the answer may be "not modified".
    let Some(since) = followed.map(|row| row.comments_seen_at.unwrap_or(row.since)) else { return Ok(()) };
    let since = since.trunc_subsecs(0);
    let comments = github.comments_since(&repository.name, since).await?;
    let new = comments
        .iter()
        .filter(|comment| comment.created_at >= since || comment.updated_at > since)
        .filter(|comment| may_be_command(&comment.body));
    let marks = new
        .filter_map(|comment| Some((LookKind::Comment, comment.id.to_string(), json!({ "number": comment.number? }))));
    mark(context, repository, marks.collect(), found).await?;
    let newest = comments.iter().map(|comment| comment.updated_at).max();
    if let Some(newest) = newest.filter(|newest| *newest > since) {
        let mut write = context.store.write(Step::KeepCommentsSeen).await?;
        write.keep_comments_seen(&repository.name, newest).await?;
        write.commit().await?;
    }
    Ok(())
}

/// Asks for the deliveries again that failed. What they tell is mostly found without them; a check run that is wanted
/// again is not.
pub async fn redeliver(context: &Context) -> Result<(), LookError> {
    let config = &context.config.github;
    let Some(github) = context.github.as_ref().filter(|github| github.acts_as() == Acting::App) else { return Ok(()) };
    if config.webhook_secret_files.is_empty() {
        return Ok(());
    }
    let now = context.clock.now();
    let seen = context.store.deliveries_seen_at().await?;
    let since = seen.map_or(now - FIRST_LOOK_BACK, |seen| seen - LISTED_WITHIN).max(now - REDELIVERED_FOR);
    let tried = github.hook_deliveries(since).await?;
    let open = failed(&tried);
    for Open { last, .. } in open.iter().take(MOST_REDELIVERED) {
        tracing::info!("asking GitHub for a delivery that failed once more");
        match github.redeliver(*last).await {
            Err(GitHubError::Invalid { message, .. }) => {
                tracing::warn!("GitHub does not deliver {last} again: {message}")
            }
            redelivered => redelivered?,
        }
    }
    // Whether it is taken now is seen the next time.
    let upto = open.first().map(|open| open.since).or_else(|| tried.iter().map(|tried| tried.delivered_at).max());
    if let Some(upto) = upto.filter(|upto| Some(*upto) != seen) {
        let mut write = context.store.write(Step::KeepDeliveriesSeen).await?;
        write.keep_deliveries_seen(upto).await?;
        write.commit().await?;
    }
    Ok(())
}

/// A delivery that may be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    /// When it was tried first.
    since: DateTime<Utc>,
    /// Its last attempt.
    last: u64,
}

/// Pure: every delivery of a known event that never was taken and has not failed too often, oldest first.
fn failed(tried: &[HookDelivery]) -> Vec<Open> {
    let mut events: BTreeMap<&str, Vec<&HookDelivery>> = BTreeMap::new();
    for attempt in tried {
        events.entry(attempt.guid.as_str()).or_default().push(attempt);
    }
    let open = events.into_values().filter(|attempts| {
        let known = attempts.iter().all(|attempt| event_name(&attempt.event) != "other");
        known && attempts.len() < MOST_TRIES && !attempts.iter().any(|attempt| attempt.was_taken())
    });
    let since = |attempts: &[&HookDelivery]| attempts.iter().map(|attempt| attempt.delivered_at).min();
    let last = |attempts: &[&HookDelivery]| attempts.iter().map(|attempt| attempt.id).max();
    let mut open: Vec<_> =
        open.filter_map(|attempts| Some(Open { since: since(&attempts)?, last: last(&attempts)? })).collect();
    open.sort_unstable();
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::{PullSide, PullState};
    use crate::model::{CommitSha, Origin};

    fn sha(digit: &str) -> CommitSha {
        digit.repeat(40).parse().unwrap()
    }

    fn pull(number: u64, head: &str, labels: &[&str]) -> Pull {
        let side = PullSide { sha: sha(head), branch: "b".to_owned(), repository: None };
        Pull {
            number,
            state: PullState::Open,
            draft: false,
            title: String::new(),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            author: None,
            head: side.clone(),
            base: side,
            updated_at: DateTime::UNIX_EPOCH,
            commits: None,
        }
    }

    fn row(number: u64, head: &str, labels: &[&str], standing: Standing) -> PullRow {
        PullRow {
            repository: "o/r".parse().unwrap(),
            number,
            head: sha(head),
            head_seen_at: DateTime::UNIX_EPOCH,
            head_updated_at: DateTime::UNIX_EPOCH,
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            standing,
            turned_at: DateTime::UNIX_EPOCH,
            origin: Origin::Own,
            author: None,
            base_branch: "main".to_owned(),
            said: None,
            said_count: 0,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_pull_request_is_looked_at_when_a_label_makes_its_change_matter() {
        let changed = |open: &[Pull], known: &[PullRow]| {
            let found = changed_pulls(open, known, &PullRequestTrigger::default());
            found.into_iter().collect::<Vec<_>>()
        };
        let ready = Standing::Ready;
        assert_eq!(changed(&[pull(1, "a", &["bug"]), pull(2, "a", &["ready"])], &[]), [2]);
        assert_eq!(changed(&[pull(1, "a", &["ready", "bug"])], &[row(1, "a", &["ready"], ready)]), [0; 0]);
        assert_eq!(changed(&[pull(1, "b", &["ready"])], &[row(1, "a", &["ready"], ready)]), [1], "pushed");
        assert_eq!(changed(&[pull(1, "b", &["bug"])], &[row(1, "a", &[], ready)]), [0; 0], "nobody wants it");
        assert_eq!(changed(&[pull(1, "a", &[])], &[row(1, "a", &["ready"], ready)]), [1], "unlabelled");
        assert_eq!(changed(&[pull(1, "a", &["ready"])], &[row(1, "a", &["ready"], Standing::Draft)]), [1]);
        assert_eq!(changed(&[], &[row(1, "a", &[], ready)]), [1], "closed or merged");
    }

    #[test]
    fn a_delivery_that_was_never_taken_is_asked_for_again_and_not_for_ever() {
        let at = |id: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(id);
        let tried = |id: i64, guid: &str, event: &str, status_code| HookDelivery {
            id: id.try_into().unwrap(),
            guid: guid.to_owned(),
            delivered_at: at(id),
            redelivery: false,
            status_code,
            event: event.to_owned(),
            action: None,
            repository_id: None,
        };
        let all = [
            tried(1, "lost", "check_run", 0),
            tried(2, "lost", "check_run", 503),
            tried(3, "taken later", "push", 0),
            tried(4, "taken later", "push", 202),
            tried(5, "of no use", "star", 0),
            tried(6, "hopeless", "push", 400),
            tried(7, "hopeless", "push", 400),
            tried(8, "hopeless", "push", 400),
            tried(9, "a later one", "push", 0),
        ];
        assert_eq!(failed(&all), [Open { since: at(1), last: 2 }, Open { since: at(9), last: 9 }]);
    }
}
