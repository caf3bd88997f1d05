//! `benchd pause` and `benchd resume`: stop what starts work until it is taken back; what runs goes on.

use super::client::{ClientError, ServerArgs};
use super::{Answer, CommandResult, Failure, terminal};
use crate::http::api::queue::PauseRequest;
use crate::model::Pause;

/// What is meant, and which server.
#[derive(clap::Args)]
pub(super) struct Target {
    /// `triggers` (all that starts runs by itself), `host` (the server's own runner) or `host:NAME`
    #[arg(value_name = "WHAT")]
    what: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `benchd resume`.
#[derive(clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    target: Target,
    /// Print what goes on as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `benchd pause`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Why, for the others
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Print the pause as JSON
    #[arg(long)]
    json: bool,
}

/// Pauses.
pub async fn pause(args: Args) -> CommandResult {
    let client = args.target.server.client()?;
    let request = PauseRequest { what: args.target.what, why: args.why };
    let pause: Pause = client.post("/api/v1/pauses", &request).await?;
    if args.json {
        terminal::print_json(&pause).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("{pause}"));
    }
    Ok(Answer::Yes)
}

/// Takes a pause back.
pub async fn resume(args: ResumeArgs) -> CommandResult {
    let ResumeArgs { target: Target { what: named, server }, json } = args;
    let client = server.client()?;
    let what: String = url::form_urlencoded::byte_serialize(named.as_bytes()).collect();
    match client.delete(&format!("/api/v1/pauses/{what}")).await {
        Err(ClientError::Refused(problem)) if problem.status == 404 => {
            terminal::say(format_args!("{}", problem.detail));
            return Ok(Answer::No);
        }
        answer => answer?,
    }
    if json {
        terminal::print_json(&serde_json::json!({ "resumed": named })).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("{named} resumed"));
    }
    Ok(Answer::Yes)
}
