//! `benchd retry` and `benchd rerun`: the failed jobs of a run once more, or all of it as a new run.

use super::client::{ClientError, ServerArgs};
use super::{Answer, CommandResult, Failure, terminal};
use crate::http::api::runs::Retry;
use crate::model::RunId;
use crate::store::RunRow;

/// Arguments of `benchd retry` and `benchd rerun`.
#[derive(clap::Args)]
pub struct Args {
    /// The run (`benchd runs` lists them)
    run: RunId,
    #[command(flatten)]
    server: ServerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Queues the failed jobs of a run again.
pub async fn retry(args: Args) -> CommandResult {
    let client = args.server.client()?;
    let retried: Retry = match client.post(&format!("/api/v1/runs/{}/retry", args.run), &()).await {
        Err(ClientError::Refused(problem)) if problem.status == 409 => {
            terminal::say(format_args!("{}", problem.detail));
            return Ok(Answer::No);
        }
        answer => answer?,
    };
    if args.json {
        terminal::print_json(&retried).map_err(Failure::infrastructure)?;
    } else {
        let jobs = retried.jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        terminal::print(format_args!("run {} goes on: jobs {jobs} wait again", retried.run));
    }
    Ok(Answer::Yes)
}

/// Measures the commit of a run once more.
pub async fn rerun(args: Args) -> CommandResult {
    let client = args.server.client()?;
    let run: RunRow = client.post(&format!("/api/v1/runs/{}/rerun", args.run), &()).await?;
    if args.json {
        terminal::print_json(&run).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("run {} measures {} once more", run.id, run.sha.short()));
    }
    Ok(Answer::Yes)
}
