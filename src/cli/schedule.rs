//! `benchd schedule`: the schedules, when they are next due and what came of their latest ticks.

use std::path::PathBuf;

use super::client::ServerArgs;
use super::{Answer, CommandResult, Failure, terminal};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::api::schedule::{Schedules, Upcoming};
use crate::model::BranchName;
use crate::store::{Store, StoreError, TickRow, TickState};
use crate::trigger::cron::Schedule;
use crate::trigger::tick;

/// Ticks of the past that are shown.
const SHOWN_TICKS: u32 = 5;

/// Arguments of `benchd schedule`.
#[derive(clap::Args)]
pub struct Args {
    /// How many of the next times to show
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    next: u32,

    /// Configuration file, where no server is asked [default: ./benchd.yaml or /etc/benchd/benchd.yaml]
    #[arg(long, env = "BENCHD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Runs the command: 0 when something is scheduled, 1 when nothing is.
pub async fn run(args: Args) -> CommandResult {
    let mut schedules = match args.server.server {
        Some(_) => args.server.client()?.get(&format!("/api/v1/schedule?next={}", args.next)).await?,
        None => configured(&args).await?,
    };
    schedules.latest.truncate(usize::try_from(SHOWN_TICKS).unwrap_or(usize::MAX));
    if args.json {
        terminal::print_json(&schedules).map_err(Failure::infrastructure)?;
    } else {
        tell(&schedules);
    }
    Ok(if schedules.schedules.is_empty() { Answer::No } else { Answer::Yes })
}

/// What the configuration and the store on this host say.
async fn configured(args: &Args) -> Result<Schedules, Failure> {
    let (_, config) = Config::find_and_load(args.config.as_deref()).map_err(Failure::usage)?;
    let now = Clock::system().now();
    let mut schedules = Vec::new();
    for repository in &config.repositories {
        for schedule in &repository.triggers.schedule {
            let parsed: Schedule = schedule.parse().map_err(Failure::usage)?;
            let next = std::iter::successors(parsed.after(now), |at| parsed.after(*at));
            schedules.push(Upcoming {
                repository: repository.name.clone(),
                branches: repository.branch.clone(),
                schedule: schedule.clone(),
                next: next.take(usize::try_from(args.next).unwrap_or(usize::MAX)).collect(),
            });
        }
    }
    let latest = match Store::open_existing(&config.state_dir).await {
        Ok(store) => store.latest_ticks(SHOWN_TICKS).await.map_err(Failure::infrastructure)?,
        Err(StoreError::Absent { .. }) => Vec::new(),
        Err(error) => return Err(Failure::infrastructure(error)),
    };
    Ok(Schedules { schedules, latest })
}

fn tell(answered: &Schedules) {
    for Upcoming { repository, branches, schedule, next } in &answered.schedules {
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
        let at = tick.key.due_at.format("%Y-%m-%d %H:%M:%S UTC");
        terminal::print(format_args!("{at} {}: {}", tick.key.repository, what_came_of(tick)));
    }
}

/// What came of a tick, in words.
fn what_came_of(tick: &TickRow) -> String {
    let answer = tick.answer.as_ref().map(|answer| {
        // An answer of another version is shown as it stands.
        serde_json::from_value(answer.clone()).map_or_else(|_| answer.to_string(), |answer| in_words(&answer))
    });
    let answer = answer.unwrap_or_default();
    match tick.state {
        TickState::Due { next_at } if answer.is_empty() => format!("due at {}", next_at.format("%H:%M:%S")),
        TickState::Due { next_at } => format!("tried again at {}: {answer}", next_at.format("%H:%M:%S")),
        TickState::Answered { .. } => answer,
        TickState::Overtaken { .. } => format!("overtaken by the next one: {answer}"),
    }
}

fn in_words(answer: &tick::Answer) -> String {
    let passed = answer.passed.iter().cloned();
    let runs = answer.runs.iter().map(|run| {
        let models = run.models.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("run {} measures {} of {} with {models}", run.run, run.sha.short(), run.branch)
    });
    let nothing = answer.nothing_new.iter().map(|nothing| {
        let what = format!("nothing new on {} for {}", nothing.branch, nothing.model);
        match &nothing.in_hand {
            Some(in_hand) => format!("{what} while run {} measures {}", in_hand.run, in_hand.sha.short()),
            None => what,
        }
    });
    let unknown = answer.unknown.iter().map(|unknown| format!("cannot tell: {}", unknown.error));
    passed.chain(runs).chain(nothing).chain(unknown).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::TickKey;

    fn told(answer: Value) -> String {
        let at = DateTime::UNIX_EPOCH;
        let key = TickKey { repository: "o/r".parse().unwrap(), schedule: "0 0 * * * *".to_owned(), due_at: at };
        what_came_of(&TickRow { key, state: TickState::Answered { settled_at: at }, attempts: 0, answer: Some(answer) })
    }

    #[test]
    fn a_tick_is_told_in_words() {
        let sha = "9816774803221e23e6f26178546c65c2466e2c90";
        let run = json!({"run": 7, "branch": "main", "sha": sha, "models": ["a", "b"]});
        assert_eq!(
            told(json!({"runs": [run], "nothing_new": [], "unknown": []})),
            "run 7 measures 9816774803 of main with a, b"
        );
        let nothing = json!({"branch": "main", "model": "m", "count": 1, "in_hand": {"sha": sha, "run": 7}});
        let error = json!({"error": "no registry"});
        assert_eq!(
            told(json!({"runs": [], "nothing_new": [nothing], "unknown": [error]})),
            "nothing new on main for m while run 7 measures 9816774803; cannot tell: no registry"
        );
        assert_eq!(told(json!({"other": 1})), "{\"other\":1}");
    }
}
