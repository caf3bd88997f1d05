//! `benchd run`: one commit on this host, from its image to its published results.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::tables::Shown;
use super::{Answer, CommandResult, Failure, Fault, tables, terminal};
use crate::app::identity::{Identity, Said, Sources, identify};
use crate::app::once::{Ended, measure};
use crate::app::runner::{Runner, connect_engine, connect_github, detect, target_of};
use crate::clock::Clock;
use crate::config::{self, BenchmarksSource, Config, RepositoryConfig};
use crate::executor::docker::Engine;
use crate::git::Checkout;
use crate::model::{BranchName, Conclusion, JobState, RepoName, RunId, SuiteKind, Trigger, Variant};
use crate::publish::outbox::Delivery;
use crate::queue::planner::{Selection, told_file_names};
use crate::queue::spec::Trust;
use crate::registry::{ImageReference, Registry, RegistrySettings};
use crate::store::{OwedState, Previous, RunDetail, SeriesValue};
use crate::suite::CompilationConfig;
use crate::trigger::request::{Planned, Publish, Request};

/// Arguments of `benchd run`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration [default: $BENCHD_CONFIG, ./benchd.yaml, /etc/benchd/benchd.yaml, or none: vLLM's suite]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Repository [default: the only configured one, the checkout's origin, the image's label]
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<RepoName>,

    /// Branch the commit is on; `pull/N/head` for a pull request [default: the checkout's, the configured one]
    #[arg(long)]
    branch: Option<BranchName>,

    /// Another local branch, written in parentheses after the branch in records
    #[arg(long, value_name = "NAME")]
    local_branch: Option<String>,

    /// Commit, branch or tag to measure; a full id unless a checkout or the API can look it up
    /// [default: the checkout's HEAD, the image's label, the branch's newest]
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,

    /// Committer's date of the commit, in seconds since 1970 or as 2026-11-24T03:00:00Z
    /// [default: asked of the checkout, the API or the image's label]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    timestamp: Option<DateTime<Utc>>,

    /// Clone of the repository that has the commit
    #[arg(long, value_name = "DIR")]
    checkout: Option<PathBuf>,

    /// Folder of benchmark files, instead of the configured ones
    #[arg(long, value_name = "DIR")]
    benchmarks: Option<PathBuf>,

    /// Models, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    models: Vec<String>,

    /// Suites, separated by commas; a part stays in the store unless --publish is given
    #[arg(long, value_delimiter = ',', value_name = "SUITES")]
    suites: Vec<SuiteKind>,

    /// Variants, separated by commas; without base they stay in the store unless --publish is given
    #[arg(long, value_delimiter = ',', value_name = "VARIANTS")]
    variants: Vec<Variant>,

    /// Compilation configuration of the base variant, a JSON object
    #[arg(long, value_name = "JSON")]
    compilation_config: Option<CompilationConfig>,

    /// Image to run, instead of the commit's by the configured rule
    #[arg(long, value_name = "REF")]
    image: Option<String>,

    /// Only these devices, by number from 0, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "0,1")]
    devices: Option<Vec<u32>>,

    /// Folder of the store and the artifacts [default: as configured]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// The commit's code is trusted, although it is a pull request's
    #[arg(long, conflicts_with = "untrusted")]
    trusted: bool,

    /// The commit's code gets no secrets, no network and nothing of the host to change [default: for pull requests]
    #[arg(long)]
    untrusted: bool,

    /// Send the results to the configured targets, also of a part, and over other results of the commit there
    #[arg(long, conflicts_with = "no_publish")]
    publish: bool,

    /// Keep the results in the store
    #[arg(long)]
    no_publish: bool,

    /// Show the container's output
    #[arg(long)]
    follow: bool,

    /// Show what would be measured, and measure nothing
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

