//! What the store knows of a pull request, as decisions need it: its runs and how far each has come.

use chrono::{DateTime, TimeDelta, Utc};

use super::decide::{Known, KnownRun, Stage};
use crate::model::{JobState, RunPhase};
use crate::queue::spec::JobSpec;
use crate::store::{JobRow, PullRow, PullRun, Store, StoreError};
use crate::trigger::policy::rough_duration;

/// A job that goes on for longer than expected counts as almost done, in percent.
const ALMOST_PERCENT: u64 = 99;

/// What is known of the pull request `row` with these runs.
pub(super) async fn known(
    store: &Store,
    row: &PullRow,
    runs: &[PullRun],
    now: DateTime<Utc>,
) -> Result<Known, StoreError> {
    let mut all = Vec::with_capacity(runs.len());
    for PullRun { run, asked, withdrawn_at, .. } in runs {
        let stage = match run.state.phase() {
            // One that was withdrawn and then retried waits again.
            RunPhase::Requested | RunPhase::Queued => Stage::Waiting,
            RunPhase::Running => Stage::Running { done_percent: done_percent(store, run.id, now).await? },
            RunPhase::Measured
            | RunPhase::Published
            | RunPhase::Failed
            | RunPhase::Cancelled
            | RunPhase::Superseded => {
                if withdrawn_at.is_some() {
                    Stage::Withdrawn
                } else {
                    Stage::Ended
                }
            }
        };
        all.push(KnownRun { run: run.id, sha: run.sha.clone(), asked: *asked, stage });
    }
    Ok(Known { runs: all, head_since: row.head_seen_at, said: row.said.clone() })
}

/// How much of a run is done: jobs that have ended, and of those that run the time they have taken.
async fn done_percent(store: &Store, run: crate::model::RunId, now: DateTime<Utc>) -> Result<u32, StoreError> {
    let mut shares = Vec::new();
    for job in store.jobs_of_run(run).await? {
        let expected = match store.usual_duration(&job.alike()).await? {
            Some(usual) => usual,
            None => serde_json::from_value::<JobSpec>(job.spec.clone())
                .map(|spec| rough_duration(&spec.planned))
                .unwrap_or_default(),
        };
        // A job of unknown length weighs something.
        shares.push(share(&job, expected.as_secs().max(1), now));
    }
    Ok(percent(&shares))
}

/// How long a job takes in all, and how much of that is over, in seconds.
fn share(job: &JobRow, expected: u64, now: DateTime<Utc>) -> (u64, u64) {
    let over = match &job.state {
        JobState::WaitingForImage { .. } | JobState::Queued { .. } | JobState::Claimed { .. } => 0,
        JobState::Running { started_at, .. } => {
            let since = (now - *started_at).max(TimeDelta::zero()).num_seconds();
            u64::try_from(since).unwrap_or(0).min(expected.saturating_mul(ALMOST_PERCENT) / 100)
        }
        JobState::Finished { .. } => expected,
    };
    (expected, over)
}

fn percent(shares: &[(u64, u64)]) -> u32 {
    let all: u64 = shares.iter().map(|(expected, _)| expected).sum();
    let over: u64 = shares.iter().map(|(_, over)| over).sum();
    u32::try_from(over.saturating_mul(100).checked_div(all).unwrap_or(0)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_run_is_that_of_its_time() {
        for (shares, expected) in [
            (&[][..], 0),
            (&[(100, 0)], 0),
            (&[(100, 50)], 50),
            (&[(100, 100), (300, 0)], 25),
            (&[(100, 100), (300, 300)], 100),
        ] {
            assert_eq!(percent(shares), expected, "{shares:?}");
        }
    }
}
