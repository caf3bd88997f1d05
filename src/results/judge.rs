//! Whether one element is a valid record, and whether a benchmark was told to run without compilation. Pure; the rules
//! that keep a zero, a NaN or a mangled record from being taken for a measurement.

use jiter::JsonValue;

use super::json;
use super::limits::{is_name, shown};
use super::problem::ProblemKind;

/// The judgement on one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A record with values.
    Valid,
    /// A record that rightly says zero: the compilation time of a benchmark that does not compile. It is in order and
    /// no measurement.
    NothingCompiled,
    /// No valid record.
    Invalid(ProblemKind, String),
}

fn invalid(kind: ProblemKind, message: impl Into<String>) -> Verdict {
    Verdict::Invalid(kind, message.into())
}

/// Judges one element. `told_eager`: whether a plan or command line says that the benchmark runs without compilation;
/// the record's own arguments may say so as well.
pub(super) fn judge(value: &JsonValue<'_>, told_eager: bool) -> Verdict {
    if json::object(value).is_none() {
        return invalid(ProblemKind::NotARecord, "the element is no object");
    }
    let Some(benchmark) = json::field(value, "benchmark") else {
        return invalid(ProblemKind::NotARecord, "the object has no `benchmark`");
    };
    if json::object(benchmark).is_none() {
        return invalid(ProblemKind::NotARecord, "`benchmark` is no object");
    }
    let Some(metric) = json::field(value, "metric") else {
        return invalid(ProblemKind::BadMetric, "the record has no `metric`");
    };
    if json::object(metric).is_none() {
        return invalid(ProblemKind::BadMetric, "`metric` is no object");
    }
    let Some(name) = json::field(metric, "name").and_then(json::text) else {
        return invalid(ProblemKind::BadMetric, "`metric` has no `name`");
    };
    if !is_name(name) {
        return invalid(ProblemKind::BadMetric, format!("`{}` is no name of a metric", shown(name)));
    }
    let Some(values) = json::field(metric, "benchmark_values") else {
        return invalid(ProblemKind::NoValues, format!("`{name}` has no `benchmark_values`"));
    };
    let Some(values) = json::list(values) else {
        return invalid(ProblemKind::NoValues, format!("`benchmark_values` of `{name}` is no list"));
    };
    if values.is_empty() {
        return invalid(ProblemKind::EmptyValues, format!("`benchmark_values` of `{name}` is empty"));
    }
    for (at, item) in values.iter().enumerate() {
        match json::number(item) {
            None => {
                let kind = kind_of(item);
                return invalid(ProblemKind::NotANumber, format!("value {} of `{name}` is {kind}, no number", at + 1));
            }
            Some(number) if !number.is_finite() => {
                return invalid(ProblemKind::NotFinite, format!("value {} of `{name}` is {number}", at + 1));
            }
            Some(_) => {}
        }
    }
    // What the load generator says beside its metric may lack a figure, which is written as `null`. An argument that is
    // no number would be another argument.
    if let Some(path) = json::not_finite(value, &["metric", "extra_info"]) {
        return invalid(ProblemKind::NotFinite, format!("`{}` is NaN or infinite", path.trim_start_matches('.')));
    }
    if let Some(message) = bad_shape(value) {
        return invalid(ProblemKind::BadShape, message);
    }
    if values.iter().all(is_zero) {
        if name.contains("compilation") && (told_eager || says_eager(benchmark)) {
            return Verdict::NothingCompiled;
        }
        return invalid(ProblemKind::Zeroed, format!("every value of `{name}` is zero"));
    }
    Verdict::Valid
}

fn is_zero(value: &JsonValue<'_>) -> bool {
    json::number(value).is_some_and(|number| number.abs() < f64::MIN_POSITIVE)
}

