//! When a commit is measured and how much of it: triggers and, for each, a selection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{SuiteKind, Variant};

use super::shape;

/// A kind of trigger that configuration speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerName {
    /// A time of the schedule.
    Schedule,
    /// Labels of a pull request.
    PullRequest,
    /// A merge into the branch.
    Merge,
    /// A release tag.
    Release,
    /// A person, by command line or API.
    Manual,
}

impl TriggerName {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Schedule, Self::PullRequest, Self::Merge, Self::Release, Self::Manual];
}

/// When a commit is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriggersConfig {
    /// Times at which the newest unmeasured commit is measured, in UTC, as cron expressions of 6 fields (seconds
    /// first) or 5. Default: `["0 0 */4 * * *"]`, every four hours. `[]`: never.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub schedule: Vec<String>,
    /// How the newest unmeasured commit is found.
    pub pick: PickConfig,
    /// Pull requests.
    pub pull_request: PullRequestTrigger,
    /// Merges into the branch.
    pub merge: MergeTrigger,
    /// Release tags.
    pub release: ReleaseTrigger,
    /// Runs that a person asks for.
    pub manual: ManualTrigger,
}

/// How the newest unmeasured commit of a branch is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PickConfig {
    /// How many commits of the branch are looked at, from its tip along first parents. Default: 100.
    pub look_back: u32,
    /// How often a commit is measured whose results are incomplete or missing, the first time included. Default: 2.
    pub times: u32,
    /// When registry or bucket cannot say whether a commit has an image or results: `wait` until they can, or
    /// `pass_over` that commit and take an older one. Default: `wait`.
    pub unknown: UnknownPolicy,
}

/// What is done about a commit that registry or bucket cannot speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPolicy {
    /// Nothing is picked until they can.
    #[default]
    Wait,
    /// An older commit is picked.
    PassOver,
}

/// Which pull requests are measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullRequestTrigger {
    /// Whether pull requests are measured at all. Default: true.
    pub enabled: bool,
    /// A pull request is measured while it has all these labels, by exact name. Default: `[perf-benchmarks, ready]`.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub labels: Vec<String>,
    /// What of forks is measured: `every_commit`, `approve_each_commit` or `never`. Default: `every_commit`.
    pub forks: ForkPolicy,
    /// A pull request whose changed files all match one of these globs (`docs/**`, `*.md`) is not measured.
    /// Default: none.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub ignore_paths: Vec<String>,
    /// Whether drafts are measured: `skip` or `measure`. Default: `skip`.
    pub drafts: DraftPolicy,
    /// A head is measured when no newer one came for this long, so that a burst of pushes is measured at its last.
    /// Default: `30s`.
    #[serde(with = "shape::duration")]
    pub quiet_for: Duration,
    /// Whether a newer head ends the run of an older one that has begun: `unless_half_done`, `always` or `never`.
    /// What only waits is always ended. Default: `unless_half_done`.
    pub supersede_running: SupersedeRunning,
    /// What becomes of a run that has begun when a label is taken away, the pull request is closed or becomes a draft:
    /// `finish` or `cancel`. What only waits is always ended. Default: `finish`.
    pub withdrawn_running: WithdrawnRunning,
    /// Commands in comments (`/benchd run`).
    pub commands: CommandsConfig,
}

/// Whether drafts are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DraftPolicy {
    /// Not before they are ready for review.
    #[default]
    Skip,
    /// Like others.
    Measure,
}

/// Whether a newer head ends the run of an older one that has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupersedeRunning {
    /// Unless more than half of it is done.
    #[default]
    UnlessHalfDone,
    /// Yes.
    Always,
    /// No, it finishes.
    Never,
}

/// What becomes of a run that has begun when nobody wants it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawnRunning {
    /// It finishes.
    #[default]
    Finish,
    /// It is cancelled.
    Cancel,
}

/// Who may give commands in comments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandsConfig {
    /// Whether commands are answered at all. Default: true.
    pub enabled: bool,
    /// The least permission in the repository that may give every command: `triage`, `write`, `maintain` or `admin`.
    /// Default: `write`.
    pub permission: CommandPermission,
    /// How often the author of a pull request may have a head measured again that was measured before. Default: 2.
    pub author_reruns: u32,
}

/// A permission in a repository, as GitHub names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandPermission {
    /// Labels, issues and pull requests.
    Triage,
    /// Pushes.
    #[default]
    Write,
    /// All but what destroys.
    Maintain,
    /// Everything.
    Admin,
}

/// What of a fork is measured. Its commits always run untrusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkPolicy {
    /// Every commit while the labels are there.
    #[default]
    EveryCommit,
    /// Only a commit that a maintainer has approved, each anew.
    ApproveEachCommit,
    /// Nothing.
    Never,
}

/// Whether merges are measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MergeTrigger {
    /// Whether each merge commit is measured. Default: true.
    pub enabled: bool,
    /// How many runs of merges may wait on a branch; with one more, the newest takes the place of all that wait.
    /// Default: 4.
    pub backlog: u32,
}

/// Which tags are measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReleaseTrigger {
    /// Whether release tags are measured. Default: true.
    pub enabled: bool,
    /// Which tags are releases (a glob). Default: `v*`.
    pub tags: String,
}

