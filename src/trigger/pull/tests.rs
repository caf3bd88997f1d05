//! The decisions, played forward without GitHub and without a store: whatever the order, one run for each head.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::decide::*;
use super::paths::Paths;
use crate::config::{DraftPolicy, ForkPolicy, PullRequestTrigger, SupersedeRunning, WithdrawnRunning};
use crate::model::{Asked, CommitSha, Origin, RunId, Standing};

fn sha(n: u8) -> CommitSha {
    format!("{n:040x}").parse().unwrap()
}

fn start() -> DateTime<Utc> {
    "2026-11-24T01:00:00Z".parse().unwrap()
}

/// A pull request, what is known of it, and what was said.
#[derive(Clone, Debug)]
struct Game {
    facts: Facts,
    known: Known,
    policy: PullRequestTrigger,
    now: DateTime<Utc>,
    /// The heads that somebody has approved.
    approved: Vec<CommitSha>,
    files: Vec<String>,
    said: Vec<String>,
    superseded: Vec<RunId>,
    withdrawn: Vec<(RunId, Unwanted)>,
    seen: Option<CommitSha>,
}

impl Game {
    fn new() -> Self {
        let facts = Facts {
            head: sha(1),
            standing: Standing::Ready,
            labels: [].into(),
            origin: Origin::Own,
            paths: None,
            approval: None,
        };
        Self {
            facts,
            known: Known { runs: Vec::new(), head_since: start(), said: None },
            policy: PullRequestTrigger { quiet_for: Duration::ZERO, ..PullRequestTrigger::default() },
            now: start(),
            approved: Vec::new(),
            files: vec!["a.py".to_owned()],
            said: Vec::new(),
            superseded: Vec::new(),
            withdrawn: Vec::new(),
            seen: None,
        }
    }

