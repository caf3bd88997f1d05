//! Reads from the suite's log how far it is: which benchmark and which point run, what was skipped, what the entry
//! script said. The shell's echoes of the same words (`+ echo 'Running test case ..'`) are no progress.

use serde::{Deserialize, Serialize};

/// Something that a line of the log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A benchmark begins.
    Benchmark(String),
    /// A point of the running benchmark begins.
    Point(String),
    /// The suite left a benchmark out.
    Skipped(SkippedBenchmark),
    /// The entry script ended the wait for a server that is gone.
    ServerGone,
}

/// A benchmark that the suite left out by itself; it exits 0 all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedBenchmark {
    /// Its name.
    pub benchmark: String,
    /// Why, in the suite's words.
    pub reason: String,
}

/// What the entry script prints when it ended the wait for a server; see `entry.sh`.
pub const SERVER_GONE: &str = "benchd: the server is gone";

/// What `line` tells, if anything.
pub fn mark(line: &str) -> Option<Mark> {
    if line.starts_with(SERVER_GONE) {
        return Some(Mark::ServerGone);
    }
    if let Some(rest) = line.strip_prefix("Running test case ") {
        // A second line with the rate follows when a point begins; the point's own line came before it.
        return (!rest.contains(" with qps ")).then(|| Mark::Benchmark(rest.trim().to_owned()));
    }
    if let Some(point) = line.strip_prefix(" new test name ") {
        return Some(Mark::Point(point.trim().to_owned()));
    }
    if line.starts_with('+') {
        return None;
    }
    let (reason, rest) = line.split_once("Skip testcase ").or_else(|| line.split_once("Skip test case "))?;
    let benchmark = rest.trim().trim_end_matches('.').to_owned();
    let reason = reason.trim().trim_end_matches('.').to_owned();
    let reason = if reason.is_empty() { "not selected".to_owned() } else { reason };
    Some(Mark::Skipped(SkippedBenchmark { benchmark, reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoes_are_no_progress() {
        let text = |line| mark(line);
        assert_eq!(text("Running test case latency_x_tp1"), Some(Mark::Benchmark("latency_x_tp1".into())));
        assert_eq!(text("+ echo 'Running test case latency_x_tp1'"), None);
        assert_eq!(text("++ echo ' new test name a'"), None);
        assert_eq!(text("Running test case serving_x with qps 4"), None);
        assert_eq!(
            text(" new test name serving_x_qps_4_concurrency_8"),
            Some(Mark::Point("serving_x_qps_4_concurrency_8".into()))
        );
        let skipped = "Required tensor-parallel-size 8 but only 2 GPU found. Skip testcase serving_big_tp8.";
        assert_eq!(
            text(skipped),
            Some(Mark::Skipped(SkippedBenchmark {
                benchmark: "serving_big_tp8".into(),
                reason: "Required tensor-parallel-size 8 but only 2 GPU found".into()
            }))
        );
        assert_eq!(text("+ echo 'Skip testcase x.'"), None);
        assert_eq!(text("benchd: the server is gone, its wait was ended"), Some(Mark::ServerGone));
        assert_eq!(text("ordinary"), None);
    }
}
