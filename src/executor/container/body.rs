//! The specification as the engine reads it.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, DeviceMapping, DeviceRequest, HostConfig, HostConfigLogConfig};

use super::{ContainerSpec, DeviceAccess, EnvValue, EnvVar, Mount, Profile, Secrets};

/// A name server that does not answer (TEST-NET-1, RFC 5737): the engine's resolver would otherwise carry queries of an
/// untrusted container out of a network that has no way out.
pub(super) const NO_RESOLVER: &str = "192.0.2.1";

/// What the engine keeps of a container's output, so that a log can be read again after a restart and still never
/// fills the disk.
const LOG_OPTIONS: [(&str, &str); 2] = [("max-size", "256m"), ("max-file", "2")];

/// The body of the create request, the values of the secrets filled in.
pub fn create_body(spec: &ContainerSpec, secrets: &Secrets) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: Some(ContainerSpec::entrypoint()),
        cmd: Some(Vec::new()),
        env: Some(spec.env.iter().map(|var| assignment(var, secrets)).collect()),
        working_dir: Some(spec.working_dir.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        tty: Some(has_terminal(&spec.profile)),
        host_config: Some(host_config(spec)),
        ..Default::default()
    }
}

/// Whether the suite prints to a terminal. A stranger's does not: without one the engine frames what it prints, so that
/// output without line feeds cannot pile up in benchd.
fn has_terminal(profile: &Profile) -> bool {
    match profile {
        Profile::Trusted => true,
        Profile::Untrusted { .. } => false,
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let memory = spec.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    let base = HostConfig {
        binds: Some(spec.mounts.iter().map(Mount::volume).collect()),
        memory,
        memory_swap: memory,
        pids_limit: spec.pids.map(i64::from),
        nano_cpus: spec.cpus.and_then(nano_cpus),
        cpuset_cpus: spec.binding.as_ref().map(|binding| binding.cpus.to_string()),
        cpuset_mems: spec.binding.as_ref().and_then(|binding| Some(binding.memory_nodes.as_ref()?.to_string())),
        shm_size: i64::try_from(spec.shm_bytes).ok(),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(LOG_OPTIONS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        }),
        ..device_config(&spec.devices)
    };
    match &spec.profile {
        Profile::Trusted => HostConfig {
            ipc_mode: Some("host".to_owned()),
            security_opt: Some(vec!["seccomp=unconfined".to_owned()]),
            ..base
        },
        Profile::Untrusted { network } => HostConfig {
            ipc_mode: Some("private".to_owned()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            cap_drop: Some(vec!["ALL".to_owned()]),
            network_mode: Some(network.clone()),
            dns: Some(vec![NO_RESOLVER.to_owned()]),
            ..base
        },
    }
}

fn device_config(devices: &DeviceAccess) -> HostConfig {
    match devices {
        DeviceAccess::Cuda { ids, .. } => HostConfig {
            device_requests: Some(vec![DeviceRequest {
                driver: Some(String::new()),
                count: None,
                device_ids: Some(ids.clone()),
                capabilities: Some(vec![vec!["gpu".to_owned()]]),
                options: Some(HashMap::new()),
            }]),
            ..Default::default()
        },
        DeviceAccess::Rocm { nodes, groups, .. } => HostConfig {
            devices: Some(nodes.iter().map(|node| device_node(node)).collect()),
            group_add: Some(groups.clone()),
            ..Default::default()
        },
        DeviceAccess::Hpu { runtime, .. } => HostConfig { runtime: Some(runtime.clone()), ..Default::default() },
        DeviceAccess::Cpu => HostConfig::default(),
    }
}

fn device_node(node: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(node.to_owned()),
        path_in_container: Some(node.to_owned()),
        cgroup_permissions: Some("rwm".to_owned()),
    }
}

fn assignment(var: &EnvVar, secrets: &Secrets) -> String {
    let value = match &var.value {
        EnvValue::Plain(value) => value,
        EnvValue::Secret => secrets.value(&var.name).unwrap_or_default(),
    };
    format!("{}={value}", var.name)
}

/// Processors as the engine counts them, in billionths; `None` for what is no number of processors.
fn nano_cpus(cpus: f64) -> Option<i64> {
    let nano = (cpus * 1e9).round();
    #[expect(clippy::cast_possible_truncation, reason = "within the range checked right here")]
    (1.0..1e15).contains(&nano).then_some(nano as i64)
}
