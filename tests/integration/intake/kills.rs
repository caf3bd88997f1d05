//! `kill -9` around every lasting step between GitHub and benchd: nothing is lost, and nothing is done or told twice.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use benchd::step::Step;
use github_standin::{CommitSpec, DeliveryFault, Fault, PullRequest, PullSpec, Role};

use super::daemon::{Daemon, LOOK_EVERY, PATIENCE, Place, until};

/// How many daemons run side by side; most of their time they wait.
const SIDE_BY_SIDE: usize = 6;

/// The steps that are visited, each before and after.
const STEPS: [Step; 18] = [
    Step::FollowRepository,
    Step::KeepTip,
    Step::KeepTags,
    Step::KeepDeliveriesSeen,
    Step::KeepCommentsSeen,
    Step::MarkFound,
    Step::ForgetDeliveries,
    Step::StoreDelivery,
    Step::SettleLook,
    Step::MovePull,
    Step::MeasureMerges,
    Step::MeasureRelease,
    Step::AcknowledgeCommand,
    Step::AnswerCommand,
    Step::SettleAnswer,
    Step::BeginReport,
    Step::NoteReport,
    Step::SettleReport,
];

/// The points that are always visited: between a delivery and its run, and between a request and what is written down
/// of its answer: of the comment, the check, the reaction and the reply.
const CHOICE: [&str; 7] = [
    "after:store a delivery",
    "after:write down what follows for a pull request",
    "after:begin to tell",
    "before:write down what was told",
    "before:write down what was told#2",
    "before:settle an answer",
    "before:settle an answer#3",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_measured_after_a_kill() {
    let place = Place::new("1d");
    place.repo.commit("work", CommitSpec::new("faster"));
    let pull = place.repo.open(PullSpec::new("work").labels(&["perf-benchmarks"]));
    let daemon = place.start(None).await.unwrap();
    place.followed().await;
    // From now on GitHub's API does not answer, so that nothing can follow.
    place.gh.fault("GET", "/**", Fault::Status(502)).forever();
    pull.label("ready");
    place.gh.settled().await;
    assert_eq!(place.gh.deliveries().last().unwrap().status, Some(202));
    drop(daemon);

    // A reconcile would find it too: it fails, so that only the delivery is left.
    place.gh.clear_faults();
    place.gh.fault("GET", "/repos/*/*/pulls", Fault::Status(502)).forever();
    let again = place.start(None).await.unwrap();
    until("the head has a run", async || again.runs().await.iter().any(|run| run["sha"] == pull.head())).await;
    assert_eq!(again.runs().await.len(), 1);
}

#[test]
fn a_daemon_that_dies_at_a_step_measures_and_tells_once() {
    let mut points: Vec<String> = CHOICE.map(str::to_owned).to_vec();
    if std::env::var_os("BENCHD_TEST_EVERY_STEP").is_some() {
        let all = STEPS.iter().flat_map(|step| ["before", "after"].map(|side| format!("{side}:{step}")));
        points.extend(all.filter(|point| !CHOICE.contains(&point.as_str())));
    }
    let (points, next) = (&points, &AtomicUsize::new(0));
    let worker = || {
        let mut failed = Vec::new();
        while let Some(point) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let told = catch_unwind(|| runtime.block_on(async { Story::begin(point).await.tell().await }));
            failed.extend(told.is_err().then_some(point));
        }
        failed
    };
    let failed: Vec<&String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(failed, [""; 0], "each said above what was wrong");
}

/// A pull request from its labels to the end of its run, with a merge, a release and commands beside it, while the daemon
/// dies at one point and is started again.
struct Story {
    point: String,
    place: Place,
    pull: PullRequest,
    daemon: Option<Daemon>,
    died: bool,
}

impl Story {
    async fn begin(point: &str) -> Self {
        let place = Place::new("2s");
        place.repo.permit("ann", Role::Write);
        place.repo.commit("work", CommitSpec::new("faster"));
        let pull = place.repo.open(PullSpec::new("work").author("bob"));
        let daemon = place.start(Some(point)).await;
        Self { point: point.to_owned(), place, pull, daemon, died: false }
    }

    /// Waits until `done`, and starts the daemon again where it died.
    async fn until(&mut self, what: &str, done: impl AsyncFn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.daemon.as_mut().is_none_or(Daemon::is_dead) {
                assert!(!self.died, "{}: it died again", self.point);
                self.died = true;
                self.daemon = self.place.start(None).await;
            }
            if done(self).await {
                return;
            }
            assert!(Instant::now() < end, "{}: not within its time: {what}: {:#?}", self.point, self.written());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn measured(&self, sha: &str) -> bool {
        let Some(daemon) = &self.daemon else { return false };
        daemon.runs().await.iter().any(|run| run["sha"] == sha)
    }

    /// What benchd wrote on the pull request.
    fn written(&self) -> Vec<String> {
        let ours = self.pull.comments().into_iter().filter(|comment| comment.author == "benchd[bot]");
        ours.map(|comment| comment.body).collect()
    }

    async fn tell(mut self) {
        let point = self.point.clone();
        self.until("it follows", async |story| story.place.number("select count(*) from followed").await == 1).await;
        let first = self.place.repo.tip("main");
        self.pull.label("perf-benchmarks");
        // No webhook tells of the second label.
        self.place.gh.delivery_fault("pull_request", Some("labeled"), DeliveryFault::Lost, 1);
        self.pull.label("ready");
        let head = self.pull.head();
        self.until("the head is told of", async |story| {
            !story.written().is_empty() && story.place.repo.check_runs(&head).len() == 1
        })
        .await;
        let merged = self.place.repo.commit("main", CommitSpec::new("merged"));
        self.place.repo.tag("nightly", &first);
        self.place.repo.tag("v1.0", &first);
        self.until("merge and release have runs", async |story| {
            story.measured(&merged).await && story.measured(&first).await
        })
        .await;
        let asked = self.pull.by("ann").comment("/benchd status");
        self.until("the command is answered", async |story| story.written().len() == 2).await;
        let ended = self.pull.by("ann").comment("/benchd cancel");
        let over = async |story: &Self| {
            let owed = "select (select count(*) from outbox where state = 'owed')
                 + (select count(*) from answers where state = 'owed')";
            story.written()[0].starts_with("**Cancelled**") && story.place.number(owed).await == 0
        };
        self.until("the end is told", over).await;
        self.until("it dies", async |story| story.died).await;
        // What a start does, it has done.
        self.place.gh.forget_calls();
        self.until("it reconciles", async |story| story.place.gh.calls().to("GET", "/repos/*/*/pulls").count() > 2)
            .await;
        self.until("the end is told", over).await;

        let runs = self.daemon.as_ref().unwrap().runs().await;
        let mut shas: Vec<_> = runs.iter().map(|run| run["sha"].as_str().unwrap()).collect();
        shas.sort_unstable();
        let mut expected = [head.as_str(), &merged, &first];
        expected.sort_unstable();
        assert_eq!(shas, expected, "{point}");
        assert_eq!(self.written().len(), 2, "{point}: {:#?}", self.written());
        let checks = self.place.repo.check_runs(&head);
        assert_eq!((checks.len(), &checks[0]["conclusion"]), (1, &"cancelled".into()), "{point}");
        for comment in self.pull.comments().iter().filter(|comment| [asked, ended].contains(&comment.id)) {
            assert_eq!(comment.reactions, ["eyes", "+1"], "{point}");
        }
        self.place.gh.calls().writes().assert_serial();
    }
}
