//! Release tags.

use benchd::model::{RunPhase, Trigger};
use chrono::TimeDelta;
use github_standin::{CommitSpec, DeliveryFault};

use super::Desk;

fn release(sha: &str, tag: &str) -> (String, Trigger, RunPhase) {
    (sha.to_owned(), Trigger::Release { tag: tag.to_owned() }, RunPhase::Queued)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_fits_is_measured_once_at_its_commit_told_of_or_not() {
    for hooked in [true, false] {
        let desk = Desk::new("release: {tags: 'v*'}, merge: {enabled: false}").await;
        desk.repo.tag("v0.9", "main");
        assert_eq!(desk.reconcile().await, [""; 0]);
        desk.take().await;
        if hooked {
            desk.hooked();
        }
        let sha = desk.repo.tip("main");
        desk.repo.annotated_tag("v1.0", "main");
        desk.repo.tag("nightly", "main");
        let mut found = Vec::new();
        if hooked {
            desk.gh.settled().await;
        } else {
            desk.pass(TimeDelta::minutes(5));
            found = desk.reconcile().await;
        }
        desk.take().await;
        assert_eq!(desk.measured().await, [release(&sha, "v1.0")], "hooked: {hooked}, {found:?}");
        assert!(desk.runs().await[0].trigger.keeps_artifacts());
        desk.reconcile().await;
        desk.take().await;
        assert_eq!(desk.runs().await.len(), 1, "tags from before and tags that do not fit are none");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_tag_is_measured_anew_and_a_deleted_one_is_not() {
    let desk = Desk::new("merge: {enabled: false}").await;
    desk.follow().await;
    desk.hooked();
    let first = desk.repo.tip("main");
    desk.repo.tag("v1.0", "main");
    desk.hear().await;
    let second = desk.repo.commit("main", CommitSpec::new("forgotten"));
    desk.repo.tag("v1.0", "main");
    desk.hear().await;
    let runs = desk.runs().await;
    assert_eq!(runs.iter().map(|run| run.sha.as_str()).collect::<Vec<_>>(), [&first, &second]);
    assert_eq!((runs[0].state.phase(), runs[0].superseded_by), (RunPhase::Superseded, Some(runs[1].id)));
    assert_eq!(runs[1].state.phase(), RunPhase::Queued);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_may_be_named_wherever_a_commit_may() {
    let desk = Desk::new("merge: {enabled: false}").await;
    desk.follow().await;
    desk.hooked();
    let sha = desk.repo.tip("main");
    desk.repo.annotated_tag("v1.0", "main");
    desk.hear().await;
    let run = desk.runs().await[0].id.to_string();
    for name in [run.as_str(), &sha, &sha.to_uppercase(), "v1.0"] {
        let (code, text) = desk.command(&["show", name]).await;
        assert!(code == 0 && text.contains(&run) && text.contains("because of release v1.0"), "{name}: {text}");
    }
    for name in [&sha, "v1.0"] {
        let (code, text) = desk.command(&["runs", "--commit", name]).await;
        assert!(code == 0 && text.contains(&run), "{name}: {text}");
    }
    let (code, text) = desk.command(&["runs", "--commit", "v2.0"]).await;
    assert_eq!((code, text.trim()), (0, "no runs"));
    let (code, text) = desk.command(&["show", "v2.0"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("`v2.0` is no run, and no commit or release tag that has one"), "{text}");
    for name in [&sha, "v1.0"] {
        let (code, text) = desk.command(&["trigger", "--commit", name, "--dry-run", "--json"]).await;
        assert!(code == 0 && text.contains(&sha), "{name}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_three_tags_at_once_are_found_without_an_event() {
    let desk = Desk::new("release: {tags: 'v*'}, merge: {enabled: false}").await;
    desk.follow().await;
    desk.hooked();
    // GitHub sends no event for them.
    for event in ["push", "create"] {
        desk.gh.delivery_fault(event, None, DeliveryFault::Lost, 100);
    }
    let mut expected = Vec::new();
    for number in 0..5 {
        let sha = desk.repo.commit("main", CommitSpec::new(&format!("release {number}")));
        let tag = format!("v1.{number}");
        desk.repo.tag(&tag, &sha);
        expected.push(release(&sha, &tag));
    }
    desk.hear().await;
    assert_eq!(desk.runs().await, []);
    desk.pass(TimeDelta::minutes(5));
    assert_eq!(desk.reconcile().await.len(), 5);
    desk.take().await;
    let mut measured = desk.measured().await;
    measured.sort_by_key(|(_, trigger, _)| trigger.to_string());
    assert_eq!(measured, expected);
    assert_eq!(desk.reconcile().await, [""; 0]);
}
