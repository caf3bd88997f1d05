//! `benchd pick`: which commit the schedule would measure now, and why each newer one is passed over.

use std::path::PathBuf;

use serde::Serialize;

use super::{Answer, CommandResult, Failure, terminal};
use crate::app::runner::{detect, target_of};
use crate::config::{Config, RepositoryConfig};
use crate::git::Checkout;
use crate::github::GitHub;
use crate::model::{BranchName, RepoName, Target};
use crate::queue::planner::{Selection, told_file_names};
use crate::registry::{Registry, RegistrySettings};
use crate::store::{Store, StoreError};
use crate::trigger::context::repository;
use crate::trigger::pick::{Outcome, PassedOver, Pick, PickError, Picker};
use crate::trigger::policy::selection_of;
use crate::trigger::request::planned_jobs;
use crate::trigger::source::CommitSource;

/// Commits that were passed over for the same reason are told one by one up to so many.
const TOLD_SINGLY: usize = 5;

/// Arguments of `benchd pick`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration file [default: ./benchd.yaml or /etc/benchd/benchd.yaml]
    #[arg(long, env = "BENCHD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Repository [default: the first one configured]
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<RepoName>,

    /// Branch [default: the first one configured]
    #[arg(long)]
    branch: Option<BranchName>,

    /// What would measure: `platform:device type:count` [default: this host]
    #[arg(long, value_name = "TARGET")]
    target: Option<Target>,

    /// Models, separated by commas [default: those of the schedule's selection]
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    models: Vec<String>,

    /// A clone that is asked for commits instead of GitHub
    #[arg(long, value_name = "DIR")]
    checkout: Option<PathBuf>,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answered<'a> {
    repository: &'a RepoName,
    branch: &'a BranchName,
    commits: usize,
    note: Option<&'a str>,
    looked_in: &'a [String],
    picks: &'a [Pick],
}

/// Runs the command: 0 when a commit is to be measured, 1 when none is, 3 when it cannot be said.
pub async fn run(args: Args) -> CommandResult {
    let (_, config) = Config::find_and_load(args.config.as_deref()).map_err(Failure::usage)?;
    let repository = repository(&config, args.repo.as_ref()).map_err(Failure::usage)?;
    let Some(branch) = args.branch.as_ref().or(repository.branch.first()) else {
        return Err(Failure::usage(anyhow::anyhow!("no branch is configured: give --branch")));
    };
    let target = match &args.target {
        Some(target) => target.clone(),
        None => target_of(&detect(&config).await.map_err(|error| Failure::of(error.is_usage(), error))?),
    };
    let source = source(&args, &config, repository)?;
    let files = told_file_names(&config.execution.env).map_err(Failure::usage)?;
    let mut selection = Selection { file_names: files, ..selection_of(&repository.selection.schedule) };
    if !args.models.is_empty() {
        selection.models.clone_from(&args.models);
    }
    let cache = config.state_dir.join("benchmarks");
    let wanted = planned_jobs(repository, &selection, &target, &cache).await.map_err(Failure::usage)?;
    for model in wanted.plan.iter().flat_map(|plan| &plan.unknown_models) {
        terminal::say(format_args!("benchd: no benchmark of {} has the model `{model}`", target.platform));
    }
    if wanted.jobs.is_empty() {
        terminal::say(format_args!("benchd: no benchmark is selected for {target}"));
    }
    let store = match Store::open_existing(&config.state_dir).await {
        Ok(store) => Some(store),
        Err(StoreError::Absent { .. }) => None,
        Err(error) => return Err(Failure::infrastructure(error)),
    };
    let settings = RegistrySettings::configured(&config.registries).map_err(Failure::usage)?;
    let registry = Registry::new(settings).map_err(Failure::infrastructure)?;
    let opened = Picker::open(store.as_ref(), &registry, repository, &source, branch.clone(), target.platform).await;
    let mut picker = opened.map_err(failure)?;
    let mut picks = Vec::with_capacity(wanted.jobs.len());
    for job in &wanted.jobs {
        picks.push(picker.pick(&job.target.on(&target.device_type), &job.model).await.map_err(failure)?);
    }
    let answered = Answered {
        repository: &repository.name,
        branch,
        commits: picker.branch().commits.len(),
        note: picker.branch().note.as_deref(),
        looked_in: &picker.looked_in,
        picks: &picks,
    };
    if args.json {
        terminal::print_json(&answered).map_err(Failure::infrastructure)?;
    } else {
        tell(&answered);
    }
    answer(&picks)
}

