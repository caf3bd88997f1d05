//! The environment of a container: what the reference workflow sets for a trusted commit, and what stands in its place
//! for a stranger's.

use std::collections::BTreeMap;

use crate::model::SuiteKind;

use super::request::{DeviceAccess, ModelCache, PassRequest, Profile};
use super::{EnvValue, EnvVar, UNTRUSTED_CACHE};

/// The suite checks that a token is there and begins with `hf_`, even offline; this one opens nothing.
const TOKEN_OF_UNTRUSTED: &str = "hf_untrusted";
/// Stands in for a token that is not configured.
const NO_TOKEN: &str = "hf_none";

/// Port of sccache's server for user 0; every user of a host has its own.
const SCCACHE_PORT: u32 = 4226;

pub(super) fn of(request: &PassRequest) -> Vec<EnvVar> {
    let mut env: BTreeMap<String, EnvValue> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        env.insert(name.to_owned(), EnvValue::Plain(value.to_owned()));
    };
    set("DEVICE_NAME", request.platform.as_str());
    set("DEVICE_TYPE", request.device_type.as_str());
    set("ON_CPU", if request.platform.is_cpu() { "1" } else { "0" });
    if request.suite.tests_dir.is_some() {
        for kind in SuiteKind::ALL {
            let variable = format!("{}_JSON", kind.as_str().to_ascii_uppercase());
            set(&variable, &request.file_of(kind));
        }
    }
    device_variables(&request.devices, &mut set);
    match request.profile {
        Profile::Trusted => trusted(request, &mut set),
        Profile::Untrusted { .. } => untrusted(request, &mut set),
    }
    for (name, value) in &request.env {
        set(name, value);
    }
    let hf_token = request.secrets.hf_token.iter().map(|_| "HF_TOKEN");
    for name in request.secrets.env.keys().map(String::as_str).chain(hf_token) {
        env.insert(name.to_owned(), EnvValue::Secret);
    }
    env.into_iter().map(|(name, value)| EnvVar { name, value }).collect()
}

fn device_variables(devices: &DeviceAccess, set: &mut impl FnMut(&str, &str)) {
    match devices {
        DeviceAccess::Cuda { capabilities, .. } => set("NVIDIA_DRIVER_CAPABILITIES", capabilities),
        DeviceAccess::Rocm { visible, .. } => {
            set("ROCR_VISIBLE_DEVICES", &visible.join(","));
            // HIP counts among what ROCR left visible.
            let among: Vec<String> = (0..visible.len()).map(|index| index.to_string()).collect();
            set("HIP_VISIBLE_DEVICES", &among.join(","));
        }
        DeviceAccess::Hpu { variable, modules, .. } => set(variable, &modules.join(",")),
        DeviceAccess::Cpu => {}
    }
}

fn trusted(request: &PassRequest, set: &mut impl FnMut(&str, &str)) {
    set("SCCACHE_SERVER_PORT", &request.runner_uid.saturating_add(SCCACHE_PORT).to_string());
    set("HF_TOKEN", NO_TOKEN);
    let (dir, offline) = match &request.cache {
        ModelCache::Host { dir, online } => (Some(dir), !online),
        ModelCache::Private { dir } => (Some(dir), false),
        ModelCache::None => (None, true),
    };
    set("TRANSFORMERS_OFFLINE", if offline { "1" } else { "0" });
    if let Some(dir) = dir.and_then(|dir| dir.to_str()) {
        set("HF_HOME", dir);
        set("FLASHINFER_WORKSPACE_BASE", dir);
    }
}

fn untrusted(request: &PassRequest, set: &mut impl FnMut(&str, &str)) {
    set("HF_TOKEN", TOKEN_OF_UNTRUSTED);
    // pip would otherwise try for minutes to reach an index.
    for name in ["TRANSFORMERS_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "PIP_NO_INDEX"] {
        set(name, "1");
    }
    if let Some(dir) = request.cache.dir().and_then(|dir| dir.to_str()) {
        set("HF_HOME", dir);
    }
    // The host's cache cannot be written: what is compiled or unpacked goes elsewhere and dies with the container.
    for (name, folder) in [
        ("XDG_CACHE_HOME", "xdg"),
        ("VLLM_CACHE_ROOT", "vllm"),
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
        ("TRITON_CACHE_DIR", "triton"),
        ("FLASHINFER_WORKSPACE_BASE", "flashinfer"),
        ("HF_MODULES_CACHE", "hf-modules"),
        ("HF_DATASETS_CACHE", "hf-datasets"),
    ] {
        set(name, &format!("{UNTRUSTED_CACHE}/{folder}"));
    }
}