fn timestamp(text: &str) -> Result<DateTime<Utc>, String> {
    let seconds = text.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let date = || DateTime::parse_from_rfc3339(text).ok().map(|date| date.with_timezone(&Utc));
    seconds.or_else(date).ok_or_else(|| "expected seconds since 1970, or a date like 2026-11-24T03:00:00Z".to_owned())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answered<'a> {
    #[serde(flatten)]
    detail: &'a RunDetail,
    values: Vec<ValueBefore<'a>>,
    kept_back: Option<&'a str>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct ValueBefore<'a> {
    #[serde(flatten)]
    value: &'a SeriesValue,
    previous: Option<&'a Previous>,
}

/// Runs the command: 0 when every point was measured, 1 when some were not, 3 when something outside failed.
pub async fn run(args: Args) -> CommandResult {
    let mut config = match config::find(args.config.as_deref()) {
        Some(file) => Config::load(&file).map_err(Failure::usage)?,
        None => Config::default(),
    };
    if let Some(devices) = &args.devices {
        config.execution.devices.indices = Some(devices.clone());
    }
    let inventory = detect(&config).await.map_err(|error| Failure::of(error.is_usage(), error))?;
    let engine = match args.dry_run && args.image.is_none() {
        true => None,
        false => Some(connect_engine(&config).await.map_err(Failure::infrastructure)?),
    };
    let identity = identity(&args, &config, engine.as_ref()).await?;
    let repository = repository(&args, &config, &identity.repo)?;
    let state_dir = args.state_dir.clone().unwrap_or_else(|| config.state_dir.clone());
    let request = Request {
        local_branch: args.local_branch.clone(),
        trust: match (args.trusted, args.untrusted, identity.branch.pull_request()) {
            (true, _, _) | (false, false, None) => Trust::Trusted,
            (false, true, _) | (false, false, Some(_)) => Trust::Untrusted,
        },
        image: args.image.clone(),
        checkout: args.checkout.as_deref().map(std::path::absolute).transpose().map_err(Failure::usage)?,
        selection: Selection {
            models: args.models.clone(),
            suites: args.suites.clone(),
            variants: args.variants.clone(),
            compilation_config: args.compilation_config.clone(),
            file_names: told_file_names(&config.execution.env).map_err(Failure::usage)?,
        },
        remote: config.execution.remote.as_ref(),
        publish: match (args.publish, args.no_publish) {
            (true, _) => Publish::Asked,
            (false, true) => Publish::Never,
            (false, false) => Publish::Configured,
        },
        // A person waits and sees what failed: repeating is theirs to decide.
        max_attempts: 1,
        ..Request::new(
            &repository,
            identity.branch.clone(),
            identity.sha.clone(),
            identity.committed_at,
            Trigger::Manual,
            target_of(&inventory),
        )
    };
    let planned =
        request.plan(&state_dir.join("benchmarks")).await.map_err(|error| Failure::of(error.is_usage(), error))?;
    tell_plan(&planned, &identity);
    if args.dry_run {
        return print_plan(&planned, &identity, args.json);
    }
    if planned.run.jobs.is_empty() {
        terminal::say(format_args!("benchd: nothing to measure: no benchmark was selected"));
        return Ok(Answer::No);
    }
    let Some(engine) = engine else { return Err(Failure::infrastructure(anyhow!("no engine was connected"))) };
    let devices = inventory.device_numbers();
    let runner = Runner::open(&config, inventory, engine, &state_dir, &Clock::system())
        .await
        .map_err(|error| Failure::of(error.is_usage(), error))?;
    let cancel = cancelled_by_signals();
    let progress = Progress::new(args.follow);
    let tell = |event: crate::app::once::RunEvent<'_>| progress.tell(&event);
    let ended =
        Box::pin(measure(&runner, &planned.run, &devices, &tell, &cancel)).await.map_err(Failure::infrastructure)?;
    progress.finish();
    let Some(ended) = ended else { return Ok(Answer::No) };
    let answer = report(&runner, &planned, &identity, &ended, args.json).await;
    runner.store.close().await;
    answer
}

/// Ctrl-C and SIGTERM stop the run; its container is removed before benchd ends.
fn cancelled_by_signals() -> CancellationToken {
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                terminal::say(format_args!("benchd: stopping"));
                stop.cancel();
            }
            Err(error) => tracing::warn!(%error, "failed to listen for SIGTERM"),
        }
    });
    cancel
}

