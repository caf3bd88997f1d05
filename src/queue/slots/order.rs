//! Of jobs whose turn it is together, which first: the order is chosen in which the host is done with them soonest. Each
//! candidate is played forward in time, since no single rule is best for wide and narrow jobs of any length.

use std::cmp::Reverse;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Holding, Inventory, Wanting, forecast};
use crate::config::Packing;
use crate::model::DeviceId;

/// More jobs than this stay in the order in which they came: playing them forward takes too long.
const MOST_JOBS: usize = 32;

/// What an order sorts by: the larger first.
type Worth = (Reverse<Duration>, Reverse<u32>);

/// The places in `jobs` (best-ranked first) in the order in which the host is done with all of them soonest, if
/// everything takes as long as usual; as they stand where that is not known or makes no difference.
pub fn soonest(
    inventory: &Inventory,
    jobs: &[Wanting],
    holding: &[Holding],
    busy: &[DeviceId],
    now: DateTime<Utc>,
) -> Vec<usize> {
    let as_they_stand: Vec<usize> = (0..jobs.len()).collect();
    let expected: Option<Vec<Duration>> = jobs.iter().map(|job| job.expected).collect();
    let (Packing::Pack, 2..=MOST_JOBS, Some(expected)) = (inventory.packing, jobs.len(), expected) else {
        return as_they_stand;
    };
    let needs = |place: &usize| jobs.get(*place).map_or(0, |job| job.needs);
    let takes = |place: &usize| expected.get(*place).copied().unwrap_or_default();
    let sorted = |compare: &dyn Fn(&usize) -> Worth| {
        let mut places = as_they_stand.clone();
        places.sort_by_key(|place| compare(place));
        places
    };
    let mut widest = sorted(&|place| (Reverse(takes(place)), Reverse(0)));
    widest.sort_by_key(|place| Reverse(needs(place)));
    let mut narrowest = sorted(&|place| (Reverse(takes(place)), Reverse(0)));
    narrowest.sort_by_key(needs);
    let candidates = [
        as_they_stand.clone(),
        sorted(&|place| (Reverse(takes(place).saturating_mul(needs(place))), Reverse(needs(place)))),
        sorted(&|place| (Reverse(takes(place)), Reverse(needs(place)))),
        widest,
        narrowest,
    ];
    let done_at = |places: &Vec<usize>| {
        let wanting: Vec<_> = places.iter().filter_map(|place| jobs.get(*place).cloned()).collect();
        let starts = forecast(inventory, &wanting, holding, busy, now);
        // A job without a start counts as the worst: nobody knows when it ends.
        let missing = jobs.len().saturating_sub(starts.len());
        (missing, starts.into_iter().filter_map(|start| start.ends_at).max())
    };
    candidates.into_iter().min_by_key(done_at).unwrap_or(as_they_stand)
}
