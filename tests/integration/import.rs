//! `benchd import`: published objects of benchd and of others, from a bucket and from folders; broken off, repeated, and
//! broken objects.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use benchd::clock::Clock;
use benchd::model::{RunId, Trigger};
use benchd::queue::{Pace, Queue, Rerun, Retried};
use benchd::store::{RunFilter, Store};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::s3::{Fault, S3Server};
use crate::support::{benchd, shared};

const BUCKET: &str = "results";
const H100: &str = "NVIDIA_H100_80GB_HBM3";

fn sha(n: u32) -> String {
    format!("{n:039x}a")
}

fn key(n: u32) -> String {
    format!("v3/example/engine/main/{}/{H100}/benchmark_results_org_tiny.json", sha(n))
}

/// A record as the reference writes it, of commit `n`, which is `n` hours younger than the first.
fn record(n: u32, latency: f64) -> Value {
    json!({
        "timestamp": 1_780_000_000 + u64::from(n) * 3600, "schema_version": "v3", "name": "vLLM benchmark",
        "repo": "example/engine", "head_branch": "main(refs/heads/main)", "head_sha": sha(n),
        "workflow_id": format!("196{n:08}"), "run_attempt": "1", "job_id": format!("561{n:08}"),
        "benchmark": {"name": "vLLM benchmark", "extra_info": {"args": {
            "tensor_parallel_size": 2, "output_json": "results/latency_tiny_tp2.json"}}},
        "model": {"name": "org/Tiny"},
        "metric": {"name": "avg_latency", "benchmark_values": [latency], "extra_info": {}},
        "runners": [{"name": "cuda", "type": "NVIDIA H100 80GB HBM3", "cpu_info": "x86_64", "cpu_count": 2,
            "avail_mem_in_gb": 24, "gpu_info": "", "gpu_count": 0, "avail_gpu_mem_in_gb": 0,
            "extra_info": {"hostname": "theirs"}}],
    })
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

fn put(path: &Path, body: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, body).unwrap();
}

/// A bucket of `count` commits, an object each.
fn bucket(count: u32) -> S3Server {
    let server = S3Server::start_open(BUCKET);
    for n in 1..=count {
        put(&server.file(BUCKET, &key(n)), &gzip(record(n, f64::from(n)).to_string().as_bytes()));
    }
    server
}

/// Imports into the store in `state`: exit code, the answer, and what it said.
fn import(state: &Path, from: &str, more: &[&str]) -> (i32, Value, String) {
    let mut command = benchd();
    command.args(["import", from, "--json", "--state-dir"]).arg(state).args(more);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), said)
}

fn from_bucket(state: &Path, server: &S3Server, more: &[&str]) -> (i32, Value, String) {
    let endpoint = server.endpoint();
    import(state, "s3://results/v3/example/engine/", &[&["--anonymous", "--endpoint", &endpoint], more].concat())
}

fn numbers(answer: &Value) -> [u64; 5] {
    ["objects", "known", "imported", "replaced", "broken"].map(|field| answer[field].as_u64().unwrap())
}

/// The runs by commit: id, trigger, and its values by metric.
async fn runs(state: &Path) -> Vec<(RunId, String, Trigger, Vec<f64>)> {
    let store = Store::open(state).await.unwrap();
    let mut found = Vec::new();
    for run in store.list_runs(10_000, &RunFilter::default()).await.unwrap() {
        let values = store.values_of_run(run.run.id).await.unwrap().into_iter().map(|value| value.value).collect();
        found.push((run.run.id, run.run.sha.to_string(), run.run.trigger, values));
    }
    store.close().await;
    found
}

