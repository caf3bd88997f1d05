//! Recorded cases of the reference workflow: judged and uploaded as it does, except where its result is a flaw. Every
//! difference stands in `DEVIATIONS`, with its reason in docs/compatibility.md ("Results and upload").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::{benchd, shared};

/// Exit codes of a strict check, a lenient check, an upload, and the number of uploaded records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    strict: i32,
    lenient: i32,
    upload: i32,
    records: usize,
}

const fn ends(strict: i32, lenient: i32, upload: i32, records: usize) -> Ends {
    Ends { strict, lenient, upload, records }
}

/// Cases in which benchd ends otherwise than the recorded workflow.
const DEVIATIONS: &[(&str, Ends)] = &[
    // Values that are no finite numbers, or all zero, are not measured values: they are problems and are not sent.
    ("all_false_values", ends(1, 1, 1, 0)),
    ("all_nan", ends(1, 1, 1, 0)),
    ("all_zero_serving", ends(1, 0, 1, 1)),
    ("big_ints_and_floats", ends(1, 1, 1, 0)),
    ("empty_values_list", ends(1, 0, 1, 1)),
    ("inf_string_value", ends(1, 0, 1, 1)),
    ("nan_infinity_values", ends(1, 0, 1, 1)),
    ("noneager_compilation_zero", ends(1, 0, 1, 1)),
    ("some_zero_metrics", ends(1, 0, 1, 1)),
    // Whether a benchmark ran eagerly is what it was told, not how its file is called.
    ("eager_upper_case_name", ends(1, 0, 1, 1)),
    // A record is judged by itself, wherever it stands; what is no record is a problem where records are claimed.
    ("first_not_benchmark", ends(1, 0, 1, 1)),
    ("json_each_row_with_bad_lines", ends(1, 0, 1, 2)),
    ("metric_is_string", ends(1, 1, 1, 0)),
    ("metric_is_string_next_to_good", ends(1, 0, 1, 1)),
    ("truncated_plus_good", ends(1, 0, 1, 1)),
    ("values_not_list", ends(1, 1, 1, 0)),
    ("values_not_list_next_to_good", ends(1, 0, 1, 1)),
    // What claims no records is no fault and stops nothing.
    ("dir_named_json", ends(0, 0, 0, 1)),
    ("invalid_utf8", ends(0, 0, 0, 1)),
    ("list_of_numbers", ends(0, 0, 0, 1)),
    // A byte order mark hides no records.
    ("bom_prefixed", ends(0, 0, 0, 2)),
];

fn cases() -> Vec<PathBuf> {
    let Some(folder) = shared("golden/results") else { return Vec::new() };
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("expected/result.json").is_file() && !path.ends_with("variants_git_and_env"));
    found.sort();
    found
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn recorded(case: &Path) -> Ends {
    let result = read_json(&case.join("expected/result.json"));
    let code = |part: &str| i32::try_from(result[part]["exit_code"].as_i64().unwrap()).unwrap();
    let objects = result["upload"]["objects"].as_array();
    let records = objects.into_iter().flatten().map(|object| object["records"].as_u64().unwrap()).sum::<u64>();
    ends(code("check_strict"), code("check_lenient"), code("upload"), usize::try_from(records).unwrap())
}

fn check(results: &Path, flags: &[&str]) -> (i32, Value) {
    let output = benchd().args(["results", "check", "--json"]).arg(results).args(flags).output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

/// What the recorded uploads were given.
const GIVEN: [(&str, &str); 11] = [
    ("--repo", "vllm-project/vllm"),
    ("--branch", "main"),
    ("--local-branch", "refs/heads/main"),
    ("--sha", "9816774803221e23e6f26178546c65c2466e2c90"),
    ("--timestamp", "1780007200"),
    ("--platform", "cuda"),
    ("--device-type", "NVIDIA_H100_80GB_HBM3"),
    ("--model", "facebook_opt-125m"),
    ("--run-id", "19612345678"),
    ("--attempt", "1"),
    ("--job-id", "56112345678"),
];

/// What came of an upload into a folder: exit code, and the records by key.
fn upload(results: &Path, given: &[(&str, &str)]) -> (i32, BTreeMap<String, Vec<Value>>) {
    let bucket = tempfile::tempdir().unwrap();
    let to = format!("file://{}", bucket.path().display());
    let mut arguments = BTreeMap::from(GIVEN);
    arguments.extend(given.iter().copied());
    let mut command = benchd();
    command.args(["results", "upload", "--to", &to]).arg(results);
    for (flag, value) in arguments {
        command.args([flag, value]);
    }
    let output = command.output().unwrap();
    let mut objects = BTreeMap::new();
    collect_objects(bucket.path(), bucket.path(), &mut objects);
    (output.status.code().unwrap(), objects)
}

fn collect_objects(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<Value>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_objects(root, &path, found);
            continue;
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut GzDecoder::new(std::fs::File::open(&path).unwrap()), &mut text).unwrap();
        assert!(text.is_ascii() && !text.ends_with('\n'));
        let key = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        found.insert(key, text.lines().map(|line| normal(serde_json::from_str(line).unwrap())).collect());
    }
}

