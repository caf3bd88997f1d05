//! Reads a suite's file and says, as calls of shell functions, what the suite's script has to run. The script does the
//! running; what needs JSON is done here, because the image has neither jq nor Python.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::Result;

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Requests arriving at a rate.
    Serving,
    /// One batch at a time.
    Latency,
    /// Server starts.
    Startup,
    /// Everything at once.
    Throughput,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "serving" => Ok(Self::Serving),
            "latency" => Ok(Self::Latency),
            "startup" => Ok(Self::Startup),
            "throughput" => Ok(Self::Throughput),
            _ => Err(format!("not a suite: {text}")),
        }
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Latency => "latency",
            Self::Startup => "startup",
            Self::Throughput => "throughput",
        }
    }
}

/// The shell calls for every benchmark in `file`, one a line:
/// `run_serving NAME TP SERVER CLIENT RATES CONCURRENCIES`, and for the others `run_benchmark KIND NAME TP COMMAND`.
pub fn calls(kind: Kind, file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).map_err(|error| format!("failed to read {}: {error}", file.display()))?;
    let json = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut calls = String::new();
    for benchmark in benchmarks(json).map_err(|message| format!("{}: {message}", file.display()))? {
        let words = call(kind, &benchmark).map_err(|message| format!("{}: {message}", file.display()))?;
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(calls, "{}", words.join(" "));
    }
    Ok(calls)
}

/// The entries of a plain list, or of `{defaults, tests}` with the defaults filled in.
fn benchmarks(file: Value) -> Result<Vec<Map<String, Value>>> {
    let (defaults, entries) = match file {
        Value::Array(entries) => (Value::Object(Map::new()), entries),
        Value::Object(mut file) => match file.remove("tests") {
            Some(Value::Array(entries)) => (file.remove("defaults").unwrap_or(Value::Object(Map::new())), entries),
            _ => return Err("tests is not a list".into()),
        },
        _ => return Err("neither a list nor {defaults, tests}".into()),
    };
    entries
        .into_iter()
        .map(|entry| {
            let mut whole = defaults.clone();
            overlay(&mut whole, entry);
            if let Value::Object(benchmark) = whole {
                Ok(benchmark)
            } else {
                Err("a benchmark is not an object".into())
            }
        })
        .collect()
}