#[tokio::test]
async fn the_history_of_others_comes_in_once_and_in_the_order_of_its_commits() {
    let (state, server) = (tempfile::tempdir().unwrap(), bucket(4));
    let (code, dry, _) = from_bucket(state.path(), &server, &["--dry-run"]);
    assert_eq!((code, numbers(&dry)), (0, [4, 0, 4, 0, 0]));
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "a dry run makes no store");
    let (code, first, said) = from_bucket(state.path(), &server, &["--limit", "3"]);
    assert_eq!((code, numbers(&first), first["left"].as_u64()), (0, [4, 0, 3, 0, 0], Some(1)), "{said}");
    let (code, rest, _) = from_bucket(state.path(), &server, &[]);
    assert_eq!((code, numbers(&rest)), (0, [4, 3, 1, 0, 0]));
    let before = server.requests().len();
    let (code, again, _) = from_bucket(state.path(), &server, &[]);
    assert_eq!((code, numbers(&again), again["jobs"].as_u64()), (0, [4, 4, 0, 0, 0], Some(0)));
    assert_eq!(server.requests().len() - before, 1, "what is known is not read again");

    let found = runs(state.path()).await;
    let newest_first: Vec<_> = found.iter().map(|(_, sha, ..)| sha.clone()).collect();
    assert_eq!(newest_first, [4, 3, 2, 1].map(sha));
    assert_eq!(found[0].3, [4.0]);
    let Trigger::Imported { from, workflow_id } = &found[0].2 else { panic!("{:?}", found[0]) };
    assert!(from.starts_with("s3://results at http://"), "{from}");
    assert_eq!(workflow_id.as_deref(), Some("19600000004"));

    let store = Store::open(state.path()).await.unwrap();
    let values = store.values_of_run(found[0].0).await.unwrap();
    let value = &values[0];
    assert_eq!((value.target.to_string().as_str(), value.model.as_str()), ("2x NVIDIA H100 80GB HBM3", "org/tiny"));
    assert_eq!((value.point.as_str(), value.variant.as_str()), ("latency_tiny_tp2", "base"));
    let previous = store.previous_values(found[0].0).await.unwrap();
    assert_eq!(previous[&value.series].sha.as_str(), sha(3), "before is the commit before");
    // Nobody here knows how it was measured.
    let queue = Queue::new(store.clone(), Clock::system(), Pace::default());
    assert_eq!(queue.rerun(found[0].0).await.unwrap(), Rerun::Imported);
    assert_eq!(queue.retry(found[0].0).await.unwrap(), Retried::NothingFailed);
    assert!(store.kept_attempts().await.unwrap().is_empty(), "there are no files to keep room for");
    store.close().await;

    // People see what it is, and nothing is done with it as if it had been measured here.
    let state_dir = state.path().to_str().unwrap();
    let id = found[0].0.to_string();
    let shown = benchd().args(["show", &id, "--state-dir", state_dir]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("published, imported from s3://results") && shown.contains("run 19600000004 there"));
    assert!(!shown.contains("results  /"), "no files of it are here: {shown}");
    let repro = benchd().args(["repro", &id, "--state-dir", state_dir]).output().unwrap();
    assert!(String::from_utf8_lossy(&repro.stderr).contains("was imported: nothing here knows its container"));
}

#[tokio::test]
async fn an_import_that_is_killed_goes_on_where_it_was() {
    let (state, server) = (tempfile::tempdir().unwrap(), bucket(300));
    let mut killed = 0;
    for goal in [40, 120, 200] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_benchd"))
            .args(["import", "s3://results/v3/example/engine", "--anonymous", "--endpoint", &server.endpoint()])
            .arg("--state-dir")
            .arg(state.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while count(state.path(), "runs").await < goal && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        child.kill().unwrap();
        killed += i32::from(!child.wait().unwrap().success());
        let [objects, runs] = [count(state.path(), "imported_objects").await, count(state.path(), "runs").await];
        assert_eq!(objects, runs, "an object and its results are one step");
    }
    assert!(killed > 0, "at least one was killed before its end");
    let known = count(state.path(), "runs").await;
    let (code, answer, _) = from_bucket(state.path(), &server, &[]);
    assert_eq!(code, 0);
    assert_eq!(answer["known"].as_u64(), Some(known), "what was imported is not read again");
    for table in ["runs", "jobs", "attempts", "passes", "points", "measurements", "imported_objects", "imported_jobs"] {
        assert_eq!(count(state.path(), table).await, 300, "{table}");
    }
}

async fn count(state: &Path, table: &str) -> u64 {
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(state.join("benchd.db")).read_only(true);
    let Ok(mut connection) = options.connect().await else { return 0 };
    let statement = AssertSqlSafe(format!("select count(*) from {table}"));
    let rows: i64 = sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap_or(0);
    connection.close().await.unwrap();
    u64::try_from(rows).unwrap()
}

