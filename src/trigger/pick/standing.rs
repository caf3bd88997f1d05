//! What a store's own jobs say of a commit on one target with one model: measured, being measured, to be repeated.

use crate::model::{Conclusion, RunId, Trigger};
use crate::store::{KnownJob, Scope};

/// How a commit stands in this store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No job of it counts.
    Unmeasured,
    /// A job is open.
    InHand {
        /// In this run.
        run: RunId,
    },
    /// It has complete results.
    Measured {
        /// In this run.
        run: RunId,
    },
    /// It was measured without complete results and may be measured again.
    MayRepeat {
        /// Whether what there was is uploaded, or will be: then what lies in the bucket is our own.
        uploaded: bool,
    },
    /// It was measured as often as it may be, without complete results.
    GivenUp {
        /// The last time in this run.
        run: RunId,
        /// How that ended.
        conclusion: Conclusion,
    },
}

/// Whose results stand for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Jobs whose results are (or will be) uploaded: the repository publishes.
    Published,
    /// Jobs that measured all that is configured: results stay in this store.
    Full,
}

/// How a commit stands by its jobs, oldest first, when it may be measured `times` times in all.
pub fn standing(jobs: &[KnownJob], counts: Counts, times: u32) -> Standing {
    let mut tries = 0;
    let mut last = None;
    let mut uploaded = false;
    for job in jobs.iter().filter(|job| counted(job, counts)) {
        let run = job.run;
        match &job.conclusion {
            // What lies in a bucket is not measured again, complete or not: it may be somebody else's.
            Some(Conclusion::Success | Conclusion::Incomplete) if job.trigger.is_imported() => {
                return Standing::Measured { run };
            }
            None => return Standing::InHand { run },
            Some(Conclusion::Success) => return Standing::Measured { run },
            // Nobody could have measured it: neither the commit's fault nor a try.
            Some(conclusion) if conclusion.is_infrastructure() => {}
            Some(Conclusion::Superseded | Conclusion::Skipped { .. }) => {}
            Some(
                conclusion @ (Conclusion::Incomplete
                | Conclusion::Failure(_)
                | Conclusion::TimedOut
                | Conclusion::Cancelled),
            ) => {
                tries += 1;
                uploaded |= job.uploads;
                last = Some((run, conclusion));
            }
        }
    }
    match last {
        Some((run, conclusion)) if tries >= times => Standing::GivenUp { run, conclusion: conclusion.clone() },
        Some(_) => Standing::MayRepeat { uploaded },
        None => Standing::Unmeasured,
    }
}

fn counted(job: &KnownJob, counts: Counts) -> bool {
    match counts {
        Counts::Published => job.publishes || job.uploads || job.trigger.is_imported(),
        Counts::Full => {
            job.scope == Scope::Full
                && match job.trigger {
                    Trigger::Schedule
                    | Trigger::PullRequest { .. }
                    | Trigger::Merge
                    | Trigger::Release { .. }
                    | Trigger::Manual
                    | Trigger::Command { .. }
                    | Trigger::Imported { .. } => true,
                    // They measure for another purpose.
                    Trigger::Rerun { .. } | Trigger::Bisect | Trigger::AA => false,
                }
        }
    }
}
