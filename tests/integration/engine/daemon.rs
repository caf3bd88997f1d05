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
        command.stdout(Stdio::null()).stderr(Stdio::piped()).env("BENCHD_LOG", "benchd=info");
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

    /// Whether its log holds `text`.
    fn heard(&self, text: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.contains(text))
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

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_containers_to_the_next_start_or_stops_them() {
    let project = project().await;
    project.push_suite(FIRST, &waiting()).await;
    let daemon = Daemon::start(&project, |_| {});
    let run = submit(&project, FIRST, "Test_CPU_4c").await;
    let first = until("the container runs", || async { running(&project.engine, run).await.pop() }).await;
    daemon.stop();
    assert_eq!(running(&project.engine, run).await[0]["Id"], first["Id"], "it goes on");

    project.configure("execution:", "execution:\n  on_stop: stop");
    let daemon = Daemon::start(&project, |_| {});
    until("it is adopted", || async { daemon.heard("adopting a job").then_some(()) }).await;
    daemon.stop();
    assert_eq!(running(&project.engine, run).await, Vec::<Value>::new());
    let shown = project.benchd(&["show", &run.to_string(), "--json"]).json();
    let job = &shown["jobs"][0];
    assert_eq!(
        (&job["state"], &job["attempts_begun"], &job["attempts_before"]),
        (&"queued".into(), &1.into(), &1.into())
    );
    assert_eq!(job["attempts"][0]["message"], "benchd was stopped", "{job:#}");

    project.write("hf_cache/go", "");
    let daemon = Daemon::start(&project, |_| {});
    let shown = until("the run has ended", || state(&project, run)).await;
    assert_eq!((&shown["state"], &shown["jobs"][0]["attempts_begun"]), (&"published".into(), &2.into()), "{shown:#}");
    daemon.stop();
    project.assert_clean().await;
}

/// A vendor's tool that knows one GPU, and as its processes what stands in the file `used`.
fn gpu_tool(project: &Project) -> impl FnOnce(&mut Command) {
    let used = project.path("used");
    let script = format!(
        "#!/bin/sh
case \"$*\" in
  *compute-apps*) cat {} ;;
  *=index,uuid*) echo '0, GPU-aa' ;;
  *pci.bus_id*) echo '0, 00000000:1B:00.0' ;;
  *-i?0*) echo 'Test GPU' ;;
  *) echo '0, Test GPU, GPU-aa, 81559 MiB, 550.1' ;;
esac
",
        used.display()
    );
    project.write("tools/nvidia-smi", &script);
    let tool = project.path("tools/nvidia-smi");
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", project.path("tools").display(), std::env::var("PATH").unwrap());
    move |command| {
        command.env("PATH", path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_somebody_else_uses_is_waited_for_and_told() {
    let project = project().await;
    std::fs::rename(project.path("benchmarks/cpu"), project.path("benchmarks/cuda")).unwrap();
    for kind in ["latency", "throughput"] {
        let file = |suffix: &str| project.path(&format!("benchmarks/cuda/{kind}-tests{suffix}.json"));
        std::fs::rename(file("-cpu"), file("")).unwrap();
    }
    project.configure("platform: cpu", "platform: cuda");
    project.configure("{device_type: Test_CPU_4c, count: 1}", "{}");
    project.configure("{cpu: ", "{cuda: ");
    project.push_suite(FIRST, &good("0.5")).await;
    project.write("used", "GPU-aa, 4242, /usr/bin/python3\n");
    let daemon = Daemon::start(&project, gpu_tool(&project));
    assert_eq!(daemon.ask("/readyz").await["ready"], true, "nobody waits for the GPU");
    let run = submit(&project, FIRST, "Test GPU").await;
    let reasons = until("it is told", || async {
        let ready = daemon.ask("/readyz").await;
        (ready["ready"] == false).then(|| ready["reasons"].to_string())
    })
    .await;
    assert!(reasons.contains("device 0 is used by python3 (pid 4242)"), "{reasons}");
    let queue = project.benchd(&["queue"]);
    queue.assert(0, &["waits for devices that somebody else uses: 0 by python3 (pid 4242)"]);

    // A tool that fails does not say that the GPU is free.
    std::fs::remove_file(project.path("used")).unwrap();
    until("it is told", || async {
        let reasons = daemon.ask("/readyz").await["reasons"].to_string();
        reasons.contains("whether the devices are free is not known").then_some(())
    })
    .await;
    let shown = project.benchd(&["show", &run.to_string(), "--json"]).json();
    assert_eq!(shown["jobs"][0]["attempts_begun"], 0, "{shown:#}");

    project.write("used", "");
    until("the job begins", || async {
        let shown = project.benchd(&["show", &run.to_string(), "--json"]).json();
        (shown["jobs"][0]["attempts_begun"] == 1).then_some(())
    })
    .await;
    daemon.stop();
}
