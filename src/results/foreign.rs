//! Reads the result files of other projects: a list of `{name, value, unit, better}`, the lists and `data.js` content of
//! github-action-benchmark, and Bencher's metric format. Each becomes records of the common shape, so that checking,
//! storing and publishing know one shape only.
//!
//! Formats: <https://github.com/benchmark-action/github-action-benchmark> (custom tools, `entries`) and
//! <https://bencher.dev/docs/reference/bencher-metric-format/>.

use std::borrow::Cow;
use std::sync::Arc;

use jiter::JsonValue;

use super::json;
use super::parse::{Element, Reading};

/// The values of a file in another project's format as records; `None` when the file is in none of these formats.
/// `stem` names the benchmark where the format has no name for it.
pub(super) fn records<'j>(reading: &Reading<'j>, stem: &'j str) -> Option<Vec<Element<'j>>> {
    if reading.elements.is_empty() || !reading.faults.is_empty() {
        return None;
    }
    if reading.single {
        let whole = reading.elements.first()?;
        let found = data_js(&whole.value).or_else(|| bencher(&whole.value))?;
        return Some(found.into_iter().map(|value| Element { at: whole.at, value }).collect());
    }
    let is_entry = |e: &Element<'_>| {
        json::field(&e.value, "name").and_then(json::text).is_some() && json::field(&e.value, "value").is_some()
    };
    if !reading.elements.iter().all(is_entry) {
        return None;
    }
    let record = |e: &Element<'j>| {
        let value = named(&e.value, Cow::Borrowed(stem), None)?;
        Some(Element { at: e.at, value })
    };
    reading.elements.iter().map(record).collect()
}

/// The newest entry of every group of `{"entries": {group: [{"benches": [..], "tool": ..}]}}`.
fn data_js<'j>(value: &JsonValue<'j>) -> Option<Vec<JsonValue<'j>>> {
    let groups = json::object(json::field(value, "entries")?)?;
    let mut found = Vec::new();
    for (group, entries) in groups {
        let newest = json::list(entries)?.last()?;
        let better = match json::field(newest, "tool").and_then(json::text) {
            Some("customBiggerIsBetter") => Some("higher"),
            Some("customSmallerIsBetter") => Some("lower"),
            Some(_) | None => None,
        };
        for bench in json::list(json::field(newest, "benches")?)? {
            found.push(named(bench, group.clone(), better)?);
        }
    }
    (!found.is_empty()).then_some(found)
}

/// `{benchmark: {measure: {"value": .., "lower_value": .., "upper_value": ..}}}`.
fn bencher<'j>(value: &JsonValue<'j>) -> Option<Vec<JsonValue<'j>>> {
    let mut found = Vec::new();
    for (benchmark, measures) in json::last_of_each(json::object(value)?) {
        let measures = json::object(measures).filter(|m| !m.is_empty())?;
        for (measure, figures) in json::last_of_each(measures) {
            let figure = json::field(figures, "value")?;
            let mut info = Vec::new();
            // Bencher's two built-in measures with a fixed unit.
            match measure {
                "latency" => info.extend([unit("ns"), better("lower")]),
                "throughput" => info.extend([unit("ops/s"), better("higher")]),
                _ => {}
            }
            for bound in ["lower_value", "upper_value"] {
                if let Some(bound_value) = json::field(figures, bound) {
                    info.push((Cow::Borrowed(bound), bound_value.clone()));
                }
            }
            found.push(record(owned(benchmark), owned(measure), figure.clone(), info));
        }
    }
    (!found.is_empty()).then_some(found)
}

/// A `{name, value, unit?, better?, range?, extra?}`.
fn named<'j>(entry: &JsonValue<'j>, benchmark: Cow<'j, str>, direction: Option<&'static str>) -> Option<JsonValue<'j>> {
    let JsonValue::Str(name) = json::field(entry, "name")? else { return None };
    let figure = json::field(entry, "value")?.clone();
    let mut info = Vec::new();
    for key in ["unit", "better", "range", "extra"] {
        if let Some(value) = json::field(entry, key) {
            info.push((Cow::Borrowed(key), value.clone()));
        }
    }
    let says = json::field(entry, "better").and_then(json::text).is_some();
    let by_unit = || json::field(entry, "unit").and_then(json::text).and_then(direction_of_unit);
    if !says && let Some(direction) = direction.or_else(by_unit) {
        info.push(better(direction));
    }
    Some(record(benchmark, name.clone(), figure, info))
}

/// Which way a unit is better, where that is plain.
fn direction_of_unit(unit: &str) -> Option<&'static str> {
    let unit = unit.to_ascii_lowercase();
    if unit.ends_with("/op") || unit.ends_with("/iter") {
        return Some("lower");
    }
    let rate = unit.contains("/s") || unit.contains("per second") || unit.contains("/min");
    let time = ["ns", "us", "µs", "ms", "s", "sec", "seconds", "milliseconds"].contains(&unit.as_str());
    if rate { Some("higher") } else { time.then_some("lower") }
}

