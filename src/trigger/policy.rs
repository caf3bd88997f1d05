//! The rules of what a trigger measures: which selection, whether this host takes part, and what fits into a budget.
//! Pure: wishes and estimates in, a smaller plan out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::config::BudgetedSelection;
use crate::model::{SuiteKind, Target, Variant};
use crate::queue::planner::{PlannedJob, Selection};
use crate::store::LeftOut;

/// How long the devices are held for one point where nothing was recorded yet: one request rate of a server with its
/// start, one batch size, one start of the engine. Rough on purpose; the first recorded job replaces it.
const DEFAULT_SECONDS: [(SuiteKind, u64); 4] =
    [(SuiteKind::Serving, 150), (SuiteKind::Latency, 120), (SuiteKind::Throughput, 120), (SuiteKind::Startup, 240)];

/// Of a suite that is none of vLLM's.
const DEFAULT_SECONDS_OTHER: u64 = 300;

/// How much device time a run may take, and what it is spent on first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Device time (time times devices held) on one target; `None` for no limit.
    pub limit: Option<Duration>,
    /// Benchmarks that come first and are always measured, by name.
    pub canary: Vec<String>,
    /// Recorded time of one point, by model and device count.
    pub recorded: Recorded,
}

/// Recorded time of one point in milliseconds, by model and device count.
pub type Recorded = BTreeMap<(String, u32), u64>;

/// A plan cut to its budget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fitted {
    /// What is measured, canaries first.
    pub jobs: Vec<PlannedJob>,
    /// What is not.
    pub left_out: Vec<LeftOut>,
}

/// One benchmark in one variant: what is measured or left out as a whole.
struct Unit {
    job: usize,
    benchmark: String,
    points: u32,
    seconds: u64,
    canary: Option<usize>,
    variant: Variant,
}

/// Whether a selection wants a host: an empty list wants all, else the platform or the device type must be named.
pub fn wants_target(targets: &[String], target: &Target) -> bool {
    let named = |name: &String| {
        let name = name.trim();
        let device = target.device_type.as_str();
        [target.platform.as_str(), device, &target.device_type.device_key()]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    };
    targets.is_empty() || targets.iter().any(named)
}

/// What the planner is told to select.
pub fn selection_of(configured: &BudgetedSelection) -> Selection {
    Selection {
        models: configured.models.clone(),
        suites: configured.suites.clone(),
        variants: configured.variants.clone(),
        ..Selection::default()
    }
}

/// Cuts planned jobs to a budget: canaries are always kept and come first; of the rest, base variants before others and
/// then in the plan's order, whatever still fits.
pub fn fit(mut jobs: Vec<PlannedJob>, budget: &Budget) -> Fitted {
    let mut units = units(&jobs, budget);
    units.sort_by_key(|unit| (unit.canary.unwrap_or(usize::MAX), unit.variant != Variant::Base));
    let mut left = budget.limit.map(|limit| limit.as_secs());
    let (mut dropped, mut left_out) = (BTreeSet::new(), Vec::new());
    for unit in &units {
        match left {
            None => {}
            Some(seconds) if unit.canary.is_some() || unit.seconds <= seconds => {
                left = Some(seconds.saturating_sub(unit.seconds));
            }
            Some(_) => {
                let model = jobs.get(unit.job).map(|job| job.model.clone()).unwrap_or_default();
                let (benchmark, points, seconds) = (unit.benchmark.clone(), unit.points, unit.seconds);
                left_out.push(LeftOut { model, benchmark, points, seconds });
                dropped.insert((unit.job, unit.benchmark.clone()));
            }
        }
    }
    for (index, job) in jobs.iter_mut().enumerate() {
        job.points.retain(|point| !dropped.contains(&(index, point.benchmark.clone())));
        for file in &mut job.suite_files {
            if let Some(entries) = entries_of(&mut file.content) {
                entries.retain(|entry| !dropped.contains(&(index, name_of(entry).to_owned())));
                entries.sort_by_key(|entry| canary_rank(&budget.canary, name_of(entry)).unwrap_or(usize::MAX));
            }
        }
    }
    jobs.retain(|job| !job.points.is_empty() || dropped.is_empty());
    let first = |job: &PlannedJob| {
        job.points.iter().filter_map(|point| canary_rank(&budget.canary, &point.benchmark)).min().unwrap_or(usize::MAX)
    };
    jobs.sort_by_key(first);
    Fitted { jobs, left_out }
}

fn units(jobs: &[PlannedJob], budget: &Budget) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    // A suite without benchmark files cannot be told to measure less.
    for (index, job) in jobs.iter().enumerate().filter(|(_, job)| !job.suite_files.is_empty()) {
        for point in &job.points {
            let seconds = seconds_of(job, &point.suite, budget);
            match units.iter_mut().rev().find(|unit| unit.job == index && unit.benchmark == point.benchmark) {
                Some(unit) => {
                    unit.points += 1;
                    unit.seconds += seconds;
                }
                None => units.push(Unit {
                    job: index,
                    benchmark: point.benchmark.clone(),
                    points: 1,
                    seconds,
                    canary: canary_rank(&budget.canary, &point.benchmark),
                    variant: point.variant,
                }),
            }
        }
    }
    units
}

/// How long a job of this takes, by the rough figures of its suites.
pub fn rough_duration(job: &PlannedJob) -> Duration {
    Duration::from_secs(job.points.iter().map(|point| default_seconds(&point.suite)).sum())
}

fn default_seconds(suite: &str) -> u64 {
    let known = DEFAULT_SECONDS.iter().find(|(kind, _)| kind.as_str() == suite);
    known.map_or(DEFAULT_SECONDS_OTHER, |(_, seconds)| *seconds)
}

