//! `benchd queue`: every job that has not ended, with its place and the reason why it does not run yet.

use std::collections::BTreeMap;

use comfy_table::{Cell, Table};

use super::source::{Source, SourceArgs};
use super::tables::{instant, right, table};
use super::{Answer, CommandResult, Failure, terminal};
use crate::model::JobId;
use crate::queue::place::{Place, QueueView, RunnerView, Why};
use crate::store::Progress;

/// Arguments of `benchd queue`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let source = args.source.open().await?;
    let view = source.queue().await?;
    if args.json {
        terminal::print_json(&view).map_err(Failure::infrastructure)?;
    } else {
        show(&view, &progress(&source, &view).await?);
    }
    source.close().await;
    Ok(Answer::Yes)
}

/// How far the jobs have come that hold devices.
pub async fn progress(source: &Source, view: &QueueView) -> Result<BTreeMap<JobId, Progress>, Failure> {
    let mut found = BTreeMap::new();
    for place in view.jobs.iter().filter(|place| matches!(place.why, Why::Holds { .. })) {
        found.extend(source.job(place.job).await?.map(|detail| (place.job, detail.progress)));
    }
    Ok(found)
}

/// Prints the queue for a person.
pub fn show(view: &QueueView, progress: &BTreeMap<JobId, Progress>) {
    for pause in &view.pauses {
        terminal::print(format_args!("{pause}"));
    }
    for runner in &view.runners {
        terminal::print(format_args!("{}", runner_line(runner, view)));
    }
    if view.jobs.is_empty() {
        terminal::print(format_args!("no job waits or runs"));
    } else {
        terminal::print(format_args!("{}", places(&view.jobs, progress)));
    }
}

/// A machine in one line: "gpu-1: 8x NVIDIA H100, 6 in use, last seen ..".
fn runner_line(runner: &RunnerView, view: &QueueView) -> String {
    let in_use: usize = view.jobs.iter().map(|place| place.devices_on(&runner.name)).sum();
    let mut line = format!("{}: {}, {in_use} in use", runner.name, runner.host.target());
    for busy in &runner.busy {
        line.push_str(&format!(", {} used by {}", busy.device, busy.by));
    }
    format!("{line}, last seen {}", instant(runner.seen_at))
}

fn places(jobs: &[Place], progress: &BTreeMap<JobId, Progress>) -> Table {
    let mut table = table(&["place", "job", "run", "commit", "trigger", "priority", "model", "needs", "starts", "why"]);
    for place in jobs {
        let progress = progress.get(&place.job).map(ToString::to_string).filter(|text| !text.is_empty());
        let why = progress.map_or_else(|| place.why.to_string(), |progress| format!("{}: {progress}", place.why));
        let position = place.position.map_or_else(|| "-".to_owned(), |k| format!("{k} of {}", place.of));
        table.add_row(vec![
            right(position),
            Cell::new(place.job),
            Cell::new(place.run),
            Cell::new(place.sha.short()),
            Cell::new(&place.trigger),
            right(place.priority.to_string()),
            Cell::new(&place.model),
            right(place.target.count.to_string()),
            Cell::new(place.starts_at.map(instant).unwrap_or_default()),
            Cell::new(why),
        ]);
    }
    table
}
