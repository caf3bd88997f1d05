//! `benchd serve` on a real engine: the executable as a service manager starts and stops it, with jobs that are handed to
//! its store.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use benchd::clock::Clock;
use benchd::config::Config;
use benchd::executor::docker::Engine;
use benchd::model::{RunId, Target, Trigger};
use benchd::queue::{Pace, Queue, Submitted};
use benchd::store::Store;
use benchd::trigger::request::Request;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use serde_json::Value;

use super::run::project::{FIRST, Project, SECOND, good};

/// A daemon that runs. Killed when the test ends before it was stopped.
struct Daemon {
    child: Child,
    address: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts it and waits until it answers requests; `more` arranges its environment.
    fn start(project: &Project, more: impl FnOnce(&mut Command)) -> Self {
        let mut command = project.command(&["serve"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        more(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let said = Arc::new(Mutex::new(Vec::new()));
        let address = loop {
            let line = lines.next().expect("the daemon ended at its start");
            println!("{line}");
            if let Some((_, address)) = line.split_once("listening on http://") {
                break address.to_owned();
            }
        };
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in lines {
                println!("{line}");
                heard.lock().unwrap().push(line);
            }
        });
        Self { child, address, said }
    }

    /// The answer to a request, whatever its status.
    async fn ask(&self, path: &str) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("http://{}{path}", self.address)).send().await.unwrap().json().await.unwrap()
    }

    /// Sends SIGTERM and waits for its end.
    fn stop(mut self) -> Vec<String> {
        let stopped = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(stopped.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{:#?}", self.said.lock().unwrap());
        std::mem::take(&mut *self.said.lock().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Something that is true at last; the daemon takes its time.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within a minute");
}

/// A project whose daemon may be asked without a token and listens where there is room.
async fn project() -> Project {
    let project = Project::new().await;
    project.configure("state_dir: state", "state_dir: state\nhttp: {listen: [\"127.0.0.1:0\"], read_access: public}");
    project
}

/// Hands a run of `sha` to the store, as a trigger does.
async fn submit(project: &Project, sha: &str, device_type: &str) -> RunId {
    let config = Config::load(&project.path("benchd.yaml")).unwrap();
    let platform = config.execution.platform.unwrap();
    let target = Target { platform, device_type: device_type.parse().unwrap(), count: 2 };
    let (branch, sha) = ("main".parse().unwrap(), sha.parse().unwrap());
    let at = "2026-05-28T22:26:40Z".parse().unwrap();
    let request = Request::new(&config.repositories[0], branch, sha, at, Trigger::Manual, target);
    let planned = request.plan(&project.path("state/benchmarks")).await.unwrap();
    let store = Store::open(&project.path("state")).await.unwrap();
    let queue = Queue::new(store.clone(), Clock::system(), Pace::default());
    let Submitted::Run(run) = queue.submit_run(&planned.run).await.unwrap() else { panic!("nothing to do") };
    store.close().await;
    run
}

/// The containers of a run that run, by id, as the engine describes them.
async fn running(engine: &Engine, run: RunId) -> Vec<Value> {
    let label = format!("benchd.run={run}");
    let filters = [("label".to_owned(), vec![label])].into_iter().collect();
    let options = ListContainersOptions { filters: Some(filters), ..Default::default() };
    let mut found = Vec::new();
    for container in engine.docker().list_containers(Some(options)).await.unwrap() {
        let id = container.id.unwrap();
        let described = engine.docker().inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
        found.push(serde_json::to_value(described).unwrap());
    }
    found
}

/// A suite that is under way until the file `go` lies in the model cache.
fn waiting() -> String {
    format!(
        "while read -r line; do [[ $line == Cpus_allowed_list* ]] && echo \"$line\"; done </proc/self/status
         until [[ -e $HF_HOME/go ]]; do sleep 0.1; done\n{}",
        good("0.5")
    )
}

async fn state(project: &Project, run: RunId) -> Option<Value> {
    let shown = project.benchd(&["show", &run.to_string(), "--json"]).json();
    (shown["state"] == "published" || shown["state"] == "failed").then_some(shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_side_by_side_have_processors_of_their_own() {
    let project = project().await;
    project.configure("device_type: Test_CPU_4c, count: 1}", "device_type: Test_CPU_4c, count: 2}\n  packing: pack");
    project.configure("  cache:", "  limits: {idle_timeout: 2m}\n  cache:");
    let script = waiting();
    for sha in [FIRST, SECOND] {
        project.push_suite(sha, &script).await;
    }
    let daemon = Daemon::start(&project, |_| {});
    let runs = [submit(&project, FIRST, "Test_CPU_4c").await, submit(&project, SECOND, "Test_CPU_4c").await];
    let both = until("both containers run", || async {
        let (one, other) = (running(&project.engine, runs[0]).await, running(&project.engine, runs[1]).await);
        Some((one.first()?.clone(), other.first()?.clone()))
    })
    .await;
    let text = |value: &Value, key: &str| value["HostConfig"][key].as_str().unwrap_or_default().to_owned();
    let cpus = [text(&both.0, "CpusetCpus"), text(&both.1, "CpusetCpus")];
    let sets = cpus.clone().map(|cpus| cpus.parse::<benchd::model::CpuSet>().unwrap());
    assert!(sets.iter().all(|set| !set.is_empty()), "{cpus:?}");
    assert!(sets[0].iter().all(|cpu| !sets[1].contains(cpu)), "{cpus:?}");
    assert!(!text(&both.0, "CpusetMems").is_empty(), "memory of its own node");
    project.write("hf_cache/go", "");
    for (run, cpus) in runs.into_iter().zip(&cpus) {
        let shown = until("the run has ended", || state(&project, run)).await;
        assert_eq!(shown["state"], "published", "{shown:#}");
        let attempt = &shown["jobs"][0]["attempts"][0];
        assert_eq!(attempt["slot"]["cpus"], cpus.as_str(), "{attempt:#}");
        let log = project.benchd(&["logs", &run.to_string()]);
        log.assert(0, &[&format!("Cpus_allowed_list:\t{cpus}")]);
    }
    daemon.stop();
    project.assert_clean().await;
}