async fn identity(args: &Args, config: &Config, engine: Option<&Engine>) -> Result<Identity, Failure> {
    let only = match config.repositories.as_slice() {
        [only] => Some(only),
        [] | [_, ..] => None,
    };
    let named = args.repo.as_ref().and_then(|repo| config.repositories.iter().find(|known| &known.name == repo));
    let configured = named.or(only);
    let said = Said {
        repo: args.repo.clone().or_else(|| only.map(|only| only.name.clone())),
        branch: args.branch.clone(),
        default_branch: configured.and_then(|known| known.branch.first().cloned()),
        commit: args.commit.clone(),
        committed_at: args.timestamp,
    };
    let checkout = args.checkout.as_deref().or_else(|| configured?.checkout.as_deref()).map(Checkout::at);
    let told = said.repo.is_some() && said.commit.is_some() && said.committed_at.is_some() && said.branch.is_some();
    let labels = match (&args.image, engine) {
        (Some(image), Some(engine)) if !told && checkout.is_none() => labels_of(config, engine, image).await?,
        (Some(_) | None, _) => HashMap::new(),
    };
    // Anonymous questions are few; a token makes the API a source.
    let github = match config.github.token() {
        Some(_) => Some(connect_github(config).map_err(Failure::usage)?),
        None => None,
    };
    let sources = Sources { checkout: checkout.as_ref(), github: github.as_ref(), labels: &labels };
    identify(&said, &sources).await.map_err(|error| match error.is_infrastructure() {
        true => Failure::infrastructure(error),
        false => Failure::usage(error),
    })
}

/// The labels of an image: of the engine's, else of the registry's, which is not pulled for that.
async fn labels_of(config: &Config, engine: &Engine, image: &str) -> Result<HashMap<String, String>, Failure> {
    let reference: ImageReference = image.parse().map_err(Failure::usage)?;
    let seen = engine.docker().inspect_image(image).await;
    match seen.map_err(engine.failed_to(format!("look at the image {image}"))) {
        Ok(seen) => return Ok(seen.config.and_then(|config| config.labels).unwrap_or_default()),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(Failure::infrastructure(error)),
    }
    let settings = RegistrySettings::configured(&config.registries).map_err(Failure::usage)?;
    let registry = Registry::new(settings).map_err(Failure::infrastructure)?;
    let labels = registry.labels(&reference, engine.architecture()).await.map_err(Failure::infrastructure)?;
    labels.ok_or_else(|| {
        Failure::usage(anyhow!("there is no image {image} for linux/{}: check its name", engine.architecture()))
    })
}

fn repository(args: &Args, config: &Config, name: &RepoName) -> Result<RepositoryConfig, Failure> {
    let configured = config.repositories.iter().find(|repository| &repository.name == name);
    let mut repository = configured.cloned().unwrap_or_else(|| RepositoryConfig::new(name.clone()));
    if let Some(dir) = &args.benchmarks {
        repository.benchmarks = BenchmarksSource::Folder(dir.clone());
    }
    if let BenchmarksSource::Folder(dir) = &repository.benchmarks
        && repository.suite.configuration.is_some()
        && !dir.is_dir()
    {
        let hint = "give --benchmarks DIR, or set `repositories[].benchmarks`";
        return Err(Failure::usage(anyhow!("there is no folder of benchmarks at {}: {hint}", dir.display())));
    }
    Ok(repository)
}

