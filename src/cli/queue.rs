//! `benchd queue`: every job that has not ended, with its place and the reason why it does not run yet.

use comfy_table::{Cell, Table};

use super::source::SourceArgs;
use super::tables::{instant, right, table};
use super::{Answer, CommandResult, Failure, terminal};
use crate::queue::place::{Place, QueueView, RunnerView};

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
    source.close().await;
    if args.json {
        terminal::print_json(&view).map_err(Failure::infrastructure)?;
    } else {
        show(&view);
    }
    Ok(Answer::Yes)
}

/// Prints the queue for a person.
pub fn show(view: &QueueView) {
    for pause in &view.pauses {
        terminal::print(format_args!("{pause}"));
    }
    for runner in &view.runners {
        terminal::print(format_args!("{}", runner_line(runner, view)));
    }
    if view.jobs.is_empty() {
        terminal::print(format_args!("no job waits or runs"));
    } else {
        terminal::print(format_args!("{}", places(&view.jobs)));
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

fn places(jobs: &[Place]) -> Table {
    let mut table = table(&["place", "job", "run", "commit", "trigger", "priority", "model", "needs", "starts", "why"]);
    for place in jobs {
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
            Cell::new(&place.why),
        ]);
    }
    table
}
