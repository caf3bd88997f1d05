//! The same events in any order, doubled, late, beside an outage: the same runs, one for each head.

use benchd::model::RunPhase;
use chrono::TimeDelta;
use github_standin::{CommitSpec, Fault, PullRequest};

use super::{House, label_both};

/// A small generator of numbers, the same for the same seed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i + 1));
        }
    }
}

/// What people do to five pull requests, and which of them are wanted in the end.
fn history(house: &House) -> Vec<(PullRequest, bool)> {
    let mut all = Vec::new();
    for n in 0..5 {
        let branch = format!("work-{n}");
        house.repo.commit(&branch, CommitSpec::new(&branch).files(&["a.py"]));
        let pull = house.repo.open(github_standin::PullSpec::new(&branch).author("bob"));
        label_both(&pull);
        pull.push(CommitSpec::new("more").files(&["a.py"]));
        let wanted = match n {
            0 => true,
            1 => {
                pull.unlabel("ready");
                false
            }
            2 => {
                pull.unlabel("ready");
                pull.label("ready");
                true
            }
            3 => {
                pull.close();
                false
            }
            _ => {
                pull.convert_to_draft();
                pull.ready_for_review();
                pull.push(CommitSpec::new("last").files(&["b.py"]));
                true
            }
        };
        all.push((pull, wanted));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_the_same_events_ends_in_the_same_runs() {
    for seed in 0..6 {
        let mut seeded = Seeded(seed);
        let house = House::new("").await;
        let pulls = history(&house);
        let mut deliveries = house.gh.deliveries();
        let again: Vec<_> = deliveries.iter().filter(|_| seeded.below(3) == 0).cloned().collect();
        deliveries.extend(again.into_iter().enumerate().map(|(n, mut delivery)| {
            delivery.guid = format!("again-{n}");
            delivery
        }));
        seeded.shuffle(&mut deliveries);
        house.gh.fault("GET", "/repos/*/*/pulls/*", Fault::Status(502)).times(2);
        for chunk in deliveries.chunks(7) {
            for delivery in chunk {
                house.deliver(delivery).await;
            }
            if seeded.below(2) == 0 {
                house.take().await;
            }
        }
        for _ in 0..4 {
            house.take().await;
        }
        for (pull, wanted) in &pulls {
            let expected = if *wanted { vec![(pull.head(), RunPhase::Queued)] } else { vec![] };
            assert_eq!(house.runs(pull).await, expected, "seed {seed}, #{}", pull.number());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_between_pushes_leave_one_run_for_each_head() {
    for seed in 0..6 {
        let mut seeded = Seeded(seed + 100);
        let house = House::new("").await;
        let pull = house.own();
        for _ in 0..25 {
            match seeded.below(9) {
                0 | 1 => pull.label("ready"),
                2 | 3 => pull.label("perf-benchmarks"),
                4 => pull.unlabel(["ready", "perf-benchmarks"][seeded.below(2)]),
                5 => drop(pull.push(CommitSpec::new("push").files(&["a.py"]))),
                6 => house.clock.advance(TimeDelta::seconds(40)),
                7 => house.end_all().await,
                _ => drop(house.hear().await),
            }
            for (head, runs) in house.by_labels(&pull).await {
                assert_eq!(runs, 1, "seed {seed}: {head}");
            }
        }
        label_both(&pull);
        house.hear().await;
        house.reconcile(&pull).await;
        assert_eq!(house.by_labels(&pull).await.get(&pull.head()), Some(&1), "seed {seed}");
        for (head, phase) in house.runs(&pull).await {
            assert!(head == pull.head() || phase != RunPhase::Queued, "seed {seed}: nothing waits for an older head");
        }
    }
}
