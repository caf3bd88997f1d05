//! Decides which jobs (target and model) and which points a commit is measured with, and writes the suite files that
//! each job's container is given. Pure: benchmark files and wishes in, a plan out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::model::{DeviceType, ExpectedPoint, Platform, SuiteKind, Target, Variant};
use crate::suite::{Benchmark, BenchmarkFile, BenchmarkSet, CompilationConfig, Form, file_name, json_line};

/// What of the benchmarks is wanted; an empty list means all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Models, compared trimmed and without regard to case.
    pub models: Vec<String>,
    /// Suites.
    pub suites: Vec<SuiteKind>,
    /// Variants, taken at their word on every platform; all means those that [`Platform::has_variants`] allows.
    pub variants: Vec<Variant>,
    /// Compilation configuration of base; variants have their own.
    pub compilation_config: Option<CompilationConfig>,
    /// Files that the suite is told to read instead of its usual ones: see [`told_file_names`].
    pub file_names: BTreeMap<SuiteKind, String>,
}

/// The variable of a suite's container names no file in the suite's folder.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is `{value}`: a bare file name is needed, one that the benchmark folder has")]
pub struct InvalidFileName {
    variable: String,
    value: String,
}

/// The files that the suite is told to read by the variables `SERVING_JSON`, `LATENCY_JSON`, `STARTUP_JSON` and
/// `THROUGHPUT_JSON` of its container.
///
/// # Errors
/// When one of them is not a bare file name.
pub fn told_file_names(env: &BTreeMap<String, String>) -> Result<BTreeMap<SuiteKind, String>, InvalidFileName> {
    let mut names = BTreeMap::new();
    for suite in SuiteKind::ALL {
        let variable = format!("{}_JSON", suite.as_str().to_uppercase());
        let Some(value) = env.get(&variable).filter(|value| !value.is_empty()) else { continue };
        if value.contains(['/', '\0']) || value.starts_with('.') {
            return Err(InvalidFileName { variable, value: value.clone() });
        }
        names.insert(suite, value.clone());
    }
    Ok(names)
}

/// The host that a plan is for, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Its hardware.
    pub device_type: Option<DeviceType>,
    /// How many devices it has (NUMA nodes on processors); `None` for no limit.
    pub devices: Option<u32>,
}

/// What a commit is measured with on one platform.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The platform.
    pub platform: Platform,
    /// By model, then by device count.
    pub jobs: Vec<PlannedJob>,
    /// What is not measured, and why.
    pub skipped: Vec<Skipped>,
    /// Wanted models that no benchmark of this platform has.
    pub unknown_models: Vec<String>,
    /// The suite files of all jobs together; only those that hold something.
    #[serde(serialize_with = "names_of")]
    pub files: Vec<SuiteFile>,
}

/// One model on one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// What it needs.
    pub target: Needs,
    /// The model in lower case, as in keys.
    pub model: String,
    /// The model as its benchmarks spell it first.
    pub model_name: String,
    /// What is expected to come out, in the order in which the suite runs it.
    pub points: Vec<ExpectedPoint>,
    /// The files that its container is given: one for every suite, an empty array where it has no benchmarks. The
    /// suite's script ends early when its serving file is missing, and the image's own files must not run.
    pub suite_files: Vec<SuiteFile>,
}

/// A target whose device type may not be known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Kind of hardware.
    pub platform: Platform,
    /// Which hardware, once a host is known.
    pub device_type: Option<DeviceType>,
    /// How many devices.
    pub count: u32,
}

/// A file in the suite's `tests` folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteFile {
    /// Base name.
    pub name: String,
    /// An array of benchmarks, or `{defaults, tests}`.
    pub content: Value,
}

/// A benchmark (or variant) that is not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Skipped {
    /// Its name, with the variant's suffix where only the variant is skipped.
    pub benchmark: String,
    /// Its model in lower case.
    pub model: String,
    /// Why.
    #[schema(value_type = String)]
    pub reason: SkipReason,
}

