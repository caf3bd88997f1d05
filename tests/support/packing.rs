//! The shipped benchmarks of cuda on a host with 8 devices, in simulated time and through the real queue: how long a
//! few commits take side by side and one after the other.

use std::path::Path;

use benchd::clock::Clock;
use benchd::config::Packing;
use benchd::model::{Conclusion, Trigger};
use benchd::queue::planner::PlannedJob;
use benchd::queue::slots::{Wanting, forecast};
use benchd::queue::{AttemptEnd, ClaimOffer, ClaimedJob, Pace, Queue};
use benchd::store::Store;
use chrono::{DateTime, Duration, TimeZone, Utc};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

#[path = "shipped.rs"]
mod shipped;

pub use shipped::DEVICES;
use shipped::{host, planned, run_plan};

/// What a simulation came to.
pub struct Packed {
    /// When the last job ended.
    pub took: Duration,
    /// No order can be faster: the longest job, or all device time spread evenly.
    pub lower_bound: Duration,
    /// What ran where and when.
    pub stays: Vec<Stay>,
}

/// A job on its devices.
pub struct Stay {
    pub model: String,
    pub devices: Vec<u32>,
    pub from: Duration,
    pub to: Duration,
}

impl Packed {
    /// How far from the lower bound: 1 is perfect.
    pub fn ratio(&self) -> f64 {
        self.took.as_seconds_f64() / self.lower_bound.as_seconds_f64()
    }
}

/// Measures `commits` commits after one whose durations were recorded. Every model takes a time of its own, by the
/// number of its points; every job of it takes up to a tenth more or less.
pub async fn simulate(dir: &Path, packing: Packing, commits: u32, seed: u64) -> Packed {
    let start = Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap();
    let clock = Clock::manual(start);
    let store = Store::open(dir).await.unwrap();
    let queue = Queue::new(store.clone(), clock.clone(), Pace::default());
    let offer = ClaimOffer { by: "gpu-1".parse().unwrap(), host: host(packing), busy: Vec::new(), run: None };
    let planned = planned(&[]);
    let mut dice = SmallRng::seed_from_u64(seed);
    let usual = usual_durations(&planned, &mut dice);
    let usual_of = |claimed: &ClaimedJob| {
        let n = planned.iter().position(|job| job.model == claimed.job.model).unwrap();
        usual[n]
    };

    // What such jobs take has been recorded.
    queue.submit_run(&run_plan(&planned, &offer.host.target(), 1, Trigger::Schedule)).await.map(drop).unwrap();
    let mut running: Vec<(DateTime<Utc>, ClaimedJob)> = Vec::new();
    while let Some(claimed) = next(&queue, &offer, &mut running, &clock).await {
        running.push((clock.now() + usual_of(&claimed), claimed));
    }

    for commit in 2..commits + 2 {
        queue.submit_run(&run_plan(&planned, &offer.host.target(), commit, Trigger::Schedule)).await.map(drop).unwrap();
    }
    let begin = clock.now();
    let mut stays = Vec::new();
    let (mut device_time, mut longest) = (Duration::zero(), Duration::zero());
    while let Some(claimed) = next(&queue, &offer, &mut running, &clock).await {
        let takes = usual_of(&claimed) * dice.random_range(900..1100) / 1000;
        device_time += takes * i32::try_from(claimed.job.target.count).unwrap();
        longest = longest.max(takes);
        let from = clock.now() - begin;
        let devices = claimed.slot.devices.iter().map(|device| device.number()).collect();
        stays.push(Stay { model: claimed.job.model.clone(), devices, from, to: from + takes });
        running.push((clock.now() + takes, claimed));
    }
    store.close().await;
    assert_eq!(stays.len(), planned.len() * commits as usize, "every job had its turn");
    let lower_bound = longest.max(device_time / i32::try_from(DEVICES).unwrap());
    Packed { took: clock.now() - begin, lower_bound, stays }
}

/// Claims the next job, letting time pass and jobs end until there is one; `None` when all have ended.
async fn next(
    queue: &Queue,
    offer: &ClaimOffer,
    running: &mut Vec<(DateTime<Utc>, ClaimedJob)>,
    clock: &Clock,
) -> Option<ClaimedJob> {
    loop {
        if let Some(claimed) = queue.claim(offer).await.unwrap() {
            return Some(claimed);
        }
        running.sort_by_key(|(ends_at, claimed)| (*ends_at, claimed.claim.job));
        if running.is_empty() {
            return None;
        }
        let (ends_at, ended) = running.remove(0);
        clock.advance(ends_at - clock.now());
        let end = AttemptEnd { conclusion: Conclusion::Success, message: None, artifact_bytes: None };
        queue.finish(&ended.claim, &end).await.map(drop).unwrap();
    }
}

/// How long each model takes, by the number of its points.
fn usual_durations(planned: &[PlannedJob], dice: &mut SmallRng) -> Vec<Duration> {
    let takes = |job: &PlannedJob| {
        let points = i64::try_from(job.points.len()).unwrap();
        Duration::seconds(600 + points * dice.random_range(30..180))
    };
    planned.iter().map(takes).collect()
}

/// How near the lower bound the best of all orders of two commits comes, each played forward; jobs of one model are
/// interchangeable.
#[allow(dead_code, reason = "the bench shows it, the test does not")]
pub fn best_of_two_commits(seed: u64) -> f64 {
    let planned = planned(&[]);
    let usual = usual_durations(&planned, &mut SmallRng::seed_from_u64(seed));
    let since = Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap();
    let host = host(Packing::Pack);
    let device_time: Duration =
        planned.iter().zip(&usual).map(|(job, takes)| *takes * i32::try_from(job.target.count).unwrap() * 2).sum();
    let lower_bound = (device_time / i32::try_from(DEVICES).unwrap()).max(*usual.iter().max().unwrap());
    let mut best = Duration::MAX;
    let mut left = vec![2; planned.len()];
    each_order(&mut left, &mut Vec::new(), &mut |order| {
        let wanting: Vec<_> = (1_u64..)
            .zip(order)
            .map(|(id, n)| Wanting {
                job: id.try_into().unwrap(),
                needs: planned[*n].target.count,
                expected: Some(usual[*n].to_std().unwrap()),
                since,
            })
            .collect();
        let starts = forecast(&host, &wanting, &[], &[], since);
        best = best.min(starts.iter().filter_map(|start| start.ends_at).max().unwrap() - since);
    });
    best.as_seconds_f64() / lower_bound.as_seconds_f64()
}

/// Calls `with` for every order in which `left[n]` times `n` can stand.
fn each_order(left: &mut [u32], order: &mut Vec<usize>, with: &mut impl FnMut(&[usize])) {
    if left.iter().all(|count| *count == 0) {
        return with(order);
    }
    for n in 0..left.len() {
        if left[n] > 0 {
            left[n] -= 1;
            order.push(n);
            each_order(left, order, with);
            order.pop();
            left[n] += 1;
        }
    }
}
