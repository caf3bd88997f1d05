//! Death before and after every lasting step of a person's verbs, of settling and of tidying up: all of it is done or
//! nothing, and asking again does the rest and nothing twice. The steps of a run itself: `engine::kills`.

use std::os::unix::process::ExitStatusExt;

use benchd::config::ArtifactRetention;
use benchd::model::{Conclusion, Control, FailureKind};
use benchd::queue::{Cancelled, Rerun, Retried, RunningJobs};
use benchd::step::{Step, abort};
use benchd::store::RunFilter;
use benchd::store::artifacts::{Artifacts, AttemptKey};
use chrono::TimeDelta;

use super::faults::{child, childs_store};
use super::*;

const POINT: &str = "BENCHD_TEST_POINT";
const TEST: &str = "store::kills::a_verb_is_done_or_not_wherever_the_process_dies";
const STEPS: [Step; 13] = [
    Step::SettleOverdue,
    Step::DrawIn,
    Step::CancelRun,
    Step::CancelJob,
    Step::SupersedeRun,
    Step::RetryRun,
    Step::RerunRun,
    Step::Pause,
    Step::Resume,
    Step::RemoveArtifacts,
    Step::ForgetArtifacts,
    Step::NoteProgress,
    Step::GiveBack,
];

/// How far the clock is moved between the situation and the step.
fn later(step: Step) -> TimeDelta {
    match step {
        Step::DrawIn => -TimeDelta::days(1),
        Step::RemoveArtifacts | Step::ForgetArtifacts => TimeDelta::days(91),
        _ => TimeDelta::zero(),
    }
}

/// Two runs of two jobs, with one job claimed, and what the step needs beside them.
async fn prepare(bench: &Bench, dir: &Path, step: Step) {
    for _ in 0..2 {
        bench.submit(&plan(SHA, 2)).await;
    }
    let claimed = bench.claim().await;
    match step {
        Step::RetryRun => {
            let end = ended(Conclusion::Failure(FailureKind::NoResults));
            assert_eq!(bench.queue.finish(&claimed.claim, &end).await.unwrap(), Outcome::Performed);
        }
        Step::Resume => assert_eq!(pause(bench).await, Outcome::Performed),
        Step::RemoveArtifacts | Step::ForgetArtifacts => {
            bench.measure(&claimed, SHA, &[1.0]).await;
            let key = AttemptKey { run: claimed.job.run, job: claimed.claim.job, attempt: 1 };
            std::fs::write(Artifacts::new(dir).make_pass_dir(key, 1).unwrap().join("console.log"), "log").unwrap();
            let end = ended(Conclusion::Success);
            assert_eq!(bench.queue.finish(&claimed.claim, &end).await.unwrap(), Outcome::Performed);
        }
        _ => {}
    }
}

async fn pause(bench: &Bench) -> Outcome {
    bench.queue.pause(&Control::Triggers, "alice", None).await.unwrap()
}

/// Does what comes to the step, or finds it done.
async fn act(bench: &Bench, dir: &Path, step: Step) {
    let mut runs: Vec<RunId> = runs(bench).await;
    runs.sort();
    let held = bench.store.held_jobs(None).await.unwrap();
    let first = held.first().map_or(runs[0], |held| held.claimed.job.run);
    match step {
        Step::SettleOverdue => {
            for _ in 0..12 {
                bench.queue.settle().await.unwrap();
                bench.clock.advance(TimeDelta::seconds(30));
            }
        }
        Step::DrawIn => drop(bench.queue.settle().await.unwrap()),
        Step::CancelRun => {
            let cancelled = bench.queue.cancel(first, "alice").await.unwrap();
            assert_ne!(cancelled, Cancelled::Unknown);
        }
        Step::CancelJob => {
            let job = bench.store.jobs_of_run(runs[0]).await.unwrap()[1].id;
            assert_ne!(bench.queue.cancel_job(job, "alice").await.unwrap(), Cancelled::Unknown);
        }
        Step::SupersedeRun => {
            let superseded = bench.queue.supersede(runs[0], runs[1], RunningJobs::Stop).await.unwrap();
            assert_ne!(superseded, Cancelled::Unknown);
        }
        Step::RetryRun => assert_ne!(bench.queue.retry(runs[0]).await.unwrap(), Retried::Unknown),
        Step::RerunRun => assert_ne!(bench.queue.rerun(runs[0]).await.unwrap(), Rerun::Unknown),
        Step::Pause => drop(pause(bench).await),
        Step::Resume => drop(bench.queue.resume(&Control::Triggers, "alice").await.unwrap()),
        Step::NoteProgress => {
            assert_eq!(bench.queue.note_points(&held[0].claimed.claim, 1).await.unwrap(), Outcome::Performed);
        }
        Step::GiveBack => {
            for held in held {
                let given_back = bench.queue.give_back(&held.claimed.claim, "benchd was stopped").await.unwrap();
                assert_eq!(given_back, Outcome::Performed);
            }
        }
        Step::RemoveArtifacts | Step::ForgetArtifacts => {
            let limits = ArtifactRetention::default();
            Artifacts::new(dir).sweep(&bench.store, &limits, bench.clock.now()).await.unwrap();
        }
        _ => unreachable!("a step of a run"),
    }
}

