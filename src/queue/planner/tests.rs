//! Which jobs, points and files come out of which benchmarks and wishes.

use std::fs;

use serde_json::json;

use super::*;
use crate::suite::read_platform;

/// A set of one platform with these files.
fn set_of(platform: Platform, files: &[(&str, Value)]) -> BenchmarkSet {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(platform.as_str());
    fs::create_dir(&folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content.to_string()).unwrap();
    }
    let set = read_platform(dir.path(), platform).unwrap();
    assert_eq!(set.problems.iter().filter(|p| p.is_fault()).collect::<Vec<_>>(), Vec::<&crate::suite::Problem>::new());
    set
}

fn latency(name: &str, model: &str, tensor: u32) -> Value {
    json!({"test_name": format!("latency_{name}"), "parameters": {"model": model, "tensor_parallel_size": tensor}})
}

fn serving(name: &str, model: &str, tensor: u32) -> Value {
    json!({
        "test_name": format!("serving_{name}"), "qps_list": [1, 16, "inf"], "max_concurrency_list": [8, 32],
        "server_parameters": {"model": model, "tensor_parallel_size": tensor}, "client_parameters": {"model": model},
    })
}

fn base() -> Selection {
    Selection { variants: vec![Variant::Base], ..Selection::default() }
}

fn points(job: &PlannedJob) -> Vec<&str> {
    job.points.iter().map(|point| point.point.as_str()).collect()
}

#[test]
fn one_job_for_each_model_and_device_count() {
    let set = set_of(
        Platform::Cuda,
        &[
            ("latency-tests.json", json!([latency("a1", "m/A", 1), latency("a2", "m/a", 2), latency("b", "m/b", 8)])),
            ("serving-tests.json", json!([serving("a", "m/A", 1)])),
        ],
    );
    let host = Host { devices: Some(4), device_type: Some("NVIDIA B200".parse().unwrap()) };
    let plan = plan(&set, &base(), &host);
    let jobs: Vec<_> = plan.jobs.iter().map(|job| (job.model.as_str(), job.target.count)).collect();
    assert_eq!(jobs, [("m/a", 1), ("m/a", 2)]);
    assert_eq!(plan.jobs[0].model_name, "m/A");
    assert_eq!(
        points(&plan.jobs[0]),
        [
            "serving_a_qps_1_concurrency_8",
            "serving_a_qps_1_concurrency_32",
            "serving_a_qps_16_concurrency_8",
            "serving_a_qps_16_concurrency_32",
            "serving_a_qps_inf_concurrency_8",
            "serving_a_qps_inf_concurrency_32",
            "latency_a1",
        ]
    );
    assert_eq!(points(&plan.jobs[1]), ["latency_a2"]);
    assert_eq!(plan.point_count(), 8);
    assert_eq!(plan.skipped.len(), 1);
    assert_eq!(
        (plan.skipped[0].benchmark.as_str(), plan.skipped[0].reason.to_string().as_str()),
        ("latency_b", "needs 8 GPUs, host has 4")
    );
    assert_eq!(plan.jobs[0].target.on(&"other".parse().unwrap()).to_string(), "1x NVIDIA B200");
}

#[test]
fn a_container_gets_a_file_for_each_suite_and_only_its_own_benchmarks() {
    let set =
        set_of(Platform::Rocm, &[("latency-tests.json", json!([latency("a", "m/a", 1), latency("b", "m/b", 1)]))]);
    let plan = plan(&set, &base(), &Host::default());
    let files: Vec<_> = plan.jobs[1].suite_files.iter().map(|f| (f.name.as_str(), f.to_line().unwrap())).collect();
    let b = r#"[{"test_name": "latency_b", "parameters": {"model": "m/b", "tensor_parallel_size": 1}}]"#;
    assert_eq!(
        files,
        [
            ("serving-tests.json", "[]".to_owned()),
            ("latency-tests.json", b.to_owned()),
            ("throughput-tests.json", "[]".to_owned()),
            ("startup-tests.json", "[]".to_owned()),
        ]
    );
    // All together: only what holds something.
    assert_eq!(plan.files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["latency-tests.json"]);
    assert_eq!(plan.files[0].content.as_array().unwrap().len(), 2);
}

#[test]
fn variants_are_all_of_the_platform_unless_they_are_listed() {
    let files = |suffix: &str| [(format!("latency-tests{suffix}.json"), json!([latency("a", "m/a", 1)]))];
    let benchmarks = |platform: Platform, selection: &Selection| {
        let files = files(platform.file_suffix());
        let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
        let plan = plan(&set_of(platform, &files), selection, &Host::default());
        let points = plan.jobs.iter().flat_map(|job| &job.points);
        points.map(|p| (p.benchmark.clone(), p.variant, p.eager)).collect::<Vec<_>>()
    };
    let all = [
        ("latency_a".to_owned(), Variant::Base, false),
        ("latency_a_eager".to_owned(), Variant::Eager, true),
        ("latency_a_inductor_graph_partition".to_owned(), Variant::InductorGraphPartition, false),
    ];
    assert_eq!(benchmarks(Platform::Cpu, &Selection::default()), all);
    assert_eq!(benchmarks(Platform::Hpu, &Selection::default()), all[..1]);
    // A list is taken at its word, in the order of the suite files.
    let listed = Selection { variants: vec![Variant::Eager, Variant::Base], ..Selection::default() };
    assert_eq!(benchmarks(Platform::Hpu, &listed), all[..2]);
}

