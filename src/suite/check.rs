//! Reads one entry of a benchmark file and finds everything that is wrong with it. What is a fault follows from what
//! the suite's script does with the entry: it hands options to a shell, skips silently, or stops.

use serde_json::{Map, Value};

use super::benchmark::{Benchmark, Load};
use super::problem::{ProblemKind, Severity};
use crate::model::SuiteKind;

const SERVING_KEYS: [&str; 7] = [
    "test_name",
    "qps_list",
    "max_concurrency_list",
    "server_environment_variables",
    "server_parameters",
    "client_parameters",
    "common_parameters",
];
const OFFLINE_KEYS: [&str; 4] = ["test_name", "environment_variables", "parameters", "common_parameters"];

/// The three keys of which a benchmark has exactly one.
const PARAMETER_KEYS: [&str; 3] = ["parameters", "server_parameters", "common_parameters"];

/// Options that the suite passes to `vllm bench serve`, and to the offline benchmarks.
const SERVE_OPTIONS: [&str; 6] =
    ["save-result", "result-dir", "result-filename", "request-rate", "max-concurrency", "metadata"];
const OFFLINE_OPTIONS: [&str; 1] = ["output-json"];

/// Leaves room in a file name of 255 bytes for variant, rate, concurrency and the longest ending of a result.
const NAME_LIMIT: usize = 150;

/// What an entry came to.
pub(super) struct Checked {
    /// Its name, as far as it has one.
    pub name: Option<String>,
    /// The benchmark, unless there is a fault.
    pub benchmark: Option<Benchmark>,
    /// What was found.
    pub problems: Vec<ProblemKind>,
}

/// Reads `entry` of a file that belongs to `suite` (`None` for a file of another name) with that file's `defaults`.
pub(super) fn check_entry(suite: Option<SuiteKind>, defaults: &Map<String, Value>, entry: Value) -> Checked {
    let mut found = Findings(Vec::new());
    let Value::Object(entry) = entry else {
        return Checked { name: None, benchmark: None, problems: vec![ProblemKind::EntryType(kind_of(&entry))] };
    };
    let name = found.name(&entry);
    let suite = found.suite(suite, name.as_deref());
    let Some(suite) = suite else {
        return Checked { name, benchmark: None, problems: found.0 };
    };
    found.unknown_keys(&entry, known_keys(suite));
    let merged = found.merge(suite, defaults, &entry);
    let parameters = found.parameters(suite, &merged);
    let model = parameters.and_then(|(section, map)| found.model(section, map));
    let devices = parameters.map_or(1, |(_, map)| found.devices(map));
    for section in ["environment_variables", "server_environment_variables"] {
        found.variables(section, &merged);
    }
    let loads = match suite {
        SuiteKind::Serving => {
            if let (Some(model), Some(("server_parameters", _))) = (&model, parameters) {
                found.client(model, &merged);
            }
            found.loads(&merged)
        }
        SuiteKind::Latency | SuiteKind::Throughput | SuiteKind::Startup => Vec::new(),
    };
    let problems = found.0;
    let fault = problems.iter().any(|p| p.severity() == Severity::Fault);
    let benchmark = match (&name, model) {
        (Some(name), Some(model)) if !fault => {
            Some(Benchmark { name: name.clone(), suite, model, devices, loads, entry, merged })
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    Checked { name, benchmark, problems }
}

/// The keys that an entry of `suite` may have.
pub(super) fn known_keys(suite: SuiteKind) -> &'static [&'static str] {
    match suite {
        SuiteKind::Serving => &SERVING_KEYS,
        SuiteKind::Latency | SuiteKind::Throughput | SuiteKind::Startup => &OFFLINE_KEYS,
    }
}

/// "a number", "an object" ..., for messages.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// An unknown key with the known one that looks like it.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> ProblemKind {
    let near = known.iter().filter(|k| strsim::damerau_levenshtein(k, key) <= 3).min_by_key(|k| {
        // The nearest of the near ones.
        strsim::damerau_levenshtein(k, key)
    });
    let hint = near.map_or_else(String::new, |k| format!(", did you mean `{k}`?"));
    ProblemKind::UnknownKey { key: key.to_owned(), hint }
}

