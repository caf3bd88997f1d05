//! `benchd plan`: what a folder of benchmark files makes on a platform, no commit needed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::{Answer, CommandResult, Failure, terminal};
use crate::model::{DeviceType, Platform, SuiteKind, Variant};
use crate::queue::planner::{Host, Plan, Selection, SkipReason, SuiteFile, plan};
use crate::suite::{BenchmarkSet, CompilationConfig, Problem, read_platform};

/// Arguments of `benchd plan`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with one folder per platform, or the platform's folder
    #[arg(long, value_name = "DIR")]
    benchmarks: PathBuf,

    /// Platform to plan for: cuda, rocm, hpu, cpu or arm64-cpu
    #[arg(long)]
    platform: Platform,

    /// Models, separated by commas; upper or lower case [default: all]
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    models: Vec<String>,

    /// Suites, separated by commas [default: serving,latency,startup,throughput]
    #[arg(long, value_delimiter = ',', value_name = "SUITES")]
    suites: Vec<SuiteKind>,

    /// Variants, separated by commas [default: base,eager,inductor_graph_partition; on hpu base]
    #[arg(long, value_delimiter = ',', value_name = "VARIANTS")]
    variants: Vec<Variant>,

    /// Compilation configuration of the base variant, a JSON object
    #[arg(long, value_name = "JSON")]
    compilation_config: Option<String>,

    /// How many devices the host has (NUMA nodes on CPUs) [default: enough]
    #[arg(long, value_name = "N")]
    gpus: Option<u32>,

    /// Device type of the host, as `benchd device` prints it
    #[arg(long, value_name = "TYPE")]
    device_type: Option<DeviceType>,

    /// Write the suite files of all jobs together into this folder; earlier *-tests*.json in it are removed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answered<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    problems: &'a [Problem],
}

/// Runs the command: 0 when something would be measured, 1 when nothing would.
pub async fn run(args: Args) -> CommandResult {
    let set = read_platform(&args.benchmarks, args.platform).map_err(Failure::usage)?;
    let compilation_config = match args.compilation_config.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(text) => {
            Some(text.parse::<CompilationConfig>().context("in --compilation-config").map_err(Failure::usage)?)
        }
    };
    let selection = Selection {
        models: args.models,
        suites: args.suites,
        variants: args.variants,
        compilation_config,
        ..Selection::default()
    };
    let host = Host { device_type: args.device_type, devices: args.gpus };
    let plan = plan(&set, &selection, &host);
    if let Some(dir) = &args.out {
        if holds_benchmarks(dir, &args.benchmarks) {
            let why =
                anyhow::anyhow!("--out {} holds the benchmarks that are read: name another folder", dir.display());
            return Err(Failure::usage(why));
        }
        write_files(dir, &plan.files)
            .with_context(|| format!("failed to write the suite files into {}", dir.display()))
            .map_err(Failure::infrastructure)?;
    }
    if args.json {
        terminal::print_json(&Answered { plan: &plan, problems: &set.problems }).map_err(Failure::infrastructure)?;
    } else {
        print_plan(&plan);
    }
    tell(&set, &plan, args.json);
    Ok(if plan.point_count() > 0 { Answer::Yes } else { Answer::No })
}

fn print_plan(plan: &Plan) {
    for job in &plan.jobs {
        let device = job.target.device_type.as_ref().map_or_else(|| plan.platform.to_string(), DeviceType::to_string);
        let (count, points) = (job.target.count, job.points.len());
        terminal::print(format_args!("{} on {count}x {device}: {points} points", job.model_name));
        for point in &job.points {
            terminal::print(format_args!("  {}", point.point));
        }
    }
    let files: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
    let (jobs, points) = (plan.jobs.len(), plan.point_count());
    terminal::print(format_args!("{jobs} jobs, {points} points; files: {}", files.join(", ")));
}

/// What a person should know besides the plan itself.
fn tell(set: &BenchmarkSet, plan: &Plan, quiet: bool) {
    for problem in set.problems.iter().filter(|p| !quiet || p.is_fault()) {
        terminal::say(format_args!("benchd: {problem}"));
    }
    for skipped in plan.skipped.iter().filter(|s| !matches!(s.reason, SkipReason::Model | SkipReason::Suite(_))) {
        terminal::say(format_args!("benchd: skipped {}: {}", skipped.benchmark, skipped.reason));
    }
    for model in &plan.unknown_models {
        let known = set.files.iter().flat_map(|f| &f.benchmarks).map(|b| b.model_key());
        let near = known.map(|k| (strsim::jaro_winkler(&k, model), k)).max_by(|a, b| a.0.total_cmp(&b.0));
        let hint =
            near.filter(|(score, _)| *score > 0.8).map_or_else(String::new, |(_, k)| format!(", did you mean `{k}`?"));
        terminal::say(format_args!("benchd: no benchmark of {} has the model `{model}`{hint}", plan.platform));
    }
    if plan.point_count() == 0 {
        terminal::say(format_args!("benchd: nothing to measure"));
    }
}

/// Whether `dir` is the folder of benchmarks or one of its platforms: what is written there would take their place.
fn holds_benchmarks(dir: &Path, benchmarks: &Path) -> bool {
    let is_dir =
        |other: &Path| matches!((dir.canonicalize(), other.canonicalize()), (Ok(dir), Ok(other)) if dir == other);
    is_dir(benchmarks) || Platform::ALL.iter().any(|platform| is_dir(&benchmarks.join(platform.as_str())))
}

/// Writes the files flat into `dir`, after removing the suite files of an earlier plan.
fn write_files(dir: &Path, files: &[SuiteFile]) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains("-tests") && name.ends_with(".json") && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    for file in files {
        fs::write(dir.join(&file.name), file.to_line()?)?;
    }
    Ok(())
}
