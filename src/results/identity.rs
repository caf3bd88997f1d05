//! Whose a published record is: commit, target, model, benchmark, variant, point. benchd's own records say all of it;
//! of others' records it is put together from the object's key, the suite's arguments and what the reader is told.

use std::collections::BTreeMap;

use jiter::JsonValue;

use super::json;
use super::limits::is_name;
use super::names::{benchmark_of, point_of, variant_of};
use crate::model::{BranchName, CommitSha, DeviceType, JobId, Platform, RepoName, RunId, Target, Variant};

/// Most devices of one job that are believed.
const MAX_DEVICES: u32 = 1024;
/// The last second at which a commit is believed to be made: the end of 2099.
const MAX_TIMESTAMP: u64 = 4_102_444_799;

/// What a reader is told beside the objects.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The repository, where a path does not say it; records of another one are refused.
    pub repo: Option<RepoName>,
    /// The variant of records that do not say theirs.
    pub variant: Option<Variant>,
    /// Hardware by its full name: records hold a shortened one.
    pub devices: Vec<(Platform, DeviceType)>,
    /// Benchmarks by platform and name (with the variant's suffix), as they stand in benchmark files.
    pub benchmarks: BTreeMap<(Platform, String), KnownBenchmark>,
}

/// What benchmark files say of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBenchmark {
    /// Its model in lower case.
    pub model: String,
    /// How many devices it takes.
    pub devices: u32,
    /// Its variant.
    pub variant: Variant,
    /// The hash of its parameters.
    pub configuration: String,
}

/// Numbers under which benchd published a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnIds {
    /// The run.
    pub run: RunId,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
}

/// What all records of one job say alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The repository.
    pub repo: RepoName,
    /// The branch.
    pub branch: BranchName,
    /// The commit.
    pub sha: CommitSha,
    /// When the commit was made, in seconds since 1970; `None` where the record does not say.
    pub timestamp: Option<u64>,
    /// What it was measured on.
    pub target: Target,
    /// The model in lower case; may be empty.
    pub model: String,
    /// The numbers of run, attempt and job as the record has them.
    pub ids: [String; 3],
    /// The same as benchd's own, where benchd published it.
    pub own: Option<OwnIds>,
    /// Whether it says of itself that points are missing or not in order.
    pub incomplete: bool,
    /// The host, where it is told.
    pub hostname: String,
}

impl Stated {
    /// Whether two records come from one job.
    pub fn same_job(&self, other: &Self) -> bool {
        (&self.repo, &self.branch, &self.sha, &self.target, &self.model, &self.ids, self.own)
            == (&other.repo, &other.branch, &other.sha, &other.target, &other.model, &other.ids, other.own)
    }
}

/// Whose a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The job.
    pub stated: Stated,
    /// The benchmark with its variant's suffix.
    pub benchmark: String,
    /// How the engine compiled.
    pub variant: Variant,
    /// The point.
    pub point: String,
    /// The hash of the benchmark's parameters, where somebody knows it.
    pub configuration: Option<String>,
}

/// What an object's key says: `v3/<repo>/<branch>/<commit>/<device>/benchmark_results_<model>.json`, or the end of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyParts {
    repo: Option<RepoName>,
    branch: Option<BranchName>,
    sha: Option<CommitSha>,
    model: Option<String>,
}

impl KeyParts {
    /// Takes a key apart; `repo` is the repository that a key below it leaves out.
    pub fn of(key: &str, repo: Option<&RepoName>) -> Self {
        let parts: Vec<&str> = key.split('/').collect();
        let Some(at) = parts.iter().rposition(|part| part.parse::<CommitSha>().is_ok()) else { return Self::default() };
        let (before, after) = parts.split_at(at);
        let sha = after.first().and_then(|sha| sha.parse().ok());
        let model = after.get(2).and_then(|file| {
            let stem = file.trim_end_matches(".gz").strip_suffix(".json")?;
            stem.strip_prefix("benchmark_results_").map(str::to_owned)
        });
        let (own, branch) = match before {
            ["v3", owner, name, branch @ ..] => (repo_of(&format!("{owner}/{name}")), branch),
            [owner, name, branch @ ..] if repo.is_some_and(|repo| repo.as_str() == format!("{owner}/{name}")) => {
                (None, branch)
            }
            branch => (None, if repo.is_some() { branch } else { &[] }),
        };
        Self { repo: own.or_else(|| repo.cloned()), branch: branch.join("/").parse().ok(), sha, model }
    }
}

