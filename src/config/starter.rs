//! The configuration that `benchd init` writes: pure text from what was found on the host, commented, small, and
//! accepted as it stands.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::human;
use crate::model::{Platform, RepoName};

/// What was found on a host, as far as a first configuration needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The platform.
    pub platform: Platform,
    /// The devices in words, or why they could not be asked.
    pub devices: String,
    /// The Docker Engine's address, if one was found.
    pub docker_host: Option<String>,
    /// The folder of the Hugging Face cache, if one was found.
    pub model_cache: Option<PathBuf>,
    /// Free space where the cache is, or would be, in bytes.
    pub free_bytes: Option<u64>,
    /// The environment variable that holds a GitHub token now, if one does.
    pub github_token_env: Option<&'static str>,
    /// Whether the environment variable `HF_TOKEN` is set.
    pub has_hf_token: bool,
    /// The folder with benchmark files, if one was found.
    pub benchmarks: Option<PathBuf>,
}

/// The name of the repository for which vLLM's suite is meant.
pub const VLLM: &str = "vllm-project/vllm";

/// A configuration for `repo` on this host.
pub fn starter(repo: &RepoName, facts: &HostFacts) -> String {
    let mut text = String::from(
        "# Configuration of benchd, written by `benchd init` for this host. Every other key and its default:\n\
         # docs/configuration.md, or `benchd check-config --print-defaults`. Check it with `benchd check-config`.\n\n",
    );
    github(&mut text, facts);
    repository(&mut text, repo, facts);
    execution(&mut text, facts);
    text
}

/// Appends lines; writing to a text cannot fail.
fn add(text: &mut String, lines: std::fmt::Arguments<'_>) {
    if text.write_fmt(lines).is_err() {
        // A text takes whatever is written to it.
    }
}

fn github(text: &mut String, facts: &HostFacts) {
    let (comment, env) = match facts.github_token_env {
        Some(env) => ("", env),
        None => ("# ", "GITHUB_TOKEN"),
    };
    add(
        text,
        format_args!(
            "# A personal access token and polling are enough to begin with: no public address, no webhook. The token\n\
             # is read from this variable (or from a file: `token_file: PATH`); without one\n\
             # public data is read by the daemon, and `benchd run` is told branch, commit and time by flags or a checkout.\n\
             {comment}github:\n{comment}  token_env: {env}\n\n"
        ),
    );
}

fn repository(text: &mut String, repo: &RepoName, facts: &HostFacts) {
    add(text, format_args!("repositories:\n  - name: {repo}\n    branch: [main]\n"));
    match repo.as_str() {
        VLLM => vllm(text, facts),
        _ => command(text, facts),
    }
    text.push_str(
        "    # Where results go besides the store: a bucket (s3://bucket) or a folder.\n\
         \x20   # publish:\n\
         \x20   #   to: [{url: \"file:///srv/benchmark-results\"}]\n\n",
    );
}

fn vllm(text: &mut String, facts: &HostFacts) {
    let found = facts.benchmarks.as_deref();
    let (folder, missing) = match found {
        Some(folder) => (folder, ""),
        None => (Path::new("benchmarks"), "    # benchd's own set, to begin with.\n"),
    };
    add(
        text,
        format_args!(
            "    # vLLM's performance benchmarks in the CI image of each commit: both are built in.\n\
             \x20   # Which models and benchmarks, one folder for each platform (this host: {platform}).\n\
             {missing}    benchmarks: {folder}\n",
            platform = facts.platform,
            folder = quoted(folder),
        ),
    );
}

fn command(text: &mut String, facts: &HostFacts) {
    add(
        text,
        format_args!(
            "    # To change: what measures, and what builds the repository before.\n\
             \x20   suite:\n\
             \x20     command: ./bench.sh\n\
             \x20     # prepare: make\n\
             \x20     # A list of {{name, value, unit, better}}, relative to the repository.\n\
             \x20     results: results.json\n\
             \x20     format: list\n\
             \x20   # To change: an image with what that needs. The repository is put into it at each commit; an image of\n\
             \x20   # each commit's own is named by {{sha}} in its tag.\n\
             \x20   images:\n\
             \x20     {platform}: docker.io/library/debian:12\n",
            platform = facts.platform,
        ),
    );
}

