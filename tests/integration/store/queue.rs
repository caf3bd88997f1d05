//! Claims, leases, retries and the ends of runs.

use std::collections::BTreeSet;

use benchd::config::Packing;
use benchd::model::{Conclusion, FailureKind, JobState, RunState, Trigger};
use benchd::queue::{Cancelled, Heartbeat, Outcome, PassEnd, Submitted};
use benchd::step::Step;
use benchd::store::artifacts::{Artifacts, AttemptKey};
use benchd::store::{JobStart, OwedKind, OwedState, RunFilter};
use chrono::Duration;

use super::*;

fn failure(kind: FailureKind) -> AttemptEnd {
    ended(Conclusion::Failure(kind))
}

impl Bench {
    async fn state(&self, run: RunId) -> RunState {
        self.store.run(run).await.unwrap().unwrap().state
    }

    async fn job_state(&self, run: RunId) -> JobState {
        self.store.jobs_of_run(run).await.unwrap()[0].state.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_job_is_claimed_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = bench(dir.path()).await;
    // A second store on the same file stands for a second process.
    let second = bench(dir.path()).await;
    let run = first.submit(&plan(SHA, 100)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let queue = if n % 2 == 0 { first.queue.clone() } else { second.queue.clone() };
        tasks.spawn(async move {
            let mut claimed = Vec::new();
            while let Some(job) = queue.claim(&offer(&format!("host-{n}"))).await.unwrap() {
                assert_eq!(job.claim.attempt, 1);
                claimed.push(job.claim.job);
            }
            claimed
        });
    }
    let claimed = tasks.join_all().await.concat();
    assert_eq!(claimed.len(), 100);
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), 100);
    let ids: Vec<_> = first.store.jobs_of_run(run).await.unwrap().iter().map(|job| job.id.number()).collect();
    assert!(ids.is_sorted() && ids.iter().all(|id| *id > run.number()), "ids grow, jobs after their run");
}

#[tokio::test]
async fn a_runner_takes_only_what_fits_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let offer_of = |by, devices| ClaimOffer { host: host(devices, Packing::Exclusive), ..offer(by) };
    let (small, large) = (offer_of("one device", 1), offer_of("two devices", 2));
    assert!(bench.queue.claim(&large).await.unwrap().is_none(), "nothing is queued");
    let mut two = plan(SHA, 1);
    two.jobs[0].target.count = 2;
    let run = bench.submit(&two).await;
    let of_another = ClaimOffer { run: Some((run.number() + 1).try_into().unwrap()), ..large.clone() };
    assert!(bench.queue.claim(&of_another).await.unwrap().is_none(), "only jobs of the run it asks for");
    assert!(bench.queue.claim(&small).await.unwrap().is_none(), "left for the larger runner");
    let mut other = offer("other device");
    other.host.device_type = "NVIDIA B200".parse().unwrap();
    assert!(bench.queue.claim(&other).await.unwrap().is_none(), "targets never stand for each other");
    assert!(bench.queue.claim(&large).await.unwrap().is_some());

    let mut four = plan(SHA, 2);
    four.jobs[0].target.count = 4;
    let run = bench.submit(&four).await;
    assert_eq!(bench.queue.claim(&small).await.unwrap().unwrap().job.target.count, 1, "no runner has four");
    let JobState::Finished { conclusion } = bench.job_state(run).await else { panic!("the large job is skipped") };
    assert_eq!(conclusion.to_string(), "skipped: needs 4 devices (Xeon_8488C_48c), this host has 1");
}

