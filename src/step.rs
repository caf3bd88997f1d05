//! Everything lasting that benchd does to its store, its disk, the engine and object stores, by name. Between two of
//! these steps a process may be killed; in debug builds it can be told to die at any of them, so that a test visits all.

use std::fmt;

/// Declares the steps once: the enum, the list of all and their names.
macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal,)*) => {
        /// A lasting step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            /// All steps.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// What is done, for errors and tests: "claim a job".
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }
        }
    };
}

steps! {
    /// The tables are brought up to date.
    Migrate = "migrate the store",
    /// A run of a person at this host stands in the queue.
    SubmitRun = "submit a run",
    /// A request over the API stands in the queue, with its key.
    AcceptRequest = "accept a request",
    /// A schedule is followed from now on.
    FollowSchedule = "follow a schedule",
    /// An instant of a schedule is due.
    RecordTick = "record a tick",
    /// An instant of a schedule has its answer and its runs.
    AnswerTick = "answer a tick",
    /// An image was looked for.
    NoteLook = "note a look for an image",
    /// An image was found.
    QueueJob = "queue a job",
    /// A job has a runner.
    ClaimJob = "claim a job",
    /// A runner keeps its job.
    RenewLease = "renew a lease",
    /// The engine has an image that benchd pulled.
    PullImage = "pull an image",
    /// An image that benchd pulled is its to prune.
    RecordImage = "record an image",
    /// Pruned images are forgotten.
    ForgetImages = "forget pruned images",
    /// The repository lies beside the artifacts.
    PackWorkspace = "pack the workspace",
    /// A pass stands in the store.
    BeginPass = "begin a pass",
    /// What a pass is given lies among the artifacts.
    KeepInput = "keep the input of a pass",
    /// The container is there.
    CreateContainer = "create a container",
    /// The container holds its files.
    FillContainer = "fill a container",
    /// The container runs.
    StartContainer = "start a container",
    /// The results lie among the artifacts.
    TakeResults = "take the results",
    /// How the pass ended lies among the artifacts.
    KeepOutcome = "keep the outcome of a pass",
    /// The container is gone.
    RemoveContainer = "remove a container",
    /// What a pass measured stands in the store.
    EndPass = "end a pass",
    /// An attempt has its conclusion, and what follows from it.
    FinishAttempt = "finish an attempt",
    /// A run moved by what its jobs say.
    SettleRun = "settle a run",
    /// A job without a runner or an image moved.
    SettleOverdue = "settle an overdue job",
    /// Instants that a step of the clock left far ahead are near again.
    DrawIn = "draw in what lies too far ahead",
    /// Records lie where nothing was.
    PutObject = "put an object",
    /// Records lie where others were.
    ReplaceObject = "replace an object",
    /// An upload API has the records.
    SendRecords = "send records to an upload API",
    /// What became of a delivery is written down.
    SettleDelivery = "settle a delivery",
    /// A run is stopped.
    CancelRun = "cancel a run",
    /// A job is stopped.
    CancelJob = "cancel a job",
    /// A run gave way to another one.
    SupersedeRun = "supersede a run",
    /// Failed jobs wait again.
    RetryRun = "retry a run",
    /// A commit is measured once more.
    RerunRun = "rerun a run",
    /// Something is paused.
    Pause = "pause",
    /// A pause is over.
    Resume = "resume",
    /// The files of an old attempt are gone.
    RemoveArtifacts = "remove old artifacts",
    /// The store knows that they are gone.
    ForgetArtifacts = "forget artifacts",
    /// An imported object's results stand in the store.
    ImportObject = "import an object",
    /// An answer on a pull request is tried again later.
    PostponeAnswer = "postpone an answer",
    /// An answer on a pull request was given or refused.
    SettleAnswer = "settle an answer",
    /// What a pull request is owed is not told.
    KeepReport = "keep what is not to be told",
    /// What a pull request was owed is told.
    SettleReport = "settle what a pull request was owed",
    /// What a pull request was told stands in the store.
    NoteReport = "write down what was told",
    /// A comment or check is about to be made.
    BeginReport = "begin to tell",
    /// A runner has told what it offers.
    NoteRunner = "note a runner",
    /// A pass has come to another point.
    NoteProgress = "note progress",
    /// A job that was broken off waits again.
    GiveBack = "give a job back",
    /// A command on a pull request is done.
    AnswerCommand = "answer a command",
    /// A command on a pull request was seen.
    AcknowledgeCommand = "acknowledge a command",
    /// A command is looked at again.
    PostponeCommand = "look at a command again",
    /// A delivery of a webhook and what it marks are kept.
    StoreDelivery = "store a delivery",
    /// Something on GitHub was looked at.
    SettleLook = "settle a look",
    /// The tip of a branch is known.
    KeepTip = "keep the tip of a branch",
    /// New commits of a branch have their runs.
    MeasureMerges = "measure merges",
    /// A pull request is looked at again.
    PostponePull = "look at a pull request again",
    /// What follows for a pull request stands in the store.
    MovePull = "write down what follows for a pull request",
    /// A run whose approval is gone is ended.
    RefuseStart = "end a run that may not start",
    /// A repository is followed from now on.
    FollowRepository = "follow a repository",
    /// Old deliveries are forgotten.
    ForgetDeliveries = "forget old deliveries",
    /// No delivery is open up to here.
    KeepDeliveriesSeen = "keep up to where deliveries were seen",
    /// Comments are read up to here.
    KeepCommentsSeen = "keep up to where comments were read",
    /// What a reconcile found is marked.
    MarkFound = "mark what a reconcile found",
    /// The tags of a repository are known.
    KeepTags = "write down tags",
    /// A release tag has its run.
    MeasureRelease = "measure a release",
}

