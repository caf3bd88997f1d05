//! The console output of vLLM's real suite, as a terminal got it: what becomes of it in the log.

use std::path::PathBuf;

use benchd::executor::log::Redactor;
use benchd::executor::log::lines::Lines;
use benchd::executor::log::progress::{Mark, mark};
use chrono::DateTime;

use crate::support::shared;

fn lines_of(path: PathBuf, chunk: usize) -> Vec<String> {
    let printed = std::fs::read(path).unwrap();
    let mut lines = Lines::new(Redactor::new(["hf_dummy"]));
    let mut found = Vec::new();
    let mut emit = |line: benchd::executor::log::lines::Line| found.push(line.text);
    for piece in printed.chunks(chunk) {
        lines.take(DateTime::UNIX_EPOCH, piece, &mut emit);
    }
    lines.finish(&mut emit);
    found
}

#[test]
fn the_token_the_colours_and_the_progress_bars_are_gone_and_the_points_are_seen() {
    let Some(dir) = shared("vllm") else { return };
    let lines = lines_of(dir.join("run-1.console.log"), 997);
    assert_eq!(lines, lines_of(dir.join("run-1.console.log"), usize::MAX));
    let text = lines.join("\n");
    assert!(!text.contains("hf_dummy") && text.matches("***").count() >= 2);
    assert!(!text.contains(['\x1b', '\r']));
    let marks: Vec<Mark> = lines.iter().filter_map(|line| mark(line)).collect();
    let benchmarks = marks.iter().filter(|m| matches!(m, Mark::Benchmark(_))).count();
    let mut points: Vec<&str> = marks
        .iter()
        .filter_map(|m| match m {
            Mark::Point(name) => Some(name.as_str()),
            Mark::Benchmark(_) | Mark::Skipped(_) | Mark::ServerGone => None,
        })
        .collect();
    points.sort_unstable();
    let mut commands: Vec<String> = std::fs::read_dir(dir.join("run-1"))
        .unwrap()
        .filter_map(|file| file.unwrap().file_name().to_str()?.strip_suffix(".commands").map(str::to_owned))
        .collect();
    commands.sort();
    let serving: Vec<&String> = commands.iter().filter(|name| name.starts_with("serving_")).collect();
    assert_eq!(points, serving);
    assert!(benchmarks >= commands.len() - serving.len(), "{benchmarks} of {commands:?}");
}
