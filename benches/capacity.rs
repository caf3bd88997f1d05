//! Whether one host with 8 devices keeps up with a busy repository: a simulated week of 36 merges and 20 labelled heads
//! of pull requests a day, through the real queue with the shipped benchmarks of cuda. Everything cannot be measured, so
//! merges coalesce; the figures depend on the seeds alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints and fails at once"
)]

#[path = "../tests/support/shipped.rs"]
mod shipped;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use benchd::clock::Clock;
use benchd::config::{Packing, SelectionConfig, TriggerName, TriggersConfig};
use benchd::model::{Conclusion, RunId, Trigger};
use benchd::queue::planner::PlannedJob;
use benchd::queue::{AttemptEnd, ClaimOffer, ClaimedJob, Pace, Queue, RunningJobs, Submitted};
use benchd::store::Store;
use benchd::trigger::merge::wanted;
use benchd::trigger::policy::{Budget, Recorded, fit};
use chrono::{DateTime, Duration, TimeZone, Utc};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use shipped::{DEVICES, host, planned, run_plan};

const DAYS: u32 = 7;
const MERGES_A_DAY: u32 = 36;
const HEADS_A_DAY: u32 = 20;
const SEEDS: u64 = 5;
/// What a job takes besides its points: the image, the start of servers.
const OVERHEAD: Duration = Duration::minutes(10);
/// The limit: so many jobs may wait at any time.
const MOST_WAITING: usize = 60;

/// What a week came to.
struct Week {
    /// Hours from a head's submission to its first job's start.
    begins_after: Vec<f64>,
    /// Hours from a head's submission to its last job's end.
    ends_after: Vec<f64>,
    merges_measured: usize,
    merges_passed_over: usize,
    most_waiting: usize,
    /// The most jobs that waited on each day.
    by_day: Vec<usize>,
    /// Share of device time in use.
    used: f64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("seed  heads: begin p50, p95   done p50, p95   merges measured, passed over   waiting at most (by day)");
    for seed in 0..SEEDS {
        let dir = tempfile::tempdir().unwrap();
        let mut week = runtime.block_on(simulate(dir.path(), seed));
        println!(
            "{seed:>4}  {:>10.1} h, {:>4.1} h   {:>4.1} h, {:>4.1} h   {:>8}, {:>8}      {:>3} {:?}, devices {:.0} % in use",
            percentile(&mut week.begins_after, 50),
            percentile(&mut week.begins_after, 95),
            percentile(&mut week.ends_after, 50),
            percentile(&mut week.ends_after, 95),
            week.merges_measured,
            week.merges_passed_over,
            week.most_waiting,
            week.by_day,
            week.used * 100.0,
        );
        assert!(week.most_waiting <= MOST_WAITING, "the backlog is not bounded");
        assert_eq!(week.ends_after.len(), usize::try_from(HEADS_A_DAY * DAYS).unwrap(), "every head is measured");
    }
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent).div_ceil(100).max(1) - 1]
}

/// What happens, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Merge,
    Head,
}

/// What comes next: of what is at once, the end of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    End,
    Arrival,
}