async fn runs(bench: &Bench) -> Vec<RunId> {
    let runs = bench.store.list_runs(100, &RunFilter::default()).await.unwrap();
    runs.into_iter().map(|summary| summary.run.id).collect()
}

/// Everything that a step could change, without numbers that are drawn.
async fn seen(bench: &Bench, dir: &Path) -> String {
    let mut seen = vec![format!("{:?}", bench.queue.pauses().await.unwrap())];
    for run in runs(bench).await {
        let detail = bench.store.run_detail(run).await.unwrap().unwrap();
        seen.push(format!("{:?} superseded {}", detail.run.state, detail.run.superseded_by.is_some()));
        for job in detail.jobs {
            let removed = job.attempts.iter().filter(|attempt| attempt.artifacts_removed_at.is_some()).count();
            let message = job.job.message.unwrap_or_default().replace(|c: char| c.is_ascii_digit(), "");
            let begun: u32 = job.attempts.iter().map(|attempt| attempt.points_begun).sum();
            seen.push(format!("  {} {:?} {message:?} {removed} {begun}", job.job.model, job.job.state));
        }
    }
    let files = std::fs::read_dir(dir.join("artifacts")).map_or(0, Iterator::count);
    seen.push(format!("artifacts of {files} runs"));
    seen.join("\n")
}

#[tokio::test]
async fn a_verb_is_done_or_not_wherever_the_process_dies() {
    if let Some(dir) = childs_store() {
        let point: abort::Point = std::env::var(POINT).unwrap().parse().unwrap();
        let bench = bench(&dir).await;
        prepare(&bench, &dir, point.step).await;
        bench.clock.advance(later(point.step));
        abort::at(point);
        act(&bench, &dir, point.step).await;
        return;
    }
    for step in STEPS {
        let dir = tempfile::tempdir().unwrap();
        let living = bench(dir.path()).await;
        prepare(&living, dir.path(), step).await;
        living.clock.advance(later(step));
        let undone = seen(&living, dir.path()).await;
        act(&living, dir.path(), step).await;
        let done = seen(&living, dir.path()).await;
        assert_ne!(undone, done, "{step}");
        for side in ["before", "after"] {
            let point = format!("{side}:{step}");
            let dir = tempfile::tempdir().unwrap();
            let output = child(TEST, dir.path(), &[(POINT, &point)]).wait_with_output().unwrap();
            assert_eq!(output.status.signal(), Some(6), "{point}: {}", String::from_utf8_lossy(&output.stdout));
            let again = bench(dir.path()).await;
            again.clock.advance(later(step));
            let found = seen(&again, dir.path()).await;
            match (side, step) {
                // The files are gone and the store does not know it yet.
                ("after", Step::RemoveArtifacts) | ("before", Step::ForgetArtifacts) => {
                    assert!(found != undone && found != done, "{point}: {found}");
                }
                ("before", _) => assert_eq!(found, undone, "{point}"),
                (_, _) => assert_eq!(found, done, "{point}"),
            }
            // Nobody knows that a commit is wanted once more but who asked, and asks again only without an answer.
            if (side, step) != ("after", Step::RerunRun) {
                act(&again, dir.path(), step).await;
                assert_eq!(seen(&again, dir.path()).await, done, "{point}");
            }
            again.store.close().await;
        }
    }
}
