//! `benchd logs`: what a job's passes print, as it is or as it grows.

use std::time::Duration;

use super::source::{Follow, LogPart, LogPrinter, Source, SourceArgs};
use super::{Answer, CommandResult, Failure, terminal};
use crate::model::{JobId, JobPhase, RunId};
use crate::store::JobDetail;

/// Arguments of `benchd logs`.
#[derive(clap::Args)]
pub struct Args {
    /// The job, or a run that has one job (`benchd show RUN` lists them)
    #[arg(value_name = "JOB|RUN")]
    job: JobId,
    /// Go on as the log grows, until the job ends
    #[arg(long, short)]
    follow: bool,
    /// Which attempt, from 1 [default: the last]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Which pass, from 1 [default: the last; with --follow: all from the last on]
    #[arg(long, value_name = "N")]
    pass: Option<u32>,
    /// Print a JSON object for each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// How often a job is looked at while its log does not grow.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let source = args.source.open().await?;
    let job = find(&source, args.job).await?;
    let mut printer = if args.json { LogPrinter::Json(Vec::new()) } else { LogPrinter::Text };
    let answer = match args.follow {
        true => follow(&source, job, &args, &mut printer).await,
        false => print(&source, &job, &args, &mut printer).await,
    };
    printer.end().map_err(Failure::infrastructure)?;
    source.close().await;
    answer
}

/// The job that is meant: the number of a run stands for its only job.
async fn find(source: &Source, id: JobId) -> Result<JobDetail, Failure> {
    if let Some(job) = source.job(id).await? {
        return Ok(job);
    }
    let none = || Failure::usage(anyhow::anyhow!("there is no job or run {id} (`benchd runs` lists runs)"));
    let run = RunId::try_from(id.number()).map_err(Failure::usage)?;
    let mut jobs = source.run(run).await.map_err(|_unknown| none())?.jobs;
    match (jobs.pop(), jobs.as_slice()) {
        (Some(job), []) => Ok(job),
        (None, _) => Err(none()),
        (Some(last), others) => {
            let ids = others.iter().chain([&last]).map(|job| format!("{} ({})", job.job.id, job.job.model));
            let ids = ids.collect::<Vec<_>>().join(", ");
            Err(Failure::usage(anyhow::anyhow!("run {run} has several jobs, name one of them: {ids}")))
        }
    }
}

async fn print(source: &Source, job: &JobDetail, args: &Args, printer: &mut LogPrinter) -> CommandResult {
    let Some((attempt, pass)) = wanted(job, args) else {
        terminal::say(format_args!("no log yet: job {} is {}", job.job.id, job.job.state));
        return Ok(Answer::No);
    };
    let part = LogPart { job: job.job.id, run: job.job.run, attempt, pass, offset: 0 };
    source.print_log(part, Follow::No, printer).await?;
    Ok(Answer::Yes)
}

/// The pass that is asked for, or the last one.
fn wanted(job: &JobDetail, args: &Args) -> Option<(u32, u32)> {
    let attempts = job.attempts.iter().rev().filter(|a| args.attempt.is_none_or(|number| number == a.number));
    attempts
        .flat_map(|attempt| attempt.passes.iter().rev().map(|pass| (attempt.number, pass.number)))
        .find(|(_, pass)| args.pass.is_none_or(|number| number == *pass))
}

/// Prints pass after pass until the job ends.
async fn follow(source: &Source, mut job: JobDetail, args: &Args, printer: &mut LogPrinter) -> CommandResult {
    let mut at = wanted(&job, args).map(|(attempt, pass)| (attempt, pass, 0));
    let mut told = false;
    loop {
        if let Some((attempt, pass, offset)) = &mut at {
            let part = LogPart { job: job.job.id, run: job.job.run, attempt: *attempt, pass: *pass, offset: *offset };
            *offset += source.print_log(part, Follow::Yes, printer).await?;
        }
        // What `job` says was so before the log was read to its end: a pass that had ended then is read to its end.
        match next(&job, at.map(|(attempt, pass, _)| (attempt, pass))) {
            Next::Pass(attempt, pass) => {
                terminal::say(format_args!("-- attempt {attempt}, pass {pass}"));
                at = Some((attempt, pass, 0));
                continue;
            }
            Next::End => {
                terminal::say(format_args!("-- job {}: {}", job.job.id, job.job.state));
                return Ok(Answer::Yes);
            }
            Next::Wait => {
                if at.is_none() && !told {
                    terminal::say(format_args!("-- job {} is {}", job.job.id, job.job.state));
                    told = true;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        let id = job.job.id;
        let gone = || Failure::infrastructure(anyhow::anyhow!("job {id} is gone"));
        job = source.job(id).await?.ok_or_else(gone)?;
    }
}

/// What to print after this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A later pass.
    Pass(u32, u32),
    /// Nothing yet: the pass, or the job, goes on.
    Wait,
    /// Nothing more.
    End,
}

fn next(job: &JobDetail, at: Option<(u32, u32)>) -> Next {
    let passes = || {
        job.attempts.iter().flat_map(|attempt| {
            let over = attempt.finished_at.is_some();
            attempt.passes.iter().map(move |pass| (attempt.number, pass.number, over || pass.finished_at.is_some()))
        })
    };
    let ended = passes().find(|(attempt, pass, _)| Some((*attempt, *pass)) == at).is_none_or(|(_, _, ended)| ended);
    if !ended {
        return Next::Wait;
    }
    match passes().find(|(attempt, pass, _)| at.is_none_or(|at| (*attempt, *pass) > at)) {
        Some((attempt, pass, _)) => Next::Pass(attempt, pass),
        None if job.job.state.phase() == JobPhase::Finished => Next::End,
        None => Next::Wait,
    }
}
