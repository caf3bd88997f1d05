//! What lies on this host: the state directory, the way to the devices, benchmark files, the model cache.

use std::collections::BTreeSet;
use std::path::Path;

use super::engine::EngineFacts;
use super::{CHECK_LIMIT, Check, is_local, on, told, too_slow, unknown_platform, with_benchmarks};
use crate::config::{BenchmarksSource, Config, ExecutionConfig, RepositoryConfig, environment, human};
use crate::executor::cache::{Presence, model_in_cache};
use crate::executor::device::Tools;
use crate::executor::room::{CacheRoom, cache_room, disk_room};
use crate::model::Platform;
use crate::store::{DATABASE_FILE, Store, StoreError};
use crate::suite::{BenchmarkSet, Source, SourceError};

/// A run writes its logs and results (2 GiB by default at most) below the state directory.
const STATE_MIN_FREE_BYTES: u64 = 5 << 30;

/// The program that dockerd calls for requests of NVIDIA GPUs.
const NVIDIA_HOOK: &str = "nvidia-container-runtime-hook";

/// Whether the state directory can be written and its database opens.
pub(super) async fn state_directory(config: &Config) -> Vec<Check> {
    let name = "state directory";
    let dir = &config.state_dir;
    // A folder that is yet to be made is judged by the one it will be made in.
    let existing = dir.ancestors().find(|folder| folder.exists()).unwrap_or(dir);
    if !existing.is_dir() {
        let check = Check::failed(name, format!("{} is not a folder", existing.display()));
        return vec![check.advise("move it away, or set state_dir")];
    }
    let writable = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    if let Err(error) = writable {
        let error = std::io::Error::from(error);
        let check = Check::failed(name, format!("{} cannot be written: {error}", existing.display()));
        return vec![check.advise("give it to the user that benchd runs as, or set state_dir")];
    }
    let database = match Store::open_existing(dir).await {
        Ok(store) => {
            store.close().await;
            "the database opens".to_owned()
        }
        Err(StoreError::Absent { .. }) => format!("the first run makes {DATABASE_FILE}"),
        Err(error) => return vec![Check::failed(name, told(error))],
    };
    vec![match disk_room(existing) {
        Ok(room) => {
            let found = format!("{}: {database}, {} free", dir.display(), human(room.free_bytes));
            match room.free_bytes < STATE_MIN_FREE_BYTES {
                true => Check::warning(name, found).advise(format!(
                    "logs and results of a run need up to {}: free some room, or lower retention.artifacts.max_size",
                    human(STATE_MIN_FREE_BYTES)
                )),
                false => Check::ok(name, found),
            }
        }
        Err(error) => Check::warning(name, told(error)),
    }]
}

/// Whether a container can get at the devices; `None` on processors, which need nothing.
pub(super) fn device_access(
    config: &Config,
    platform: Option<Platform>,
    engine: Option<&EngineFacts>,
) -> Option<Check> {
    let name = "device access";
    let platform = match platform {
        Some(platform @ (Platform::Cuda | Platform::Rocm | Platform::Hpu)) => platform,
        Some(Platform::Cpu | Platform::Arm64Cpu) | None => return None,
    };
    let Some(engine) = engine else { return Some(Check::skipped(name, "the engine does not answer")) };
    let hook = Tools::in_folders(environment::search_path()).find(NVIDIA_HOOK).is_some();
    Some(match platform {
        Platform::Cuda => nvidia(engine, hook, is_local(config)),
        Platform::Hpu => gaudi(engine, &config.execution),
        Platform::Rocm if is_local(config) => device_files(&config.execution),
        Platform::Rocm => Check::skipped(name, "the engine is on another machine"),
        Platform::Cpu | Platform::Arm64Cpu => return None,
    })
}

/// Requests for NVIDIA GPUs are served by a hook on the engine's PATH (which comes with the runtime), or by CDI.
pub(super) fn nvidia(engine: &EngineFacts, hook: bool, local: bool) -> Check {
    let name = "device access";
    if engine.runtimes.contains("nvidia") {
        Check::ok(name, "the engine has the runtime nvidia")
    } else if engine.has_cdi_devices {
        Check::ok(name, "the engine knows devices by CDI")
    } else if hook && local {
        Check::ok(name, format!("{NVIDIA_HOOK} is on PATH"))
    } else {
        let found = "the engine has neither the runtime nvidia nor CDI devices";
        let check = if local { Check::failed(name, found) } else { Check::warning(name, found) };
        check.advise(
            "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure --runtime=docker` and restart \
             the engine",
        )
    }
}

pub(super) fn gaudi(engine: &EngineFacts, execution: &ExecutionConfig) -> Check {
    let (name, wanted) = ("device access", &execution.device_access.hpu.runtime);
    if engine.runtimes.contains(wanted) {
        return Check::ok(name, format!("the engine has the runtime {wanted}"));
    }
    let has = engine.runtimes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Check::failed(name, format!("the engine has no runtime {wanted} (it has {has})"))
        .advise("install habanalabs-container-runtime, or set execution.device_access.hpu.runtime")
}