fn tell_plan(planned: &Planned, identity: &Identity) {
    for note in &identity.notes {
        terminal::say(format_args!("benchd: {note}"));
    }
    for problem in &planned.problems {
        terminal::say(format_args!("benchd: {problem}"));
    }
    if let Some(plan) = &planned.plan {
        for model in &plan.unknown_models {
            terminal::say(format_args!("benchd: no benchmark measures the model {model}"));
        }
    }
    if let Some(reason) = &planned.kept_back {
        terminal::say(format_args!("benchd: the results stay in the store: {reason}"));
    }
}

fn print_plan(planned: &Planned, identity: &Identity, json: bool) -> CommandResult {
    let jobs = &planned.run.jobs;
    if json {
        let value = serde_json::json!({
            "repository": identity.repo, "branch": identity.branch, "sha": identity.sha,
            "committed_at": identity.committed_at,
            "jobs": jobs.iter().map(|job| serde_json::json!({"target": job.target, "model": job.model, "spec": job.spec})).collect::<Vec<_>>(),
            "skipped": planned.plan.as_ref().map(|plan| &plan.skipped),
            "kept_back": planned.kept_back,
        });
        terminal::print_json(&value).map_err(Failure::infrastructure)?;
    } else {
        terminal::print(format_args!("{} {} ({})", identity.repo, identity.sha, identity.branch));
        for job in jobs {
            let points = job.spec.pointer("/planned/points").and_then(|points| points.as_array()).map_or(0, Vec::len);
            terminal::print(format_args!("  {} on {}: {points} points", job.model, job.target));
        }
        for skipped in planned.plan.iter().flat_map(|plan| &plan.skipped) {
            terminal::print(format_args!("  skipped {}: {}", skipped.benchmark, skipped.reason));
        }
    }
    Ok(if jobs.is_empty() { Answer::No } else { Answer::Yes })
}

async fn report(runner: &Runner, planned: &Planned, identity: &Identity, ended: &Ended, json: bool) -> CommandResult {
    let outside = |error: crate::store::StoreError| Failure::infrastructure(error);
    let detail = runner.store.run_detail(ended.run).await.map_err(outside)?;
    let detail = detail.with_context(|| format!("run {} is gone", ended.run)).map_err(Failure::infrastructure)?;
    let values = runner.store.values_of_run(ended.run).await.map_err(outside)?;
    let previous = runner.store.previous_values(ended.run).await.map_err(outside)?;
    if json {
        let value = |value| ValueBefore { value, previous: previous.get(&value.series) };
        let answered = Answered {
            detail: &detail,
            values: values.iter().map(value).collect(),
            kept_back: planned.kept_back.as_deref(),
            notes: &identity.notes,
        };
        terminal::print_json(&answered).map_err(Failure::infrastructure)?;
    } else {
        if !values.is_empty() {
            terminal::print(format_args!("{}", tables::values(&values, &previous, Shown::Primary)));
            terminal::print(format_args!("\nprimary metrics; `benchd show {}` has the others", ended.run));
        }
        if let Some(faulty) = tables::faulty_points(&detail) {
            terminal::print(format_args!("\nnot in order:\n{faulty}"));
        }
        print_ends(&detail, ended.run, runner.worker.state_dir.as_path());
    }
    for delivery in &ended.deliveries {
        match delivery {
            Delivery::Delivered { to, what } => say_unless(json, format_args!("published {what} to {to}")),
            Delivery::Kept(reason) => terminal::say(format_args!("benchd: not published: {reason}")),
            Delivery::Refused(reason) => terminal::say(format_args!("benchd: publishing was refused: {reason}")),
            Delivery::Waiting { .. } => {}
            Delivery::Postponed { reason, .. } => terminal::say(format_args!("benchd: not published yet: {reason}")),
        }
    }
    tell_earlier(&ended.earlier);
    answer(&detail, ended)
}

