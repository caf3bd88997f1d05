//! Broken benchmark files with the exact sentence for each, and what survives of a file with a broken part.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::model::{Platform, SuiteKind, Variant};

const SERVING: &str = r#"{"test_name": "serving_a", "qps_list": [1, "inf"], "max_concurrency_list": [8],
  "server_parameters": {"model": "m/a", "tensor_parallel_size": 1}, "client_parameters": {"model": "m/a"}}"#;
const LATENCY: &str = r#"{"test_name": "latency_a", "parameters": {"model": "m/a", "tensor_parallel_size": 1}}"#;

fn set_of(name: &str, bytes: &[u8]) -> BenchmarkSet {
    BenchmarkSet::of_files(Platform::Cuda, vec![(name.to_owned(), Ok(bytes.to_vec()))])
}

/// A good entry with some of its keys set (or, by null, removed).
fn changed(entry: &str, changes: &Value) -> String {
    let mut entry: Value = serde_json::from_str(entry).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            entry.as_object_mut().unwrap().shift_remove(key);
        } else {
            entry[key] = value.clone();
        }
    }
    format!("[{entry}]")
}

/// A good latency benchmark with other parameters.
fn parameters(value: Value) -> String {
    changed(LATENCY, &json!({ "parameters": value }))
}

#[test]
fn every_fault_has_its_sentence_and_its_place() {
    let l = "latency-tests.json";
    let s = "serving-tests.json";
    let long = format!("latency_{}", "x".repeat(150));
    let client = |value: Value| changed(SERVING, &json!({ "client_parameters": value }));
    let server = |value: Value| changed(SERVING, &json!({ "server_parameters": value }));
    let cases: Vec<(&str, String, &str)> = vec![
        (l, String::new(), ":1:0: bad JSON: EOF while parsing a value"),
        (l, "[\n  {\"test_name\": \"latency_a\",}\n]".into(), ":2:29: bad JSON: trailing comma"),
        (l, "[1, 2".into(), ":1:5: bad JSON: EOF while parsing a list"),
        (l, "[] []".into(), ":1:4: bad JSON: trailing characters"),
        (l, "[{\"a\": NaN}]".into(), ":1:8: bad JSON: expected value"),
        (
            l,
            "\u{feff}[]".into(),
            ": the file starts with a byte order mark, which the suite cannot read: save it as UTF-8 without one",
        ),
        (l, "7".into(), ": a benchmark file is an array of benchmarks or an object with `tests`, this is a number"),
        (l, "null".into(), ": a benchmark file is an array of benchmarks or an object with `tests`, this is null"),
        (
            l,
            "{\"test\": []}".into(),
            ": a benchmark file is an array of benchmarks or an object with `tests`, this is an object without them",
        ),
        (s, "{\"tests\": {}}".into(), ": `tests` must be an array, not an object"),
        (s, "{\"defaults\": 1, \"tests\": []}".into(), ": `defaults` must be an object, not a number"),
        (l, "[\n \"latency_a\"]".into(), ":2:2: entry 1: a benchmark must be an object, not a text"),
        (l, changed(LATENCY, &json!({"test_name": null})), ":1:2: entry 1: `test_name` is missing"),
        (l, changed(LATENCY, &json!({"test_name": ""})), ":1:2: entry 1: `test_name` is missing"),
        (l, changed(LATENCY, &json!({"test_name": 7})), ":1:2: entry 1: `test_name` must be a text, not a number"),
        (
            l,
            changed(LATENCY, &json!({"test_name": "latency_a/b"})),
            ":1:2: latency_a/b: the name holds '/'; names become file names: use letters, digits, `.`, `_`, `-`, `+`",
        ),
        (
            l,
            changed(LATENCY, &json!({"test_name": "latency_$(x)"})),
            ":1:2: latency_$(x): the name holds '$'; names become file names: use letters, digits, `.`, `_`, `-`, `+`",
        ),
        (
            l,
            changed(LATENCY, &json!({"test_name": long})),
            "the name has 158 characters, more than 150: result files append to it",
        ),
        (
            l,
            changed(LATENCY, &json!({"test_name": "serving_a"})),
            ":1:2: serving_a: the name must start with `latency_`",
        ),
        (s, changed(SERVING, &json!({"test_name": "a"})), ":1:2: a: the name must start with `serving_`"),
        (l, format!("[{LATENCY},\n {LATENCY}]"), ":2:2: latency_a: the name is used before, at line 1"),
        (
            l,
            format!("[{LATENCY}, {}]", LATENCY.replace("latency_a", "latency_a_eager")),
            ":1:89: latency_a_eager: the name is also that of the eager variant of `latency_a`",
        ),
        (
            l,
            changed(LATENCY, &json!({"parameters": null})),
            ":1:2: latency_a: none of `parameters`, `server_parameters`, `common_parameters` is there: exactly one must be",
        ),
        (
            l,
            changed(LATENCY, &json!({"server_parameters": {"model": "m"}})),
            ":1:2: latency_a: `parameters` and `server_parameters` are there together: exactly one of `parameters`, `server_parameters`, `common_parameters` must be",
        ),
        (
            s,
            changed(SERVING, &json!({"server_parameters": null, "parameters": {"model": "m/a"}})),
            ":1:2: serving_a: a serving benchmark has `server_parameters`, this one has `parameters`",
        ),
        (l, parameters(json!([])), ":1:2: latency_a: `parameters` must be an object, not an array"),
        (l, parameters(json!({})), ":1:2: latency_a: `parameters.model` is missing"),
        (l, parameters(json!({"model": " "})), ":1:2: latency_a: `parameters.model` is missing"),
        (l, parameters(json!({"model": 1})), ":1:2: latency_a: `parameters.model` must be a text, not a number"),
        (
            l,
            parameters(json!({"model": "m; rm -rf /"})),
            ":1:2: latency_a: `parameters.model` is \"m; rm -rf /\": a model is named by letters, digits and `/._-@:+`",
        ),
        (
            l,
            parameters(json!({"model": "m", "tensor_parallel_size": 0})),
            ":1:2: latency_a: tensor parallel size 0 is impossible (1, 2, 4 or 8)",
        ),
        (
            l,
            parameters(json!({"model": "m", "tensor_parallel_size": -2})),
            ":1:2: latency_a: tensor parallel size -2 is impossible (1, 2, 4 or 8)",
        ),
        (
            l,
            parameters(json!({"model": "m", "tensor-parallel-size": 1.5})),
            ":1:2: latency_a: tensor parallel size 1.5 is impossible (1, 2, 4 or 8)",
        ),
        (
            l,
            parameters(json!({"model": "m", "tensor_parallel_size": "two"})),
            ":1:2: latency_a: tensor parallel size \"two\" is impossible (1, 2, 4 or 8)",
        ),
        (
            l,
            parameters(json!({"model": "m", "tensor_parallel_size": 3})),
            ":1:2: latency_a: tensor parallel size 3 is impossible (1, 2, 4 or 8)",
        ),
        (
            l,
            parameters(json!({"model": "m", "pipeline_parallel_size": 0})),
            ":1:2: latency_a: `pipeline_parallel_size` is 0: a positive whole number is needed",
        ),
        (
            l,
            parameters(json!({"model": "m", "output_json": "x"})),
            ":1:2: latency_a: `parameters.output_json` is set by the suite itself: remove it",
        ),
        (
            l,
            parameters(json!({"model": "m", "output-json": "x"})),
            ":1:2: latency_a: `parameters.output-json` is set by the suite itself: remove it",
        ),
        (
            l,
            parameters(json!({"model": "m", "a b": 1})),
            ":1:2: latency_a: `parameters` has the key \"a b\", which cannot be an option's name",
        ),
        (
            l,
            changed(LATENCY, &json!({"environment_variables": {"A-B": 1}})),
            ":1:2: latency_a: `environment_variables` has the key \"A-B\", which cannot be a variable's name",
        ),
        (
            l,
            changed(LATENCY, &json!({"environment_variables": [1]})),
            ":1:2: latency_a: `environment_variables` must be an object, not an array",
        ),
        (
            s,
            server(json!({"model": "m/b"})),
            ":1:2: serving_a: `client_parameters.model` is `m/a`, `server_parameters.model` is `m/b`: the suite skips it",
        ),
        (
            s,
            client(json!({})),
            ":1:2: serving_a: `client_parameters.model` is missing, `server_parameters.model` is `m/a`: the suite skips it",
        ),
        (
            s,
            client(json!({"model": "m/a", "save_result": ""})),
            ":1:2: serving_a: `client_parameters.save_result` is set by the suite itself: remove it",
        ),
        (
            s,
            client(json!({"model": "m/a", "request_rate": 1})),
            ":1:2: serving_a: `client_parameters.request_rate` is set by the suite itself: remove it",
        ),
        (
            s,
            client(json!({"model": "m/a", "max-concurrency": 1})),
            ":1:2: serving_a: `client_parameters.max-concurrency` is set by the suite itself: remove it",
        ),
        (
            s,
            client(json!({"model": "m/a", "result_filename": "x"})),
            ":1:2: serving_a: `client_parameters.result_filename` is set by the suite itself: remove it",
        ),
        (
            s,
            client(json!({"model": "m/a", "metadata": "a=1"})),
            ":1:2: serving_a: `client_parameters.metadata` is set by the suite itself: remove it",
        ),
        (s, changed(SERVING, &json!({"qps_list": null})), ":1:2: serving_a: `qps_list` is missing"),
        (
            s,
            changed(SERVING, &json!({"qps_list": []})),
            ":1:2: serving_a: `qps_list` is empty: nothing would be measured",
        ),
        (s, changed(SERVING, &json!({"qps_list": 4})), ":1:2: serving_a: `qps_list` must be an array, not a number"),
        (
            s,
            changed(SERVING, &json!({"qps_list": [1, "4"]})),
            ":1:2: serving_a: `qps_list` holds \"4\": a request rate is a positive number or \"inf\"",
        ),
        (
            s,
            changed(SERVING, &json!({"qps_list": [0]})),
            ":1:2: serving_a: `qps_list` holds 0: a request rate is a positive number or \"inf\"",
        ),
        (
            s,
            changed(SERVING, &json!({"max_concurrency_list": []})),
            ":1:2: serving_a: `max_concurrency_list` is empty: nothing would be measured",
        ),
        (
            s,
            changed(SERVING, &json!({"max_concurrency_list": [1.5]})),
            ":1:2: serving_a: `max_concurrency_list` holds 1.5: a concurrency is a positive whole number",
        ),
        (
            "nightly-tests.json",
            changed(LATENCY, &json!({"test_name": "a"})),
            ":1:2: a: the name must start with `serving_`, `latency_`, `throughput_` or `startup_`",
        ),
    ];
    assert!(cases.len() >= 50);
    for (file, text, sentence) in cases {
        let set = set_of(file, text.as_bytes());
        let faults: Vec<_> = set.problems.iter().filter(|p| p.is_fault()).map(Problem::to_string).collect();
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].ends_with(sentence), "{text}:\n  {}\n  {sentence}", faults[0]);
        assert!(faults[0].starts_with(file), "{}", faults[0]);
    }
    let faults = set_of(l, b"[\"\xff\"]").problems;
    assert_eq!(faults[0].to_string(), "latency-tests.json: the file is not UTF-8 (byte 2)");
}

