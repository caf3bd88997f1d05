//! The PyTorch benchmark record v3 on the wire and the object key. What identifies a record (commit, branch, time,
//! runner) is written by benchd alone: records come out of a container that ran the commit's code.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiter::JsonValue;
use serde::Serialize;

use super::check::{Found, Origin};
use super::json;
use crate::model::{BranchName, CommitSha, DeviceType, Platform, RepoName, model_key};

/// Keys of a record that only benchd sets; a record's own are dropped.
pub const RESERVED: [&str; 13] = [
    "timestamp",
    "schema_version",
    "name",
    "repo",
    "head_branch",
    "head_sha",
    "workflow_id",
    "run_attempt",
    "job_id",
    "servicelab_experiment_id",
    "servicelab_trial_id",
    "runners",
    "_meta",
];

/// Columns of the public table that a record fills itself.
const COLUMNS: [&str; 5] = ["benchmark", "model", "inputs", "dependencies", "metric"];

/// Whether a record's own key is written: no reserved one, and none that the database takes for another, as its columns
/// are found whatever the case of their letters.
pub fn is_kept(key: &str) -> bool {
    let alike = |known: &str| known.eq_ignore_ascii_case(key);
    COLUMNS.contains(&key) || !COLUMNS.iter().chain(&RESERVED).any(|known| alike(known))
}

/// Keys that differ between two uploads of the same results.
pub const VOLATILE: [&str; 4] = ["workflow_id", "run_attempt", "job_id", "runners"];

/// A number of the outside in a record: written as text where it was given as text, which the database reads alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum WireNumber {
    /// Written as a number.
    Number(u64),
    /// Written as text; decimal digits.
    Text(String),
}

/// The machine a result was measured on, as `runners[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// Kind of hardware: `name`.
    pub platform: Platform,
    /// Which hardware: `type` is its key with blanks.
    pub device_type: DeviceType,
    /// Processor, for example `x86_64`; may be empty.
    pub cpu_info: String,
    /// Logical processors.
    pub cpu_count: u32,
    /// Main memory in GiB, rounded down.
    pub memory_gib: u32,
    /// Device as the driver names it; empty when unknown.
    pub gpu_info: String,
    /// Devices used; 0 when unknown.
    pub gpu_count: u32,
    /// Memory of one device in GiB, rounded down; 0 when unknown.
    pub gpu_memory_gib: u32,
    /// Host name and whatever else is worth keeping; the database takes text only.
    pub extra_info: BTreeMap<String, String>,
}

/// What identifies all records of one upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// When the commit was made (committer date), seconds since 1970.
    pub timestamp: u64,
    /// `name`, for example `vLLM benchmark`.
    pub benchmark_name: String,
    /// The repository.
    pub repo: RepoName,
    /// The branch.
    pub branch: BranchName,
    /// Another local branch, shown in parentheses.
    pub local_branch: Option<String>,
    /// The commit.
    pub sha: CommitSha,
    /// The run.
    pub workflow_id: WireNumber,
    /// The attempt at the job.
    pub run_attempt: WireNumber,
    /// The job.
    pub job_id: WireNumber,
    /// The model the job is about; empty when it is about none.
    pub model: String,
    /// The machine.
    pub runner: Runner,
    /// The configuration hash of each benchmark, where it is known: what makes its series another one.
    pub configurations: BTreeMap<String, String>,
}

impl Metadata {
    /// The key of the job's object: `v3/<repo>/<branch>/<commit>/<device>/benchmark_results_<model>.json`.
    pub fn object_key(&self) -> String {
        object_key(&self.repo, &self.branch, &self.sha, &self.runner.device_type, &self.model)
    }
}

/// The key of the object that holds the results of one job. Look-up and upload share it. Without a model the name is
/// `benchmark_results.json`.
pub fn object_key(
    repo: &RepoName,
    branch: &BranchName,
    sha: &CommitSha,
    device_type: &DeviceType,
    model: &str,
) -> String {
    let suffix = if model.trim().is_empty() { String::new() } else { format!("_{}", model_key(model)) };
    format!("v3/{repo}/{branch}/{sha}/{}/benchmark_results{suffix}.json", device_type.device_key())
}

