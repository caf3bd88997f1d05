//! Hours of trouble in seconds: the daemon in this process, with a clock that is moved by hand, and real services that
//! are away meanwhile.

use std::thread::JoinHandle;
use std::time::Duration;

use benchd::app::serve::serve;
use benchd::clock::Clock;
use benchd::config::Config;
use benchd::store::DATABASE_FILE;
use chrono::{TimeDelta, Utc};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Case, Daemon, NO_SCHEDULE, World, ended, until_state};
use crate::support::s3::S3Server;

/// A daemon whose clock is moved by hand.
pub struct Hours {
    pub daemon: Daemon,
    pub clock: Clock,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// A case that publishes to a bucket which takes requests without credentials.
pub fn case<'a>(world: &'a World, name: &str, s3: &S3Server) -> Case<'a> {
    let place = format!("{{url: \"s3://open/{name}\", endpoint: \"{}\", anonymous: true}}", s3.endpoint());
    let case = Case::new(world, name, "engine", &place, NO_SCHEDULE);
    let token = case.dir().join("hf-token");
    std::fs::write(&token, "hf_test").unwrap();
    case.configure("hf_token_env: TEST_HF_TOKEN", &format!("hf_token_file: {}", token.display()));
    case
}

impl Hours {
    pub async fn begin(case: &Case<'_>) -> Self {
        let (config, clock) = (Config::load(&case.config()).unwrap(), Clock::manual(Utc::now()));
        let (stop, (sender, ready)) = (CancellationToken::new(), oneshot::channel());
        let (moved, stopped) = (clock.clone(), stop.clone());
        let serving = std::thread::spawn(move || {
            let ready = |addresses: &[std::net::SocketAddr]| sender.send(addresses[0]).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(Box::pin(serve(config, moved, stopped, ready))).unwrap();
        });
        let daemon = Daemon::at(&format!("http://{}", ready.await.unwrap()));
        Self { daemon, clock, stop, serving }
    }

    /// An hour goes by, ten minutes after ten minutes; `settled` waits for what each brings.
    async fn pass(&self, settled: impl AsyncFn(usize)) {
        for number in 1..=6 {
            self.clock.advance(TimeDelta::minutes(10));
            settled(number).await;
        }
    }