#[test]
fn doubtful_things_are_warned_of_and_measured() {
    let l = "latency-tests.json";
    let cases: Vec<(&str, String, &str)> = vec![
        (
            l,
            changed(LATENCY, &json!({"paramters": {}})),
            ":1:2: latency_a: warning: unknown key `paramters`, did you mean `parameters`?",
        ),
        (l, changed(LATENCY, &json!({"note": "x"})), ":1:2: latency_a: warning: unknown key `note`"),
        (
            l,
            format!("{{\"tests\": [{LATENCY}], \"default\": {{}}}}"),
            ": warning: unknown key `default`, did you mean `defaults`?",
        ),
        (
            l,
            format!("{{\"tests\": [{LATENCY}], \"defaults\": {{\"qps_list\": [1]}}}}"),
            ": defaults: warning: unknown key `qps_list`",
        ),
        (
            l,
            parameters(json!({"model": "m", "a_b": 1, "a-b": 2})),
            ":1:2: latency_a: warning: `parameters` has `a-b` twice (`_` and `-` are the same)",
        ),
        (
            l,
            parameters(json!({"model": "m", "enforce_eager": true})),
            ":1:2: latency_a: warning: `parameters.enforce_eager` is true, which is passed on as a word; a flag is written as an empty text",
        ),
        (
            l,
            parameters(json!({"model": "m", "speculative_config": {"method": "ngram"}})),
            ":1:2: latency_a: warning: `parameters.speculative_config` is an object: the suite hands it to the shell unquoted; write a text in single quotes",
        ),
        (
            l,
            parameters(json!({"model": "m", "x": "$(reboot)"})),
            ":1:2: latency_a: warning: `parameters.x` is a text with characters that the shell acts on: the suite hands it to the shell unquoted; write a text in single quotes",
        ),
        (
            l,
            changed(LATENCY, &json!({"parameters": null, "common_parameters": {"model": "m"}})),
            ":1:2: latency_a: warning: `common_parameters` are read by older suites only",
        ),
        (
            "latency-tests-cpu.json",
            format!("[{LATENCY}]"),
            ": warning: the suite reads `latency-tests.json` here; this file is read only when the suite is told its name",
        ),
        (
            "serving-tests.json",
            changed(SERVING, &json!({"qps_list": [4, 4]})),
            ":1:2: serving_a: warning: `qps_list` holds 4 twice: the second overwrites the first one's results",
        ),
        (
            "serving-tests.json",
            changed(SERVING, &json!({"max_concurrency_list": null})),
            ":1:2: serving_a: warning: neither `max_concurrency_list` nor `client_parameters.num_prompts` (a positive whole number) is there: the suite asks for the concurrency `null`, which its client refuses",
        ),
    ];
    for (file, text, sentence) in cases {
        let set = set_of(file, text.as_bytes());
        let said: Vec<_> = set.problems.iter().map(Problem::to_string).collect();
        assert_eq!(said, [format!("{file}{sentence}")], "{text}");
        assert_eq!(set.len(), 1, "{text}");
    }
    let quoted = parameters(json!({"model": "m", "x": r#"'{"a": [1]}'"#}));
    assert!(set_of(l, quoted.as_bytes()).problems.is_empty());
}

#[test]
fn a_broken_benchmark_never_hides_the_others() {
    let broken = r#"{"test_name": "latency_b", "parameters": {"tensor_parallel_size": 3, "output_json": "x"}}"#;
    let text = format!("[{broken}, 7, {LATENCY}]");
    let files = vec![
        ("latency-tests.json".to_owned(), Ok(text.into_bytes())),
        ("serving-tests.json".to_owned(), Ok(b"[{]".to_vec())),
        ("startup-tests.json".to_owned(), Err(ProblemKind::Unreadable("permission denied".to_owned()))),
        ("throughput-tests.json".to_owned(), Err(ProblemKind::Folder)),
    ];
    let set = BenchmarkSet::of_files(Platform::Cuda, files);
    assert_eq!(set.files[0].benchmarks[0].name, "latency_a");
    let said: Vec<_> = set.problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        said,
        [
            "latency-tests.json:1:2: latency_b: `parameters.output_json` is set by the suite itself: remove it",
            "latency-tests.json:1:2: latency_b: `parameters.model` is missing",
            "latency-tests.json:1:2: latency_b: tensor parallel size 3 is impossible (1, 2, 4 or 8)",
            "latency-tests.json:1:93: entry 2: a benchmark must be an object, not a number",
            "serving-tests.json:1:3: bad JSON: key must be a string",
            "startup-tests.json: failed to read the file: permission denied",
            "throughput-tests.json: warning: this is a folder, not a benchmark file",
        ]
    );
}

#[test]
fn defaults_lie_under_each_benchmark_as_in_the_suite() {
    let text = r#"{"defaults": {"qps_list": ["inf"], "server_parameters": {"model": "m/a", "tensor_parallel_size": 2},
        "client_parameters": {"model": "m/a", "num_prompts": 64}},
      "tests": [{"test_name": "serving_a"},
        {"test_name": "serving_b", "qps_list": [0.5, 4], "server_parameters": {"tensor_parallel_size": 4}}]}"#;
    let set = set_of("serving-tests.json", text.as_bytes());
    assert_eq!(set.problems, []);
    let [a, b] = set.files[0].benchmarks.as_slice() else { panic!("two benchmarks") };
    assert_eq!((a.model.as_str(), a.devices, b.devices), ("m/a", 2, 4));
    let names: Vec<_> = b.points_of(Variant::Eager, None).into_iter().map(|p| (p.point, p.eager)).collect();
    assert_eq!(
        names,
        [
            ("serving_b_eager_qps_0.5_concurrency_64".to_owned(), true),
            ("serving_b_eager_qps_4_concurrency_64".to_owned(), true)
        ]
    );
    assert!(matches!(&set.files[0].form, Form::Defaults(defaults) if defaults.contains_key("qps_list")));
    // The variant's option goes into the benchmark, over the defaults.
    let eager = a.entry_of(Variant::Eager, None);
    assert_eq!(
        Value::Object(eager),
        json!({"test_name": "serving_a_eager", "server_parameters": {"compilation-config": "'{\"backend\":\"eager\"}'"}})
    );

    let text =
        r#"{"defaults": {"parameters": {"model": "m/a", "num_iters": 5}}, "tests": [{"test_name": "latency_a"}]}"#;
    let set = set_of("latency-tests.json", text.as_bytes());
    assert_eq!((set.problems.len(), &set.files[0].form), (0, &Form::Plain));
    let entry = Value::Object(set.files[0].benchmarks[0].entry_of(Variant::Base, None));
    assert_eq!(entry, json!({"test_name": "latency_a", "parameters": {"model": "m/a", "num_iters": 5}}));
}