#[tokio::test]
async fn a_good_run_is_measured_owed_and_published() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let mut plan = plan(SHA, 2);
    plan.owed = vec![owed(OwedKind::Upload), owed(OwedKind::Comment)];
    let run = bench.submit(&plan).await;
    assert_eq!(bench.state(run).await, RunState::Queued);
    let (good, bad) = (bench.claim().await, bench.claim().await);
    assert_eq!(bench.state(run).await, RunState::Running);

    bench.measure(&good, SHA, &[1.0, 3.0]).await;
    assert!(matches!(bench.job_state(run).await, JobState::Running { .. }));
    bench.clock.advance(Duration::minutes(1));
    assert_eq!(bench.queue.finish(&good.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.state(run).await, RunState::Running, "one job is missing");
    // The results of the finished job are owed at once, the comment when the run ends.
    let kinds = |rows: &[benchd::store::OutboxRow]| rows.iter().map(|r| (r.owed.kind, r.job)).collect::<Vec<_>>();
    let upload = (OwedKind::Upload, Some(good.claim.job));
    assert_eq!(kinds(&bench.store.run_detail(run).await.unwrap().unwrap().outbox), [upload]);

    assert_eq!(bench.queue.finish(&bad.claim, &failure(FailureKind::OutOfMemory)).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.state(run).await, RunState::Measured);
    let due = bench.store.due_owed(bench.clock.now(), None, Some(run), 10).await.unwrap();
    assert_eq!(kinds(&due), [upload, (OwedKind::Comment, None)]);
    assert_eq!(bench.queue.settle().await.unwrap().moved, [], "nothing is delivered yet");

    for row in &due {
        let mut write = bench.store.write(Step::SettleDelivery).await.unwrap();
        let later = bench.clock.now() + Duration::minutes(5);
        assert_eq!(write.postpone_owed(row.id, "503", later).await.unwrap(), Outcome::Performed);
        write.commit().await.unwrap();
    }
    assert!(bench.store.due_owed(bench.clock.now(), None, None, 10).await.unwrap().is_empty());
    bench.clock.advance(Duration::minutes(5));
    for row in bench.store.due_owed(bench.clock.now(), None, None, 10).await.unwrap() {
        assert_eq!((row.attempts, row.last_error.as_deref()), (1, Some("503")));
        let mut write = bench.store.write(Step::SettleDelivery).await.unwrap();
        let settled = write.settle_owed(row.id, OwedState::Delivered, None, bench.clock.now()).await.unwrap();
        assert_eq!(settled, Outcome::Performed);
        let again = write.settle_owed(row.id, OwedState::Refused, None, bench.clock.now()).await.unwrap();
        assert_eq!(again, Outcome::Moved, "one end only");
        write.commit().await.unwrap();
    }
    assert_eq!(bench.queue.settle().await.unwrap().moved, [(run, RunState::Published)]);
    assert_eq!(bench.queue.settle().await.unwrap(), Default::default(), "settling again changes nothing");
}

#[tokio::test]
async fn a_run_without_results_fails_and_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let mut plan = plan(SHA, 1);
    plan.owed = vec![owed(OwedKind::Upload), owed(OwedKind::CheckRun), owed(OwedKind::Notification)];
    let run = bench.submit(&plan).await;
    let job = bench.claim().await;
    assert_eq!(bench.queue.finish(&job.claim, &failure(FailureKind::NoResults)).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.state(run).await, RunState::Failed(FailureKind::NoResults));
    let kinds: Vec<_> =
        bench.store.run_detail(run).await.unwrap().unwrap().outbox.iter().map(|row| row.owed.kind).collect();
    assert_eq!(kinds, [OwedKind::CheckRun, OwedKind::Notification], "no results, nothing to upload");
}

#[tokio::test]
async fn a_refused_upload_fails_the_run_and_nothing_owed_publishes_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let quiet = bench.whole_run(&plan(SHA, 1), 1.0).await;
    assert_eq!(bench.state(quiet).await, RunState::Published);
    let mut owing = plan(SHA, 1);
    owing.owed = vec![owed(OwedKind::Upload)];
    let run = bench.whole_run(&owing, 1.0).await;
    let row = &bench.store.run_detail(run).await.unwrap().unwrap().outbox[0];
    let mut write = bench.store.write(Step::SettleDelivery).await.unwrap();
    let _refused = write.settle_owed(row.id, OwedState::Refused, Some("403"), bench.clock.now()).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(bench.queue.settle().await.unwrap().moved, [(run, RunState::Failed(FailureKind::PublishRefused))]);
}

