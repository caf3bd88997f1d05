//! The configuration: one YAML file, one struct per concern, every key with its default and unit stated beside it.
//! Secrets are named here (a file or an environment variable) and never written here.

mod check;
mod compare;
pub mod environment;
mod execution;
mod explain;
mod fault;
mod github;
mod http;
mod images;
mod load;
mod position;
mod publish;
mod report;
mod repository;
mod retention;
mod secret;
mod shape;
mod size;
mod starter;
mod suite;
mod triggers;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use compare::CompareConfig;
pub use execution::{
    CacheConfig, CudaAccess, DeviceAccess, DevicesConfig, ExecutionConfig, HpuAccess, LimitsConfig, OnStop, Packing,
    PreCommands, RemoteService, RocmAccess, UntrustedConfig, WhenBusy,
};
pub use fault::{Fault, Faults, KeyPath, Place, Step};
pub use github::{GithubApp, GithubConfig};
pub use http::{HttpConfig, ReadAccess};
pub use images::{
    ImageLookup, ImageRequest, ImageSource, ImageTemplate, ImagesConfig, InvalidTemplate, PullPolicy, RegistryConfig,
};
pub use load::{ConfigError, find};
pub use publish::{PublishConfig, PublishTarget, TargetUrl, UnknownTarget, UploadApi};
pub use report::ReportConfig;
pub use repository::{BenchmarksSource, RepositoryConfig};
pub use retention::{ArtifactRetention, ImageRetention, RetentionConfig};
pub use secret::{SecretError, SecretSource};
pub use size::{InvalidSize, Size, human};
pub use starter::{HostFacts, VLLM, starter};
pub use suite::{ExpectedPoints, ResultFormat, ScriptSource, SuiteConfig, SuiteFlavour};
pub use triggers::{
    BudgetedSelection, CommandPermission, CommandsConfig, DraftPolicy, ForkPolicy, ManualTrigger, MergeTrigger,
    PickConfig, PullRequestTrigger, ReleaseTrigger, SelectionConfig, SupersedeRunning, TriggerName, TriggersConfig,
    UnknownPolicy, WithdrawnRunning,
};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the store and the artifacts. Default: `/var/lib/benchd` for root, `$XDG_STATE_HOME/benchd` (or
    /// `~/.local/state/benchd`) for a user.
    pub state_dir: PathBuf,
    /// The web server of the daemon.
    pub http: HttpConfig,
    /// GitHub: where its API is and who benchd is there.
    pub github: GithubConfig,
    /// What is measured; at least one.
    pub repositories: Vec<RepositoryConfig>,
    /// How jobs run on this host.
    pub execution: ExecutionConfig,
    /// Image registries that need more than Docker's own credential file. Default: none.
    pub registries: Vec<RegistryConfig>,
    /// How long artifacts and pulled images are kept.
    pub retention: RetentionConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: environment::default_state_dir(),
            http: HttpConfig::default(),
            github: GithubConfig::default(),
            repositories: Vec::new(),
            execution: ExecutionConfig::default(),
            registries: Vec::new(),
            retention: RetentionConfig::default(),
        }
    }
}

impl Config {
    /// What is said of the registry `host` (`127.0.0.1:5055`, `docker.io`), if anything.
    pub fn registry(&self, host: &str) -> Option<&RegistryConfig> {
        self.registries.iter().find(|registry| registry.host == host)
    }

    /// Reads relative paths as relative to `folder`, the configuration file's own.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        let resolve_some = |path: &mut Option<PathBuf>| {
            if let Some(path) = path {
                *path = folder.join(&*path);
            }
        };
        resolve(&mut self.state_dir);
        resolve_some(&mut self.http.tokens_file);
        resolve_some(&mut self.github.token_file);
        resolve_some(&mut self.github.ca_file);
        self.github.webhook_secret_files.iter_mut().for_each(resolve);
        if let Some(app) = &mut self.github.app {
            resolve(&mut app.private_key_file);
        }
        for repository in &mut self.repositories {
            if let BenchmarksSource::Folder(path) = &mut repository.benchmarks {
                resolve(path);
            }
            resolve_some(&mut repository.checkout);
            for api in repository.publish.to.iter_mut().filter_map(|target| target.api.as_mut()) {
                resolve_some(&mut api.username_file);
                resolve_some(&mut api.password_file);
            }
        }
        let execution = &mut self.execution;
        resolve(&mut execution.cache.dir);
        resolve_some(&mut execution.hf_token_file);
        execution.env_files.values_mut().for_each(resolve);
        resolve_some(&mut execution.untrusted.sharegpt_file);
        execution.untrusted.cache_paths.iter_mut().for_each(resolve);
        for registry in &mut self.registries {
            resolve_some(&mut registry.password_file);
        }
    }
}
