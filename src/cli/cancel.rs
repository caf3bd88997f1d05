//! `benchd cancel`: stop a run, or one job of it.

use std::fmt::Arguments;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Client, ClientError, ServerArgs};
use super::{Answer, CommandResult, Failure, terminal};
use crate::model::{JobId, RunId};
use crate::store::{JobRow, RunRow};

/// Arguments of `benchd cancel`.
#[derive(clap::Args)]
pub struct Args {
    /// The run (`benchd runs` lists them)
    #[arg(required_unless_present = "job", conflicts_with = "job")]
    run: Option<RunId>,
    /// One job instead (`benchd queue` lists them); the run's other jobs go on
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    #[command(flatten)]
    server: ServerArgs,
    /// Print the run or job as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let client = args.server.client()?;
    match (args.run, args.job) {
        (_, Some(job)) => {
            let Some(job) = cancel::<JobRow>(&client, &format!("/api/v1/jobs/{job}/cancel")).await? else {
                return Ok(Answer::No);
            };
            tell(args.json, &job, format_args!("job {} is {}", job.id, job.state))
        }
        (Some(run), None) => {
            let Some(run) = cancel::<RunRow>(&client, &format!("/api/v1/runs/{run}/cancel")).await? else {
                return Ok(Answer::No);
            };
            tell(args.json, &run, format_args!("run {} is {}", run.id, run.state))
        }
        (None, None) => Err(Failure::usage(anyhow::anyhow!("name a run, or a job with --job"))),
    }
}

/// What was cancelled, as it is now; `None` when it had ended before, which is said.
async fn cancel<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Option<T>, Failure> {
    match client.post(path, &()).await {
        Err(ClientError::Refused(problem)) if problem.status == 409 => {
            terminal::say(format_args!("{}", problem.detail));
            Ok(None)
        }
        answer => Ok(Some(answer?)),
    }
}

fn tell(json: bool, value: &impl Serialize, line: Arguments<'_>) -> CommandResult {
    if json {
        terminal::print_json(value).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(line);
    }
    Ok(Answer::Yes)
}
