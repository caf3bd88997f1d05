//! The summary of a results folder (`benchmark_results.json` and `.md`) and of the environment (`vllm_env.txt`).

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Result;

/// Column name and key of the native result.
type Columns = &'static [(&'static str, &'static str)];

/// Per suite: title, how names begin, and the columns.
const TABLES: [(&str, &str, Columns); 3] = [
    ("Latency", "latency_", &[("Mean latency (s)", "avg_latency")]),
    (
        "Throughput",
        "throughput_",
        &[
            ("# of req.", "num_requests"),
            ("Total # of tokens", "total_num_tokens"),
            ("Elapsed time (s)", "elapsed_time"),
            ("Tput (req/s)", "requests_per_second"),
            ("Tput (tok/s)", "tokens_per_second"),
        ],
    ),
    (
        "Serving",
        "serving_",
        &[
            ("Model", "model_id"),
            ("# of req.", "num_prompts"),
            ("qps", "request_rate"),
            ("# of max concurrency.", "max_concurrency"),
            ("Tput (req/s)", "request_throughput"),
            ("Output Tput (tok/s)", "output_throughput"),
            ("Median TTFT (ms)", "median_ttft_ms"),
            ("Median TPOT (ms)", "median_tpot_ms"),
            ("Median ITL (ms)", "median_itl_ms"),
        ],
    ),
];

/// Writes both summaries of the native results in `folder`.
pub fn write(folder: &Path) -> Result<()> {
    let results = native_results(folder)?;
    let mut rows = Vec::new();
    let mut text = String::from("# Results of the sample suite\n");
    for (title, beginning, columns) in TABLES {
        let mut table = String::new();
        for (name, result) in results.iter().filter(|(name, _)| name.starts_with(beginning)) {
            let value = |key: &str| result.get(key).cloned().unwrap_or(Value::Null);
            let mut row = Map::from_iter([("Test name".to_owned(), name.as_str().into())]);
            row.extend(columns.iter().map(|(column, key)| ((*column).to_owned(), value(key))));
            let _ = writeln!(table, "| {} |", row.values().map(cell).collect::<Vec<_>>().join(" | "));
            rows.push(Value::from(row));
        }
        if !table.is_empty() {
            let names: Vec<&str> = columns.iter().map(|column| column.0).collect();
            let rule = "---|".repeat(names.len() + 1);
            let _ = write!(text, "\n## {title}\n\n| Test name | {} |\n|{rule}\n{table}", names.join(" | "));
        }
    }
    let put = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|error| format!("failed to write {name}: {error}"))
    };
    put("benchmark_results.json", &json!(rows).to_string())?;
    put("benchmark_results.md", &text)
}

/// Name and content of every native result, by name.
fn native_results(folder: &Path) -> Result<Vec<(String, Value)>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("failed to read {}: {error}", folder.display()))?;
    let mut results: Vec<(String, Value)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let name = name.strip_suffix(".json").filter(|name| !name.ends_with(".pytorch"))?;
            let result: Value = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            result.is_object().then(|| (name.to_owned(), result))
        })
        .collect();
    results.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(results)
}

fn cell(value: &Value) -> String {
    match (value.as_str(), value.as_f64()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(number)) if number.fract() != 0.0 => format!("{number:.3}"),
        _ => value.to_string(),
    }
}

/// What the benchmarks ran on.
pub fn environment() -> String {
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
    };
    format!(
        "Collecting environment information...\nsample-suite : {}\nKernel       : {}\nCPU          : {}\n\
         Processors   : {}\nMemory       : {}\n",
        env!("CARGO_PKG_VERSION"),
        first("/proc/sys/kernel/osrelease", ""),
        first("/proc/cpuinfo", "model name"),
        std::thread::available_parallelism().map_or(1, usize::from),
        first("/proc/meminfo", "MemTotal"),
    )
}
