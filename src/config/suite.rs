//! What is executed in the container: command, working folder, where its configuration goes in, where results come
//! out, how expected points are named. vLLM's suite is built in; `command` serves any other project.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::shape::{self, Expecting, TextOr};

/// A suite as it is executed, every key filled in. Written as the name of a built-in one (`vllm`) or as a mapping,
/// whose missing keys are taken from the built-in suite named by `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TextOr<SuiteKeys>")]
pub struct SuiteConfig {
    /// Which built-in suite the missing keys come from: `vllm` or `command`. Default: `command` when `command` is
    /// given, else `vllm`.
    pub kind: SuiteFlavour,
    /// Shell command that measures, run in `working_dir`. Default for `vllm`:
    /// `bash .buildkite/performance-benchmarks/scripts/run-performance-benchmarks.sh`; `command` has none.
    pub command: String,
    /// Shell command that builds the repository in `working_dir` before `command` runs. Default: none.
    pub prepare: Option<String>,
    /// Folder in the container in which `command` runs, and into which the repository is put where it is needed.
    /// Default for `vllm`: `/vllm-workspace`, with `scripts: repository` `/tmp/workspace/vllm-benchmarks/vllm`; for
    /// `command`: `/workspace`.
    pub working_dir: PathBuf,
    /// Where the suite's scripts come from: `image` or `repository` (at the commit that is measured). Default:
    /// `image`. An image reference without `{sha}` always gets the repository.
    pub scripts: ScriptSource,
    /// Folder, relative to `working_dir`, in which the suite looks for its benchmark files; old ones are removed
    /// first. Default for `vllm`: `.buildkite/performance-benchmarks/tests`; for `command`: none, nothing is put in.
    pub configuration: Option<PathBuf>,
    /// Folder or file, relative to `working_dir`, in which results come out. Default for `vllm`:
    /// `benchmarks/results`; for `command`: `results`.
    pub results: PathBuf,
    /// What is written there: `pytorch`, `list`, `github_action_benchmark` or `bencher`. Default for `vllm`:
    /// `pytorch`; for `command`: `list`.
    pub format: ResultFormat,
    /// Which points must come out: `benchmarks` (those that the benchmark files name, by vLLM's naming), `any`
    /// (whatever comes, at least one), or a list of names. Default for `vllm`: `benchmarks`; for `command`: `any`.
    pub expected: ExpectedPoints,
    /// Environment variables of every container of this suite, trusted or not: no secrets. Default for `vllm`:
    /// `ENGINE_VERSION=v1`, `SAVE_TO_PYTORCH_BENCHMARK_FORMAT=1`, `SCCACHE_BUCKET`, `SCCACHE_REGION`; for `command`:
    /// none.
    pub env: BTreeMap<String, String>,
}

/// Which built-in suite is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuiteFlavour {
    /// vLLM's performance benchmarks.
    #[default]
    Vllm,
    /// A command of the project's own.
    Command,
}

/// Where the suite's scripts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptSource {
    /// From the image, which was built from the commit.
    #[default]
    Image,
    /// From the repository at the commit, put into the working folder.
    Repository,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultFormat {
    /// Records of the PyTorch benchmark database beside the suite's native results.
    Pytorch,
    /// A list of `{name, value, unit, better}`.
    List,
    /// The JSON of github-action-benchmark.
    GithubActionBenchmark,
    /// Bencher Metric Format.
    Bencher,
}

/// Which points must come out of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedPoints {
    /// Those that the benchmark files name, by vLLM's naming.
    Benchmarks,
    /// Whatever comes, at least one.
    Any,
    /// These.
    Named(Vec<String>),
}

/// The suite has no command.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSuite {
    /// Not the name of a built-in suite.
    #[error("`{0}` is not a built-in suite (`vllm`; another project's suite is a mapping with `command`)")]
    Unknown(String),
    /// `kind: command` without one.
    #[error("missing field `command`")]
    NoCommand,
}

const VLLM_COMMAND: &str = "bash .buildkite/performance-benchmarks/scripts/run-performance-benchmarks.sh";
const VLLM_ENV: [(&str, &str); 4] = [
    ("ENGINE_VERSION", "v1"),
    ("SAVE_TO_PYTORCH_BENCHMARK_FORMAT", "1"),
    ("SCCACHE_BUCKET", "ossci-compiler-cache-circleci-v2"),
    ("SCCACHE_REGION", "us-east-1"),
];

/// A suite as it is written: what is missing comes from the built-in one.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SuiteKeys {
    kind: Option<SuiteFlavour>,
    command: Option<String>,
    prepare: Option<String>,
    working_dir: Option<PathBuf>,
    scripts: ScriptSource,
    configuration: Option<PathBuf>,
    results: Option<PathBuf>,
    format: Option<ResultFormat>,
    expected: Option<ExpectedPoints>,
    #[serde(deserialize_with = "shape::variables")]
    env: Option<BTreeMap<String, String>>,
}

impl Expecting for SuiteKeys {
    const EXPECTING: &'static str = "the name of a built-in suite (`vllm`) or a mapping with `command`";
}

impl SuiteConfig {
    /// vLLM's performance benchmarks, scripts from the image.
    pub fn vllm() -> Self {
        Self::vllm_with(SuiteKeys::default())
    }

