//! What a pass needs to know: the request from which its container, its input and its limits follow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::model::{CpuSet, DeviceType, JobId, Platform, RunId, SuiteKind};

/// Which pass of which attempt of which job; written on the container, so that it is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PassId {
    /// The run.
    pub run: RunId,
    /// The job.
    pub job: JobId,
    /// The try at the job, from 1.
    pub attempt: u32,
    /// The pass of the attempt, from 1.
    pub pass: u32,
}

/// Labels of benchd's containers.
pub const LABEL_RUN: &str = "benchd.run";
/// The label that names the job.
pub const LABEL_JOB: &str = "benchd.job";
/// The label that names the attempt.
pub const LABEL_ATTEMPT: &str = "benchd.attempt";
/// The label that names the pass.
pub const LABEL_PASS: &str = "benchd.pass";

impl PassId {
    /// The name of its container.
    pub fn container_name(&self) -> String {
        format!("benchd-{}-{}-{}", self.job, self.attempt, self.pass)
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (LABEL_RUN.to_owned(), self.run.to_string()),
            (LABEL_JOB.to_owned(), self.job.to_string()),
            (LABEL_ATTEMPT.to_owned(), self.attempt.to_string()),
            (LABEL_PASS.to_owned(), self.pass.to_string()),
        ])
    }

    /// The pass that a container's labels name; `None` for a container that is not benchd's.
    pub fn from_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self {
            run: label(LABEL_RUN)?.parse().ok()?,
            job: label(LABEL_JOB)?.parse().ok()?,
            attempt: label(LABEL_ATTEMPT)?.parse().ok()?,
            pass: label(LABEL_PASS)?.parse().ok()?,
        })
    }
}

/// Whose code the image holds, and so how its container is kept apart from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Of the repository's own branches. As the reference workflow runs it: the host's IPC, no system call filter, a
    /// terminal.
    Trusted,
    /// Of somebody else's fork: no secrets, no capabilities, no new privileges, the engine's own system call filter, an
    /// IPC namespace of its own, a network without a way out and without a resolver.
    Untrusted {
        /// The internal network; made when it is missing, see [`crate::executor::network`].
        network: String,
    },
}

/// What hardware a container sees: its own devices and no others. `Rocm` and `Hpu` are unverified without hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "platform", rename_all = "snake_case")]
pub enum DeviceAccess {
    /// NVIDIA GPUs, through the engine's device request.
    Cuda {
        /// Indices or UUIDs as `nvidia-smi` names them.
        ids: Vec<String>,
        /// `NVIDIA_DRIVER_CAPABILITIES`.
        capabilities: String,
    },
    /// AMD GPUs, through device nodes.
    Rocm {
        /// Nodes: `/dev/kfd` and the `/dev/dri/renderD*` of its own devices.
        nodes: Vec<String>,
        /// Groups that own the nodes.
        groups: Vec<String>,
        /// Indices for `ROCR_VISIBLE_DEVICES` and `HIP_VISIBLE_DEVICES`, counted among the nodes given.
        visible: Vec<String>,
    },
    /// Gaudi, through its container runtime.
    Hpu {
        /// The engine's runtime.
        runtime: String,
        /// The variable by which the runtime is told the modules.
        variable: String,
        /// The modules.
        modules: Vec<String>,
    },
    /// Processors; which of them says [`Binding`].
    Cpu,
}

/// The part of the host's processors that a container is bound to, so that jobs side by side do not share cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Its processors.
    pub cpus: CpuSet,
    /// The NUMA nodes whose memory it may use; `None` for all.
    pub memory_nodes: Option<CpuSet>,
}

/// How a suite is run. The paths are those in the container; `tests_dir` and `results_dir` are absolute or relative to
/// `workdir`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteRun {
    /// What a shell is given, for example `bash .buildkite/performance-benchmarks/scripts/run-performance-benchmarks.sh`.
    pub command: String,
    /// Where it starts; absolute.
    pub workdir: String,
    /// Where the suite files go; `None` for a suite that reads none.
    pub tests_dir: Option<String>,
    /// Where results come out; emptied before the suite starts.
    pub results_dir: String,
    /// Commands of a shell that run before, in order; one that fails ends the pass.
    pub pre_commands: Vec<String>,
    /// How to tell that its server died; `None` for a suite without one.
    pub server: Option<ServerWatch>,
}

/// How processes of a suite with a server are told apart: by a part of their command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerWatch {
    /// The server under test, under any name it takes.
    pub server: Vec<String>,
    /// Those that only make sense while it lives: the loop that waits for it, the client.
    pub clients: Vec<String>,
    /// Seconds between two looks; a server is gone when it is missing at three in a row.
    pub interval_s: u32,
}