/// Finds out whose a record is.
pub(super) fn identify(record: &JsonValue<'_>, key: &KeyParts, hints: &Hints) -> Result<Identity, String> {
    if json::object(record).is_none() {
        return Err("the line is no object".to_owned());
    }
    match text_at(record, &["schema_version"]) {
        Some("v3") => {}
        Some(other) => return Err(format!("the schema is `{}`, benchd reads v3", clipped(other))),
        None => return Err("says no schema_version, benchd reads v3".to_owned()),
    }
    let (repo, branch, sha) = commit_of(record, key, hints)?;
    let runner = json::field(record, "runners").and_then(json::list).and_then(|runners| runners.first());
    let runner = runner.ok_or("names no runner")?;
    let platform = text_at(runner, &["name"]).unwrap_or_default();
    let platform: Platform = platform.parse().map_err(|_unknown| format!("`{}` is no platform", clipped(platform)))?;
    let extra = |name: &str| text_at(runner, &["extra_info", name]).filter(|text| !text.is_empty());

    let (benchmark, point) = match (extra("benchmark"), extra("point")) {
        (Some(benchmark), Some(point)) => (named("benchmark", benchmark)?, named("point", point)?),
        (Some(_) | None, Some(_) | None) => names_in(record)?,
    };
    let known = hints.benchmarks.get(&(platform, benchmark.clone()));
    let variant = match extra("variant") {
        Some(text) => text.parse().map_err(|_unknown| format!("`{}` is no variant", clipped(text)))?,
        None => variant_in(&benchmark, known, hints.variant, has_file_name(record)),
    };
    let model = match (extra("model"), known) {
        (Some(model), _) => named("model", model)?,
        (None, Some(known)) => known.model.clone(),
        (None, None) => match text_at(record, &["model", "name"]).filter(|model| !model.trim().is_empty()) {
            Some(model) => named("model", model)?.to_lowercase(),
            None => key.model.clone().unwrap_or_default(),
        },
    };
    let count = match (extra("device_count"), known) {
        (Some(count), _) => count.parse().ok().filter(|count| (1..=MAX_DEVICES).contains(count)),
        (None, Some(known)) => Some(known.devices),
        (None, None) => devices_in(record),
    };
    let target = Target {
        platform,
        device_type: device_of(runner, platform, extra("device_type"), hints)?,
        count: count.ok_or("its number of devices is not believable")?,
    };
    let ids = ["workflow_id", "run_attempt", "job_id"].map(|id| number_text(json::field(record, id)));
    let benchds = extra("device_count").is_some() && extra("point").is_some() && extra("variant").is_some();
    let stated = Stated {
        repo,
        branch,
        sha,
        timestamp: timestamp_of(record)?,
        target,
        model,
        own: if benchds { own_ids(&ids) } else { None },
        ids,
        incomplete: extra("conclusion") == Some("incomplete"),
        hostname: extra("hostname").map(clipped).unwrap_or_default(),
    };
    let configuration = match (extra("configuration"), known) {
        (Some(hash), _) => Some(named("configuration", hash)?),
        (None, Some(known)) => Some(known.configuration.clone()),
        (None, None) => None,
    };
    Ok(Identity { stated, benchmark, variant, point, configuration })
}

