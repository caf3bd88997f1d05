//! Plays the decisions forward in time: when each waiting job will start, if everything takes as long as usual.

use chrono::{DateTime, Utc};

use super::{Holding, Inventory, Verdict, Wanting, decide};
use crate::model::{DeviceId, JobId, Slot};

/// More steps than any queue that a person waits for; the rest has no forecast.
const MOST_STEPS: usize = 500;

/// When a job will probably start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The job.
    pub job: JobId,
    /// Where.
    pub slot: Slot,
    /// When.
    pub starts_at: DateTime<Utc>,
    /// When it ends, if it is known how long such jobs take.
    pub ends_at: Option<DateTime<Utc>>,
}

/// The starts of the jobs of `wanting`, best-ranked first, in time. A job that waits for one that nobody knows the end
/// of has none, and so has one that does not fit.
pub fn forecast(
    inventory: &Inventory,
    wanting: &[Wanting],
    holding: &[Holding],
    busy: &[DeviceId],
    now: DateTime<Utc>,
) -> Vec<Forecast> {
    let (mut wanting, mut holding, mut at) = (wanting.to_vec(), holding.to_vec(), now);
    let mut starts = Vec::new();
    for _ in 0..MOST_STEPS {
        let mut left = Vec::with_capacity(wanting.len());
        let mut started = Vec::new();
        for (job, verdict) in wanting.iter().zip(decide(inventory, &wanting, &holding, busy, at)) {
            match verdict {
                Verdict::Start { slot } => {
                    let ends_at = job.expected.map(|expected| at + expected);
                    started.push(Holding { job: job.job, devices: slot.devices.clone(), ends_at });
                    starts.push(Forecast { job: job.job, slot, starts_at: at, ends_at });
                }
                Verdict::TooLarge { .. } => {}
                Verdict::Busy { .. } | Verdict::Taken { .. } | Verdict::KeptFor { .. } => left.push(job.clone()),
            }
        }
        wanting = left;
        holding.extend(started);
        let Some(next) = holding.iter().filter_map(|held| held.ends_at).min() else { break };
        if wanting.is_empty() {
            break;
        }
        at = next.max(at);
        holding.retain(|held| held.ends_at.is_none_or(|ends_at| ends_at > at));
    }
    starts
}
