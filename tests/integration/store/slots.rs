//! Whose turn it is and where: claims on a host with several devices, what is recorded of them, what is told of those
//! that wait.

use benchd::model::{BusyDevice, Conclusion, Control, FailureKind, JobId, JobState, NoImage, RunState, Trigger};
use benchd::queue::place::Why;
use benchd::queue::{Waiting, next_look};
use benchd::store::JobStart;
use chrono::Duration;
use serde_json::json;

use super::*;

fn gpu_host(packing: Packing) -> ClaimOffer {
    ClaimOffer { host: host(8, packing), ..offer("gpu-1") }
}

fn sized(counts: &[u32]) -> RunPlan {
    let mut plan = plan(SHA, counts.len());
    for (job, count) in plan.jobs.iter_mut().zip(counts) {
        job.target.count = *count;
    }
    plan
}

fn numbers(devices: &[DeviceId]) -> Vec<u32> {
    devices.iter().map(|device| device.number()).collect()
}

impl Bench {
    async fn take(&self, offer: &ClaimOffer) -> Option<(JobId, Vec<u32>)> {
        let claimed = self.queue.claim(offer).await.unwrap()?;
        Some((claimed.claim.job, numbers(&claimed.slot.devices)))
    }

    async fn why(&self, job: JobId) -> Why {
        self.queue.place(job).await.unwrap().unwrap().why
    }
}

#[tokio::test]
async fn the_most_urgent_goes_first_and_nobody_waits_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let offer = gpu_host(Packing::Exclusive);
    let of = |trigger| RunPlan { trigger, ..plan(SHA, 1) };
    let urgent = RunPlan { priority: Some("61".parse().unwrap()), ..of(Trigger::AA) };
    let triggers = [
        of(Trigger::AA),
        of(Trigger::Schedule),
        of(Trigger::Merge),
        of(Trigger::Release { tag: "v1".into() }),
        of(Trigger::PullRequest { number: 1 }),
        of(Trigger::Command { number: 1 }),
        of(Trigger::Manual),
        urgent,
    ];
    let mut runs = Vec::new();
    for plan in &triggers {
        runs.push(bench.submit(plan).await);
    }
    let mut order = Vec::new();
    while let Some(claimed) = bench.queue.claim(&offer).await.unwrap() {
        order.push(claimed.job.run);
        assert_eq!(bench.queue.finish(&claimed.claim, &ended(Conclusion::TimedOut)).await.unwrap(), Outcome::Performed);
    }
    assert_eq!(order, runs.iter().rev().copied().collect::<Vec<_>>());
    // A-A's turn comes although somebody asks for a run every hour.
    let patient = bench.submit(&of(Trigger::AA)).await;
    for hour in 1.. {
        assert!(hour <= 25, "24 hours are what a manual request is worth");
        bench.clock.advance(Duration::hours(1));
        bench.submit(&of(Trigger::Manual)).await;
        let claimed = bench.queue.claim(&offer).await.unwrap().unwrap();
        assert_eq!(bench.queue.finish(&claimed.claim, &ended(Conclusion::TimedOut)).await.unwrap(), Outcome::Performed);
        if claimed.job.run == patient {
            break;
        }
    }
}

