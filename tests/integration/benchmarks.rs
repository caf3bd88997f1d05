//! The project's own benchmark files, and `check-benchmarks` and `plan` as a person calls them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::benchd;

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks")
}

fn run(args: &[&str]) -> (i32, String, String) {
    let ran = benchd().args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code().unwrap(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn the_own_benchmarks_are_clean_and_measure_something_everywhere() {
    let dir = own().display().to_string();
    let (code, said, _) = run(&["check-benchmarks", &dir]);
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("in 20 files, 0 faults, 0 warnings\n"), "{said}");
    for platform in ["cuda", "rocm", "hpu", "cpu", "arm64-cpu"] {
        let (code, plan, said) = run(&["plan", "--benchmarks", &dir, "--platform", platform, "--json"]);
        assert_eq!((code, said.as_str()), (0, ""), "{platform}");
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let jobs = plan["jobs"].as_array().unwrap();
        let quick = jobs.iter().find(|job| job["model"] == "facebook/opt-125m").expect("the quick model");
        for suite in ["serving", "latency", "throughput", "startup"] {
            let points = quick["points"].as_array().unwrap();
            assert!(points.iter().any(|point| point["suite"] == suite), "{platform}: {suite}");
        }
        assert_eq!(plan["files"].as_array().unwrap().len(), 4, "{platform}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    assert_eq!(run(&["check-benchmarks", &path]).0, 2);
    assert_eq!(run(&["check-benchmarks", &format!("{path}/absent")]).0, 2);
    fs::create_dir(dir.path().join("cuda")).unwrap();
    fs::write(dir.path().join("cuda/serving-tests.json"), "[\n{\"test_name\": }]").unwrap();
    let latency = r#"[{"test_name": "latency_a", "parameters": {"model": "m/a"}},
      {"test_name": "throughput_a", "parameters": {"tensor_parallel_size": 0}}]"#;
    fs::write(dir.path().join("cuda/latency-tests.json"), latency).unwrap();
    let (code, said, _) = run(&["check-benchmarks", &path]);
    assert_eq!(code, 1);
    assert_eq!(
        said,
        "cuda/latency-tests.json:2:7: throughput_a: the name must start with `latency_`\n\
         cuda/latency-tests.json:2:7: throughput_a: `parameters.model` is missing\n\
         cuda/latency-tests.json:2:7: throughput_a: tensor parallel size 0 is impossible (1, 2, 4 or 8)\n\
         cuda/serving-tests.json:2:15: bad JSON: expected value\n\
         1 good benchmarks in 2 files, 4 faults, 0 warnings\n"
    );
    let (code, json, _) = run(&["check-benchmarks", &path, "--json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &report["ok"], &report["faults"]), (1, &Value::from(false), &Value::from(4)));
    assert_eq!(report["problems"][3]["line"], 2);

    // The good one is planned all the same, and the faults are told.
    let (code, plan, said) = run(&["plan", "--benchmarks", &path, "--platform", "cuda", "--variants", "base"]);
    assert_eq!(
        (code, plan.as_str()),
        (0, "m/a on 1x cuda: 1 points\n  latency_a\n1 jobs, 1 points; files: latency-tests.json\n")
    );
    assert!(said.contains("serving-tests.json:2:15: bad JSON: expected value"), "{said}");
}

#[test]
fn plan_answers_and_refuses() {
    let dir = own().display().to_string();
    let plan = |more: &[&str]| run(&[&["plan", "--benchmarks", &dir, "--platform", "cuda"], more].concat());
    let (code, _, said) = plan(&["--models", "facebook/opt-125n"]);
    assert_eq!(code, 1);
    assert_eq!(
        said,
        "benchd: no benchmark of cuda has the model `facebook/opt-125n`, did you mean `facebook/opt-125m`?\n\
         benchd: nothing to measure\n"
    );
    let (code, _, said) = plan(&["--compilation-config", "{bad"]);
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "benchd: in --compilation-config: the compilation configuration is not JSON: key must be a string at line 1 column 2\n"
    );
    let (code, _, said) = plan(&["--gpus", "2", "--suites", "latency", "--variants", "base"]);
    assert_eq!((code, said.as_str()), (0, "benchd: skipped latency_llama70B_tp4: needs 4 GPUs, host has 2\n"));
    for wrong in [["--variants", "fast"], ["--suites", "speed"], ["--gpus", "many"]] {
        assert_eq!(plan(&wrong).0, 2, "{wrong:?}");
    }
    assert_eq!(run(&["plan", "--benchmarks", &dir, "--platform", "xpu"]).0, 2);
    assert_eq!(run(&["plan", "--benchmarks", &format!("{dir}/absent"), "--platform", "cuda"]).0, 2);
}

#[test]
fn a_variant_has_its_option_though_the_section_is_null() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cuda")).unwrap();
    let serving = r#"{"defaults": {"qps_list": [1], "server_parameters": {"model": "m/a"},
            "client_parameters": {"model": "m/a", "num_prompts": 1}},
        "tests": [{"test_name": "serving_a", "server_parameters": null}]}"#;
    fs::write(dir.path().join("cuda/serving-tests.json"), serving).unwrap();
    let (from, out) = (dir.path().display().to_string(), dir.path().join("out"));
    let to = out.display().to_string();
    let plan = ["plan", "--benchmarks", &from, "--platform", "cuda", "--variants", "eager", "--out"];
    let (code, _, said) = run(&[&plan[..], &[&to]].concat());
    assert_eq!(code, 0, "{said}");
    let written = fs::read_to_string(out.join("serving-tests.json")).unwrap();
    assert!(written.contains(r#"{\"backend\":\"eager\"}"#), "{written}");

    // What is read is never written over, nor what lies beside it.
    fs::create_dir(dir.path().join("cpu")).unwrap();
    for own in ["cuda", "cpu", "."] {
        let (code, _, said) = run(&[&plan[..], &[&dir.path().join(own).display().to_string()]].concat());
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("holds the benchmarks that are read: name another folder"), "{said}");
    }
    let own = dir.path().join("cuda").display().to_string();
    let (code, _, said) =
        run(&["plan", "--benchmarks", &own, "--platform", "cuda", "--models", "absent", "--out", &own]);
    assert_eq!(code, 2, "{said}");
    assert_eq!(fs::read_to_string(dir.path().join("cuda/serving-tests.json")).unwrap(), serving);
}

#[test]
fn earlier_suite_files_are_removed_and_nothing_else() {
    let dir = own().display().to_string();
    let out = tempfile::tempdir().unwrap();
    for name in ["startup-tests-cpu.json", "notes.json", "nightly-tests.txt"] {
        fs::write(out.path().join(name), "old").unwrap();
    }
    let to = out.path().display().to_string();
    let (code, _, said) =
        run(&["plan", "--benchmarks", &dir, "--platform", "cuda", "--suites", "startup", "--out", &to]);
    assert_eq!(code, 0, "{said}");
    let mut names: Vec<_> =
        fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["nightly-tests.txt", "notes.json", "startup-tests.json"]);
}

