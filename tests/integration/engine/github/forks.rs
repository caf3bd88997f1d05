//! A pull request from a fork: measured and told like others, with nothing to steal and no way out.

use std::process::Command;

use super::*;
use crate::engine::kills::world::left;
use crate::engine::run::project::TOKEN;

/// Shows the token that it has, and looks for the host.
const SUITE: &str = r#"echo "token $HF_TOKEN"
for host in 172.17.0.1 $(ip route | awk '/default/ {print $3}'); do echo hello | timeout 2 nc "$host" PORT; done
echo "looked for the host"
"#;

/// What `docker` says, as JSON.
fn docker(arguments: &[&str]) -> Value {
    let output = Command::new("docker").args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_measured_without_secrets_and_without_a_network() {
    let world = World::new(0).await;
    let hub = Hub::new(&world, Learns::ByWebhook).await;
    // Code of a fork may not download its model.
    world.project.write("hf_cache/hub/models--tiny--model/snapshots/1/config.json", "{}");
    // A service of the host that listens on every address of it.
    let service = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    service.set_nonblocking(true).unwrap();
    let script = SUITE.replace("PORT", &service.local_addr().unwrap().port().to_string());
    let sha = hub.image("a", &held(&format!("{script}{}", good("0.5")))).await;
    let fork = hub.repo.fork("eve");
    fork.commit("patch", CommitSpec::new("faster").sha(&sha).files(&["a.py"]));
    let pull = hub.repo.open(PullSpec::new("patch").from_fork(&fork).author("eve"));
    for label in LABELS {
        pull.by("ann").label(label);
    }
    hub.until_check(&sha, ("in_progress", Value::Null)).await;
    let [run] = hub.runs("pull_request").await[..] else { panic!("one run") };
    let container = hub.container(run).await;
    let config = &container["HostConfig"];
    assert_eq!((&config["CapDrop"], &config["IpcMode"]), (&json!(["ALL"]), &json!("private")));
    assert_eq!((&config["Privileged"], &config["SecurityOpt"]), (&json!(false), &json!(["no-new-privileges"])));
    let cache = world.project.path("hf_cache").display().to_string();
    assert!(config["Binds"].as_array().unwrap().contains(&json!(format!("{cache}:{cache}:ro"))), "{config:#}");
    let network = docker(&["network", "inspect", config["NetworkMode"].as_str().unwrap()]);
    assert_eq!(network[0]["Internal"], true);
    assert!(!container.to_string().contains(TOKEN));
    hub.let_go();
    let run = hub.measured("pull_request").await;
    let shown = hub.daemon.get(&format!("/api/v1/runs/{run}")).await;
    let log = hub.daemon.text(&format!("/api/v1/jobs/{}/log", shown["jobs"][0]["id"])).await;
    assert!(log.contains("token hf_untrusted") && log.contains("looked for the host"), "{log}");
    assert!(service.accept().is_err(), "the host was reached");
    assert!(hub.comment(&pull).starts_with("**No baseline yet**"));
    assert_eq!(hub.check(&sha)["conclusion"], "neutral");
    hub.assert_well().await;
}

impl Hub<'_> {
    /// The container that measures a run, once it is there.
    async fn container(&self, run: u64) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = left(run);
            if let Some(id) = found.lines().next() {
                return docker(&["inspect", id])[0].clone();
            }
            assert!(Instant::now() < until, "no container of run {run}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
