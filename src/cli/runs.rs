//! `benchd runs`: the newest runs.

use super::source::SourceArgs;
use super::{Answer, CommandResult, Failure, tables, terminal};
use crate::model::{BranchName, RepoName, RunId, RunPhase};
use crate::store::RunFilter;

/// Arguments of `benchd runs`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// How many runs to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Only runs of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<RepoName>,
    /// Only runs on this branch
    #[arg(long)]
    branch: Option<BranchName>,
    /// Only runs in this state (requested, queued, running, measured, published, failed, cancelled, superseded)
    #[arg(long)]
    state: Option<RunPhase>,
    /// Only runs of this commit (40 digits) or release tag
    #[arg(long, value_name = "SHA|TAG")]
    commit: Option<String>,
    /// Only runs older than this one: the next page
    #[arg(long, value_name = "RUN")]
    before: Option<RunId>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let source = args.source.open().await?;
    let Args { limit, repo: repository, branch, state, commit, before, json, .. } = args;
    let filter = RunFilter { repository, branch, state, commit, before };
    let runs = source.runs(limit, &filter).await?;
    source.close().await;
    if json {
        terminal::print_json(&runs).map_err(Failure::infrastructure)?;
    } else if runs.is_empty() {
        terminal::print(format_args!("no runs"));
    } else {
        terminal::print(format_args!("{}", tables::runs(&runs)));
    }
    Ok(Answer::Yes)
}
