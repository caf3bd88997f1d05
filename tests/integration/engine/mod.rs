//! Tests with a real Docker Engine and real registries: `tests/support/engine.sh start` sets them up. Each leaves the
//! engine as it found it.

mod container_image;
mod daemon;
mod doctor;
mod github;
mod images;
mod kills;
mod pass_case;
mod passes;
mod passes_under_fault;
mod run;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::Command;

use benchd::executor::docker::Engine;

/// The engine that `engine.sh start` started, or the machine's own.
pub async fn engine() -> Engine {
    let host = std::env::var("DOCKER_HOST").ok();
    Engine::connect(host.as_deref())
        .await
        .unwrap_or_else(|e| panic!("{e}\nthis test needs a Docker Engine: run `tests/support/engine.sh start`"))
}

/// A second engine that a test may fill up or kill, ended with all it has when dropped.
pub struct SecondEngine {
    name: String,
    /// Folder of the script's own files.
    state: PathBuf,
    /// Folder of its data, logs and socket.
    pub folder: PathBuf,
}

impl SecondEngine {
    /// Names it; nothing runs before [`SecondEngine::start`].
    pub fn new(name: &str) -> Self {
        let state = std::env::var("BENCHD_TEST_DIR").unwrap_or_else(|_| "/tmp/benchd-test".to_owned());
        Self::apart(name, state)
    }

    /// As [`SecondEngine::new`], with `state` as the script's folder, so that its switches are this engine's alone.
    pub fn apart(name: &str, state: impl Into<PathBuf>) -> Self {
        let state = state.into();
        Self { name: name.to_owned(), folder: state.join("second").join(name), state }
    }

    /// As a crash: no chance to say goodbye.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    }

    /// Starts it, or starts it again after it was killed.
    pub async fn start(&self) -> Engine {
        let host = format!("unix://{}", self.script("start-second"));
        Engine::connect(Some(&host)).await.unwrap()
    }

    /// Runs a command where this engine's loopback is.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/benchd-{}", self.name)).arg(program);
        command
    }

    fn script(&self, verb: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/engine.sh");
        let output =
            Command::new("bash").arg(script).args([verb, &self.name]).env("BENCHD_TEST_DIR", &self.state).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.script("stop-second");
        } else if let Err(error) = std::panic::catch_unwind(|| self.script("stop-second")) {
            eprintln!("the second engine {} stays: {error:?}", self.name);
        }
    }
}
