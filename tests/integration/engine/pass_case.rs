//! One pass of a suite that is a few lines of shell, with everything around it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benchd::clock::Clock;
use benchd::executor::container::{
    DeviceAccess, Limits, ModelCache, PassId, PassRequest, Profile, Secrets, SuiteFile, SuiteRun,
};
use benchd::executor::docker::Engine;
use benchd::executor::{PassError, PassEvent, PassOutcome, Results, life, run_pass};
use benchd::model::Platform;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::container_image::shell_image;
use super::engine;

static NEXT_JOB: AtomicU64 = AtomicU64::new(0);

/// A pass, ready to be changed and run.
pub struct Case {
    pub engine: Engine,
    pub request: PassRequest,
    pub cancel: CancellationToken,
    pub events: Mutex<Vec<String>>,
    dir: TempDir,
}

impl Case {
    /// A pass whose suite is `script`, run by `bash run.sh` in `/work`, results in `/work/out/results`.
    pub async fn new(script: &str) -> Self {
        Self::on(engine().await, script).await
    }

    /// The same on another engine.
    pub async fn on(engine: Engine, script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().join("workspace.tar");
        let mut tar = tar::Builder::new(std::fs::File::create(&workspace).unwrap());
        for (path, bytes) in
            [("run.sh", script.as_bytes()), ("tests/old-tests.json", b"[]"), ("out/results/stale.pytorch.json", b"[]")]
        {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes).unwrap();
        }
        tar.finish().unwrap();
        let number = (u64::from(std::process::id()) << 16) + NEXT_JOB.fetch_add(1, Ordering::SeqCst) + 1;
        let request = PassRequest {
            id: PassId { run: number.try_into().unwrap(), job: number.try_into().unwrap(), attempt: 1, pass: 1 },
            image: shell_image(&engine).await,
            platform: Platform::Cpu,
            device_type: "Test_CPU_2c".parse().unwrap(),
            devices: DeviceAccess::Cpu,
            binding: None,
            profile: Profile::Trusted,
            suite: SuiteRun {
                command: "bash run.sh".into(),
                workdir: "/work".into(),
                tests_dir: Some("tests".into()),
                results_dir: "out/results".into(),
                pre_commands: Vec::new(),
                server: None,
            },
            files: vec![SuiteFile { name: "serving-tests-cpu.json".into(), bytes: b"[1]".to_vec() }],
            workspace: Some(workspace),
            env: BTreeMap::new(),
            secrets: Secrets::default(),
            cache: ModelCache::None,
            read_only_files: Vec::new(),
            runner_uid: 0,
            expected_points: Vec::new(),
            fatal_lines: Vec::new(),
            limits: Limits {
                job: Duration::from_secs(120),
                idle: Duration::from_secs(60),
                stop_grace: Duration::from_secs(2),
                engine_patience: Duration::from_secs(60),
                ..Limits::default()
            },
            artifacts: dir.path().join("artifacts"),
        };
        Self { engine, request, cancel: CancellationToken::new(), events: Mutex::default(), dir }
    }

    /// Runs it and checks that no container is left, however it ended.
    pub async fn run(&self) -> Result<PassOutcome, PassError> {
        let events = |event: PassEvent<'_>| self.note(&event);
        let outcome = run_pass(&self.engine, &Clock::system(), &self.request, &events, &self.cancel).await;
        let left = life::find(&self.engine, self.request.id, Duration::from_secs(5)).await.unwrap();
        assert!(left.is_none(), "a container is left after {outcome:?}");
        outcome
    }

    /// Runs it to an outcome, which is shown with the log when the test fails.
    pub async fn outcome(&self) -> PassOutcome {
        let outcome = self.run().await.unwrap();
        println!("{outcome:#?}\n{}", self.log());
        outcome
    }

    /// Remembers an event by its name and text.
    pub fn note(&self, event: &PassEvent<'_>) {
        let text = if let PassEvent::Line(line) = event { line.text.clone() } else { format!("{event:?}") };
        self.events.lock().unwrap().push(text);
    }

    /// Whether an event with this text came.
    pub fn saw(&self, text: &str) -> bool {
        self.events.lock().unwrap().iter().any(|event| event.contains(text))
    }

    /// The log's file.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.request.artifacts.join("console.log")).unwrap()
    }

    /// The log's lines without their times.
    pub fn lines(&self) -> Vec<String> {
        self.log().lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// A file of the results.
    pub fn result(&self, name: &str) -> PathBuf {
        self.request.artifacts.join("results").join(name)
    }

    /// A folder for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// How many files were taken.
pub fn files(outcome: &PassOutcome) -> usize {
    match &outcome.results {
        Results::Taken(taken) => taken.files,
        Results::None | Results::TooLarge { .. } => 0,
    }
}