#[tokio::test]
async fn broken_objects_are_told_by_key_and_line_and_the_good_ones_go_in() {
    let (state, server) = (tempfile::tempdir().unwrap(), bucket(1));
    let line = |n| record(n, 1.5).to_string();
    let with = |n, field: &str, value: Value| {
        let mut record = record(n, 1.5);
        record[field] = value;
        record.to_string()
    };
    let whole = gzip(line(12).repeat(200).as_bytes());
    let nan = line(15).replace("[1.5]", "[NaN]");
    let cases: Vec<(u32, Vec<u8>, Option<&str>, u64)> = vec![
        (10, b"\x00\x01garbage".to_vec(), Some("not JSON"), 0),
        (11, Vec::new(), Some("holds no record"), 0),
        (12, whole[..whole.len() / 2].to_vec(), Some("broken or cut off here"), 0),
        (13, gzip(format!("{}\n{{\"half\": \n{}", line(13), line(13)).as_bytes()), Some("not JSON"), 2),
        (14, gzip(with(14, "schema_version", json!("v2")).as_bytes()), Some("the schema is `v2`"), 0),
        (15, gzip(format!("{}\n{nan}", line(15)).as_bytes()), Some("is NaN"), 1),
        (16, gzip(line(17).as_bytes()), Some("its key says another one"), 0),
        (17, gzip(with(17, "repo", json!("other/engine")).as_bytes()), Some("example/engine is expected here"), 0),
        (18, gzip(with(18, "timestamp", json!(99_999_999_999_u64)).as_bytes()), Some("is no time of a commit"), 0),
        (19, gzip(with(19, "runners", json!([{"name": "abacus"}])).as_bytes()), Some("`abacus` is no platform"), 0),
        (20, gzip(&[b' '; 6 << 20]), Some("a line of more than 4 MiB"), 0),
        (21, gzip(with(21, "head_sha", json!("HEAD")).as_bytes()), Some("`HEAD` is no commit"), 0),
        (22, gzip(with(22, "metric", json!("m")).as_bytes()), Some("`metric` is no object"), 0),
        (23, line(23).into_bytes(), None, 1),
        (24, gzip(format!("\u{feff}{}\r\n\r\n", line(24)).as_bytes()), None, 1),
    ];
    for (n, body, ..) in &cases {
        put(&server.file(BUCKET, &key(*n)), body);
    }
    put(&server.file(BUCKET, "v3/example/engine/readme.txt"), b"not an object of the format");
    for round in ["first", "again"] {
        let (code, answer, said) = from_bucket(state.path(), &server, &[]);
        assert_eq!((code, answer["objects"].as_u64()), (1, Some(16)), "{round}: {said}");
        let faults = answer["faults"].as_array().unwrap();
        let of = |n: u32| faults.iter().find(|fault| fault["key"] == key(n).as_str());
        for (n, _, fault, _) in &cases {
            match (fault, of(*n)) {
                (None, None) => {}
                (Some(expected), Some(told)) => {
                    let message = told["told"][0]["message"].as_str().unwrap();
                    assert!(message.contains(expected), "{n}: {message}");
                }
                (expected, told) => panic!("{n}: {expected:?} was to be told, {told:?} was"),
            }
        }
        assert_eq!(of(13).unwrap()["told"][0]["line"], 2);
        assert_eq!(of(15).unwrap()["told"][0]["line"], 2);
        assert_eq!((answer["broken"].as_u64(), faults.len()), (Some(13), 13), "{round}");
    }
    let found = runs(state.path()).await;
    let mut good: Vec<_> = found.iter().map(|(_, sha, ..)| sha.clone()).collect();
    good.sort();
    assert_eq!(good, [1, 13, 15, 23, 24].map(sha));
    // Without --json the same is said for people.
    let endpoint = server.endpoint();
    let mut command = benchd();
    command.args(["import", "s3://results/v3/example/engine/", "--anonymous", "--endpoint", &endpoint]);
    let output = command.arg("--state-dir").arg(state.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("{}, line 2: not JSON", key(13))), "{said}");
}

#[test]
fn a_bomb_is_read_to_its_limit_only() {
    let (state, server) = (tempfile::tempdir().unwrap(), bucket(1));
    let mut blanks = vec![b' '; 1 << 20];
    blanks.push(b'\n');
    for (n, block) in [(2, blanks), (3, vec![b'\n'; 1 << 20])] {
        let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
        for _ in 0..300 {
            bomb.write_all(&block).unwrap();
        }
        put(&server.file(BUCKET, &key(n)), &bomb.finish().unwrap());
    }
    let (code, answer, _) = from_bucket(state.path(), &server, &[]);
    assert_eq!((code, numbers(&answer)), (1, [3, 0, 1, 0, 2]));
    for (n, expected) in [(2, "more than 256 MiB"), (3, "more than 200000 lines")] {
        let faults = answer["faults"].as_array().unwrap();
        let told = &faults.iter().find(|fault| fault["key"] == key(n).as_str()).unwrap()["told"][0]["message"];
        assert!(told.as_str().unwrap().contains(expected), "{told}");
    }
}

