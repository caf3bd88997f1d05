//! `kill -9` between the answer to a delivery and the run that follows from it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use github_standin::{CommitSpec, Fault, PullSpec, StandIn};
use serde_json::{Value, json};

use super::{REPO, SECRET};

/// A daemon of its own process, killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

impl Daemon {
    async fn start(dir: &Path, port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_benchd"));
        command.arg("serve").arg("--config").arg(dir.join("benchd.yaml")).env("NO_PROXY", "*");
        let daemon = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until(async || reqwest::get(format!("http://127.0.0.1:{port}/healthz")).await.is_ok()).await;
        daemon
    }
}

async fn until(done: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(Instant::now() < end, "it did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_measured_after_a_kill() {
    let gh = StandIn::start();
    let repo = gh.repository(REPO);
    repo.commit("main", CommitSpec::new("first"));
    repo.commit("work", CommitSpec::new("faster"));
    let pull = repo.open(PullSpec::new("work").labels(&["perf-benchmarks"]));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("benchmarks/cpu");
    fs::create_dir_all(&folder).unwrap();
    let test = json!([{"test_name": "latency_m", "parameters": {"model": "m", "tensor_parallel_size": 1}}]);
    fs::write(folder.join("latency-tests-cpu.json"), test.to_string()).unwrap();
    fs::write(dir.path().join("secret"), SECRET).unwrap();
    fs::write(dir.path().join("token"), gh.personal_token("bench", &["repo"])).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "state_dir: state\nhttp: {{listen: '127.0.0.1:{port}'}}\ngithub: {{api_url: '{}', token_file: token, \
         webhook_secret_files: [secret], reconcile: 1d}}\nrepositories:\n  - name: {REPO}\n    images: {{cpu: \
         'localhost:1/r:{{sha}}'}}\n    triggers: {{schedule: [], pull_request: {{quiet_for: 0s}}}}\n",
        gh.url(),
    );
    fs::write(dir.path().join("benchd.yaml"), config).unwrap();

    let daemon = Daemon::start(dir.path(), port).await;
    // The first reconcile is over; from now on GitHub's API does not answer, so that nothing can follow.
    gh.called("GET", "/repos/*/*/tags", 1).await;
    until(async || {
        let calls = gh.calls().0;
        calls.iter().all(|call| call.ended.is_some())
    })
    .await;
    gh.fault("GET", "/**", Fault::Status(502)).forever();
    gh.webhook(&format!("http://127.0.0.1:{port}/webhook/github"), SECRET);
    pull.label("ready");
    gh.settled().await;
    assert_eq!(gh.deliveries().last().unwrap().status, Some(202));
    drop(daemon);

    // A reconcile would find it too: it fails, so that only the delivery is left.
    gh.clear_faults();
    gh.fault("GET", "/repos/*/*/pulls", Fault::Status(502)).forever();
    let _again = Daemon::start(dir.path(), port).await;
    let runs = async || -> Vec<Value> {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/api/v1/runs")).await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    };
    until(async || runs().await.iter().any(|run| run["sha"] == pull.head())).await;
    assert_eq!(runs().await.len(), 1);
}