fn owned<'j>(text: &str) -> Cow<'j, str> {
    Cow::Owned(text.to_owned())
}

fn unit<'j>(name: &'static str) -> (Cow<'j, str>, JsonValue<'j>) {
    (Cow::Borrowed("unit"), JsonValue::Str(Cow::Borrowed(name)))
}

fn better<'j>(direction: &'static str) -> (Cow<'j, str>, JsonValue<'j>) {
    (Cow::Borrowed("better"), JsonValue::Str(Cow::Borrowed(direction)))
}

fn record<'j>(
    benchmark: Cow<'j, str>,
    metric: Cow<'j, str>,
    value: JsonValue<'j>,
    info: Vec<(Cow<'j, str>, JsonValue<'j>)>,
) -> JsonValue<'j> {
    let object = |pairs: Vec<(&'static str, JsonValue<'j>)>| {
        JsonValue::Object(Arc::new(pairs.into_iter().map(|(k, v)| (Cow::Borrowed(k), v)).collect()))
    };
    object(vec![
        ("benchmark", object(vec![("name", JsonValue::Str(benchmark))])),
        (
            "metric",
            object(vec![
                ("name", JsonValue::Str(metric)),
                ("benchmark_values", JsonValue::Array(Arc::new(vec![value]))),
                ("extra_info", JsonValue::Object(Arc::new(info))),
            ]),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn read(text: &str) -> Option<Vec<serde_json::Value>> {
        let reading = parse(text.as_bytes());
        let found = records(&reading, "speed")?;
        let json = |e: &Element<'_>| {
            let mut out = Vec::new();
            json::write(&mut out, &e.value).unwrap();
            serde_json::from_slice(&out).unwrap()
        };
        Some(found.iter().map(json).collect())
    }

    #[test]
    fn a_plain_list() {
        let found = read(r#"[{"name": "parse", "value": 12.5, "unit": "ms", "better": "lower"}]"#).unwrap();
        assert_eq!(found[0]["benchmark"]["name"], "speed");
        assert_eq!(found[0]["metric"]["name"], "parse");
        assert_eq!(found[0]["metric"]["benchmark_values"], serde_json::json!([12.5]));
        assert_eq!(found[0]["metric"]["extra_info"], serde_json::json!({"unit": "ms", "better": "lower"}));
    }

    #[test]
    fn lists_and_history_of_github_action_benchmark() {
        let found = read(r#"[{"name": "a", "unit": "ops/sec", "value": 3, "range": "± 1%", "extra": "x"}]"#).unwrap();
        assert_eq!(found[0]["metric"]["extra_info"]["better"], "higher");
        let found = read(
            r#"{"lastUpdate": 1, "entries": {"Go": [
                {"tool": "go", "benches": [{"name": "old", "value": 1, "unit": "ns/op"}]},
                {"tool": "customBiggerIsBetter", "benches": [{"name": "new", "value": 2, "unit": "x"}]}]}}"#,
        )
        .unwrap();
        assert_eq!((found.len(), &found[0]["metric"]["name"]), (1, &"new".into()));
        assert_eq!(found[0]["metric"]["extra_info"]["better"], "higher");
        assert_eq!(direction_of_unit("ns/op"), Some("lower"));
        assert_eq!(direction_of_unit("MiB"), None);
    }

    #[test]
    fn bencher_metric_format() {
        let found = read(
            r#"{"adapter::json": {"latency": {"value": 88.0, "lower_value": 87.4, "upper_value": 88.1}},
                "b": {"throughput": {"value": 5}, "score": {"value": 1}}}"#,
        )
        .unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0]["benchmark"]["name"], "adapter::json");
        assert_eq!(found[0]["metric"]["extra_info"]["lower_value"], 87.4);
        assert_eq!(found[0]["metric"]["extra_info"]["better"], "lower");
        assert_eq!(found[1]["metric"]["extra_info"]["better"], "higher");
    }

    #[test]
    fn native_results_and_summaries_are_none_of_these() {
        for other in [
            r#"{"avg_latency": 1.0, "percentiles": {"10": 1.0}}"#,
            r#"{"latency": {}}"#,
            r#"{"latency": {"Test name": {"0": "x"}}, "serving": {}}"#,
            r#"[{"Test name": "x", "Mean latency (ms)": 1}]"#,
            "[1, 2]",
            "[]",
            "{}",
            r#"[{"name": "x"}]"#,
        ] {
            assert!(read(other).is_none(), "{other}");
        }
    }
}
