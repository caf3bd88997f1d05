//! `benchd results` beyond the recorded cases: plans, other projects' formats, shadow prefixes, bad command lines.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::benchd;

const RECORD: &str = r#"[{"benchmark": {"name": "b"}, "metric": {"name": "latency", "benchmark_values": [1.5]}, "model": {"name": "m"}}]"#;
const IDENTITY: &str = "--repo o/r --branch main --sha 9816774803221e23e6f26178546c65c2466e2c90 --timestamp 1780007200 \
                        --platform cpu --device-type Xeon_6972P_192c";

fn results(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn run(command: &str, dir: &Path, more: &[&str]) -> (i32, String, String) {
    let output = benchd().args(["results", command]).arg(dir).args(more).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn upload(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let identity: Vec<_> = IDENTITY.split_whitespace().chain(more.iter().copied()).collect();
    run("upload", dir, &identity)
}

fn point(name: &str) -> Value {
    json!({"suite": "latency", "benchmark": name, "variant": "base", "point": name, "eager": false})
}

#[test]
fn a_plan_says_what_is_expected() {
    let dir = results(&[("latency_a.pytorch.json", RECORD)]);
    let jobs = json!({"platform": "cpu", "jobs": [
        {"model": "o/one", "points": [point("latency_a")]}, {"model": "o/two", "points": [point("latency_b")]}]});
    let elsewhere =
        results(&[("plan.json", &jobs.to_string()), ("points.json", &json!([point("latency_a")]).to_string())]);
    let plan = elsewhere.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    let (code, out, _) = run("check", dir.path(), &["--plan", plan]);
    assert_eq!(code, 1);
    assert!(out.contains("latency_b") && out.contains("not run"), "{out}");
    assert_eq!(run("check", dir.path(), &["--plan", plan, "--lenient"]).0, 0);
    assert_eq!(run("check", dir.path(), &["--plan", plan, "--model", "O/One"]).0, 0);
    let (code, _, err) = run("check", dir.path(), &["--plan", plan, "--model", "o/three"]);
    assert!(code == 2 && err.contains("o/three"), "{err}");
    let points = elsewhere.path().join("points.json");
    assert_eq!(run("check", dir.path(), &["--plan", points.to_str().unwrap()]).0, 0);
    let bucket = format!("file://{}", elsewhere.path().join("bucket").display());
    let (code, out, _) = upload(dir.path(), &["--plan", plan, "--to", &bucket, "--json", "--model", "o/two"]);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &said["outcome"], &said["complete"]), (1, &json!("created"), &json!(false)));
    let (code, _, err) = run("check", dir.path(), &["--plan", "/nonexistent/plan.json"]);
    assert!(code == 2 && err.contains("/nonexistent/plan.json"), "{err}");
    for nothing in ["[]", r#"{"jobs": [{"model": "o/one", "points": []}]}"#] {
        std::fs::write(&points, nothing).unwrap();
        let (code, _, err) = run("check", dir.path(), &["--plan", points.to_str().unwrap()]);
        assert!(code == 2 && err.contains("expects nothing"), "{nothing}: {err}");
    }
}

#[test]
fn the_report_has_the_documented_shape() {
    let bad = RECORD.replace("1.5", "NaN");
    let dir = results(&[("latency_a.pytorch.json", &bad), ("latency_b.pytorch.json", RECORD)]);
    let (code, out, _) = run("check", dir.path(), &["--json"]);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(
        said,
        json!({
            "ok": false,
            "records": 1,
            "files": [
                {"name": "latency_a.pytorch.json", "records": 0, "kind": "records"},
                {"name": "latency_b.pytorch.json", "records": 1, "kind": "records"},
            ],
            "points": [
                {"benchmark": "latency_a", "point": "latency_a", "state": "not_a_number",
                    "reason": "value 1 of `latency` is NaN"},
                {"benchmark": "latency_b", "point": "latency_b", "state": "ok", "reason": null},
            ],
            "problems": [{"file": "latency_a.pytorch.json", "at": "record 1", "kind": "not_finite",
                "message": "value 1 of `latency` is NaN"}],
            "warnings": [],
        })
    );
}

