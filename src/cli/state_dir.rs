//! Where the store is, for the commands that only look at it.

use std::path::PathBuf;

use super::Failure;
use crate::config::{self, Config, environment};
use crate::store::Store;

/// Arguments that name the state directory.
#[derive(clap::Args)]
pub struct StateDirArgs {
    /// Folder of the store and the artifacts [default: the configuration's, $BENCHD_STATE_DIR, /var/lib/benchd for
    /// root, $XDG_STATE_HOME/benchd for a user]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Configuration whose state directory is meant [default: $BENCHD_CONFIG, ./benchd.yaml, /etc/benchd/benchd.yaml]
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    config: Option<PathBuf>,
}

impl StateDirArgs {
    /// The folder that is meant.
    ///
    /// # Errors
    /// When the configuration that names it is at fault.
    pub fn folder(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.state_dir {
            return Ok(folder.clone());
        }
        match config::find(self.config.as_deref()) {
            Some(file) => Ok(Config::load(&file).map_err(Failure::usage)?.state_dir),
            None => Ok(environment::default_state_dir()),
        }
    }

    /// Whether a folder was named on the command line, or a configuration that names one.
    pub fn is_named(&self) -> bool {
        self.state_dir.is_some() || self.config.is_some()
    }

    /// Opens the store there; one that does not exist is not made.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self) -> Result<Store, Failure> {
        Store::open_existing(&self.folder()?).await.map_err(Failure::infrastructure)
    }
}