impl Step {
    /// Does the work that makes the step.
    pub async fn take<T>(self, work: impl Future<Output = T>) -> T {
        self.begins();
        let done = work.await;
        self.ended();
        done
    }

    /// As [`Step::take`], for work that blocks.
    pub fn take_blocking<T>(self, work: impl FnOnce() -> T) -> T {
        self.begins();
        let done = work();
        self.ended();
        done
    }

    #[cfg(debug_assertions)]
    fn begins(self) {
        abort::reached(abort::Side::Before, self);
    }

    #[cfg(debug_assertions)]
    fn ended(self) {
        abort::reached(abort::Side::After, self);
    }

    #[cfg(not(debug_assertions))]
    fn begins(self) {}

    #[cfg(not(debug_assertions))]
    fn ended(self) {}
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Dying on request: in no build that measures.
#[cfg(debug_assertions)]
pub mod abort {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Step;

    /// Before or after a step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Side {
        /// Nothing of it is done.
        Before,
        /// All of it is done, and nobody was told.
        After,
    }

    /// Where the process dies: `before:claim a job`, `after:put an object#2` the second time.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Point {
        /// On which side.
        pub side: Side,
        /// Of which step.
        pub step: Step,
        /// How often it was reached then, from 1.
        pub time: u32,
    }

    /// The text names no point.
    #[derive(Debug, thiserror::Error)]
    #[error("`{0}` is no point to abort at: before:STEP or after:STEP, with #N for the N-th time")]
    pub struct InvalidPoint(String);

    static POINT: OnceLock<Point> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);

    /// Lets this process abort at `point`; the first call counts.
    pub fn at(point: Point) {
        POINT.get_or_init(|| point);
    }

    pub(super) fn reached(side: Side, step: Step) {
        let Some(point) = POINT.get() else { return };
        if (point.side, point.step) == (side, step) && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == point.time {
            std::process::abort();
        }
    }

    impl FromStr for Point {
        type Err = InvalidPoint;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            let invalid = || InvalidPoint(text.to_owned());
            let (side, rest) = text.split_once(':').ok_or_else(invalid)?;
            let side = match side {
                "before" => Side::Before,
                "after" => Side::After,
                _ => return Err(invalid()),
            };
            let (name, time) = match rest.split_once('#') {
                Some((name, time)) => (name, time.parse().map_err(|_not_a_number| invalid())?),
                None => (rest, 1),
            };
            let step = Step::ALL.iter().find(|step| step.name() == name);
            Ok(Self { side, step: *step.ok_or_else(invalid)?, time })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::abort::{Point, Side};
    use super::*;

    #[test]
    fn names_are_unique_and_name_points() {
        let names: std::collections::BTreeSet<_> = Step::ALL.iter().map(|step| step.name()).collect();
        assert_eq!(names.len(), Step::ALL.len());
        for step in Step::ALL {
            let point: Point = format!("after:{step}#3").parse().unwrap();
            assert_eq!(point, Point { side: Side::After, step: *step, time: 3 });
        }
        for wrong in ["", "claim a job", "during:claim a job", "before:nothing", "before:claim a job#x"] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong}");
        }
    }
}