#[test]
fn models_and_suites_are_chosen() {
    let files = [
        ("latency-tests.json", json!([latency("a", "m/A", 1)])),
        ("serving-tests.json", json!([serving("a", "m/A", 1)])),
    ];
    let set = set_of(Platform::Cuda, &files);
    let models = |list: &[&str]| Selection { models: list.iter().map(|m| (*m).to_owned()).collect(), ..base() };
    assert_eq!(plan(&set, &models(&[" M/a ", "m/x"]), &Host::default()).unknown_models, ["m/x"]);
    assert_eq!(plan(&set, &models(&[" M/a "]), &Host::default()).point_count(), 7);
    assert_eq!(plan(&set, &models(&["", " "]), &Host::default()).point_count(), 7);
    let none = plan(&set, &models(&["m/x"]), &Host::default());
    assert_eq!(
        (none.point_count(), none.files.len(), none.skipped[0].reason.to_string().as_str()),
        (0, 0, "model not selected")
    );
    let suites = Selection { suites: vec![SuiteKind::Latency], ..base() };
    let latency_only = plan(&set, &suites, &Host::default());
    assert_eq!((latency_only.point_count(), latency_only.files.len()), (1, 1));
    assert_eq!(latency_only.skipped[0].reason.to_string(), "suite serving not selected");
}

#[test]
fn the_suite_may_be_told_to_read_another_file() {
    let files = [
        ("serving-tests-cpu.json", json!([serving("a", "m/a", 1)])),
        ("serving-tests-cpu-snc2.json", json!([serving("b", "m/a", 2)])),
    ];
    let set = set_of(Platform::Cpu, &files);
    let plain = plan(&set, &base(), &Host::default());
    assert_eq!((plain.jobs.len(), plain.files.len()), (1, 2));
    assert_eq!(
        plain.skipped[0].reason.to_string(),
        "the suite reads serving-tests-cpu.json, not serving-tests-cpu-snc2.json"
    );
    let env = |name: &str| BTreeMap::from([("SERVING_JSON".to_owned(), name.to_owned())]);
    let wrong = told_file_names(&env("../../etc/x.json")).unwrap_err().to_string();
    assert_eq!(
        wrong,
        "SERVING_JSON is `../../etc/x.json`: a bare file name is needed, one that the benchmark folder has"
    );
    let file_names = told_file_names(&env("serving-tests-cpu-snc2.json")).unwrap();
    let host = Host { devices: Some(1), ..Host::default() };
    let told = plan(&set, &Selection { file_names: file_names.clone(), ..base() }, &Host::default());
    assert_eq!(told.jobs[0].suite_files[0].name, "serving-tests-cpu-snc2.json");
    assert!(points(&told.jobs[0])[0].starts_with("serving_b_"));
    let small = plan(&set, &Selection { file_names, ..base() }, &host);
    assert!(small.skipped.iter().any(|s| s.reason.to_string() == "needs 2 NUMA nodes, host has 1"));
}

#[test]
fn defaults_stay_with_the_benchmarks_of_each_job() {
    let content = json!({"defaults": {"qps_list": [1], "client_parameters": {"num_prompts": 4}}, "tests": [
        {"test_name": "serving_a", "server_parameters": {"model": "m/a"}, "client_parameters": {"model": "m/a"}},
        {"test_name": "serving_b", "server_parameters": {"model": "m/b"}, "client_parameters": {"model": "m/b"}},
    ]});
    let set = set_of(Platform::Cuda, &[("serving-tests.json", content.clone())]);
    let plan = plan(&set, &base(), &Host::default());
    assert_eq!(plan.files[0].content, content);
    let own = &plan.jobs[1].suite_files[0].content;
    assert_eq!((&own["defaults"], own["tests"].as_array().unwrap().len()), (&content["defaults"], 1));
    assert_eq!(points(&plan.jobs[1]), ["serving_b_qps_1_concurrency_4"]);
}

#[test]
fn a_plan_is_read_by_programs() {
    let set = set_of(Platform::Cuda, &[("latency-tests.json", json!([latency("a", "m/a", 1)]))]);
    let plan = plan(&set, &base(), &Host::default());
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        json!({
            "platform": "cuda",
            "jobs": [{
                "target": {"platform": "cuda", "device_type": null, "count": 1},
                "model": "m/a",
                "model_name": "m/a",
                "points": [{"suite": "latency", "benchmark": "latency_a", "variant": "base", "point": "latency_a", "eager": false}],
                "suite_files": [
                    {"name": "serving-tests.json", "content": []},
                    {"name": "latency-tests.json", "content": [latency("a", "m/a", 1)]},
                    {"name": "throughput-tests.json", "content": []},
                    {"name": "startup-tests.json", "content": []},
                ],
            }],
            "skipped": [],
            "unknown_models": [],
            "files": ["latency-tests.json"],
        })
    );
    let job: PlannedJob = serde_json::from_value(serde_json::to_value(&plan.jobs[0]).unwrap()).unwrap();
    assert_eq!(job, plan.jobs[0]);
}
