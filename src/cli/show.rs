//! `benchd show`: one run with its jobs, points, values and where its files lie.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::source::{Source, SourceArgs};
use super::tables::Shown;
use super::{Answer, CommandResult, Failure, tables, terminal};
use crate::http::api::runs::ValueWithPrevious;
use crate::model::{Conclusion, FailureKind, JobState, RunState, Trigger};
use crate::store::artifacts::AttemptKey;
use crate::store::{Previous, RunDetail, SeriesValue};

/// Arguments of `benchd show`.
#[derive(clap::Args)]
pub struct Args {
    /// The run (`benchd runs` lists them), or a commit (40 digits) or release tag: its newest run
    #[arg(value_name = "RUN|SHA|TAG")]
    run: String,
    #[command(flatten)]
    source: SourceArgs,
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
    values: &'a [ValueWithPrevious],
    artifacts: Vec<PassFiles>,
}

/// Where the files of one pass lie.
#[derive(Serialize)]
struct PassFiles {
    #[serde(flatten)]
    key: AttemptKey,
    pass: u32,
    log: String,
    results: String,
    /// What the suite itself says of its results, for people; only where this host has the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let source = args.source.open().await?;
    let run = source.named_run(&args.run).await?;
    let detail = source.run(run).await?;
    let values = source.results(run).await?;
    let files = files(&detail, &source);
    source.close().await;
    if args.json {
        let answered = Answered { detail: &detail, values: &values, artifacts: files };
        terminal::print_json(&answered).map_err(Failure::infrastructure)?;
    } else {
        let shown = if args.values { Shown::Everything } else { Shown::Judged };
        print(&detail, &values, &files, shown);
    }
    Ok(Answer::Yes)
}

fn files(detail: &RunDetail, source: &Source) -> Vec<PassFiles> {
    let mut files = Vec::new();
    for job in &detail.jobs {
        for attempt in job.attempts.iter().filter(|attempt| attempt.artifacts_removed_at.is_none()) {
            let key = AttemptKey { run: detail.run.id, job: job.job.id, attempt: attempt.number };
            files.extend(attempt.passes.iter().map(|pass| {
                let (log, results) = source.places(key, pass.number);
                let summary = Path::new(&results).join("benchmark_results.md");
                let summary = summary.is_file().then(|| summary.display().to_string());
                PassFiles { key, pass: pass.number, log, results, summary }
            }));
        }
    }
    files
}

/// Values with what their series had before, as the tables take them.
pub fn split(values: &[ValueWithPrevious]) -> (Vec<SeriesValue>, BTreeMap<u64, Previous>) {
    let previous = values.iter().filter_map(|v| Some((v.value.series, v.previous.clone()?))).collect();
    (values.iter().map(|v| v.value.clone()).collect(), previous)
}

fn print(detail: &RunDetail, values: &[ValueWithPrevious], files: &[PassFiles], shown: Shown) {
    let run = &detail.run;
    terminal::print(format_args!("run {} of {} {} ({})", run.id, run.repository, run.sha, run.branch));
    match &run.trigger {
        Trigger::Imported { from, workflow_id } => {
            let theirs = workflow_id.as_deref().filter(|id| !id.is_empty());
            let theirs = theirs.map(|id| format!(", run {id} there")).unwrap_or_default();
            terminal::print(format_args!("  {}, imported from {from}{theirs}", run.state));
        }
        Trigger::Schedule
        | Trigger::PullRequest { .. }
        | Trigger::Merge
        | Trigger::Release { .. }
        | Trigger::Manual
        | Trigger::Command { .. }
        | Trigger::Rerun { .. }
        | Trigger::Bisect
        | Trigger::AA => terminal::print(format_args!("  {}, because of {}", run.state, run.trigger)),
    }
    let took = tables::took(run.started_at, run.finished_at);
    let took = if took.is_empty() { took } else { format!(", took {took}") };
    terminal::print(format_args!("  requested {}{took}", tables::instant(run.requested_at)));
    let progress = detail.progress.to_string();
    if run.finished_at.is_none() && !progress.is_empty() {
        terminal::print(format_args!("  {progress}"));
    }
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
        let (values, previous) = split(values);
        terminal::print(format_args!("\n{}", tables::values(&values, &previous, shown)));
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
        terminal::print(format_args!("  log      {}", file.log));
        terminal::print(format_args!("  results  {}", file.results));
        if let Some(summary) = &file.summary {
            terminal::print(format_args!("  summary  {summary}"));
        }
    }
}
