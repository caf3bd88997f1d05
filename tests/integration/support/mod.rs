//! What several tests share.

pub mod history;
pub mod real_registry;
pub mod s3;
pub mod stand_in;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A folder of recorded reference data (`golden/device`, `vllm/run-1` ..), kept beside the project and not in it:
/// `$BENCHD_SHARED_DIR` or `../shared`. `None`, said once and loudly, where it is absent; such a test then proves nothing.
///
/// # Panics
/// When the variable is set and the folder is not below it: whoever names a place means it.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let named = std::env::var_os("BENCHD_SHARED_DIR").map(PathBuf::from);
    let path = match &named {
        Some(base) => base.join(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(folder),
    };
    if path.is_dir() {
        return Some(path);
    }
    assert!(named.is_none(), "$BENCHD_SHARED_DIR is set, and {} is no folder", path.display());
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if TOLD.lock().unwrap().insert(path.clone()) {
        // Past the test harness, which keeps what a passing test prints to itself.
        let absent = path.display();
        let _told =
            writeln!(std::io::stderr(), "RECORDED DATA ABSENT: {absent} is not there, its cases were NOT tested");
    }
    None
}

/// The built executable.
pub fn benchd() -> assert_cmd::Command {
    assert_cmd::Command::new(env!("CARGO_BIN_EXE_benchd"))
}
