//! Hundreds of deliveries, shuffled, with GitHub failing in between: one run for each head, calls one after the other.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use github_standin::{CommitSpec, Fault, Order, PullSpec};

use super::Desk;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_deliveries_on_fifty_pull_requests_are_fifty_runs() {
    let desk = Desk::new("pull_request: {quiet_for: 5s}").await;
    desk.follow().await;
    let pulls: Vec<_> = (0..50)
        .map(|number| {
            let branch = format!("work-{number}");
            desk.repo.commit(&branch, CommitSpec::new(&branch));
            desk.repo.open(PullSpec::new(&branch))
        })
        .collect();
    desk.hooked();
    desk.gh.forget_calls();
    desk.gh.in_order(Order::Shuffled(7), || {
        for pull in &pulls {
            pull.label("perf-benchmarks");
            pull.push(CommitSpec::new("more"));
            pull.label("ready");
            pull.push(CommitSpec::new("and more"));
            pull.label("bug");
            pull.unlabel("bug");
        }
    });
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
