//! `benchd run`.

use super::{CommandResult, Failure};

/// Arguments of `benchd run`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub async fn run(_args: Args) -> CommandResult {
    Err(Failure::usage(anyhow::anyhow!("not yet in this build")))
}