#[test]
fn other_projects_results_are_checked_and_sent() {
    let dir = results(&[
        ("speed.json", r#"[{"name": "parse", "value": 12.5, "unit": "ms", "better": "lower"}]"#),
        ("bmf.json", r#"{"bench one": {"latency": {"value": 88.0, "upper_value": 90}}}"#),
    ]);
    let bucket = tempfile::tempdir().unwrap();
    let to = format!("file://{}/shadow", bucket.path().display());
    assert_eq!(run("check", dir.path(), &[]).0, 0);
    let (code, out, _) = upload(dir.path(), &["--to", &to, "--benchmark-name", "my project", "--model", ""]);
    assert_eq!(code, 0, "{out}");
    let key = "shadow/v3/o/r/main/9816774803221e23e6f26178546c65c2466e2c90/Xeon_6972P_192c/benchmark_results.json";
    assert!(bucket.path().join(key).is_file(), "{out}");
    let zero = results(&[("speed.json", r#"[{"name": "parse", "value": 0}]"#)]);
    assert_eq!(run("check", zero.path(), &[]).0, 1);
}

#[test]
fn gaudi_compiles_nothing() {
    let zero = r#"[{"benchmark": {}, "metric": {"name": "avg_cold_compilation_time", "benchmark_values": [0.0]}}]"#;
    let dir = results(&[("s.cold_compilation.pytorch.json", zero), ("latency_a.pytorch.json", RECORD)]);
    assert_eq!(run("check", dir.path(), &["--platform", "cuda"]).0, 1);
    assert_eq!(run("check", dir.path(), &["--platform", "hpu"]).0, 0);
}

#[test]
fn zeros_that_are_right_are_no_object_by_themselves() {
    let zero = r#"[{"benchmark": {"extra_info": {"args": {"enforce_eager": true}}},
        "metric": {"name": "avg_cold_compilation_time", "benchmark_values": [0.0]}}]"#;
    let dir = results(&[("s.cold_compilation.pytorch.json", zero)]);
    let bucket = tempfile::tempdir().unwrap();
    let to = format!("file://{}", bucket.path().display());
    assert_eq!(run("check", dir.path(), &[]).0, 0);
    let (code, out, _) = upload(dir.path(), &["--to", &to]);
    assert_eq!((code, std::fs::read_dir(bucket.path()).unwrap().count()), (0, 0), "{out}");
}

#[test]
fn a_bad_command_line_is_a_usage_error() {
    let dir = results(&[("latency_a.pytorch.json", RECORD)]);
    assert_eq!(run("check", Path::new("/nonexistent"), &[]).0, 2);
    for (bad, word) in [
        (&["--to", "gs://bucket"][..], "target"),
        (&["--to", "file:///tmp/x", "--run-id", "one"], "--run-id"),
        (&["--to", "file:///tmp/x", "--repo", "nobody"], "repository"),
        (&["--to", "file:///tmp/x", "--timestamp", "yesterday"], "RFC 3339"),
        (&["--to", "file:///tmp/x", "--api", "http://127.0.0.1:9/"], "cannot be used with"),
        (&[], "--to"),
    ] {
        // A flag given twice: the later one is what is tried.
        let given: Vec<_> = IDENTITY.split_whitespace().collect();
        let kept: Vec<_> = given.chunks(2).filter(|pair| !bad.contains(&pair[0])).flatten().copied().collect();
        let (code, _, err) =
            run("upload", dir.path(), &kept.into_iter().chain(bad.iter().copied()).collect::<Vec<_>>());
        assert!(code == 2 && err.contains(word), "{bad:?}: {code} {err}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_infrastructure_failure() {
    let dir = results(&[("latency_a.pytorch.json", RECORD)]);
    let to = format!("file://{}/latency_a.pytorch.json/bucket", dir.path().display());
    let (code, _, err) = upload(dir.path(), &["--to", &to]);
    assert!(code == 3 && err.contains("failed to make the folder"), "{err}");
}
