//! `benchd schedule`: the configured schedules and when they are next due.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Answer, CommandResult, Failure, terminal};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{BranchName, RepoName};
use crate::store::{Store, StoreError, TickRow};
use crate::trigger::cron::Schedule;

/// Ticks of the past that are shown.
const SHOWN_TICKS: u32 = 5;

/// Arguments of `benchd schedule`.
#[derive(clap::Args)]
pub struct Args {
    /// How many of the next times to show
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    next: u32,

    /// Configuration file [default: ./benchd.yaml or /etc/benchd/benchd.yaml]
    #[arg(long, env = "BENCHD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answered<'a> {
    schedules: Vec<Next<'a>>,
    latest: Vec<TickRow>,
}

#[derive(Serialize)]
struct Next<'a> {
    repository: &'a RepoName,
    branches: &'a [BranchName],
    schedule: &'a str,
    next: Vec<DateTime<Utc>>,
}

/// Runs the command: 0 when something is scheduled, 1 when nothing is.
pub async fn run(args: Args) -> CommandResult {
    let (_, config) = Config::find_and_load(args.config.as_deref()).map_err(Failure::usage)?;
    let now = Clock::system().now();
    let mut schedules = Vec::new();
    for repository in &config.repositories {
        for schedule in &repository.triggers.schedule {
            let parsed: Schedule = schedule.parse().map_err(Failure::usage)?;
            let next = std::iter::successors(parsed.after(now), |at| parsed.after(*at));
            let next = next.take(usize::try_from(args.next).unwrap_or(usize::MAX)).collect();
            schedules.push(Next { repository: &repository.name, branches: &repository.branch, schedule, next });
        }
    }
    let latest = match Store::open_existing(&config.state_dir).await {
        Ok(store) => store.latest_ticks(SHOWN_TICKS).await.map_err(Failure::infrastructure)?,
        Err(StoreError::Absent { .. }) => Vec::new(),
        Err(error) => return Err(Failure::infrastructure(error)),
    };
    let answer = if schedules.is_empty() { Answer::No } else { Answer::Yes };
    let answered = Answered { schedules, latest };
    if args.json {
        terminal::print_json(&answered).map_err(Failure::infrastructure)?;
    } else {
        tell(&answered);
    }
    Ok(answer)
}

fn tell(answered: &Answered<'_>) {
    for Next { repository, branches, schedule, next } in &answered.schedules {
        let branches = branches.iter().map(BranchName::as_str).collect::<Vec<_>>().join(", ");
        terminal::print(format_args!("{repository} {branches}: `{schedule}` (UTC)"));
        for at in next {
            terminal::print(format_args!("  {}", at.format("%Y-%m-%d %H:%M:%S UTC")));
        }
    }
    if answered.schedules.is_empty() {
        terminal::print(format_args!("nothing is scheduled"));
    }
    for tick in &answered.latest {
        let answer = tick.answer.as_ref().map_or_else(String::new, |answer| format!(": {answer}"));
        let at = tick.key.due_at.format("%Y-%m-%d %H:%M:%S UTC");
        terminal::print(format_args!("{at} {} {:?}{answer}", tick.key.repository, tick.state));
    }
}