/// Whether people may ask for runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManualTrigger {
    /// Whether the API accepts runs. Default: true.
    pub enabled: bool,
    /// Environment variables of the suite that a request may set, by name. Default: none.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub env: Vec<String>,
    /// How often a request may have its benchmarks repeated. Default: 10.
    pub repeats: u32,
}

/// How much is measured, for each trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectionConfig {
    /// For the schedule. Default: everything.
    pub schedule: BudgetedSelection,
    /// For pull requests. Defaults that differ: `variants: [base]`, `budget: 90m`.
    #[serde(deserialize_with = "for_pull_requests")]
    pub pull_request: BudgetedSelection,
    /// For merges. Default: everything.
    pub merge: BudgetedSelection,
    /// For releases. Default: everything.
    pub release: BudgetedSelection,
    /// For runs that a person asks for. Default: everything; the request narrows it.
    pub manual: BudgetedSelection,
}

/// What is measured; an empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetedSelection {
    /// Platforms or device types, by their names. Default: `[]`, all.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub targets: Vec<String>,
    /// Models, in any case. Default: `[]`, all.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub models: Vec<String>,
    /// Suites: serving, latency, throughput, startup. Default: `[]`, all.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub suites: Vec<SuiteKind>,
    /// Variants: base, eager, `inductor_graph_partition`. Default: `[]`, all.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub variants: Vec<Variant>,
    /// Benchmarks that come first and are always measured, by name. Default: none.
    #[serde(deserialize_with = "shape::one_or_many")]
    pub canary: Vec<String>,
    /// Device time that a run may take on one target (`90m`, `none`); what does not fit is listed as left out.
    /// Default: `none`, no limit.
    #[serde(with = "shape::limit")]
    pub budget: Option<Duration>,
}

/// The keys of [`BudgetedSelection`] with the defaults of pull requests, also where only some keys are written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PullRequestSelection {
    #[serde(deserialize_with = "shape::one_or_many")]
    targets: Vec<String>,
    #[serde(deserialize_with = "shape::one_or_many")]
    models: Vec<String>,
    #[serde(deserialize_with = "shape::one_or_many")]
    suites: Vec<SuiteKind>,
    #[serde(deserialize_with = "shape::one_or_many")]
    variants: Vec<Variant>,
    #[serde(deserialize_with = "shape::one_or_many")]
    canary: Vec<String>,
    #[serde(with = "shape::limit")]
    budget: Option<Duration>,
}

impl Default for PullRequestSelection {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            models: Vec::new(),
            suites: Vec::new(),
            variants: vec![Variant::Base],
            canary: Vec::new(),
            budget: Some(Duration::from_secs(90 * 60)),
        }
    }
}

impl From<PullRequestSelection> for BudgetedSelection {
    fn from(keys: PullRequestSelection) -> Self {
        let PullRequestSelection { targets, models, suites, variants, canary, budget } = keys;
        Self { targets, models, suites, variants, canary, budget }
    }
}

fn for_pull_requests<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BudgetedSelection, D::Error> {
    PullRequestSelection::deserialize(deserializer).map(BudgetedSelection::from)
}

impl SelectionConfig {
    /// The selection of one trigger.
    pub fn of(&self, trigger: TriggerName) -> &BudgetedSelection {
        match trigger {
            TriggerName::Schedule => &self.schedule,
            TriggerName::PullRequest => &self.pull_request,
            TriggerName::Merge => &self.merge,
            TriggerName::Release => &self.release,
            TriggerName::Manual => &self.manual,
        }
    }
}

impl Default for TriggersConfig {
    fn default() -> Self {
        Self {
            schedule: vec!["0 0 */4 * * *".to_owned()],
            pick: PickConfig::default(),
            pull_request: PullRequestTrigger::default(),
            merge: MergeTrigger::default(),
            release: ReleaseTrigger::default(),
            manual: ManualTrigger::default(),
        }
    }
}

impl Default for PullRequestTrigger {
    fn default() -> Self {
        Self {
            enabled: true,
            labels: vec!["perf-benchmarks".to_owned(), "ready".to_owned()],
            forks: ForkPolicy::default(),
            ignore_paths: Vec::new(),
            drafts: DraftPolicy::default(),
            quiet_for: Duration::from_secs(30),
            supersede_running: SupersedeRunning::default(),
            withdrawn_running: WithdrawnRunning::default(),
            commands: CommandsConfig::default(),
        }
    }
}

impl Default for CommandsConfig {
    fn default() -> Self {
        Self { enabled: true, permission: CommandPermission::default(), author_reruns: 2 }
    }
}

impl Default for MergeTrigger {
    fn default() -> Self {
        Self { enabled: true, backlog: 4 }
    }
}

impl Default for ReleaseTrigger {
    fn default() -> Self {
        Self { enabled: true, tags: "v*".to_owned() }
    }
}

impl Default for PickConfig {
    fn default() -> Self {
        Self { look_back: 100, times: 2, unknown: UnknownPolicy::default() }
    }
}

impl Default for ManualTrigger {
    fn default() -> Self {
        Self { enabled: true, env: Vec::new(), repeats: 10 }
    }
}

impl Default for SelectionConfig {
    fn default() -> Self {
        Self {
            schedule: BudgetedSelection::default(),
            pull_request: PullRequestSelection::default().into(),
            merge: BudgetedSelection::default(),
            release: BudgetedSelection::default(),
            manual: BudgetedSelection::default(),
        }
    }
}