    fn vllm_with(keys: SuiteKeys) -> Self {
        let folder = match keys.scripts {
            ScriptSource::Image => "/vllm-workspace",
            ScriptSource::Repository => "/tmp/workspace/vllm-benchmarks/vllm",
        };
        let env = || VLLM_ENV.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self {
            kind: SuiteFlavour::Vllm,
            command: keys.command.unwrap_or_else(|| VLLM_COMMAND.to_owned()),
            prepare: keys.prepare,
            working_dir: keys.working_dir.unwrap_or_else(|| PathBuf::from(folder)),
            scripts: keys.scripts,
            configuration: Some(
                keys.configuration.unwrap_or_else(|| PathBuf::from(".buildkite/performance-benchmarks/tests")),
            ),
            results: keys.results.unwrap_or_else(|| PathBuf::from("benchmarks/results")),
            format: keys.format.unwrap_or(ResultFormat::Pytorch),
            expected: keys.expected.unwrap_or(ExpectedPoints::Benchmarks),
            env: keys.env.unwrap_or_else(env),
        }
    }

    fn command_with(keys: SuiteKeys) -> Result<Self, InvalidSuite> {
        Ok(Self {
            kind: SuiteFlavour::Command,
            command: keys.command.ok_or(InvalidSuite::NoCommand)?,
            prepare: keys.prepare,
            working_dir: keys.working_dir.unwrap_or_else(|| PathBuf::from("/workspace")),
            scripts: keys.scripts,
            configuration: keys.configuration,
            results: keys.results.unwrap_or_else(|| PathBuf::from("results")),
            format: keys.format.unwrap_or(ResultFormat::List),
            expected: keys.expected.unwrap_or(ExpectedPoints::Any),
            env: keys.env.unwrap_or_default(),
        })
    }

    /// The folder in the container in which the suite looks for its benchmark files, if it takes any.
    pub fn configuration_dir(&self) -> Option<PathBuf> {
        self.configuration.as_ref().map(|folder| self.working_dir.join(folder))
    }

    /// The folder or file in the container in which results come out.
    pub fn results_path(&self) -> PathBuf {
        self.working_dir.join(&self.results)
    }
}

impl Default for SuiteConfig {
    fn default() -> Self {
        Self::vllm()
    }
}

impl TryFrom<TextOr<SuiteKeys>> for SuiteConfig {
    type Error = InvalidSuite;

    fn try_from(written: TextOr<SuiteKeys>) -> Result<Self, Self::Error> {
        match written {
            TextOr::Text(name) if name == "vllm" => Ok(Self::vllm()),
            TextOr::Text(name) => Err(InvalidSuite::Unknown(name)),
            TextOr::Mapping(keys) => match (keys.kind, &keys.command) {
                (Some(SuiteFlavour::Vllm), _) | (None, None) => Ok(Self::vllm_with(keys)),
                (Some(SuiteFlavour::Command), _) | (None, Some(_)) => Self::command_with(keys),
            },
        }
    }
}

impl fmt::Display for SuiteFlavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vllm => "suite vllm",
            Self::Command => "a command of its own",
        })
    }
}

impl Serialize for ExpectedPoints {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Benchmarks => serializer.serialize_str("benchmarks"),
            Self::Any => serializer.serialize_str("any"),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ExpectedPoints {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names: Vec<String> = shape::one_or_many(deserializer)?;
        Ok(match names.as_slice() {
            [one] if one == "benchmarks" => Self::Benchmarks,
            [one] if one == "any" => Self::Any,
            [] | [..] => Self::Named(names),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<SuiteConfig, serde_yaml::Error> {
        serde_yaml::from_str(yaml)
    }

    #[test]
    fn the_default_is_vllm() {
        assert_eq!(read("vllm").unwrap(), SuiteConfig::default());
        let suite = read("{scripts: repository}").unwrap();
        assert_eq!(suite.results_path().to_str().unwrap(), "/tmp/workspace/vllm-benchmarks/vllm/benchmarks/results");
        assert_eq!(
            SuiteConfig::default().configuration_dir().unwrap().to_str().unwrap(),
            "/vllm-workspace/.buildkite/performance-benchmarks/tests"
        );
    }

    #[test]
    fn a_command_makes_a_command_suite() {
        let suite = read("{command: make bench, prepare: make, env: {N: 1}}").unwrap();
        assert_eq!(suite.kind, SuiteFlavour::Command);
        assert_eq!(suite.configuration_dir(), None);
        assert_eq!(suite.results_path().to_str().unwrap(), "/workspace/results");
        assert_eq!(suite.expected, ExpectedPoints::Any);
        assert_eq!(suite.env["N"], "1");
        let suite = read("{kind: vllm, command: ./own.sh, expected: [a, b]}").unwrap();
        assert_eq!(suite.format, ResultFormat::Pytorch);
        assert_eq!(suite.expected, ExpectedPoints::Named(vec!["a".to_owned(), "b".to_owned()]));
        assert!(read("{kind: command}").unwrap_err().to_string().contains("missing field `command`"));
        assert!(read("sglang").unwrap_err().to_string().contains("is not a built-in suite"));
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for suite in [SuiteConfig::default(), read("{command: make bench, expected: [a]}").unwrap()] {
            let printed = serde_yaml::to_string(&suite).unwrap();
            assert_eq!(read(&printed).unwrap(), suite, "{printed}");
        }
    }
}