#[tokio::test]
async fn jobs_side_by_side_know_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let offer = gpu_host(Packing::Pack);
    let run = bench.submit(&sized(&[4, 1, 1, 4])).await;
    let jobs: Vec<_> = bench.store.jobs_of_run(run).await.unwrap().iter().map(|job| job.id).collect();
    // The one that needs most of the host first.
    assert_eq!(bench.take(&offer).await, Some((jobs[0], vec![0, 1, 2, 3])));
    assert_eq!(bench.take(&offer).await, Some((jobs[3], vec![4, 5, 6, 7])));
    assert_eq!(bench.take(&offer).await, None);
    assert_eq!(bench.why(jobs[1]).await, Why::DevicesTaken { by: vec![jobs[0], jobs[3]] });
    let held = bench.queue.held(&offer.by).await.unwrap();
    assert_eq!(held.len(), 2);
    let end = ended(Conclusion::TimedOut);
    assert_eq!(bench.queue.finish(&held[1].claim, &end).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.take(&offer).await, Some((jobs[1], vec![4])));
    // A restart knows what is taken: another process of the same host gets what is left.
    let second = super::bench(dir.path()).await;
    assert_eq!(second.take(&offer).await, Some((jobs[2], vec![5])));

    let detail = bench.store.run_detail(run).await.unwrap().unwrap();
    let beside = |n: usize| detail.jobs[n].attempts[0].co_tenants.clone();
    assert_eq!(beside(0), [jobs[3], jobs[1], jobs[2]]);
    assert_eq!((beside(3), beside(1), beside(2)), (vec![jobs[0]], vec![jobs[0], jobs[2]], vec![jobs[0], jobs[1]]));
    assert_eq!(numbers(&detail.jobs[2].attempts[0].slot.devices), [5]);
}

#[tokio::test]
async fn a_process_that_measures_one_run_shares_the_hosts_devices_and_is_no_runner() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let daemon = gpu_host(Packing::Exclusive);
    let run = bench.submit(&sized(&[8])).await;
    let process = ClaimOffer { by: daemon.by.for_run(run), run: Some(run), ..daemon.clone() };
    let claimed = bench.queue.claim(&process).await.unwrap().unwrap();
    assert_eq!(claimed.claim.by.as_str(), format!("gpu-1/run-{run}"));
    assert!(claimed.claim.by.is_for_run(run) && !daemon.by.is_for_run(run));
    assert!(bench.store.runners().await.unwrap().is_empty());

    // The daemon of the same host does not adopt its job, and waits for its devices.
    assert_eq!(bench.queue.held(&daemon.by).await.unwrap(), []);
    let waiting = bench.submit(&sized(&[1])).await;
    let waiting = bench.store.jobs_of_run(waiting).await.unwrap()[0].id;
    assert_eq!(bench.take(&daemon).await, None);
    assert_eq!(bench.why(waiting).await, Why::DevicesTaken { by: vec![claimed.claim.job] });
    assert_eq!(bench.queue.finish(&claimed.claim, &ended(Conclusion::TimedOut)).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.take(&daemon).await, Some((waiting, vec![0])));
}

#[tokio::test]
async fn a_job_waits_for_devices_that_somebody_else_uses_and_tells() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let run = bench.submit(&sized(&[1, 8])).await;
    let jobs = bench.store.jobs_of_run(run).await.unwrap();
    let stranger = BusyDevice { device: DeviceId::from(3), by: "python3 (pid 4242)".into() };
    let used = ClaimOffer { busy: vec![stranger.clone()], ..gpu_host(Packing::Exclusive) };
    assert_eq!(bench.take(&used).await, None);
    let why = bench.why(jobs[0].id).await;
    assert_eq!(why, Why::DevicesBusy { devices: vec![stranger] });
    assert_eq!(why.to_string(), "waits for devices that somebody else uses: 3 by python3 (pid 4242)");
    let free = gpu_host(Packing::Exclusive);
    assert_eq!(bench.take(&free).await, Some((jobs[1].id, (0..8).collect())));
    assert_eq!(bench.why(jobs[0].id).await, Why::DevicesTaken { by: vec![jobs[1].id] });
}

