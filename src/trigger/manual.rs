//! A run that a person asks for. What is asked is checked before anything is resolved, resolved before anything is
//! planned, and written in one transaction with the sender's key, so that a repeated request starts nothing twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use super::context::UnknownRepository;
use super::key::{InvalidKey, Key, Known};
use super::policy::{Budget, selection_of, wants_target};
use super::request::{Planned, Publish, Request, RequestError};
use super::resolve::{Named, ResolveError, Resolved, stretch};
use super::source::{CommitSource, HistoryError};
use super::tick::AVERAGED_JOBS;
use crate::config::{BudgetedSelection, RepositoryConfig};
use crate::model::{BranchName, CommitSha, Fault, Priority, RepoName, RunId, SuiteKind, Target, Trigger, Variant};
use crate::queue::Submitted;
use crate::queue::planner::{InvalidFileName, Selection, SkipReason, Skipped};
use crate::queue::spec::Trust;
use crate::step::Step;
use crate::store::{KeyedRequest, LeftOut, StoreError};

/// The most entries of a list in a request.
const MOST_ENTRIES: usize = 200;

/// The longest text in a request, in bytes.
const MOST_BYTES: usize = 4096;

/// What a person asks for. Exactly one of `commit`, `branch`, `tag` and `pull_request` says what is measured; `branch`
/// beside `commit` says where the commit is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ManualRequest {
    /// `owner/name`. Default: the first one configured.
    pub repository: Option<RepoName>,
    /// A commit with all its 40 digits; it must be on a configured branch, or on `branch`.
    pub commit: Option<CommitSha>,
    /// A branch: its tip.
    pub branch: Option<BranchName>,
    /// A tag.
    pub tag: Option<String>,
    /// A pull request: its head as it is now. Code of a fork runs untrusted.
    pub pull_request: Option<u64>,
    /// Platforms or device types. Default: all that are configured.
    pub targets: Vec<String>,
    /// Models, in any case. Default: all that are configured.
    pub models: Vec<String>,
    /// Suites. Default: all that are configured.
    pub suites: Vec<SuiteKind>,
    /// Variants. Default: all that are configured.
    pub variants: Vec<Variant>,
    /// Environment variables of the suite; only those that the configuration allows.
    pub env: BTreeMap<String, String>,
    /// How often the same benchmarks are measured. Default: 1.
    pub repeats: u32,
    /// What it is to be held against: a commit, a tag or a branch.
    pub baseline: Option<String>,
    /// How urgent it is, 0 to 100. Default: what manual runs have.
    pub priority: Option<Priority>,
    /// Whether results are published. Default: as configured, if nothing was narrowed.
    pub publish: AskedPublish,
    /// Only says what would be measured.
    pub dry_run: bool,
    /// Who asks, as the door knows.
    #[serde(skip)]
    pub asked_by: Option<String>,
}

/// Whether results are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskedPublish {
    /// As configured, if suites and variants were not narrowed.
    #[default]
    Configured,
    /// Also when they were.
    Yes,
    /// No: they stay in the store.
    No,
}