#[derive(Serialize)]
struct Head<'m> {
    timestamp: u64,
    schema_version: &'static str,
    name: &'m str,
    repo: &'m str,
    head_branch: String,
    head_sha: &'m str,
    workflow_id: &'m WireNumber,
    run_attempt: &'m WireNumber,
    job_id: &'m WireNumber,
}

#[derive(Serialize)]
struct WireRunner<'m> {
    name: &'static str,
    r#type: String,
    cpu_info: &'m str,
    cpu_count: u32,
    avail_mem_in_gb: u32,
    gpu_info: &'m str,
    gpu_count: u32,
    avail_gpu_mem_in_gb: u32,
    extra_info: BTreeMap<&'m str, &'m str>,
}

/// Writes records as lines that share one upload's metadata.
pub struct RecordWriter<'m> {
    metadata: &'m Metadata,
    /// Everything up to the record's own keys, without the closing brace.
    head: Vec<u8>,
    /// Point and `runners[0]` of the record before: all records of a point share it.
    runner: (String, Vec<u8>),
    /// The record being written, so that it goes out at once: a compressor takes many small pieces badly.
    line: Vec<u8>,
    written: usize,
}

impl<'m> RecordWriter<'m> {
    /// A writer of records with this metadata, after `written` lines of others.
    pub fn after(written: usize, metadata: &'m Metadata) -> io::Result<Self> {
        let mut head = ascii(&Head {
            timestamp: metadata.timestamp,
            schema_version: "v3",
            name: &metadata.benchmark_name,
            repo: metadata.repo.as_str(),
            head_branch: metadata.branch.head_branch(metadata.local_branch.as_deref()),
            head_sha: metadata.sha.as_str(),
            workflow_id: &metadata.workflow_id,
            run_attempt: &metadata.run_attempt,
            job_id: &metadata.job_id,
        })?;
        head.pop();
        Ok(Self { metadata, head, runner: (String::new(), Vec::new()), line: Vec::new(), written })
    }

    /// How many records were written, those of others before included.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Writes a record: metadata, the record's own keys in its order, `runners`. Lines are joined by a newline; the
    /// last one has none.
    pub fn write(&mut self, out: &mut impl Write, found: &Found<'_, '_>) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        if self.written > 0 {
            line.push(b'\n');
        }
        self.written += 1;
        line.extend_from_slice(&self.head);
        for (key, value) in json::last_of_each(json::object(found.record).unwrap_or_default()) {
            if !is_kept(key) {
                continue;
            }
            line.push(b',');
            json::write_text(line, key)?;
            line.push(b':');
            json::write(line, value)?;
        }
        if found.origin == Origin::Foreign && !self.metadata.model.is_empty() {
            line.extend_from_slice(b",\"model\":");
            line.extend_from_slice(&ascii(&BTreeMap::from([("name", &self.metadata.model)]))?);
        }
        if self.runner.1.is_empty() || self.runner.0 != found.point {
            self.runner = (found.point.to_owned(), ascii(&runner_of(self.metadata, found))?);
        }
        line.extend_from_slice(b",\"runners\":[");
        line.extend_from_slice(&self.runner.1);
        line.extend_from_slice(b"]}");
        out.write_all(line)
    }
}

fn runner_of<'a>(metadata: &'a Metadata, found: &'a Found<'_, '_>) -> WireRunner<'a> {
    let runner = &metadata.runner;
    let mut extra_info: BTreeMap<_, _> =
        runner.extra_info.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    extra_info.insert("benchmark", found.benchmark);
    extra_info.insert("variant", found.variant.as_str());
    extra_info.insert("point", found.point);
    if let Some(configuration) = metadata.configurations.get(found.benchmark) {
        extra_info.insert("configuration", configuration);
    }
    WireRunner {
        name: runner.platform.as_str(),
        r#type: runner.device_type.runner_type(),
        cpu_info: &runner.cpu_info,
        cpu_count: runner.cpu_count,
        avail_mem_in_gb: runner.memory_gib,
        gpu_info: &runner.gpu_info,
        gpu_count: runner.gpu_count,
        avail_gpu_mem_in_gb: runner.gpu_memory_gib,
        extra_info,
    }
}

