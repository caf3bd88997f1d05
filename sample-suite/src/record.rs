//! Result files as vLLM writes them: the native one, and lists of records in the PyTorch benchmark format when
//! `SAVE_TO_PYTORCH_BENCHMARK_FORMAT` asks for them.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::args::Arguments;

/// One metric: its name and values.
pub type Metric<'a> = (&'a str, Vec<f64>);

/// Writes the native result of a benchmark.
pub fn write_native(file: &Path, result: &Value) -> Result<()> {
    write(file, &format!("{result:#}"))
}

/// Writes `metrics` as records beside the native `file` (`x.json` -> `x<part>.pytorch.json`), if they are asked for.
/// Every record repeats `extra`, as vLLM's do.
pub fn write_records(
    file: &Path,
    part: &str,
    args: &Arguments,
    bench: &str,
    metrics: &[Metric<'_>],
    extra: &Value,
) -> Result<()> {
    let asked = std::env::var("SAVE_TO_PYTORCH_BENCHMARK_FORMAT").unwrap_or_default();
    if asked.is_empty() || asked == "0" || asked == "false" {
        return Ok(());
    }
    let records: Vec<Value> = metrics.iter().map(|metric| record(args, bench, metric, extra)).collect();
    write(&file.with_extension(format!("{}pytorch.json", part_of_name(part))), &Value::from(records).to_string())
}

fn part_of_name(part: &str) -> String {
    if part.is_empty() { String::new() } else { format!("{part}.") }
}

fn record(args: &Arguments, bench: &str, (name, values): &Metric<'_>, extra: &Value) -> Value {
    let mut echo =
        Map::from_iter([("subparser".to_owned(), Value::from("bench")), ("bench_type".to_owned(), Value::from(bench))]);
    echo.extend(args.echo());
    echo.remove("metadata");
    let mut about = Map::from_iter([("args".to_owned(), Value::Null)]);
    for (key, value) in args.metadata() {
        if key == "tensor_parallel_size" {
            echo.entry(key).or_insert_with(|| value.into());
        } else {
            about.insert(key.to_owned(), value.into());
        }
    }
    about.insert("args".to_owned(), echo.into());
    // vLLM's own rule: what the file is called counts, not how the engine ran.
    let named_eager =
        ["output-json", "result-filename"].iter().filter_map(|key| args.text(key)).any(|f| f.contains("eager"));
    about.insert("use_compile".to_owned(), (!named_eager).into());
    json!({
        "benchmark": {"name": "vLLM benchmark", "extra_info": about},
        "model": {"name": args.text("model").unwrap_or_default()},
        "metric": {"name": name, "benchmark_values": values, "extra_info": extra},
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(|error| format!("failed to write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_benchmark_model_and_metric() {
        let args = Arguments::parse(&[
            "--model",
            "sample/small",
            "--metadata",
            "tensor_parallel_size=1",
            "optimization_level=",
        ]);
        let record = record(&args, "serve", &("latency", vec![1.5]), &json!({"n": 1}));
        assert_eq!(
            record,
            json!({
                "benchmark": {"name": "vLLM benchmark", "extra_info": {
                    "args": {"subparser": "bench", "bench_type": "serve", "model": "sample/small",
                             "tensor_parallel_size": "1"},
                    "optimization_level": "", "use_compile": true}},
                "model": {"name": "sample/small"},
                "metric": {"name": "latency", "benchmark_values": [1.5], "extra_info": {"n": 1}},
            })
        );
    }
}
