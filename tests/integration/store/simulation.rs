//! Random histories of the queue: runners that come, measure, vanish and come back too late, while runs are submitted,
//! cancelled, superseded, retried and run again and the clock is set. Whatever happens, no step fails, and in the end every run has ended and answered.

use std::collections::HashSet;

use benchd::model::{Conclusion, Control, FailureKind, JobId, JobState, RunState};
use benchd::queue::{Claim, PassEnd, Rerun, RunningJobs};
use benchd::store::{JobStart, OwedKind, RunFilter};
use chrono::Duration;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Submit { jobs: usize },
    Claim,
    Measure { claim: usize },
    Finish { claim: usize, how: usize },
    Heartbeat { claim: usize },
    Cancel { run: usize },
    CancelJob { claim: usize },
    Retry { run: usize },
    Rerun { run: usize },
    Supersede { run: usize, by: usize, finish: bool },
    Look { job: usize, found: bool },
    Pause { pause: bool },
    Wait { seconds: i64 },
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (1..4_usize).prop_map(|jobs| Step::Submit { jobs }),
        4 => Just(Step::Claim),
        4 => any::<usize>().prop_map(|claim| Step::Measure { claim }),
        3 => (any::<usize>(), any::<usize>()).prop_map(|(claim, how)| Step::Finish { claim, how }),
        2 => any::<usize>().prop_map(|claim| Step::Heartbeat { claim }),
        1 => any::<usize>().prop_map(|run| Step::Cancel { run }),
        1 => any::<usize>().prop_map(|claim| Step::CancelJob { claim }),
        1 => any::<usize>().prop_map(|run| Step::Retry { run }),
        1 => any::<usize>().prop_map(|run| Step::Rerun { run }),
        1 => (any::<usize>(), any::<usize>(), any::<bool>())
            .prop_map(|(run, by, finish)| Step::Supersede { run, by, finish }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(job, found)| Step::Look { job, found }),
        1 => any::<bool>().prop_map(|pause| Step::Pause { pause }),
        // The clock is set back or leaps ahead.
        1 => prop_oneof![Just(-3600_i64), Just(24 * 3600)].prop_map(|seconds| Step::Wait { seconds }),
        3 => (1..200_i64).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Settle),
    ]
}

fn conclusion(n: usize) -> Conclusion {
    let all = [
        Conclusion::Success,
        Conclusion::Incomplete,
        Conclusion::TimedOut,
        Conclusion::Failure(FailureKind::SuiteExit { code: 1 }),
        Conclusion::Failure(FailureKind::EngineUnavailable),
        Conclusion::Failure(FailureKind::DiskFull),
        Conclusion::Skipped { reason: "not in the model cache".into() },
    ];
    all[n % all.len()].clone()
}

fn pick<T>(all: &[T], n: usize) -> Option<&T> {
    all.get(n.checked_rem(all.len())?)
}

/// What a history has brought so far.
#[derive(Default)]
struct History {
    runs: Vec<RunId>,
    claims: Vec<Claim>,
    begun: HashSet<(JobId, u32)>,
}

impl Bench {
    async fn act(&self, step: Step, History { runs, claims, begun }: &mut History) {
        match step {
            Step::Submit { jobs } => {
                let owed = [OwedKind::Upload, OwedKind::Notification].map(owed).to_vec();
                let mut plan = RunPlan { owed, ..plan(SHA, jobs) };
                // The second job of a run waits for its image, the third needs more devices.
                for job in plan.jobs.iter_mut().skip(1).take(1) {
                    job.start = JobStart::WaitingForImage { until: self.clock.now() + Duration::minutes(90) };
                }
                for job in plan.jobs.iter_mut().skip(2) {
                    job.target.count = 4;
                }
                runs.push(self.submit(&plan).await);
            }
            Step::Claim => claims.extend(self.queue.claim(&small_host("host")).await.unwrap().map(|job| job.claim)),
            Step::Measure { claim } => {
                let Some(claim) = pick(claims, claim) else { return };
                // A pass is begun once: its number is its key.
                if !begun.insert((claim.job, claim.attempt)) {
                    return;
                }
                if self.queue.begin_pass(claim, &pass(1, SHA)).await.unwrap() == Outcome::Performed {
                    let end = PassEnd { measurements: vec![measured("avg_latency", &[1.0])], ..PassEnd::default() };
                    assert_eq!(self.queue.end_pass(claim, 1, &end).await.unwrap(), Outcome::Performed);
                }
            }
            Step::Finish { claim, how } => {
                let Some(claim) = pick(claims, claim) else { return };
                let _either = self.queue.finish(claim, &ended(conclusion(how))).await.unwrap();
            }
            Step::Heartbeat { claim } => {
                let Some(claim) = pick(claims, claim) else { return };
                let _either = self.queue.heartbeat(claim).await.unwrap();
            }
            Step::Cancel { run } => {
                if let Some(run) = pick(runs, run) {
                    let _either = self.queue.cancel(*run, "by a person").await.unwrap();
                }
            }
            Step::CancelJob { claim } => {
                if let Some(claim) = pick(claims, claim) {
                    let _either = self.queue.cancel_job(claim.job, "by a person").await.unwrap();
                }
            }
            Step::Retry { run } => {
                if let Some(run) = pick(runs, run) {
                    let _either = self.queue.retry(*run).await.unwrap();
                }
            }
            Step::Rerun { run } => {
                let Some(run) = pick(runs, run).copied() else { return };
                let Rerun::Run { run } = self.queue.rerun(run).await.unwrap() else { panic!("the run exists") };
                runs.push(run);
            }
            Step::Supersede { run, by, finish } => {
                let (Some(run), Some(by)) = (pick(runs, run), pick(runs, by)) else { return };
                let running = if finish { RunningJobs::Finish } else { RunningJobs::Stop };
                let _either = self.queue.supersede(*run, *by, running).await.unwrap();
            }
            Step::Look { job, found } => {
                let due = self.queue.due_looks().await.unwrap();
                let Some(job) = pick(&due, job) else { return };
                if found {
                    assert_eq!(self.queue.image_found(job.id).await.unwrap(), Outcome::Performed);
                } else {
                    let _either = self.queue.image_still_absent(job.id, "r/i:t").await.unwrap();
                }
            }
            Step::Pause { pause } => {
                let host = Control::Host("host".parse().unwrap());
                let _either = if pause {
                    self.queue.pause(&host, "somebody", None).await.unwrap()
                } else {
                    self.queue.resume(&host, "somebody").await.unwrap()
                };
            }
            Step::Wait { seconds } => self.clock.advance(Duration::seconds(seconds)),
            Step::Settle => {
                self.queue.settle().await.unwrap();
            }
        }
        self.assert_nothing_is_held_twice().await;
    }

