//! A project with its images in a real registry, its bucket on a real S3 service, and `benchd run` on it: the suite is
//! a few lines of shell that leave the results which the test wants, at once.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use benchd::executor::container::PassId;
use benchd::executor::docker::Engine;
use benchd::executor::life;
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::container_image::root_filesystem;
use crate::engine::engine;
use crate::support::real_registry::RealRegistry;
use crate::support::s3::S3Server;

/// Two commits of the project.
pub const FIRST: &str = "1111111111111111111111111111111111111111";
pub const SECOND: &str = "2222222222222222222222222222222222222222";
/// A token that no output may hold.
pub const TOKEN: &str = "hf_thisTokenIsSecretAndNeverShown";
/// The bucket.
pub const BUCKET: &str = "results";
/// Where the objects of [`FIRST`] and [`SECOND`] lie, without the commit.
pub const KEY: &str = "v3/example/engine/main/{sha}/Test_CPU_4c/benchmark_results_tiny_model.json";

/// What a suite of vLLM's shape begins with: it prints its token, as the real one does, and offers `point NAME METRIC VALUES`.
const PRELUDE: &str = r#"
set -x
[[ -z $HF_TOKEN ]]
set +x
mkdir -p benchmarks/results
point() {
  echo "Running test case $1"
  echo '{}' >"benchmarks/results/$1.commands"
  echo "[{\"benchmark\": {\"name\": \"vLLM benchmark\", \"extra_info\": {\"args\": {\"model\": \"tiny/model\"}}},
    \"model\": {\"name\": \"tiny/model\"}, \"metric\": {\"name\": \"$2\", \"benchmark_values\": [$3]}}]" \
    >"benchmarks/results/$1.pytorch.json"
}
"#;

/// A suite that measures both points; the latency in seconds.
pub fn good(latency: &str) -> String {
    format!("point latency_tiny latency {latency}\npoint throughput_tiny tokens_per_second 100\n")
}

/// The project.
pub struct Project {
    pub engine: Engine,
    pub registry: RealRegistry,
    pub s3: S3Server,
    dir: TempDir,
}

