//! Valid records as measurements: values with unit, direction and class. Adds what records lack, the throughput of
//! serving, which the suite writes only into its native results.

use std::collections::{BTreeMap, BTreeSet};

use jiter::JsonValue;

use super::check::{Finding, Found, Worth};
use super::json;
use super::limits::is_unit;
use crate::model::{Better, Measurement, MetricClass, MetricKind, metric_kind};

/// Figures of a native serving result that are measurements and no records.
const SERVING: [&str; 14] = [
    "request_throughput",
    "output_throughput",
    "total_token_throughput",
    "request_goodput",
    "max_output_tokens_per_s",
    "duration",
    "total_input_tokens",
    "total_output_tokens",
    "max_concurrent_requests",
    "spec_decode_acceptance_rate",
    "spec_decode_acceptance_length",
    "mean_e2el_ms",
    "median_e2el_ms",
    "p99_e2el_ms",
];

/// Of those, what a finite request rate pins: the offered load decides it, not the commit.
const PINNED: [&str; 4] = ["request_throughput", "output_throughput", "total_token_throughput", "request_goodput"];

/// Collects measurements from what [`check`](super::check()) finds.
#[derive(Debug, Default)]
pub struct Collector {
    measurements: Vec<Measurement>,
    /// Serving figures by point: from the native result, otherwise from the first record's extra information.
    serving: BTreeMap<String, Vec<(&'static str, f64)>>,
    /// Points whose figures cannot be the commit's doing.
    pinned: BTreeSet<String>,
    /// What the plan calls the benchmark of a point.
    benchmarks: BTreeMap<String, String>,
}

impl Collector {
    /// Takes one finding.
    pub fn take(&mut self, finding: &Finding<'_, '_>) {
        match finding {
            Finding::Record(found) => self.record(found),
            Finding::Native { point, value } => self.native(point, value),
        }
    }

    fn record(&mut self, found: &Found<'_, '_>) {
        let Some(metric) = json::field(found.record, "metric") else { return };
        let info = json::field(metric, "extra_info");
        if let Some(info) = info
            && !self.serving.contains_key(found.point)
        {
            self.native(found.point, info);
        }
        if !self.benchmarks.contains_key(found.point) {
            self.benchmarks.insert(found.point.to_owned(), found.benchmark.to_owned());
        }
        let values = json::field(metric, "benchmark_values").and_then(json::list);
        let (Some(name), Some(values)) = (json::field(metric, "name").and_then(json::text), values) else { return };
        match found.worth {
            Worth::Measured => {}
            Worth::NothingCompiled => return,
        }
        let MetricKind { unit, better, class } = metric_kind(name);
        let mut measurement = Measurement {
            benchmark: found.benchmark.to_owned(),
            point: found.point.to_owned(),
            metric: name.to_owned(),
            unit: unit.to_owned(),
            better,
            class,
            values: values.iter().filter_map(json::number).collect(),
        };
        if let Some(info) = info {
            told_by_record(&mut measurement, info);
        }
        self.measurements.push(measurement);
    }

    fn native(&mut self, point: &str, value: &JsonValue<'_>) {
        if json::field(value, "request_throughput").is_none() {
            return;
        }
        let positive = |number: &f64| number.is_finite() && *number > 0.0;
        let figure = |name: &&'static str| {
            json::field(value, name).and_then(json::number).filter(positive).map(|number| (*name, number))
        };
        self.serving.insert(point.to_owned(), SERVING.iter().filter_map(figure).collect());
        let rate = json::field(value, "request_rate");
        let finite_rate = rate.and_then(|rate| json::number(rate).or_else(|| json::text(rate)?.parse().ok()));
        if finite_rate.is_some_and(f64::is_finite) {
            self.pinned.insert(point.to_owned());
        }
    }

    /// All measurements: those of records in their order, then the serving figures by point. Points without a valid
    /// record have none: what is not in order is not measured.
    pub fn finish(self) -> Vec<Measurement> {
        let mut all = self.measurements;
        for (point, figures) in self.serving {
            let Some(benchmark) = self.benchmarks.get(&point) else { continue };
            for (name, value) in figures {
                let mut kind = metric_kind(name);
                if PINNED.contains(&name) && self.pinned.contains(&point) {
                    kind = MetricKind { better: None, class: MetricClass::Information, ..kind };
                }
                all.push(Measurement {
                    benchmark: benchmark.clone(),
                    point: point.clone(),
                    metric: name.to_owned(),
                    unit: kind.unit.to_owned(),
                    better: kind.better,
                    class: kind.class,
                    values: vec![value],
                });
            }
        }
        all
    }
}

