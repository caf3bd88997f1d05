//! Schedules and manual requests with a real store and queue, and GitHub, registry and bucket on the wire.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use benchd::clock::Clock;
use benchd::config::{Config, RemoteService};
use benchd::github::GitHub;
use benchd::model::{Conclusion, Control, JobPhase, JobState, RunId, Trigger};
use benchd::queue::spec::{JobSpec, Trust};
use benchd::queue::{Pace, Queue, Retried, Waiting};
use benchd::registry::{Registry, RegistrySettings};
use benchd::step::Step;
use benchd::store::{Outcome, OwedKind, Recorded, RunFilter, Scope, Store, TickKey, TickState};
use benchd::trigger::Context;
use benchd::trigger::manual::{AskedPublish, Blame, ManualAnswer, ManualError, ManualRequest, submit};
use benchd::trigger::schedule::{ScheduleError, catch_up, configured, look, run};
use benchd::trigger::tick::{Answered, answer_tick};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use crate::commit_select::{World, cases, image, key, shas, texts};
use crate::support::history::{StandInCommit, StandInHistory, sha};

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-11-24T{text}Z").parse().unwrap()
}

/// A daemon's triggers in a world of three commits, the newest of which has no image.
pub struct Daemon {
    pub world: World,
    pub context: Context,
    pub clock: Clock,
}

impl Daemon {
    pub async fn new(more: &str) -> Self {
        let all = shas(3);
        let images = all.iter().skip(1).map(|sha| image(sha)).collect();
        let mut history = StandInHistory::linear(&all, "main");
        // A fork's commit, readable under the repository's name.
        history.commits.push(StandInCommit { sha: sha(100), parents: vec![sha(1)] });
        history.pulls.insert(7, (sha(100), "somebody/vllm".to_owned(), "patch".to_owned()));
        history.refs.extend([("heads/main".to_owned(), sha(0)), ("tags/v1".to_owned(), sha(2))]);
        Self::in_world(World::new(history, images, &[]).await, more).await
    }

    async fn in_world(world: World, more: &str) -> Self {
        world.configure("cuda", "", "m", more);
        let config = Config::load(&world.dir.path().join("benchd.yaml")).unwrap();
        let clock = Clock::manual(at("01:00:00"));
        let context = Self::context(&world, config, &clock).await;
        Self { world, context, clock }
    }

    async fn context(world: &World, config: Config, clock: &Clock) -> Context {
        let store = Store::open(&config.state_dir).await.unwrap();
        let mut settings = RegistrySettings::configured(&config.registries).unwrap();
        settings.docker_config = None;
        settings.backoff = Duration::from_millis(1);
        Context {
            queue: Queue::new(store.clone(), clock.clone(), Pace::default()),
            store,
            github: Some(GitHub::connect(&format!("http://{}", world.github.host), None).unwrap()),
            registry: Arc::new(Registry::new(settings).unwrap()),
            clock: clock.clone(),
            target: "cuda:X:2".parse().unwrap(),
            cache: PathBuf::from("/nonexistent"),
            config: Arc::new(config),
        }
    }

    fn go_to(&self, time: &str) {
        self.clock.advance(at(time) - self.clock.now());
    }

