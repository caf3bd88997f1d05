//! One repository that is measured, and where its benchmarks are kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{BranchName, Platform, RepoName};

use super::images::{ImageSource, ImagesConfig};
use super::shape::{self, Expecting, TextOr};
use super::suite::{SuiteConfig, SuiteFlavour};
use super::{CompareConfig, PublishConfig, ReportConfig, SelectionConfig, TriggersConfig};

/// A repository and how it is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// `owner/name`. Required.
    pub name: RepoName,
    /// Branches that the schedule and merges follow; the first is where a manual run looks. Default: `[main]`.
    #[serde(default = "main_branch", deserialize_with = "shape::one_or_many")]
    pub branch: Vec<BranchName>,
    /// A clone on this host that is asked for branches and commits instead of GitHub's API; something else keeps it
    /// up to date. Default: none, GitHub is asked.
    #[serde(default)]
    pub checkout: Option<PathBuf>,
    /// What is executed. Default: `vllm`.
    #[serde(default)]
    pub suite: SuiteConfig,
    /// Where the benchmark files are: a folder, or `{git, ref, path}`. Default: `benchmarks` beside this file.
    #[serde(default)]
    pub benchmarks: BenchmarksSource,
    /// Which image belongs to a commit. Default: vLLM's CI images for a suite of kind `vllm`, else required.
    #[serde(default)]
    pub images: ImagesConfig,
    /// When a commit is measured.
    #[serde(default)]
    pub triggers: TriggersConfig,
    /// How much is measured, for each trigger.
    #[serde(default)]
    pub selection: SelectionConfig,
    /// How a candidate is held against its baseline.
    #[serde(default)]
    pub compare: CompareConfig,
    /// Where results go.
    #[serde(default)]
    pub publish: PublishConfig,
    /// What pull requests are told.
    #[serde(default)]
    pub report: ReportConfig,
}

/// Where benchmark files are kept. They are read whenever a run is planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TextOr<GitBenchmarks>", into = "WrittenBenchmarks")]
pub enum BenchmarksSource {
    /// A folder on this host with one folder for each platform.
    Folder(PathBuf),
    /// A folder of a git repository.
    Git {
        /// Address for `git clone`.
        url: String,
        /// Branch, tag or commit. Default: `main`.
        reference: String,
        /// Folder in the repository. Default: `benchmarks`.
        path: PathBuf,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct GitBenchmarks {
    git: String,
    #[serde(rename = "ref", default = "main_reference")]
    reference: String,
    #[serde(default = "benchmarks_folder")]
    path: PathBuf,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenBenchmarks {
    Folder(PathBuf),
    Git(GitBenchmarks),
}

fn main_branch() -> Vec<BranchName> {
    "main".parse().into_iter().collect()
}

fn main_reference() -> String {
    "main".to_owned()
}

fn benchmarks_folder() -> PathBuf {
    PathBuf::from("benchmarks")
}

fn set_if_empty(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}

impl Expecting for GitBenchmarks {
    const EXPECTING: &'static str = "a folder or a mapping with `git`, `ref` and `path`";
}

impl From<TextOr<GitBenchmarks>> for BenchmarksSource {
    fn from(written: TextOr<GitBenchmarks>) -> Self {
        match written {
            TextOr::Text(folder) => Self::Folder(PathBuf::from(folder)),
            TextOr::Mapping(GitBenchmarks { git, reference, path }) => Self::Git { url: git, reference, path },
        }
    }
}

impl From<BenchmarksSource> for WrittenBenchmarks {
    fn from(source: BenchmarksSource) -> Self {
        match source {
            BenchmarksSource::Folder(path) => Self::Folder(path),
            BenchmarksSource::Git { url, reference, path } => Self::Git(GitBenchmarks { git: url, reference, path }),
        }
    }
}

impl Default for BenchmarksSource {
    fn default() -> Self {
        Self::Folder(benchmarks_folder())
    }
}

impl RepositoryConfig {
    /// `name` with every default.
    pub fn new(name: RepoName) -> Self {
        let mut repository = Self {
            name,
            branch: main_branch(),
            checkout: None,
            suite: SuiteConfig::default(),
            benchmarks: BenchmarksSource::default(),
            images: ImagesConfig::default(),
            triggers: TriggersConfig::default(),
            selection: SelectionConfig::default(),
            compare: CompareConfig::default(),
            publish: PublishConfig::default(),
            report: ReportConfig::default(),
        };
        repository.fill();
        repository
    }

    /// Sets the defaults that follow from other keys: a suite of kind `vllm` has vLLM's CI images and the name that
    /// vLLM's dashboard asks for, any other has the repository's name.
    pub fn fill(&mut self) {
        let name = &mut self.publish.benchmark_name;
        match self.suite.kind {
            SuiteFlavour::Vllm => {
                self.images.fill(ImageSource::vllm);
                set_if_empty(name, "vLLM benchmark");
            }
            SuiteFlavour::Command => set_if_empty(name, self.name.as_str()),
        }
    }

    /// How the image for `platform` is found; `None` when this repository has none there.
    pub fn image_source(&self, platform: Platform) -> Option<&ImageSource> {
        self.images.source(platform)
    }
}
