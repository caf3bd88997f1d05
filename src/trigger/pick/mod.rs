//! The newest commit of a branch that has an image and no results yet, for one target and model. What is known of each
//! commit is asked lazily and outside; what follows from it is decided here, purely.

mod ask;
mod standing;
#[cfg(test)]
mod tests;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use ask::{PickError, Picker};
pub use standing::{Standing, standing};

use super::source::Candidate;
use crate::config::UnknownPolicy;
use crate::model::{CommitSha, RunId, Target};

/// What is known of one commit. A fact that nobody has asked for yet is `Unasked`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What this store says.
    pub standing: Standing,
    /// Whether its image is there.
    pub image: Fact<Image>,
    /// Where its results lie already, if anywhere.
    pub object: Fact<Option<String>>,
}

/// Something that is asked of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// Nobody has asked.
    Unasked,
    /// The answer.
    Known(T),
    /// Neither yes nor no, and why.
    Failed(String),
}

/// Whether a commit has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// It has.
    Present,
    /// It has not (yet); the reference, where one could be named.
    Absent(Option<String>),
}

/// A question about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is its image there?
    Image,
    /// Do its results lie in a bucket?
    Object,
}

/// What follows from the facts so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These must be known, each of the commit at that index.
    Ask(Vec<(usize, Question)>),
    /// Nothing more must be known.
    Answer(Decision),
}

/// Which commit, by its index, and what was passed over on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The outcome.
    pub outcome: DecidedOutcome,
    /// Newer commits that were passed over, newest first.
    pub passed: Vec<(usize, Reason)>,
}

/// The outcome of a decision, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecidedOutcome {
    /// This commit is to be measured.
    Found(usize),
    /// This commit is to be measured again: our own incomplete results of it are to be replaced.
    FoundAgain(usize),
    /// This commit is the one, and it is being measured.
    InHand(usize, RunId),
    /// Every commit was passed over.
    NothingNew,
    /// It cannot be said whether this commit is the one.
    Unknown(usize, String),
}

/// Why a commit was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// This store has its results.
    Measured {
        /// In this run.
        run: RunId,
    },
    /// Its results lie in a bucket.
    Published {
        /// There.
        object: String,
    },
    /// It has no image (yet).
    NoImage {
        /// Under this name.
        image: Option<String>,
    },
    /// It was measured as often as it may be, without complete results.
    GivenUp {
        /// The last time in this run.
        run: RunId,
        /// How that ended.
        conclusion: String,
    },
    /// Registry or bucket could not speak of it, and configuration says to go on.
    Unknown {
        /// What they said.
        error: String,
    },
}

/// The answer for one target and model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pick {
    /// On what.
    pub target: Target,
    /// The model in lower case.
    pub model: String,
    /// What is to be measured.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Newer commits that were passed over, newest first, and why.
    pub passed_over: Vec<PassedOver>,
}

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// This commit.
    Found {
        /// Which.
        sha: CommitSha,
        /// When it was committed.
        committed_at: DateTime<Utc>,
        /// How many commits of the branch are newer.
        behind: usize,
        /// Whether our own incomplete results of it are published and are to be replaced.
        replaces_own: bool,
    },
    /// Nothing.
    NothingNew {
        /// The commit that would be the one, were it not being measured already.
        #[serde(skip_serializing_if = "Option::is_none")]
        in_hand: Option<InHand>,
    },
    /// It cannot be said.
    Unknown {
        /// Because of this commit.
        sha: CommitSha,
        /// What registry or bucket said.
        error: String,
    },
}

/// A commit that is being measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InHand {
    /// Which.
    pub sha: CommitSha,
    /// By this run.
    pub run: RunId,
}

/// A commit that was not picked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Which.
    pub sha: CommitSha,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
}

/// What one commit comes to.
enum Verdict {
    Free,
    Again,
    InHand(RunId),
    Passed(Reason),
    Unknown(String),
    Ask(Question),
}

impl Facts {
    /// A commit that stands so in the store, and of which nothing else is known.
    pub fn new(standing: Standing) -> Self {
        Self { standing, image: Fact::Unasked, object: Fact::Unasked }
    }