fn overlay(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn call(kind: Kind, benchmark: &Map<String, Value>) -> Result<Vec<String>> {
    let name = benchmark.get("test_name").and_then(Value::as_str).ok_or("a benchmark without test_name")?;
    if !name.starts_with(&format!("{}_", kind.as_str())) {
        return Err(format!("{name}: a {0} benchmark's name begins with {0}_", kind.as_str()));
    }
    let object = |key: &str| benchmark.get(key).and_then(Value::as_object);
    let parameters = |key: &str| object(key).ok_or(format!("{name}: {key} is missing"));
    let parallel = |parameters: &Map<String, Value>| {
        let size = parameters.get("tensor_parallel_size").or_else(|| parameters.get("tp"));
        size.map_or_else(|| "1".to_owned(), word)
    };
    if kind != Kind::Serving {
        let given = parameters("parameters")?;
        let command = format!(
            "{}vllm bench {} --output-json results/{name}.json {}",
            assignments(object("environment_variables")),
            kind.as_str(),
            options(given)
        );
        return Ok(vec!["run_benchmark".into(), kind.as_str().into(), name.into(), parallel(given), command]);
    }
    let mut server = parameters("server_parameters")?.clone();
    let size = parallel(&server);
    let model = word(&server.shift_remove("model").ok_or(format!("{name}: no model"))?);
    let client = parameters("client_parameters")?;
    let environment = assignments(object("server_environment_variables"));
    let words = |key: &str| benchmark.get(key).and_then(Value::as_array).map(|list| list.iter().map(word).collect());
    let rates: Vec<String> = words("qps_list").unwrap_or_else(|| vec!["inf".into()]);
    let most = || vec![client.get("num_prompts").map_or_else(|| "1000".into(), word)];
    let concurrencies: Vec<String> = words("max_concurrency_list").unwrap_or_else(most);
    Ok(vec![
        "run_serving".into(),
        name.into(),
        size,
        format!("{environment}exec vllm serve {model} {}", options(&server)),
        options(client),
        rates.join(" "),
        concurrencies.join(" "),
    ])
}

/// `{"a_b": 1, "c": ""}` as `--a-b 1 --c`. Values stand as they are: they carry the quotes the shell needs.
fn options(parameters: &Map<String, Value>) -> String {
    let option = |(key, value): (&String, &Value)| format!("--{} {}", key.replace('_', "-"), word(value));
    parameters.iter().map(option).collect::<Vec<_>>().join(" ")
}

fn assignments(variables: Option<&Map<String, Value>>) -> String {
    variables.into_iter().flatten().map(|(key, value)| format!("{key}={} ", word(value))).collect()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// One JSON object of the pairs in `words` (key, value, key, value ..): what a `.commands` file holds.
pub fn object(words: &[&str]) -> Value {
    let pair = |pair: &[&str]| match pair {
        [key, value] => Some(((*key).to_owned(), Value::from(*value))),
        _ => None,
    };
    words.chunks(2).filter_map(pair).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call_of(kind: Kind, benchmark: Value) -> Result<Vec<String>> {
        call(kind, benchmark.as_object().unwrap())
    }

    #[test]
    fn a_latency_benchmark_becomes_one_command() {
        let words = call_of(
            Kind::Latency,
            json!({
                "test_name": "latency_small",
                "environment_variables": {"A": 1},
                "parameters": {"model": "sample/small", "tensor_parallel_size": 2, "enforce_eager": "",
                               "compilation-config": "'{\"backend\":\"eager\"}'"},
            }),
        );
        assert_eq!(
            words.unwrap(),
            [
                "run_benchmark",
                "latency",
                "latency_small",
                "2",
                "A=1 vllm bench latency --output-json results/latency_small.json --model sample/small \
                 --tensor-parallel-size 2 --enforce-eager  --compilation-config '{\"backend\":\"eager\"}'"
            ]
        );
    }

    #[test]
    fn a_serving_benchmark_becomes_server_client_and_points() {
        let words = call_of(
            Kind::Serving,
            json!({
                "test_name": "serving_small", "qps_list": [1, 0.5, "inf"], "max_concurrency_list": [8],
                "server_parameters": {"model": "sample/small", "port": 8000},
                "client_parameters": {"model": "sample/small", "num_prompts": 5},
            }),
        );
        assert_eq!(
            words.unwrap(),
            [
                "run_serving",
                "serving_small",
                "1",
                "exec vllm serve sample/small --port 8000",
                "--model sample/small --num-prompts 5",
                "1 0.5 inf",
                "8"
            ]
        );
    }

    #[test]
    fn defaults_are_filled_in_below_what_an_entry_says() {
        let all = benchmarks(json!({
            "defaults": {"parameters": {"model": "m", "n": 1}},
            "tests": [{"test_name": "a", "parameters": {"n": 2}}, {"test_name": "b"}],
        }));
        assert_eq!(
            Value::from(all.unwrap().into_iter().map(Value::from).collect::<Vec<_>>()),
            json!([
                {"parameters": {"model": "m", "n": 2}, "test_name": "a"},
                {"parameters": {"model": "m", "n": 1}, "test_name": "b"}
            ])
        );
    }

    #[test]
    fn faults_are_named() {
        let fault = |kind, benchmark| call_of(kind, benchmark).unwrap_err();
        assert!(fault(Kind::Serving, json!({"test_name": "latency_x"})).contains("begins with serving_"));
        assert!(fault(Kind::Latency, json!({"test_name": "latency_x"})).contains("parameters is missing"));
        assert!(benchmarks(json!(3)).is_err() && benchmarks(json!({"tests": 3})).is_err());
    }

    #[test]
    fn words_survive_the_shell() {
        let word = "it's \"$HOME\" `x`";
        let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
        assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), word);
    }
}