fn kind_of(value: &JsonValue<'_>) -> &'static str {
    match value {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "a boolean",
        JsonValue::Int(_) | JsonValue::BigInt(_) | JsonValue::Float(_) => "a number",
        JsonValue::Str(_) => "text",
        JsonValue::Array(_) => "a list",
        JsonValue::Object(_) => "an object",
    }
}

/// Columns of the public table that are structures: another kind of value there makes the database refuse every
/// record of the object.
fn bad_shape(record: &JsonValue<'_>) -> Option<String> {
    const OBJECTS: [&[&str]; 6] = [
        &["model"],
        &["inputs"],
        &["dependencies"],
        &["benchmark", "extra_info"],
        &["model", "extra_info"],
        &["metric", "extra_info"],
    ];
    let at = |path: &[&str]| path.iter().try_fold(record, |value, key| json::field(value, key));
    for path in OBJECTS {
        if let Some(value) = at(path)
            && !matches!(value, JsonValue::Object(_) | JsonValue::Null)
        {
            return Some(format!("`{}` is {}, an object belongs there", path.join("."), kind_of(value)));
        }
    }
    for column in ["inputs", "dependencies"] {
        for (name, value) in at(&[column]).and_then(json::object).unwrap_or_default() {
            let info = json::field(value, "extra_info");
            if json::object(value).is_none() || info.is_some_and(|info| json::object(info).is_none()) {
                return Some(format!("`{column}.{name}` is no object of texts with an object `extra_info`"));
            }
        }
    }
    if let Some(target) = at(&["metric", "target_value"])
        && !matches!(target, JsonValue::Null)
        && json::number(target).is_none()
    {
        return Some(format!("`metric.target_value` is {}, a number belongs there", kind_of(target)));
    }
    let origins = at(&["model", "origins"])?;
    (!matches!(origins, JsonValue::Array(_) | JsonValue::Null))
        .then(|| format!("`model.origins` is {}, a list belongs there", kind_of(origins)))
}

/// Whether the record's own arguments say that nothing is compiled.
fn says_eager(benchmark: &JsonValue<'_>) -> bool {
    let Some(info) = json::field(benchmark, "extra_info") else { return false };
    let is_off = |value: &JsonValue<'_>| {
        json::number(value).is_some_and(|n| n.abs() < f64::MIN_POSITIVE)
            || json::text(value).is_some_and(|t| t == "0" || t.eq_ignore_ascii_case("none"))
    };
    let told_by = |value: Option<&JsonValue<'_>>| value.is_some_and(is_off);
    // The suite's word that nothing was compiled; its word that something was is known to be wrong at times.
    if matches!(json::field(info, "use_compile"), Some(JsonValue::Bool(false)))
        || told_by(json::field(info, "compilation_config.mode"))
    {
        return true;
    }
    let Some(args) = json::field(info, "args") else { return false };
    let config_says = |config: &JsonValue<'_>| {
        json::field(config, "backend").and_then(json::text) == Some("eager")
            || told_by(json::field(config, "mode"))
            || told_by(json::field(config, "level"))
    };
    let config = json::field(args, "compilation_config");
    matches!(json::field(args, "enforce_eager"), Some(JsonValue::Bool(true)))
        || told_by(json::field(args, "optimization_level"))
        || config.is_some_and(config_says)
        || config.and_then(json::text).is_some_and(command_says_eager)
}

