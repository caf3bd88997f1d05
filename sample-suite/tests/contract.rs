//! The binary keeps vLLM's contract: what each benchmark writes when it really measures. The image's cost is 1 percent
//! here, so that this takes a moment.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should fail at once and say where"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
    }

    /// The metrics of a file of records: name and values.
    fn metrics(&self, name: &str) -> Vec<(String, Vec<f64>)> {
        let records = self.json(name);
        let of = |record: &Value| {
            assert_eq!(record["benchmark"]["name"], "vLLM benchmark", "{name}");
            assert_eq!(record["model"]["name"], "sample/small", "{name}");
            let values: Vec<f64> = serde_json::from_value(record["metric"]["benchmark_values"].clone()).unwrap();
            (record["metric"]["name"].as_str().unwrap().to_owned(), values)
        };
        records.as_array().unwrap().iter().map(of).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sample(folder: &Folder, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample-suite"));
    command
        .args(words)
        .env("SAMPLE_COST", "1")
        .env("SAVE_TO_PYTORCH_BENCHMARK_FORMAT", "1")
        .env("VLLM_CACHE_ROOT", folder.0.join("cache"))
        .current_dir(&folder.0);
    command
}

fn run(folder: &Folder, words: &str) {
    let output = sample(folder, &words.split_whitespace().collect::<Vec<_>>()).output().unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
}

struct Server(Child, u16);

impl Server {
    fn start(folder: &Folder) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = sample(folder, &["serve", "sample/small", "--port", &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("Application startup complete")));
        Self(child, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serving_writes_twelve_metrics_and_its_throughput() {
    let folder = Folder::new("serving");
    let server = Server::start(&folder);
    let words = format!(
        "bench serve --save-result --result-dir . --result-filename s.json --request-rate inf --max-concurrency 2 \
         --model sample/small --num-prompts 6 --random-output-len 4 --port {} --metadata tensor_parallel_size=1",
        server.1
    );
    run(&folder, &words);
    let metrics = folder.metrics("s.pytorch.json");
    let names: Vec<&str> = metrics.iter().map(|metric| metric.0.as_str()).collect();
    let expected = ["ttft", "tpot", "itl"]
        .into_iter()
        .flat_map(|time| ["mean", "median", "std", "p99"].map(|figure| format!("{figure}_{time}_ms")))
        .collect::<Vec<_>>();
    assert_eq!(names, expected);
    assert!(metrics.iter().all(|(_, values)| values.len() == 1 && values[0].is_finite()), "{metrics:?}");
    let native = folder.json("s.json");
    assert_eq!(
        (&native["completed"], &native["failed"], &native["request_rate"]),
        (&6.into(), &0.into(), &"inf".into())
    );
    assert_eq!(native["total_output_tokens"], 24);
    assert!(native["request_throughput"].as_f64().unwrap() > 0.0);
    assert!(native.get("benchmark").is_none());
}

#[test]
fn latency_writes_every_iteration() {
    let folder = Folder::new("latency");
    run(&folder, "bench latency --model sample/small --num-iters 4 --num-iters-warmup 0 --output-json l.json");
    let metrics = folder.metrics("l.pytorch.json");
    assert_eq!(metrics.len(), 1);
    assert_eq!((metrics[0].0.as_str(), metrics[0].1.len()), ("latency", 4));
    assert_eq!(folder.json("l.json")["latencies"].as_array().unwrap().len(), 4);
}

#[test]
fn throughput_writes_requests_and_tokens() {
    let folder = Folder::new("throughput");
    run(&folder, "bench throughput --model sample/small --num-prompts 5 --output-json t.json");
    let metrics = folder.metrics("t.pytorch.json");
    assert_eq!(metrics[0].0, "requests_per_second");
    assert_eq!(metrics[1].0, "tokens_per_second");
    assert!((metrics[1].1[0] / metrics[0].1[0] - 64.0).abs() < 1e-6);
}

#[test]
fn startup_writes_four_files_and_eager_compiles_nothing() {
    let folder = Folder::new("startup");
    let options = "bench startup --model sample/small --num-iters-cold 1 --num-iters-warmup 0 --num-iters-warm 2";
    run(&folder, &format!("{options} --output-json u.json"));
    run(&folder, &format!("{options} --enforce-eager --output-json e.json"));
    for (part, metric) in [
        ("cold_startup", "avg_cold_startup_time"),
        ("cold_compilation", "avg_cold_compilation_time"),
        ("warm_startup", "avg_warm_startup_time"),
        ("warm_compilation", "avg_warm_compilation_time"),
    ] {
        let compiled = folder.metrics(&format!("u.{part}.pytorch.json"));
        assert_eq!(compiled[0].0, metric);
        assert!(compiled[0].1[0] > 0.0, "{part}");
        let eager = folder.metrics(&format!("e.{part}.pytorch.json"));
        assert_eq!(eager[0].1[0] == 0.0, part.ends_with("compilation"), "{part}");
    }
    assert_eq!(folder.json("u.json")["warm_startup_times"].as_array().unwrap().len(), 2);
}

#[test]
fn records_are_written_only_when_asked_for() {
    let folder = Folder::new("unasked");
    let words = ["bench", "throughput", "--model", "sample/small", "--num-prompts", "1", "--output-json", "t.json"];
    assert!(sample(&folder, &words).env_remove("SAVE_TO_PYTORCH_BENCHMARK_FORMAT").status().unwrap().success());
    assert!(folder.0.join("t.json").exists() && !folder.0.join("t.pytorch.json").exists());
}

#[test]
fn a_model_that_is_not_there_leaves_nothing() {
    let folder = Folder::new("missing");
    let words = ["bench", "latency", "--model", "sample/none", "--output-json", "l.json"];
    let output = sample(&folder, &words).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("sample/none"));
    assert!(!folder.0.join("l.json").exists());
}
