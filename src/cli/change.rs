//! `benchd cancel`, `benchd retry` and `benchd rerun`: what a person does to a run that is there.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{ClientError, ServerArgs};
use super::{Answer, CommandResult, Failure, terminal};
use crate::http::api::runs::Retry;
use crate::model::RunId;
use crate::store::RunRow;

/// Arguments of all three.
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

/// Stops a run.
pub async fn cancel(args: Args) -> CommandResult {
    act(args, "cancel", |run: &RunRow| format!("run {} is {}", run.id, run.state)).await
}

/// Queues the failed jobs of a run again.
pub async fn retry(args: Args) -> CommandResult {
    act(args, "retry", |retried: &Retry| {
        let jobs = retried.jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("run {} goes on: jobs {jobs} wait again", retried.run)
    })
    .await
}

/// Measures the commit of a run once more.
pub async fn rerun(args: Args) -> CommandResult {
    act(args, "rerun", |run: &RunRow| format!("run {} measures {} once more", run.id, run.sha.short())).await
}

/// Asks the server for `verb` and tells its answer; that the run's state does not allow it is a no.
async fn act<T: Serialize + DeserializeOwned>(args: Args, verb: &str, told: impl Fn(&T) -> String) -> CommandResult {
    let path = format!("/api/v1/runs/{}/{verb}", args.run);
    let answer: T = match args.server.client()?.post(&path, &()).await {
        Err(ClientError::Refused(problem)) if problem.status == 409 => {
            terminal::say(format_args!("{}", problem.detail));
            return Ok(Answer::No);
        }
        answer => answer?,
    };
    if args.json {
        terminal::print_json(&answer).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("{}", told(&answer)));
    }
    Ok(Answer::Yes)
}
