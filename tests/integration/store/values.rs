//! Values and what their series had before: in commit order where it is known.

use benchd::model::{Conclusion, RunId};
use benchd::queue::{Outcome, PassEnd};

use super::*;

fn sha(n: u32) -> String {
    format!("{n:040x}")
}

fn placed(n: u32, position: Option<u32>) -> RunPlan {
    RunPlan { position, ..plan(&sha(n), 1) }
}

impl Bench {
    async fn previous(&self, run: RunId) -> Option<(RunId, f64)> {
        self.store
            .previous_values(run)
            .await
            .unwrap()
            .into_values()
            .next()
            .map(|previous| (previous.run, previous.value))
    }
}

#[tokio::test]
async fn before_means_commit_order_not_finish_order() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let newest = bench.whole_run(&placed(3, Some(30)), 3.0).await;
    assert_eq!(bench.previous(newest).await, None);
    let oldest = bench.whole_run(&placed(1, Some(10)), 1.0).await;
    assert_eq!(bench.previous(oldest).await, None, "a newer commit is not before, though it was measured first");
    let middle = bench.whole_run(&placed(2, Some(20)), 2.0).await;
    assert_eq!(bench.previous(middle).await, Some((oldest, 1.0)));
    assert_eq!(bench.previous(newest).await, Some((middle, 2.0)));
    let again = bench.whole_run(&placed(2, Some(20)), 2.5).await;
    assert_eq!(bench.previous(again).await, Some((middle, 2.0)), "a rerun stands after the first run of its commit");
    assert_eq!(bench.previous(newest).await, Some((again, 2.5)));
    assert_eq!(bench.previous(middle).await, Some((oldest, 1.0)));
}

#[tokio::test]
async fn without_positions_it_is_the_newest_earlier_run() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let first = bench.whole_run(&placed(3, None), 3.0).await;
    let second = bench.whole_run(&placed(1, None), 1.0).await;
    let third = bench.whole_run(&placed(2, None), 2.0).await;
    assert_eq!(bench.previous(first).await, None);
    assert_eq!(bench.previous(third).await, Some((second, 1.0)));
    // A known place on the branch counts more than a run whose commit has none.
    let known = bench.whole_run(&placed(4, Some(1)), 4.0).await;
    assert_eq!(bench.previous(known).await, Some((third, 2.0)));
    let after = bench.whole_run(&placed(5, Some(2)), 5.0).await;
    let stray = bench.whole_run(&placed(6, None), 6.0).await;
    assert_eq!(bench.previous(after).await, Some((known, 4.0)));
    assert_eq!(bench.previous(stray).await, Some((after, 5.0)));
}

#[tokio::test]
async fn other_targets_models_variants_and_configurations_are_other_series() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    bench.whole_run(&placed(1, None), 1.0).await;
    let mut other_model = placed(2, None);
    other_model.jobs[0].model = "org/other".into();
    let run = bench.whole_run(&other_model, 2.0).await;
    assert_eq!(bench.previous(run).await, None);
    let run = bench.submit(&placed(3, None)).await;
    let job = bench.claim().await;
    assert_eq!(bench.queue.begin_pass(&job.claim, &pass(1, &sha(3))).await.unwrap(), Outcome::Performed);
    let mut other = measured("avg_latency", &[1.0]);
    other.configuration = "beef".into();
    let mut eager = measured("avg_latency", &[1.0]);
    eager.variant = Variant::Eager;
    let end = PassEnd { exit_code: Some(0), points: vec![], measurements: vec![other, eager] };
    assert_eq!(bench.queue.end_pass(&job.claim, 1, &end).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.queue.finish(&job.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);
    assert!(bench.store.previous_values(run).await.unwrap().is_empty());
}

#[tokio::test]
async fn passes_are_averaged_and_all_raw_values_stay() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&placed(1, None)).await;
    let job = bench.claim().await;
    let raw = [[0.1, 0.2, 0.300_000_000_000_000_04].as_slice(), &[1.0]];
    for (number, values) in (1..).zip(raw) {
        assert_eq!(bench.queue.begin_pass(&job.claim, &pass(number, &sha(1))).await.unwrap(), Outcome::Performed);
        let end = PassEnd {
            exit_code: Some(0),
            points: vec![point(PointState::Ok, None)],
            measurements: vec![measured("avg_latency", values), measured("std_latency", &[])],
        };
        assert_eq!(bench.queue.end_pass(&job.claim, number, &end).await.unwrap(), Outcome::Performed);
    }
    assert_eq!(bench.queue.finish(&job.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);
    let values = bench.store.values_of_run(run).await.unwrap();
    assert_eq!(values.len(), 1, "a metric without values is no measurement");
    assert_eq!(values[0].passes, raw);
    assert!((values[0].value - 0.6).abs() < 1e-12);
    let next = bench.whole_run(&placed(2, None), 2.0).await;
    let (before, value) = bench.previous(next).await.unwrap();
    assert!(before == run && (value - 0.6).abs() < 1e-12);
}

#[tokio::test]
async fn odd_measurements_do_not_cost_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&placed(1, None)).await;
    let job = bench.claim().await;
    assert_eq!(bench.queue.begin_pass(&job.claim, &pass(1, &sha(1))).await.unwrap(), Outcome::Performed);
    let end = PassEnd {
        exit_code: Some(0),
        points: vec![point(PointState::Ok, None), point(PointState::Ok, None)],
        measurements: vec![
            measured("p99_itl_ms", &[f64::NAN]),
            measured("avg_latency", &[1.0]),
            measured("avg_latency", &[2.0]),
            measured("requests_per_second", &[f64::INFINITY]),
            measured("tokens_per_second", &[4.0]),
        ],
    };
    assert_eq!(bench.queue.end_pass(&job.claim, 1, &end).await.unwrap(), Outcome::Performed);
    let values = bench.store.values_of_run(run).await.unwrap();
    let told: Vec<_> = values.iter().map(|value| (value.metric.as_str(), value.passes.concat())).collect();
    assert_eq!(told, [("avg_latency", vec![1.0]), ("tokens_per_second", vec![4.0])]);
}