#[tokio::test]
async fn an_object_that_changed_takes_its_own_place_and_a_copy_none() {
    let (state, server) = (tempfile::tempdir().unwrap(), bucket(2));
    assert_eq!(from_bucket(state.path(), &server, &[]).0, 0);
    let before = runs(state.path()).await;
    put(&server.file(BUCKET, &key(2)), &gzip(record(2, 7.0).to_string().as_bytes()));
    let (code, answer, _) = from_bucket(state.path(), &server, &[]);
    assert_eq!((code, numbers(&answer)), (0, [2, 1, 0, 1, 0]));
    let after = runs(state.path()).await;
    assert_eq!((after[0].0, after[0].3.as_slice()), (before[0].0, [7.0].as_slice()), "the same run, the new value");

    // A copy of the bucket in a folder says nothing new, whether it is named from its root or from within.
    let copy = tempfile::tempdir().unwrap();
    for n in [1, 2] {
        std::fs::create_dir_all(copy.path().join(key(n)).parent().unwrap()).unwrap();
        std::fs::copy(server.file(BUCKET, &key(n)), copy.path().join(key(n))).unwrap();
    }
    let root = copy.path().to_str().unwrap();
    for (from, known, same) in [
        (root.to_owned(), 0, 2),
        (format!("file://{root}/v3/example/engine"), 2, 0),
        (format!("{root}/v3/example/engine/main/"), 2, 0),
    ] {
        let (code, answer, said) = import(state.path(), &from, &[]);
        assert_eq!(
            (code, answer["known"].as_u64(), answer["same"].as_u64()),
            (0, Some(known), Some(same)),
            "{from} {said}"
        );
    }
    assert_eq!(runs(state.path()).await.len(), 2);
    // A part of a copy, without the repository in its path.
    let part = tempfile::tempdir().unwrap();
    let below = format!("main/{}/{H100}/benchmark_results_org_tiny.json", sha(9));
    put(&part.path().join(&below), &gzip(record(9, 9.0).to_string().as_bytes()));
    let from = part.path().to_str().unwrap();
    let (code, refused, _) = import(state.path(), from, &["--repo", "other/engine"]);
    assert_eq!((code, refused["unusable"].as_u64()), (1, Some(1)));
    let (code, answer, said) = import(state.path(), from, &["--repo", "example/engine", "--again"]);
    assert_eq!((code, answer["jobs"].as_u64()), (0, Some(1)), "{said}");
    let (code, _, said) = import(state.path(), "/nowhere/at/all", &[]);
    assert!(code == 2 && said.contains("/nowhere/at/all"), "{said}");
}

#[tokio::test]
async fn an_outage_in_between_costs_nothing() {
    let (state, server) = (tempfile::tempdir().unwrap(), bucket(6));
    server.next([Fault::Answer(503, "SlowDown")]);
    assert_eq!(from_bucket(state.path(), &server, &[]).0, 0, "one answer of 503 is asked again");
    put(&server.file(BUCKET, &key(7)), &gzip(record(7, 7.0).to_string().as_bytes()));
    server.next((0..1).map(|_| Fault::Answer(403, "AccessDenied")));
    let (code, _, said) = from_bucket(state.path(), &server, &[]);
    assert!(code == 3 && said.contains("failed to list") && said.contains("access denied"), "{said}");
    let (code, answer, _) = from_bucket(state.path(), &server, &[]);
    assert_eq!((code, numbers(&answer)), (0, [7, 6, 1, 0, 0]));
}

/// A record as benchd publishes it.
fn own(n: u32, run: u64, job: u64, latency: f64) -> Value {
    let mut record = record(n, latency);
    (record["workflow_id"], record["run_attempt"], record["job_id"]) = (json!(run), json!(2), json!(job));
    let extra = record["runners"][0]["extra_info"].as_object_mut().unwrap();
    for (key, value) in [
        ("benchmark", "named_eager"),
        ("variant", "eager"),
        ("point", "named_eager_qps_1_concurrency_2"),
        ("device_count", "4"),
        ("device_type", "NVIDIA H100 80GB HBM3"),
        ("model", "org/tiny"),
        ("configuration", "4b98695326143645"),
        ("conclusion", "incomplete"),
    ] {
        extra.insert(key.to_owned(), json!(value));
    }
    record
}

