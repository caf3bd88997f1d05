//! `benchd cancel`: stop a run.

use super::client::{ClientError, ServerArgs};
use super::{Answer, CommandResult, Failure, terminal};
use crate::model::RunId;
use crate::store::RunRow;

/// Arguments of `benchd cancel`.
#[derive(clap::Args)]
pub struct Args {
    /// The run (`benchd runs` lists them)
    run: RunId,
    #[command(flatten)]
    server: ServerArgs,
    /// Print the run as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let client = args.server.client()?;
    let run: RunRow = match client.post(&format!("/api/v1/runs/{}/cancel", args.run), &()).await {
        Err(ClientError::Refused(problem)) if problem.status == 409 => {
            terminal::say(format_args!("{}", problem.detail));
            return Ok(Answer::No);
        }
        answer => answer?,
    };
    if args.json {
        terminal::print_json(&run).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("run {} is {}", run.id, run.state));
    }
    Ok(Answer::Yes)
}
