//! The specification as commands of a person's shell, which repeat the pass without benchd.

use std::path::Path;

use super::body::NO_RESOLVER;
use super::{BENCHD_DIR, ContainerSpec, DeviceAccess, EnvValue, Profile};
use crate::executor::network::OPTIONS;

const GIB: u64 = 1 << 30;

/// The arguments of `docker create` (or `docker run`) that make the same container; a secret variable stands without
/// its value, which the docker command then takes from its own environment.
pub fn create_arguments(spec: &ContainerSpec) -> Vec<String> {
    let mut args = Vec::new();
    let mut add = |parts: &[&str]| args.extend(parts.iter().map(|part| (*part).to_owned()));
    match &spec.devices {
        DeviceAccess::Cuda { ids, .. } => add(&["--gpus", &format!("\"device={}\"", ids.join(","))]),
        DeviceAccess::Rocm { nodes, groups, .. } => {
            nodes.iter().for_each(|node| add(&[&format!("--device={node}")]));
            groups.iter().for_each(|group| add(&["--group-add", group]));
        }
        DeviceAccess::Hpu { runtime, .. } => add(&[&format!("--runtime={runtime}")]),
        DeviceAccess::Cpu => {}
    }
    if let Some(binding) = &spec.binding {
        add(&[&format!("--cpuset-cpus={}", binding.cpus)]);
        if let Some(nodes) = &binding.memory_nodes {
            add(&[&format!("--cpuset-mems={nodes}")]);
        }
    }
    for var in &spec.env {
        match &var.value {
            EnvValue::Plain(value) => add(&["-e", &format!("{}={value}", var.name)]),
            EnvValue::Secret => add(&["-e", &var.name]),
        }
    }
    match &spec.profile {
        Profile::Trusted => add(&["--ipc=host", "--tty", "--security-opt", "seccomp=unconfined"]),
        Profile::Untrusted { network } => {
            add(&["--ipc=private", "--security-opt", "no-new-privileges", "--cap-drop", "ALL"]);
            add(&[&format!("--network={network}"), "--dns", NO_RESOLVER]);
        }
    }
    if let Some(bytes) = spec.memory_bytes {
        add(&[&format!("--memory={bytes}"), &format!("--memory-swap={bytes}")]);
    }
    if let Some(pids) = spec.pids {
        add(&[&format!("--pids-limit={pids}")]);
    }
    if let Some(cpus) = spec.cpus {
        add(&[&format!("--cpus={cpus}")]);
    }
    add(&[&match spec.shm_bytes % GIB {
        0 => format!("--shm-size={}g", spec.shm_bytes / GIB),
        _ => format!("--shm-size={}", spec.shm_bytes),
    }]);
    for mount in &spec.mounts {
        add(&["-v", &mount.volume()]);
    }
    add(&["-w", &spec.working_dir, "--entrypoint", "bash", &spec.image, &format!("{BENCHD_DIR}/entry.sh")]);
    args
}

/// Commands that repeat the pass: the container, what is put into it (`input.tar` as it was kept, and the workspace if
/// the image lacks the repository), its output, its results in `./results`.
pub fn repeat(spec: &ContainerSpec, input: &Path, workspace: Option<&Path>, results_dir: &Path) -> String {
    let create: Vec<String> = create_arguments(spec).iter().map(|arg| quote(arg)).collect();
    let secrets: Vec<&str> =
        spec.env.iter().filter(|var| var.value == EnvValue::Secret).map(|var| var.name.as_str()).collect();
    let mut lines = Vec::new();
    if !secrets.is_empty() {
        lines.push(format!("# set before: {}", secrets.join(", ")));
    }
    match &spec.profile {
        Profile::Trusted => {}
        Profile::Untrusted { network } => {
            let options: String = OPTIONS.iter().map(|(key, value)| format!(" --opt {key}={value}")).collect();
            lines.push(format!(
                "docker network inspect {network} >/dev/null || docker network create --internal{options} {network}"
            ));
        }
    }
    lines.push(format!("id=$(docker create {})", create.join(" ")));
    if let Some(workspace) = workspace {
        let (to, from) = (quote(&spec.working_dir), quote(&workspace.display().to_string()));
        lines.push(format!("docker cp - \"$id:\"{to} < {from}"));
    }
    lines.push(format!("docker cp - \"$id:/\" < {}", quote(&input.display().to_string())));
    lines.push("docker start --attach \"$id\"".to_owned());
    lines.push(format!("docker cp \"$id:\"{} ./results", quote(&results_dir.display().to_string())));
    lines.push("docker rm --volumes \"$id\"".to_owned());
    lines.join("\n")
}

/// `text` as one word of a POSIX shell.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