    /// No job has two holders, no device has two jobs.
    async fn assert_nothing_is_held_twice(&self) {
        let mut devices = HashSet::new();
        for held in self.store.held_jobs(Some(&"host".parse().unwrap())).await.unwrap() {
            assert_eq!(held.claimed.slot.devices.len(), held.claimed.job.target.count as usize);
            assert!(held.claimed.slot.devices.iter().all(|device| devices.insert(*device)), "{held:?}");
        }
        for run in self.store.list_runs(1000, &RunFilter::default()).await.unwrap() {
            for job in self.store.run_detail(run.run.id).await.unwrap().unwrap().jobs {
                let open = job.attempts.iter().filter(|attempt| attempt.end.is_none()).count();
                let held = matches!(job.job.state, JobState::Claimed { .. } | JobState::Running { .. });
                assert_eq!(open, usize::from(held), "{job:?}");
                let forgiven = job.job.attempts_before as usize;
                assert!(job.attempts.len() <= forgiven + 3, "{job:?}");
            }
        }
    }

    /// Finishes whatever is left, then looks at every run.
    async fn assert_all_end_and_answer(&self, runs: &[RunId]) {
        for _ in 0..400 {
            self.clock.advance(Duration::minutes(2));
            self.queue.settle().await.unwrap();
            for job in self.queue.due_looks().await.unwrap() {
                assert_eq!(self.queue.image_found(job.id).await.unwrap(), Outcome::Performed);
            }
            if let Some(job) = self.queue.claim(&offer("last")).await.unwrap() {
                let _either = self.queue.finish(&job.claim, &ended(Conclusion::Success)).await.unwrap();
            }
        }
        for run in runs {
            let detail = self.store.run_detail(*run).await.unwrap().unwrap();
            let results = self.store.values_of_run(*run).await.unwrap();
            let owed = |kind| detail.outbox.iter().filter(move |row| row.owed.kind == kind);
            assert_eq!(owed(OwedKind::Notification).count(), 1, "every end is answered once: {detail:?}");
            match detail.run.state {
                RunState::Measured => assert!(!results.is_empty()),
                RunState::Failed(_) | RunState::Cancelled | RunState::Superseded => assert!(results.is_empty()),
                RunState::Requested | RunState::Queued | RunState::Running | RunState::Published => {
                    panic!("an end that cannot be: {detail:?}")
                }
            }
            for job in &detail.jobs {
                let measured = job.attempts.last().is_some_and(|attempt| !attempt.passes.is_empty());
                let uploads = owed(OwedKind::Upload).filter(|row| row.job == Some(job.job.id)).count();
                assert_eq!(uploads, usize::from(measured), "results are owed once: {job:?}");
            }
        }
    }
}

/// A host with room for a large job or four small ones.
fn small_host(by: &str) -> ClaimOffer {
    ClaimOffer { host: host(4, Packing::Pack), ..offer(by) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_ends_in_answers(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let bench = bench(dir.path()).await;
            let mut history = History::default();
            for step in steps {
                bench.act(step, &mut history).await;
            }
            bench.assert_all_end_and_answer(&history.runs).await;
            bench.store.close().await;
        });
    }
}