    fn labelled() -> Self {
        let mut game = Self::new();
        game.label("ready");
        game.label("perf-benchmarks");
        game
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn label(&mut self, name: &str) {
        self.facts.labels.insert(name.to_owned());
    }

    fn unlabel(&mut self, name: &str) {
        self.facts.labels.remove(name);
    }

    fn push(&mut self, n: u8) {
        self.facts.head = sha(n);
    }

    fn wait(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }

    /// Looks once, answering what is asked, and does what was decided.
    fn look(&mut self) -> Vec<Move> {
        if self.seen.as_ref() != Some(&self.facts.head) {
            self.seen = Some(self.facts.head.clone());
            self.known.head_since = self.now;
            self.known.said = None;
        }
        let mut facts = Facts { paths: None, approval: None, ..self.facts.clone() };
        let moves = loop {
            match decide(&facts, &self.known, &self.policy, self.now) {
                Decision::Moves(moves) => break moves,
                Decision::Ask(Question::Paths) => facts.paths = Some(Paths::listed(self.files.clone())),
                Decision::Ask(Question::Approval) => {
                    let approved = self.approved.contains(&facts.head);
                    facts.approval = Some(if approved { Approval::By("ann".to_owned()) } else { Approval::Missing });
                }
            }
        };
        for step in &moves {
            match step {
                Move::Submit => self.start(self.facts.head.clone(), Asked::Labels),
                Move::Supersede(run) => {
                    self.superseded.push(*run);
                    self.stage(*run, Stage::Withdrawn);
                }
                Move::Withdraw(run, why) => {
                    self.withdrawn.push((*run, why.clone()));
                    self.stage(*run, Stage::Withdrawn);
                }
                Move::Say(unwanted) => {
                    self.known.said = Some(unwanted.title());
                    self.said.push(unwanted.title());
                }
                Move::Unsay => {
                    self.known.said = None;
                    self.said.push("unsaid".to_owned());
                }
                Move::LookAgain(at) => assert!(*at > self.now),
            }
        }
        moves
    }

    fn start(&mut self, sha: CommitSha, asked: Asked) {
        let run = RunId::try_from(self.known.runs.len() as u64 + 1).unwrap();
        self.known.runs.push(KnownRun { run, sha, asked, stage: Stage::Waiting });
    }

    fn stage(&mut self, run: RunId, stage: Stage) {
        self.known.runs.iter_mut().find(|known| known.run == run).unwrap().stage = stage;
    }

    /// The newest run goes on.
    fn newest(&mut self, stage: Stage) {
        self.known.runs.last_mut().unwrap().stage = stage;
    }

    /// The runs as head and stage.
    fn runs(&self) -> Vec<(CommitSha, Stage)> {
        self.known.runs.iter().map(|run| (run.sha.clone(), run.stage)).collect()
    }
}

const HALF: Stage = Stage::Running { done_percent: 50 };
const MORE: Stage = Stage::Running { done_percent: 51 };

fn run(n: u64) -> RunId {
    RunId::try_from(n).unwrap()
}

#[test]
fn two_labels_in_any_order_doubled_and_replayed_start_one_run() {
    for order in [["ready", "perf-benchmarks"], ["perf-benchmarks", "ready"]] {
        let mut game = Game::new();
        assert_eq!(game.look(), [], "without a label there is nothing to say");
        game.label(order[0]);
        game.look();
        assert_eq!(game.look(), [], "what is said is said once");
        assert_eq!(game.said, [format!("waiting for label `{}`", order[1])]);
        game.label(order[1]);
        assert_eq!(game.look(), [Move::Submit]);
        for stage in [Stage::Waiting, HALF, MORE, Stage::Ended] {
            game.newest(stage);
            assert_eq!(game.look(), [], "{stage:?}");
        }
    }
    let one = Game::labelled().with(|game| game.policy.labels = vec!["ready".to_owned()]).look();
    assert_eq!(one, [Move::Submit]);
    let three = Game::labelled()
        .with(|game| game.policy.labels.extend(["a".to_owned(), "B".to_owned()]))
        .with(|game| game.label("b"))
        .look();
    assert_eq!(three, [Move::Say(Unwanted::Labels(vec!["a".to_owned(), "B".to_owned()]))], "names are exact");
}

#[test]
fn a_newer_head_takes_the_place_of_what_waits_and_of_what_is_not_half_done() {
    use SupersedeRunning::{Always, Never, UnlessHalfDone};
    for (stage, policy, gives_way) in [
        (Stage::Waiting, UnlessHalfDone, true),
        (Stage::Waiting, Never, true),
        (HALF, UnlessHalfDone, true),
        (MORE, UnlessHalfDone, false),
        (MORE, Always, true),
        (HALF, Never, false),
        (Stage::Ended, Always, false),
    ] {
        let mut game = Game::labelled().with(|game| game.policy.supersede_running = policy);
        game.look();
        game.newest(stage);
        game.push(2);
        let mut expected = vec![Move::Submit];
        if gives_way {
            expected.push(Move::Supersede(run(1)));
        }
        assert_eq!(game.look(), expected, "{stage:?} {policy:?}");
        assert_eq!(game.look(), []);
    }
}

#[test]
fn a_burst_of_pushes_is_measured_once_at_its_last() {
    let mut game = Game::labelled().with(|game| game.policy.quiet_for = Duration::from_secs(30));
    for n in 1..=5 {
        game.push(n);
        assert_eq!(game.look(), [Move::LookAgain(game.now + TimeDelta::seconds(30))]);
        game.wait(29);
        assert_eq!(game.look(), [Move::LookAgain(game.now + TimeDelta::seconds(1))]);
    }
    game.wait(1);
    assert_eq!(game.look(), [Move::Submit]);
    assert_eq!(game.runs(), [(sha(5), Stage::Waiting)]);
}

#[test]
fn a_head_that_comes_back_is_not_measured_again_unless_it_was_given_up() {
    let mut game = Game::labelled();
    game.look();
    game.newest(Stage::Ended);
    game.push(2);
    game.look();
    game.push(1);
    assert_eq!(game.look(), [Move::Supersede(run(2))], "the first head was measured");
    game.push(2);
    assert_eq!(game.look(), [Move::Submit], "the second one was not");
}

#[test]
fn what_is_not_wanted_any_more_is_ended_where_it_waits() {
    type Change = fn(&mut Game);
    let changes: [(Change, Unwanted); 5] = [
        (|game| game.unlabel("ready"), Unwanted::Labels(vec!["ready".to_owned()])),
        (|game| game.facts.labels.clear(), Unwanted::NoLabel),
        (|game| game.facts.standing = Standing::Closed, Unwanted::Closed),
        (|game| game.facts.standing = Standing::Merged, Unwanted::Merged),
        (|game| game.facts.standing = Standing::Draft, Unwanted::Draft),
    ];
    for (change, why) in &changes {
        for (stage, policy, ends) in [
            (Stage::Waiting, WithdrawnRunning::Finish, true),
            (HALF, WithdrawnRunning::Finish, false),
            (MORE, WithdrawnRunning::Cancel, true),
            (Stage::Ended, WithdrawnRunning::Cancel, false),
        ] {
            let mut game = Game::labelled().with(|game| game.policy.withdrawn_running = policy);
            game.look();
            game.newest(stage);
            change(&mut game);
            let expected = if ends { vec![Move::Withdraw(run(1), why.clone())] } else { vec![] };
            assert_eq!(game.look(), expected, "{why:?} {stage:?}: a head with a run needs no quiet check");
            assert_eq!(game.look(), []);
            // Wanted again: once more where it was ended, else nothing.
            game.label("ready");
            game.label("perf-benchmarks");
            game.facts.standing = Standing::Ready;
            let expected = if ends { vec![Move::Submit] } else { vec![] };
            assert_eq!(game.look(), expected, "{why:?} {stage:?}");
        }
    }
    assert!(changes[0].1.to_string().contains("`ready`"));
}

#[test]
fn a_run_that_a_person_cancelled_is_not_started_again_by_a_replay() {
    let mut game = Game::labelled();
    game.look();
    game.newest(Stage::Ended);
    for _ in 0..3 {
        assert_eq!(game.look(), []);
    }
}

#[test]
fn drafts_wait_until_they_are_ready_or_are_measured_as_configured() {
    let mut game = Game::labelled().with(|game| game.facts.standing = Standing::Draft);
    game.look();
    assert_eq!(game.said, ["waiting until it is ready for review"]);
    game.facts.standing = Standing::Ready;
    assert_eq!(game.look(), [Move::Submit]);
    let mut game = Game::labelled().with(|game| game.facts.standing = Standing::Draft);
    game.policy.drafts = DraftPolicy::Measure;
    assert_eq!(game.look(), [Move::Submit]);
    let mut quiet = Game::new().with(|game| game.facts.standing = Standing::Draft);
    assert_eq!(quiet.look(), [], "nobody asked for this one");
}

#[test]
fn forks_are_measured_as_configured() {
    let fork = |policy| Game::labelled().with(|game| (game.facts.origin, game.policy.forks) = (Origin::Fork, policy));
    let mut every = fork(ForkPolicy::EveryCommit);
    assert_eq!(every.look(), [Move::Submit]);
    every.push(2);
    assert_eq!(every.look(), [Move::Submit, Move::Supersede(run(1))]);

    let mut never = fork(ForkPolicy::Never);
    assert_eq!(never.look(), [Move::Say(Unwanted::Fork)]);
    assert_eq!(never.look(), []);
    never.facts.origin = Origin::Own;
    assert_eq!(never.look(), [Move::Submit], "it is about forks alone");

    let mut each = fork(ForkPolicy::ApproveEachCommit);
    assert_eq!(each.look(), [Move::Say(Unwanted::Unapproved)]);
    each.approved.push(sha(1));
    assert_eq!(each.look(), [Move::Submit]);
    each.push(2);
    assert_eq!(
        each.look(),
        [Move::Withdraw(run(1), Unwanted::HeadMoved), Move::Say(Unwanted::Unapproved)],
        "an approval is for one commit"
    );
    each.approved.push(sha(2));
    assert_eq!(each.look(), [Move::Submit]);
    each.approved.clear();
    assert_eq!(each.look(), [Move::Withdraw(run(2), Unwanted::Unapproved)], "who approved it may no more");
    each.approved.push(sha(2));
    each.look();
    each.newest(HALF);
    each.approved.clear();
    assert_eq!(each.look(), [], "what has begun goes on");
}

#[test]
fn a_change_that_needs_no_measurement_is_said_quietly() {
    let mut game = Game::labelled().with(|game| game.policy.ignore_paths = vec!["docs/**".to_owned()]);
    game.files = vec!["docs/a.md".to_owned()];
    assert_eq!(game.look(), [Move::Say(Unwanted::Paths)]);
    assert_eq!(game.look(), []);
    game.push(2);
    game.files.push("vllm/a.py".to_owned());
    assert_eq!(game.look(), [Move::Submit]);
    game.files.pop();
    assert_eq!(game.look(), [], "what was begun is not judged again");
    game.push(3);
    assert_eq!(game.look(), [Move::Withdraw(run(1), Unwanted::HeadMoved), Move::Say(Unwanted::Paths)]);
}

#[test]
fn the_quiet_check_follows_the_labels() {
    let mut game = Game::new();
    game.label("ready");
    game.look();
    game.unlabel("ready");
    game.look();
    game.label("perf-benchmarks");
    game.look();
    game.push(2);
    game.look();
    let said =
        ["waiting for label `perf-benchmarks`", "unsaid", "waiting for label `ready`", "waiting for label `ready`"];
    assert_eq!(game.said, said);
}

#[test]
fn what_a_command_started_stands_for_the_head_when_it_is_the_whole() {
    for (asked, expected) in [(Asked::Whole, vec![]), (Asked::Part, vec![Move::Submit])] {
        let mut game = Game::new();
        game.start(sha(1), asked);
        assert_eq!(game.look(), [], "it needs no labels");
        game.label("ready");
        game.label("perf-benchmarks");
        assert_eq!(game.look(), expected);
    }
    let mut game = Game::labelled();
    game.start(sha(1), Asked::Part);
    game.push(2);
    assert_eq!(game.look(), [Move::Submit, Move::Supersede(run(1))], "older heads give way whoever asked");
    let mut game = Game::new();
    game.start(sha(1), Asked::Whole);
    game.facts.standing = Standing::Closed;
    assert_eq!(game.look(), [Move::Withdraw(run(1), Unwanted::Closed)]);
}

#[test]
fn a_trigger_that_is_switched_off_ends_what_waits_and_says_nothing() {
    let mut game = Game::labelled();
    game.look();
    game.policy.enabled = false;
    assert_eq!(game.look(), [Move::Withdraw(run(1), Unwanted::Disabled)]);
    assert_eq!(game.said, Vec::<String>::new());
}

/// What may happen to a pull request between two looks.
#[derive(Clone, Debug)]
enum Happening {
    Label(bool),
    Unlabel(bool),
    Push(u8),
    Stand(Standing),
    Approve,
    Files(bool),
    Progress(u32),
    End,
    Wait(i64),
    Look,
}

fn happening() -> impl Strategy<Value = Happening> {
    let standing = prop_oneof![
        4 => Just(Standing::Ready),
        1 => Just(Standing::Draft),
        1 => Just(Standing::Closed),
        1 => Just(Standing::Merged)
    ];
    prop_oneof![
        4 => any::<bool>().prop_map(Happening::Label),
        1 => any::<bool>().prop_map(Happening::Unlabel),
        3 => (1..5_u8).prop_map(Happening::Push),
        2 => standing.prop_map(Happening::Stand),
        1 => Just(Happening::Approve),
        1 => any::<bool>().prop_map(Happening::Files),
        2 => (0..=100_u32).prop_map(Happening::Progress),
        2 => Just(Happening::End),
        2 => (0..60_i64).prop_map(Happening::Wait),
        6 => Just(Happening::Look),
    ]
}

fn policy() -> impl Strategy<Value = PullRequestTrigger> {
    let forks =
        prop_oneof![Just(ForkPolicy::EveryCommit), Just(ForkPolicy::ApproveEachCommit), Just(ForkPolicy::Never)];
    let running = prop_oneof![
        Just(SupersedeRunning::UnlessHalfDone),
        Just(SupersedeRunning::Always),
        Just(SupersedeRunning::Never)
    ];
    (forks, running, any::<bool>(), any::<bool>(), 0..60_u64).prop_map(|(forks, running, drafts, cancel, quiet)| {
        PullRequestTrigger {
            forks,
            supersede_running: running,
            drafts: if drafts { DraftPolicy::Measure } else { DraftPolicy::Skip },
            withdrawn_running: if cancel { WithdrawnRunning::Cancel } else { WithdrawnRunning::Finish },
            ignore_paths: vec!["docs/**".to_owned()],
            quiet_for: Duration::from_secs(quiet),
            ..PullRequestTrigger::default()
        }
    })
}

impl Game {
    fn happen(&mut self, happening: &Happening) {
        let label = |first: &bool| if *first { "ready" } else { "perf-benchmarks" };
        match happening {
            Happening::Label(first) => self.label(label(first)),
            Happening::Unlabel(first) => self.unlabel(label(first)),
            Happening::Push(n) => self.push(*n),
            Happening::Stand(standing) => self.facts.standing = *standing,
            Happening::Approve => self.approved.push(self.facts.head.clone()),
            Happening::Files(docs) => self.files = vec![if *docs { "docs/a" } else { "a" }.to_owned()],
            Happening::Progress(done_percent) => self.go_on(Stage::Running { done_percent: *done_percent }),
            Happening::End => self.go_on(Stage::Ended),
            Happening::Wait(seconds) => self.wait(*seconds),
            Happening::Look => drop(self.look()),
        }
        self.check();
    }

