//! `kill -9` before and after every lasting step: the daemon dies there, is started again, and the run must come to its
//! end as if nothing had happened: measured once, its log whole, its records in the bucket once, nothing left behind.
//!
//! `make faults` visits every step; without `BENCHD_TEST_EVERY_STEP` a choice of them is visited.

pub mod daemon;
mod load;
pub mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use benchd::step::Step;
use serde_json::Value;

use crate::engine::run::project::BUCKET;
use crate::support::stand_in::{StandIn, answer};
use daemon::{Case, Daemon, Started, assert_aborted};
use world::{World, assert_records};

/// How many daemons run side by side; most of their time they wait.
const SIDE_BY_SIDE: usize = 5;

/// What makes a process come to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// A run is asked for over the API and measured.
    Request,
    /// The same, and its image has to be pulled.
    Pull,
    /// The same, and its image appears late.
    LateImage,
    /// A daemon adopts the container of one that was killed.
    Adoption,
    /// Other records of the commit lie in the bucket.
    Replace,
    /// Records go to an upload API.
    Api,
    /// A schedule asks for the newest commit.
    Schedule,
    /// `benchd run` is killed, and a daemon goes on.
    Here,
    /// A run is told of its progress by the heartbeat of a job that takes long; also a verb.
    Progress,
    /// A stopped daemon gives its job back; also a verb.
    Stop,
    /// A verb of the queue or the store: `store::kills`.
    Verb,
    /// Tests of their own kill in between, not at each step: `intake::kills`, `told::faults`, `import`, `engine::daemon`.
    Own,
}

fn story(step: Step) -> Story {
    match step {
        Step::Migrate
        | Step::NoteRunner
        | Step::AcceptRequest
        | Step::QueueJob
        | Step::ClaimJob
        | Step::RecordImage
        | Step::ForgetImages
        | Step::PackWorkspace
        | Step::BeginPass
        | Step::KeepInput
        | Step::CreateContainer
        | Step::FillContainer
        | Step::StartContainer
        | Step::TakeResults
        | Step::KeepOutcome
        | Step::RemoveContainer
        | Step::EndPass
        | Step::FinishAttempt
        | Step::SettleRun
        | Step::PutObject
        | Step::SettleDelivery => Story::Request,
        Step::PullImage => Story::Pull,
        Step::NoteLook => Story::LateImage,
        Step::RenewLease => Story::Adoption,
        Step::ReplaceObject => Story::Replace,
        Step::SendRecords => Story::Api,
        Step::FollowSchedule | Step::RecordTick | Step::AnswerTick => Story::Schedule,
        Step::SubmitRun => Story::Here,
        Step::NoteProgress => Story::Progress,
        Step::GiveBack => Story::Stop,
        Step::SettleOverdue
        | Step::DrawIn
        | Step::CancelRun
        | Step::CancelJob
        | Step::SupersedeRun
        | Step::RetryRun
        | Step::RerunRun
        | Step::Pause
        | Step::Resume
        | Step::RemoveArtifacts
        | Step::ForgetArtifacts => Story::Verb,
        Step::ImportObject
        | Step::PostponeAnswer
        | Step::SettleAnswer
        | Step::KeepReport
        | Step::SettleReport
        | Step::NoteReport
        | Step::BeginReport
        | Step::AnswerCommand
        | Step::AcknowledgeCommand
        | Step::PostponeCommand
        | Step::StoreDelivery
        | Step::SettleLook
        | Step::KeepTip
        | Step::MeasureMerges
        | Step::PostponePull
        | Step::MovePull
        | Step::RefuseStart
        | Step::FollowRepository
        | Step::ForgetDeliveries
        | Step::KeepDeliveriesSeen
        | Step::KeepCommentsSeen
        | Step::MarkFound
        | Step::KeepTags
        | Step::MeasureRelease => Story::Own,
    }
}

/// The points that are always visited: one of each kind of step.
const CHOICE: [&str; 9] = [
    "before:accept a request",
    "after:accept a request",
    "after:claim a job",
    "after:create a container",
    "after:start a container",
    "after:keep the outcome of a pass",
    "before:finish an attempt",
    "after:put an object",
    "after:give a job back",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_dies_at_a_step_is_taken_up_where_it_was() {
    let every = std::env::var_os("BENCHD_TEST_EVERY_STEP").is_some();
    let world = Arc::new(World::new(1).await);
    let mut points = Vec::new();
    for step in Step::ALL {
        for side in ["before", "after"] {
            let point = format!("{side}:{step}");
            if !matches!(story(*step), Story::Verb | Story::Own) && (every || CHOICE.contains(&point.as_str())) {
                points.push((story(*step), point));
            }
        }
    }
    assert!(points.len() >= CHOICE.len());
    let (points, next) = (Arc::new(points), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..SIDE_BY_SIDE)
        .map(|_| {
            let (world, points, next) = (world.clone(), points.clone(), next.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while let Some((story, point)) = points.get(next.fetch_add(1, Ordering::SeqCst)).cloned() {
                    let (world, told) = (world.clone(), point.clone());
                    if tokio::spawn(async move { tell(&world, story, &told).await }).await.is_err() {
                        failed.push(point);
                    }
                }
                failed
            })
        })
        .collect();
    let mut failed = Vec::new();
    for worker in workers {
        failed.extend(worker.await.unwrap());
    }
    assert_eq!(failed, Vec::<String>::new(), "each said above what was wrong");
}