impl Default for ManualRequest {
    fn default() -> Self {
        Self {
            repository: None,
            commit: None,
            branch: None,
            tag: None,
            pull_request: None,
            targets: Vec::new(),
            models: Vec::new(),
            suites: Vec::new(),
            variants: Vec::new(),
            env: BTreeMap::new(),
            repeats: 1,
            baseline: None,
            priority: None,
            publish: AskedPublish::default(),
            dry_run: false,
            asked_by: None,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ManualAnswer {
    /// A run stands in the queue.
    Accepted {
        /// The run.
        run: RunId,
        /// What it measures.
        #[serde(flatten)]
        measures: Measures,
    },
    /// The same request came before and started this run.
    Existing {
        /// The run.
        run: RunId,
    },
    /// Nothing would be measured.
    NothingToDo {
        /// Why.
        why: String,
    },
    /// A dry run: what would be measured.
    Planned {
        /// It.
        #[serde(flatten)]
        measures: Measures,
    },
}

/// What a run measures.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Measures {
    /// Repository.
    pub repository: RepoName,
    /// Branch.
    pub branch: BranchName,
    /// Commit.
    pub sha: CommitSha,
    /// How far its code is trusted.
    pub trust: Trust,
    /// What it is to be held against.
    pub baseline: Option<CommitSha>,
    /// One job for each target, model and repetition.
    pub jobs: Vec<MeasuredJob>,
    /// Benchmarks for which there is no room in the budget.
    pub left_out: Vec<LeftOut>,
    /// What this host cannot measure, and why.
    pub skipped: Vec<Skipped>,
    /// Why results stay in the store, when they do.
    pub kept_back: Option<String>,
}

/// A job of a run to be.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MeasuredJob {
    /// Its target.
    pub target: Target,
    /// Its model.
    pub model: String,
}

/// Why a request is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ManualError {
    /// Configuration says no.
    #[error("{0} takes no manual runs (`triggers.manual.enabled`)")]
    Disabled(RepoName),
    /// The repository is not configured.
    #[error(transparent)]
    Repository(#[from] UnknownRepository),
    /// Not exactly one thing to measure is named.
    #[error(
        "exactly one of `commit`, `branch`, `tag` and `pull_request` is needed (`branch` may stand beside `commit`)"
    )]
    NotOne,
    /// A field is larger than anybody needs, or holds what it cannot.
    #[error("`{field}` {fault}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A variable that configuration does not allow.
    #[error("the variable `{name}` may not be set (allowed by `triggers.manual.env`: {allowed})")]
    Variable {
        /// Which.
        name: String,
        /// Which may be.
        allowed: String,
    },
    /// A name that nothing has.
    #[error("`{field}`: {names}: {known}")]
    Unknown {
        /// Where it stands.
        field: &'static str,
        /// The names.
        names: String,
        /// What there is.
        known: String,
    },
    /// It is not known which commit is meant.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// It cannot be planned.
    #[error(transparent)]
    Plan(#[from] RequestError),
    /// The configuration names no file of the suite where it should.
    #[error(transparent)]
    FileName(#[from] InvalidFileName),
    /// The same key came with another request.
    #[error("the key was used for another request, which started run {run}")]
    Conflict {
        /// That run.
        run: RunId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who has to do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The sender: the request cannot be accepted as it is.
    Request,
    /// The sender: what it names is not there.
    NotFound,
    /// Nobody may.
    Forbidden,
    /// The sender: its key was used for something else.
    Conflict,
    /// Something outside fails; the same request may be accepted later.
    Outside,
    /// The house: configuration or benchmark files are at fault.
    House,
}

impl ManualError {
    /// Who has to do something.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotOne | Self::Field { .. } | Self::Unknown { .. } => Blame::Request,
            Self::Disabled(_) | Self::Variable { .. } => Blame::Forbidden,
            Self::Repository(_) => Blame::NotFound,
            Self::Conflict { .. } => Blame::Conflict,
            Self::Store(_) => Blame::Outside,
            Self::Plan(_) | Self::FileName(_) => Blame::House,
            Self::Resolve(error) => match error {
                ResolveError::Absent { .. } => Blame::NotFound,
                ResolveError::NotOnBranch { .. } | ResolveError::TagName(_) => Blame::Request,
                ResolveError::History(HistoryError::NoBranch { .. }) => Blame::NotFound,
                ResolveError::History(error) => match error.fault() {
                    Fault::Transient => Blame::Outside,
                    Fault::Permanent => Blame::House,
                },
            },
        }
    }
}