    fn verdict(&self) -> Verdict {
        let replaces_own = match &self.standing {
            Standing::Measured { run } => return Verdict::Passed(Reason::Measured { run: *run }),
            Standing::InHand { run } => return Verdict::InHand(*run),
            Standing::GivenUp { run, conclusion } => {
                return Verdict::Passed(Reason::GivenUp { run: *run, conclusion: conclusion.to_string() });
            }
            Standing::Unmeasured => false,
            Standing::MayRepeat { uploaded } => *uploaded,
        };
        match (&self.image, &self.object) {
            (Fact::Unasked, _) => Verdict::Ask(Question::Image),
            (Fact::Known(Image::Absent(image)), _) => Verdict::Passed(Reason::NoImage { image: image.clone() }),
            (Fact::Known(Image::Present), _) if replaces_own => Verdict::Again,
            (Fact::Failed(error), _) if replaces_own => Verdict::Unknown(error.clone()),
            // Results that lie there settle it, whatever became of the image.
            (Fact::Known(Image::Present) | Fact::Failed(_), Fact::Unasked) => Verdict::Ask(Question::Object),
            (Fact::Known(Image::Present) | Fact::Failed(_), Fact::Known(Some(object))) => {
                Verdict::Passed(Reason::Published { object: object.clone() })
            }
            (Fact::Known(Image::Present), Fact::Known(None)) => Verdict::Free,
            (Fact::Known(Image::Present), Fact::Failed(error)) | (Fact::Failed(error), _) => {
                Verdict::Unknown(error.clone())
            }
        }
    }
}

/// What follows from the facts of a branch's commits, newest first. As many questions are asked at once as commits were
/// passed over so far, `most_ahead` at most: most often the newest commit is the one, and then no question is wasted.
pub fn decide(facts: &[Facts], unknown: UnknownPolicy, most_ahead: usize) -> Step {
    let mut passed = Vec::new();
    let mut questions = Vec::new();
    for (index, commit) in facts.iter().enumerate() {
        let outcome = match (commit.verdict(), unknown) {
            (Verdict::Ask(question), _) => {
                questions.push((index, question));
                if questions.len() >= passed.len().min(most_ahead).max(1) {
                    break;
                }
                continue;
            }
            (Verdict::Passed(reason), _) => {
                passed.push((index, reason));
                continue;
            }
            (Verdict::Unknown(error), UnknownPolicy::PassOver) => {
                passed.push((index, Reason::Unknown { error }));
                continue;
            }
            (Verdict::Unknown(error), UnknownPolicy::Wait) => DecidedOutcome::Unknown(index, error),
            (Verdict::Free, _) => DecidedOutcome::Found(index),
            (Verdict::Again, _) => DecidedOutcome::FoundAgain(index),
            (Verdict::InHand(run), _) => DecidedOutcome::InHand(index, run),
        };
        // Older commits matter only when every newer one is passed over, which the open questions decide.
        if questions.is_empty() {
            return Step::Answer(Decision { outcome, passed });
        }
        break;
    }
    if questions.is_empty() {
        Step::Answer(Decision { outcome: DecidedOutcome::NothingNew, passed })
    } else {
        Step::Ask(questions)
    }
}

fn found(commits: &[Candidate], index: usize, replaces_own: bool) -> Option<Outcome> {
    let Candidate { sha, committed_at, .. } = commits.get(index)?;
    Some(Outcome::Found { sha: sha.clone(), committed_at: *committed_at, behind: index, replaces_own })
}

impl Decision {
    /// The decision with its commits named.
    fn name(self, commits: &[Candidate]) -> (Outcome, Vec<PassedOver>) {
        let sha = |index: usize| commits.get(index).map(|commit| commit.sha.clone());
        let passed = self.passed.into_iter();
        let passed = passed.filter_map(|(index, reason)| Some(PassedOver { sha: sha(index)?, reason })).collect();
        let nothing = Outcome::NothingNew { in_hand: None };
        let outcome = match self.outcome {
            DecidedOutcome::NothingNew => nothing,
            DecidedOutcome::Found(index) => found(commits, index, false).unwrap_or(nothing),
            DecidedOutcome::FoundAgain(index) => found(commits, index, true).unwrap_or(nothing),
            DecidedOutcome::InHand(index, run) => {
                Outcome::NothingNew { in_hand: sha(index).map(|sha| InHand { sha, run }) }
            }
            DecidedOutcome::Unknown(index, error) => sha(index).map_or(nothing, |sha| Outcome::Unknown { sha, error }),
        };
        (outcome, passed)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured { run } => write!(f, "measured by run {run}"),
            Self::Published { object } => write!(f, "its results lie at {object}"),
            Self::NoImage { image: Some(image) } => write!(f, "no image {image}"),
            Self::NoImage { image: None } => f.write_str("the image look-up knows none"),
            Self::GivenUp { run, conclusion } => {
                write!(f, "measured often enough, the last time by run {run}: {conclusion}")
            }
            Self::Unknown { error } => write!(f, "passed over as configured: {error}"),
        }
    }
}