/// What earlier runs owed, in one line.
fn tell_earlier(deliveries: &[Delivery]) {
    let (mut sent, mut owed, mut why) = (0, 0, None);
    for delivery in deliveries {
        match delivery {
            Delivery::Delivered { .. } => sent += 1,
            Delivery::Kept(_) | Delivery::Waiting { .. } => {}
            Delivery::Refused(reason) | Delivery::Postponed { reason, .. } => {
                owed += 1;
                why = Some(reason);
            }
        }
    }
    let sent = match sent {
        0 => None,
        1 => Some("1 upload of earlier runs was delivered".to_owned()),
        more => Some(format!("{more} uploads of earlier runs were delivered")),
    };
    let owed = why.map(|why| match owed {
        1 => format!("1 upload of earlier runs is still not delivered: {why}"),
        more => format!("{more} uploads of earlier runs are still not delivered: {why}"),
    });
    let said: Vec<String> = sent.into_iter().chain(owed).collect();
    if !said.is_empty() {
        terminal::say(format_args!("benchd: {}", said.join("; ")));
    }
}

fn print_ends(detail: &RunDetail, run: RunId, state_dir: &Path) {
    for job in &detail.jobs {
        let message = job.attempts.last().and_then(|attempt| attempt.message.as_deref());
        if let JobState::Finished { conclusion } = &job.job.state {
            // A fault outside is told at the end, with the exit code that it makes.
            let message = message.filter(|_| !conclusion.is_infrastructure());
            let message = message.map_or_else(String::new, |message| format!(": {message}"));
            terminal::print(format_args!("\n{} on {}: {conclusion}{message}", job.job.model, job.job.target));
            if let Conclusion::Failure(kind) = conclusion {
                terminal::print(format_args!("  {}", kind.advice()));
            }
        }
    }
    let artifacts = state_dir.join("artifacts").join(run.to_string());
    terminal::print(format_args!("\nrun {run} is {}; its files are in {}", detail.run.state, artifacts.display()));
}

fn say_unless(quiet: bool, line: std::fmt::Arguments<'_>) {
    if !quiet {
        terminal::print(line);
    }
}

/// The exit code: what failed outside wins over what failed inside.
fn answer(detail: &RunDetail, ended: &Ended) -> CommandResult {
    if ended.interrupted {
        let owed = detail.outbox.iter().any(|row| row.state == OwedState::Owed);
        let error = match owed {
            true => anyhow!(
                "interrupted; results that are not published yet are kept, and the next `benchd run` sends them"
            ),
            false => anyhow!("interrupted; the container was removed"),
        };
        return Err(Failure { fault: Fault::Interrupted, error });
    }
    let mut all_measured = true;
    let mut outside = Vec::new();
    for job in &detail.jobs {
        match &job.job.state {
            JobState::Finished { conclusion: Conclusion::Success } => {}
            JobState::Finished { conclusion } if conclusion.is_infrastructure() => {
                let message = job.attempts.last().and_then(|attempt| attempt.message.clone());
                let message = message.unwrap_or_else(|| conclusion.to_string());
                outside.push(format!("{} was not measured: {message}", job.job.model));
            }
            JobState::Finished { .. }
            | JobState::WaitingForImage { .. }
            | JobState::Queued { .. }
            | JobState::Claimed { .. }
            | JobState::Running { .. } => all_measured = false,
        }
    }
    if !outside.is_empty() {
        return Err(Failure::infrastructure(anyhow!("{}", outside.join("\nbenchd: "))));
    }
    let undelivered =
        ended.deliveries.iter().any(|delivery| matches!(delivery, Delivery::Postponed { .. } | Delivery::Refused(_)));
    match (undelivered, all_measured) {
        (true, _) => Err(Failure::infrastructure(anyhow!(
            "not all results are published; they are kept, and the next `benchd run` sends what is still owed"
        ))),
        (false, true) => Ok(Answer::Yes),
        (false, false) => Ok(Answer::No),
    }
}