/// Host fields as the recording has them, and without what benchd adds.
fn normal(mut record: Value) -> Value {
    let runner = &mut record["runners"][0];
    for (key, value) in [("cpu_info", json!("<CPU_INFO>")), ("cpu_count", json!(2)), ("avail_mem_in_gb", json!(24))] {
        assert!(runner.get(key).is_some(), "{key}");
        runner[key] = value;
    }
    let added = runner["extra_info"].as_object_mut().unwrap();
    added.insert("hostname".to_owned(), json!("<HOSTNAME>"));
    for key in ["benchmark", "variant", "point"] {
        assert!(added.remove(key).is_some_and(|value| value.is_string()), "{key}");
    }
    record
}

/// The recorded lines that are JSON; the others hold NaN or Infinity and are never sent.
fn recorded_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn sorted(records: &[Value]) -> Vec<String> {
    let mut lines: Vec<_> = records.iter().map(ordered).collect();
    lines.sort();
    lines
}

/// A value as text with sorted keys.
fn ordered(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: BTreeMap<_, _> = map.iter().map(|(key, value)| (key, ordered(value))).collect();
            format!("{pairs:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(ordered).collect::<Vec<_>>()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[test]
fn every_recorded_case_ends_as_recorded_or_as_ruled() {
    let ruled = BTreeMap::from_iter(DEVIATIONS.iter().copied());
    let mut wrong = Vec::new();
    for case in cases() {
        let expected = ruled.get(name(&case).as_str()).copied().unwrap_or_else(|| recorded(&case));
        let results = case.join("input/results");
        let (strict, report) = check(&results, &[]);
        assert_eq!(report["ok"], json!(strict == 0), "{}", name(&case));
        let (lenient, _) = check(&results, &["--lenient"]);
        let (code, objects) = upload(&results, &[]);
        let records = objects.values().map(Vec::len).sum();
        let seen = ends(strict, lenient, code, records);
        if seen != expected {
            wrong.push((name(&case), expected, seen));
        }
    }
    assert!(wrong.is_empty(), "case, expected, seen: {wrong:#?}");
}

#[test]
fn uploaded_records_are_those_that_were_recorded() {
    let key = "v3/vllm-project/vllm/main/9816774803221e23e6f26178546c65c2466e2c90/NVIDIA_H100_80GB_HBM3/\
               benchmark_results_facebook_opt-125m.json";
    let deviates = |case: &str| DEVIATIONS.iter().any(|(name, _)| *name == case);
    for case in cases() {
        let (_, objects) = upload(&case.join("input/results"), &[]);
        let Some(records) = objects.get(key) else {
            assert!(objects.is_empty(), "{}: {:?}", name(&case), objects.keys());
            continue;
        };
        let lines = case.join("expected/upload.jsonl");
        if !lines.is_file() {
            continue;
        }
        let mut recorded = recorded_lines(&lines);
        if name(&case) == "record_overrides_metadata" {
            // What the record claims of itself is dropped: the metadata of any other case stands there.
            for (field, value) in [("timestamp", json!(1_780_007_200)), ("name", json!("vLLM benchmark"))] {
                recorded[0][field] = value;
            }
            recorded[0]["head_sha"] = json!("9816774803221e23e6f26178546c65c2466e2c90");
        }
        let (sent, recorded) = (sorted(records), sorted(&recorded));
        if deviates(&name(&case)) {
            let unknown: Vec<_> = sent.iter().filter(|line| !recorded.contains(line)).collect();
            assert!(unknown.is_empty() || name(&case) == "bom_prefixed", "{}: {unknown:#?}", name(&case));
        } else {
            assert_eq!(sent, recorded, "{}", name(&case));
        }
    }
}

/// What the recorded command line and environment of a variant say, as flags.
fn flags_of(variant: &Value) -> Vec<(&'static str, String)> {
    let argv: Vec<_> = variant["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let after = |flag: &str| argv.iter().position(|word| *word == flag).map_or("", |at| argv[at + 1]).to_owned();
    let env = |name: &str| variant["env"][name].as_str().unwrap_or("").to_owned();
    vec![
        ("--platform", after("--device-name")),
        ("--device-type", after("--device-type")),
        ("--model", after("--model")),
        ("--local-branch", env("RUN_LOCAL_BRANCH")),
        ("--run-id", env("WORKFLOW_RUN_ID")),
        ("--attempt", env("RUN_ATTEMPT")),
        ("--job-id", env("JOB_ID")),
    ]
}

/// Variants of environment, device and checkout. Branch, commit and time are found in a git checkout by the reference
/// and given by flags here; a checkout without a usable address (`repo_ssh_url`, `repo_name_with_sha`) is refused.
#[test]
fn variants_are_uploaded_as_recorded() {
    let Some(folder) = shared("golden/results/variants_git_and_env/expected") else { return };
    let Some(results) = shared("golden/results/list/input/results") else { return };
    let recorded = read_json(&folder.join("result.json"));
    let mut seen = 0;
    for (variant, case) in recorded.as_object().unwrap() {
        let unusable = ["repo_ssh_url", "repo_name_with_sha"].contains(&variant.as_str());
        if unusable || case["objects"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        let mut lines = recorded_lines(&folder.join(format!("{variant}.jsonl")));
        let key = case["objects"][0]["key"].as_str().unwrap();
        let mut flags = flags_of(case);
        let branch = key.strip_prefix("v3/vllm-project/vllm/").unwrap();
        let sha = lines[0]["head_sha"].as_str().unwrap().to_owned();
        flags.push(("--branch", branch.split_once(&format!("/{sha}/")).unwrap().0.to_owned()));
        flags.push(("--sha", sha));
        flags.push(("--timestamp", lines[0]["timestamp"].to_string()));
        let given: Vec<_> = flags.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
        let (code, objects) = upload(&results, &given);
        // benchd writes the branch as the dashboard reads it where the reference writes a bare `main`, and takes an
        // empty number as not given where the reference stores 0.
        for line in &mut lines {
            if line["head_branch"] == "main" {
                line["head_branch"] = json!("main(refs/heads/main)");
            }
            for (field, default) in [("workflow_id", line["timestamp"].clone()), ("run_attempt", json!(1))] {
                if line[field] == "" {
                    line[field] = default;
                }
            }
            if line["job_id"] == "" {
                line["job_id"] = line["timestamp"].clone();
            }
        }
        let records = objects.get(key).unwrap_or_else(|| panic!("{variant}: {key} is not in {:?}", objects.keys()));
        assert_eq!((code, sorted(records)), (0, sorted(&lines)), "{variant}");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn a_real_run_is_complete_and_uploaded() {
    let Some(run) = shared("vllm/run-1") else { return };
    let (code, report) = check(&run, &[]);
    assert_eq!((code, &report["records"], &report["problems"]), (0, &json!(19), &json!([])));
    assert_eq!(report["points"].as_array().unwrap().len(), 4);
    let kinds: BTreeMap<_, _> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["name"].as_str().unwrap(), file["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds["benchmark_results.json"], "summary");
    assert_eq!(kinds["latency_tinyllama_tp1.json"], "native");
    assert_eq!(kinds["latency_tinyllama_tp1.commands"], "commands");
    assert_eq!(kinds["latency_tinyllama_tp1.pytorch.json"], "records");
    let (code, objects) = upload(&run, &[("--platform", "cpu"), ("--device-type", "Xeon_6972P_192c")]);
    assert_eq!((code, objects.values().next().unwrap().len()), (0, 19));
}

#[test]
fn a_real_failure_is_seen_although_its_suite_exited_0() {
    let Some(run) = shared("vllm/run-failed") else { return };
    let (code, report) = check(&run, &[]);
    assert_eq!((code, &report["ok"]), (1, &json!(false)));
    assert_eq!(report["points"][0]["state"], "failed");
    let (code, objects) = upload(&run, &[]);
    assert_eq!((code, objects.len()), (1, 0));
}