/// Estimated device time of one point, in seconds.
fn seconds_of(job: &PlannedJob, suite: &str, budget: &Budget) -> u64 {
    let recorded = budget.recorded.get(&(job.model.clone(), job.target.count)).map(|ms| ms.div_ceil(1000));
    recorded.unwrap_or_else(|| default_seconds(suite)).saturating_mul(u64::from(job.target.count))
}

fn canary_rank(canary: &[String], benchmark: &str) -> Option<usize> {
    canary.iter().position(|name| name == benchmark)
}

fn entries_of(content: &mut Value) -> Option<&mut Vec<Value>> {
    match content {
        Value::Array(entries) => Some(entries),
        Value::Object(object) => object.get_mut("tests")?.as_array_mut(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn name_of(entry: &Value) -> &str {
    entry.get("test_name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ExpectedPoint, Platform};
    use crate::queue::planner::{Needs, SuiteFile};

    fn job(model: &str, count: u32, benchmarks: &[(&str, Variant, u32)]) -> PlannedJob {
        let points = benchmarks.iter().flat_map(|(name, variant, points)| {
            (0..*points).map(move |n| ExpectedPoint {
                suite: "serving".to_owned(),
                benchmark: (*name).to_owned(),
                variant: *variant,
                point: format!("{name}_qps_{n}"),
                eager: false,
            })
        });
        let entries: Vec<_> = benchmarks.iter().map(|(name, _, _)| json!({"test_name": name})).collect();
        PlannedJob {
            target: Needs { platform: Platform::Cuda, device_type: None, count },
            model: model.to_owned(),
            model_name: model.to_owned(),
            points: points.collect(),
            suite_files: vec![SuiteFile { name: "serving-tests.json".to_owned(), content: json!(entries) }],
        }
    }

    fn names(fitted: &Fitted) -> Vec<(String, Vec<String>)> {
        let of = |job: &PlannedJob| {
            let entries = job.suite_files[0].content.as_array().unwrap().iter();
            (job.model.clone(), entries.map(|entry| name_of(entry).to_owned()).collect())
        };
        fitted.jobs.iter().map(of).collect()
    }

    fn two_jobs() -> Vec<PlannedJob> {
        vec![
            job("a", 1, &[("a1", Variant::Base, 2), ("a1_eager", Variant::Eager, 2), ("a2", Variant::Base, 4)]),
            job("b", 4, &[("b1", Variant::Base, 1), ("b2", Variant::Base, 1)]),
        ]
    }

    fn budget(minutes: Option<u64>, canary: &[&str]) -> Budget {
        let recorded = Recorded::from([(("a".to_owned(), 1), 60_000), (("b".to_owned(), 4), 60_000)]);
        let limit = minutes.map(|minutes| Duration::from_secs(minutes * 60));
        Budget { limit, canary: canary.iter().map(|name| (*name).to_owned()).collect(), recorded }
    }

    #[test]
    fn without_a_limit_nothing_is_left_out() {
        assert_eq!(fit(two_jobs(), &Budget::default()), Fitted { jobs: two_jobs(), left_out: Vec::new() });
    }

    #[test]
    fn canaries_come_first_and_stay_though_nothing_else_fits() {
        let fitted = fit(two_jobs(), &budget(Some(1), &["b2", "a2"]));
        let kept: Vec<_> = names(&fitted);
        assert_eq!(kept, [("b".into(), vec!["b2".to_owned()]), ("a".into(), vec!["a2".to_owned()])]);
        let out: Vec<_> = fitted.left_out.iter().map(|left| (left.benchmark.as_str(), left.seconds)).collect();
        assert_eq!(out, [("a1", 120), ("b1", 240), ("a1_eager", 120)]);
        // Where all fits, canaries are only moved to the front.
        let kept = names(&fit(two_jobs(), &budget(None, &["b2", "a2"])));
        assert_eq!(kept[0], ("b".into(), vec!["b2".to_owned(), "b1".to_owned()]));
    }

    #[test]
    fn base_is_measured_before_variants_and_device_time_counts_every_device() {
        // a1 2 min, a2 4 min, b1 and b2 4 device minutes each, a1_eager 2 min.
        let fitted = fit(two_jobs(), &budget(Some(10), &[]));
        let out: Vec<_> = fitted.left_out.iter().map(|left| left.benchmark.as_str()).collect();
        assert_eq!(out, ["b2", "a1_eager"]);
        let points: Vec<_> = fitted.jobs.iter().map(|job| job.points.len()).collect();
        assert_eq!(points, [6, 1], "points go with their benchmarks");
        let fitted = fit(two_jobs(), &budget(Some(6), &[]));
        assert_eq!(fitted.jobs.len(), 1, "a job of which nothing is left is none");
    }

    #[test]
    fn what_was_never_measured_is_estimated_by_its_suite() {
        let limit = Some(Duration::from_secs(149));
        let fitted = fit(vec![job("x", 1, &[("x1", Variant::Base, 1)])], &Budget { limit, ..Budget::default() });
        assert_eq!(fitted.left_out.len(), 1, "a point of serving takes 150 s");
    }

    #[test]
    fn a_host_is_wanted_by_platform_device_type_or_key() {
        let device_type = "NVIDIA H100 80GB HBM3".parse().unwrap();
        let h100 = Target { platform: Platform::Cuda, device_type, count: 2 };
        for names in [vec![], vec!["cuda"], vec!["rocm", "nvidia h100 80gb hbm3"], vec!["NVIDIA_H100_80GB_HBM3"]] {
            let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
            assert!(wants_target(&names, &h100), "{names:?}");
        }
        assert!(!wants_target(&["NVIDIA H100".to_owned()], &h100), "a part of a name is no name");
    }
}
