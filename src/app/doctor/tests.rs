use std::collections::BTreeSet;

use super::engine::EngineFacts;
use super::host::{device_files, gaudi, model_cache, nvidia};
use super::services::hf_token;
use super::*;
use crate::config::Size;

fn engine(runtimes: &[&str], has_cdi_devices: bool) -> EngineFacts {
    EngineFacts { runtimes: runtimes.iter().map(|name| (*name).to_owned()).collect(), has_cdi_devices }
}

#[test]
fn nvidia_devices_need_a_runtime_cdi_or_the_hook() {
    use CheckState::{Failed, Ok, Warning};
    for (runtimes, cdi, hook, local, state) in [
        (&["runc", "nvidia"][..], false, false, true, Ok),
        (&["runc"], true, false, true, Ok),
        (&["runc"], false, true, true, Ok),
        (&["runc"], false, false, true, Failed),
        // A hook on this machine says nothing about the engine's.
        (&["runc"], false, true, false, Warning),
    ] {
        let check = nvidia(&engine(runtimes, cdi), hook, local);
        assert_eq!(check.state, state, "{check:?}");
        assert_eq!(check.advice.is_some(), state != Ok, "{check:?}");
    }
}

#[test]
fn gaudi_devices_need_the_configured_runtime() {
    let config = Config::default();
    assert_eq!(gaudi(&engine(&["habana"], false), &config.execution).state, CheckState::Ok);
    let check = gaudi(&engine(&["io.containerd.runc.v2", "runc"], false), &config.execution);
    assert_eq!(check.found, "the engine has no runtime habana (it has io.containerd.runc.v2, runc)");
}

#[test]
fn amd_devices_need_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut execution = Config::default().execution;
    execution.device_access.rocm.devices = vec![dir.path().join("kfd")];
    execution.device_access.rocm.render_nodes = dir.path().to_owned();
    let check = device_files(&execution);
    assert_eq!((check.state, check.found), (CheckState::Failed, format!("{}/kfd not there", dir.path().display())));
    std::fs::write(dir.path().join("kfd"), "").unwrap();
    assert_eq!(device_files(&execution).state, CheckState::Ok);
}

#[test]
fn models_that_are_not_cached_matter_when_nothing_is_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.execution.cache.dir = dir.path().join("cache");
    config.execution.cache.min_free = Size::mib(0);
    let models: BTreeSet<String> = ["a/b", "c/d"].map(str::to_owned).into();
    let states = |config: &Config| model_cache(config, &models).into_iter().map(|c| c.state).collect::<Vec<_>>();
    assert_eq!(states(&config), [CheckState::Warning]);
    let snapshot = dir.path().join("cache/hub/models--a--b/snapshots/1");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("config.json"), "").unwrap();
    let check = model_cache(&config, &models).remove(0);
    assert_eq!(check.state, CheckState::Warning);
    assert!(check.found.starts_with("1 of 2") && check.found.ends_with("not there: c/d"), "{check:?}");
    config.execution.cache.offline = false;
    assert_eq!(states(&config), [CheckState::Ok]);
    config.execution.cache.min_free = Size::gib(1 << 20);
    assert_eq!(states(&config), [CheckState::Warning, CheckState::Ok]);
    assert_eq!(model_cache(&config, &BTreeSet::new()).remove(0).state, CheckState::Skipped);
}

#[test]
fn a_hugging_face_token_is_looked_at_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let mut config = Config::default();
    assert_eq!(hf_token(&config).state, CheckState::Skipped);
    config.execution.hf_token_file = Some(file.clone());
    assert_eq!(hf_token(&config).state, CheckState::Failed);
    for (text, state) in [("hf_abc123", CheckState::Ok), ("abc123", CheckState::Warning), ("", CheckState::Failed)] {
        std::fs::write(&file, text).unwrap();
        let check = hf_token(&config);
        assert_eq!(check.state, state);
        assert!(!format!("{check:?}").contains("abc123"), "{check:?}");
    }
}