#[tokio::test]
async fn a_pause_holds_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = bench(dir.path()).await;
    let run = first.submit(&plan(SHA, 1)).await;
    let job = first.store.jobs_of_run(run).await.unwrap()[0].id;
    let offer = gpu_host(Packing::Exclusive);
    let host = Control::Host(offer.by.clone());
    assert_eq!(first.queue.pause(&host, "alice", Some("new disks")).await.unwrap(), Outcome::Performed);
    assert_eq!(first.queue.pause(&host, "bob", None).await.unwrap(), Outcome::Moved);
    assert_eq!(first.queue.pause(&Control::Triggers, "bob", None).await.unwrap(), Outcome::Performed);
    first.store.close().await;
    let bench = bench(dir.path()).await;
    assert_eq!(bench.take(&offer).await, None);
    let Why::Paused { pause } = bench.why(job).await else { panic!("the host is paused") };
    assert_eq!(pause.to_string(), "host:gpu-1 paused by alice since 2026-11-22 12:00:00Z: new disks");
    assert_eq!(bench.queue.pause_of(&Control::Triggers).await.unwrap().unwrap().by, "bob");
    assert_eq!(bench.queue.resume(&host, "alice").await.unwrap(), Outcome::Performed);
    assert_eq!(bench.queue.resume(&host, "alice").await.unwrap(), Outcome::Moved);
    assert_eq!(bench.take(&offer).await, Some((job, vec![0])));
    // What runs goes on while the host is paused.
    assert_eq!(bench.queue.pause(&host, "alice", None).await.unwrap(), Outcome::Performed);
    let held = &bench.queue.held(&offer.by).await.unwrap()[0];
    assert!(matches!(bench.queue.heartbeat(&held.claim).await.unwrap(), benchd::queue::Heartbeat::Renewed { .. }));
}

