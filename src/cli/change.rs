//! `benchd cancel`, `benchd retry` and `benchd rerun`: what a person does to a run that is there, or to one job of it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{ClientError, ServerArgs};
use super::{Answer, CommandResult, Failure, terminal};
use crate::http::api::runs::Retry;
use crate::model::{JobId, RunId};
use crate::store::{JobRow, RunRow};

/// Arguments of `benchd cancel`.
#[derive(clap::Args)]
pub struct CancelArgs {
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

/// Stops a run, or one job of it.
pub async fn cancel(args: CancelArgs) -> CommandResult {
    let CancelArgs { run, job, server, json } = args;
    match (run, job) {
        (_, Some(job)) => {
            let told = |job: &JobRow| format!("job {} is {}", job.id, job.state);
            act(&server, json, &format!("/api/v1/jobs/{job}/cancel"), told).await
        }
        (Some(run), None) => {
            let told = |run: &RunRow| format!("run {} is {}", run.id, run.state);
            act(&server, json, &format!("/api/v1/runs/{run}/cancel"), told).await
        }
        (None, None) => Err(Failure::usage(anyhow::anyhow!("name a run, or a job with --job"))),
    }
}

/// Queues the failed jobs of a run again.
pub async fn retry(args: Args) -> CommandResult {
    let told = |retried: &Retry| {
        let jobs = retried.jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("run {} goes on: jobs {jobs} wait again", retried.run)
    };
    act(&args.server, args.json, &format!("/api/v1/runs/{}/retry", args.run), told).await
}

/// Measures the commit of a run once more.
pub async fn rerun(args: Args) -> CommandResult {
    let told = |run: &RunRow| format!("run {} measures {} once more", run.id, run.sha.short());
    act(&args.server, args.json, &format!("/api/v1/runs/{}/rerun", args.run), told).await
}

/// Asks the server and tells its answer; that the state of the run or job does not allow it is a no.
async fn act<T: Serialize + DeserializeOwned>(
    server: &ServerArgs,
    json: bool,
    path: &str,
    told: impl Fn(&T) -> String,
) -> CommandResult {
    let answer: T = match server.client()?.post(path, &()).await {
        Err(ClientError::Refused(problem)) if problem.status == 409 => {
            terminal::say(format_args!("{}", problem.detail));
            return Ok(Answer::No);
        }
        answer => answer?,
    };
    if json {
        terminal::print_json(&answer).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("{}", told(&answer)));
    }
    Ok(Answer::Yes)
}
