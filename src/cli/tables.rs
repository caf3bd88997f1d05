//! The tables a person reads: runs, jobs, passes, points and values, the last against what their series had before.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, presets};

use crate::config::environment;
use crate::model::{Better, Conclusion, JobState, MetricClass, PointState, RunState};
use crate::store::{Previous, RunDetail, RunSummary, SeriesValue};

/// Which values a table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What is told first of a benchmark.
    Primary,
    /// Metrics that can be judged.
    Judged,
    /// All metrics, each with its raw values.
    Everything,
}

/// Runs, newest first.
pub fn runs(runs: &[RunSummary]) -> Table {
    let mut table = table(&["run", "repository", "branch", "commit", "trigger", "state", "jobs", "requested", "took"]);
    for RunSummary { run, jobs, finished_jobs } in runs {
        table.add_row(vec![
            Cell::new(run.id),
            Cell::new(&run.repository),
            Cell::new(&run.branch),
            Cell::new(run.sha.short()),
            Cell::new(&run.trigger),
            run_state(run.state),
            right(format!("{finished_jobs}/{jobs}")),
            Cell::new(instant(run.requested_at)),
            right(took(run.started_at, run.finished_at)),
        ]);
    }
    table
}

/// The jobs of a run with their last attempts.
pub fn jobs(detail: &RunDetail) -> Table {
    let mut table = table(&["job", "target", "model", "attempt", "conclusion", "points", "took", "image"]);
    for job in &detail.jobs {
        let last = job.attempts.last();
        let passes = last.map(|attempt| attempt.passes.as_slice()).unwrap_or_default();
        let points = passes.iter().flat_map(|pass| &pass.points);
        let (ok, all) = points
            .filter(|point| point.state != PointState::Extra)
            .fold((0_u32, 0_u32), |(ok, all), p| (ok + u32::from(p.state == PointState::Ok), all + 1));
        let image = passes.last().map(|pass| pass.digest.as_deref().map_or(pass.image.as_str(), short_digest));
        table.add_row(vec![
            Cell::new(job.job.id),
            Cell::new(format!("{}, {}", job.job.target.platform, job.job.target)),
            Cell::new(&job.job.model),
            right(format!("{}/{}", job.job.attempts_begun, job.job.attempts_before + job.job.max_attempts)),
            job_state(&job.job.state),
            right(format!("{ok}/{all}")),
            right(last.map_or_else(String::new, |a| took(Some(a.claimed_at), a.finished_at))),
            Cell::new(image.unwrap_or_default()),
        ]);
    }
    table
}

/// The points that are not ok, with the reason; `None` when all are.
pub fn faulty_points(detail: &RunDetail) -> Option<Table> {
    let mut table = table(&["model", "suite", "point", "state", "reason"]);
    for job in &detail.jobs {
        let passes = job.attempts.last().into_iter().flat_map(|attempt| &attempt.passes);
        for point in passes.flat_map(|pass| &pass.points) {
            let colour = match point.state {
                PointState::Ok | PointState::Extra => continue,
                PointState::NotRun => Color::Yellow,
                PointState::Failed | PointState::Zeroed | PointState::NotANumber => Color::Red,
            };
            table.add_row(vec![
                Cell::new(&job.job.model),
                Cell::new(&point.suite),
                Cell::new(&point.point),
                Cell::new(point.state.as_str()).fg(colour),
                Cell::new(point.reason.as_deref().unwrap_or_default()),
            ]);
        }
    }
    (!table.is_empty()).then_some(table)
}

/// Values with what their series had before.
pub fn values(values: &[SeriesValue], previous: &BTreeMap<u64, Previous>, shown: Shown) -> Table {
    let mut columns = vec!["model", "benchmark", "point", "metric", "value", "unit", "before", "change"];
    if shown == Shown::Everything {
        columns.push("raw values");
    }
    let mut table = table(&columns);
    for value in values {
        let visible = match shown {
            Shown::Primary => value.class == MetricClass::Primary,
            Shown::Judged => value.class != MetricClass::Information,
            Shown::Everything => true,
        };
        if !visible {
            continue;
        }
        let before = previous.get(&value.series);
        let mut row = vec![
            Cell::new(&value.model),
            Cell::new(&value.benchmark),
            Cell::new(short_point(&value.benchmark, &value.point)),
            Cell::new(&value.metric),
            right(number(value.value)),
            Cell::new(&value.unit),
            right(before.map_or_else(String::new, |before| number(before.value))),
            before.map_or_else(|| Cell::new(""), |before| change(value, before.value)),
        ];
        if shown == Shown::Everything {
            let pass = |values: &Vec<f64>| values.iter().map(|v| number(*v)).collect::<Vec<_>>().join(" ");
            row.push(Cell::new(value.passes.iter().map(pass).collect::<Vec<_>>().join(" | ")));
        }
        table.add_row(row);
    }
    table
}

/// As much of a digest as tells images apart.
fn short_digest(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}

/// A point without the benchmark's name that stands beside it; nothing when the point is the whole benchmark.
fn short_point<'a>(benchmark: &str, point: &'a str) -> &'a str {
    point.strip_prefix(benchmark).map_or(point, |rest| rest.trim_start_matches('_'))
}

/// How far a value lies from the one before, and which way that is; no judgement of whether it means anything.
fn change(value: &SeriesValue, before: f64) -> Cell {
    if before == 0.0 {
        return Cell::new("");
    }
    let percent = (value.value - before) / before.abs() * 100.0;
    let text = format!("{percent:+.1}%");
    let better = match value.better {
        Some(Better::Lower) => percent < 0.0,
        Some(Better::Higher) => percent > 0.0,
        None => return right(text),
    };
    if percent.abs() < 0.05 {
        return right("0.0%");
    }
    let (word, colour) = if better { ("better", Color::Green) } else { ("worse", Color::Red) };
    right(format!("{text} {word}")).fg(colour)
}