/// A record may bring unit and direction itself: other projects' metrics are known by no table.
fn told_by_record(measurement: &mut Measurement, info: &JsonValue<'_>) {
    if let Some(unit) = json::field(info, "unit").and_then(json::text).filter(|unit| is_unit(unit)) {
        unit.clone_into(&mut measurement.unit);
    }
    let better = match json::field(info, "better").and_then(json::text) {
        Some("lower") => Better::Lower,
        Some("higher") => Better::Higher,
        Some(_) | None => return,
    };
    measurement.better = Some(better);
    if measurement.class == MetricClass::Information {
        measurement.class = MetricClass::Primary;
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Expectation, check};
    use super::*;

    fn collect(files: &[(&str, &str)]) -> Vec<Measurement> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut collector = Collector::default();
        check(dir.path(), Expectation::default(), &mut |finding| {
            collector.take(&finding);
            Ok(())
        })
        .unwrap();
        collector.finish()
    }

    const RECORD: &str =
        r#"[{"benchmark": {}, "metric": {"name": "median_ttft_ms", "benchmark_values": [3.5, 4], "extra_info": {}}}]"#;

    fn native(rate: &str) -> String {
        format!(
            r#"{{"request_rate": {rate}, "num_prompts": 2, "completed": 2, "failed": 0, "request_throughput": 2.5,
                "request_goodput": null, "output_throughput": NaN, "rtfx": 0.0, "duration": 4}}"#
        )
    }

    #[test]
    fn serving_throughput_comes_from_the_native_result() {
        let point = "s_qps_inf_concurrency_8";
        let all = collect(&[
            (&format!("{point}.json"), &native("\"inf\"")),
            (&format!("{point}.pytorch.json"), RECORD),
            ("other_qps_1_concurrency_8.json", &native("1")),
        ]);
        let names: Vec<_> = all.iter().map(|m| m.metric.as_str()).collect();
        assert_eq!(names, ["median_ttft_ms", "request_throughput", "duration"]);
        assert_eq!((all[0].values.as_slice(), all[0].unit.as_str()), ([3.5, 4.0].as_slice(), "ms"));
        assert_eq!((all[1].better, all[1].class), (Some(Better::Higher), MetricClass::Primary));
        assert_eq!((all[1].benchmark.as_str(), all[1].point.as_str()), ("s", point));
    }

    #[test]
    fn a_finite_request_rate_pins_the_throughput() {
        let point = "s_qps_4_concurrency_8";
        let all = collect(&[(&format!("{point}.json"), &native("4.0")), (&format!("{point}.pytorch.json"), RECORD)]);
        assert_eq!((all[1].better, all[1].class), (None, MetricClass::Information));
        assert_eq!(all[2].better, Some(Better::Lower));
    }

    #[test]
    fn without_a_native_result_the_records_themselves_say_it() {
        let record = RECORD
            .replace(r#""extra_info": {}"#, &format!(r#""extra_info": {}"#, native("\"inf\"").replace("NaN", "7")));
        let all = collect(&[("s_qps_inf_concurrency_8.pytorch.json", &record)]);
        let names: Vec<_> = all.iter().map(|m| m.metric.as_str()).collect();
        assert_eq!(names, ["median_ttft_ms", "request_throughput", "output_throughput", "duration"]);
    }

    #[test]
    fn no_compilation_is_no_measurement() {
        let record = r#"[{"benchmark": {"extra_info": {"args": {"enforce_eager": true}}},
            "metric": {"name": "avg_cold_compilation_time", "benchmark_values": [0.0]}}]"#;
        assert_eq!(collect(&[("s.cold_compilation.pytorch.json", record)]), []);
    }

    #[test]
    fn other_projects_bring_their_units() {
        let all =
            collect(&[("speed.json", r#"[{"name": "parse", "value": 12, "unit": "widgets", "better": "higher"}]"#)]);
        let one = &all[0];
        assert_eq!((one.benchmark.as_str(), one.point.as_str(), one.metric.as_str()), ("speed", "speed", "parse"));
        assert_eq!((one.unit.as_str(), one.better, one.class), ("widgets", Some(Better::Higher), MetricClass::Primary));
    }
}