/// Accepts a request, once for each key of its sender.
///
/// # Errors
/// Whatever keeps it from being accepted; [`ManualError::blame`] says whose it is.
pub async fn submit(
    context: &Context,
    request: ManualRequest,
    idempotency_key: Option<&str>,
) -> Result<ManualAnswer, ManualError> {
    let repository = context.repository(request.repository.as_ref())?;
    if !repository.triggers.manual.enabled {
        return Err(ManualError::Disabled(repository.name.clone()));
    }
    let key = match idempotency_key {
        Some(key) if !request.dry_run => Some(Key::of(key, &request).map_err(of_key)?),
        Some(_) | None => None,
    };
    let named = check(&request, repository, &context.target)?;
    if let Some(key) = &key
        && let Some(answer) = known(key, context.store.keyed_request(&key.text).await?)?
    {
        return Ok(answer);
    }
    let source = CommitSource::of(context, repository).map_err(ResolveError::History)?;
    let resolved = source.resolve(repository, &named).await?;
    let under = Under { selection: &repository.selection.manual, named: "selection.manual", trigger: Trigger::Manual };
    let plan = prepare(context, repository, &request, &source, &resolved, under).await?;
    let unknown = plan.plan.as_ref().map(|plan| plan.unknown_models.as_slice()).unwrap_or_default();
    if !unknown.is_empty() {
        return Err(unknown_models(unknown, &context.target));
    }
    if plan.run.jobs.is_empty() {
        return Ok(ManualAnswer::NothingToDo { why: nothing_to_do(&plan, &context.target) });
    }
    let measures = measures(&plan, resolved.trust);
    if request.dry_run {
        return Ok(ManualAnswer::Planned { measures });
    }
    let stretch = stretch(context, repository, &source, &resolved).await?;
    let mut write = context.store.write(Step::AcceptRequest).await?;
    if let Some(key) = &key
        && let Some(answer) = known(key, write.keyed_request(&key.text).await?)?
    {
        // The same request came twice at once, and the other one was faster.
        return Ok(answer);
    }
    write.place_stretch(&repository.name, &resolved.branch, &stretch).await?;
    let Submitted::Run(run) = context.queue.submit_within(&mut write, &plan.run).await? else {
        return Ok(ManualAnswer::NothingToDo { why: nothing_to_do(&plan, &context.target) });
    };
    if let Some(Key { text, fingerprint }) = key {
        write.record_keyed_request(&text, &KeyedRequest { fingerprint, run }, context.clock.now()).await?;
    }
    write.commit().await?;
    Ok(ManualAnswer::Accepted { run, measures })
}

/// Which part of the configuration a request narrows, and why it is made.
#[derive(Clone, Debug)]
pub(super) struct Under<'a> {
    /// The selection.
    pub selection: &'a BudgetedSelection,
    /// What it is called in the configuration.
    pub named: &'static str,
    /// Why.
    pub trigger: Trigger,
}

/// The run of a commit as somebody asks for it: the selection narrowed, the baseline found, the budget kept.
pub(super) async fn prepare(
    context: &Context,
    repository: &RepositoryConfig,
    request: &ManualRequest,
    source: &CommitSource,
    resolved: &Resolved,
    under: Under<'_>,
) -> Result<Planned, ManualError> {
    let baseline = match &request.baseline {
        Some(name) => Some(baseline(source, repository, name).await?),
        None => None,
    };
    let narrowed = narrowed(&under, request)?;
    let selection = Selection { file_names: context.told_file_names()?, ..narrowed };
    let budget = budget(context, repository, under.selection).await?;
    plan(context, repository, request, Drawn { selection, budget, baseline, trigger: under.trigger }, resolved).await
}

/// Models that no benchmark has.
pub(super) fn unknown_models(models: &[String], target: &Target) -> ManualError {
    ManualError::Unknown {
        field: "models",
        names: models.join(", "),
        known: format!("no benchmark of {} has them", target.platform),
    }
}

/// What was drawn from request and configuration.
struct Drawn {
    selection: Selection,
    budget: Budget,
    baseline: Option<CommitSha>,
    trigger: Trigger,
}

fn of_key(error: InvalidKey) -> ManualError {
    match error {
        InvalidKey::Form => ManualError::Field { field: "Idempotency-Key", fault: error.to_string() },
        InvalidKey::Request(error) => RequestError::Job(error).into(),
    }
}

/// The answer to a request whose key is known already.
fn known(key: &Key, earlier: Option<KeyedRequest>) -> Result<Option<ManualAnswer>, ManualError> {
    match key.known(earlier) {
        Known::Nothing => Ok(None),
        Known::Run(run) => Ok(Some(ManualAnswer::Existing { run })),
        Known::Other(run) => Err(ManualError::Conflict { run }),
    }
}

