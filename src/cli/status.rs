//! `benchd status`: whether all is well, what the machines do, what waits, and the newest runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::source::{Source, SourceArgs};
use super::{Answer, CommandResult, Failure, queue, tables, terminal};
use crate::http::api::version::Version;
use crate::http::health::Ready;
use crate::model::JobId;
use crate::queue::place::QueueView;
use crate::store::{Progress, RunFilter, RunSummary};

/// How many runs are shown.
const NEWEST: u32 = 5;

/// Arguments of `benchd status`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Status {
    /// The server that was asked; `None` when the store on this host was read.
    server: Option<Server>,
    queue: QueueView,
    newest_runs: Vec<RunSummary>,
}

#[derive(Serialize)]
struct Server {
    url: String,
    #[serde(flatten)]
    version: Version,
    #[serde(flatten)]
    ready: Ready,
}

/// Runs the command: 1 when the server is not ready.
pub async fn run(args: Args) -> CommandResult {
    let source = args.source.open().await?;
    let server = match &source {
        Source::Server(client) => Some(Server {
            url: client.server().to_string(),
            version: client.get("/api/v1/version").await?,
            ready: client.get_whatever_status("/readyz").await?,
        }),
        Source::Local { .. } => None,
    };
    let (queue, newest_runs) = (source.queue().await?, source.runs(NEWEST, &RunFilter::default()).await?);
    let status = Status { server, queue, newest_runs };
    if args.json {
        terminal::print_json(&status).map_err(Failure::infrastructure)?;
    } else {
        print(&status, &queue::progress(&source, &status.queue).await?);
    }
    source.close().await;
    let ready = status.server.is_none_or(|server| server.ready.ready);
    Ok(if ready { Answer::Yes } else { Answer::No })
}

fn print(status: &Status, progress: &BTreeMap<JobId, Progress>) {
    if let Some(Server { url, version, ready }) = &status.server {
        let state = if ready.ready { "ready" } else { "not ready" };
        terminal::print(format_args!("benchd {} at {url}: {state}", version.version));
        for trouble in &ready.reasons {
            let since = tables::instant(trouble.since);
            terminal::print(format_args!("  {}: {} (since {since})", trouble.part, trouble.reason));
        }
    }
    queue::show(&status.queue, progress);
    if !status.newest_runs.is_empty() {
        terminal::print(format_args!("\n{}", tables::runs(&status.newest_runs)));
    }
}
