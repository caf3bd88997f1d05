//! A clock that is set back or leaps ahead: nothing is lost, nothing is done twice, nobody waits for the time that
//! never was.

use benchd::model::{Conclusion, FailureKind, JobState, RunState};
use benchd::queue::Heartbeat;
use benchd::step::Step;
use benchd::store::JobStart;
use chrono::Duration;

use super::*;

impl Bench {
    /// Lives through `minutes`, settling twice a minute, with the heartbeats of `claims`.
    async fn live(&self, minutes: i64, claims: &[&ClaimedJob]) {
        for _ in 0..minutes * 2 {
            for claimed in claims {
                assert!(matches!(self.queue.heartbeat(&claimed.claim).await.unwrap(), Heartbeat::Renewed { .. }));
            }
            assert_eq!(self.queue.settle().await.unwrap(), Default::default());
            self.clock.advance(Duration::seconds(30));
        }
    }
}

#[tokio::test]
async fn a_step_of_the_clock_costs_no_living_job() {
    for step in [Duration::days(1), Duration::hours(1), -Duration::hours(1), -Duration::days(1), Duration::seconds(121)]
    {
        let dir = tempfile::tempdir().unwrap();
        let bench = bench(dir.path()).await;
        let run = bench.submit(&plan(SHA, 1)).await;
        let claimed = bench.claim().await;
        bench.live(5, &[&claimed]).await;
        bench.clock.advance(step);
        // Settling may come before the first heartbeat.
        assert_eq!(bench.queue.settle().await.unwrap(), Default::default(), "{step}");
        let Heartbeat::Renewed { lease_until } = bench.queue.heartbeat(&claimed.claim).await.unwrap() else {
            panic!("lost after a step of {step}")
        };
        assert_eq!(lease_until, bench.clock.now() + Duration::minutes(2));
        bench.live(5, &[&claimed]).await;
        bench.measure(&claimed, SHA, &[1.0]).await;
        assert_eq!(bench.queue.finish(&claimed.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);
        assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Published);
        let detail = bench.store.run_detail(run).await.unwrap().unwrap();
        assert_eq!(detail.jobs[0].attempts.len(), 1, "measured once");
    }
}

#[tokio::test]
async fn a_dead_runner_is_noticed_soon_though_the_clock_was_set() {
    for step in [Duration::days(1), -Duration::hours(1), -Duration::days(1)] {
        let dir = tempfile::tempdir().unwrap();
        let bench = bench(dir.path()).await;
        bench.submit(&plan(SHA, 1)).await;
        let dead = bench.claim().await;
        bench.live(2, &[&dead]).await;
        bench.clock.advance(step);
        let mut lost = Vec::new();
        for _ in 0..12 {
            lost.extend(bench.queue.settle().await.unwrap().lost);
            bench.clock.advance(Duration::seconds(30));
        }
        assert_eq!(lost, [dead.claim.job], "within six minutes of a step of {step}");
        let again = bench.claim().await;
        assert_eq!((again.claim.job, again.claim.attempt), (dead.claim.job, 2));
        assert_eq!(bench.queue.finish(&dead.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Moved);
    }
}

#[tokio::test]
async fn what_is_owed_is_not_kept_back_either() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.whole_run(&RunPlan { owed: vec![owed(OwedKind::Upload)], ..plan(SHA, 1) }, 1.0).await;
    // A delivery that failed while the clock was a day ahead.
    let row = bench.store.due_owed(bench.clock.now(), None, Some(run), 9).await.unwrap().remove(0);
    bench.clock.advance(Duration::days(1));
    let mut write = bench.store.write(Step::SettleDelivery).await.unwrap();
    let next_at = bench.clock.now() + Duration::minutes(2);
    assert_eq!(write.postpone_owed(row.id, "away", next_at).await.unwrap(), Outcome::Performed);
    write.commit().await.unwrap();
    bench.clock.advance(-Duration::days(1));
    bench.queue.settle().await.unwrap();
    bench.clock.advance(Duration::hours(1));
    assert_eq!(bench.store.due_owed(bench.clock.now(), None, Some(run), 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_is_not_kept_back_by_an_instant_that_never_comes() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let mut plan = plan(SHA, 2);
    plan.jobs[1].start = JobStart::WaitingForImage { until: noon() + Duration::minutes(90) };
    bench.submit(&plan).await;
    let claimed = bench.claim().await;
    let fault = ended(Conclusion::Failure(FailureKind::DiskFull));
    assert_eq!(bench.queue.finish(&claimed.claim, &fault).await.unwrap(), Outcome::Performed);
    bench.clock.advance(-Duration::days(1));
    bench.queue.settle().await.unwrap();
    let due = bench.queue.due_looks().await.unwrap();
    assert_eq!(due.len(), 1, "its next look lies a day ahead");
    assert!(matches!(due[0].state, JobState::WaitingForImage { .. }));
    bench.clock.advance(Duration::hours(1));
    assert_eq!(bench.claim().await.claim.job, claimed.claim.job, "within the longest wait");
}