struct Findings(Vec<ProblemKind>);

impl Findings {
    fn add(&mut self, kind: ProblemKind) {
        self.0.push(kind);
    }

    fn wrong_type(&mut self, key: impl Into<String>, expected: &'static str, found: &Value) {
        self.add(ProblemKind::Type { key: key.into(), expected, found: kind_of(found).to_owned() });
    }

    fn name(&mut self, entry: &Map<String, Value>) -> Option<String> {
        let name = match entry.get("test_name") {
            None | Some(Value::Null) => "",
            Some(Value::String(name)) => name,
            Some(other) => {
                self.wrong_type("test_name", "a text", other);
                return None;
            }
        };
        if name.is_empty() {
            self.add(ProblemKind::NoName);
            return None;
        }
        if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-+".contains(*c))) {
            self.add(ProblemKind::NameCharacter(c));
        }
        if name.len() > NAME_LIMIT {
            self.add(ProblemKind::NameLength { length: name.len(), limit: NAME_LIMIT });
        }
        Some(name.to_owned())
    }

    /// Which suite runs it: the file says so, otherwise the name's prefix; they must agree.
    fn suite(&mut self, of_file: Option<SuiteKind>, name: Option<&str>) -> Option<SuiteKind> {
        let prefixed = |s: &SuiteKind| name.is_some_and(|n| n.starts_with(&format!("{s}_")));
        match (of_file, name) {
            (Some(suite), Some(_)) if !prefixed(&suite) => {
                self.add(ProblemKind::Prefix(format!("`{suite}_`")));
                Some(suite)
            }
            (Some(suite), Some(_) | None) => Some(suite),
            (None, name) => {
                let suite = SuiteKind::ALL.into_iter().find(prefixed);
                if suite.is_none() && name.is_some() {
                    let prefixes = "`serving_`, `latency_`, `throughput_` or `startup_`";
                    self.add(ProblemKind::Prefix(prefixes.to_owned()));
                }
                suite
            }
        }
    }

    fn unknown_keys(&mut self, entry: &Map<String, Value>, known: &[&str]) {
        for key in entry.keys() {
            // Parameters of another suite are told of with the parameters.
            if !known.contains(&key.as_str()) && !PARAMETER_KEYS.contains(&key.as_str()) {
                self.add(unknown_key(key, known));
            }
        }
    }

    /// The entry as the suite reads it: lists from the defaults where they are missing, objects laid over theirs.
    fn merge(
        &mut self,
        suite: SuiteKind,
        defaults: &Map<String, Value>,
        entry: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut merged = Map::new();
        for (key, value) in entry.iter().filter(|(_, v)| !v.is_null()) {
            merged.insert(key.clone(), value.clone());
        }
        for key in known_keys(suite).iter().filter(|k| **k != "test_name") {
            let Some(default) = defaults.get(*key) else { continue };
            match (default, merged.get(*key)) {
                (Value::Object(default), Some(Value::Object(own))) => {
                    let mut both = default.clone();
                    both.extend(own.clone());
                    merged.insert((*key).to_owned(), Value::Object(both));
                }
                (default, None) if !default.is_null() => {
                    merged.insert((*key).to_owned(), default.clone());
                }
                (_, Some(_) | None) => {}
            }
        }
        let objects = |key: &str| key.ends_with("parameters") || key.ends_with("environment_variables");
        for (key, value) in merged.iter().filter(|(key, value)| objects(key) && !value.is_object()) {
            self.wrong_type(key, "an object", value);
        }
        merged
    }

    /// The one section that names the model, checked as options.
    fn parameters<'m>(
        &mut self,
        suite: SuiteKind,
        merged: &'m Map<String, Value>,
    ) -> Option<(&'static str, &'m Map<String, Value>)> {
        let there: Vec<_> = PARAMETER_KEYS.into_iter().filter_map(|key| Some((key, merged.get(key)?))).collect();
        let (section, value) = match there.as_slice() {
            [] => {
                self.add(ProblemKind::NoParameters);
                return None;
            }
            [one] => *one,
            several => {
                let names: Vec<_> = several.iter().map(|(key, _)| format!("`{key}`")).collect();
                self.add(ProblemKind::SeveralParameters(names.join(" and ")));
                return None;
            }
        };
        let expected = match suite {
            SuiteKind::Serving => "server_parameters",
            SuiteKind::Latency | SuiteKind::Throughput | SuiteKind::Startup => "parameters",
        };
        if section == "common_parameters" {
            self.add(ProblemKind::CommonParameters);
        } else if section != expected {
            self.add(ProblemKind::WrongParameters { suite: suite.to_string(), expected, found: section });
        }
        let map = value.as_object()?;
        self.options(section, map, if section == "parameters" { &OFFLINE_OPTIONS } else { &[] });
        Some((section, map))
    }

    fn options(&mut self, section: &'static str, map: &Map<String, Value>, set_by_suite: &[&str]) {
        let mut seen: Vec<String> = Vec::new();
        for (key, value) in map {
            let option = key.replace('_', "-");
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
                self.add(ProblemKind::OptionName { section, key: key.clone() });
            } else if set_by_suite.contains(&option.as_str()) {
                self.add(ProblemKind::SetBySuite { section, key: key.clone() });
            }
            if seen.contains(&option) {
                self.add(ProblemKind::OptionTwice { section, option: option.clone() });
            }
            seen.push(option);
            let unquoted = |what| ProblemKind::Unquoted { section, key: key.clone(), what };
            match value {
                Value::Object(_) => self.add(unquoted("an object")),
                Value::Array(_) => self.add(unquoted("an array")),
                Value::String(text) if key != "model" && !survives_shell(text) => {
                    self.add(unquoted("a text with characters that the shell acts on"));
                }
                Value::Bool(_) | Value::Null => {
                    self.add(ProblemKind::Flag { section, key: key.clone(), value: value.to_string() });
                }
                Value::String(_) | Value::Number(_) => {}
            }
        }
    }

    fn model(&mut self, section: &'static str, map: &Map<String, Value>) -> Option<String> {
        match map.get("model") {
            None | Some(Value::Null) => self.add(ProblemKind::NoModel(section)),
            Some(Value::String(model)) if model.trim().is_empty() => self.add(ProblemKind::NoModel(section)),
            Some(Value::String(model)) => {
                if model.trim().chars().all(|c| c.is_ascii_alphanumeric() || "/._-@:+".contains(c)) {
                    return Some(model.trim().to_owned());
                }
                self.add(ProblemKind::ModelName { section, model: model.clone() });
            }
            Some(other) => self.wrong_type(format!("{section}.model"), "a text", other),
        }
        None
    }

    /// Tensor times pipeline times data parallel size; one each where nothing is said, as in the engine.
    fn devices(&mut self, map: &Map<String, Value>) -> u32 {
        let value = |names: [&str; 2]| names.into_iter().find_map(|n| map.get(n)).filter(|v| !v.is_null());
        let tensor = match value(["tensor_parallel_size", "tensor-parallel-size"]) {
            None => 1,
            Some(size) => whole(size).filter(|n| [1, 2, 4, 8].contains(n)).unwrap_or_else(|| {
                self.add(ProblemKind::TensorParallel(size.to_string()));
                1
            }),
        };
        let mut devices = tensor;
        for names in
            [["pipeline_parallel_size", "pipeline-parallel-size"], ["data_parallel_size", "data-parallel-size"]]
        {
            if let Some(size) = value(names) {
                match whole(size) {
                    Some(groups) => devices = devices.saturating_mul(groups),
                    None => self.add(ProblemKind::Parallel { key: names[0].to_owned(), value: size.to_string() }),
                }
            }
        }
        u32::try_from(devices).unwrap_or(u32::MAX)
    }

    fn variables(&mut self, section: &'static str, merged: &Map<String, Value>) {
        let Some(map) = merged.get(section).and_then(Value::as_object) else { return };
        for (key, value) in map {
            let identifier = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && key.chars().next().is_some_and(|c| !c.is_ascii_digit());
            if !identifier {
                self.add(ProblemKind::VariableName { section, key: key.clone() });
            }
            let what = match value {
                Value::Object(_) => "an object",
                Value::Array(_) => "an array",
                Value::String(text) if !survives_shell(text) || text.contains(' ') && !is_quoted(text) => {
                    "a text with characters that the shell acts on"
                }
                Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => continue,
            };
            self.add(ProblemKind::Unquoted { section, key: key.clone(), what });
        }
    }

    fn client(&mut self, server: &str, merged: &Map<String, Value>) {
        let empty = Value::Object(Map::new());
        let Value::Object(client) = merged.get("client_parameters").unwrap_or(&empty) else { return };
        let model = client.get("model").and_then(Value::as_str);
        if model.map(str::trim) != Some(server) {
            let client = model.map_or_else(|| "missing".to_owned(), |m| format!("`{m}`"));
            self.add(ProblemKind::ClientModel { client, server: server.to_owned() });
        }
        self.options("client_parameters", client, &SERVE_OPTIONS);
    }

    fn loads(&mut self, merged: &Map<String, Value>) -> Vec<Load> {
        let rates = match merged.get("qps_list") {
            None => {
                self.add(ProblemKind::NoRates);
                Vec::new()
            }
            Some(list) => self.list("qps_list", list, rate_name, ProblemKind::Rate),
        };
        let concurrencies = match merged.get("max_concurrency_list") {
            Some(list) => self.list(
                "max_concurrency_list",
                list,
                |c| c.as_u64().filter(|n| *n > 0).map(Some),
                ProblemKind::Concurrency,
            ),
            None => {
                let prompts = merged.get("client_parameters").and_then(|c| c.get("num_prompts"));
                let concurrency = prompts.and_then(whole);
                if concurrency.is_none() {
                    self.add(ProblemKind::NoConcurrency);
                }
                vec![concurrency]
            }
        };
        let with_rate = |rate: &String| {
            concurrencies.iter().map(|c| Load { rate: rate.clone(), concurrency: *c }).collect::<Vec<_>>()
        };
        rates.iter().flat_map(with_rate).collect()
    }

    fn list<T: PartialEq>(
        &mut self,
        key: &'static str,
        list: &Value,
        read: fn(&Value) -> Option<T>,
        bad: fn(String) -> ProblemKind,
    ) -> Vec<T> {
        let Value::Array(elements) = list else {
            self.wrong_type(key, "an array", list);
            return Vec::new();
        };
        if elements.is_empty() {
            self.add(ProblemKind::EmptyList(key));
        }
        let mut values = Vec::new();
        for element in elements {
            match read(element) {
                None => self.add(bad(element.to_string())),
                Some(value) if values.contains(&value) => {
                    self.add(ProblemKind::Repeated { list: key, value: element.to_string() });
                }
                Some(value) => values.push(value),
            }
        }
        values
    }
}

/// A positive whole number, also one in a text, as the suite's script takes it.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
    .filter(|n| *n > 0)
}

/// The rate as the suite writes it into names: a number as `jq` prints it (whole ones without a point), or `inf`.
fn rate_name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (text == "inf").then(|| text.clone()),
        Value::Number(number) => {
            let rate = number.as_f64().filter(|r| r.is_finite() && *r > 0.0)?;
            Some(rate.to_string())
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_quoted(text: &str) -> bool {
    text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).is_some_and(|inner| !inner.contains('\''))
}

/// Whether a text means the same after the suite's `eval`: nothing the shell acts on, or all of it in single quotes.
fn survives_shell(text: &str) -> bool {
    is_quoted(text) || !text.chars().any(|c| c.is_control() || "\"'\\`$&|;<>(){}[]*?!#".contains(c))
}
