//! What happens around a daemon at work: its parts fail, people interfere, leases run out. It waits and tells, and
//! nothing is lost or done twice.

mod again;
mod hours;
mod leases;

use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::SecondEngine;
use super::container_image::root_filesystem;
use super::kills::daemon::{Case, Daemon, Started};
use super::kills::world::{World, left};
use super::kills::{NO_SCHEDULE, ended};
use super::passes::SmallDisk;

async fn until_state(daemon: &Daemon, run: u64, state: &str) -> Value {
    daemon.wait(&format!("/api/v1/runs/{run}"), |run| run["state"] == state).await
}

async fn cancel(daemon: &Daemon, run: u64) {
    let (status, answer) = daemon.ask(Method::POST, &format!("/api/v1/runs/{run}/cancel"), None, None).await.unwrap();
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_goes_on_though_registry_and_repository_are_gone() {
    let mut world = World::new(1).await;
    let point = "after:start a container";
    let run = {
        let case = Case::in_bucket(&world, "orphan", "engine", NO_SCHEDULE);
        let Started::Listens(daemon) = case.serve(Some(point)).await else { panic!("died at its start") };
        let (run, _) = daemon.submit("key", &world.commits[0], "configured").await.unwrap();
        daemon.dies(point).await;
        run
    };
    world.project.registry.kill();
    std::fs::rename(world.project.path("checkout"), world.project.path("elsewhere")).unwrap();
    let case = Case::again(&world, "orphan");
    let daemon = case.listening().await;
    daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
    world.assert_whole(&case, &daemon, run).await;
    assert_eq!(world.events(run).await, ["start", "0"]);
    assert_eq!(world.objects("orphan").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_is_refused() {
    let world = World::new(1).await;
    let case = Case::in_bucket(&world, "twice", "engine", NO_SCHEDULE);
    let daemon = case.listening().await;
    let second = case.command(&["serve"], None).status().unwrap();
    assert_eq!(second.code(), Some(3));
    let said = std::fs::read_to_string(case.log()).unwrap();
    assert!(said.contains("another benchd runs with the state directory"), "{said}");
    assert_eq!(daemon.runs().await.len(), 0, "the first one goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_is_stopped_also_by_the_next_daemon() {
    let mut world = World::new(0).await;
    let sha = world.commit(100_000).await;
    let case = Case::in_bucket(&world, "cancelled", "engine", NO_SCHEDULE);
    let daemon = case.listening().await;
    let (stopped, _) = daemon.submit("one", &sha, "configured").await.unwrap();
    let (left_over, _) = daemon.submit("two", &sha, "configured").await.unwrap();
    for run in [stopped, left_over] {
        while world.events(run).await != ["start"] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    cancel(&daemon, stopped).await;
    until_state(&daemon, stopped, "cancelled").await;
    while !left(stopped).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Killed before or while it stops the container.
    cancel(&daemon, left_over).await;
    daemon.kill();
    let daemon = case.listening().await;
    while !left(left_over).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for run in [stopped, left_over] {
        let shown = until_state(&daemon, run, "cancelled").await;
        assert_eq!(shown["jobs"][0]["attempts"].as_array().unwrap().len(), 1, "{shown:#}");
        assert_eq!(world.events(run).await.iter().filter(|event| *event == "start").count(), 1);
    }
    assert_eq!(world.objects("cancelled").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_holds_jobs_back() {
    let world = World::new(1).await;
    let case = Case::in_bucket(&world, "full", "engine", NO_SCHEDULE);
    let disk = SmallDisk::mount(case.dir().join("state"), "300m");
    let daemon = case.listening().await;
    let (run, _) = daemon.submit("key", &world.commits[0], "configured").await.unwrap();
    daemon.until_trouble(Some("disk")).await;
    assert!(std::fs::read_to_string(case.log()).unwrap().contains("are free in the state directory"));
    assert_eq!(until_state(&daemon, run, "queued").await["jobs"][0]["attempts"], serde_json::json!([]));
    let state = case.dir().join("state");
    let larger = Command::new("mount").args(["-o", "remount,size=2g"]).arg(&state).status().unwrap();
    assert!(larger.success());
    daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
    world.assert_whole(&case, &daemon, run).await;
    daemon.until_trouble(None).await;
    daemon.kill();
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_under_the_daemon_is_waited_for() {
    const LINES: usize = 300;
    let mut world = World::new(0).await;
    let sha = world.commit(LINES).await;
    let second = SecondEngine::new(&format!("daemon-{}", std::process::id()));
    let engine = second.start().await;
    let host = engine.host().to_owned();
    // Its loopback is another one: the image is put into it under the name that the registry has it by.
    let image = format!("{}/engine:{sha}", world.project.registry.host);
    let mut import = Command::new("docker")
        .args(["-H", &host, "import", "--change", "ENV PATH=/usr/local/bin:/bin", "-", &image])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut import.stdin.take().unwrap(), &root_filesystem()).unwrap();
    assert!(import.wait().unwrap().success());

    let case = Case::in_bucket(&world, "second", "engine", NO_SCHEDULE);
    case.configure("  platform: cpu", &format!("  docker_host: \"{host}\"\n  platform: cpu"));
    let daemon = case.listening().await;
    let (run, _) = daemon.submit("one", &sha, "configured").await.unwrap();
    until_state(&daemon, run, "running").await;
    let running = || {
        let output = Command::new("docker").args(["-H", &host, "ps", "--quiet"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    while running().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    second.kill();
    // Another run waits for the engine, and the daemon says so.
    let (waiting, _) = daemon.submit("two", &sha, "no").await.unwrap();
    daemon.until_trouble(Some("engine")).await;
    second.start().await;
    for run in [run, waiting] {
        let shown = daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
        assert_eq!(shown["jobs"][0]["attempts"].as_array().unwrap().len(), 1, "{shown:#}");
        world.assert_whole_of(&case, &daemon, run, LINES, 1).await;
    }
    daemon.until_trouble(None).await;
    let output = Command::new("docker").args(["-H", &host, "ps", "--all", "--quiet"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "a container is left");
    daemon.kill();
}
