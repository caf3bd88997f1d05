//! A store that is lost and built again from its bucket: the same runs, series and values; and what others published of
//! the same benchmarks continues the same series.

use std::path::Path;

use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Row};

use super::BASE;
use super::project::{BUCKET, FIRST, Project, SECOND, good};

/// Every series with its values, without the numbers that only count rows.
async fn series(state: &Path) -> Vec<String> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(state.join("benchd.db")).read_only(true);
    let mut connection = options.connect().await.unwrap();
    let statement = "select json_array(s.repository, s.platform, s.device_type, s.device_count, s.model, s.benchmark,
             s.variant, s.point, s.metric, s.configuration, s.unit, s.better, s.class, m.role, m.sha, m.mean,
             m.raw_values) as row
         from measurements m join series s on s.id = m.series_id order by 1";
    let rows = sqlx::query(statement).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows.iter().map(|row| row.get("row")).collect()
}

/// A run as `benchd show --json` tells it, without what only the store that measured it knows.
fn shown(project: &Project, state: &str, run: u64) -> Value {
    let mut shown = project.benchd(&["show", &run.to_string(), "--json", "--state-dir", state]).json();
    let mut values = shown["values"].take();
    for value in values.as_array_mut().unwrap() {
        value.as_object_mut().unwrap().remove("series");
    }
    values.as_array_mut().unwrap().sort_by_key(Value::to_string);
    let jobs: Vec<Value> = shown["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| {
            serde_json::json!([
                job["id"],
                job["target"],
                job["model"],
                job["state"],
                job["conclusion"],
                job["attempts_begun"]
            ])
        })
        .collect();
    serde_json::json!([shown["id"], shown["repository"], shown["sha"], shown["branch"], shown["state"], jobs, values])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_is_rebuilt_from_its_bucket() {
    let project = Project::new().await;
    // A name that keys and records have shortened.
    project.configure("Test_CPU_4c", "Test+CPU_4c");
    project.push_suite(FIRST, &good("'0.5, 0.7'")).await;
    project.push_suite(SECOND, &good("'0.9, 0.8'").replace("throughput_tiny", "other")).await;
    project.run(FIRST, &BASE).assert(0, &["published 2 records"]);
    project.run(SECOND, &BASE).assert(1, &["published 2 records"]);
    let bucket = format!("s3://{BUCKET}/v3/example/engine/");
    let endpoint = project.s3.endpoint();
    let import =
        |more: &[&str]| project.benchd(&[&["import", &bucket, "--endpoint", &endpoint, "--json"], more].concat());

    // Into the store that measured it: nothing is new.
    let known = import(&[]);
    known.assert(0, &[]);
    assert_eq!(known.json()["jobs"], 0, "what was measured here is not doubled");
    let rebuilt = import(&["--state-dir", "rebuilt"]);
    rebuilt.assert(0, &[]);
    assert_eq!((&rebuilt.json()["jobs"], &rebuilt.json()["records"]), (&2.into(), &4.into()));
    assert_eq!(series(&project.path("rebuilt")).await, series(&project.path("state")).await);
    let runs = project.benchd(&["runs", "--json"]).json();
    assert_eq!(runs.as_array().unwrap().len(), 2);
    for run in runs.as_array().unwrap() {
        let id = run["id"].as_u64().unwrap();
        assert_eq!(shown(&project, "rebuilt", id), shown(&project, "state", id));
    }
    let listed = project.benchd(&["runs", "--state-dir", "rebuilt"]);
    listed.assert(0, &["imported", "published"]);
    // What is measured from now on has a larger number.
    project.write(
        "rebuilt.yaml",
        &project.config().replace("state_dir: state", "state_dir: rebuilt").replace("Test_CPU_4c", "Test+CPU_4c"),
    );
    project.push_suite(FIRST, &good("0.65")).await;
    let again = project.benchd(&[
        "run",
        "--config",
        "rebuilt.yaml",
        "--branch",
        "main",
        "--timestamp",
        "1780007200",
        "--commit",
        FIRST,
        "--variants",
        "base",
        "--no-publish",
    ]);
    again.assert(0, &["-23.5% better"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_published_of_the_same_benchmarks_continues_the_same_series() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    project.run(FIRST, &BASE).assert(0, &["published 2 records"]);
    let own = project.object(FIRST).unwrap();
    // As the reference would have written it: its own numbers, nothing of benchd's in it.
    let theirs: Vec<String> = own
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            let name = record["runners"][0]["extra_info"]["point"].as_str().unwrap().to_owned();
            record["runners"][0]["extra_info"] = serde_json::json!({"hostname": "theirs"});
            record["benchmark"]["extra_info"]["args"]["output_json"] = format!("results/{name}.json").into();
            (record["workflow_id"], record["job_id"]) = ("19612345678".into(), "56112345678".into());
            record.to_string()
        })
        .collect();
    let key = format!("copy/v3/example/engine/main/{FIRST}/Test_CPU_4c/benchmark_results_tiny_model.json");
    project.write(&key, &theirs.join("\n"));
    project.benchd(&["import", "copy", "--state-dir", "other", "--benchmarks", "benchmarks"]).assert(0, &["2 records"]);
    assert_eq!(series(&project.path("other")).await, series(&project.path("state")).await);
    // Without the files nobody knows the parameters: another series.
    project.benchd(&["import", "copy", "--state-dir", "third"]).assert(0, &["2 records"]);
    assert_ne!(series(&project.path("third")).await, series(&project.path("state")).await);
    project.benchd(&["import", "copy", "--state-dir", "third", "--benchmarks", "nowhere"]).assert(2, &["nowhere"]);
}