    /// Where a commit stands on the branch, as rows say.
    async fn place(&self, sha: &str) -> Option<u32> {
        let database = self.context.config.state_dir.join("benchd.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        let statement = "select position from branch_commits where branch = 'main' and sha = ?1";
        sqlx::query_scalar(statement).bind(sha).fetch_optional(&mut connection).await.unwrap()
    }

    async fn look(&self) {
        look(&self.context, &configured(&self.context.config).unwrap()).await.unwrap();
    }

    async fn runs(&self) -> Vec<RunId> {
        let runs = self.context.store.list_runs(100, &RunFilter::default()).await.unwrap();
        runs.into_iter().map(|summary| summary.run.id).collect()
    }

    /// The answers so far, newest first.
    async fn answers(&self) -> Vec<(String, Value)> {
        let ticks = self.context.store.latest_ticks(100).await.unwrap();
        let state = |state| match state {
            TickState::Due { next_at } => format!("due {}", next_at.format("%H:%M")),
            TickState::Answered { .. } => "answered".to_owned(),
            TickState::Overtaken { .. } => "overtaken".to_owned(),
        };
        ticks.into_iter().map(|tick| (state(tick.state), tick.answer.unwrap_or_default())).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_measures_the_newest_commit_with_an_image_once() {
    let daemon = Daemon::new("").await;
    daemon.look().await;
    assert_eq!(daemon.answers().await, [], "nothing was due before the schedule was followed");
    daemon.go_to("04:00:01");
    daemon.look().await;
    daemon.look().await;
    let [run] = daemon.runs().await[..] else { panic!("{:?}", daemon.answers().await) };
    let detail = daemon.context.store.run_detail(run).await.unwrap().unwrap();
    assert_eq!((detail.run.sha.as_str(), &detail.run.trigger), (&*sha(1), &Trigger::Schedule));
    assert_eq!((detail.jobs.len(), detail.run.terms.scope), (1, Scope::Full));
    let answers = daemon.answers().await;
    assert_eq!((answers.len(), answers[0].0.as_str()), (1, "answered"));
    assert_eq!(answers[0].1["runs"], json!([{"run": run, "branch": "main", "sha": sha(1), "models": ["m"]}]));

    // All that was read has a place on the branch, in the branch's order.
    let mut places = Vec::new();
    for commit in shas(3) {
        places.push(daemon.place(&commit).await);
    }
    assert!(places.iter().all(Option::is_some) && places.is_sorted_by(|newer, older| newer > older), "{places:?}");

    // While it is being measured the next tick finds nothing new, though an older commit is unmeasured.
    daemon.go_to("08:00:00");
    daemon.look().await;
    let answers = daemon.answers().await;
    assert_eq!(answers[0].1["nothing_new"][0]["in_hand"], json!({"sha": sha(1), "run": run}));
    assert_eq!(daemon.runs().await, [run]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_missed_while_down_are_caught_up_once_and_a_stepping_clock_doubles_nothing() {
    let daemon = Daemon::new("").await;
    daemon.look().await;
    daemon.go_to("13:00:00");
    daemon.look().await;
    assert_eq!(daemon.answers().await.len(), 1, "of 4, 8 and 12 o'clock the last");
    for time in ["12:00:00", "11:59:00", "12:30:00", "13:30:00"] {
        daemon.go_to(time);
        daemon.look().await;
    }
    let due: Vec<_> =
        daemon.context.store.latest_ticks(9).await.unwrap().into_iter().map(|tick| tick.key.due_at).collect();
    assert_eq!(due, [at("12:00:00"), at("08:00:00")], "8 o'clock, as 12 has not yet been when the clock says 11:59");
    assert_eq!(daemon.runs().await.len(), 1);
    daemon.clock.advance(TimeDelta::days(1));
    daemon.look().await;
    assert_eq!(daemon.answers().await.len(), 3, "a day in one step is one tick");
    assert_eq!(daemon.runs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_said_is_tried_again_until_the_next_tick() {
    let all = shas(2);
    let images = [format!("{}!", image(&all[0])), image(&all[1])].into();
    let world = World::new(StandInHistory::linear(&all, "main"), images, &[]).await;
    let daemon = Daemon::in_world(world, "").await;
    daemon.look().await;
    daemon.go_to("04:00:00");
    daemon.look().await;
    let answers = daemon.answers().await;
    assert_eq!(answers[0].0, "due 04:01");
    assert!(answers[0].1["unknown"][0]["error"].as_str().unwrap().contains("500"), "{}", answers[0].1);
    assert_eq!(answers[0].1["unknown"][0]["sha"], json!(all[0]));
    for (time, next) in [("04:00:30", "due 04:01"), ("04:01:00", "due 04:03"), ("04:03:00", "due 04:07")] {
        daemon.go_to(time);
        daemon.look().await;
        assert_eq!(daemon.answers().await[0].0, next, "{time}");
    }
    daemon.go_to("08:00:00");
    daemon.look().await;
    let states: Vec<_> = daemon.answers().await.into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["due 08:01", "overtaken"]);
    assert_eq!(daemon.runs().await, [], "the older commit is not taken for the newest");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tick_has_said_stays_said_while_the_rest_is_tried_again() {
    let all = shas(2);
    let mut history = StandInHistory::linear(&all, "main");
    history.commits.push(StandInCommit { sha: sha(50), parents: vec![all[1].clone()] });
    history.refs.insert("rel".to_owned(), sha(50));
    let unknown = format!("{}!", image(&sha(50)).replace("postmerge", "test"));
    let images = [image(&all[0]), image(&all[1]), unknown].into();
    let daemon = Daemon::in_world(World::new(history, images, &[]).await, "    branch: [main, rel]\n").await;
    daemon.look().await;
    daemon.go_to("04:00:00");
    daemon.look().await;
    let [run] = daemon.runs().await[..] else { panic!("{:?}", daemon.answers().await) };
    let said = json!([{"run": run, "branch": "main", "sha": all[0], "models": ["m"]}]);
    // Once it has ended, the next look at its branch would find another commit.
    let _cancelled = daemon.context.queue.cancel(run, "by the test").await.unwrap();
    let pause = Control::Triggers;
    for (time, next) in [("04:01:00", "due 04:03"), ("04:03:00", "due 04:07"), ("04:07:00", "due 04:15")] {
        daemon.go_to(time);
        if time == "04:03:00" {
            let _paused = daemon.context.queue.pause(&pause, "somebody", Some("a holiday")).await.unwrap();
        }
        daemon.look().await;
        let answers = daemon.answers().await;
        assert_eq!((answers[0].0.as_str(), &answers[0].1["runs"]), (next, &said), "{time}");
        assert_eq!(answers[0].1["unknown"][0]["branch"], "rel", "{time}");
        let _resumed = daemon.context.queue.resume(&pause, "somebody").await.unwrap();
    }
    assert_eq!(daemon.runs().await, [run]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_is_answered_by_one() {
    let daemon = Daemon::new("").await;
    daemon.look().await;
    daemon.go_to("04:00:00");
    let [followed] = &configured(&daemon.context.config).unwrap()[..] else { panic!() };
    assert_eq!(catch_up(&daemon.context, followed).await.unwrap(), Some(at("04:00:00")));
    assert_eq!(catch_up(&daemon.context, followed).await.unwrap(), None);
    let [tick] = &daemon.context.store.due_ticks(daemon.clock.now()).await.unwrap()[..] else { panic!() };
    assert!(matches!(answer_tick(&daemon.context, tick).await.unwrap(), Answered::Settled(_)));
    assert_eq!(answer_tick(&daemon.context, tick).await.unwrap(), Answered::Moved, "and leaves no second run");
    assert_eq!(daemon.runs().await.len(), 1);
    let mut write = daemon.context.store.write(Step::FollowSchedule).await.unwrap();
    assert_eq!(write.record_tick(&tick.key, daemon.clock.now()).await.unwrap(), Recorded::Existed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_selected_and_a_repository_that_is_gone_are_answers_too() {
    let daemon = Daemon::new("    selection: {schedule: {targets: [rocm]}}\n").await;
    daemon.look().await;
    let gone = TickKey {
        repository: "gone/away".parse().unwrap(),
        schedule: "0 0 * * * *".to_owned(),
        due_at: at("03:00:00"),
    };
    let mut write = daemon.context.store.write(Step::FollowSchedule).await.unwrap();
    let _recorded = write.record_tick(&gone, daemon.clock.now()).await.unwrap();
    write.commit().await.unwrap();
    daemon.go_to("04:00:00");
    daemon.look().await;
    let why: Vec<_> = daemon.answers().await.into_iter().map(|(_, answer)| answer["passed"].to_string()).collect();
    assert!(why[0].contains("not selected") && why[1].contains("gone/away is not configured"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_while_triggers_are_paused_says_who_paused_them() {
    let daemon = Daemon::new("").await;
    daemon.look().await;
    let mut write = daemon.context.store.write(Step::FollowSchedule).await.unwrap();
    let _paused = write.pause(&Control::Triggers, "alice", Some("new cooling"), daemon.clock.now()).await.unwrap();
    write.commit().await.unwrap();
    daemon.go_to("04:00:00");
    daemon.look().await;
    let answers = daemon.answers().await;
    let why = answers[0].1["passed"].as_str().unwrap();
    assert!(answers[0].0 == "answered" && why.contains("paused by alice") && why.contains("new cooling"), "{why}");
    // People may still ask.
    let asked = submit(&daemon.context, asks(json!({"branch": "main", "priority": 90})), None).await.unwrap();
    let ManualAnswer::Accepted { run, .. } = asked else { panic!("{asked:?}") };
    let run = daemon.context.store.run(run).await.unwrap().unwrap();
    assert_eq!(run.priority.map(|priority| priority.number()), Some(90));
}

#[tokio::test(flavor = "multi_thread")]
async fn own_incomplete_results_are_measured_again_so_often_and_replaced() {
    let daemon = Daemon::new("    triggers: {pick: {times: 2}}\n").await;
    daemon.look().await;
    let mut seen = Vec::new();
    for (hour, replaces) in [("04", false), ("08", true)] {
        daemon.go_to(&format!("{hour}:00:00"));
        daemon.look().await;
        let run = daemon.runs().await[0];
        assert!(!seen.contains(&run), "{:?}", daemon.answers().await);
        seen.push(run);
        let detail = daemon.context.store.run_detail(run).await.unwrap().unwrap();
        assert_eq!(detail.run.sha.as_str(), sha(1), "{hour}");
        let mut write = daemon.context.store.write(Step::FollowSchedule).await.unwrap();
        let owed = write.owed_by_run(run).await.unwrap();
        assert_eq!(owed[0].payload["replace"], json!(replaces), "{hour}");
        // The job ends with some of its points; its upload is owed and lies in the bucket.
        let (job, now) = (detail.jobs[0].job.id, daemon.clock.now());
        let finished = JobState::Finished { conclusion: Conclusion::Incomplete };
        let moved = write.move_job(job, 0, JobPhase::Queued, &finished, now).await.unwrap();
        assert_eq!(moved, Outcome::Performed);
        write.owe(run, Some(job), &owed[0], now).await.unwrap();
        write.commit().await.unwrap();
        let file = daemon.world.bucket.file("ossci-benchmarks", &key(&sha(1), "m"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "x").unwrap();
    }
    daemon.go_to("12:00:00");
    daemon.look().await;
    let answers = daemon.answers().await;
    assert_eq!(answers[0].1["runs"][0]["sha"], json!(sha(2)), "often enough: the next older commit has its turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cron_scheduler_wakes_the_loop_and_stops_with_it() {
    let mut daemon = Daemon::new("").await;
    let mut config = Config::clone(&daemon.context.config);
    config.repositories[0].triggers.schedule = vec!["* * * * * *".to_owned()];
    daemon.clock = Clock::system();
    daemon.context = Daemon::context(&daemon.world, config, &daemon.clock).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(daemon.context.clone(), stop.clone()));
    while daemon.runs().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    let ticks = daemon.context.store.latest_ticks(100).await.unwrap().len();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(daemon.context.store.latest_ticks(100).await.unwrap().len(), ticks, "none after the stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_expression_is_named() {
    let mut daemon = Daemon::new("").await;
    let mut config = Config::clone(&daemon.context.config);
    config.repositories[0].triggers.schedule = vec!["0 0 25 * * *".to_owned()];
    daemon.context.config = Arc::new(config);
    let error = run(daemon.context.clone(), CancellationToken::new()).await.unwrap_err();
    let ScheduleError::Expression { source, .. } = &error else { panic!("{error:?}") };
    assert!(error.to_string().contains("vllm-project/vllm") && source.to_string().contains("`0 0 25 * * *`"));
}

fn asks(json: Value) -> ManualRequest {
    serde_json::from_value(json).unwrap()
}

async fn refused(daemon: &Daemon, request: Value) -> (Blame, String) {
    let error = submit(&daemon.context, asks(request), None).await.unwrap_err();
    (error.blame(), error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_starts_one_run() {
    let daemon = Daemon::new("").await;
    let request = || asks(json!({"branch": "main", "models": ["M"]}));
    let ManualAnswer::Accepted { run, measures } = submit(&daemon.context, request(), Some("k1")).await.unwrap() else {
        panic!()
    };
    assert_eq!((measures.sha.as_str(), measures.trust), (&*sha(0), Trust::Trusted), "the tip, image or not");
    let again = submit(&daemon.context, request(), Some("k1")).await.unwrap();
    assert_eq!(again, ManualAnswer::Existing { run });
    let other = submit(&daemon.context, asks(json!({"branch": "main"})), Some("k1")).await.unwrap_err();
    assert!(matches!(other, ManualError::Conflict { run: first } if first == run), "{other:?}");
    // All at once, as a client that repeats itself does.
    let many = (0..8).map(|_| submit(&daemon.context, request(), Some("k2")));
    let answers = futures_util::future::join_all(many).await;
    let accepted = answers.iter().filter(|a| matches!(a, Ok(ManualAnswer::Accepted { .. }))).count();
    assert_eq!((accepted, answers.len(), daemon.runs().await.len()), (1, 8, 2));
    assert_eq!(
        daemon.world.registry.asked().len(),
        0,
        "whether there is an image is asked by the job that waits for it"
    );
    for bad in ["", &"x".repeat(256), "a b", "ü"] {
        let error = submit(&daemon.context, request(), Some(bad)).await.unwrap_err();
        assert_eq!(error.blame(), Blame::Request, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_must_be_on_a_branch_and_a_fork_runs_untrusted() {
    let daemon = Daemon::new("").await;
    let dry = |mut request: Value| {
        request["dry_run"] = json!(true);
        asks(request)
    };
    let planned = async |request: Value| {
        let answer = submit(&daemon.context, dry(request), None).await.unwrap();
        let ManualAnswer::Planned { measures } = answer else { panic!("{answer:?}") };
        (measures.sha.to_string(), measures.branch.to_string(), measures.trust)
    };
    assert_eq!(planned(json!({"commit": sha(1)})).await, (sha(1), "main".into(), Trust::Trusted));
    assert_eq!(planned(json!({"tag": "v1"})).await, (sha(2), "main".into(), Trust::Trusted));
    assert_eq!(planned(json!({"pull_request": 7})).await, (sha(100), "pull/7/head".into(), Trust::Untrusted));
    assert_eq!(planned(json!({"branch": "refs/pull/7/head"})).await.2, Trust::Untrusted, "by its other name too");
    assert_eq!(daemon.runs().await, [], "a dry run starts nothing");

    let (blame, told) = refused(&daemon, json!({"commit": sha(100)})).await;
    assert_eq!(blame, Blame::Request);
    assert!(told.contains("is not on `main`") && told.contains("pull request"), "{told}");
    for absent in
        [json!({"commit": sha(999)}), json!({"tag": "v9"}), json!({"branch": "x"}), json!({"pull_request": 9})]
    {
        let (blame, told) = refused(&daemon, absent.clone()).await;
        assert_eq!(blame, Blame::NotFound, "{absent}: {told}");
    }
    let (_, told) = refused(&daemon, json!({"branch": "main", "baseline": sha(100)})).await;
    assert!(told.contains("is not on"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_what_is_measured() {
    let more = "    triggers: {manual: {env: [LEVEL], repeats: 3}}\n";
    let daemon = Daemon::new(more).await;
    let request = json!({"commit": sha(1), "suites": ["latency"], "variants": ["eager"], "env": {"LEVEL": "3"},
        "repeats": 3, "baseline": "v1", "targets": ["cuda"]});
    let ManualAnswer::Accepted { run, measures } = submit(&daemon.context, asks(request), None).await.unwrap() else {
        panic!()
    };
    assert_eq!((measures.jobs.len(), measures.baseline), (3, Some(sha(2).parse().unwrap())));
    assert!(measures.kept_back.unwrap().contains("only a part"), "a part does not stand for the commit");
    let detail = daemon.context.store.run_detail(run).await.unwrap().unwrap();
    assert_eq!((detail.run.terms.scope, detail.run.terms.baseline), (Scope::Part, Some(sha(2).parse().unwrap())));
    let specs = detail.jobs.into_iter().map(|job| serde_json::from_value::<JobSpec>(job.job.spec).unwrap());
    let specs: Vec<_> = specs.collect();
    assert_eq!(specs.iter().map(|spec| spec.repeat).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(specs[0].suite.env.get("LEVEL").map(String::as_str), Some("3"));
    assert_eq!(specs[0].planned.points.len(), 1);

    // Results of a part are kept back, so the schedule still has the commit to measure.
    daemon.look().await;
    daemon.go_to("04:00:00");
    daemon.look().await;
    assert_eq!(daemon.answers().await[0].1["runs"][0]["sha"], json!(sha(1)));
}

/// Nobody knows what runs behind an address: its results are the commit's only where somebody says so.
#[tokio::test(flavor = "multi_thread")]
async fn results_of_a_remote_service_are_published_only_where_its_commit_is_stated() {
    let mut daemon = Daemon::new("").await;
    for (stated, published) in [(None, false), (Some(2), false), (Some(1), true)] {
        let remote = RemoteService {
            host: "gpu-9".into(),
            port: 8000,
            commit: stated.map(|number| sha(number).parse().unwrap()),
        };
        Arc::make_mut(&mut daemon.context.config).execution.remote = Some(remote);
        // Also when a person wants it published.
        let request = asks(json!({"commit": sha(1), "publish": "yes"}));
        let ManualAnswer::Accepted { run, measures } = submit(&daemon.context, request, None).await.unwrap() else {
            panic!()
        };
        let why = measures.kept_back.unwrap_or_default();
        assert_eq!(
            why.contains("remote service") && why.contains("not stated to run this commit"),
            !published,
            "{why}"
        );
        let mut write = daemon.context.store.write(Step::SubmitRun).await.unwrap();
        let owed = write.owed_by_run(run).await.unwrap();
        assert_eq!(owed.iter().any(|owed| owed.kind == OwedKind::Upload), published, "{owed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_name() {
    let more = "    triggers: {manual: {env: [LEVEL]}}\n    selection: {manual: {suites: [latency, serving]}}\n";
    let daemon = Daemon::new(more).await;
    let long = "x".repeat(5000);
    let many: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    for (request, blame, told) in [
        (json!({}), Blame::Request, "exactly one of"),
        (json!({"branch": "main", "tag": "v1"}), Blame::Request, "exactly one of"),
        (json!({"branch": "main", "pull_request": 7}), Blame::Request, "exactly one of"),
        (json!({"branch": "main", "env": {"LD_PRELOAD": "/x"}}), Blame::Forbidden, "`LD_PRELOAD` may not be set"),
        (json!({"branch": "main", "env": {"LEVEL": "a\nb"}}), Blame::Request, "`env` holds a control character"),
        (json!({"branch": "main", "models": ["nobody/knows"]}), Blame::Request, "nobody/knows"),
        (json!({"branch": "main", "models": [long]}), Blame::Request, "more than 4096 bytes"),
        (json!({"branch": "main", "models": many}), Blame::Request, "more than 200 entries"),
        (json!({"branch": "main", "targets": ["H200"]}), Blame::Request, "`targets`: H200: this host is cuda (X)"),
        (json!({"branch": "main", "suites": ["startup"]}), Blame::Request, "`suites`: startup"),
        (json!({"branch": "main", "repeats": 0}), Blame::Request, "`repeats` must be 1 to 10"),
        (json!({"branch": "main", "repeats": 11}), Blame::Request, "`repeats` must be 1 to 10"),
        (json!({"branch": "main", "repository": "o/other"}), Blame::NotFound, "o/other is not configured"),
    ] {
        let (whose, text) = refused(&daemon, request.clone()).await;
        assert_eq!(whose, blame, "{text}");
        assert!(text.contains(told), "{text}");
    }
    for malformed in [
        json!({"brnach": "main"}),
        json!({"commit": "abc"}),
        json!({"suites": ["x"]}),
        json!({"tag": 1}),
        json!({"priority": 101}),
    ] {
        assert!(serde_json::from_value::<ManualRequest>(malformed.clone()).is_err(), "{malformed}");
    }
    let nothing = submit(&daemon.context, asks(json!({"branch": "main", "suites": ["serving"]})), None).await.unwrap();
    assert!(matches!(&nothing, ManualAnswer::NothingToDo { why } if why.contains("no benchmark")), "{nothing:?}");
    assert_eq!(daemon.runs().await, []);

    let closed = Daemon::new("    triggers: {manual: {enabled: false}}\n").await;
    assert_eq!(refused(&closed, json!({"branch": "main"})).await.0, Blame::Forbidden);
    let mut cut_off = Daemon::new("").await;
    cut_off.context.github = Some(GitHub::connect("http://127.0.0.1:1", None).unwrap());
    assert_eq!(refused(&cut_off, json!({"branch": "main"})).await.0, Blame::Outside);
    assert_eq!(ManualRequest::default().publish, AskedPublish::Configured);
    assert_eq!(ManualRequest::default().env, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_person_names_has_its_place_and_waits_for_its_image_as_configured() {
    let daemon = Daemon::new("").await;
    let mut config = Config::clone(&daemon.context.config);
    config.repositories[0].images.wait = Duration::from_secs(60);
    let context = Context { config: Arc::new(config), ..daemon.context.clone() };
    let answer = submit(&context, asks(json!({"commit": sha(0)})), None).await.unwrap();
    let ManualAnswer::Accepted { run, .. } = answer else { panic!("{answer:?}") };
    assert!(daemon.place(&sha(0)).await > daemon.place(&sha(1)).await);
    let until = async |run| match context.store.jobs_of_run(run).await.unwrap().remove(0).state {
        JobState::WaitingForImage { until, .. } => until - context.clock.now(),
        state => panic!("{state:?}"),
    };
    assert_eq!(until(run).await, TimeDelta::seconds(60));

    // What it was planned with holds for a retry too.
    context.clock.advance(TimeDelta::seconds(60));
    let job = context.store.jobs_of_run(run).await.unwrap().remove(0).id;
    assert_eq!(context.queue.image_still_absent(job, "it").await.unwrap(), Waiting::GivenUp);
    assert_eq!(context.queue.retry(run).await.unwrap(), Retried::Jobs { jobs: vec![job] });
    assert_eq!(until(run).await, TimeDelta::seconds(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_named_is_measured_without_a_look_at_registry_or_bucket() {
    for case in cases() {
        let commit = case.input["vllm_commit"].as_str().unwrap();
        if commit.is_empty() {
            continue;
        }
        let commits = texts(&case.input["commits_newest_first"]);
        let objects = [key(commit, "m")];
        let world = World::new(StandInHistory::linear(&commits, "main"), [].into(), &objects).await;
        let daemon = Daemon::in_world(world, "").await;
        let answer = submit(&daemon.context, asks(json!({"commit": commit, "models": ["m"]})), None).await.unwrap();
        let ManualAnswer::Accepted { measures, .. } = answer else { panic!("{}: {answer:?}", case.name) };
        assert_eq!(json!(measures.sha), case.expected["head_sha"], "{}", case.name);
        assert_eq!((daemon.world.registry.asked().len(), daemon.world.bucket.requests().len()), (0, 0));
    }
}
