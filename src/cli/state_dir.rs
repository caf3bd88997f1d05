//! Where the store is, for the commands that only look at it.

use std::path::PathBuf;

use super::Failure;
use crate::config::environment;
use crate::store::Store;

/// Arguments that name the state directory.
#[derive(clap::Args)]
pub struct StateDirArgs {
    /// Folder of the store and the artifacts [default: $BENCHD_STATE_DIR, /var/lib/benchd for root,
    /// $XDG_STATE_HOME/benchd for a user]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateDirArgs {
    /// The folder that is meant.
    pub fn folder(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(environment::default_state_dir)
    }

    /// Opens the store there; one that does not exist is not made.
    pub async fn open(&self) -> Result<Store, Failure> {
        Store::open_existing(&self.folder()).await.map_err(Failure::infrastructure)
    }
}