/// Checks everything that needs nobody else, and says what is to be resolved.
pub(super) fn check(
    request: &ManualRequest,
    repository: &RepositoryConfig,
    target: &Target,
) -> Result<Named, ManualError> {
    let lists = [("targets", &request.targets), ("models", &request.models)];
    for (field, list) in lists {
        if list.len() > MOST_ENTRIES {
            return Err(ManualError::Field { field, fault: format!("has more than {MOST_ENTRIES} entries") });
        }
        for text in list {
            plain(field, text)?;
        }
    }
    if request.env.len() > MOST_ENTRIES {
        return Err(ManualError::Field { field: "env", fault: format!("has more than {MOST_ENTRIES} entries") });
    }
    let allowed = &repository.triggers.manual.env;
    for (name, value) in &request.env {
        if !allowed.contains(name) {
            return Err(ManualError::Variable { name: name.clone(), allowed: list_of(allowed) });
        }
        plain("env", value)?;
    }
    let most = repository.triggers.manual.repeats;
    if !(1..=most).contains(&request.repeats) {
        return Err(ManualError::Field { field: "repeats", fault: format!("must be 1 to {most}") });
    }
    for (field, text) in [("tag", &request.tag), ("baseline", &request.baseline)] {
        if let Some(text) = text {
            plain(field, text)?;
        }
    }
    // Names are checked against this host alone: it is the one that measures.
    for name in &request.targets {
        if !wants_target(std::slice::from_ref(name), target) {
            let known = format!("this host is {} ({})", target.platform, target.device_type);
            return Err(ManualError::Unknown { field: "targets", names: name.clone(), known });
        }
    }
    let ManualRequest { commit, branch, tag, pull_request, .. } = request;
    match (commit, branch, tag, pull_request) {
        (Some(sha), branch, None, None) => {
            let branches = branch.as_ref().map_or_else(|| repository.branch.clone(), |branch| vec![branch.clone()]);
            Ok(Named::Commit { sha: sha.clone(), branches })
        }
        (None, Some(branch), None, None) => Ok(Named::Branch(branch.clone())),
        (None, None, Some(tag), None) => Ok(Named::Tag(tag.clone())),
        (None, None, None, Some(number)) => Ok(Named::PullRequest(*number)),
        (_, _, _, _) => Err(ManualError::NotOne),
    }
}

fn plain(field: &'static str, text: &str) -> Result<(), ManualError> {
    let fault = if text.len() > MOST_BYTES {
        format!("holds a text of more than {MOST_BYTES} bytes")
    } else if text.trim().is_empty() {
        "holds an empty text".to_owned()
    } else if text.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(ManualError::Field { field, fault })
}

/// What the configuration selects, narrowed by the request; it cannot be widened.
fn narrowed(under: &Under<'_>, request: &ManualRequest) -> Result<Selection, ManualError> {
    let (configured, named) = (under.selection, under.named);
    let mut selection = selection_of(configured);
    let lower = |models: &[String]| models.iter().map(|model| model.trim().to_lowercase()).collect::<Vec<_>>();
    selection.models = narrow(("models", named), &lower(&configured.models), &lower(&request.models))?;
    selection.suites = narrow(("suites", named), &configured.suites, &request.suites)?;
    selection.variants = narrow(("variants", named), &configured.variants, &request.variants)?;
    Ok(selection)
}

fn narrow<T: Clone + PartialEq + ToString>(
    (field, named): (&'static str, &'static str),
    configured: &[T],
    asked: &[T],
) -> Result<Vec<T>, ManualError> {
    if asked.is_empty() {
        return Ok(configured.to_vec());
    }
    let outside: Vec<_> = asked.iter().filter(|one| !configured.is_empty() && !configured.contains(one)).collect();
    if outside.is_empty() {
        return Ok(asked.to_vec());
    }
    let names = outside.into_iter().map(T::to_string).collect::<Vec<_>>().join(", ");
    Err(ManualError::Unknown { field, names, known: format!("`{named}` has {}", list_of(configured)) })
}