#[tokio::test]
async fn a_lost_runner_is_replaced_and_may_not_write_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&plan(SHA, 1)).await;
    let lost = bench.claim().await;
    bench.queue.settle().await.unwrap();
    assert_eq!(bench.queue.begin_pass(&lost.claim, &pass(1, SHA)).await.unwrap(), Outcome::Performed);
    bench.clock.advance(Duration::seconds(100));
    assert_eq!(bench.queue.settle().await.unwrap(), Default::default());
    let Heartbeat::Renewed { lease_until } = bench.queue.heartbeat(&lost.claim).await.unwrap() else {
        panic!("the claim still holds")
    };
    assert_eq!(lease_until, bench.clock.now() + Duration::seconds(120));
    bench.clock.advance(Duration::seconds(100));
    assert_eq!(bench.queue.settle().await.unwrap(), Default::default(), "the heartbeat kept the claim");
    bench.clock.advance(Duration::seconds(21));
    assert_eq!(bench.queue.settle().await.unwrap().lost, [lost.claim.job]);
    assert!(bench.queue.claim(&offer("too early")).await.unwrap().is_none(), "first it waits");
    bench.clock.advance(Duration::seconds(60));
    let second = bench.claim().await;
    assert_eq!((second.claim.job, second.claim.attempt), (lost.claim.job, 2));

    assert_eq!(bench.queue.heartbeat(&lost.claim).await.unwrap(), Heartbeat::Lost);
    assert_eq!(bench.queue.begin_pass(&lost.claim, &pass(2, SHA)).await.unwrap(), Outcome::Moved);
    assert_eq!(bench.queue.end_pass(&lost.claim, 1, &PassEnd::default()).await.unwrap(), Outcome::Moved);
    assert_eq!(bench.queue.finish(&lost.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Moved);

    bench.measure(&second, SHA, &[2.0]).await;
    assert_eq!(bench.queue.end_pass(&second.claim, 1, &PassEnd::default()).await.unwrap(), Outcome::Moved, "ended");
    assert_eq!(bench.queue.finish(&second.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.queue.finish(&second.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Moved);
    assert_eq!(bench.state(run).await, RunState::Published);
    let detail = bench.store.run_detail(run).await.unwrap().unwrap();
    let ends: Vec<_> = detail.jobs[0].attempts.iter().map(|attempt| attempt.end.clone().unwrap()).collect();
    assert_eq!(ends, [Conclusion::Failure(FailureKind::LostRunner), Conclusion::Success]);
}

#[tokio::test]
async fn a_fault_of_the_house_is_tried_three_times() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&plan(SHA, 1)).await;
    for attempt in 1..=3 {
        let job = bench.claim().await;
        assert_eq!(job.claim.attempt, attempt);
        let end = failure(FailureKind::StartFailed);
        assert_eq!(bench.queue.finish(&job.claim, &end).await.unwrap(), Outcome::Performed);
        bench.clock.advance(Duration::minutes(2));
    }
    assert!(bench.queue.claim(&offer("host")).await.unwrap().is_none());
    assert_eq!(bench.state(run).await, RunState::Failed(FailureKind::StartFailed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_read_as_it_stood_at_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&plan(SHA, 1)).await;
    let (store, queue, clock) = (bench.store.clone(), bench.queue.clone(), bench.clock.clone());
    let working = tokio::spawn(async move {
        // An outage is tried often: as many moves of one job as there can be.
        while let Some(job) = queue.claim(&offer("host")).await.unwrap() {
            let end = failure(FailureKind::RegistryUnavailable);
            assert_eq!(queue.finish(&job.claim, &end).await.unwrap(), Outcome::Performed);
            clock.advance(Duration::hours(2));
        }
    });
    let mut last = None;
    while !working.is_finished() || last.is_none() {
        let detail = store.run_detail(run).await.unwrap().unwrap();
        let job = &detail.jobs[0];
        let held = job.attempts.last().is_some_and(|attempt| attempt.end.is_none());
        assert_eq!(matches!(job.job.state, JobState::Claimed { .. }), held, "{detail:#?}");
        let finished = matches!(job.job.state, JobState::Finished { .. });
        assert_eq!(finished, matches!(detail.run.state, RunState::Failed(_)), "{detail:#?}");
        last = Some(detail);
    }
    working.await.unwrap();
    assert_eq!(store.run_detail(run).await.unwrap().unwrap().jobs[0].attempts.len(), 12);
}

#[tokio::test]
async fn an_image_is_waited_for_and_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let mut waiting = plan(SHA, 1);
    waiting.jobs[0].start = JobStart::WaitingForImage { until: noon() + Duration::hours(1) };
    let (found, missing) = (bench.submit(&waiting).await, bench.submit(&waiting).await);
    assert!(bench.queue.claim(&offer("host")).await.unwrap().is_none());
    let job = bench.store.jobs_of_run(found).await.unwrap()[0].id;
    assert_eq!(bench.queue.image_found(job).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.queue.image_found(job).await.unwrap(), Outcome::Moved);
    assert_eq!(bench.claim().await.claim.job, job);
    assert_eq!(bench.queue.settle().await.unwrap(), Default::default());
    bench.clock.advance(Duration::minutes(76));
    assert_eq!(bench.queue.settle().await.unwrap(), Default::default(), "nobody watched: holders may still report");
    bench.clock.advance(Duration::minutes(2));
    let settled = bench.queue.settle().await.unwrap();
    assert_eq!((settled.given_up.len(), settled.lost), (1, vec![job]));
    assert_eq!(bench.state(missing).await, RunState::Failed(FailureKind::ImageMissing));
}

