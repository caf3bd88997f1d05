//! Code of forks: always untrusted, measured as configured, and approved by nobody who may not.

use benchd::model::{Asked, RunPhase};
use benchd::queue::spec::Trust;
use benchd::store::ApprovedBy;
use benchd::trigger::manual::{ManualAnswer, ManualRequest, submit};
use benchd::trigger::pull::{MayStart, may_start};
use github_standin::{CommitSpec, Role};

use super::{House, REPO, label_both};

const EACH: &str = "forks: approve_each_commit";

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_of_a_fork_runs_untrusted_also_when_the_fork_is_gone() {
    let house = House::new("").await;
    let (fork, pull) = house.by_fork();
    label_both(&pull.by("ann"));
    house.hear().await;
    fork.delete();
    house.reconcile(&pull).await;
    let [run] = &house.pull_runs(&pull).await[..] else { panic!("one run") };
    let spec = house.spec(run.run.id).await;
    assert_eq!((spec.trust, spec.branch.as_str()), (Trust::Untrusted, "pull/1/head"));
    let (_, gone) = {
        let (fork, pull) = house.by_fork();
        fork.delete();
        (fork, pull)
    };
    label_both(&gone.by("ann"));
    house.hear().await;
    let run = &house.pull_runs(&gone).await[0];
    assert_eq!(house.spec(run.run.id).await.trust, Trust::Untrusted);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_of_a_fork_runs_where_none_may() {
    let house = House::new("forks: never").await;
    let (_fork, pull) = house.by_fork();
    label_both(&pull.by("ann"));
    house.hear().await;
    assert_eq!(house.told(&pull).await, ["check: pull requests from forks are not measured"]);
    pull.by("ann").comment("/benchd run");
    house.hear().await;
    assert_eq!(house.runs(&pull).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_approves_the_commit_that_was_the_head_then() {
    let house = House::new(EACH).await;
    let (fork, pull) = house.by_fork();
    // Triage may label, and approves nothing.
    label_both(&pull.by("tess"));
    house.hear().await;
    assert_eq!(house.told(&pull).await, ["check: waiting for the approval of this commit"]);
    pull.by("ann").unlabel("ready");
    pull.by("ann").label("ready");
    house.hear().await;
    let first = pull.head();
    assert_eq!(house.runs(&pull).await, [(first.clone(), RunPhase::Queued)]);
    let approvals = house.context.store.approvals(&REPO.parse().unwrap(), 1, &first.parse().unwrap()).await.unwrap();
    assert_eq!((approvals[0].by.as_str(), approvals[0].how), ("ann", ApprovedBy::Label));
    // A push after the approval is not approved by it, whatever else is delivered again.
    fork.commit("patch", CommitSpec::new("worse").files(&["a.py"]));
    house.reconcile(&pull).await;
    house.hear().await;
    assert_ne!(pull.head(), first);
    assert_eq!(house.runs(&pull).await, [(first, RunPhase::Cancelled)]);
    assert_eq!(house.told(&pull).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_is_taken_away_takes_its_approval_along() {
    for hooked in [true, false] {
        let house = House::new(EACH).await;
        let (_fork, pull) = house.by_fork();
        let look = async || if hooked { house.hear().await } else { house.found().await };
        pull.by("ann").label("perf-benchmarks");
        look().await;
        pull.by("ann").label("ready");
        look().await;
        assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Queued)], "hooked: {hooked}");
        pull.by("ann").unlabel("ready");
        look().await;
        assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Cancelled)], "hooked: {hooked}");
        // Triage may set it again, and approves nothing.
        pull.by("tess").label("ready");
        look().await;
        assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Cancelled)], "hooked: {hooked}");
        pull.by("ann").unlabel("ready");
        look().await;
        pull.by("ann").label("ready");
        look().await;
        assert_eq!(house.runs(&pull).await.last().unwrap().1, RunPhase::Queued, "hooked: {hooked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_webhooks_a_label_counts_when_it_came_after_the_head_was_seen() {
    let house = House::new(EACH).await;
    let (_fork, pull) = house.by_fork();
    label_both(&pull.by("ann"));
    house.found().await;
    assert_eq!(house.runs(&pull).await, [], "the label may have meant an earlier commit");
    pull.by("ann").unlabel("ready");
    pull.by("ann").label("ready");
    house.found().await;
    assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Queued)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_asked_about_again_when_the_job_starts() {
    let house = House::new(EACH).await;
    let (_fork, pull) = house.by_fork();
    label_both(&pull.by("ann"));
    house.hear().await;
    let run = house.pull_runs(&pull).await[0].run.id;
    let now = house.clock.now();
    assert_eq!(may_start(&house.context, run, now).await.unwrap(), MayStart::Yes);
    house.repo.permit("ann", Role::Read);
    house.begin().await;
    assert!(matches!(may_start(&house.context, run, now).await.unwrap(), MayStart::No { .. }));
    assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Cancelled)]);
    house.repo.permit("ann", Role::Write);
    house.reconcile(&pull).await;
    let phases: Vec<_> = house.runs(&pull).await.into_iter().map(|(_, phase)| phase).collect();
    assert_eq!(phases, [RunPhase::Cancelled, RunPhase::Queued], "it may come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_approves_a_head_that_was_known_before_it() {
    let house = House::new(EACH).await;
    let (fork, pull) = house.by_fork();
    house.hear().await;
    fork.commit("patch", CommitSpec::new("sneaked in").files(&["a.py"]));
    pull.by("ann").comment("/benchd run");
    house.hear().await;
    assert_eq!(house.runs(&pull).await, [], "the comment may have meant the commit before");
    assert!(house.told(&pull).await.last().unwrap().contains(&pull.head()));
    pull.by("ann").comment("/benchd run\nI have looked at it.");
    house.hear().await;
    let [run] = &house.pull_runs(&pull).await[..] else { panic!("one run") };
    assert_eq!((run.asked, run.by.as_deref()), (Asked::Whole, Some("ann")));
    assert_eq!(house.spec(run.run.id).await.trust, Trust::Untrusted);
    let now = house.clock.now();
    assert_eq!(may_start(&house.context, run.run.id, now).await.unwrap(), MayStart::Yes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_a_fork_is_never_trusted_however_it_is_named() {
    let house = House::new("").await;
    let (_fork, pull) = house.by_fork();
    let sha = Some(pull.head().parse().unwrap());
    let named = |branch: Option<&str>| ManualRequest {
        commit: sha.clone(),
        branch: branch.map(|branch| branch.parse().unwrap()),
        ..ManualRequest::default()
    };
    let alone = submit(&house.context, named(None), None).await.unwrap_err();
    assert!(alone.to_string().contains("is not on `main`"), "{alone}");
    let by_number = ManualRequest { pull_request: Some(pull.number()), ..ManualRequest::default() };
    for request in [named(Some("pull/1/head")), by_number] {
        match submit(&house.context, request, None).await {
            Ok(ManualAnswer::Accepted { measures, .. }) => assert_eq!(measures.trust, Trust::Untrusted),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(error.to_string().contains("not on"), "{error}"),
        }
    }
}
