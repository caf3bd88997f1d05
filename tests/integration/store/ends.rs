//! Cancel, supersede, retry and rerun, in every state that a run or job can be in.

use benchd::model::{Conclusion, FailureKind, JobState, Priority, RunState, Trigger};
use benchd::queue::{Cancelled, Heartbeat, Rerun, Retried, RunningJobs, Waiting};
use benchd::step::Step;
use benchd::store::{JobStart, OwedKind, OwedState};
use chrono::Duration;

use super::*;

const WHY: &str = "cancelled by alice";

/// A run with a job in each state: waiting for its image, queued, claimed, running, finished.
async fn in_all_states(bench: &Bench) -> (RunId, Vec<ClaimedJob>) {
    let mut plan = plan(SHA, 5);
    plan.owed = vec![owed(OwedKind::Comment)];
    plan.jobs[4].start = JobStart::WaitingForImage { until: noon() + Duration::hours(1) };
    let run = bench.submit(&plan).await;
    let claimed = [bench.claim().await, bench.claim().await, bench.claim().await];
    assert_eq!(bench.queue.begin_pass(&claimed[1].claim, &pass(1, SHA)).await.unwrap(), Outcome::Performed);
    let end = ended(Conclusion::Failure(FailureKind::NoResults));
    assert_eq!(bench.queue.finish(&claimed[0].claim, &end).await.unwrap(), Outcome::Performed);
    (run, claimed.to_vec())
}

#[tokio::test]
async fn a_run_is_cancelled_wherever_its_jobs_stand() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let (run, claimed) = in_all_states(&bench).await;
    assert_eq!(bench.queue.cancel(run, WHY).await.unwrap(), Cancelled::Jobs { count: 4 });
    assert_eq!(bench.queue.cancel(run, WHY).await.unwrap(), Cancelled::AlreadyEnded);
    let expected = ["failure: the suite left no results", "cancelled", "cancelled", "cancelled", "cancelled"];
    assert_eq!(bench.conclusions(run).await[1..], expected[1..]);
    for job in &claimed {
        assert_eq!(bench.queue.heartbeat(&job.claim).await.unwrap(), Heartbeat::Lost);
    }
    let detail = bench.store.run_detail(run).await.unwrap().unwrap();
    assert_eq!(detail.run.state, RunState::Cancelled);
    assert_eq!(detail.outbox.len(), 1, "the end is answered");
    assert!(detail.jobs[1..].iter().all(|job| job.job.message.as_deref() == Some(WHY)), "{detail:?}");
    assert_eq!(detail.jobs[1].attempts[0].message.as_deref(), Some(WHY));
    let nobody = RunId::try_from(7).unwrap();
    assert_eq!(bench.queue.cancel(nobody, WHY).await.unwrap(), Cancelled::Unknown);
}

#[tokio::test]
async fn a_job_is_cancelled_alone_and_the_last_ends_its_run() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let (run, _) = in_all_states(&bench).await;
    for (n, job) in bench.store.jobs_of_run(run).await.unwrap().iter().enumerate() {
        assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Running);
        let expected = if n == 0 { Cancelled::AlreadyEnded } else { Cancelled::Jobs { count: 1 } };
        assert_eq!(bench.queue.cancel_job(job.id, WHY).await.unwrap(), expected);
    }
    assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Cancelled);
    assert_eq!(bench.queue.cancel_job(7.try_into().unwrap(), WHY).await.unwrap(), Cancelled::Unknown);
}

