//! The only place that reads environment variables; everything else is told what it needs.
#![expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::redact;

/// The variable's value, `None` when it is not set or empty.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The variable's value as text, `None` when it is not set, empty or not UTF-8.
pub fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// The variable's value as a path, `None` when it is not set or empty.
pub fn path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// The person's home folder (`HOME`).
pub fn home_dir() -> Option<PathBuf> {
    path("HOME")
}

/// The folder of Docker's credential file: `DOCKER_CONFIG`, else `~/.docker`.
pub fn docker_config_dir() -> Option<PathBuf> {
    path("DOCKER_CONFIG").or_else(|| Some(home_dir()?.join(".docker")))
}

/// Where the Docker Engine is, by `DOCKER_HOST`.
pub fn docker_host() -> Option<String> {
    text("DOCKER_HOST")
}

/// The proxy for addresses of this scheme, and the variable that names it: `HTTPS_PROXY` or `HTTP_PROXY`, else
/// `ALL_PROXY`, each also in lower case. A password in it is remembered, so that no line of the log can hold it.
pub fn proxy_for(scheme: &str) -> Option<(String, String)> {
    let names = [format!("{}_PROXY", scheme.to_uppercase()), "ALL_PROXY".to_owned()];
    let found = names.into_iter().flat_map(|name| [name.to_lowercase(), name]);
    let (name, address) = found.into_iter().find_map(|name| text(&name).map(|address| (name, address)))?;
    if let Some(password) = url::Url::parse(&address).ok().and_then(|url| url.password().map(str::to_owned)) {
        redact::learn(&password);
    }
    Some((name, address))
}

/// The hosts that are reached without a proxy: `NO_PROXY`, also in lower case.
pub fn no_proxy() -> Option<String> {
    text("no_proxy").or_else(|| text("NO_PROXY"))
}

/// Where this process is to abort, for tests of what a kill leaves (`BENCHD_ABORT_AT`).
#[cfg(debug_assertions)]
pub fn abort_at() -> Option<String> {
    text("BENCHD_ABORT_AT")
}

/// The folders in which tools are looked for (`PATH`).
pub fn search_path() -> Vec<PathBuf> {
    variable("PATH").map(|value| std::env::split_paths(&value).collect()).unwrap_or_default()
}

/// The model cache a person has set up: `HF_HOME`.
pub fn hf_home() -> Option<PathBuf> {
    path("HF_HOME")
}

/// The numeric id of the user that benchd runs as; 65534 (nobody) when the kernel does not tell.
pub fn user_id() -> u32 {
    std::fs::metadata("/proc/self").map_or(65534, |own| own.uid())
}

/// Whether benchd runs as root.
pub fn is_root() -> bool {
    user_id() == 0
}

/// Where state goes when nothing is configured: `BENCHD_STATE_DIR`, systemd's `STATE_DIRECTORY`,
/// `/var/lib/benchd` for root, and for a user `$XDG_STATE_HOME/benchd` or `~/.local/state/benchd`.
pub fn default_state_dir() -> PathBuf {
    if let Some(dir) = path("BENCHD_STATE_DIR") {
        return dir;
    }
    if let Some(dirs) = text("STATE_DIRECTORY") {
        // systemd separates several folders by a colon; the first is the service's own.
        return PathBuf::from(dirs.split(':').next().unwrap_or(&dirs));
    }
    let users = || path("XDG_STATE_HOME").or_else(|| Some(home_dir()?.join(".local/state")));
    match is_root() {
        true => PathBuf::from("/var/lib/benchd"),
        false => users().map_or_else(|| PathBuf::from("/var/lib/benchd"), |state| state.join("benchd")),
    }
}
