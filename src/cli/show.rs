//! `benchd show`: one run with its jobs, points, values and where its files lie.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::state_dir::StateDirArgs;
use super::tables::Shown;
use super::{Answer, CommandResult, Failure, tables, terminal};
use crate::model::{Conclusion, FailureKind, JobState, RunId, RunState};
use crate::store::artifacts::{Artifacts, AttemptKey};
use crate::store::{Previous, RunDetail, SeriesValue, Store};

/// Arguments of `benchd show`.
#[derive(clap::Args)]
pub struct Args {
    /// The run (`benchd runs` lists them)
    run: RunId,
    #[command(flatten)]
    state_dir: StateDirArgs,
    /// Show every metric with its raw values
    #[arg(long)]
    values: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answered<'a> {
    #[serde(flatten)]
    detail: &'a RunDetail,
    values: Vec<Value<'a>>,
    artifacts: Vec<PassFiles>,
}

#[derive(Serialize)]
struct Value<'a> {
    #[serde(flatten)]
    value: &'a SeriesValue,
    previous: Option<&'a Previous>,
}

/// Where the files of one pass lie.
#[derive(Serialize)]
struct PassFiles {
    #[serde(flatten)]
    key: AttemptKey,
    pass: u32,
    log: PathBuf,
    results: PathBuf,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let store = args.state_dir.open().await?;
    let detail = detail(&store, args.run).await?;
    let values = store.values_of_run(args.run).await.map_err(Failure::infrastructure)?;
    let previous = store.previous_values(args.run).await.map_err(Failure::infrastructure)?;
    store.close().await;
    let files = files(&detail, &Artifacts::new(&args.state_dir.folder()?));
    if args.json {
        let value = |value| Value { value, previous: previous.get(&value.series) };
        let answered = Answered { detail: &detail, values: values.iter().map(value).collect(), artifacts: files };
        terminal::print_json(&answered).map_err(Failure::infrastructure)?;
    } else {
        let shown = if args.values { Shown::Everything } else { Shown::Judged };
        print(&detail, &values, &previous, &files, shown);
    }
    Ok(Answer::Yes)
}

/// A run that must be there.
pub async fn detail(store: &Store, run: RunId) -> Result<RunDetail, Failure> {
    let detail = store.run_detail(run).await.map_err(Failure::infrastructure)?;
    detail.ok_or_else(|| Failure::usage(anyhow::anyhow!("there is no run {run} (`benchd runs` lists them)")))
}

fn files(detail: &RunDetail, artifacts: &Artifacts) -> Vec<PassFiles> {
    let mut files = Vec::new();
    for job in &detail.jobs {
        for attempt in job.attempts.iter().filter(|attempt| attempt.artifacts_removed_at.is_none()) {
            let key = AttemptKey { run: detail.run.id, job: job.job.id, attempt: attempt.number };
            files.extend(attempt.passes.iter().map(|pass| PassFiles {
                key,
                pass: pass.number,
                log: artifacts.log(key, pass.number),
                results: artifacts.results_dir(key, pass.number),
            }));
        }
    }
    files
}

fn print(
    detail: &RunDetail,
    values: &[SeriesValue],
    previous: &BTreeMap<u64, Previous>,
    files: &[PassFiles],
    shown: Shown,
) {
    let run = &detail.run;
    terminal::print(format_args!("run {} of {} {} ({})", run.id, run.repository, run.sha, run.branch));
    terminal::print(format_args!("  {}, because of {}", run.state, run.trigger));
    let took = tables::took(run.started_at, run.finished_at);
    let took = if took.is_empty() { took } else { format!(", took {took}") };
    terminal::print(format_args!("  requested {}{took}", tables::instant(run.requested_at)));
    if let RunState::Failed(kind @ (FailureKind::NothingMeasured | FailureKind::PublishRefused)) = run.state {
        // No job says this: it is about the run as a whole.
        terminal::print(format_args!("  {}", kind.advice()));
    }
    terminal::print(format_args!("\n{}", tables::jobs(detail)));
    for job in &detail.jobs {
        if let Some(message) = job.attempts.last().and_then(|attempt| attempt.message.as_deref()) {
            terminal::print(format_args!("\njob {}: {message}", job.job.id));
        }
        if let JobState::Finished { conclusion: Conclusion::Failure(kind) } = &job.job.state {
            terminal::print(format_args!("  {}", kind.advice()));
        }
    }
    if let Some(points) = tables::faulty_points(detail) {
        terminal::print(format_args!("\n{points}"));
    }
    if !values.is_empty() {
        terminal::print(format_args!("\n{}", tables::values(values, previous, shown)));
    }
    if !(detail.outbox.is_empty() && files.is_empty()) {
        terminal::print(format_args!(""));
    }
    for row in &detail.outbox {
        let error = row.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        let (kind, to, state) = (row.owed.kind.as_str(), &row.owed.subject, row.state.as_str());
        terminal::print(format_args!("{kind} to {to}: {state}{error}"));
    }
    for file in files {
        terminal::print(format_args!("job {}, attempt {}, pass {}:", file.key.job, file.key.attempt, file.pass));
        terminal::print(format_args!("  log      {}", file.log.display()));
        terminal::print(format_args!("  results  {}", file.results.display()));
    }
}