#[test]
fn the_engine_may_have_several_kinds_of_parallelism() {
    let text = parameters(json!({"model": "m", "tensor_parallel_size": "2", "pipeline_parallel_size": 3}));
    assert_eq!(set_of("latency-tests.json", text.as_bytes()).files[0].benchmarks[0].devices, 6);
    let text = parameters(json!({"model": "m"}));
    assert_eq!(set_of("latency-tests.json", text.as_bytes()).files[0].benchmarks[0].devices, 1);
}

#[test]
fn a_directory_is_one_platform_or_all() {
    let dir = tempfile::tempdir().unwrap();
    let error = read_all(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("expected folders cuda, rocm, hpu, cpu, arm64-cpu or one platform's *.json"), "{error}");
    fs::create_dir(dir.path().join("cpu")).unwrap();
    fs::write(dir.path().join("cpu/latency-tests-cpu.json"), format!("[{LATENCY}]")).unwrap();
    fs::write(dir.path().join("cpu/.hidden.json"), "broken").unwrap();
    fs::write(dir.path().join("cpu/notes.txt"), "broken").unwrap();
    assert_eq!(read_platform(dir.path(), Platform::Cpu).unwrap().len(), 1);
    assert_eq!(read_platform(&dir.path().join("cpu"), Platform::Cpu).unwrap().len(), 1);
    let error = read_platform(dir.path(), Platform::Cuda).unwrap_err().to_string();
    assert!(
        error.ends_with("holds no benchmark files for cuda (expected cuda/serving-tests.json or its like)"),
        "{error}"
    );
    let error = read_platform(&dir.path().join("cpu"), Platform::Hpu).unwrap_err().to_string();
    assert!(error.contains("holds no benchmark files for hpu"), "{error}");
    fs::create_dir(dir.path().join("rocm")).unwrap();
    fs::write(dir.path().join("rocm/latency-tests.json"), "[").unwrap();
    assert!(read_platform(&dir.path().join("rocm"), Platform::Cuda).is_err());
    let sets = read_all(dir.path()).unwrap();
    assert_eq!(sets.iter().map(|s| s.platform).collect::<Vec<_>>(), [Platform::Rocm, Platform::Cpu]);
    assert_eq!(sets[0].problems[0].to_string(), "rocm/latency-tests.json:1:1: bad JSON: EOF while parsing a list");
    for stray in ["cdua/latency-tests.json", "serving-tests.json", "notes/readme.json"] {
        let stray = dir.path().join(stray);
        fs::create_dir_all(stray.parent().unwrap()).unwrap();
        fs::write(stray, "[]").unwrap();
    }
    let sets = read_all(dir.path()).unwrap();
    let said: Vec<_> = sets[0].problems[1..].iter().map(Problem::to_string).collect();
    let why =
        "warning: it belongs to no platform and is not read: benchmark files lie in cuda, rocm, hpu, cpu, arm64-cpu";
    assert_eq!(said, [format!("cdua/: {why}"), format!("serving-tests.json: {why}")]);
    let missing = read_all(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(missing.starts_with("failed to read the benchmark directory "), "{missing}");
    assert_eq!(file_name(SuiteKind::Startup, Platform::Arm64Cpu), "startup-tests-arm64-cpu.json");
}

#[test]
fn a_file_that_ends_early_is_one_fault() {
    let text = format!("[{SERVING}, {LATENCY}]");
    for end in 0..text.len() {
        let set = set_of("serving-tests.json", &text.as_bytes()[..end]);
        assert!(set.is_empty(), "{end}");
        assert_eq!(set.problems.len(), 1, "{end}");
        assert!(set.problems[0].to_string().contains(": bad JSON: EOF while parsing"), "{}", set.problems[0]);
    }
}
