//! The pure decisions of settling, case by case.

use chrono::{DateTime, TimeZone, Utc};

use super::settle::{Fate, OUTAGE_ATTEMPTS, RunEnd, end_of_run, fate};
use super::*;
use crate::model::{Conclusion, FailureKind, JobState, Target};
use crate::store::JobRow;

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap()
}

fn job(required: bool, state: JobState) -> JobRow {
    JobRow {
        id: 2.try_into().unwrap(),
        run: 1.try_into().unwrap(),
        target: Target { platform: "cpu".parse().unwrap(), device_type: "Xeon".parse().unwrap(), count: 1 },
        model: "m".into(),
        spec: serde_json::Value::Null,
        selection: String::new(),
        required,
        max_attempts: 3,
        attempts_begun: 1,
        attempts_before: 0,
        state,
        message: None,
        created_at: now(),
        finished_at: None,
    }
}

fn ended(conclusion: Conclusion) -> JobRow {
    job(true, JobState::Finished { conclusion })
}

fn end(jobs: &[(JobRow, bool)]) -> RunEnd {
    end_of_run(&jobs.iter().map(|(job, results)| (job, *results)).collect::<Vec<_>>())
}

#[test]
fn only_faults_of_the_house_are_tried_again_and_not_for_ever() {
    let pace = Pace::default();
    for kind in FailureKind::ALL {
        let first = fate(&Conclusion::Failure(kind), 1, 3, pace, now());
        let expected = if kind.is_infrastructure() {
            Fate::Retry { not_before: now() + pace.backoff_after }
        } else {
            Fate::Finish
        };
        assert_eq!(first, expected, "{kind}");
        let third = fate(&Conclusion::Failure(kind), 3, 3, pace, now());
        assert_eq!(third != Fate::Finish, kind.is_outage(), "{kind}");
        let last = fate(&Conclusion::Failure(kind), OUTAGE_ATTEMPTS, 3, pace, now());
        assert_eq!(last, Fate::Finish, "{kind}");
        assert_eq!(fate(&Conclusion::Failure(kind), 1, 1, pace, now()), Fate::Finish, "{kind}: once is once");
    }
    for conclusion in [Conclusion::Success, Conclusion::Incomplete, Conclusion::TimedOut, Conclusion::Cancelled] {
        assert_eq!(fate(&conclusion, 1, 3, pace, now()), Fate::Finish);
    }
}

#[test]
fn waits_double_up_to_a_bound() {
    let pace = Pace::default();
    let lost = Conclusion::Failure(FailureKind::LostRunner);
    let waits = [1, 2, 3, 6, 7, 40, u32::MAX - 1].map(|attempt| match fate(&lost, attempt, u32::MAX, pace, now()) {
        Fate::Retry { not_before } => (not_before - now()).num_seconds(),
        Fate::Finish => -1,
    });
    assert_eq!(waits, [60, 120, 240, 1920, 3600, 3600, 3600]);
}

#[test]
fn a_run_ends_when_its_required_jobs_have() {
    let queued = || JobState::Queued { not_before: now() };
    let failed = |kind| ended(Conclusion::Failure(kind));
    let measured = RunEnd::Ends(RunState::Measured);
    let fails = |kind| RunEnd::Ends(RunState::Failed(kind));

    assert_eq!(end(&[(ended(Conclusion::Success), true), (job(true, queued()), false)]), RunEnd::Open);
    assert_eq!(end(&[(ended(Conclusion::Success), true), (job(false, queued()), false)]), measured);
    assert_eq!(end(&[(ended(Conclusion::Success), true), (failed(FailureKind::OutOfMemory), false)]), measured);
    assert_eq!(end(&[(failed(FailureKind::SuiteExit { code: 1 }), true)]), measured, "some results before the exit");
    assert_eq!(end(&[(ended(Conclusion::TimedOut), true)]), measured);
    assert_eq!(end(&[(failed(FailureKind::OutOfMemory), false)]), fails(FailureKind::OutOfMemory));
    assert_eq!(end(&[(ended(Conclusion::TimedOut), false)]), fails(FailureKind::NothingMeasured));
    let skipped = || ended(Conclusion::Skipped { reason: "needs 8 devices".into() });
    assert_eq!(end(&[(skipped(), false)]), fails(FailureKind::NothingMeasured));
    assert_eq!(
        end(&[(skipped(), false), (failed(FailureKind::ImageMissing), false)]),
        fails(FailureKind::ImageMissing)
    );
    let cancelled = || ended(Conclusion::Cancelled);
    assert_eq!(
        end(&[(failed(FailureKind::ImageMissing), false), (cancelled(), false)]),
        RunEnd::Ends(RunState::Cancelled)
    );
    assert_eq!(end(&[(ended(Conclusion::Superseded), false)]), RunEnd::Ends(RunState::Superseded));
    assert_eq!(end(&[(ended(Conclusion::Success), true), (cancelled(), false)]), measured, "nothing measured is lost");
}
