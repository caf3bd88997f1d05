//! Tests with a real Docker Engine and real registries: `tests/support/engine.sh start` sets them up. Each leaves the
//! engine as it found it.

mod container_image;
mod images;
mod pass_case;
mod passes;
mod passes_under_fault;

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
    /// Folder of its data, logs and socket.
    pub folder: PathBuf,
}

impl SecondEngine {
    /// Names it; nothing runs before [`SecondEngine::start`].
    pub fn new(name: &str) -> Self {
        let state = std::env::var("BENCHD_TEST_DIR").unwrap_or_else(|_| "/tmp/benchd-test".to_owned());
        Self { name: name.to_owned(), folder: Path::new(&state).join("second").join(name) }
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
        let output = Command::new("bash").arg(script).args([verb, &self.name]).output().unwrap();
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