/// Why a benchmark is not measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// Other models are wanted.
    #[error("model not selected")]
    Model,
    /// Other suites are wanted.
    #[error("suite {0} not selected")]
    Suite(SuiteKind),
    /// The host is too small.
    #[error("needs {needs} {unit}, host has {has}", unit = unit(*platform, *needs))]
    Devices {
        /// How many it needs.
        needs: u32,
        /// How many there are.
        has: u32,
        /// What they are counted in.
        platform: Platform,
    },
    /// The suite is not told to read that file.
    #[error("the suite reads {read}, not {file}")]
    NotRead {
        /// Where it stands.
        file: String,
        /// What is read instead.
        read: String,
    },
}

fn unit(platform: Platform, count: u32) -> &'static str {
    match (platform, count) {
        (Platform::Cpu | Platform::Arm64Cpu, 1) => "NUMA node",
        (Platform::Cpu | Platform::Arm64Cpu, _) => "NUMA nodes",
        (Platform::Cuda | Platform::Rocm, 1) => "GPU",
        (Platform::Cuda | Platform::Rocm, _) => "GPUs",
        (Platform::Hpu, 1) => "HPU",
        (Platform::Hpu, _) => "HPUs",
    }
}

impl Serialize for SkipReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn names_of<S: Serializer>(files: &[SuiteFile], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(files.iter().map(|file| &file.name))
}

impl SuiteFile {
    /// Its bytes: one line of JSON.
    ///
    /// # Errors
    /// Never for content that was read from JSON.
    pub fn to_line(&self) -> serde_json::Result<String> {
        json_line(&self.content)
    }
}

impl Needs {
    /// The target on a host with `device_type`.
    pub fn on(&self, device_type: &DeviceType) -> Target {
        let device_type = self.device_type.clone().unwrap_or_else(|| device_type.clone());
        Target { platform: self.platform, device_type, count: self.count }
    }
}

