//! Attempts that something outside breaks off, and what comes after: the same job once more, or its end. Nothing is
//! published twice.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use benchd::store::DATABASE_FILE;
use chrono::TimeDelta;
use github_standin::{CommitSpec, Fault, PullRequest, PullSpec, Repository, Role, StandIn as GitHub};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::hours::{Hours, case};
use super::*;
use crate::engine::images::{noise, serve_to};
use crate::support::s3::S3Server;
use crate::support::stand_in::{Asked, StandIn, answer};

const SECRET: &str = "the-secret-of-the-webhook";

/// A fork's pull request at GitHub, whose commits are approved one by one.
struct Fork {
    github: GitHub,
    repository: Repository,
    pull: PullRequest,
}

impl Fork {
    /// Whose head is the world's first commit; the case follows it.
    fn of(world: &World, case: &Case<'_>) -> Self {
        let github = GitHub::start();
        let repository = github.repository("example/engine");
        repository.commit("main", CommitSpec::new("first"));
        for person in ["ann", "bench"] {
            repository.permit(person, Role::Write);
        }
        let fork = repository.fork("eve");
        fork.commit("patch", CommitSpec::new("faster").sha(&world.commits[0]).files(&["a.py"]));
        let pull = repository.open(PullSpec::new("patch").from_fork(&fork).author("eve"));
        // What a fork measures may not be downloaded.
        world.project.write("hf_cache/hub/models--Tiny--Model/snapshots/1/config.json", "{}");
        std::fs::write(case.dir().join("secret"), SECRET).unwrap();
        std::fs::write(case.dir().join("token"), github.personal_token("bench", &["repo"])).unwrap();
        let asked = format!(
            "github: {{api_url: \"{}\", token_file: {dir}/token, webhook_secret_files: [{dir}/secret], reconcile: 1s, \
             write_interval: 0s}}\nrepositories:",
            github.url(),
            dir = case.dir().display()
        );
        case.configure("repositories:", &asked);
        case.configure("publish: {", "publish: {from: [pull_request], ");
        let triggers =
            "triggers: {merge: {enabled: false}, pull_request: {quiet_for: 0s, forks: approve_each_commit}, ";
        case.configure("triggers: {", triggers);
        Self { github, repository, pull }
    }

    /// Somebody who may approves it, and the daemon hears of it.
    fn approve(&self, daemon: &Daemon) {
        self.github.webhook(&format!("{}/webhook/github", daemon.url), SECRET);
        for label in ["perf-benchmarks", "ready"] {
            self.pull.by("ann").label(label);
        }
    }
}

async fn pause_host(daemon: &Daemon) {
    let host = serde_json::json!({"what": "host"});
    let (status, answer) = daemon.ask(Method::POST, "/api/v1/pauses", None, Some(&host)).await.unwrap();
    assert!(status < 300, "{answer}");
}

async fn resume_host(daemon: &Daemon) {
    // Without a body: the answer is none.
    daemon.ask(Method::DELETE, "/api/v1/pauses/host", None, None).await;
}

/// The only run, as soon as there is one.
async fn only_run(daemon: &Daemon) -> u64 {
    let runs = daemon.wait("/api/v1/runs", |runs| runs.as_array().is_some_and(|runs| !runs.is_empty())).await;
    runs[0]["id"].as_u64().unwrap()
}

fn path(run: u64) -> String {
    format!("/api/v1/runs/{run}")
}

/// Waits until the first attempt has failed for this reason and its job waits for another one.
async fn until_failed(daemon: &Daemon, run: u64, failure: &str) -> Value {
    let failed = |shown: &Value| !shown["jobs"][0]["attempts"][0]["failure"].is_null();
    let shown = daemon.wait(&path(run), failed).await;
    assert_eq!(shown["jobs"][0]["attempts"][0]["failure"], failure, "{shown:#}");
    assert_eq!(shown["jobs"][0]["state"], "queued", "{shown:#}");
    shown
}