fn list_of<T: ToString>(all: &[T]) -> String {
    if all.is_empty() { "none".to_owned() } else { all.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

/// The commit that a name given as baseline stands for: a commit of a configured branch, a tag or a branch.
async fn baseline(source: &CommitSource, repository: &RepositoryConfig, name: &str) -> Result<CommitSha, ManualError> {
    if let Ok(sha) = name.parse::<CommitSha>() {
        let named = Named::Commit { sha, branches: repository.branch.clone() };
        return Ok(source.resolve(repository, &named).await?.sha);
    }
    match source.resolve(repository, &Named::Tag(name.to_owned())).await {
        Ok(resolved) => Ok(resolved.sha),
        Err(ResolveError::Absent { repo, asked, .. }) => {
            let absent = || ResolveError::Absent { repo, what: format!("commit, tag or branch `{name}`"), asked };
            let Ok(branch) = name.parse::<BranchName>() else { return Err(absent().into()) };
            match source.resolve(repository, &Named::Branch(branch)).await {
                Ok(resolved) => Ok(resolved.sha),
                Err(ResolveError::Absent { .. }) => Err(absent().into()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

async fn budget(
    context: &Context,
    repository: &RepositoryConfig,
    configured: &BudgetedSelection,
) -> Result<Budget, ManualError> {
    let recorded = context.store.point_durations(&repository.name, &context.target, AVERAGED_JOBS).await?;
    Ok(Budget { limit: configured.budget, canary: configured.canary.clone(), recorded })
}

async fn plan(
    context: &Context,
    repository: &RepositoryConfig,
    request: &ManualRequest,
    drawn: Drawn,
    resolved: &Resolved,
) -> Result<Planned, ManualError> {
    let Drawn { selection, budget, baseline, trigger } = drawn;
    let Resolved { sha, committed_at, branch, trust, first_parent, position } = resolved;
    let request = Request {
        position: *position,
        trust: *trust,
        checkout: repository.checkout.clone(),
        selection,
        remote: context.config.execution.remote.as_ref(),
        publish: match request.publish {
            AskedPublish::Configured => Publish::Configured,
            AskedPublish::Yes => Publish::Asked,
            AskedPublish::No => Publish::Never,
        },
        image_until: Some(context.clock.now() + repository.images.wait),
        priority: request.priority,
        repeats: request.repeats,
        budget,
        env: request.env.clone(),
        baseline,
        asked_by: request.asked_by.clone(),
        ..Request::new(repository, branch.clone(), sha.clone(), *committed_at, trigger, context.target.clone())
    };
    let mut planned = request.plan(&context.cache).await?;
    planned.run.commit.first_parent.clone_from(first_parent);
    Ok(planned)
}

fn measures(planned: &Planned, trust: Trust) -> Measures {
    let run = &planned.run;
    Measures {
        repository: run.commit.repository.clone(),
        branch: run.branch.clone(),
        sha: run.commit.sha.clone(),
        trust,
        baseline: run.terms.baseline.clone(),
        jobs: run.jobs.iter().map(|job| MeasuredJob { target: job.target.clone(), model: job.model.clone() }).collect(),
        left_out: run.terms.left_out.clone(),
        skipped: skipped(planned),
        kept_back: planned.kept_back.clone(),
    }
}

/// What is skipped though it was asked for.
fn skipped(planned: &Planned) -> Vec<Skipped> {
    let all = planned.plan.iter().flat_map(|plan| &plan.skipped);
    let asked_for = all.filter(|skipped| match skipped.reason {
        SkipReason::Model | SkipReason::Suite(_) => false,
        SkipReason::Devices { .. } | SkipReason::NotRead { .. } => true,
    });
    asked_for.cloned().collect()
}

pub(super) fn nothing_to_do(planned: &Planned, target: &Target) -> String {
    match (skipped(planned).first(), planned.run.terms.left_out.first()) {
        (Some(skipped), _) => format!("{} {}", skipped.benchmark, skipped.reason),
        (None, Some(_)) => "the budget has no room for any benchmark".to_owned(),
        (None, None) => format!("no benchmark is selected for {target}"),
    }
}
