//! What every trigger needs to decide and to submit: the shared door through which schedule, API, command line and
//! webhook come to the queue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, RepositoryConfig};
use crate::github::GitHub;
use crate::model::{RepoName, SuiteKind, Target};
use crate::queue::Queue;
use crate::queue::planner::{InvalidFileName, told_file_names};
use crate::registry::Registry;
use crate::store::Store;

/// The clients and settings that triggers share. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The configuration as it was when the process started.
    pub config: Arc<Config>,
    /// The store.
    pub store: Store,
    /// The queue of the same store.
    pub queue: Queue,
    /// GitHub's API; `None` where only checkouts are asked.
    pub github: Option<GitHub>,
    /// The image registries.
    pub registry: Arc<Registry>,
    /// The time.
    pub clock: Clock,
    /// One device type of the host that measures, and how many devices it has.
    pub target: Target,
    /// Folder for what can be fetched again (benchmark repositories).
    pub cache: PathBuf,
}

/// No repository of this name is configured.
#[derive(Debug, thiserror::Error)]
#[error("the repository {name} is not configured (configured: {known})")]
pub struct UnknownRepository {
    name: String,
    known: String,
}

impl Context {
    /// The configured repository `name`, or the first one when none is named.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn repository(&self, name: Option<&RepoName>) -> Result<&RepositoryConfig, UnknownRepository> {
        repository(&self.config, name)
    }

    /// The files that the suite is told to read instead of its usual ones.
    ///
    /// # Errors
    /// When a variable of the configuration names none.
    pub fn told_file_names(&self) -> Result<BTreeMap<SuiteKind, String>, InvalidFileName> {
        told_file_names(&self.config.execution.env)
    }
}

/// The configured repository `name`, or the first one when none is named.
///
/// # Errors
/// When there is none of that name.
pub fn repository<'c>(config: &'c Config, name: Option<&RepoName>) -> Result<&'c RepositoryConfig, UnknownRepository> {
    let found = match name {
        Some(name) => config.repositories.iter().find(|r| r.name.as_str().eq_ignore_ascii_case(name.as_str())),
        None => config.repositories.first(),
    };
    found.ok_or_else(|| UnknownRepository {
        name: name.map_or_else(|| "(first)".to_owned(), RepoName::to_string),
        known: config.repositories.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}