pub(super) fn device_files(execution: &ExecutionConfig) -> Check {
    let (name, rocm) = ("device access", &execution.device_access.rocm);
    let wanted = rocm.devices.iter().chain([&rocm.render_nodes]);
    let missing: Vec<_> = wanted.filter(|path| !path.exists()).map(|path| path.display().to_string()).collect();
    match missing.is_empty() {
        true => Check::ok(name, "the device files are there"),
        false => Check::failed(name, format!("{} not there", missing.join(" and "))).advise(
            "load the driver (`modprobe amdgpu`), or set execution.device_access.rocm.devices and .render_nodes",
        ),
    }
}

/// The benchmark files of every repository, and the models in them.
pub(super) async fn benchmarks(config: &Config, platform: Option<Platform>) -> (Vec<Check>, BTreeSet<String>) {
    let mut checks = Vec::new();
    let mut models = BTreeSet::new();
    let cache = config.state_dir.join("benchmarks");
    for repository in with_benchmarks(config) {
        let name = format!("benchmarks of {}", repository.name);
        let Some(platform) = platform else {
            checks.push(unknown_platform(&name));
            continue;
        };
        let source = source_of(repository);
        match tokio::time::timeout(CHECK_LIMIT, source.read(platform, &cache)).await {
            Ok(answer) => {
                if let Ok(set) = &answer {
                    let found = set.files.iter().flat_map(|file| &file.benchmarks);
                    models.extend(found.map(|benchmark| benchmark.model.trim().to_owned()));
                }
                checks.push(benchmark_check(name, &source, answer));
            }
            Err(_elapsed) => checks.push(too_slow(&name)),
        }
    }
    (checks, models)
}

fn source_of(repository: &RepositoryConfig) -> Source {
    match repository.benchmarks.clone() {
        BenchmarksSource::Folder(path) => Source::Directory(path),
        BenchmarksSource::Git { url, reference, path } => Source::Git { url, reference, path },
    }
}

fn benchmark_check(name: String, source: &Source, answer: Result<BenchmarkSet, SourceError>) -> Check {
    let place = match source {
        Source::Directory(path) => path.display().to_string(),
        Source::Git { url, reference, .. } => format!("{url} at {reference}"),
    };
    let set = match answer {
        Ok(set) => set,
        Err(error) => {
            return Check::failed(name, told(error)).advise(
                "set `repositories[].benchmarks`; benchd's own set (`benchmarks/`) can be copied to begin with",
            );
        }
    };
    let faults = set.problems.iter().filter(|problem| problem.is_fault()).count();
    let found = format!("{place}: {} benchmarks {}", set.len(), on(set.platform));
    match (faults, set.is_empty()) {
        (0, false) => Check::ok(name, found),
        (0, true) => Check::warning(name, found).advise("nothing will be measured here"),
        (faults, _) => Check::warning(name, format!("{found}, {faults} faults hide others")).advise(match source {
            Source::Directory(path) => format!("`benchd check-benchmarks {}` tells each", path.display()),
            Source::Git { .. } => "`benchd check-benchmarks DIR` on a clone tells each".to_owned(),
        }),
    }
}

/// The model cache: whether it is there, has room and holds the models that will be measured.
pub(super) fn model_cache(config: &Config, models: &BTreeSet<String>) -> Vec<Check> {
    let name = "model cache";
    let cache = &config.execution.cache;
    if models.is_empty() {
        return vec![Check::skipped(name, "no benchmark names a model")];
    }
    if !cache.dir.is_dir() {
        let private = config.state_dir.join("hf-cache");
        let found = format!("{} is not there, models will be downloaded to {}", cache.dir.display(), private.display());
        return vec![Check::warning(name, found).advise("make the folder, or set execution.cache.dir")];
    }
    match cache_room(&cache.dir, cache.min_free.bytes()) {
        Ok(CacheRoom::Enough(_)) => {}
        Ok(low @ CacheRoom::Low { .. }) => {
            return vec![Check::warning(name, low.to_string()), models_in(config, models)];
        }
        Err(error) => return vec![Check::failed(name, told(error))],
    }
    vec![models_in(config, models)]
}

fn models_in(config: &Config, models: &BTreeSet<String>) -> Check {
    let name = "models";
    let cache = &config.execution.cache;
    let mut missing = Vec::new();
    for model in models {
        match model_in_cache(&cache.dir, model) {
            Ok(Presence::Cached) => {}
            Ok(Presence::Missing) => missing.push(model.as_str()),
            Err(error) => return Check::failed(name, format!("{} cannot be read: {error}", cache.dir.display())),
        }
    }
    let (cached, all) = (models.len() - missing.len(), models.len());
    let found = format!("{cached} of {all} in {}", cache.dir.display());
    match (missing.as_slice(), cache.offline) {
        ([], _) => Check::ok(name, found),
        (missing, false) => Check::ok(name, format!("{found}; a run downloads the others: {}", missing.join(", "))),
        (missing @ [first, ..], true) => Check::warning(name, format!("{found}; not there: {}", missing.join(", ")))
            .advise(format!(
                "nothing is downloaded in a run (execution.cache.offline): {}",
                download(&cache.dir, first)
            )),
    }
}

fn download(cache: &Path, model: &str) -> String {
    format!("`HF_HOME={} hf download {model}`", cache.display())
}
