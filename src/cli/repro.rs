//! `benchd repro`: the docker commands that repeat a run, image by digest.

use super::source::SourceArgs;
use super::{Answer, CommandResult, terminal};
use crate::model::{JobId, RunId};

/// Arguments of `benchd repro`.
#[derive(clap::Args)]
pub struct Args {
    /// The run (`benchd runs` lists them)
    run: RunId,
    /// Only this job of it
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command: prints a shell script, one command for each pass of the jobs' last attempts.
pub async fn run(args: Args) -> CommandResult {
    let source = args.source.open().await?;
    let detail = source.run(args.run).await?;
    source.close().await;
    let mut printed = Answer::No;
    for job in detail.jobs.iter().filter(|job| args.job.is_none_or(|wanted| wanted == job.job.id)) {
        let passes = job.attempts.last().into_iter().flat_map(|attempt| &attempt.passes);
        for pass in passes.filter(|pass| !pass.repro_command.is_empty()) {
            if printed == Answer::No {
                terminal::print(format_args!(
                    "# Secrets stand here by name only (-e HF_TOKEN): set them in your shell."
                ));
            }
            printed = Answer::Yes;
            terminal::print(format_args!(
                "# run {}, job {} ({}, {}), pass {}: {} {}",
                detail.run.id,
                job.job.id,
                job.job.target,
                job.job.model,
                pass.number,
                pass.role.as_str(),
                pass.sha
            ));
            terminal::print(format_args!("{}", pass.repro_command));
        }
    }
    if printed == Answer::No {
        let what = args.job.map_or_else(|| format!("run {}", args.run), |job| format!("job {job} of run {}", args.run));
        let why = match detail.run.trigger.is_imported() {
            true => "was imported: nothing here knows its container",
            false => "started no container, so there is nothing to repeat",
        };
        terminal::say(format_args!("benchd: {what} {why}"));
    }
    Ok(printed)
}
