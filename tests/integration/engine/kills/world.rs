//! What all cases share: a project with its images, its bucket, and an ear for every start and end of a container.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{Case, Daemon};
use crate::engine::container_image::root_filesystem;
use crate::engine::run::project::{BUCKET, Project, TOKEN, dying_with_the_test, files, files_with};
use crate::support::real_registry::RealRegistry;

/// How many numbered lines the suite prints.
pub const LINES: usize = 40;

/// Where the suite lies.
const SCRIPT: &str = "checkout/.buildkite/performance-benchmarks/scripts/run-performance-benchmarks.sh";

/// The suite: begins the first of its two points, prints numbered lines for a second, and measures both.
const SUITE: &str = r#"
[[ -z $HF_TOKEN ]]
mkdir -p benchmarks/results
echo "Running test case latency_tiny"
for number in $(seq 1 LINES); do echo "line $number"; sleep 0.025; done
point() {
  echo '{}' >"benchmarks/results/$1.commands"
  echo "[{\"benchmark\": {\"name\": \"vLLM benchmark\", \"extra_info\": {\"args\": {\"model\": \"tiny/model\"}}},
    \"model\": {\"name\": \"tiny/model\"}, \"metric\": {\"name\": \"$2\", \"benchmark_values\": [$3]}}]" \
    >"benchmarks/results/$1.pytorch.json"
}
point latency_tiny latency "0.5, 0.7"
echo "Running test case throughput_tiny"
point throughput_tiny tokens_per_second 100
"#;

/// The shared parts.
pub struct World {
    pub project: Project,
    /// The commits of the checkout, oldest first.
    pub commits: Vec<String>,
    events: PathBuf,
    listener: Child,
}

impl World {
    /// A project of so many commits, whose images lie in the repository `engine`.
    pub async fn new(commits: usize) -> Self {
        let project = Project::with_registry(RealRegistry::start().await).await;
        project.write(SCRIPT, &SUITE.replace("LINES", &LINES.to_string()));
        let mut world = Self {
            events: project.path("events"),
            listener: listen(&project.path("events")),
            project,
            commits: Vec::new(),
        };
        for number in 0..commits {
            world.project.write("checkout/readme", &number.to_string());
            world.commits.push(world.project.commit());
        }
        for sha in world.commits.clone() {
            world.push("engine", &sha).await;
        }
        world
    }

    /// A commit whose suite prints so many numbered lines, with its image; its id. A line takes 25 ms.
    pub async fn commit(&mut self, lines: usize) -> String {
        self.commit_with(lines, "").await
    }

    /// The same of a suite that does `more` at its end.
    pub async fn commit_with(&mut self, lines: usize, more: &str) -> String {
        self.project.write(SCRIPT, &format!("{}{more}\n", SUITE.replace("LINES", &lines.to_string())));
        let sha = self.project.commit();
        self.push("engine", &sha).await;
        self.commits.push(sha.clone());
        sha
    }

    /// Puts an image for `sha` into a repository.
    pub async fn push(&self, repository: &str, sha: &str) {
        // Its own configuration is what makes it another image.
        let config = serde_json::json!({"Labels": {"name": repository}, "Env": ["PATH=/usr/local/bin:/bin"]});
        let architecture = self.project.engine.architecture();
        self.project.registry.push_layers(repository, sha, architecture, config, &[root_filesystem()]).await;
    }

    /// The destination of a case in the bucket.
    pub fn bucket(&self, prefix: &str) -> String {
        format!("{{url: \"s3://{BUCKET}/{prefix}\", endpoint: \"{}\"}}", self.project.s3.endpoint())
    }

    /// The objects below a prefix: key and content.
    pub fn objects(&self, prefix: &str) -> Vec<(String, String)> {
        let root = self.project.s3.file(BUCKET, prefix);
        let mut found = Vec::new();
        for path in files(&root) {
            // Beside an object the service keeps files of its own.
            let key = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if !key.ends_with(".json") || key.rsplit('/').next().unwrap().starts_with('.') {
                continue;
            }
            let mut text = String::new();
            flate2::read::GzDecoder::new(fs::read(&path).unwrap().as_slice()).read_to_string(&mut text).unwrap();
            found.push((key, text));
        }
        found
    }

