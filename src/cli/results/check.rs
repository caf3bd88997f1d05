//! `benchd results check`.

use std::path::PathBuf;

use serde::Serialize;

use super::{counted, planned_points, print_report};
use crate::cli::{Answer, CommandResult, Failure, terminal};
use crate::model::Platform;
use crate::results::{Completeness, Expectation, Report, Strictness, check};

/// Arguments of `benchd results check`.
#[derive(clap::Args)]
pub struct Args {
    /// Directory with the result files
    dir: PathBuf,

    /// Pass when anything valid is there
    #[arg(long)]
    lenient: bool,

    /// Plan whose points are expected (`benchd plan --json`); default: points with a `.commands` file
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,

    /// Model whose jobs of the plan the results are of; default: all
    #[arg(long, default_value = "", requires = "plan")]
    model: String,

    /// Platform the results were measured on; on `hpu` nothing is compiled
    #[arg(long)]
    platform: Option<Platform>,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    ok: bool,
    #[serde(flatten)]
    report: Report,
}

/// Runs the command.
pub fn run(args: &Args) -> CommandResult {
    let expectation = Expectation {
        points: planned_points(args.plan.as_deref(), &args.model)?,
        without_compilation: args.platform == Some(Platform::Hpu),
    };
    let report = check(&args.dir, expectation, &mut |_| Ok(())).map_err(Failure::usage)?;
    let strictness = if args.lenient { Strictness::Lenient } else { Strictness::Strict };
    let ok = report.passes(strictness);
    if args.json {
        terminal::print_json(&Output { ok, report }).map_err(Failure::infrastructure)?;
    } else {
        print_report(&report);
        let word = match report.completeness() {
            Completeness::Complete => "complete",
            Completeness::Incomplete => "incomplete",
            Completeness::Empty => "no valid record",
        };
        let records = counted(report.records, "valid record");
        let problems = counted(report.problems.len(), "problem");
        terminal::print(format_args!("{}: {records}, {problems}, {word}", if ok { "ok" } else { "not ok" }));
    }
    Ok(if ok { Answer::Yes } else { Answer::No })
}
