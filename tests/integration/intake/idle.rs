//! What it costs when nothing happens, and what is found when nothing is told.

use std::fs;

use benchd::trigger::looks::LookAnswer;
use benchd::trigger::reconcile::redeliver;
use chrono::TimeDelta;
use github_standin::{CommitSpec, DeliveryFault, PullRequest, PullSpec, Role};

use super::Desk;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_open_pull_requests_cost_nothing_while_nothing_changes() {
    let desk = Desk::app().await;
    for number in 0..120 {
        desk.repo.tag(&format!("v0.{number}"), "main");
    }
    desk.hooked();
    for number in 0..200 {
        let branch = format!("work-{number}");
        desk.repo.commit(&branch, CommitSpec::new(&branch));
        let pull = desk.repo.open(PullSpec::new(&branch).labels(&["perf-benchmarks", "ready"]));
        if number % 10 == 0 {
            pull.comment("looks good");
        }
    }
    desk.hear().await;
    desk.reconcile().await;
    desk.take().await;
    assert_eq!(desk.runs().await.len(), 200, "each head has its run");
    // The first reconcile that follows reads comments for the first time.
    for _ in 0..2 {
        desk.reconcile().await;
        redeliver(&desk.context).await.unwrap();
    }
    desk.gh.forget_calls();
    desk.pass(TimeDelta::minutes(5));
    assert_eq!(desk.reconcile().await, [""; 0]);
    redeliver(&desk.context).await.unwrap();
    let calls = desk.gh.calls();
    assert!(calls.count() >= 6 && calls.to("GET", "/app/hook/deliveries").count() >= 1, "{:?}", calls.lines());
    calls.assert_at_most_charged(5);
    assert_eq!(desk.take().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_found_without_a_webhook_and_answered_once() {
    let desk = Desk::new("").await;
    desk.repo.permit("ann", Role::Write);
    desk.repo.commit("work", CommitSpec::new("faster"));
    let pull = desk.repo.open(PullSpec::new("work"));
    pull.by("ann").comment("/benchd run");
    desk.pass(TimeDelta::seconds(2));
    desk.reconcile().await;
    desk.take().await;
    assert_eq!(desk.runs().await, [], "what was said before is old");
    desk.pass(TimeDelta::minutes(5));
    let id = pull.by("ann").comment("/benchd run");
    pull.by("ann").comment("as I said: /benchd run");
    desk.pass(TimeDelta::minutes(5));
    assert_eq!(desk.reconcile().await, [format!("comment {id}")]);
    let answers = desk.take().await;
    assert!(matches!(answers[0], LookAnswer::Command(_)), "{answers:?}");
    assert_eq!(desk.runs().await.len(), 1);
    desk.pass(TimeDelta::minutes(5));
    desk.reconcile().await;
    desk.take().await;
    assert_eq!(desk.runs().await.len(), 1);
}

/// An App that follows the repository and has heard of a pull request.
async fn told_of_a_pull_request() -> (Desk, PullRequest) {
    let desk = Desk::app().await;
    desk.follow().await;
    desk.hooked();
    desk.repo.commit("work", CommitSpec::new("faster"));
    let pull = desk.repo.open(PullSpec::new("work"));
    desk.hear().await;
    (desk, pull)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_asks_for_deliveries_that_failed() {
    let (desk, pull) = told_of_a_pull_request().await;
    desk.gh.delivery_fault("pull_request", Some("labeled"), DeliveryFault::WrongSecret, 1);
    pull.label("ready");
    desk.gh.settled().await;
    let status = |desk: &Desk| desk.gh.deliveries().last().unwrap().status;
    assert_eq!(status(&desk), Some(401));
    desk.pass(TimeDelta::minutes(5));
    redeliver(&desk.context).await.unwrap();
    desk.gh.settled().await;
    let again = desk.gh.calls().to("POST", "/app/hook/deliveries/*/attempts");
    assert_eq!(again.count(), 1);
    desk.pass(TimeDelta::minutes(5));
    desk.gh.forget_calls();
    for _ in 0..4 {
        redeliver(&desk.context).await.unwrap();
        desk.gh.settled().await;
    }
    assert!(desk.gh.calls().to("POST", "/app/hook/deliveries/*/attempts").count() <= 1, "not for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_deliveries_of_a_long_outage_are_asked_for_again() {
    const LOST: u32 = 45;
    let (desk, pull) = told_of_a_pull_request().await;
    redeliver(&desk.context).await.unwrap();
    desk.gh.delivery_fault("pull_request", Some("labeled"), DeliveryFault::Lost, LOST);
    for number in 0..LOST {
        pull.label(&format!("label-{number}"));
        desk.pass(TimeDelta::minutes(10));
    }
    desk.gh.settled().await;
    // What comes after it hides nothing of what was lost.
    pull.label("ready");
    desk.hear().await;
    for _ in 0..3 {
        redeliver(&desk.context).await.unwrap();
        desk.gh.settled().await;
        desk.pass(TimeDelta::minutes(5));
    }
    let deliveries = desk.gh.deliveries();
    let taken = |guid: &str| {
        deliveries.iter().any(|tried| tried.guid == guid && tried.status.is_some_and(|status| status < 300))
    };
    let open: Vec<_> = deliveries.iter().filter(|tried| tried.hooked && !taken(&tried.guid)).collect();
    let open: Vec<_> = open.iter().map(|tried| (&tried.event, tried.status, tried.attempts)).collect();
    assert!(open.is_empty(), "{open:?}");
    desk.gh.forget_calls();
    redeliver(&desk.context).await.unwrap();
    assert_eq!(desk.gh.calls().to("POST", "/app/hook/deliveries/*/attempts").count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_follows_github_anonymously() {
    let desk = Desk::acting("", |_, dir, _| {
        fs::write(dir.join("unused"), "x").unwrap();
        "ca_file: null".to_owned()
    })
    .await;
    assert_eq!(desk.reconcile().await, [""; 0]);
    assert_eq!(desk.gh.calls().count(), 0);
}
