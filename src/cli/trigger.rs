//! `benchd trigger`: ask a server for a run and, on request, wait for it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, ClientError, ServerArgs};
use super::show::split;
use super::tables::Shown;
use super::{Answer, CommandResult, Failure, Fault, tables, terminal};
use crate::http::api::runs::ValueWithPrevious;
use crate::model::{
    BranchName, CommitSha, Conclusion, JobPhase, JobState, Priority, RepoName, RunId, RunPhase, SuiteKind, Variant,
};
use crate::store::RunDetail;
use crate::trigger::manual::{AskedPublish, ManualRequest};

/// Arguments of `benchd trigger`.
#[derive(clap::Args)]
pub struct Args {
    /// Repository [default: the first one that the server is configured for]
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<RepoName>,
    /// Commit with all its 40 digits, or a tag
    #[arg(long, value_name = "SHA|TAG", group = "named")]
    commit: Option<String>,
    /// Branch: its tip; beside --commit, where the commit is
    #[arg(long, value_name = "BRANCH")]
    branch: Option<BranchName>,
    /// Tag
    #[arg(long, value_name = "TAG", group = "named", conflicts_with = "branch")]
    tag: Option<String>,
    /// Pull request: its head as it is now
    #[arg(long, value_name = "NUMBER", group = "named", conflicts_with = "branch")]
    pull_request: Option<u64>,
    /// Platforms or device types, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    targets: Vec<String>,
    /// Models, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    models: Vec<String>,
    /// Suites, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "SUITES")]
    suites: Vec<SuiteKind>,
    /// Variants, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "VARIANTS")]
    variants: Vec<Variant>,
    /// A variable of the suite; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// How often the same benchmarks are measured
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeats: u32,
    /// What it is to be held against: a commit, a tag or a branch
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// How urgent it is, 0 to 100 [default: 60]
    #[arg(long, value_name = "N")]
    priority: Option<Priority>,
    /// Publish the results also when suites or variants were narrowed
    #[arg(long, conflicts_with = "no_publish")]
    publish: bool,
    /// Keep the results to the server's store
    #[arg(long)]
    no_publish: bool,
    /// Only say what would be measured
    #[arg(long)]
    dry_run: bool,
    /// Sent again with the same key, the request finds the run that it started [default: a new key each time]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait until the run ends and print its results; the exit code is the run's
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    #[command(flatten)]
    server: ServerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The part of the server's answer that decides what to do.
#[derive(Deserialize)]
struct Answered {
    run: Option<RunId>,
    why: Option<String>,
    #[serde(default)]
    jobs: Vec<Value>,
}

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a server that does not answer is waited for: a restart, a cut line.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a request is sent again when its answer was lost; the key makes that harmless.
const TRIES: u32 = 3;

/// Runs the command: 1 when nothing is to do, or when the run that was waited for did not measure everything.
pub async fn run(args: Args) -> CommandResult {
    let client = args.server.client()?;
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => new_key().map_err(Failure::infrastructure)?,
    };
    let answer = submit(&client, &key, &args.request()).await?;
    let answered: Answered = serde_json::from_value(answer.clone()).map_err(Failure::infrastructure)?;
    let Some(run) = answered.run else {
        if args.json {
            terminal::print_json(&answer).map_err(Failure::infrastructure)?;
        } else if let Some(why) = &answered.why {
            terminal::print(format_args!("nothing to do: {why}"));
        } else {
            terminal::print(format_args!("would measure in {} jobs:", answered.jobs.len()));
            for job in &answered.jobs {
                terminal::print(format_args!("  {}", job["model"].as_str().unwrap_or_default()));
            }
        }
        return Ok(if args.dry_run && answered.why.is_none() { Answer::Yes } else { Answer::No });
    };
    if !args.wait {
        if args.json {
            terminal::print_json(&answer).map_err(Failure::infrastructure)?;
        } else {
            terminal::print(format_args!("run {run}: `benchd show {run}` tells how it goes"));
        }
        return Ok(Answer::Yes);
    }
    tokio::select! {
        ended = wait(&client, run, args.json) => ended,
        // Without a handler the signal ends the process, which leaves the run going as well.
        Ok(()) = tokio::signal::ctrl_c() => {
            let error = anyhow::anyhow!(
                "run {run} goes on: `benchd show {run}` tells how, `benchd cancel {run}` stops it"
            );
            Err(Failure { fault: Fault::Interrupted, error })
        }
    }
}