async fn tell(world: &World, story: Story, point: &str) {
    match story {
        Story::Request => {
            let case = Case::in_bucket(world, point, "engine", NO_SCHEDULE);
            let (daemon, run) = killed_at(&case, &[point], "configured").await;
            assert_told(&case, &daemon, run).await;
        }
        Story::Pull => {
            let images = point.replace([' ', ':'], "-");
            world.push(&images, &world.commits[0]).await;
            let case = Case::in_bucket(world, point, &images, NO_SCHEDULE);
            let (daemon, run) = killed_at(&case, &[point], "configured").await;
            assert_told(&case, &daemon, run).await;
        }
        Story::LateImage => {
            let images = point.replace([' ', ':'], "-");
            let case = Case::in_bucket(world, point, &images, NO_SCHEDULE);
            let (daemon, run) = killed_at(&case, &[point], "configured").await;
            world.push(&images, &world.commits[0]).await;
            assert_told(&case, &daemon, run).await;
        }
        Story::Adoption => {
            let case = Case::in_bucket(world, point, "engine", NO_SCHEDULE);
            let (daemon, run) = killed_at(&case, &["after:start a container", point], "configured").await;
            assert_told(&case, &daemon, run).await;
        }
        Story::Replace => {
            let case = Case::in_bucket(world, point, "engine", NO_SCHEDULE);
            let other = format!(
                "{}/v3/example/engine/main/{}/Test_CPU_4c/benchmark_results_tiny_model.json",
                case.name, world.commits[0]
            );
            let file = world.project.s3.file(BUCKET, &other);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "{}\n").unwrap();
            let (daemon, run) = killed_at(&case, &[point], "yes").await;
            assert_told(&case, &daemon, run).await;
        }
        Story::Api => {
            let accepted = Arc::new(AtomicUsize::new(0));
            let counted = accepted.clone();
            let api = StandIn::start(move |_asked| {
                let status = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 200 } else { 409 };
                async move { answer(status, &[("content-type", "application/json")], r#"{"message": "so it is"}"#) }
            })
            .await;
            let place = format!(
                "{{api: {{url: \"http://{}/upload\", username_env: AWS_ACCESS_KEY_ID, \
                 password_env: AWS_SECRET_ACCESS_KEY}}}}",
                api.host
            );
            let case = Case::new(world, point, "engine", &place, NO_SCHEDULE);
            let (daemon, run) = killed_at(&case, &[point], "configured").await;
            daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
            world.assert_whole(&case, &daemon, run).await;
            assert_eq!(world.events(run).await, ["start", "0"], "{point}");
            // Sent again where the answer was lost, and refused by the service as what it has.
            assert!((1..=2).contains(&api.asked().len()), "{point}");
        }
        Story::Schedule => {
            let case = Case::in_bucket(world, point, "engine", TWO_SCHEDULES);
            let at_start = point.ends_with("follow a schedule");
            if at_start {
                case.dies_at(point).await;
            }
            // An instant that fell into the time without a daemon is caught up.
            let daemon = case.listening().await;
            case.set_back("0 0 * * * *").await;
            daemon.kill();
            if !at_start {
                case.dies_at(point).await;
            }
            let daemon = case.listening().await;
            daemon.wait("/api/v1/runs", |runs| runs.as_array().is_some_and(|runs| runs.iter().any(ended))).await;
            case.set_back("0 30 * * * *").await;
            daemon.kill();
            let daemon = case.listening().await;
            // What is published is nothing new to the next one.
            let nothing_new = |tick: &Value| {
                tick["schedule"] == "0 30 * * * *"
                    && tick["answer"]["nothing_new"].as_array().is_some_and(|n| !n.is_empty())
            };
            let told = |told: &Value| told["latest"].as_array().is_some_and(|ticks| ticks.iter().any(nothing_new));
            daemon.wait("/api/v1/schedule", told).await;
            let run = daemon.runs().await[0]["id"].as_u64().unwrap();
            assert_told(&case, &daemon, run).await;
        }
        Story::Here => {
            let case = Case::in_bucket(world, point, "engine", NO_SCHEDULE);
            let checkout = world.project.path("checkout").display().to_string();
            let arguments = ["run", "--checkout", &checkout, "--variants", "base", "--commit", &world.commits[0]];
            let status = case.command(&arguments, Some(point)).status().unwrap();
            assert_aborted(status, point);
            if point.starts_with("before") {
                assert_eq!(case.command(&arguments, None).status().unwrap().code(), Some(0), "{point}");
            }
            let daemon = case.listening().await;
            let run = daemon.runs().await[0]["id"].as_u64().unwrap();
            assert_told(&case, &daemon, run).await;
        }
        Story::Progress => {
            // The lease is two minutes, and a third of it goes by before the first heartbeat.
            const LINES: usize = 2000;
            let mut world = World::new(0).await;
            world.commit(LINES).await;
            let case = Case::in_bucket(&world, point, "engine", NO_SCHEDULE);
            let (daemon, run) = killed_at(&case, &[point], "configured").await;
            assert_told_of(&case, &daemon, run, LINES, 1).await;
        }
        Story::Stop => {
            const LINES: usize = 400;
            let mut world = World::new(0).await;
            let sha = world.commit(LINES).await;
            let case = Case::in_bucket(&world, point, "engine", NO_SCHEDULE);
            case.configure("execution:", "execution:\n  on_stop: stop");
            let Started::Listens(daemon) = case.serve(Some(point)).await else { panic!("{point}: died at its start") };
            let (run, _) = daemon.submit("the-key", &sha, "configured").await.unwrap();
            case.until_printed(run, "line 3").await;
            daemon.terminate();
            daemon.dies(point).await;
            let daemon = case.listening().await;
            // Not given back: its container goes on. Given back: it is removed, and another one measures.
            let attempt = if point.starts_with("before") { 1 } else { 2 };
            assert_told_of(&case, &daemon, run, LINES, attempt).await;
        }
        Story::Verb | Story::Own => unreachable!("told elsewhere"),
    }
}