/// What `benchd` said and how it ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Project {
    /// A project without an image yet, with the configuration of [`Project::config`].
    pub async fn new() -> Self {
        let project = Self::with_registry(RealRegistry::start().await).await;
        project.write("benchd.yaml", &project.config());
        project
    }

    /// The same with another registry and no configuration.
    pub async fn with_registry(registry: RealRegistry) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = Self { engine: engine().await, registry, s3: S3Server::start(BUCKET), dir };
        for (kind, parameters) in [("latency", r#""num_iters": 2"#), ("throughput", r#""num_prompts": 2"#)] {
            project.write(
                &format!("benchmarks/cpu/{kind}-tests-cpu.json"),
                &format!(
                    r#"[{{"test_name": "{kind}_tiny",
                        "parameters": {{"model": "tiny/model", "tensor_parallel_size": 1, {parameters}}}}}]"#
                ),
            );
        }
        std::fs::create_dir(project.path("hf_cache")).unwrap();
        project
    }

    /// A configuration for vLLM's suite and one bucket.
    pub fn config(&self) -> String {
        let (host, endpoint) = (&self.registry.host, self.s3.endpoint());
        format!(
            "state_dir: state
repositories:
  - name: example/engine
    benchmarks: benchmarks
    images: {{cpu: \"{host}/engine:{{sha}}\"}}
    publish: {{to: [{{url: \"s3://{BUCKET}\", endpoint: \"{endpoint}\"}}]}}
registries: [{{host: \"{host}\", plain_http: true}}]
{}",
            Self::host_config()
        )
    }

    /// The configuration of a command suite, whose keys are `suite`, without a bucket.
    pub fn command_config(&self, suite: &str, image: &str) -> String {
        let host = &self.registry.host;
        format!(
            "state_dir: state
repositories:
  - name: example/engine
    suite: {suite}
    images: {{cpu: \"{host}/{image}\"}}
registries: [{{host: \"{host}\", plain_http: true}}]
{}",
            Self::host_config()
        )
    }

    /// How jobs run here.
    pub fn host_config() -> &'static str {
        "retention: {images: {min_free: 0 B}}
execution:
  platform: cpu
  devices: {device_type: Test_CPU_4c, count: 1}
  hf_token_env: TEST_HF_TOKEN
  cache: {dir: hf_cache, min_free: 0 B}
"
    }

    /// A path in the project's folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes a file into the project's folder.
    pub fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Changes the configuration.
    pub fn configure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("benchd.yaml")).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        self.write("benchd.yaml", &text.replacen(from, to, 1));
    }

    /// Puts the image of `tag` whose suite of vLLM's shape is `script`.
    pub async fn push_suite(&self, tag: &str, script: &str) {
        let path = "vllm-workspace/.buildkite/performance-benchmarks/scripts/run-performance-benchmarks.sh";
        self.push(tag, &[(path, &format!("{PRELUDE}{script}"))], serde_json::json!({})).await;
    }

    /// Puts an image with a shell, these files and labels.
    pub async fn push(&self, tag: &str, files: &[(&str, &str)], labels: Value) {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        let layers = [root_filesystem(), tar.into_inner().unwrap()];
        let config = serde_json::json!({"Labels": labels, "Env": ["PATH=/usr/local/bin:/bin"]});
        self.registry.push_layers("engine", tag, self.engine.architecture(), config, &layers).await;
    }

    /// Puts an image with nothing but a shell under another name.
    pub async fn registry_image(&self, repository: &str, tag: &str) {
        let config = serde_json::json!({"Env": ["PATH=/usr/local/bin:/bin"]});
        self.registry.push_layers(repository, tag, self.engine.architecture(), config, &[root_filesystem()]).await;
    }

    /// `git` in the checkout.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.path("checkout")).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Makes the checkout a repository of one commit, or a commit of all its changes; the commit.
    pub fn commit(&self) -> String {
        if !self.path("checkout/.git").exists() {
            self.git(&["init", "--quiet", "--initial-branch", "main"]);
            self.git(&["remote", "add", "origin", "https://github.com/example/engine.git"]);
        }
        self.git(&["add", "--all"]);
        self.git(&["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "one"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// `benchd` with the project's configuration, secrets and bucket in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = dying_with_the_test(env!("CARGO_BIN_EXE_benchd"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command
            .env("BENCHD_CONFIG", self.path("benchd.yaml"))
            .env("TEST_HF_TOKEN", TOKEN)
            .envs(S3Server::environment());
        command
    }

    /// Runs it to its end.
    pub fn benchd(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// `benchd run` for a commit, with further arguments.
    pub fn run(&self, sha: &str, more: &[&str]) -> Ran {
        let common = ["run", "--branch", "main", "--timestamp", "1780007200", "--commit", sha];
        self.benchd(&[&common, more].concat())
    }

    /// The last run, as `benchd show --json` tells it.
    pub fn last_run(&self) -> Value {
        let runs = self.benchd(&["runs", "--json"]).json();
        let newest = runs.as_array().unwrap().iter().map(|run| run["id"].as_u64().unwrap()).max().unwrap();
        self.benchd(&["show", &newest.to_string(), "--json"]).json()
    }

    /// The object of a commit's results, unpacked, when there is one.
    pub fn object(&self, sha: &str) -> Option<String> {
        let bytes = std::fs::read(self.s3.file(BUCKET, &KEY.replace("{sha}", sha))).ok()?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        Some(text)
    }

    /// Asserts that no container of any run is left and that the token stands nowhere in what was kept.
    pub async fn assert_clean(&self) {
        let runs = self.benchd(&["runs", "--json"]).json();
        for run in runs.as_array().unwrap() {
            let shown = self.benchd(&["show", &run["id"].to_string(), "--json"]).json();
            for job in shown["jobs"].as_array().unwrap() {
                let number = |value: &Value| value.as_u64().unwrap();
                let id = PassId {
                    run: number(&run["id"]).try_into().unwrap(),
                    job: number(&job["id"]).try_into().unwrap(),
                    attempt: 1,
                    pass: 1,
                };
                let left = life::find(&self.engine, id, Duration::from_secs(10)).await.unwrap();
                assert!(left.is_none(), "a container is left: {id:?}");
            }
        }
        assert_eq!(files_with(&self.path("state"), TOKEN), Vec::<PathBuf>::new(), "the token is kept");
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // By reference: tests beside this one have the same image under names of their own.
        let listed =
            Command::new("docker").args(["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}"]).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        let within = format!("{}/", self.registry.host);
        for reference in listed.lines().filter(|reference| reference.starts_with(&within)) {
            Command::new("docker").args(["rmi", reference]).output().unwrap();
        }
    }
}

impl Ran {
    /// Of a process that ended.
    pub fn of(output: Output) -> Self {
        let ran = Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        println!("exit code {}\n--- standard output\n{}--- standard error\n{}---", ran.code, ran.out, ran.err);
        assert!(!ran.out.contains(TOKEN) && !ran.err.contains(TOKEN), "the token is shown");
        ran
    }

    /// Standard output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// Asserts the exit code and that each text is said, on whichever stream.
    pub fn assert(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code);
        for text in said {
            assert!(self.out.contains(text) || self.err.contains(text), "{text:?} is not said");
        }
    }
}

/// A program that is killed when the thread of the test that starts it ends, whatever becomes of the test.
pub fn dying_with_the_test(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// The files below `dir` that hold `text`.
pub fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| std::fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes());
    files(dir).into_iter().filter(holds).collect()
}

/// All files below `dir`.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