impl Args {
    fn request(&self) -> ManualRequest {
        let commit = self.commit.as_deref().and_then(|name| name.parse::<CommitSha>().ok());
        // What is no commit id is the name of one.
        let tag = self.commit.clone().filter(|_| commit.is_none()).or_else(|| self.tag.clone());
        ManualRequest {
            repository: self.repo.clone(),
            commit,
            branch: self.branch.clone(),
            tag,
            pull_request: self.pull_request,
            targets: self.targets.clone(),
            models: self.models.clone(),
            suites: self.suites.clone(),
            variants: self.variants.clone(),
            env: self.env.iter().cloned().collect::<BTreeMap<_, _>>(),
            repeats: self.repeats,
            baseline: self.baseline.clone(),
            priority: self.priority,
            publish: match (self.publish, self.no_publish) {
                (true, _) => AskedPublish::Yes,
                (false, true) => AskedPublish::No,
                (false, false) => AskedPublish::Configured,
            },
            dry_run: self.dry_run,
            asked_by: None,
        }
    }
}

/// Sends the request, again with the same key when the answer was lost.
async fn submit(client: &Client, key: &str, request: &ManualRequest) -> Result<Value, Failure> {
    let mut tries = 1;
    loop {
        match client.post_once("/api/v1/runs", key, request).await {
            Err(ClientError::Unreachable { .. } | ClientError::Answer { .. }) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// Waits for the end of a run, prints its table and answers by how it ended.
async fn wait(client: &Client, run: RunId, json: bool) -> CommandResult {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{spinner} run {prefix} {wide_bar} {elapsed}  {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(run.to_string());
        bar
    });
    let (mut said, mut silent_for) = (String::new(), Duration::ZERO);
    let detail = loop {
        match client.get::<RunDetail>(&format!("/api/v1/runs/{run}")).await {
            Ok(detail) => {
                silent_for = Duration::ZERO;
                let now = in_words(&detail);
                if let Some(bar) = &bar {
                    bar.set_length(100);
                    bar.set_position(u64::try_from(detail.progress.percent).unwrap_or(0));
                    bar.set_message(now);
                } else if now != said {
                    terminal::say(format_args!("run {run}: {now}"));
                    said = now;
                }
                if has_ended(&detail) {
                    break detail;
                }
            }
            // A restart of the server, or a fault on the way: the run goes on.
            Err(ClientError::Unreachable { .. } | ClientError::Answer { .. } | ClientError::NotUnderstood { .. })
                if silent_for < PATIENCE =>
            {
                silent_for += LOOK_EVERY;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let values: Vec<ValueWithPrevious> = client.get(&format!("/api/v1/runs/{run}/results")).await?;
    if json {
        let answer = serde_json::json!({"run": detail, "values": values});
        terminal::print_json(&answer).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("run {run}: {}\n{}", detail.run.state, tables::jobs(&detail)));
        if let Some(points) = tables::faulty_points(&detail) {
            terminal::print(format_args!("\n{points}"));
        }
        if !values.is_empty() {
            let (values, previous) = split(&values);
            terminal::print(format_args!("\n{}", tables::values(&values, &previous, Shown::Judged)));
        }
    }
    Ok(if measured_everything(&detail) { Answer::Yes } else { Answer::No })
}

fn finished(detail: &RunDetail) -> usize {
    detail.jobs.iter().filter(|job| job.job.state.phase() == JobPhase::Finished).count()
}

/// What a run does now, in a line.
fn in_words(detail: &RunDetail) -> String {
    let jobs = detail.jobs.iter().filter(|job| job.job.state.phase() != JobPhase::Finished);
    let open: Vec<_> = jobs.map(|job| format!("{} {}", job.job.model, job.job.state)).collect();
    match open.as_slice() {
        [] => detail.run.state.to_string(),
        open => {
            let progress = detail.progress.to_string();
            let comma = if progress.is_empty() { "" } else { ", " };
            format!("{progress}{comma}{}/{} jobs done, {}", finished(detail), detail.jobs.len(), open.join(", "))
        }
    }
}

/// Whether nothing more is measured. What is still owed to the outside is not waited for: a bucket may be down for long.
fn has_ended(detail: &RunDetail) -> bool {
    match detail.run.state.phase() {
        RunPhase::Measured | RunPhase::Published | RunPhase::Failed | RunPhase::Cancelled | RunPhase::Superseded => {
            true
        }
        RunPhase::Requested | RunPhase::Queued | RunPhase::Running => false,
    }
}

fn measured_everything(detail: &RunDetail) -> bool {
    let well = |state: &JobState| matches!(state, JobState::Finished { conclusion: Conclusion::Success });
    match detail.run.state.phase() {
        RunPhase::Measured | RunPhase::Published => detail.jobs.iter().all(|job| well(&job.job.state)),
        RunPhase::Requested
        | RunPhase::Queued
        | RunPhase::Running
        | RunPhase::Failed
        | RunPhase::Cancelled
        | RunPhase::Superseded => false,
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let named = text.split_once('=').filter(|(name, _)| !name.is_empty());
    named.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "expected NAME=VALUE".to_owned())
}

/// A key that nobody else uses: 128 random bits.
fn new_key() -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(format!("benchd-{:032x}", u128::from_le_bytes(random)))
}
