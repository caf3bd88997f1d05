//! `benchd results`: check a directory of results, or upload it.

mod check;
mod upload;

use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use serde::Deserialize;

use super::{CommandResult, Failure, terminal};
use crate::model::{ExpectedPoint, PointState, model_key};
use crate::results::Report;

/// Arguments of `benchd results`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge a directory: which records are valid, what is wrong, which points are missing
    Check(check::Args),
    /// Send the valid records of a directory to a bucket, a folder or an upload API
    Upload(Box<upload::Args>),
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    match args.command {
        Command::Check(args) => check::run(&args),
        Command::Upload(args) => upload::run(*args).await,
    }
}

/// A plan as `benchd plan --json` prints it, or only its points.
#[derive(Deserialize)]
#[serde(untagged)]
enum PlanFile {
    Plan { jobs: Vec<PlannedJob> },
    Points(Vec<ExpectedPoint>),
}

#[derive(Deserialize)]
struct PlannedJob {
    #[serde(default)]
    model: String,
    points: Vec<ExpectedPoint>,
}

/// The points that a plan expects, of one model's jobs where a model is given.
fn planned_points(plan: Option<&Path>, model: &str) -> Result<Option<Vec<ExpectedPoint>>, Failure> {
    let Some(path) = plan else { return Ok(None) };
    let read = || -> anyhow::Result<PlanFile> {
        let text = std::fs::read(path).with_context(|| format!("failed to read the plan {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no plan (`benchd plan --json` prints one)", path.display()))
    };
    let expected = |points: Vec<ExpectedPoint>| match points.is_empty() {
        true => Err(Failure::usage(anyhow!("the plan {} expects nothing", path.display()))),
        false => Ok(Some(points)),
    };
    let jobs = match read().map_err(Failure::usage)? {
        PlanFile::Points(points) => return expected(points),
        PlanFile::Plan { jobs } => jobs,
    };
    let wanted: Vec<_> =
        jobs.into_iter().filter(|job| model.is_empty() || model_key(&job.model) == model_key(model)).collect();
    if wanted.is_empty() {
        let about = if model.is_empty() { String::new() } else { format!(" for the model `{model}`") };
        return Err(Failure::usage(anyhow!("the plan {} has no job{about}", path.display())));
    }
    expected(wanted.into_iter().flat_map(|job| job.points).collect())
}

/// Prints points as a table, then problems and warnings.
fn print_report(report: &Report) {
    if !report.points.is_empty() {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["benchmark", "point", "state", "reason"]);
        for point in &report.points {
            let reason = point.reason.as_deref().unwrap_or("");
            table.add_row([&point.benchmark, &point.point, state(point.state), reason]);
        }
        terminal::print(format_args!("{table}"));
    }
    for problem in &report.problems {
        terminal::print(format_args!("{} [{}]", problem, problem.kind.as_str()));
    }
    for warning in &report.warnings {
        terminal::print(format_args!("warning: {warning}"));
    }
}

fn state(state: PointState) -> &'static str {
    match state {
        PointState::Ok => "ok",
        PointState::NotRun => "not run",
        PointState::Failed => "failed",
        PointState::Zeroed => "zeroed",
        PointState::NotANumber => "not a number",
        PointState::Extra => "extra",
    }
}

/// "1 record", "2 records".
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
