//! `benchd doctor`: tries everything that measuring on this host needs, and says what to do about what does not work.

use std::path::PathBuf;

use super::{Answer, CommandResult, Failure, terminal};
use crate::app::doctor::{CheckState, Checkup, examine};

/// Arguments of `benchd doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration [default: ./benchd.yaml or /etc/benchd/benchd.yaml]. Each bucket or folder that it publishes to
    /// is tried by writing, reading and removing one small object, benchd-doctor/HOSTNAME
    #[arg(long, env = "BENCHD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON value: `{ok, checks: [{name, state, found, advice}]}`
    #[arg(long)]
    json: bool,
}

/// Runs the command: 0 when nothing failed (warnings are allowed), 1 otherwise.
pub async fn run(args: Args) -> CommandResult {
    let checkup = Box::pin(examine(args.config.as_deref())).await;
    if args.json {
        terminal::print_json(&checkup).map_err(Failure::infrastructure)?;
    } else {
        print(&checkup);
    }
    Ok(if checkup.ok { Answer::Yes } else { Answer::No })
}

fn print(checkup: &Checkup) {
    let width = checkup.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default().min(60);
    for check in &checkup.checks {
        let symbol = match check.state {
            CheckState::Ok => "ok",
            CheckState::Warning => "!",
            CheckState::Failed => "x",
            CheckState::Skipped => "-",
        };
        terminal::print(format_args!("{symbol:<2}  {:<width$}  {}", check.name, check.found));
        if let Some(advice) = &check.advice {
            terminal::print(format_args!("{:width$}  -> {advice}", "", width = width + 4));
        }
    }
    let count = |state| checkup.checks.iter().filter(|check| check.state == state).count();
    let (failed, warned) = (count(CheckState::Failed), count(CheckState::Warning));
    let summary = match (failed, warned) {
        (0, 0) => "everything works".to_owned(),
        (0, _) => format!("it works, with {warned} to look at (!)"),
        (_, _) => format!("{failed} failed (x), {warned} to look at (!)"),
    };
    terminal::print(format_args!("\n{summary}"));
}
