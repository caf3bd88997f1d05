//! Slots, case by case and as properties: nothing is given twice, blocks stay whole, large jobs get their turn.

use chrono::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::model::CpuSet;

fn at(minutes: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 12, 0, 0).unwrap() + chrono::Duration::minutes(minutes)
}

fn id(n: u64) -> JobId {
    JobId::try_from(n).unwrap()
}

fn ids(devices: impl IntoIterator<Item = u32>) -> Vec<DeviceId> {
    devices.into_iter().map(DeviceId::from).collect()
}

fn host(devices: u32, packing: Packing) -> Inventory {
    Inventory::new("cuda".parse().unwrap(), "NVIDIA H100".parse().unwrap(), ids(0..devices), packing)
}

fn wants(job: u64, needs: u32) -> Wanting {
    Wanting { job: id(job), needs, expected: None, since: at(0) }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn holds(job: u64, devices: impl IntoIterator<Item = u32>, ends_at: Option<i64>) -> Holding {
    Holding { job: id(job), devices: ids(devices), ends_at: ends_at.map(at) }
}

fn judged(host: &Inventory, wanting: &[Wanting], holding: &[Holding], busy: &[DeviceId]) -> Vec<Verdict> {
    decide(host, wanting, holding, busy, at(0)).collect()
}

fn start(devices: impl IntoIterator<Item = u32>) -> Verdict {
    Verdict::Start { slot: Slot { devices: ids(devices), cpus: None } }
}

fn taken(by: impl IntoIterator<Item = u64>) -> Verdict {
    Verdict::Taken { by: by.into_iter().map(id).collect() }
}

#[test]
fn two_small_jobs_run_beside_a_large_one() {
    let host = host(8, Packing::Pack);
    let verdicts = judged(&host, &[wants(1, 4), wants(2, 1), wants(3, 1), wants(4, 4)], &[], &[]);
    assert_eq!(verdicts, [start(0..4), start([4]), start([5]), taken([1, 2, 3])]);
}

#[test]
fn alone_means_alone() {
    let host = host(8, Packing::Exclusive);
    assert_eq!(judged(&host, &[wants(1, 1), wants(2, 1)], &[], &[]), [start([0]), taken([1])]);
    assert_eq!(judged(&host, &[wants(2, 1)], &[holds(1, [0], None)], &[]), [taken([1])]);
    let busy = ids([7]);
    assert_eq!(judged(&host, &[wants(1, 1)], &[], &busy), [Verdict::Busy { devices: busy.clone() }]);
    let others = ids([8, 9]);
    assert_eq!(judged(&host, &[wants(1, 1)], &[], &others), [start([0])], "devices that benchd has nothing to do with");
}

#[test]
fn a_job_larger_than_the_host_is_told_so_and_keeps_nobody_waiting() {
    for packing in [Packing::Exclusive, Packing::Pack] {
        let verdicts = judged(&host(2, packing), &[wants(1, 8), wants(2, 2)], &[], &[]);
        assert_eq!(verdicts, [Verdict::TooLarge { needs: 8, has: 2 }, start([0, 1])]);
    }
}

#[test]
fn what_somebody_else_uses_is_not_given_away() {
    let host = host(8, Packing::Pack);
    let busy = ids([1]);
    assert_eq!(judged(&host, &[wants(1, 4), wants(2, 1)], &[], &busy), [start(4..8), start([0])]);
    let wanting = [wants(1, 8), wants(2, 4)];
    assert_eq!(judged(&host, &wanting, &[], &busy), [Verdict::Busy { devices: busy.clone() }, start(4..8)]);
    let own = [holds(3, [1], None)];
    assert_eq!(judged(&host, &[wants(1, 2)], &own, &busy), [start([2, 3])], "a job's own process is no stranger");
}

#[test]
fn small_jobs_fill_what_is_begun_and_leave_large_blocks_whole() {
    let host = host(8, Packing::Pack);
    let held = [holds(1, [0], None), holds(2, [4, 5], None)];
    let wanting = [wants(3, 1), wants(4, 2), wants(5, 2)];
    assert_eq!(judged(&host, &wanting, &held, &[]), [start([1]), start([2, 3]), start([6, 7])]);
    // No aligned block is free: neighbours, then any.
    let held = [holds(1, [0, 3, 4, 7], None)];
    assert_eq!(judged(&host, &[wants(2, 2)], &held, &[]), [start([1, 2])]);
    let held = [holds(1, [0, 2, 4, 6], None)];
    assert_eq!(judged(&host, &[wants(2, 2)], &held, &[]), [start([1, 3])]);
    assert_eq!(judged(&host, &[wants(2, 3)], &held, &[]), [start([1, 3, 5])]);
}

#[test]
fn devices_are_kept_for_a_large_job_and_lent_to_what_ends_in_time() {
    let host = host(8, Packing::Pack);
    // All devices are free in 60 minutes.
    let held = [holds(1, [0], Some(30)), holds(2, [4], Some(60))];
    let lasting = |job, needs, expected| Wanting { expected: Some(minutes(expected)), ..wants(job, needs) };
    let kept = |job| Verdict::KeptFor { job: id(job) };
    let wanting = [wants(3, 8), wants(4, 1), lasting(5, 1, 60), lasting(6, 1, 61), wants(7, 8)];
    let verdicts = judged(&host, &wanting, &held, &[]);
    assert_eq!(verdicts, [taken([1, 2]), kept(3), start([1]), kept(3), taken([1, 2, 5])]);
    // What is not needed for it may be had for as long as it takes.
    let held = [holds(1, 0..2, Some(30)), holds(2, 4..7, Some(60))];
    let verdicts = judged(&host, &[wants(3, 4), wants(4, 1), wants(5, 1)], &held, &[]);
    assert_eq!(verdicts, [taken([1, 2]), start([7]), kept(3)]);
    let full = [holds(1, [0], Some(30)), holds(2, 4..8, Some(60))];
    let wanting = [wants(3, 4), lasting(4, 1, 30), lasting(5, 1, 31)];
    assert_eq!(judged(&host, &wanting, &full, &[]), [taken([1, 2]), start([1]), kept(3)]);
    // Who has waited for long lends nothing.
    let waiting_since = |since| [vec![Wanting { since, ..wants(3, 4) }], wanting[1..].to_vec()].concat();
    let verdicts = judged(&host, &waiting_since(at(1) - LEND_FOR), &full, &[]);
    assert_eq!(verdicts, [taken([1, 2]), start([1]), kept(3)]);
    let verdicts = judged(&host, &waiting_since(at(0) - LEND_FOR), &full, &[]);
    assert_eq!(verdicts, [taken([1, 2]), kept(3), kept(3)]);
}

#[test]
fn a_claim_from_before_devices_were_written_down_has_all() {
    for packing in [Packing::Exclusive, Packing::Pack] {
        assert_eq!(judged(&host(8, packing), &[wants(2, 1)], &[holds(1, [], None)], &[]), [taken([1])]);
    }
}

#[test]
fn cores_go_with_their_devices_and_threads_stay_together() {
    // Two nodes of four cores with two threads each: core n has the processors n and n + 8.
    let core = |n: u32| Core { node: Some(n / 4), cpus: [n, n + 8].into_iter().collect() };
    let cores: Vec<_> = (0..8).map(core).collect();
    let nodes = |of: &[u32]| (0..).map(DeviceId::from).zip(of.iter().copied()).collect();
    let cpus = |host: &Inventory| host.devices.iter().map(|device| device.cpus.to_string()).collect::<Vec<_>>();
    let near = host(4, Packing::Pack).with_cores(&cores, &nodes(&[0, 0, 1, 1]));
    assert_eq!(cpus(&near), ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]);
    let one_side = host(2, Packing::Pack).with_cores(&cores, &nodes(&[1, 1]));
    assert_eq!(
        cpus(&one_side),
        ["0-1,4-5,8-9,12-13", "2-3,6-7,10-11,14-15"],
        "cores near no device are shared out too"
    );
    let unknown = host(3, Packing::Pack).with_cores(&cores, &BTreeMap::new());
    assert_eq!(cpus(&unknown), ["0-1,8-9", "2-4,10-12", "5-7,13-15"]);
    let verdicts = judged(&near, &[wants(1, 2), wants(2, 1)], &[], &[]);
    let bound = |devices: &[u32], cpus: &str| Verdict::Start {
        slot: Slot { devices: ids(devices.iter().copied()), cpus: Some(cpus.parse::<CpuSet>().unwrap()) },
    };
    assert_eq!(verdicts, [bound(&[0, 1], "0-3,8-11"), bound(&[2], "4-5,12-13")]);
    let alone = Inventory { packing: Packing::Exclusive, ..near };
    assert_eq!(judged(&alone, &[wants(1, 2)], &[], &[]), [start([0, 1])], "a job that is alone has all processors");
}