#[tokio::test]
async fn a_newer_run_takes_the_place_and_running_work_may_finish() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let newer = bench.submit(&plan(SHA, 1)).await;
    let newers_job = bench.claim().await;
    let (stopped, _) = in_all_states(&bench).await;
    let ended_jobs = bench.queue.supersede(stopped, newer, RunningJobs::Stop).await.unwrap();
    assert_eq!(ended_jobs, Cancelled::Jobs { count: 4 });
    let row = bench.store.run(stopped).await.unwrap().unwrap();
    assert_eq!((row.state, row.superseded_by), (RunState::Superseded, Some(newer)));
    assert_eq!(bench.queue.retry(stopped).await.unwrap(), Retried::Superseded { by: Some(newer) });

    let (finishing, claimed) = in_all_states(&bench).await;
    let ended_jobs = bench.queue.supersede(finishing, newer, RunningJobs::Finish).await.unwrap();
    assert_eq!(ended_jobs, Cancelled::Jobs { count: 2 });
    assert!(matches!(bench.queue.heartbeat(&claimed[1].claim).await.unwrap(), Heartbeat::Renewed { .. }));
    bench.measure(&claimed[2], SHA, &[1.0]).await;
    for claimed in &claimed[1..] {
        assert_eq!(bench.queue.finish(&claimed.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);
    }
    let row = bench.store.run(finishing).await.unwrap().unwrap();
    assert_eq!((row.state, row.superseded_by), (RunState::Measured, Some(newer)), "nothing measured is lost");
    assert_eq!(bench.queue.retry(finishing).await.unwrap(), Retried::Superseded { by: Some(newer) });
    assert_eq!(bench.queue.supersede(finishing, newer, RunningJobs::Stop).await.unwrap(), Cancelled::AlreadyEnded);
    assert_eq!(bench.queue.supersede(newer, newer, RunningJobs::Stop).await.unwrap(), Cancelled::AlreadyEnded);
    let nobody = RunId::try_from(7).unwrap();
    assert_eq!(bench.queue.supersede(newer, nobody, RunningJobs::Stop).await.unwrap(), Cancelled::Unknown);
    assert!(matches!(bench.queue.heartbeat(&newers_job.claim).await.unwrap(), Heartbeat::Renewed { .. }));
}

#[tokio::test]
async fn failed_jobs_are_retried_with_all_their_attempts_and_the_end_is_told_anew() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let mut plan = plan(SHA, 2);
    plan.owed = vec![owed(OwedKind::Upload), owed(OwedKind::Comment)];
    let run = bench.submit(&plan).await;
    let good = bench.claim().await;
    bench.measure(&good, SHA, &[1.0]).await;
    assert_eq!(bench.queue.retry(run).await.unwrap(), Retried::NothingFailed);
    let lost = || ended(Conclusion::Failure(FailureKind::StartFailed));
    for attempt in 1..=3 {
        let bad = bench.claim().await;
        assert_eq!(bad.claim.attempt, attempt);
        assert_eq!(bench.queue.finish(&bad.claim, &lost()).await.unwrap(), Outcome::Performed);
        bench.clock.advance(Duration::minutes(4));
    }
    assert_eq!(bench.queue.finish(&good.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);
    deliver_all(&bench, run).await;
    assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Published);

    let jobs = bench.store.jobs_of_run(run).await.unwrap();
    assert_eq!(bench.queue.retry(run).await.unwrap(), Retried::Jobs { jobs: vec![jobs[1].id] });
    let row = bench.store.run(run).await.unwrap().unwrap();
    assert_eq!((row.state, row.finished_at), (RunState::Queued, None));
    assert_eq!(bench.queue.retry(run).await.unwrap(), Retried::NothingFailed, "it waits already");
    for attempt in 4..=5 {
        let again = bench.claim().await;
        assert_eq!((again.claim.job, again.claim.attempt), (jobs[1].id, attempt));
        if attempt == 4 {
            // The wait begins small again.
            assert_eq!(bench.queue.finish(&again.claim, &lost()).await.unwrap(), Outcome::Performed);
            bench.clock.advance(Duration::minutes(1));
        } else {
            bench.measure(&again, SHA, &[2.0]).await;
            let end = ended(Conclusion::Success);
            assert_eq!(bench.queue.finish(&again.claim, &end).await.unwrap(), Outcome::Performed);
        }
    }
    assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Measured);
    let outbox = bench.store.run_detail(run).await.unwrap().unwrap().outbox;
    let states: Vec<_> = outbox.iter().map(|row| (row.owed.kind, row.job, row.state)).collect();
    let expected = [
        (OwedKind::Upload, Some(jobs[0].id), OwedState::Delivered),
        (OwedKind::Comment, None, OwedState::Owed),
        (OwedKind::Upload, Some(jobs[1].id), OwedState::Owed),
    ];
    assert_eq!(states, expected, "the comment is written anew, the first job's results are not uploaded again");
    deliver_all(&bench, run).await;
    assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Published);
    assert_eq!(bench.queue.retry(run).await.unwrap(), Retried::NothingFailed);
    assert_eq!(bench.queue.retry(7.try_into().unwrap()).await.unwrap(), Retried::Unknown);
}