fn source(args: &Args, config: &Config, repository: &RepositoryConfig) -> Result<CommitSource, Failure> {
    match args.checkout.as_ref().or(repository.checkout.as_ref()) {
        Some(dir) => Ok(CommitSource::Checkout(Checkout::at(dir))),
        None => GitHub::configured(&config.github).map(CommitSource::GitHub).map_err(Failure::usage),
    }
}

fn failure(error: PickError) -> Failure {
    match error {
        PickError::NoImage { .. } => Failure::usage(error),
        PickError::History(_) | PickError::Store(_) | PickError::Objects(_) => Failure::infrastructure(error),
    }
}

/// One commit to measure is a yes, whatever cannot be said of other models; else one that cannot be said is a failure.
fn answer(picks: &[Pick]) -> CommandResult {
    let mut unknown = None;
    for pick in picks {
        match &pick.outcome {
            Outcome::Found { .. } => return Ok(Answer::Yes),
            Outcome::NothingNew { .. } => {}
            Outcome::Unknown { sha, error } => {
                let told =
                    || anyhow::anyhow!("{} may be the one for {}, which cannot be said: {error}", sha, pick.model);
                unknown.get_or_insert_with(told);
            }
        }
    }
    unknown.map_or(Ok(Answer::No), |error| Err(Failure::infrastructure(error)))
}

fn tell(answered: &Answered<'_>) {
    let Answered { repository, branch, commits, note, looked_in, picks } = answered;
    terminal::print(format_args!(
        "{repository} {branch}: {commits} commits; results looked for in {}",
        looked_in.join("; ")
    ));
    if let Some(note) = note {
        terminal::print(format_args!("{note}"));
    }
    for pick in *picks {
        let for_what = format!("{} on {}", pick.model, pick.target);
        match &pick.outcome {
            Outcome::Found { sha, committed_at, behind: 0, .. } => {
                terminal::print(format_args!("{for_what}: {sha} of {committed_at}, the newest"));
            }
            Outcome::Found { sha, committed_at, behind, .. } => {
                terminal::print(format_args!("{for_what}: {sha} of {committed_at}, {behind} behind the newest"));
            }
            Outcome::NothingNew { in_hand: None } => terminal::print(format_args!("{for_what}: nothing new")),
            Outcome::NothingNew { in_hand: Some(hand) } => {
                terminal::print(format_args!("{for_what}: nothing new, run {} measures {} now", hand.run, hand.sha));
            }
            Outcome::Unknown { sha, error } => {
                terminal::print(format_args!("{for_what}: unknown, because of {sha}: {error}"));
            }
        }
        tell_passed_over(&pick.passed_over);
    }
}

/// Neighbours with the same kind of reason are told as one, when they are many.
fn tell_passed_over(passed: &[PassedOver]) {
    let alike = |a: &PassedOver, b: &PassedOver| std::mem::discriminant(&a.reason) == std::mem::discriminant(&b.reason);
    for group in passed.chunk_by(alike) {
        match group {
            [first, .., last] if group.len() > TOLD_SINGLY => terminal::print(format_args!(
                "  {} .. {}: {} commits, first: {}",
                first.sha.short(),
                last.sha.short(),
                group.len(),
                first.reason
            )),
            group => {
                for PassedOver { sha, reason } in group {
                    terminal::print(format_args!("  {}: {reason}", sha.short()));
                }
            }
        }
    }
}