#[test]
fn the_forecast_stops_where_nobody_knows_the_end() {
    let host = host(1, Packing::Exclusive);
    let lasting = |job, expected| Wanting { expected: Some(minutes(expected)), ..wants(job, 1) };
    let wanting = [lasting(2, 10), wants(3, 1), lasting(4, 10)];
    let starts = |held: &[Holding]| {
        let all = forecast(&host, &wanting, held, &[], at(0)).into_iter();
        all.map(|forecast| (forecast.job.number(), forecast.starts_at)).collect::<Vec<_>>()
    };
    assert_eq!(starts(&[holds(1, [0], Some(5))]), [(2, at(5)), (3, at(15))]);
    assert_eq!(starts(&[holds(1, [0], Some(-5))]), [(2, at(0)), (3, at(10))], "overdue: any moment");
    assert_eq!(starts(&[holds(1, [0], None)]), []);
}

fn any_wanting() -> impl Strategy<Value = Vec<(u32, Option<u64>)>> {
    proptest::collection::vec((1..=8_u32, proptest::option::of(1..200_u64)), 0..20)
}

proptest! {
    #[test]
    fn nothing_is_given_twice(
        size in 1..=8_u32,
        jobs in any_wanting(),
        held in proptest::collection::btree_map(0..8_u32, proptest::option::of(-50..200_i64), 0..4),
        busy in proptest::collection::btree_set(0..8_u32, 0..3),
        pack: bool,
    ) {
        let host = host(size, if pack { Packing::Pack } else { Packing::Exclusive });
        let held: Vec<_> = held.into_iter().map(|(device, ends)| holds(100 + u64::from(device), [device], ends)).collect();
        let busy: Vec<_> = busy.into_iter().map(DeviceId::from).collect();
        let wanting: Vec<_> = jobs.iter().zip(1..).map(|((needs, expected), job)| {
            Wanting { expected: expected.map(minutes), ..wants(job, *needs) }
        }).collect();
        let mut used: BTreeSet<_> = held.iter().flat_map(|held| held.devices.clone()).collect();
        used.extend(&busy);
        let mut running = held.len();
        for (job, verdict) in wanting.iter().zip(judged(&host, &wanting, &held, &busy)) {
            prop_assert_eq!(matches!(verdict, Verdict::TooLarge { .. }), job.needs > size);
            if let Verdict::Start { slot } = verdict {
                prop_assert_eq!(slot.devices.len(), job.needs as usize);
                prop_assert!(slot.devices.is_sorted());
                for device in slot.devices {
                    prop_assert!(device.number() < size && used.insert(device), "{device} is given twice");
                }
                running += 1;
                prop_assert!(pack || running == 1);
            }
        }
    }

    /// A job for the whole host or half of it comes second to none: while small jobs come without end, whatever
    /// becomes of the expectations, it starts before twice the longest job has passed after it may not lend any more.
    #[test]
    fn a_large_job_gets_its_turn(
        needs in 4..=8_u32,
        lengths in proptest::collection::vec((1..120_u64, proptest::option::of(1..120_u64), 1..=4_u32), 40..80),
    ) {
        let host = host(8, Packing::Pack);
        let mut held: Vec<(Holding, DateTime<Utc>)> = Vec::new();
        let mut endless = lengths.iter().cycle().zip(2..);
        let bound = at(0) + LEND_FOR + minutes(240);
        let mut now = at(0);
        // Small jobs are there before the large one.
        let mut queue: Vec<(Wanting, u64)> = Vec::new();
        let large = Wanting { expected: Some(minutes(60)), ..wants(1, needs) };
        for step in 0.. {
            while queue.len() < 9 {
                let ((length, expected, needs), job) = endless.next().unwrap();
                let wanting = Wanting { expected: expected.map(minutes), since: now, ..wants(job, *needs) };
                queue.push((wanting, *length));
            }
            let mut wanting: Vec<_> = queue.iter().map(|(wanting, _)| wanting.clone()).collect();
            if step > 0 {
                wanting.insert(0, large.clone());
            }
            let holding: Vec<_> = held.iter().map(|(holding, _)| holding.clone()).collect();
            let verdicts: Vec<_> = decide(&host, &wanting, &holding, &[], now).collect();
            for (job, verdict) in wanting.iter().zip(verdicts) {
                let Verdict::Start { slot } = verdict else { continue };
                if job.job == large.job {
                    return Ok(());
                }
                let n = queue.iter().position(|(queued, _)| queued.job == job.job).unwrap();
                let (_, length) = queue.remove(n);
                let ends_at = job.expected.map(|expected| now + expected);
                held.push((Holding { job: job.job, devices: slot.devices, ends_at }, now + minutes(length)));
            }
            now = held.iter().map(|(_, really)| *really).min().unwrap();
            held.retain(|(_, really)| *really > now);
            prop_assert!(now <= bound, "the large job still waits");
        }
    }
}