async fn deliver_all(bench: &Bench, run: RunId) {
    let mut write = bench.store.write(Step::SettleDelivery).await.unwrap();
    for row in bench.store.due_owed(bench.clock.now(), None, Some(run), 10).await.unwrap() {
        let now = bench.clock.now();
        assert_eq!(write.settle_owed(row.id, OwedState::Delivered, None, now).await.unwrap(), Outcome::Performed);
    }
    write.commit().await.unwrap();
    bench.queue.settle().await.unwrap();
}

#[tokio::test]
async fn a_retried_run_that_is_cancelled_keeps_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&plan(SHA, 2)).await;
    let (good, bad) = (bench.claim().await, bench.claim().await);
    bench.measure(&good, SHA, &[1.0]).await;
    for (claim, conclusion) in [(&good.claim, Conclusion::Success), (&bad.claim, Conclusion::TimedOut)] {
        assert_eq!(bench.queue.finish(claim, &ended(conclusion)).await.unwrap(), Outcome::Performed);
    }
    assert_eq!(bench.queue.retry(run).await.unwrap(), Retried::Jobs { jobs: vec![bad.claim.job] });
    assert_eq!(bench.queue.cancel(run, WHY).await.unwrap(), Cancelled::Jobs { count: 1 });
    assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Published);
    assert_eq!(bench.store.values_of_run(run).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rerun_is_the_same_work_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let mut plan = plan(SHA, 2);
    plan.owed = vec![owed(OwedKind::Comment)];
    plan.priority = Some(Priority::HIGHEST);
    plan.jobs[1].start = JobStart::WaitingForImage { until: noon() + Duration::minutes(1) };
    let run = bench.submit(&plan).await;
    let waiting = bench.store.jobs_of_run(run).await.unwrap()[1].id;
    bench.clock.advance(Duration::minutes(2));
    assert_eq!(bench.queue.image_still_absent(waiting, "registry/image:sha").await.unwrap(), Waiting::GivenUp);
    let Rerun::Run { run: again } = bench.queue.rerun(run).await.unwrap() else { panic!("the run exists") };
    let row = bench.store.run(again).await.unwrap().unwrap();
    assert_eq!((row.trigger, row.sha.as_str()), (Trigger::Rerun { of: run }, SHA));
    assert_eq!((row.state, row.priority), (RunState::Queued, Some(Priority::HIGHEST)));
    let (old, new) = (bench.store.jobs_of_run(run).await.unwrap(), bench.store.jobs_of_run(again).await.unwrap());
    let same =
        |job: &benchd::store::JobRow| (job.target.clone(), job.model.clone(), job.spec.clone(), job.max_attempts);
    assert_eq!(old.iter().map(same).collect::<Vec<_>>(), new.iter().map(same).collect::<Vec<_>>());
    assert!(matches!(new[0].state, JobState::Queued { .. }));
    let JobState::WaitingForImage { until, .. } = new[1].state else { panic!("its image was not there") };
    assert_eq!(until, bench.clock.now() + Duration::minutes(90));
    // Also a job that still waits waits anew: what is left of the first wait is no wait.
    bench.clock.advance(Duration::minutes(89));
    let Rerun::Run { run: third } = bench.queue.rerun(again).await.unwrap() else { panic!("the run exists") };
    let waiting = bench.store.jobs_of_run(third).await.unwrap()[1].state.clone();
    assert!(
        matches!(waiting, JobState::WaitingForImage { until, .. } if until == bench.clock.now() + Duration::minutes(90))
    );
    assert_eq!(bench.queue.rerun(7.try_into().unwrap()).await.unwrap(), Rerun::Unknown);
}
