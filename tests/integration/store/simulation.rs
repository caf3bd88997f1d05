//! Random histories of the queue: runners that come, measure, vanish and come back too late, while runs are submitted
//! and cancelled. Whatever happens, no step fails, and in the end every run has ended and answered.

use std::collections::HashSet;

use benchd::model::{Conclusion, FailureKind, JobId, JobState, RunState};
use benchd::queue::{Claim, PassEnd};
use benchd::store::{OwedKind, RunFilter};
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
                runs.push(self.submit(&RunPlan { owed, ..plan(SHA, jobs) }).await);
            }
            Step::Claim => claims.extend(self.queue.claim(&offer("host")).await.unwrap().map(|job| job.claim)),
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
            Step::Wait { seconds } => self.clock.advance(Duration::seconds(seconds)),
            Step::Settle => {
                self.queue.settle().await.unwrap();
            }
        }
        self.assert_no_job_has_two_holders().await;
    }

    async fn assert_no_job_has_two_holders(&self) {
        for run in self.store.list_runs(1000, &RunFilter::default()).await.unwrap() {
            for job in self.store.run_detail(run.run.id).await.unwrap().unwrap().jobs {
                let open = job.attempts.iter().filter(|attempt| attempt.end.is_none()).count();
                let held = matches!(job.job.state, JobState::Claimed { .. } | JobState::Running { .. });
                assert_eq!(open, usize::from(held), "{job:?}");
                assert!(job.attempts.len() <= 3, "{job:?}");
            }
        }
    }

    /// Finishes whatever is left, then looks at every run.
    async fn assert_all_end_and_answer(&self, runs: &[RunId]) {
        for _ in 0..400 {
            self.clock.advance(Duration::minutes(2));
            self.queue.settle().await.unwrap();
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
                RunState::Failed(_) | RunState::Cancelled => assert!(results.is_empty()),
                RunState::Requested
                | RunState::Queued
                | RunState::Running
                | RunState::Published
                | RunState::Superseded => panic!("an end that cannot be: {detail:?}"),
            }
            for job in &detail.jobs {
                let measured = job.attempts.last().is_some_and(|attempt| !attempt.passes.is_empty());
                let uploads = owed(OwedKind::Upload).filter(|row| row.job == Some(job.job.id)).count();
                assert_eq!(uploads, usize::from(measured), "results are owed once: {job:?}");
            }
        }
    }
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
