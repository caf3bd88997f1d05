//! `benchd check-benchmarks`.

use std::path::PathBuf;

use serde::Serialize;

use super::{Answer, CommandResult, Failure, terminal};
use crate::suite::{Problem, read_all};

/// Arguments of `benchd check-benchmarks`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with one folder per platform (cuda, rocm, hpu, cpu, arm64-cpu), or one of these
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    benchmarks: usize,
    files: usize,
    faults: usize,
    problems: Vec<Problem>,
}

/// Runs the command: 0 without faults (warnings do not count), 1 with one, 2 when the folder cannot be read.
pub async fn run(args: Args) -> CommandResult {
    let sets = read_all(&args.dir).map_err(Failure::usage)?;
    let problems: Vec<_> = sets.iter().flat_map(|set| set.problems.iter().cloned()).collect();
    let faults = problems.iter().filter(|problem| problem.is_fault()).count();
    let report = Report {
        ok: faults == 0,
        benchmarks: sets.iter().map(|set| set.len()).sum(),
        files: sets.iter().map(|set| set.files.len()).sum(),
        faults,
        problems,
    };
    if args.json {
        terminal::print_json(&report).map_err(Failure::infrastructure)?;
    } else {
        for problem in &report.problems {
            terminal::print(format_args!("{problem}"));
        }
        let (benchmarks, files) = (report.benchmarks, report.files);
        let warnings = report.problems.len() - faults;
        terminal::print(format_args!(
            "{benchmarks} good benchmarks in {files} files, {faults} faults, {warnings} warnings"
        ));
    }
    Ok(if report.ok { Answer::Yes } else { Answer::No })
}