#[test]
fn no_benchmark_is_lost_because_its_model_is_not_served() {
    let Some(configs) = crate::support::shared("golden/configs") else { return };
    let configs = configs.display().to_string();
    for (platform, model, count, benchmark) in [
        ("cuda", "meta-llama/meta-llama-3.1-8b-instruct", 1, "startup_llama8B_tp1"),
        ("cuda", "meta-llama/meta-llama-3.1-70b-instruct", 4, "startup_llama70B_tp4"),
        ("cuda", "deepseek-ai/deepseek-v3.1", 8, "startup_deepseek_v3_1_tp8"),
        ("rocm", "meta-llama/meta-llama-3.1-8b-instruct", 1, "startup_llama8B_tp1"),
        ("rocm", "meta-llama/meta-llama-3.1-70b-instruct", 4, "startup_llama70B_tp4"),
        ("hpu", "qwen/qwen3-8b", 1, "latency_qwen3_8b"),
        ("cpu", "meta-llama/llama-3.1-8b-instruct", 2, "serving_llama8B_tp2_sharegpt"),
        ("cpu", "meta-llama/llama-3.1-8b-instruct", 1, "serving_llama8B_tp1_sharegpt"),
    ] {
        let (_, plan, _) = run(&["plan", "--benchmarks", &configs, "--platform", platform, "--json"]);
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let jobs = plan["jobs"].as_array().unwrap();
        let job = jobs.iter().find(|job| job["model"] == model && job["target"]["count"] == count);
        let job = job.unwrap_or_else(|| panic!("{platform}: no job of {model} on {count}"));
        let points = job["points"].as_array().unwrap();
        assert!(points.iter().any(|point| point["benchmark"] == benchmark), "{platform}: {benchmark}");
    }
}

/// The real suite ran these files once: every point that it wrote down a command for was planned, and no other.
#[test]
fn the_points_are_those_that_the_suite_runs() {
    let (Some(configuration), Some(run_1)) =
        (crate::support::shared("vllm/suite-configuration"), crate::support::shared("vllm/run-1"))
    else {
        return;
    };
    let configuration = configuration.display().to_string();
    let args = ["plan", "--benchmarks", &configuration, "--platform", "cpu", "--variants", "base", "--json"];
    let plan: Value = serde_json::from_str(&run(&args).1).unwrap();
    let points = plan["jobs"][0]["points"].as_array().unwrap().iter();
    let mut planned: Vec<_> = points.map(|point| point["point"].as_str().unwrap().to_owned()).collect();
    let names = fs::read_dir(run_1).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut ran: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".commands")?.to_owned())).collect();
    planned.sort();
    ran.sort();
    assert_eq!(planned, ran);
}