    pub async fn end(self) {
        self.stop.cancel();
        tokio::task::spawn_blocking(move || self.serving.join().unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_for_an_hour_gets_everything_once() {
    let (world, s3) = (World::new(1).await, S3Server::start_open("open"));
    let case = case(&world, "bucket-hour", &s3);
    s3.be_away(true);
    let hours = Hours::begin(&case).await;
    let (run, _) = hours.daemon.submit("key", &world.commits[0], "configured").await.unwrap();
    let path = format!("/api/v1/runs/{run}");
    let tried = |shown: &serde_json::Value| shown["outbox"][0]["attempts"].as_u64().unwrap_or(0);
    hours.daemon.until_trouble(Some("object_store")).await;
    let mut last = 1;
    hours.daemon.wait(&path, |shown| tried(shown) >= last).await;
    for _ in 0..6 {
        hours.clock.advance(TimeDelta::minutes(10));
        // Waits double up to an hour: not every ten minutes bring a try.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let shown = hours.daemon.get(&path).await;
        assert_eq!(shown["state"], "measured");
        last = tried(&shown);
    }
    assert!(last <= 8, "the service is not hammered: {last} tries");
    hours.daemon.until_trouble(Some("object_store")).await;
    s3.be_away(false);
    hours.clock.advance(TimeDelta::hours(1));
    hours.daemon.wait(&path, ended).await;
    world.assert_whole(&case, &hours.daemon, run).await;
    hours.daemon.until_trouble(None).await;
    let puts = s3.requests().iter().filter(|request| request.starts_with("PUT ")).count();
    assert_eq!(puts, 1);
    hours.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_away_for_an_hour_is_no_absence() {
    let (mut world, s3) = (World::new(1).await, S3Server::start_open("open"));
    world.project.registry.kill();
    let hours = Hours::begin(&case(&world, "registry-hour", &s3)).await;
    let (run, _) = hours.daemon.submit("key", &world.commits[0], "configured").await.unwrap();
    let path = format!("/api/v1/runs/{run}");
    hours.daemon.until_trouble(Some("registry")).await;
    let mut looked_at = String::new();
    for _ in 0..6 {
        hours.clock.advance(TimeDelta::minutes(10));
        let looked = |shown: &serde_json::Value| shown["jobs"][0]["last_look"]["at"].as_str().unwrap_or("").to_owned();
        let shown = hours.daemon.wait(&path, |shown| looked(shown) > looked_at).await;
        looked_at = looked(&shown);
        assert_eq!(shown["jobs"][0]["state"], "waiting_for_image", "{shown:#}");
        assert_eq!(shown["jobs"][0]["last_look"]["answer"], "unknown", "{shown:#}");
    }
    hours.daemon.until_trouble(Some("registry")).await;
    world.project.registry.start_again().await;
    hours.clock.advance(TimeDelta::minutes(10));
    hours.daemon.wait(&path, ended).await;
    world.assert_whole(&Case::again(&world, "registry-hour"), &hours.daemon, run).await;
    hours.daemon.until_trouble(None).await;
    hours.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_goes_away_under_a_queued_job_is_waited_for() {
    let (mut world, s3) = (World::new(1).await, S3Server::start_open("open"));
    let hours = Hours::begin(&case(&world, "registry-queued", &s3)).await;
    let pause = serde_json::json!({"what": "host"});
    hours.daemon.ask(reqwest::Method::POST, "/api/v1/pauses", None, Some(&pause)).await.unwrap();
    let (run, _) = hours.daemon.submit("key", &world.commits[0], "configured").await.unwrap();
    let path = format!("/api/v1/runs/{run}");
    hours.daemon.wait(&path, |shown| shown["jobs"][0]["state"] == "queued").await;
    world.project.registry.kill();
    hours.daemon.ask(reqwest::Method::DELETE, "/api/v1/pauses/host", None, None).await;
    let tries = |shown: &serde_json::Value| shown["jobs"][0]["attempts"].as_array().unwrap().len();
    let mut tried = 0;
    for minutes in [0, 1, 2, 4, 8, 16, 32] {
        hours.clock.advance(TimeDelta::minutes(minutes));
        let ended = |shown: &serde_json::Value| tries(shown) > tried && shown["jobs"][0]["state"] == "queued";
        let shown = hours.daemon.wait(&path, ended).await;
        assert_eq!(shown["jobs"][0]["attempts"][tried]["failure"], "registry_unavailable", "{shown:#}");
        tried = tries(&shown);
        hours.daemon.until_trouble(Some("registry")).await;
    }
    assert!(tried > 3, "longer than what a fault of this host is tried");
    world.project.registry.start_again().await;
    hours.clock.advance(TimeDelta::hours(1));
    let shown = hours.daemon.wait(&path, ended).await;
    assert_eq!(shown["state"], "published", "{shown:#}");
    assert_eq!(world.events(run).await, ["start", "0"]);
    hours.daemon.until_trouble(None).await;
    hours.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_never_appears_ends_with_its_reason() {
    let (world, s3) = (World::new(1).await, S3Server::start_open("open"));
    let case = case(&world, "never", &s3);
    case.configure("/engine:{sha}", "/nowhere:{sha}");
    let hours = Hours::begin(&case).await;
    let (run, _) = hours.daemon.submit("key", &world.commits[0], "configured").await.unwrap();
    let path = format!("/api/v1/runs/{run}");
    hours.daemon.wait(&path, |shown| shown["jobs"][0]["last_look"]["answer"] == "absent").await;
    hours.clock.advance(TimeDelta::minutes(91));
    let shown = hours.daemon.wait(&path, ended).await;
    assert_eq!(shown["state"], "failed", "{shown:#}");
    assert_eq!(shown["jobs"][0]["failure"], "image_missing", "{shown:#}");
    let message = shown["jobs"][0]["message"].as_str().unwrap();
    assert!(message.contains("it was not built in time, or is called otherwise"), "{message}");
    hours.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_locked_for_an_hour_is_waited_for() {
    let (world, s3) = (World::new(1).await, S3Server::start_open("open"));
    let case = case(&world, "database-hour", &s3);
    let hours = Hours::begin(&case).await;
    let (run, _) = hours.daemon.submit("key", &world.commits[0], "configured").await.unwrap();
    until_state(&hours.daemon, run, "running").await;
    let options = SqliteConnectOptions::new().filename(case.dir().join("state").join(DATABASE_FILE));
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    hours
        .pass(async |number| {
            if number == 3 {
                hours.daemon.until_trouble(Some("database")).await;
                let (status, problem) = hours
                    .daemon
                    .ask(reqwest::Method::POST, &format!("/api/v1/runs/{run}/cancel"), None, None)
                    .await
                    .unwrap();
                assert_eq!(status, 503, "{problem}");
            }
        })
        .await;
    hours.daemon.until_trouble(Some("database")).await;
    lock.rollback().await.unwrap();
    hours.daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
    world.assert_whole(&case, &hours.daemon, run).await;
    assert_eq!(world.events(run).await, ["start", "0"]);
    hours.daemon.until_trouble(None).await;
    hours.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_costs_and_doubles_nothing() {
    const LINES: usize = 200;
    let (mut world, s3) = (World::new(0).await, S3Server::start_open("open"));
    let sha = world.commit(LINES).await;
    let case = case(&world, "clock", &s3);
    let hours = Hours::begin(&case).await;
    let (run, _) = hours.daemon.submit("key", &sha, "configured").await.unwrap();
    until_state(&hours.daemon, run, "running").await;
    for step in [-TimeDelta::hours(1), TimeDelta::days(1), -TimeDelta::days(1)] {
        hours.clock.advance(step);
        // The limits of a pass are looked at every second, leases and waits every two.
        tokio::time::sleep(Duration::from_millis(2500)).await;
    }
    hours.daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
    world.assert_whole_of(&case, &hours.daemon, run, LINES, 1).await;
    assert_eq!(world.events(run).await, ["start", "0"]);
    assert_eq!(hours.daemon.runs().await.len(), 1);
    hours.end().await;
}