#[tokio::test]
async fn a_cancelled_run_stops_its_runners_and_keeps_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&plan(SHA, 2)).await;
    let job = bench.claim().await;
    assert_eq!(bench.queue.cancel(run, "by alice").await.unwrap(), Cancelled::Jobs { count: 2 });
    assert_eq!(bench.state(run).await, RunState::Cancelled);
    assert_eq!(bench.queue.heartbeat(&job.claim).await.unwrap(), Heartbeat::Lost);
    assert!(bench.queue.claim(&offer("host")).await.unwrap().is_none());

    let mut owing = plan(SHA, 2);
    owing.owed = vec![owed(OwedKind::Upload)];
    let partly = bench.submit(&owing).await;
    let job = bench.claim().await;
    bench.measure(&job, SHA, &[1.0]).await;
    assert_eq!(bench.queue.cancel(partly, "by alice").await.unwrap(), Cancelled::Jobs { count: 2 });
    assert_eq!(bench.state(partly).await, RunState::Measured);
    assert_eq!(bench.store.run_detail(partly).await.unwrap().unwrap().outbox[0].job, Some(job.claim.job));
}

#[tokio::test]
async fn nothing_to_do_is_an_answer_and_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    assert_eq!(bench.queue.submit_run(&plan(SHA, 0)).await.unwrap(), Submitted::NothingToDo);
    assert!(bench.store.list_runs(10, &RunFilter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn old_artifacts_go_and_those_of_releases_and_owed_results_stay() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let artifacts = Artifacts::new(dir.path());
    let release = RunPlan { trigger: Trigger::Release { tag: "v1".into() }, ..plan(SHA, 1) };
    let owing = RunPlan { owed: vec![owed(OwedKind::Upload)], ..plan(SHA, 1) };
    let mut keys = Vec::new();
    for plan in [&plan(SHA, 1), &release, &owing] {
        let run = bench.whole_run(plan, 1.0).await;
        let key = AttemptKey { run, job: bench.store.jobs_of_run(run).await.unwrap()[0].id, attempt: 1 };
        std::fs::write(artifacts.make_pass_dir(key, 1).unwrap().join("console.log"), "log").unwrap();
        keys.push(key);
    }
    let failed = bench.submit(&plan(SHA, 1)).await;
    let job = bench.claim().await;
    let key = AttemptKey { run: failed, job: job.claim.job, attempt: 1 };
    artifacts.make_pass_dir(key, 1).unwrap();
    assert_eq!(bench.queue.finish(&job.claim, &failure(FailureKind::NoResults)).await.unwrap(), Outcome::Performed);
    keys.push(key);

    let limits = benchd::config::ArtifactRetention::default();
    assert_eq!(artifacts.sweep(&bench.store, &limits, bench.clock.now()).await.unwrap(), Default::default());
    bench.clock.advance(Duration::days(91));
    let swept = artifacts.sweep(&bench.store, &limits, bench.clock.now()).await.unwrap();
    assert_eq!((swept.attempts, swept.bytes), (vec![keys[0], keys[3]], 20));
    let there: Vec<_> = keys.iter().map(|key| artifacts.attempt_dir(*key).exists()).collect();
    assert_eq!(there, [false, true, true, false]);
    assert_eq!(artifacts.sweep(&bench.store, &limits, bench.clock.now()).await.unwrap(), Default::default());
    assert_eq!(bench.store.values_of_run(keys[0].run).await.unwrap().len(), 1, "measurements stay for ever");
}