pub const NO_SCHEDULE: &str = "    triggers: {schedule: []}";
const TWO_SCHEDULES: &str = "    triggers: {schedule: [\"0 0 * * * *\", \"0 30 * * * *\"]}";

/// Asks for a run of the first commit while the daemon dies at one point after the other; the daemon that is left
/// alive, and the run. Whoever asked repeats the request with its key until it has an answer.
async fn killed_at(case: &Case<'_>, points: &[&str], publish: &str) -> (Daemon, u64) {
    let sha = &case.world.commits[0];
    let mut accepted = None;
    for point in points {
        match case.serve(Some(point)).await {
            Started::Listens(daemon) => {
                if accepted.is_none() {
                    accepted = daemon.submit("the-key", sha, publish).await.map(|(run, _)| run);
                }
                daemon.dies(point).await;
            }
            Started::Died(status) => assert_aborted(status, point),
        }
    }
    let daemon = case.listening().await;
    let (run, answer) = daemon.submit("the-key", sha, publish).await.unwrap();
    if let Some(accepted) = accepted {
        assert_eq!((run, answer.as_str()), (accepted, "existing"), "{}: an accepted request is forgotten", case.name);
    }
    (daemon, run)
}

/// Waits for the end of the case's only run and looks at everything that it should have left, and should not.
async fn assert_told(case: &Case<'_>, daemon: &Daemon, run: u64) {
    assert_told_of(case, daemon, run, world::LINES, 1).await;
}

/// The same of a suite with another number of lines, measured by the container of the `attempt`-th and last attempt.
async fn assert_told_of(case: &Case<'_>, daemon: &Daemon, run: u64, lines: usize, attempt: usize) {
    let world = case.world;
    daemon.wait(&format!("/api/v1/runs/{run}"), ended).await;
    assert_eq!(daemon.runs().await.len(), 1, "{}", case.name);
    world.assert_whole_of(case, daemon, run, lines, attempt).await;
    let broken_off = ["start", "137"].repeat(attempt - 1);
    assert_eq!(world.events(run).await, [&broken_off[..], &["start", "0"]].concat(), "{}: measured once", case.name);
    let objects = world.objects(&case.name);
    assert_eq!(objects.len(), 1, "{}: {objects:?}", case.name);
    assert_records(&objects[0].1, &case.name);
    assert_eq!(world.puts(&case.name), 1, "{}: put once", case.name);
}

pub fn ended(run: &Value) -> bool {
    ["published", "failed", "cancelled", "superseded"].iter().any(|state| run["state"] == *state)
}
