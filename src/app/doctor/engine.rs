//! The Docker Engine: whether it answers, what it runs on, and the room for images.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CHECK_LIMIT, Check, is_local, told, too_slow};
use crate::app::runner::connect_engine;
use crate::config::{Config, human};
use crate::executor::docker::EngineError;
use crate::executor::room::disk_room;

/// What the engine says of itself, as far as checks need it.
pub(super) struct EngineFacts {
    /// Names of its runtimes.
    pub runtimes: BTreeSet<String>,
    /// Whether it knows devices by the Container Device Interface.
    pub has_cdi_devices: bool,
}

/// Connects and asks; without facts the check says why.
pub(super) async fn look(config: &Config) -> (Option<EngineFacts>, Check) {
    let name = "docker engine";
    match tokio::time::timeout(CHECK_LIMIT, ask(config)).await {
        Ok(Ok((facts, check))) => (Some(facts), check),
        Ok(Err(error)) => (None, Check::failed(name, told(error))),
        Err(_elapsed) => (None, too_slow(name).advise("is the engine overloaded or its disk full? `docker info`")),
    }
}

async fn ask(config: &Config) -> Result<(EngineFacts, Check), EngineError> {
    let engine = connect_engine(config).await?;
    let info = engine.docker().info().await.map_err(engine.failed_to("ask about the engine"))?;
    let facts = EngineFacts {
        runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
        has_cdi_devices: info.discovered_devices.is_some_and(|devices| !devices.is_empty()),
    };
    let driver = info.driver.unwrap_or_else(|| "unknown".to_owned());
    let found = format!("{} at {}, storage {driver}", engine.version(), engine.host());
    let root = info.docker_root_dir.filter(|_| is_local(config));
    Ok((facts, with_room(found, &driver, root.as_deref().map(Path::new), config.retention.images.min_free.bytes())))
}

/// Adds what can be told of the storage driver and the room below `root`.
fn with_room(found: String, driver: &str, root: Option<&Path>, min_free_bytes: u64) -> Check {
    let name = "docker engine";
    if driver == "vfs" {
        let check = Check::warning(name, found);
        return check.advise("the storage driver vfs copies every layer: use overlay2 (/etc/docker/daemon.json)");
    }
    match root.map(disk_room) {
        Some(Ok(room)) => {
            let found = format!("{found}, {} free for images", human(room.free_bytes));
            match room.free_bytes < min_free_bytes {
                true => Check::warning(name, found).advise(format!(
                    "benchd prunes its own images below {} (retention.images.min_free): give the engine a larger disk, \
                     or see `docker system df`",
                    human(min_free_bytes)
                )),
                false => Check::ok(name, found),
            }
        }
        // Its folder may be another user's, or another machine's.
        Some(Err(_)) | None => Check::ok(name, format!("{found}, its disk cannot be seen from here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::doctor::CheckState;

    #[test]
    fn a_full_disk_and_a_slow_driver_are_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let check = |driver, root, min_free| with_room("20.10".to_owned(), driver, root, min_free);
        let full = check("overlay2", Some(dir.path()), u64::MAX);
        assert_eq!(full.state, CheckState::Warning);
        assert!(full.advice.unwrap().contains("retention.images.min_free"));
        assert_eq!(check("overlay2", Some(dir.path()), 0).state, CheckState::Ok);
        assert!(check("vfs", None, 0).advice.unwrap().contains("overlay2"));
        assert_eq!(check("overlay2", Some(Path::new("/no/such")), 0).state, CheckState::Ok);
    }
}