fn commit_of(
    record: &JsonValue<'_>,
    key: &KeyParts,
    hints: &Hints,
) -> Result<(RepoName, BranchName, CommitSha), String> {
    let said = text_at(record, &["repo"]).unwrap_or_default();
    let repo = match (repo_of(said), key.repo.as_ref().or(hints.repo.as_ref())) {
        (Some(repo), Some(wanted)) if repo != *wanted => {
            return Err(format!("is about {repo}, {wanted} is expected here"));
        }
        (Some(repo), _) => repo,
        (None, Some(wanted)) if said.is_empty() => wanted.clone(),
        (None, _) => return Err(format!("`{}` is no repository", clipped(said))),
    };
    let said = text_at(record, &["head_sha"]).unwrap_or_default();
    let sha: CommitSha = said.parse().map_err(|_invalid| format!("`{}` is no commit", clipped(said)))?;
    if key.sha.as_ref().is_some_and(|wanted| *wanted != sha) {
        return Err(format!("is about commit {}, its key says another one", sha.short()));
    }
    let said = text_at(record, &["head_branch"]).unwrap_or_default();
    let name = said.split_once('(').map_or(said, |(name, _)| name);
    let branch: BranchName = name.parse().map_err(|_invalid| format!("`{}` is no branch", clipped(said)))?;
    if key.branch.as_ref().is_some_and(|wanted| *wanted != branch) {
        return Err(format!("is about branch {branch}, its key says another one"));
    }
    Ok((repo, branch, sha))
}

/// The repository that a record or key names; an address that was taken for a name ends in it.
fn repo_of(text: &str) -> Option<RepoName> {
    text.rsplit_once(':').map_or(text, |(_, name)| name).parse().ok()
}

/// The hardware by its full name: as benchd published it, else as it is known here, else as the record has it. There
/// `_` became a blank; on processors it is the separator of the name itself.
fn device_of(
    runner: &JsonValue<'_>,
    platform: Platform,
    full: Option<&str>,
    hints: &Hints,
) -> Result<DeviceType, String> {
    let said = text_at(runner, &["type"]).unwrap_or_default();
    let spelt = if platform.is_cpu() { said.replace(' ', "_") } else { said.to_owned() };
    let spelt: DeviceType = named("device type", &spelt)
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| format!("`{}` is no device type", clipped(said)))?;
    let same = |device: &DeviceType| device.device_key() == spelt.device_key();
    if let Some(device) = full.and_then(|full| full.parse().ok()).filter(same) {
        return Ok(device);
    }
    let known = hints.devices.iter().find(|(on, device)| *on == platform && same(device));
    Ok(known.map_or(spelt, |(_, device)| device.clone()))
}

/// Benchmark and point of a record that does not say them: the suite's arguments hold the name of the result file,
/// which the suite makes of them. Without one they are put together from what tells two results apart.
fn names_in(record: &JsonValue<'_>) -> Result<(String, String), String> {
    if let Some(file) = file_name(record) {
        let (point, _) = point_of(file.rsplit_once('/').map_or(file, |(_, name)| name));
        let point = named("point", point)?;
        return Ok((benchmark_of(&point).to_owned(), point));
    }
    let said = |path: &[&str]| at(record, path).map(|value| number_text(Some(value))).filter(|text| !text.is_empty());
    let mut benchmark = said(&["benchmark", "name"]).unwrap_or_else(|| "unnamed".to_owned());
    for path in [["benchmark", "mode"], ["benchmark", "dtype"]] {
        if let Some(part) = said(&path) {
            benchmark = format!("{benchmark}_{part}");
        }
    }
    for (short, argument) in [
        ("tp", "tensor_parallel_size"),
        ("in", "input_len"),
        ("in", "random_input_len"),
        ("out", "output_len"),
        ("out", "random_output_len"),
    ] {
        if let Some(part) = said(&["benchmark", "extra_info", "args", argument]) {
            benchmark = format!("{benchmark}_{short}{part}");
        }
    }
    let benchmark: String =
        benchmark.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' }).collect();
    let rate = said(&["benchmark", "extra_info", "args", "request_rate"]);
    let concurrency = said(&["benchmark", "extra_info", "args", "max_concurrency"]);
    let point = match (rate, concurrency) {
        (Some(rate), Some(concurrency)) => format!("{benchmark}_qps_{rate}_concurrency_{concurrency}"),
        (Some(rate), None) => format!("{benchmark}_qps_{rate}"),
        (None, _) => benchmark.clone(),
    };
    Ok((named("benchmark", &benchmark)?, named("point", &point)?))
}