    /// How often an object below a prefix was put.
    pub fn puts(&self, prefix: &str) -> usize {
        let begin = format!("PUT /{BUCKET}/{prefix}/");
        self.project.s3.requests().iter().filter(|request| request.starts_with(&begin)).count()
    }

    /// The ends of a run's containers, once so many are told: `start`, or the exit code of the main process.
    pub async fn events(&self, run: u64) -> Vec<String> {
        // The engine tells a little later than it acts.
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = self.events_so_far(run);
            let starts = seen.iter().filter(|event| *event == "start").count();
            if (starts > 0 && seen.len() == 2 * starts) || Instant::now() > until {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same, as far as they are told.
    pub fn events_so_far(&self, run: u64) -> Vec<String> {
        let events = fs::read_to_string(&self.events).unwrap();
        let whole = events.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let of_run = whole.lines().filter_map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let attributes = &event["Actor"]["Attributes"];
            (attributes["benchd.run"].as_str() == Some(&run.to_string())).then(|| match event["Action"].as_str() {
                Some("die") => attributes["exitCode"].as_str().unwrap().to_owned(),
                action => action.unwrap().to_owned(),
            })
        });
        of_run.collect()
    }

    /// Everything about a run that came to its end although the daemon was killed.
    pub async fn assert_whole(&self, case: &Case<'_>, daemon: &Daemon, run: u64) {
        self.assert_whole_of(case, daemon, run, LINES, 1).await;
    }

    /// The same of a suite with another number of lines, measured by the `attempt`-th and last attempt.
    pub async fn assert_whole_of(&self, case: &Case<'_>, daemon: &Daemon, run: u64, lines: usize, attempt: usize) {
        let name = &case.name;
        let shown = daemon.get(&format!("/api/v1/runs/{run}")).await;
        assert_eq!(shown["state"], "published", "{name}: {shown:#}");
        assert!(shown["outbox"].as_array().unwrap().iter().all(|row| row["state"] != "owed"), "{name}: {shown:#}");
        let jobs = shown["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 1, "{name}");
        assert_eq!(jobs[0]["conclusion"], "success", "{name}: {shown:#}");
        let attempts = jobs[0]["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), attempt, "{name}: {shown:#}");
        let passes = attempts[attempt - 1]["passes"].as_array().unwrap();
        assert_eq!(passes.len(), 1, "{name}: {shown:#}");
        assert_eq!(passes[0]["points"].as_array().unwrap().len(), 2, "{name}: {shown:#}");
        let log = case.dir().join(format!("state/artifacts/{run}/{}/{attempt}/1/console.log", jobs[0]["id"]));
        assert_log(&log, lines, name);
        assert_eq!(left(run), "", "{name}: a container is left");
        assert_eq!(files_with(&case.dir().join("state"), TOKEN), Vec::<PathBuf>::new(), "{name}: the token is kept");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.listener.kill().ok();
        self.listener.wait().ok();
    }
}

/// Writes down every start and end of a container of benchd's: the engine itself forgets the older ones.
fn listen(events: &Path) -> Child {
    let mut command = dying_with_the_test("docker");
    command.args(["events", "--format", "{{json .}}", "--filter", "label=benchd.run"]);
    command.args(["--filter", "event=start", "--filter", "event=die", "--filter", "type=container"]);
    command.stdout(File::create(events).unwrap()).stderr(Stdio::null()).spawn().unwrap()
}

/// Containers of a run, running or not.
pub fn left(run: u64) -> String {
    let filter = format!("label=benchd.run={run}");
    let output = Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Every line of the suite once, in order.
fn assert_log(path: &Path, lines: usize, name: &str) {
    let log = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {}: {error}", path.display()));
    let numbers = log.lines().filter_map(|line| line.split_once("line ")?.1.trim().parse::<usize>().ok());
    assert_eq!(numbers.collect::<Vec<_>>(), (1..=lines).collect::<Vec<_>>(), "{name}: {log}");
}

/// The records of one run of the suite.
pub fn assert_records(text: &str, name: &str) {
    assert_eq!(text.lines().count(), 2, "{name}: {text}");
    assert!(text.contains("latency_tiny") || text.contains("[0.5"), "{name}: {text}");
}