async fn simulate(dir: &Path, seed: u64) -> Week {
    let start = Utc.with_ymd_and_hms(2026, 11, 16, 0, 0, 0).unwrap();
    let clock = Clock::manual(start);
    let store = Store::open(dir).await.unwrap();
    let queue = Queue::new(store.clone(), clock.clone(), Pace::default());
    let offer = ClaimOffer { by: "gpu-1".parse().unwrap(), host: host(Packing::Pack), busy: Vec::new(), run: None };
    let target = offer.host.target();
    let mut dice = SmallRng::seed_from_u64(seed);

    let everything = planned(&[]);
    // A point of each model takes a time of its own.
    let point: BTreeMap<String, Duration> =
        everything.iter().map(|job| (job.model.clone(), Duration::seconds(dice.random_range(30..180)))).collect();
    let of_heads = heads(&point);
    let mut arrivals = arrivals(start, &mut dice);
    let mut week = Week {
        begins_after: Vec::new(),
        ends_after: Vec::new(),
        merges_measured: 0,
        merges_passed_over: 0,
        most_waiting: 0,
        by_day: vec![0; usize::try_from(DAYS).unwrap()],
        used: 0.0,
    };
    let mut running: Vec<(DateTime<Utc>, ClaimedJob)> = Vec::new();
    let mut waiting_merges: Vec<RunId> = Vec::new();
    let mut began: BTreeSet<RunId> = BTreeSet::new();
    // Of each head: when it came and how many of its jobs are left.
    let mut open_heads: BTreeMap<RunId, (DateTime<Utc>, usize)> = BTreeMap::new();
    let (mut waiting, mut number) = (0_usize, 0_u32);
    let mut jobs_of: BTreeMap<RunId, usize> = BTreeMap::new();
    loop {
        while let Some(claimed) = queue.claim(&offer).await.unwrap() {
            let run = claimed.job.run;
            waiting -= 1;
            waiting_merges.retain(|merge| *merge != run);
            if began.insert(run) {
                match open_heads.get(&run) {
                    Some((came, _)) => week.begins_after.push(hours(clock.now() - *came)),
                    None => week.merges_measured += 1,
                }
            }
            let points = points_of(&claimed, &everything, &of_heads, open_heads.contains_key(&run));
            let usual = OVERHEAD + point[&claimed.job.model] * points;
            let takes = usual * dice.random_range(900..1100) / 1000;
            week.used += hours(takes) * f64::from(claimed.job.target.count);
            running.push((clock.now() + takes, claimed));
        }
        running.sort_by_key(|(ends_at, claimed)| (*ends_at, claimed.claim.job));
        let ends = running.first().map(|(at, _)| (*at, Next::End));
        let comes = arrivals.last().map(|(at, _)| (*at, Next::Arrival));
        let Some((at, next)) = ends.into_iter().chain(comes).min() else { break };
        clock.advance(at - clock.now());
        if next == Next::End {
            let (_, ended) = running.remove(0);
            let end = AttemptEnd { conclusion: Conclusion::Success, message: None, artifact_bytes: None };
            queue.finish(&ended.claim, &end).await.map(drop).unwrap();
            if let Some((came, left)) = open_heads.get_mut(&ended.job.run) {
                *left -= 1;
                if *left == 0 {
                    week.ends_after.push(hours(clock.now() - *came));
                }
            }
            continue;
        }
        let (_, arrival) = arrivals.pop().unwrap();
        number += 1;
        let (jobs, trigger) = match arrival {
            Arrival::Merge => (&everything, Trigger::Merge),
            Arrival::Head => (&of_heads, Trigger::PullRequest { number: number.into() }),
        };
        let run_plan = run_plan(jobs, &target, number, trigger);
        let sha = run_plan.commit.sha.clone();
        let Submitted::Run(run) = queue.submit_run(&run_plan).await.unwrap() else { panic!("there are jobs") };
        waiting += jobs.len();
        jobs_of.insert(run, jobs.len());
        match arrival {
            Arrival::Head => drop(open_heads.insert(run, (clock.now(), jobs.len()))),
            Arrival::Merge => {
                let backlog = usize::try_from(TriggersConfig::default().merge.backlog).unwrap();
                let decided = wanted(&[sha], &BTreeSet::new(), &BTreeSet::new(), waiting_merges.len(), backlog);
                if decided.coalesce {
                    for older in waiting_merges.drain(..) {
                        queue.supersede(older, run, RunningJobs::Finish).await.map(drop).unwrap();
                        week.merges_passed_over += 1;
                        waiting -= jobs_of[&older];
                    }
                }
                waiting_merges.push(run);
            }
        }
        week.most_waiting = week.most_waiting.max(waiting);
        let day = usize::try_from((clock.now() - start).num_days()).unwrap();
        week.by_day[day] = week.by_day[day].max(waiting);
    }
    week.used /= hours(clock.now() - start) * f64::from(DEVICES);
    store.close().await;
    week
}

/// All arrivals of the week, latest first: two thirds come within the twelve hours of a working day.
fn arrivals(start: DateTime<Utc>, dice: &mut SmallRng) -> Vec<(DateTime<Utc>, Arrival)> {
    let mut all = Vec::new();
    for day in 0..DAYS {
        for n in 0..MERGES_A_DAY + HEADS_A_DAY {
            let second = match dice.random_range(0..3) {
                0 => dice.random_range(0..24 * 3600),
                _ => dice.random_range(8 * 3600..20 * 3600),
            };
            let kind = if n < MERGES_A_DAY { Arrival::Merge } else { Arrival::Head };
            all.push((start + Duration::days(day.into()) + Duration::seconds(second), kind));
        }
    }
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    all
}

fn hours(time: Duration) -> f64 {
    time.as_seconds_f64() / 3600.0
}

/// What is measured of a head by default: the base variant, as much as fits into the budget of its trigger.
fn heads(point: &BTreeMap<String, Duration>) -> Vec<PlannedJob> {
    let defaults = SelectionConfig::default();
    let of_heads = defaults.of(TriggerName::PullRequest);
    let jobs = planned(&of_heads.variants);
    let recorded: Recorded = jobs
        .iter()
        .map(|job| {
            ((job.model.clone(), job.target.count), u64::try_from(point[&job.model].num_milliseconds()).unwrap())
        })
        .collect();
    fit(jobs, &Budget { limit: of_heads.budget, canary: of_heads.canary.clone(), recorded }).jobs
}

fn points_of(claimed: &ClaimedJob, everything: &[PlannedJob], of_heads: &[PlannedJob], is_head: bool) -> i32 {
    let jobs = if is_head { of_heads } else { everything };
    let alike = |job: &&PlannedJob| job.model == claimed.job.model && job.target.count == claimed.job.target.count;
    i32::try_from(jobs.iter().find(alike).unwrap().points.len()).unwrap()
}