/// A value as JSON in ASCII.
fn ascii(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let plain = serde_json::to_vec(value)?;
    if plain.is_ascii() {
        return Ok(plain);
    }
    let mut out = Vec::with_capacity(plain.len());
    let parsed = JsonValue::parse(&plain, false).map_err(|error| io::Error::other(error.to_string()))?;
    json::write(&mut out, &parsed)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::check::Worth;
    use super::*;
    use crate::model::Variant;

    pub(super) fn metadata() -> Metadata {
        Metadata {
            timestamp: 1_780_007_200,
            benchmark_name: "vLLM benchmark".to_owned(),
            repo: "vllm-project/vllm".parse().unwrap(),
            branch: "main".parse().unwrap(),
            local_branch: None,
            sha: "9816774803221e23e6f26178546c65c2466e2c90".parse().unwrap(),
            workflow_id: WireNumber::Text("19612345678".to_owned()),
            run_attempt: WireNumber::Number(1),
            job_id: WireNumber::Number(7),
            model: "facebook/opt-125m".to_owned(),
            runner: Runner {
                platform: Platform::Cpu,
                device_type: "Xeon_Platinum_8480+_112c".parse().unwrap(),
                cpu_info: "x86_64".to_owned(),
                cpu_count: 2,
                memory_gib: 24,
                gpu_info: String::new(),
                gpu_count: 0,
                gpu_memory_gib: 0,
                extra_info: BTreeMap::from([("hostname".to_owned(), "höst".to_owned())]),
            },
            configurations: BTreeMap::new(),
        }
    }

    fn line(record: &str, origin: Origin) -> serde_json::Value {
        let record = JsonValue::parse(record.as_bytes(), true).unwrap();
        let mut out = Vec::new();
        let metadata = metadata();
        let mut writer = RecordWriter::after(0, &metadata).unwrap();
        let found = Found {
            benchmark: "a_eager",
            variant: Variant::Eager,
            point: "a_eager_qps_1_concurrency_2",
            record: &record,
            worth: Worth::Measured,
            origin,
        };
        writer.write(&mut out, &found).unwrap();
        assert!(out.is_ascii());
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn keys_in_the_published_order_and_own_identity_only() {
        let line = line(
            r#"{"benchmark": {"name": "b"}, "timestamp": 1, "head_sha": "x", "runners": 3, "inputs": {}, "metric": {}}"#,
            Origin::Suite,
        );
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "timestamp",
                "schema_version",
                "name",
                "repo",
                "head_branch",
                "head_sha",
                "workflow_id",
                "run_attempt",
                "job_id",
                "benchmark",
                "inputs",
                "metric",
                "runners"
            ]
        );
        assert_eq!(line["timestamp"], 1_780_007_200);
        assert_eq!(line["head_branch"], "main(refs/heads/main)");
        assert_eq!((&line["workflow_id"], &line["job_id"]), (&"19612345678".into(), &7.into()));
        let runner = &line["runners"][0];
        assert_eq!((&runner["name"], &runner["type"]), (&"cpu".into(), &"Xeon Platinum 8480  112c".into()));
        assert_eq!(
            runner["extra_info"],
            serde_json::json!({"hostname": "höst", "benchmark": "a_eager", "variant": "eager",
                "point": "a_eager_qps_1_concurrency_2"})
        );
    }

    #[test]
    fn a_foreign_record_gets_the_model_of_the_job() {
        assert_eq!(line("{\"benchmark\": {}}", Origin::Foreign)["model"]["name"], "facebook/opt-125m");
        assert_eq!(line("{\"benchmark\": {}}", Origin::Suite).get("model"), None);
    }

    #[test]
    fn one_key_per_job() {
        let key = metadata().object_key();
        let stem = "v3/vllm-project/vllm/main/9816774803221e23e6f26178546c65c2466e2c90/Xeon_Platinum_8480__112c";
        assert_eq!(key, format!("{stem}/benchmark_results_facebook_opt-125m.json"));
        let as_written = Metadata { model: "Facebook/OPT-125m".to_owned(), ..metadata() };
        assert_eq!(as_written.object_key(), key);
        let none = Metadata { model: String::new(), ..metadata() };
        assert_eq!(none.object_key(), format!("{stem}/benchmark_results.json"));
    }
}