#[test]
fn of_jobs_that_came_together_the_order_is_chosen_that_ends_soonest() {
    let host = host(8, Packing::Pack);
    let job = |n, needs, takes| Wanting { expected: Some(minutes(takes)), ..wants(n, needs) };
    // Two wide jobs one after the other in one half, the long narrow ones beside them in the other.
    let jobs = [job(1, 4, 30), job(2, 4, 30), job(3, 1, 60), job(4, 1, 20)];
    let order = soonest(&host, &jobs, &[], &[], at(0));
    let arranged: Vec<_> = order.iter().map(|n| jobs[*n].clone()).collect();
    let end = |jobs: &[Wanting]| forecast(&host, jobs, &[], &[], at(0)).iter().filter_map(|start| start.ends_at).max();
    assert_eq!((end(&jobs), end(&arranged)), (Some(at(90)), Some(at(60))));
    let stays = |jobs: &[Wanting], host: &Inventory| {
        assert_eq!(soonest(host, jobs, &[], &[], at(0)), (0..jobs.len()).collect::<Vec<_>>());
    };
    stays(&[wants(1, 4), wants(2, 1)], &host);
    stays(&[job(1, 1, 10), job(2, 1, 20), job(3, 1, 30)], &host);
    stays(&jobs, &Inventory { packing: Packing::Exclusive, ..host.clone() });
}