#[tokio::test]
async fn each_job_has_its_place_and_an_expected_start() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let offer = gpu_host(Packing::Exclusive);
    // Ten minutes are what such a job takes.
    bench.submit(&plan(SHA, 1)).await;
    let claimed = bench.queue.claim(&offer).await.unwrap().unwrap();
    bench.clock.advance(Duration::minutes(10));
    bench.measure(&claimed, SHA, &[1.0]).await;
    assert_eq!(bench.queue.finish(&claimed.claim, &ended(Conclusion::Success)).await.unwrap(), Outcome::Performed);

    let start = bench.clock.now();
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let run = bench.submit(&plan(SHA, 1)).await;
        jobs.push(bench.store.jobs_of_run(run).await.unwrap()[0].id);
        bench.clock.advance(Duration::seconds(1));
    }
    let mut elsewhere = plan(SHA, 1);
    elsewhere.jobs[0].target.device_type = "NVIDIA B200".parse().unwrap();
    bench.submit(&elsewhere).await;
    assert_eq!(bench.take(&offer).await, Some((jobs[0], vec![0])));
    let claimed_at = bench.clock.now();
    bench.clock.advance(Duration::minutes(4));
    let view = bench.queue.view().await.unwrap();
    let places: Vec<_> = view.jobs.iter().map(|place| (place.position, place.of, place.starts_at)).collect();
    let after = |minutes| Some(claimed_at + Duration::minutes(minutes));
    assert_eq!(
        places,
        [(None, 2, after(0)), (Some(1), 2, after(10)), (Some(2), 2, after(20)), (Some(1), 1, None)],
        "{view:?}"
    );
    assert!(start < claimed_at);
    assert_eq!(view.jobs[1].why, Why::DevicesTaken { by: vec![jobs[0]] });
    assert_eq!(view.jobs[3].why, Why::NoRunner { seen_at: None });
    assert_eq!((view.runners.len(), view.runners[0].host.count()), (1, 8));
    let wire = serde_json::to_value(&view).unwrap();
    assert_eq!(
        wire["jobs"][0]["why"],
        json!({"why": "holds", "by": "gpu-1", "slot": {"devices": [0], "cpus": null}, "started_at": null})
    );
    assert_eq!(serde_json::from_value::<benchd::queue::place::QueueView>(wire).unwrap(), view);

    let command = |args: &[&str]| {
        let mut benchd = crate::support::benchd();
        benchd.arg("queue").arg("--state-dir").arg(dir.path()).args(args);
        String::from_utf8(benchd.assert().success().get_output().stdout.clone()).unwrap()
    };
    let shown = command(&[]);
    assert!(shown.contains("gpu-1: 8x Xeon_8488C_48c, 1 in use, last seen"), "{shown}");
    assert!(shown.contains("1 of 2") && shown.contains("is prepared on gpu-1, device 0"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&command(&["--json"])).unwrap();
    assert_eq!(json["jobs"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn waiting_for_an_image_tells_what_was_asked_and_what_the_answer_was() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    let mut waiting = plan(SHA, 3);
    for job in &mut waiting.jobs {
        job.start = JobStart::WaitingForImage { until: noon() + Duration::minutes(90) };
    }
    let run = bench.submit(&waiting).await;
    let due = bench.queue.due_looks().await.unwrap();
    let [absent, unknown, found] = [due[0].id, due[1].id, due[2].id];
    let at = noon() + Duration::seconds(15);
    assert_eq!(bench.queue.image_still_absent(absent, "r/i:t").await.unwrap(), Waiting::LookAgain { at });
    assert_eq!(bench.queue.image_unknown(unknown, "r/i:t", "503").await.unwrap(), Waiting::LookAgain { at });
    assert_eq!(bench.queue.due_looks().await.unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [found]);
    assert_eq!(bench.queue.image_found(found).await.unwrap(), Outcome::Performed);
    assert_eq!(bench.queue.image_still_absent(found, "r/i:t").await.unwrap(), Waiting::Moved);
    let told = bench.why(unknown).await.to_string();
    let expected = "waits for its image since 12:00:00Z, at most until 13:30:00Z; r/i:t: no answer at 12:00:00Z (503); \
                    next look at 12:00:15Z";
    assert_eq!(told, expected);
    let JobState::WaitingForImage { last_look: Some(look), .. } = bench.store.job(absent).await.unwrap().unwrap().state
    else {
        panic!("it waits")
    };
    assert_eq!((look.at, look.answer), (noon(), NoImage::Absent));

    // The last look is made at the deadline.
    bench.clock.advance(Duration::minutes(89));
    let at = noon() + Duration::minutes(90);
    assert_eq!(bench.queue.image_still_absent(absent, "r/i:t").await.unwrap(), Waiting::LookAgain { at });
    bench.clock.advance(Duration::minutes(1));
    assert_eq!(bench.queue.image_still_absent(absent, "r/i:t").await.unwrap(), Waiting::GivenUp);
    assert_eq!(bench.queue.image_unknown(unknown, "r/i:t", "503").await.unwrap(), Waiting::GivenUp);
    assert_eq!(bench.queue.image_found(absent).await.unwrap(), Outcome::Moved);
    let jobs = bench.store.jobs_of_run(run).await.unwrap();
    let ends: Vec<_> = jobs[..2].iter().map(|job| (job.state.clone(), job.message.clone().unwrap())).collect();
    let failed = |kind| JobState::Finished { conclusion: Conclusion::Failure(kind) };
    let expected = [
        (
            failed(FailureKind::ImageMissing),
            "waited 90 minutes for r/i:t: it was not built in time, or is called otherwise".to_owned(),
        ),
        (
            failed(FailureKind::RegistryUnavailable),
            "waited 90 minutes for r/i:t: whether it exists is not known, the last look failed: 503".to_owned(),
        ),
    ];
    assert_eq!(ends, expected);
    assert_eq!(bench.queue.cancel_job(found, "enough").await.unwrap(), benchd::queue::Cancelled::Jobs { count: 1 });
    assert_eq!(bench.store.run(run).await.unwrap().unwrap().state, RunState::Cancelled);
}

#[test]
fn looks_are_quick_at_first_and_never_rare() {
    let (mut waited, mut looks) = (std::time::Duration::ZERO, Vec::new());
    while waited < std::time::Duration::from_secs(90 * 60) {
        let wait = next_look(waited);
        looks.push(wait.as_secs());
        waited += wait;
    }
    assert_eq!(looks[..11], [15; 11], "for the first minutes every 15 seconds");
    assert!(looks.is_sorted() && looks.iter().all(|wait| *wait <= 300));
    assert!(looks.len() < 60, "{} requests for one image", looks.len());
}
