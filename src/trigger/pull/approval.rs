//! Who has approved this very head of a fork. GitHub says at a labelling which commit was the head then; of a label or
//! a comment without that it only counts that it came after benchd had seen the head. Who takes a label away takes back
//! what labels approved. Times are GitHub's own, and dates that stand in commits, which their author makes up, are not
//! looked at.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::decide::Approval;
use crate::config::{CommandPermission, RepositoryConfig};
use crate::github::{GitHub, LabelEvent, Permission};
use crate::store::{ApprovalRow, ApprovedBy, Delivery, PullRow, Store};
use crate::trigger::looks::LookError;

/// How many people are asked about: the newest.
const MOST_ASKED: usize = 10;

/// Whether somebody who has write permission now has approved the head of `row`; the approval, too, when it is new.
///
/// # Errors
/// When GitHub does not say.
pub(in crate::trigger) async fn of_head(
    store: &Store,
    github: &GitHub,
    repository: &RepositoryConfig,
    row: &PullRow,
) -> Result<(Approval, Option<ApprovalRow>), LookError> {
    let labels = &repository.triggers.pull_request.labels;
    let mut found = known_of(store, github, repository, row).await?;
    if found.is_none() {
        let events = github.label_events(&row.repository, row.number).await?;
        found = first_permitted(github, row, by_events(row, labels, &events)).await?;
    }
    Ok(match found {
        Some(approval) => (Approval::By(approval.by.clone()), Some(approval)),
        None => (Approval::Missing, None),
    })
}

/// The approval of the head of `row` that is known already, if its giver still may push.
///
/// # Errors
/// When GitHub does not say.
pub(super) async fn known_of(
    store: &Store,
    github: &GitHub,
    repository: &RepositoryConfig,
    row: &PullRow,
) -> Result<Option<ApprovalRow>, LookError> {
    let labels = &repository.triggers.pull_request.labels;
    let mut known = store.approvals(&row.repository, row.number, &row.head).await?;
    let deliveries = store.deliveries_of_pull(&row.repository, row.number).await?;
    known.extend(by_deliveries(row, labels, &deliveries));
    if known.iter().any(|approval| approval.how == ApprovedBy::Label) {
        let events = github.label_events(&row.repository, row.number).await?;
        let stand: BTreeSet<_> = standing(labels, &events).filter_map(|event| event.by.as_deref()).collect();
        known.retain(|approval| approval.how != ApprovedBy::Label || stand.contains(approval.by.as_str()));
    }
    first_permitted(github, row, known).await
}

/// The first approval whose giver may push.
async fn first_permitted(
    github: &GitHub,
    row: &PullRow,
    approvals: Vec<ApprovalRow>,
) -> Result<Option<ApprovalRow>, LookError> {
    let mut refused = BTreeSet::new();
    for approval in approvals {
        if refused.len() >= MOST_ASKED || refused.contains(&approval.by) {
            continue;
        }
        if github.permission(&row.repository, &approval.by).await? >= Permission::Write {
            return Ok(Some(approval));
        }
        refused.insert(approval.by);
    }
    Ok(None)
}

/// What webhooks told: a label that was set while this commit was the head, the newest first.
fn by_deliveries(row: &PullRow, labels: &[String], deliveries: &[Delivery]) -> Vec<ApprovalRow> {
    let of_head = deliveries.iter().rev().filter(|delivery| {
        delivery.event == "pull_request"
            && delivery.action.as_deref() == Some("labeled")
            && delivery.sha.as_ref() == Some(&row.head)
            && delivery.facts.label.as_ref().is_some_and(|label| labels.contains(label))
    });
    let approval = |delivery: &Delivery| {
        let (by, at) = (delivery.sender.clone()?, delivery.received_at);
        Some(ApprovalRow { sha: row.head.clone(), by, how: ApprovedBy::Label, at })
    };
    of_head.filter_map(approval).collect()
}

/// Settings of the labels since one of them was taken away last, the newest first.
fn standing<'e>(labels: &[String], events: &'e [LabelEvent]) -> impl Iterator<Item = &'e LabelEvent> {
    events.iter().rev().filter(|event| labels.contains(&event.label)).take_while(|event| event.set)
}

/// Labels that were set after the head had been seen and not taken away since, the newest first.
fn by_events(row: &PullRow, labels: &[String], events: &[LabelEvent]) -> Vec<ApprovalRow> {
    let approval = |event: &LabelEvent| {
        let (by, at) = (event.by.clone()?, event.at);
        Some(ApprovalRow { sha: row.head.clone(), by, how: ApprovedBy::Label, at })
    };
    standing(labels, events).filter(|event| came_after(row, event.at)).filter_map(approval).collect()
}

/// Whether something came after the head had been seen. Everything that happens to a pull request moves its time of
/// change, so that what is later than the time at the first sight is later than the push.
pub(in crate::trigger) fn came_after(row: &PullRow, at: DateTime<Utc>) -> bool {
    at > row.head_updated_at
}

/// GitHub's word for a configured permission.
pub(in crate::trigger) fn required(permission: CommandPermission) -> Permission {
    match permission {
        CommandPermission::Triage => Permission::Triage,
        CommandPermission::Write => Permission::Write,
        CommandPermission::Maintain => Permission::Maintain,
        CommandPermission::Admin => Permission::Admin,
    }
}
