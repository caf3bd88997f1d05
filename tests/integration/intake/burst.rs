//! Hundreds of deliveries, shuffled, with GitHub failing in between: one run for each head, calls one after the other.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use github_standin::{CommitSpec, Fault, Order, PullRequest, PullSpec, Repository};

use super::Desk;
use super::daemon::{Place, until};

/// What the daemon may hold more after the burst than before, in KiB.
const MORE_KIB: u64 = 24 << 10;

fn fifty_pulls(repo: &Repository) -> Vec<PullRequest> {
    let open = |number| {
        let branch = format!("work-{number}");
        repo.commit(&branch, CommitSpec::new(&branch));
        repo.open(PullSpec::new(&branch))
    };
    (0..50).map(open).collect()
}

fn six_events(pull: &PullRequest) {
    pull.label("perf-benchmarks");
    pull.push(CommitSpec::new("more"));
    pull.label("ready");
    pull.push(CommitSpec::new("and more"));
    pull.label("bug");
    pull.unlabel("bug");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_deliveries_on_fifty_pull_requests_are_fifty_runs() {
    let desk = Desk::new("pull_request: {quiet_for: 5s}").await;
    desk.follow().await;
    let pulls = fifty_pulls(&desk.repo);
    desk.hooked();
    desk.gh.forget_calls();
    desk.gh.in_order(Order::Shuffled(7), || pulls.iter().for_each(six_events));
    desk.gh.settled().await;
    let taken = desk.gh.deliveries().into_iter().filter(|d| d.hooked).map(|d| d.status.unwrap());
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    taken.for_each(|status| *statuses.entry(status).or_default() += 1);
    assert!(statuses[&202] >= 300, "{statuses:?}");
    let waiting = desk.context.store.waiting_looks(1000).await.unwrap();
    assert_eq!(waiting.len(), 50, "one look for each");
    desk.gh.fault("GET", "/repos/**", Fault::Status(502)).times(40);
    for _ in 0..30 {
        desk.take().await;
        desk.pass(TimeDelta::minutes(1));
    }
    let mut heads: Vec<_> = pulls.iter().map(|pull| pull.head()).collect();
    let mut measured: Vec<_> = desk.measured().await.into_iter().map(|(sha, _, _)| sha).collect();
    heads.sort();
    measured.sort();
    assert_eq!(measured, heads);
    let calls = desk.gh.calls();
    calls.assert_serial();
    let looked = calls.to("GET", "/repos/*/*/pulls/*").filter(|call| call.status == Some(200)).count();
    assert!(looked <= 150, "{looked} looks at 50 pull requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_while_github_fails_takes_little_memory_and_is_told_one_after_the_other() {
    let place = Place::new("1d");
    let pulls = fifty_pulls(&place.repo);
    let daemon = place.start(None).await.unwrap();
    place.followed().await;
    let before = daemon.resident_kib();
    place.gh.forget_calls();
    let down = place.gh.fault("*", "/repos/**", Fault::Status(502)).forever();
    place.gh.in_order(Order::Shuffled(11), || pulls.iter().for_each(six_events));
    place.gh.settled().await;
    let taken = place.gh.deliveries().into_iter().filter(|delivery| delivery.status == Some(202)).count();
    assert!(taken >= 300, "{taken}");
    assert_eq!(
        place.number("select count(*) from looks where kind = 'pull'").await,
        50,
        "one row for each pull request"
    );
    until("GitHub was asked in vain", async || down.struck() >= 2).await;
    assert!(daemon.resident_kib() < before + MORE_KIB, "{before} KiB, then {} KiB", daemon.resident_kib());
    place.gh.clear_faults();
    let ours = |pull: &PullRequest| pull.comments().len();
    until("all are told", async || {
        pulls.iter().all(|pull| ours(pull) == 1 && place.repo.check_runs(&pull.head()).len() == 1)
    })
    .await;
    let mut heads: Vec<_> = pulls.iter().map(|pull| pull.head()).collect();
    let runs = daemon.runs().await;
    let mut measured: Vec<_> = runs.iter().map(|run| run["sha"].as_str().unwrap().to_owned()).collect();
    heads.sort();
    measured.sort();
    assert_eq!(measured, heads);
    assert!(pulls.iter().all(|pull| ours(pull) == 1));
    assert!(daemon.resident_kib() < before + MORE_KIB, "{before} KiB, then {} KiB", daemon.resident_kib());
    place.gh.calls().assert_serial();
}