impl ServerWatch {
    /// vLLM's suite.
    pub fn vllm() -> Self {
        Self {
            // Some versions rename their processes.
            server: vec!["vllm serve".to_owned(), "VLLM::".to_owned()],
            clients: vec![":8000/v1/models".to_owned(), "vllm bench serve".to_owned()],
            interval_s: 5,
        }
    }
}

/// A file for the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteFile {
    /// A bare name: `serving-tests-cpu.json`.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Where models come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelCache {
    /// The host's model cache, filled beforehand: nothing is downloaded unless `online`.
    Host {
        /// The folder, the same path in the container.
        dir: PathBuf,
        /// Whether models that are missing may be downloaded.
        online: bool,
    },
    /// The host has no model cache: an own folder that is filled by downloading.
    Private {
        /// The folder, the same path in the container.
        dir: PathBuf,
    },
    /// No folder at all: for suites that need no models.
    None,
}

impl ModelCache {
    /// The folder that is mounted.
    pub fn dir(&self) -> Option<&PathBuf> {
        match self {
            Self::Host { dir, .. } | Self::Private { dir } => Some(dir),
            Self::None => None,
        }
    }
}

/// What a pass may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// From the container's start to its end.
    pub job: Duration,
    /// For one point, or one benchmark of a suite without points; the benchmark is ended, the suite goes on.
    pub point: Option<Duration>,
    /// Without a line of output.
    pub idle: Duration,
    /// Memory and swap, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Processors' worth of time.
    pub cpus: Option<f64>,
    /// What the container may write to its own layer, in bytes; looked at every few seconds.
    pub disk_bytes: Option<u64>,
    /// Room of `/dev/shm` in bytes: tensors travel between vLLM's processes through it.
    pub shm_bytes: u64,
    /// The largest results that are taken, in bytes.
    pub results_bytes: u64,
    /// The largest log that is kept, in bytes.
    pub log_bytes: u64,
    /// How long the suite may take to end when told to, before it is killed.
    pub stop_grace: Duration,
    /// How long an engine that is away is waited for.
    pub engine_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            job: Duration::from_secs(6 * 3600),
            point: Some(Duration::from_secs(3600)),
            idle: Duration::from_secs(45 * 60),
            memory_bytes: None,
            pids: None,
            cpus: None,
            disk_bytes: None,
            shm_bytes: 4 << 30,
            results_bytes: 2 << 30,
            log_bytes: 64 << 20,
            stop_grace: Duration::from_secs(10),
            engine_patience: Duration::from_secs(600),
        }
    }
}

/// A token of Hugging Face; the suite refuses to start without one, even offline.
#[derive(Clone, Debug)]
pub struct HfToken(SecretString);

/// The text is not such a token. It is not shown.
#[derive(Debug, thiserror::Error)]
#[error("the Hugging Face token does not begin with `hf_`: the suite would refuse it")]
pub struct InvalidHfToken;

impl HfToken {
    /// Checks the form alone.
    ///
    /// # Errors
    /// When it does not begin with `hf_`.
    pub fn new(secret: &SecretString) -> Result<Self, InvalidHfToken> {
        let text = secret.expose_secret().trim();
        let valid = text.starts_with("hf_") && text.len() > 3 && !text.chars().any(|c| c.is_control() || c == ' ');
        if valid { Ok(Self(SecretString::from(text))) } else { Err(InvalidHfToken) }
    }
}

/// Secrets of a pass: given to a trusted container, redacted from every log.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// For `HF_TOKEN`.
    pub hf_token: Option<HfToken>,
    /// Further variables whose values are secret.
    pub env: BTreeMap<String, SecretString>,
    /// Secrets that the container does not get and that its log must not show either (registry passwords).
    pub others: Vec<SecretString>,
}

impl Secrets {
    /// The value of the secret variable `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        match (name, &self.hf_token) {
            ("HF_TOKEN", Some(token)) => Some(token.0.expose_secret()),
            (name, _) => self.env.get(name).map(ExposeSecret::expose_secret),
        }
    }

    /// All values, to be redacted.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let token = self.hf_token.iter().map(|token| token.0.expose_secret());
        let others = self.env.values().chain(&self.others).map(ExposeSecret::expose_secret);
        token.chain(others)
    }
}