/// Whether a command line says that nothing is compiled: `--enforce-eager`, `-O0`, or a compilation configuration with
/// the backend `eager` or mode 0.
pub(super) fn command_says_eager(command: &str) -> bool {
    // The text of a command file: words may end in the quotes and brackets around them.
    let bare_word = |word: &str| matches!(word.trim_matches(['"', '\'', ',', '}']), "--enforce-eager" | "-O0" | "-O=0");
    if command.split_whitespace().any(bare_word) {
        return true;
    }
    let bare: String = command.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\')).collect();
    let pairs = ["backend:eager", "mode:0", "mode:NONE", "level:0"];
    bare.split(['{', ',']).any(|pair| pairs.contains(&pair.split('}').next().unwrap_or(pair)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(json: &str) -> Verdict {
        judge(&JsonValue::parse(json.as_bytes(), true).unwrap(), false)
    }

    fn kind(json: &str) -> Option<ProblemKind> {
        match verdict(json) {
            Verdict::Invalid(kind, _) => Some(kind),
            Verdict::Valid | Verdict::NothingCompiled => None,
        }
    }

    fn with_values(values: &str) -> Option<ProblemKind> {
        kind(&format!(r#"{{"benchmark": {{}}, "metric": {{"name": "latency", "benchmark_values": {values}}}}}"#))
    }

    #[test]
    fn values_are_finite_numbers_and_not_all_zero() {
        for good in ["[1]", "[0, 1.5]", "[-1]", "[1e300]", "[123456789012345678901234567890]"] {
            assert_eq!(with_values(good), None, "{good}");
        }
        for (bad, expected) in [
            ("[]", ProblemKind::EmptyValues),
            ("1.5", ProblemKind::NoValues),
            ("null", ProblemKind::NoValues),
            ("[1, true]", ProblemKind::NotANumber),
            ("[1, null]", ProblemKind::NotANumber),
            ("[\"inf\"]", ProblemKind::NotANumber),
            ("[[1]]", ProblemKind::NotANumber),
            ("[1, NaN]", ProblemKind::NotFinite),
            ("[-Infinity]", ProblemKind::NotFinite),
            ("[1e400]", ProblemKind::NotFinite),
            ("[0, 0.0, -0.0]", ProblemKind::Zeroed),
        ] {
            assert_eq!(with_values(bad), Some(expected), "{bad}");
        }
        assert_eq!(with_values(&format!("[1{}]", "0".repeat(400))), Some(ProblemKind::NotFinite));
    }

    #[test]
    fn a_record_has_benchmark_and_metric() {
        for (bad, expected) in [
            ("1", ProblemKind::NotARecord),
            ("{\"note\": 1}", ProblemKind::NotARecord),
            ("{\"benchmark\": \"x\", \"metric\": {}}", ProblemKind::NotARecord),
            ("{\"benchmark\": {}}", ProblemKind::BadMetric),
            ("{\"benchmark\": {}, \"metric\": \"latency\"}", ProblemKind::BadMetric),
            ("{\"benchmark\": {}, \"metric\": {\"name\": 1}}", ProblemKind::BadMetric),
            ("{\"benchmark\": {}, \"metric\": {\"name\": \" \"}}", ProblemKind::BadMetric),
            ("{\"benchmark\": {}, \"metric\": {\"name\": \"a\\nb\"}}", ProblemKind::BadMetric),
            ("{\"benchmark\": {}, \"metric\": {\"name\": \"x\"}}", ProblemKind::NoValues),
        ] {
            assert_eq!(kind(bad), Some(expected), "{bad}");
        }
    }

    #[test]
    fn what_the_database_would_refuse_is_refused_before() {
        let record = |more: &str| {
            kind(&format!(r#"{{"benchmark": {{}}, "metric": {{"name": "x", "benchmark_values": [1]}}, {more}}}"#))
        };
        assert_eq!(record(r#""model": {"name": "m", "origins": []}, "inputs": null"#), None);
        assert_eq!(record(r#""model": "m""#), Some(ProblemKind::BadShape));
        assert_eq!(record(r#""model": {"origins": "hub"}"#), Some(ProblemKind::BadShape));
        assert_eq!(record(r#""dependencies": [1]"#), Some(ProblemKind::BadShape));
        assert_eq!(record(r#""x": NaN"#), Some(ProblemKind::NotFinite));
        let info = r#"{"name": "x", "benchmark_values": [1], "extra_info": {"rtfx": NaN, "p": [{"x": Infinity}]}}"#;
        assert_eq!(kind(&format!(r#"{{"benchmark": {{}}, "metric": {info}}}"#)), None);
        assert_eq!(record(r#""inputs": {"x": {"dtype": 1}}, "dependencies": {"x": {"extra_info": {}}}"#), None);
        for bad in ["1", "\"int\"", "null", "[]", r#"{"extra_info": "t"}"#] {
            assert_eq!(record(&format!(r#""inputs": {{"x": {bad}}}"#)), Some(ProblemKind::BadShape), "{bad}");
        }
        let target = |value: &str| {
            let metric = format!(r#"{{"name": "x", "benchmark_values": [1], "target_value": {value}}}"#);
            kind(&format!(r#"{{"benchmark": {{}}, "metric": {metric}}}"#))
        };
        assert_eq!((target("0.5"), target("null")), (None, None));
        for bad in ["\"abc\"", "{}", "[1]", "true"] {
            assert_eq!(target(bad), Some(ProblemKind::BadShape), "{bad}");
        }
    }

    #[test]
    fn zero_compilation_is_right_only_without_compilation() {
        let startup = |metric: &str, info: &str| {
            verdict(&format!(
                r#"{{"benchmark": {{"extra_info": {info}}}, "metric": {{"name": "{metric}", "benchmark_values": [0.0]}}}}"#
            ))
        };
        for eager in [
            r#"{"args": {"enforce_eager": true}}"#,
            r#"{"args": {"compilation_config": {"backend": "eager"}}}"#,
            r#"{"args": {"compilation_config": {"mode": 0}}}"#,
            r#"{"args": {"compilation_config": {"level": "0"}}}"#,
            r#"{"args": {"compilation_config": "'{\"backend\":\"eager\"}'"}}"#,
            r#"{"args": {"optimization_level": 0}}"#,
            r#"{"use_compile": false}"#,
            r#"{"compilation_config.mode": "0"}"#,
        ] {
            assert_eq!(startup("avg_cold_compilation_time", eager), Verdict::NothingCompiled, "{eager}");
            assert_ne!(startup("avg_cold_startup_time", eager), Verdict::NothingCompiled, "{eager}");
        }
        for compiled in [
            r#"{"args": {"enforce_eager": false, "compilation_config": {"level": null, "backend": ""}}, "use_compile": true}"#,
            r#"{"args": {"output_json": "startup_eager.json"}, "compilation_config.mode": ""}"#,
            "{}",
        ] {
            let Verdict::Invalid(kind, _) = startup("avg_cold_compilation_time", compiled) else {
                panic!("{compiled}")
            };
            assert_eq!(kind, ProblemKind::Zeroed);
        }
    }

    #[test]
    fn a_command_line_says_it_too() {
        assert!(command_says_eager("vllm serve m --enforce-eager --max-num-seqs 64"));
        assert!(command_says_eager(r#"vllm bench --compilation-config '{"backend":"eager"}'"#));
        assert!(command_says_eager(r#"vllm bench -O0 x"#));
        assert!(command_says_eager(r#"--compilation-config '{\"level\": 1, \"mode\": 0}'"#));
        assert!(!command_says_eager(r#"--compilation-config '{"cudagraph_mode":0}' --no-enforce-eager"#));
        assert!(!command_says_eager("vllm bench --output-json results/startup_eager.json"));
    }
}