fn file_name<'v>(record: &'v JsonValue<'_>) -> Option<&'v str> {
    ["result_filename", "output_json"]
        .into_iter()
        .find_map(|argument| text_at(record, &["benchmark", "extra_info", "args", argument]))
        .filter(|name| !name.is_empty() && !name.ends_with('/'))
}

fn has_file_name(record: &JsonValue<'_>) -> bool {
    file_name(record).is_some()
}

/// The variant of a record that does not say it: benchmark files know it, the name's suffix shows it, or somebody told
/// it. A suite that names its files has no suffix for the base variant alone.
fn variant_in(benchmark: &str, known: Option<&KnownBenchmark>, told: Option<Variant>, named: bool) -> Variant {
    if let Some(known) = known {
        return known.variant;
    }
    match (variant_of(benchmark), told) {
        (suffixed @ (Variant::Eager | Variant::InductorGraphPartition), _) => suffixed,
        (Variant::Base | Variant::Unknown, Some(told)) => told,
        (Variant::Base | Variant::Unknown, None) if named => Variant::Base,
        (Variant::Base | Variant::Unknown, None) => Variant::Unknown,
    }
}

/// Tensor times pipeline times data parallel size, one each where nothing is said.
fn devices_in(record: &JsonValue<'_>) -> Option<u32> {
    let mut devices = 1_u32;
    for name in ["tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"] {
        let size = at(record, &["benchmark", "extra_info", "args", name]).map(|value| number_text(Some(value)));
        if let Some(size) = size.filter(|size| !size.is_empty()) {
            devices = devices.checked_mul(size.parse().ok()?)?;
        }
    }
    (1..=MAX_DEVICES).contains(&devices).then_some(devices)
}

fn timestamp_of(record: &JsonValue<'_>) -> Result<Option<u64>, String> {
    let text = number_text(json::field(record, "timestamp"));
    // The database reads an empty text as 0.
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    match text.parse() {
        Ok(seconds) if seconds <= MAX_TIMESTAMP => Ok(Some(seconds)),
        Ok(_) | Err(_) => Err(format!("`{}` is no time of a commit", clipped(&text))),
    }
}

fn own_ids([run, attempt, job]: &[String; 3]) -> Option<OwnIds> {
    let attempt = attempt.parse().ok().filter(|attempt| (1..=10_000).contains(attempt))?;
    Some(OwnIds { run: run.parse().ok()?, job: job.parse().ok()?, attempt })
}

/// A name that is believed.
fn named(what: &str, text: &str) -> Result<String, String> {
    let text = text.trim();
    if !is_name(text) {
        return Err(format!("`{}` is no name of a {what}", clipped(text)));
    }
    Ok(text.to_owned())
}

fn clipped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn at<'v, 'j>(value: &'v JsonValue<'j>, path: &[&str]) -> Option<&'v JsonValue<'j>> {
    path.iter().try_fold(value, |value, key| json::field(value, key))
}

fn text_at<'v>(value: &'v JsonValue<'_>, path: &[&str]) -> Option<&'v str> {
    at(value, path).and_then(json::text)
}

/// A number that may be written as text, as text; empty for everything else.
fn number_text(value: Option<&JsonValue<'_>>) -> String {
    match value {
        Some(JsonValue::Str(text)) => clipped(text),
        Some(JsonValue::Int(number)) => number.to_string(),
        Some(JsonValue::BigInt(number)) => clipped(&number.to_string()),
        Some(JsonValue::Float(number)) => clipped(&number.to_string()),
        Some(JsonValue::Null | JsonValue::Bool(_) | JsonValue::Array(_) | JsonValue::Object(_)) | None => String::new(),
    }
}