fn execution(text: &mut String, facts: &HostFacts) {
    add(text, format_args!("# This host: {}.\nexecution:\n", one_line(&facts.devices)));
    match &facts.docker_host {
        Some(host) => add(text, format_args!("  docker_host: {}\n", quoted(Path::new(host)))),
        None => text.push_str(
            "  # No Docker Engine was found: install one, or say where it is.\n\
             \x20 # docker_host: unix:///var/run/docker.sock\n",
        ),
    }
    text.push_str("  # Stop what takes longer.\n  limits: {job_timeout: 6h, point_timeout: 1h}\n  cache:\n");
    let free = facts.free_bytes.map(|bytes| format!(" ({} free)", human(bytes))).unwrap_or_default();
    match &facts.model_cache {
        Some(dir) => add(
            text,
            format_args!(
                "    # Models of this host{free}. `offline: true`: only what is there, nothing is downloaded in a run.\n\
                 \x20   dir: {}\n    offline: false\n",
                quoted(dir)
            ),
        ),
        None => add(
            text,
            format_args!(
                "    # No model cache was found: while this folder is missing, one in the state folder is used{free}.\n\
                 \x20   dir: /mnt/hf_cache\n    offline: false\n"
            ),
        ),
    }
    let comment = if facts.has_hf_token { "" } else { "# " };
    add(
        text,
        format_args!(
            "  # Token for gated models, given to trusted containers only (or `hf_token_file: PATH`).\n\
             \x20 {comment}hf_token_env: HF_TOKEN\n"
        ),
    );
}

fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A path as YAML takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c)) && !text.ends_with(':');
    if plain && !text.is_empty() { text.into_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use crate::config::{BenchmarksSource, Config};

    use super::*;

    fn bare() -> HostFacts {
        HostFacts {
            platform: Platform::Cpu,
            devices: "cpu, Xeon_6972P_192c".to_owned(),
            docker_host: None,
            model_cache: None,
            free_bytes: None,
            github_token_env: None,
            has_hf_token: false,
            benchmarks: None,
        }
    }

    fn full() -> HostFacts {
        HostFacts {
            platform: Platform::Cuda,
            devices: "cuda, 8 x NVIDIA H100 80GB HBM3".to_owned(),
            docker_host: Some("unix:///var/run/docker.sock".to_owned()),
            model_cache: Some("/data/hugging face: 'cache'".into()),
            free_bytes: Some(700 << 30),
            github_token_env: Some("GH_TOKEN"),
            has_hf_token: true,
            benchmarks: Some("/usr/share/benchd/benchmarks".into()),
        }
    }

    #[test]
    fn every_starter_is_accepted() {
        for facts in [bare(), full()] {
            for repo in [VLLM, "example/project"] {
                let text = starter(&repo.parse().unwrap(), &facts);
                let config = Config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
                assert_eq!(config.repositories[0].name.as_str(), repo);
            }
        }
    }

    #[test]
    fn what_was_found_is_used() {
        let config = Config::parse(&starter(&VLLM.parse().unwrap(), &full())).unwrap();
        assert_eq!(config.execution.cache.dir.to_str(), Some("/data/hugging face: 'cache'"));
        assert_eq!(config.github.token_env.as_deref(), Some("GH_TOKEN"));
        assert_eq!(config.execution.hf_token_env.as_deref(), Some("HF_TOKEN"));
        let benchmarks = BenchmarksSource::Folder("/usr/share/benchd/benchmarks".into());
        assert_eq!(config.repositories[0].benchmarks, benchmarks);
        let config = Config::parse(&starter(&VLLM.parse().unwrap(), &bare())).unwrap();
        assert_eq!((config.github.token(), config.execution.docker_host), (None, None));
    }

    #[test]
    fn a_starter_reads_well() {
        insta::assert_snapshot!(starter(&VLLM.parse().unwrap(), &HostFacts { benchmarks: None, ..full() }));
    }
}