/// One execution of a suite in one container.
#[derive(Clone, Debug)]
pub struct PassRequest {
    /// Which pass it is.
    pub id: PassId,
    /// By digest.
    pub image: String,
    /// What it runs on.
    pub platform: Platform,
    /// As the hardware names itself.
    pub device_type: DeviceType,
    /// Which of the host's devices are its own.
    pub devices: DeviceAccess,
    /// Which of the host's processors are its own; `None` for all.
    pub binding: Option<Binding>,
    /// Whose code it is.
    pub profile: Profile,
    /// How the suite is run.
    pub suite: SuiteRun,
    /// The suite's configuration.
    pub files: Vec<SuiteFile>,
    /// A tar of the repository at the commit, unpacked into the suite's `workdir`; `None` when the image has it.
    pub workspace: Option<PathBuf>,
    /// The suite's own and further variables; they win over benchd's.
    pub env: BTreeMap<String, String>,
    /// Secret variables and what must not be shown.
    pub secrets: Secrets,
    /// Where models come from.
    pub cache: ModelCache,
    /// Files of the host to put into the container, for example the ShareGPT dataset: from, to.
    pub read_only_files: Vec<(PathBuf, PathBuf)>,
    /// Numeric id of the user that benchd runs as; keeps compiler caches of several users of a host apart.
    pub runner_uid: u32,
    /// The points that are expected, for the count that progress shows.
    pub expected_points: Vec<String>,
    /// A line of the log that holds one of these says that the running benchmark cannot recover.
    pub fatal_lines: Vec<String>,
    /// What it may use.
    pub limits: Limits,
    /// A folder of its own for `console.log`, `results/` and what `benchd repro` needs.
    pub artifacts: PathBuf,
}

/// The request contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// A path of the suite that would reach somewhere else.
    #[error("`{path}` cannot be the suite's {what}: {reason}")]
    Path {
        /// Which of its paths.
        what: &'static str,
        /// The path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The name of a suite file is more than a name.
    #[error("`{0}` cannot name a suite file: a bare file name is needed")]
    FileName(String),
    /// A variable's name that no shell takes.
    #[error("`{0}` cannot name an environment variable")]
    Variable(String),
    /// The image is not named by digest, so that it could change between two passes.
    #[error("the image `{0}` is not named by digest (`name@sha256:..`)")]
    Image(String),
    /// A stranger's code was to get a secret.
    #[error("a container of a fork's code may not get secrets ({0} is set)")]
    SecretForUntrusted(String),
}

impl PassRequest {
    pub(super) fn check(&self) -> Result<(), InvalidRequest> {
        let suite = &self.suite;
        if !Path::new(&suite.workdir).is_absolute() || suite.workdir == "/" {
            let reason = "an absolute path below / is needed";
            return Err(InvalidRequest::Path { what: "working folder", path: suite.workdir.clone(), reason });
        }
        for (what, path) in [("results folder", Some(&suite.results_dir)), ("tests folder", suite.tests_dir.as_ref())] {
            if let Some(path) = path {
                check_folder(what, path)?;
            }
        }
        for file in &self.files {
            let bare = Path::new(&file.name).file_name().is_some_and(|name| name == file.name.as_str());
            if !bare || file.name.contains(['\0', '\n']) || file.name.starts_with('-') {
                return Err(InvalidRequest::FileName(file.name.clone()));
            }
        }
        for name in self.env.keys().chain(self.secrets.env.keys()) {
            if name.is_empty() || name.contains(['=', '\0', '\n']) {
                return Err(InvalidRequest::Variable(name.clone()));
            }
        }
        let by_digest = self.image.contains("@sha256:") || self.image.starts_with("sha256:");
        if !by_digest {
            return Err(InvalidRequest::Image(self.image.clone()));
        }
        match (&self.profile, self.secrets.env.keys().next()) {
            (Profile::Untrusted { .. }, Some(name)) => Err(InvalidRequest::SecretForUntrusted(name.clone())),
            (Profile::Untrusted { .. }, None) if self.secrets.hf_token.is_some() => {
                Err(InvalidRequest::SecretForUntrusted("HF_TOKEN".to_owned()))
            }
            (Profile::Trusted | Profile::Untrusted { .. }, _) => Ok(()),
        }
    }

    /// The name of the suite file of `kind`, by which the suite is told to read it.
    pub(in crate::executor) fn file_of(&self, kind: SuiteKind) -> String {
        let prefix = format!("{}-tests", kind.as_str());
        let given = self.files.iter().find(|file| file.name.starts_with(&prefix));
        given.map_or_else(|| format!("{prefix}{}.json", self.platform.file_suffix()), |file| file.name.clone())
    }
}

fn check_folder(what: &'static str, path: &str) -> Result<(), InvalidRequest> {
    let wrong = |reason| Err(InvalidRequest::Path { what, path: path.to_owned(), reason });
    let mut depth = 0;
    for component in Path::new(path).components() {
        match component {
            std::path::Component::ParentDir => return wrong("`..` is not allowed"),
            std::path::Component::Normal(_) => depth += 1,
            std::path::Component::RootDir | std::path::Component::CurDir | std::path::Component::Prefix(_) => {}
        }
    }
    // It is emptied before the suite starts.
    if depth == 0 { wrong("it needs a name of its own") } else { Ok(()) }
}