/// A run's state as a coloured cell.
fn run_state(state: RunState) -> Cell {
    let cell = Cell::new(state);
    match state {
        RunState::Requested | RunState::Queued => cell,
        RunState::Running => cell.fg(Color::Cyan),
        RunState::Measured | RunState::Published => cell.fg(Color::Green),
        RunState::Failed(_) => cell.fg(Color::Red),
        RunState::Cancelled | RunState::Superseded => cell.fg(Color::Yellow),
    }
}

/// A job's state as a coloured cell.
fn job_state(state: &JobState) -> Cell {
    let cell = Cell::new(state);
    match state {
        JobState::WaitingForImage { .. } | JobState::Queued { .. } => cell,
        JobState::Claimed { .. } | JobState::Running { .. } => cell.fg(Color::Cyan),
        JobState::Finished { conclusion } => cell.fg(match conclusion {
            Conclusion::Success => Color::Green,
            Conclusion::Failure(_) | Conclusion::TimedOut => Color::Red,
            Conclusion::Incomplete | Conclusion::Cancelled | Conclusion::Superseded | Conclusion::Skipped { .. } => {
                Color::Yellow
            }
        }),
    }
}

/// An empty table with these columns.
pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    let style = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction(' '));
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    // https://no-color.org
    if environment::variable("NO_COLOR").is_some() {
        table.force_no_tty();
    }
    table
}

/// A cell of numbers.
pub(super) fn right(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

/// An instant in UTC, to the second.
pub fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// The time between two instants in its two largest units; empty while one is missing.
pub fn took(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> String {
    let (Some(from), Some(to)) = (from, to) else { return String::new() };
    let seconds = (to - from).num_seconds().max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds:02}s"),
        (_, _) => format!("{hours}h {minutes:02}m"),
    }
}

/// A value with four significant digits, or all digits before the point.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 1000.0 || size == 0.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        size if size >= 1.0 => 3,
        size if size >= 0.1 => 4,
        size if size >= 0.001 => 6,
        _ => return format!("{value:.3e}"),
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Role, RunId, Target, Variant};

    fn value(value: f64, better: Option<Better>) -> SeriesValue {
        SeriesValue {
            series: 1,
            target: Target {
                platform: "cpu".parse().unwrap(),
                device_type: "Xeon_8488C_48c".parse().unwrap(),
                count: 1,
            },
            model: "m/x".into(),
            benchmark: "latency_x".into(),
            variant: Variant::Base,
            point: "latency_x".into(),
            metric: "latency".into(),
            unit: "s".into(),
            better,
            class: if better.is_some() { MetricClass::Primary } else { MetricClass::Information },
            role: Role::Candidate,
            sha: "9816774803221e23e6f26178546c65c2466e2c90".parse().unwrap(),
            value,
            passes: vec![vec![value, value]],
        }
    }

    fn before(value: f64) -> BTreeMap<u64, Previous> {
        let sha = "9816774803221e23e6f26178546c65c2466e2c90".parse().unwrap();
        BTreeMap::from([(1, Previous { run: RunId::try_from(1).unwrap(), sha, value })])
    }

    #[test]
    fn a_change_says_which_way_is_better() {
        let text = |v: SeriesValue, b: f64| values(&[v], &before(b), Shown::Everything).to_string();
        assert!(text(value(1.1, Some(Better::Lower)), 1.0).contains("+10.0% worse"));
        assert!(text(value(1.1, Some(Better::Higher)), 1.0).contains("+10.0% better"));
        assert!(text(value(0.9, Some(Better::Higher)), 1.0).contains("-10.0% worse"));
        assert!(text(value(1.0, Some(Better::Higher)), 1.0).contains(" 0.0%"), "equal is neither");
        let information = text(value(1.1, None), 1.0);
        assert!(information.contains("+10.0%") && !information.contains("better") && !information.contains("worse"));
        assert!(!text(value(1.1, Some(Better::Lower)), 0.0).contains('%'), "nothing is divided by zero");
    }

    #[test]
    fn information_is_shown_only_on_request() {
        let all = [value(1.0, None)];
        assert!(values(&all, &BTreeMap::new(), Shown::Judged).is_empty());
        assert!(!values(&all, &BTreeMap::new(), Shown::Everything).is_empty());
    }

    #[test]
    fn a_point_does_not_repeat_its_benchmark() {
        assert_eq!(short_point("serving_x", "serving_x_qps_4_concurrency_200"), "qps_4_concurrency_200");
        assert_eq!(short_point("latency_x", "latency_x"), "");
        assert_eq!(short_point("latency_x", "other"), "other");
    }

    #[test]
    fn numbers_and_durations_read_well() {
        let texts = [123_456.7, 123.45, 12.345, 1.2345, 0.0, 0.01234, 0.000_012_3].map(number);
        assert_eq!(texts, ["123457", "123.5", "12.35", "1.234", "0", "0.012340", "1.230e-5"]);
        let at = DateTime::UNIX_EPOCH;
        let lasting = |seconds| took(Some(at), Some(at + chrono::Duration::seconds(seconds)));
        assert_eq!([lasting(5), lasting(65), lasting(3725)], ["5s", "1m 05s", "1h 02m"]);
        assert_eq!(took(Some(at), None), "");
    }
}