#[tokio::test]
async fn benchds_own_numbers_are_kept_and_believed_only_where_they_can_be() {
    let (state, server) = (tempfile::tempdir().unwrap(), S3Server::start_open(BUCKET));
    let (run, job) = (300_000_000_000_001, 300_000_000_100_001);
    let object = |n, record: Value| put(&server.file(BUCKET, &key(n)), &gzip(record.to_string().as_bytes()));
    object(1, own(1, run, job, 1.0));
    object(2, own(2, (1 << 53) - 1, (1 << 53) - 2, 2.0));
    object(3, own(3, run, job + 1, 3.0));
    object(4, own(4, 0, 0, 4.0));
    let (code, answer, said) = from_bucket(state.path(), &server, &[]);
    assert_eq!((code, answer["jobs"].as_u64()), (0, Some(4)), "{said}");
    let found = runs(state.path()).await;
    let of = |n| found.iter().find(|(_, of, ..)| *of == sha(n)).unwrap();
    // One of the two commits that claim the run has it.
    let holds = [1, 3].into_iter().filter(|n| of(*n).0.number() == run).count();
    assert_eq!((holds, found.len()), (1, 4));
    assert!(found.iter().all(|(id, ..)| id.number() < 1 << 50), "{found:?}");
    let store = Store::open(state.path()).await.unwrap();
    let value = &store.values_of_run(of(1).0).await.unwrap()[0];
    assert_eq!(
        (value.variant.as_str(), value.target.count, value.point.as_str()),
        ("eager", 4, "named_eager_qps_1_concurrency_2")
    );
    store.close().await;
    let again = from_bucket(state.path(), &server, &["--again"]);
    assert_eq!((again.0, numbers(&again.1)), (0, [4, 0, 0, 4, 0]));
    let ids =
        |runs: &[(RunId, String, Trigger, Vec<f64>)]| runs.iter().map(|run| (run.0, run.3.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&runs(state.path()).await), ids(&found), "read once more, it is the same");
}

#[tokio::test]
async fn recorded_objects_of_the_reference_come_in() {
    let Some(golden) = shared("golden/results") else { return };
    let state = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let mut objects = 0;
    for case in std::fs::read_dir(&golden).unwrap() {
        let expected = case.unwrap().path().join("expected");
        let Ok(files) = std::fs::read_dir(&expected) else { continue };
        for file in files.map(|file| file.unwrap().path()).filter(|file| file.to_string_lossy().ends_with(".object.gz"))
        {
            let name = file.strip_prefix(&golden).unwrap().to_string_lossy().replace('/', "-");
            std::fs::copy(&file, copy.path().join(name)).unwrap();
            objects += 1;
        }
    }
    let (code, answer, said) = import(state.path(), copy.path().to_str().unwrap(), &[]);
    println!("{answer:#}\n{said}");
    assert_eq!((code, answer["objects"].as_u64()), (1, Some(objects)));
    let broken: Vec<_> = answer["faults"].as_array().unwrap().iter().map(|f| f["key"].as_str().unwrap()).collect();
    for case in ["all_nan", "all_zero_serving", "metric_is_string", "values_not_list", "nan_infinity_values"] {
        assert!(broken.iter().any(|key| key.starts_with(case)), "{case}: {broken:?}");
    }
    for case in ["full_cuda_opt125m", "list-", "unicode_record", "variants_git_and_env-expected-repo_main_detached"] {
        assert!(!broken.iter().any(|key| key.starts_with(case)), "{case}");
    }
    let whole = golden.join("full_cuda_opt125m/expected/upload.object.gz");
    let alone = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(whole, folder.path().join("full.json.gz")).unwrap();
    let (code, answer, _) = import(alone.path(), folder.path().to_str().unwrap(), &[]);
    assert_eq!((code, answer["records"].as_u64(), answer["jobs"].as_u64()), (0, Some(165), Some(1)));
    let store = Store::open(alone.path()).await.unwrap();
    let run = runs(alone.path()).await[0].0;
    let values = store.values_of_run(run).await.unwrap();
    let points: std::collections::BTreeSet<_> = values.iter().map(|value| value.point.clone()).collect();
    assert_eq!(points.len(), 21, "variants that share a key on the public dashboard stay apart");
    assert!(values.iter().any(|value| value.metric == "request_throughput"));
    store.close().await;
}
