//! A job that takes longer than its lease, and one whose lease somebody else got.

use std::sync::Arc;
use std::time::Duration;

use benchd::clock::Clock;
use benchd::config::{Config, Packing};
use benchd::executor::job::Worker;
use benchd::model::Conclusion;
use benchd::queue::slots::Inventory;
use benchd::queue::{Cancelled, ClaimOffer, ClaimedJob, Pace, Queue};
use benchd::registry::{Registry, RegistrySettings};
use benchd::store::artifacts::Artifacts;
use benchd::store::{DATABASE_FILE, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use tokio_util::sync::CancellationToken;

use super::{Case, NO_SCHEDULE, World, left, until_state};

const LEASE: Duration = Duration::from_secs(6);
/// How long a stop may take before the test gives up, much less than a third of an hour.
const PATIENCE: Duration = Duration::from_secs(180);

/// A worker whose leases are that long, on the store of a case; and the job that it claimed.
async fn claimed(world: &World, case: &Case<'_>, lease_for: Duration) -> (Worker, ClaimedJob) {
    let config = Config::load(&case.config()).unwrap();
    let store = Store::open(&config.state_dir).await.unwrap();
    let pace = Pace { lease_for, ..Pace::default() };
    let queue = Queue::new(store.clone(), Clock::system(), pace);
    for job in queue.due_looks().await.unwrap() {
        let _queued = queue.image_found(job.id).await.unwrap();
    }
    let devices = [0, 1].map(benchd::model::DeviceId::from);
    let host = Inventory::new("cpu".parse().unwrap(), "Test_CPU_4c".parse().unwrap(), devices, Packing::Pack);
    let offer = ClaimOffer { by: "tester".parse().unwrap(), host, busy: Vec::new(), run: None };
    let claimed = queue.claim(&offer).await.unwrap().unwrap();
    let worker = Worker {
        engine: world.project.engine.clone(),
        registry: Arc::new(Registry::new(RegistrySettings::configured(&config.registries).unwrap()).unwrap()),
        artifacts: Artifacts::new(&config.state_dir),
        state_dir: config.state_dir.clone(),
        execution: config.execution.clone(),
        retention: config.retention.clone(),
        clone_url: config.github.clone_url(),
        memory_bytes: None,
        device_count: 2,
        driver: None,
        clock: Clock::system(),
        queue,
        store,
    };
    (worker, claimed)
}

/// A run of `sha` that waits in the store of a case without a daemon.
async fn waiting(case: &Case<'_>, sha: &str) -> u64 {
    let token = case.dir().join("hf-token");
    std::fs::write(&token, "hf_test").unwrap();
    case.configure("hf_token_env: TEST_HF_TOKEN", &format!("hf_token_file: {}", token.display()));
    case.configure("  platform: cpu", "  docker_host: unix:///nonexistent.sock\n  platform: cpu");
    let daemon = case.listening().await;
    let (run, _) = daemon.submit("key", sha, "no").await.unwrap();
    until_state(&daemon, run, "queued").await;
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_longer_than_its_lease_keeps_it() {
    let mut world = World::new(0).await;
    let sha = world.commit(400).await;
    let case = Case::in_bucket(&world, "long", "engine", NO_SCHEDULE);
    waiting(&case, &sha).await;
    let (worker, claimed) = claimed(&world, &case, LEASE).await;
    let settling = async {
        loop {
            let settled = worker.queue.settle().await.unwrap();
            assert!(settled.lost.is_empty(), "{settled:?}");
            tokio::time::sleep(LEASE / 6).await;
        }
    };
    let stop = CancellationToken::new();
    let conclusion = tokio::select! {
        conclusion = worker.execute(&claimed, &[0], &|_| {}, &stop) => conclusion.unwrap(),
        never = settling => never,
    };
    assert_eq!(conclusion, Conclusion::Success);
    let detail = worker.store.run_detail(claimed.job.run).await.unwrap().unwrap();
    assert_eq!(detail.jobs[0].attempts.len(), 1);
    assert_eq!(detail.run.state.to_string(), "published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_lost_stops_the_container_and_writes_nothing() {
    let mut world = World::new(0).await;
    let sha = world.commit(100_000).await;
    let case = Case::in_bucket(&world, "lost", "engine", NO_SCHEDULE);
    let run = waiting(&case, &sha).await;
    let (worker, claimed) = claimed(&world, &case, LEASE).await;
    let taken_over = async {
        while left(run).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let options = SqliteConnectOptions::new().filename(case.dir().join("state").join(DATABASE_FILE));
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        let changed = sqlx::query("update jobs set claimed_by = 'another'").execute(&mut database).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
    };
    let stop = CancellationToken::new();
    let (conclusion, ()) = tokio::join!(worker.execute(&claimed, &[0], &|_| {}, &stop), taken_over);
    assert_eq!(conclusion.unwrap(), Conclusion::Cancelled);
    assert_eq!(left(run), "", "its container is gone");
    let detail = worker.store.run_detail(claimed.job.run).await.unwrap().unwrap();
    assert_eq!(detail.jobs[0].attempts[0].end, None, "the attempt is the other's to end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_is_stopped_long_before_its_lease_is_renewed() {
    let mut world = World::new(0).await;
    let sha = world.commit(100_000).await;
    let case = Case::in_bucket(&world, "cancelled", "engine", NO_SCHEDULE);
    let run = waiting(&case, &sha).await;
    let (worker, claimed) = claimed(&world, &case, Duration::from_secs(3600)).await;
    let cancelled = async {
        while left(run).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        worker.queue.cancel(claimed.job.run, "by the test").await.unwrap()
    };
    let stop = CancellationToken::new();
    let both = async { tokio::join!(worker.execute(&claimed, &[0], &|_| {}, &stop), cancelled) };
    let (conclusion, ended) = tokio::time::timeout(PATIENCE, both).await.expect("the container goes on");
    assert_eq!((conclusion.unwrap(), ended), (Conclusion::Cancelled, Cancelled::Jobs { count: 1 }));
    assert_eq!(left(run), "", "its container is gone");
}
