//! `benchd plan --out` against the suite files that the reference writes for the same models, platform and variants.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{benchd, shared};

/// Where benchd deliberately differs (docs/compatibility.md, "Suite files"): the case's exit code, and the files of
/// which other case it writes instead.
const DEVIATIONS: &[(&str, i32, Option<&str>)] = &[
    // Models are compared without regard to case and trimmed.
    ("cuda_mixed_case_no_match", 0, Some("cuda_opt-125m_plain")),
    ("cuda_space_after_comma", 0, Some("cuda_two_models")),
    // A wrong command line is exit 2.
    ("bad_compilation_config", 2, None),
    ("unknown_device", 2, None),
];

fn json_files(dir: &Path) -> BTreeMap<String, Value> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            files.insert(name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap());
        }
    }
    files
}

/// The reference's arguments in benchd's words.
fn arguments(reference: &[String]) -> Vec<String> {
    let mut args = Vec::new();
    let mut variants = vec!["base"];
    let mut words = reference.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--include-eager-mode" => variants.push("eager"),
            "--include-inductor-graph-partition" => variants.push("inductor_graph_partition"),
            "--device" => args.extend(["--platform".to_owned(), words.next().unwrap().clone()]),
            "--models" | "--compilation-config" => args.extend([word.clone(), words.next().unwrap().clone()]),
            other => panic!("unknown argument {other}"),
        }
    }
    args.extend(["--variants".to_owned(), variants.join(",")]);
    args
}

#[test]
fn writes_what_the_reference_writes() {
    let (Some(cases), Some(configs)) = (shared("golden/setup"), shared("golden/configs")) else { return };
    let mut count = 0;
    for case in fs::read_dir(&cases).unwrap() {
        let case = case.unwrap();
        let name = case.file_name().to_string_lossy().into_owned();
        let argv = fs::read_to_string(case.path().join("input/argv.txt")).unwrap();
        let argv: Vec<_> = argv.lines().map(str::to_owned).collect();
        let out = tempfile::tempdir().unwrap();
        let ran = benchd()
            .args(["plan", "--benchmarks"])
            .arg(&configs)
            .args(arguments(&argv))
            .arg("--out")
            .arg(out.path())
            .output()
            .unwrap();
        let expected = json_files(&case.path().join("expected/tests"));
        let (code, expected) = match DEVIATIONS.iter().find(|(deviating, ..)| *deviating == name) {
            Some((_, code, None)) => (*code, BTreeMap::new()),
            Some((_, code, Some(other))) => (*code, json_files(&cases.join(other).join("expected/tests"))),
            // The reference exits 0 when a model has no benchmarks; nothing to measure is a negative answer.
            None => (i32::from(expected.is_empty()), expected),
        };
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{name}: {said}");
        assert_eq!(json_files(out.path()), expected, "{name}: {said}");
        let again = |file: &str| fs::read_to_string(out.path().join(file)).unwrap();
        for file in expected.keys() {
            let recorded = case.path().join("expected/tests").join(file);
            if recorded.exists() && !DEVIATIONS.iter().any(|(deviating, ..)| *deviating == name) {
                assert_eq!(again(file), fs::read_to_string(recorded).unwrap(), "{name}/{file}: bytes");
            }
        }
        count += 1;
    }
    assert!(count >= 30, "{count} cases");
}

#[test]
fn the_recorded_benchmark_files_are_without_faults() {
    let Some(configs) = shared("golden/configs") else { return };
    let ran = benchd().arg("check-benchmarks").arg(&configs).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.status.code(), Some(0), "{said}");
    // One serving benchmark names no concurrency: the suite's client refuses it, so a person is told.
    assert!(
        said.starts_with("rocm/serving-tests.json:280:5: serving_gemma_3_27b_it_tp8_in1k_out2k: warning: "),
        "{said}"
    );
    assert!(said.ends_with("143 good benchmarks in 20 files, 0 faults, 1 warnings\n"), "{said}");
}
