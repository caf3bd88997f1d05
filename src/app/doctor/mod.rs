//! What a host needs to measure, tried piece by piece: every check stands for itself, has a time limit, and says what it
//! found and what a person can do. One that fails hides no other.

mod engine;
mod host;
mod services;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::runner::detect;
use crate::config::{Config, ConfigError, RepositoryConfig, environment};
use crate::executor::device::{DetectError, DeviceInventory};
use crate::model::Platform;

/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// It works.
    Ok,
    /// It works, and a person should know something.
    Warning,
    /// It does not work.
    Failed,
    /// It was not tried.
    Skipped,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was tried.
    pub name: String,
    /// What came of it.
    pub state: CheckState,
    /// What was found, or why it failed; never a secret.
    pub found: String,
    /// What a person can do, where `found` does not say it.
    pub advice: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, state: CheckState, found: impl Into<String>) -> Self {
        Self { name: name.into(), state, found: found.into(), advice: None }
    }

    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name, CheckState::Ok, found)
    }

    fn warning(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name, CheckState::Warning, found)
    }

    fn failed(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name, CheckState::Failed, found)
    }

    fn skipped(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name, CheckState::Skipped, found)
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// All checks, in the order in which a person reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// Whether nothing failed; warnings are allowed.
    pub ok: bool,
    /// Each check.
    pub checks: Vec<Check>,
}

/// Tries everything that the configuration at `named` (or where one is looked for) needs.
pub async fn examine(named: Option<&Path>) -> Checkup {
    let (config, first) = configuration(named);
    let devices = devices_of(&config);
    let engine = engine::look(&config);
    let ((inventory, devices), (engine, engine_check)) = tokio::join!(devices, engine);
    let platform = inventory.as_ref().map(|found| found.platform).or(config.execution.platform);
    let state_dir = limited("state directory", host::state_directory(&config));
    let access = async { host::device_access(&config, platform, engine.as_ref()).into_iter().collect::<Vec<_>>() };
    let access = limited("device access", access);
    let registries = services::registries(&config, platform);
    let targets = join_all(services::targets(&config).map(|target| {
        let name = format!("target {target}");
        async move { limited(&name, async { vec![services::target(target).await] }).await }
    }));
    let github = limited("github", services::github(&config));
    let benchmarks = host::benchmarks(&config, platform);
    let (state_dir, access, registries, targets, github, (benchmarks, models)) =
        tokio::join!(state_dir, access, registries, targets, github, benchmarks);
    let cache = limited("model cache", async { host::model_cache(&config, &models) }).await;
    let mut checks = vec![first];
    checks.extend(state_dir);
    checks.push(engine_check);
    checks.push(devices);
    checks.extend(access);
    checks.extend(registries);
    checks.extend(benchmarks);
    checks.extend(cache);
    checks.push(services::hf_token(&config));
    checks.extend(github);
    checks.extend(targets.into_iter().flatten());
    Checkup { ok: checks.iter().all(|check| check.state != CheckState::Failed), checks }
}

/// The checks that `work` comes to, or one that says that it took too long.
async fn limited(name: &str, work: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    tokio::time::timeout(CHECK_LIMIT, work).await.unwrap_or_else(|_elapsed| vec![too_slow(name)])
}

fn too_slow(name: &str) -> Check {
    Check::failed(name, format!("no answer within {} s", CHECK_LIMIT.as_secs()))
}

/// An error with its causes, on one line.
fn told(error: impl Into<anyhow::Error>) -> String {
    let text = format!("{:#}", error.into());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The configuration in effect; the built-in one where a file is missing or at fault, so that the rest is tried all the
/// same.
fn configuration(named: Option<&Path>) -> (Config, Check) {
    let name = "configuration";
    match Config::find_and_load(named) {
        Ok((file, config)) => {
            let repositories: Vec<_> = config.repositories.iter().map(|known| known.name.to_string()).collect();
            let found = format!("{}: {}", file.display(), repositories.join(", "));
            (config, Check::ok(name, found))
        }
        Err(ConfigError::NoneFound) => {
            let check = Check::warning(name, "no file found, the built-in defaults are checked");
            (Config::default(), check.advise("`benchd init` writes one that fits this host"))
        }
        Err(error) => {
            let check = Check::failed(name, told(error));
            (Config::default(), check.advise("mend the file; the checks below are of the built-in defaults"))
        }
    }
}

async fn devices_of(config: &Config) -> (Option<DeviceInventory>, Check) {
    let name = "devices";
    match tokio::time::timeout(CHECK_LIMIT, detect(config)).await {
        Ok(answer) => devices_check(answer),
        Err(_elapsed) => {
            let check = too_slow(name).advise(
                "a driver in trouble makes its tool hang: call `nvidia-smi`, `rocm-smi` or `hl-smi` by hand, or state \
                 execution.platform and execution.devices",
            );
            (None, check)
        }
    }
}

fn devices_check(answer: Result<DeviceInventory, DetectError>) -> (Option<DeviceInventory>, Check) {
    let name = "devices";
    match answer {
        Ok(inventory) => {
            let driver = inventory.driver.as_ref().map_or_else(String::new, |driver| format!(", driver {driver}"));
            let found = format!("{}, {}x {}{driver}", inventory.platform, inventory.count, inventory.device_type);
            let check = match inventory.warnings.as_slice() {
                [] => Check::ok(name, found),
                warnings => Check::warning(name, found).advise(warnings.join("; ")),
            };
            (Some(inventory), check)
        }
        Err(error) => (None, Check::failed(name, told(error))),
    }
}

/// Repositories whose suites read benchmark files.
fn with_benchmarks(config: &Config) -> impl Iterator<Item = &RepositoryConfig> {
    config.repositories.iter().filter(|repository| repository.suite.configuration.is_some())
}

/// Said where the platform decides and is not known.
fn unknown_platform(name: &str) -> Check {
    Check::skipped(name, "the platform is not known")
}

/// The platform's folder or tag in words, for messages.
fn on(platform: Platform) -> String {
    format!("for {platform}")
}

/// Whether the engine that is configured is this host's own, so that its disk and devices can be looked at.
fn is_local(config: &Config) -> bool {
    let host = config.execution.docker_host.clone().or_else(environment::docker_host);
    host.is_none_or(|host| host.starts_with("unix://"))
}