    fn go_on(&mut self, stage: Stage) {
        let open = |run: &&mut KnownRun| matches!(run.stage, Stage::Waiting | Stage::Running { .. });
        if let Some(run) = self.known.runs.iter_mut().find(open) {
            run.stage = stage;
        }
    }

    fn check(&self) {
        for run in &self.known.runs {
            let stands = |other: &&KnownRun| other.sha == run.sha && other.stage != Stage::Withdrawn;
            assert!(self.known.runs.iter().filter(stands).count() <= 1, "one run for each head: {:?}", self.runs());
        }
    }

    /// Looks until nothing is to come.
    fn settle(&mut self) {
        self.look();
        self.wait(61);
        self.look();
        assert_eq!(self.look(), [], "deciding twice changes nothing");
        let waits = |run: &&KnownRun| run.stage == Stage::Waiting && run.sha != self.facts.head;
        assert_eq!(self.known.runs.iter().find(waits), None, "nothing waits for an older head");
    }
}

proptest! {
    #[test]
    fn whatever_happens_there_is_one_run_for_each_head(
        policy in policy(),
        fork in any::<bool>(),
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut game = Game::new().with(|game| game.policy = policy);
        game.facts.origin = if fork { Origin::Fork } else { Origin::Own };
        for happening in &happenings {
            game.happen(happening);
        }
        game.settle();
        game.check();
    }

    #[test]
    fn the_order_of_looks_does_not_matter(
        policy in policy(),
        happenings in proptest::collection::vec(happening(), 0..20),
        looks in 1..6_usize,
    ) {
        // Everything has happened on GitHub before the first event of it arrives: however many arrive, in whatever
        // order, the runs are those of one look.
        let no_look = |happening: &&Happening| !matches!(happening, Happening::Look);
        let mut once = Game::new().with(|game| game.policy = policy);
        for happening in happenings.iter().filter(no_look) {
            once.happen(happening);
        }
        let mut often = once.clone();
        once.settle();
        for _ in 0..looks {
            often.look();
        }
        often.settle();
        prop_assert_eq!(once.runs(), often.runs());
        prop_assert_eq!(once.said, often.said);
    }
}