impl PlannedJob {
    /// What of the model is measured, as a short hash of its suites, points and variants.
    pub fn selection(&self) -> String {
        let mut hash = Sha256::new();
        for ExpectedPoint { suite, benchmark, variant, point, eager: _ } in &self.points {
            for part in [suite, benchmark, variant.as_str(), point] {
                hash.update(part);
                hash.update([0]);
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Plan {
    /// How many points are expected in all.
    pub fn point_count(&self) -> usize {
        self.jobs.iter().map(|job| job.points.len()).sum()
    }
}

/// Which variants of a benchmark are measured where nothing is said: all, but base alone on Gaudi, which is lazy.
fn variants(selection: &Selection, platform: Platform) -> Vec<Variant> {
    let wanted = |v: &Variant| match selection.variants.as_slice() {
        [] => platform.has_variants() || *v == Variant::Base,
        list => list.contains(v),
    };
    Variant::ALL.into_iter().filter(wanted).collect()
}

/// Plans the benchmarks of `set` for `host`.
pub fn plan(set: &BenchmarkSet, selection: &Selection, host: &Host) -> Plan {
    let mut planner = Planner {
        set,
        selection,
        host,
        models: wanted_models(selection),
        jobs: BTreeMap::new(),
        skipped: Vec::new(),
        files: Vec::new(),
    };
    for file in &set.files {
        planner.file(file);
    }
    planner.finish()
}

/// The wanted models as keys.
fn wanted_models(selection: &Selection) -> BTreeSet<String> {
    selection.models.iter().map(|model| model.trim().to_lowercase()).filter(|key| !key.is_empty()).collect()
}

#[derive(Default)]
struct Draft {
    model_name: String,
    points: BTreeMap<SuiteKind, Vec<ExpectedPoint>>,
    entries: BTreeMap<SuiteKind, (Form, Vec<Value>)>,
}

struct Planner<'a> {
    set: &'a BenchmarkSet,
    selection: &'a Selection,
    host: &'a Host,
    models: BTreeSet<String>,
    jobs: BTreeMap<(String, u32), Draft>,
    skipped: Vec<Skipped>,
    files: Vec<SuiteFile>,
}

impl Planner<'_> {
    fn file(&mut self, file: &BenchmarkFile) {
        let mut kept = Vec::new();
        for benchmark in &file.benchmarks {
            if let Some(reason) = self.reason_to_skip(benchmark) {
                self.skip(benchmark.name.clone(), benchmark, reason);
                continue;
            }
            for variant in variants(self.selection, self.set.platform) {
                let entry = benchmark.entry_of(variant, self.selection.compilation_config.as_ref());
                kept.push(Value::Object(entry.clone()));
                self.measure(file, benchmark, variant, entry);
            }
        }
        if !kept.is_empty() {
            self.files.push(SuiteFile { name: file.name.clone(), content: content(&file.form, kept) });
        }
    }

    /// Files that the suite is not told to read are filtered like the others, but nothing is expected of them.
    fn measure(&mut self, file: &BenchmarkFile, benchmark: &Benchmark, variant: Variant, entry: Map<String, Value>) {
        let read = self.name_read(benchmark.suite);
        if file.name != read {
            let reason = SkipReason::NotRead { file: file.name.clone(), read };
            return self.skip(format!("{}{}", benchmark.name, variant.name_suffix()), benchmark, reason);
        }
        let draft = self.jobs.entry((benchmark.model_key(), benchmark.devices)).or_default();
        if draft.model_name.is_empty() {
            draft.model_name.clone_from(&benchmark.model);
        }
        let points = benchmark.points_of(variant, self.selection.compilation_config.as_ref());
        draft.points.entry(benchmark.suite).or_default().extend(points);
        let (_, entries) = draft.entries.entry(benchmark.suite).or_insert_with(|| (file.form.clone(), Vec::new()));
        entries.push(Value::Object(entry));
    }

    fn reason_to_skip(&self, benchmark: &Benchmark) -> Option<SkipReason> {
        if !self.models.is_empty() && !self.models.contains(&benchmark.model_key()) {
            return Some(SkipReason::Model);
        }
        if !self.selection.suites.is_empty() && !self.selection.suites.contains(&benchmark.suite) {
            return Some(SkipReason::Suite(benchmark.suite));
        }
        let (platform, needs) = (self.set.platform, benchmark.devices);
        self.host.devices.filter(|has| *has < needs).map(|has| SkipReason::Devices { needs, has, platform })
    }

    fn skip(&mut self, name: String, benchmark: &Benchmark, reason: SkipReason) {
        self.skipped.push(Skipped { benchmark: name, model: benchmark.model_key(), reason });
    }

    fn name_read(&self, suite: SuiteKind) -> String {
        self.selection.file_names.get(&suite).cloned().unwrap_or_else(|| file_name(suite, self.set.platform))
    }

    fn finish(self) -> Plan {
        let platform = self.set.platform;
        let has_model =
            |wanted: &&String| !self.set.files.iter().flat_map(|f| &f.benchmarks).any(|b| b.model_key() == **wanted);
        let unknown_models = self.models.iter().filter(has_model).cloned().collect();
        let names: BTreeMap<_, _> = SuiteKind::ALL.into_iter().map(|suite| (suite, self.name_read(suite))).collect();
        let jobs = self.jobs.into_iter().map(|((model, count), mut draft)| PlannedJob {
            target: Needs { platform, device_type: self.host.device_type.clone(), count },
            model,
            model_name: draft.model_name,
            points: SuiteKind::ALL.iter().filter_map(|suite| draft.points.remove(suite)).flatten().collect(),
            suite_files: names
                .iter()
                .map(|(suite, name)| {
                    let (form, entries) = draft.entries.remove(suite).unwrap_or((Form::Plain, Vec::new()));
                    SuiteFile { name: name.clone(), content: content(&form, entries) }
                })
                .collect(),
        });
        Plan { platform, jobs: jobs.collect(), skipped: self.skipped, unknown_models, files: self.files }
    }
}

fn content(form: &Form, benchmarks: Vec<Value>) -> Value {
    match form {
        Form::Plain => Value::Array(benchmarks),
        Form::Defaults(defaults) => {
            let mut object = Map::new();
            object.insert("defaults".to_owned(), Value::Object(defaults.clone()));
            object.insert("tests".to_owned(), Value::Array(benchmarks));
            Value::Object(object)
        }
    }
}

#[cfg(test)]
mod tests;