/// How often an object was put.
fn puts(s3: &S3Server) -> usize {
    s3.requests().iter().filter(|request| request.starts_with("PUT ")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_fork_waits_while_github_does_not_say_whether_its_approval_holds() {
    let (world, s3) = (World::new(1).await, S3Server::start_open("open"));
    let case = case(&world, "silent", &s3);
    let fork = Fork::of(&world, &case);
    let hours = Hours::begin(&case).await;
    let daemon = &hours.daemon;
    pause_host(daemon).await;
    fork.approve(daemon);
    until(async || {
        hours.clock.advance(TimeDelta::seconds(2));
        tokio::time::sleep(Duration::from_millis(200)).await;
        !daemon.runs().await.is_empty()
    })
    .await;
    let run = only_run(daemon).await;
    daemon.wait(&path(run), |shown| shown["jobs"][0]["state"] == "queued").await;
    let _silent = fork.github.fault("*", "/**", Fault::Status(502)).forever();
    resume_host(daemon).await;
    let shown = until_failed(daemon, run, "github_unavailable").await;
    assert!(shown["jobs"][0]["attempts"][0]["message"].as_str().unwrap().contains("502"), "{shown:#}");
    daemon.until_trouble(Some("github")).await;
    assert_eq!(left(run), "");

    fork.github.clear_faults();
    // What could not be told at GitHub meanwhile waits too, with pauses of its own.
    until(async || {
        hours.clock.advance(TimeDelta::minutes(1));
        tokio::time::sleep(Duration::from_millis(200)).await;
        ended(&daemon.get(&path(run)).await)
    })
    .await;
    let shown = daemon.get(&path(run)).await;
    assert_eq!(shown["state"], "published", "{shown:#}");
    assert_eq!(shown["jobs"][0]["attempts"].as_array().unwrap().len(), 2, "{shown:#}");
    assert_eq!(world.events(run).await, ["start", "0"]);
    assert_eq!(puts(&s3), 1);
    hours.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_daemon_asks_about_the_approval_of_a_job_that_was_claimed() {
    let world = World::new(1).await;
    let case = Case::in_bucket(&world, "adopted-fork", "engine", NO_SCHEDULE);
    let fork = Fork::of(&world, &case);
    let point = "after:claim a job";
    let Started::Listens(daemon) = case.serve(Some(point)).await else { panic!("died at its start") };
    fork.approve(&daemon);
    daemon.dies(point).await;
    fork.repository.permit("ann", Role::Read);
    let daemon = case.listening().await;
    let run = only_run(&daemon).await;
    until_state(&daemon, run, "cancelled").await;
    assert_eq!(left(run), "");
    assert_eq!(world.objects("adopted-fork").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_removes_is_measured_once_more_and_published_once() {
    const LINES: usize = 200;
    let (mut world, s3) = (World::new(0).await, S3Server::start_open("open"));
    let sha = world.commit(LINES).await;
    let case = case(&world, "removed", &s3);
    let hours = Hours::begin(&case).await;
    let (run, _) = hours.daemon.submit("key", &sha, "configured").await.unwrap();
    case.until_printed(run, "line 3").await;
    let removed =
        Command::new("docker").args(["rm", "--force", left(run).trim()]).stdout(Stdio::null()).status().unwrap();
    assert!(removed.success());
    until_failed(&hours.daemon, run, "engine_unavailable").await;
    hours.clock.advance(TimeDelta::minutes(1));
    hours.daemon.wait(&path(run), ended).await;
    world.assert_whole_of(&case, &hours.daemon, run, LINES, 2).await;
    assert_eq!(world.events(run).await, ["start", "137", "start", "0"]);
    assert_eq!(puts(&s3), 1);
    hours.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_under_a_running_job_loses_nothing() {
    const LINES: usize = 400;
    let (mut world, s3) = (World::new(0).await, S3Server::start_open("open"));
    let sha = world.commit(LINES).await;
    let case = case(&world, "filling", &s3);
    let disk = SmallDisk::mount(case.dir().join("state"), "2g");
    let hours = Hours::begin(&case).await;
    let daemon = &hours.daemon;
    let (run, _) = daemon.submit("key", &sha, "configured").await.unwrap();
    case.until_printed(run, "line 3").await;
    // To what lies there: not one more byte has room.
    disk.remount(&format!("size={}", used_bytes(&case)));
    daemon.until_trouble(Some("disk")).await;
    let body = serde_json::json!({"commit": sha, "publish": "no"});
    let (status, problem) = daemon.ask(Method::POST, "/api/v1/runs", Some("other"), Some(&body)).await.unwrap();
    assert_eq!(status, 503, "{problem} {}", daemon.text("/readyz").await);
    until(async || left(run).is_empty()).await;
    disk.remount("size=2g");
    hours.clock.advance(TimeDelta::minutes(1));
    let (other, answer) = daemon.submit("other", &sha, "no").await.unwrap();
    assert_eq!(answer, "accepted");
    for run in [run, other] {
        let shown = daemon.wait(&path(run), ended).await;
        // Where the end of an attempt could not be written down, the same one goes on.
        let attempts = shown["jobs"][0]["attempts"].as_array().unwrap().len();
        world.assert_whole_of(&case, daemon, run, LINES, attempts).await;
        let events = world.events(run).await;
        assert!(events.iter().filter(|event| *event == "0").count() == 1, "measured once: {events:?}");
        assert!(events.iter().all(|event| ["start", "0", "137"].contains(&event.as_str())), "{events:?}");
    }
    daemon.until_trouble(None).await;
    assert_eq!(puts(&s3), 1);
    hours.end().await;
    drop(disk);
}

/// How much lies on the disk of a case, in bytes.
fn used_bytes(case: &Case<'_>) -> u64 {
    let output = Command::new("df").args(["--block-size=1", "--output=used"]).arg(case.dir().join("state")).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    output.lines().last().unwrap().trim().parse().unwrap()
}

async fn until(done: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done().await {
        assert!(Instant::now() < end, "it did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A case on a second engine, which pulls from a copy of the world's registry where its own loopback is.
fn on_second(case: &Case<'_>, host: &str) {
    case.configure("  platform: cpu", &format!("  docker_host: \"{host}\"\n  platform: cpu"));
}

fn containers(host: &str) -> String {
    let output = Command::new("docker").args(["-H", host, "ps", "--all", "--quiet"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_during_the_pull_of_a_job_is_waited_for() {
    let (world, s3) = (World::new(1).await, S3Server::start_open("open"));
    // A layer that takes a while.
    let mut large = tar::Builder::new(Vec::new());
    let (noise, mut header) = (noise(), tar::Header::new_gnu());
    header.set_size(noise.len() as u64);
    large.append_data(&mut header, "noise", &noise[..]).unwrap();
    let layers = [root_filesystem(), large.into_inner().unwrap()];
    let config = serde_json::json!({"Env": ["PATH=/usr/local/bin:/bin"]});
    let registry = &world.project.registry;
    registry.push_layers("large", &world.commits[0], world.project.engine.architecture(), config, &layers).await;
    let second = SecondEngine::new(&format!("pull-{}", std::process::id()));
    let host = second.start().await.host().to_owned();
    let served = serve_to(registry, &second);
    let case = case(&world, "killed-pull", &s3);
    case.configure("/engine:{sha}", "/large:{sha}");
    on_second(&case, &host);
    let hours = Hours::begin(&case).await;
    let (run, _) = hours.daemon.submit("key", &world.commits[0], "configured").await.unwrap();
    // What is pulled lies there under such a name, until all of it is there.
    let pulled = || std::fs::read_dir(second.folder.join("data/tmp")).into_iter().flatten();
    until(async || {
        pulled().any(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("GetImageBlob")))
    })
    .await;
    second.kill();
    until_failed(&hours.daemon, run, "engine_unavailable").await;
    hours.clock.advance(TimeDelta::minutes(1));
    hours.daemon.until_trouble(Some("engine")).await;
    assert_eq!(second.start().await.host(), host);
    hours.daemon.wait(&path(run), ended).await;
    world.assert_whole_of(&case, &hours.daemon, run, crate::engine::kills::world::LINES, 2).await;
    hours.daemon.until_trouble(None).await;
    assert_eq!((containers(&host).as_str(), puts(&s3)), ("", 1));
    hours.end().await;
    drop(served);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_while_results_are_copied_out_is_waited_for() {
    const LINES: usize = 10;
    let (mut world, s3) = (World::new(0).await, S3Server::start_open("open"));
    let sha = world.commit_with(LINES, "head -c 300000000 /dev/zero >benchmarks/results/large").await;
    let second = SecondEngine::new(&format!("copy-{}", std::process::id()));
    let host = second.start().await.host().to_owned();
    let served = serve_to(&world.project.registry, &second);
    let case = case(&world, "killed-copy", &s3);
    on_second(&case, &host);
    let hours = Hours::begin(&case).await;
    let (run, _) = hours.daemon.submit("key", &sha, "configured").await.unwrap();
    let shown = until_state(&hours.daemon, run, "running").await;
    let pass = case.dir().join(format!("state/artifacts/{run}/{}/1/1", shown["jobs"][0]["id"]));
    until(async || pass.join("results.partial/large").exists()).await;
    second.kill();
    assert!(!pass.join("results/large").exists(), "the copy was over before the engine was killed");
    second.start().await;
    hours.daemon.wait(&path(run), ended).await;
    world.assert_whole_of(&case, &hours.daemon, run, LINES, 1).await;
    assert_eq!(std::fs::metadata(pass.join("results/large")).unwrap().len(), 300_000_000);
    hours.daemon.until_trouble(None).await;
    assert_eq!((containers(&host).as_str(), puts(&s3)), ("", 1));
    hours.end().await;
    drop(served);
}

/// A door to a registry that holds back layers while `held` says so.
async fn door(registry: &str, held: Arc<AtomicBool>) -> StandIn {
    let registry = registry.to_owned();
    let pass_on = move |asked: Asked| {
        let (registry, held) = (registry.clone(), held.clone());
        async move {
            while asked.path.contains("/blobs/") && held.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let request = client.request(asked.method.parse().unwrap(), format!("http://{registry}{}", asked.path));
            let answered = request.header("accept", asked.accept).send().await.unwrap();
            let (status, headers) = (answered.status().as_u16(), answered.headers().clone());
            let names = ["content-type", "content-length", "docker-content-digest", "docker-distribution-api-version"];
            let told: Vec<_> =
                names.into_iter().filter_map(|name| Some((name, headers.get(name)?.to_str().unwrap()))).collect();
            answer(status, &told, answered.bytes().await.unwrap())
        }
    };
    StandIn::start(pass_on).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cancelled_during_its_pull_leaves_the_host_to_the_next() {
    let mut world = World::new(2).await;
    let held = Arc::new(AtomicBool::new(true));
    let door = door(&world.project.registry.host, held.clone()).await;
    // Images are known and cleared away by the name that they were pulled by.
    world.project.registry.host.clone_from(&door.host);
    let case = Case::in_bucket(&world, "cancelled-pull", "engine", NO_SCHEDULE);
    case.configure("count: 2", "count: 1");
    let daemon = case.listening().await;
    let (cancelled, _) = daemon.submit("one", &world.commits[0], "configured").await.unwrap();
    until(async || door.asked().iter().any(|asked| asked.path.contains("/blobs/"))).await;
    let (next, _) = daemon.submit("two", &world.commits[1], "configured").await.unwrap();
    until_state(&daemon, next, "queued").await;
    cancel(&daemon, cancelled).await;
    held.store(false, Ordering::SeqCst);
    daemon.wait(&path(next), ended).await;
    world.assert_whole(&case, &daemon, next).await;
    assert_eq!(world.events(next).await, ["start", "0"]);
    let shown = until_state(&daemon, cancelled, "cancelled").await;
    assert_eq!(shown["jobs"][0]["conclusion"], "cancelled", "{shown:#}");
    assert_eq!((left(cancelled).as_str(), world.events_so_far(cancelled)), ("", Vec::new()), "nothing was started");
    let objects = world.objects("cancelled-pull");
    assert_eq!(objects.len(), 1, "{objects:?}");
    assert!(objects[0].0.contains(&world.commits[1]), "{objects:?}");
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_is_adopted_though_the_store_is_locked_meanwhile() {
    const LINES: usize = 600;
    let mut world = World::new(0).await;
    let sha = world.commit(LINES).await;
    let case = Case::in_bucket(&world, "locked-adoption", "engine", NO_SCHEDULE);
    // The engine is reached by a link, so that it is away when the link is.
    let (socket, link) =
        (world.project.engine.host().strip_prefix("unix://").unwrap().to_owned(), case.dir().join("link"));
    case.configure("  platform: cpu", &format!("  docker_host: \"unix://{}\"\n  platform: cpu", link.display()));
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    let daemon = case.listening().await;
    let (run, _) = daemon.submit("key", &sha, "configured").await.unwrap();
    until(async || !left(run).is_empty()).await;
    daemon.kill();
    std::fs::remove_file(&link).unwrap();

    let daemon = case.listening().await;
    daemon.until_trouble(Some("engine")).await;
    let options = SqliteConnectOptions::new().filename(case.dir().join("state").join(DATABASE_FILE));
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    let said = || std::fs::read_to_string(case.log()).unwrap();
    until(async || said().contains("failed to look for jobs to adopt, trying again")).await;
    lock.rollback().await.unwrap();

    let shown = daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
    assert_eq!(shown["jobs"][0]["attempts"].as_array().unwrap().len(), 1, "{shown:#}");
    world.assert_whole_of(&case, &daemon, run, LINES, 1).await;
    assert_eq!(world.events(run).await, ["start", "0"]);
    daemon.kill();
}
