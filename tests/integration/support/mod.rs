//! What several tests share.

pub mod history;
pub mod real_registry;
pub mod s3;
pub mod stand_in;

use std::io::Write;
use std::path::{Path, PathBuf};

/// A folder of recorded reference data (`golden/device`, `vllm/run-1` ..), kept beside the project and not in it:
/// `$BENCHD_SHARED_DIR` or `../shared`. `None`, said loudly, where it is absent; such a test then proves nothing.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let base = std::env::var_os("BENCHD_SHARED_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = base.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    // Past the test harness, which keeps what a passing test prints to itself.
    let _told =
        writeln!(std::io::stderr(), "RECORDED DATA ABSENT: {} is not there, its cases were NOT tested", path.display());
    None
}

/// The built executable.
pub fn benchd() -> assert_cmd::Command {
    assert_cmd::Command::new(env!("CARGO_BIN_EXE_benchd"))
}
