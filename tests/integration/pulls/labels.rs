//! What labels and pushes start and end, with everything written to the real store.

use benchd::model::{Asked, RunPhase, Trigger};
use benchd::queue::spec::Trust;
use benchd::store::LookKind;
use chrono::TimeDelta;
use github_standin::{CommitSpec, Fault, PullSpec};

use super::{BOTH, House, label_both};

#[tokio::test(flavor = "multi_thread")]
async fn two_labels_in_both_orders_doubled_and_replayed_start_one_run() {
    for order in [BOTH, [BOTH[1], BOTH[0]]] {
        let house = House::new("").await;
        let pull = house.own();
        pull.by("ann").label(order[0]);
        house.hear().await;
        assert_eq!(house.told(&pull).await, [format!("check: waiting for label `{}`", order[1])]);
        pull.by("ann").label(order[1]);
        house.hear().await;
        house.hear().await;
        house.reconcile(&pull).await;
        let [run] = &house.pull_runs(&pull).await[..] else { panic!("one run") };
        assert_eq!((run.run.sha.to_string(), run.asked), (pull.head(), Asked::Labels));
        assert_eq!(run.run.trigger, Trigger::PullRequest { number: pull.number() });
        assert_eq!(run.run.branch.as_str(), format!("pull/{}/head", pull.number()));
        assert_eq!(run.run.terms.asked_by.as_deref(), Some("ann"), "the webhook told who");
        assert_eq!(house.spec(run.run.id).await.trust, Trust::Trusted);
        house.end_all().await;
        assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Failed)]);
        // A redelivery with another id, after the run.
        let mut again = house.gh.deliveries().into_iter().rfind(|d| d.action.as_deref() == Some("labeled")).unwrap();
        again.guid.push_str("-again");
        house.deliver(&again).await;
        house.take().await;
        house.reconcile(&pull).await;
        assert_eq!(house.runs(&pull).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_takes_the_place_of_what_waits_and_of_what_is_not_half_done() {
    // One point of a latency benchmark counts as 120 s; each of the two jobs has one.
    for (seconds, expected) in
        [(None, RunPhase::Superseded), (Some(100), RunPhase::Superseded), (Some(119), RunPhase::Running)]
    {
        let house = House::new("").await;
        let pull = house.own();
        label_both(&pull);
        house.hear().await;
        if let Some(seconds) = seconds {
            house.begin().await;
            house.begin().await;
            house.clock.advance(TimeDelta::seconds(seconds / 2 + if seconds > 110 { 10 } else { -30 }));
        }
        let first = pull.head();
        pull.push(CommitSpec::new("second").files(&["a.py"]));
        house.hear().await;
        let runs = house.runs(&pull).await;
        assert_eq!(runs, [(first, expected), (pull.head(), RunPhase::Queued)], "{seconds:?}");
        let all = house.pull_runs(&pull).await;
        let by = (expected == RunPhase::Superseded).then_some(all[1].run.id);
        assert_eq!(all[0].run.superseded_by, by);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_pushes_is_measured_once_at_its_last() {
    let house = House::new("quiet_for: 45s").await;
    let pull = house.own();
    label_both(&pull);
    for n in 0..5 {
        pull.push(CommitSpec::new(&format!("push {n}")).files(&["a.py"]));
        house.hear().await;
        assert_eq!(house.runs(&pull).await, [], "after 30 s");
    }
    house.take().await;
    assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Queued)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_is_counted_from_the_last_push_told_of_or_not() {
    for told in [true, false] {
        let house = House::new("quiet_for: 100s").await;
        let pull = house.own();
        let comes = async || if told { house.hear().await } else { house.found().await };
        label_both(&pull);
        comes().await;
        pull.push(CommitSpec::new("second").files(&["a.py"]));
        let pushed_at = house.clock.now();
        for _ in 0..8 {
            comes().await;
        }
        let runs = house.pull_runs(&pull).await;
        assert_eq!((runs.len(), runs[0].run.sha.as_str()), (1, pull.head().as_str()));
        let waited = (runs[0].run.requested_at - pushed_at).num_seconds();
        assert!((100..=104).contains(&waited), "told: {told}, {waited} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_any_more_is_ended_and_comes_again() {
    type Step = fn(&github_standin::PullRequest);
    let ways: [(Step, Step); 3] = [
        (|pull| pull.unlabel("ready"), |pull| pull.label("ready")),
        (|pull| pull.convert_to_draft(), |pull| pull.ready_for_review()),
        (|pull| pull.close(), |pull| pull.reopen()),
    ];
    for (away, back) in ways {
        let house = House::new("").await;
        let pull = house.own();
        label_both(&pull);
        house.hear().await;
        away(&pull);
        house.hear().await;
        assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Cancelled)]);
        back(&pull);
        house.hear().await;
        house.hear().await;
        let phases: Vec<_> = house.runs(&pull).await.into_iter().map(|(_, phase)| phase).collect();
        assert_eq!(phases, [RunPhase::Cancelled, RunPhase::Queued]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_begun_finishes_or_is_cancelled_as_configured() {
    for (more, expected) in [("", RunPhase::Running), ("withdrawn_running: cancel", RunPhase::Cancelled)] {
        for merge in [false, true] {
            let house = House::new(more).await;
            let pull = house.own();
            label_both(&pull);
            house.hear().await;
            house.begin().await;
            let head = pull.head();
            if merge {
                pull.merge();
            } else {
                pull.close();
            }
            house.hear().await;
            assert_eq!(house.runs(&pull).await, [(head, expected)], "{more} {merge}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_person_cancelled_stays_cancelled() {
    let house = House::new("").await;
    let pull = house.own();
    label_both(&pull);
    house.hear().await;
    let run = house.pull_runs(&pull).await[0].run.id;
    let _cancelled = house.context.queue.cancel(run, "cancelled by ann").await.unwrap();
    house.reconcile(&pull).await;
    assert_eq!(house.runs(&pull).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_only_ignored_paths_is_said_quietly() {
    let house = House::new("ignore_paths: ['docs/**', '*.md']").await;
    house.repo.commit("docs", CommitSpec::new("words").files(&["docs/a.rst", "README.md"]));
    let pull = house.repo.open(github_standin::PullSpec::new("docs").labels(&BOTH));
    house.hear().await;
    assert_eq!(house.told(&pull).await, ["check: nothing to measure"]);
    assert_eq!(house.runs(&pull).await, []);
    pull.push(CommitSpec::new("code").files(&["a.py"]));
    house.hear().await;
    assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Queued)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_back_is_not_measured_twice() {
    let house = House::new("").await;
    let pull = house.own();
    label_both(&pull);
    house.hear().await;
    house.end_all().await;
    let first = pull.head();
    pull.push(CommitSpec::new("second").files(&["a.py"]));
    house.hear().await;
    house.repo.set_branch("work", &first);
    house.hear().await;
    assert_eq!(pull.head(), first);
    let phases: Vec<_> = house.runs(&pull).await.into_iter().map(|(_, phase)| phase).collect();
    assert_eq!(phases, [RunPhase::Failed, RunPhase::Superseded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing_and_doubles_nothing() {
    let mut house = House::new("").await;
    let pull = house.own();
    label_both(&pull);
    house.gh.fault("GET", "/repos/*/*/pulls/*", Fault::Status(502)).times(3);
    house.gh.fault("GET", "/repos/*/*/commits/*", Fault::LostAnswer).times(2);
    house.hear().await;
    house.restarted().await;
    // Waits double: 10, 20, 40, 80, 160 s.
    for _ in 0..15 {
        house.take().await;
    }
    assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Queued)]);
    let left = house.context.store.waiting_looks(10).await.unwrap();
    assert_eq!(left.into_iter().filter(|look| look.kind == LookKind::Pull).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_selected_says_so() {
    let house = House::new("").await;
    let pull = house.own();
    let mut config = (*house.context.config).clone();
    config.repositories[0].selection.pull_request.targets = vec!["rocm".to_owned()];
    let house = House { context: benchd::trigger::Context { config: config.into(), ..house.context.clone() }, ..house };
    label_both(&pull);
    house.hear().await;
    house.reconcile(&pull).await;
    assert_eq!(house.told(&pull).await, ["check: nothing to measure"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_programs_count_and_approve_no_fork() {
    let house = House::new("forks: approve_each_commit").await;
    let pull = house.own();
    label_both(&pull.by("mergify[bot]"));
    house.hear().await;
    let [run] = &house.pull_runs(&pull).await[..] else { panic!("one run") };
    assert_eq!((run.run.sha.as_str(), run.by.as_deref()), (pull.head().as_str(), Some("mergify[bot]")));
    let (_fork, foreign) = house.by_fork();
    label_both(&foreign.by("mergify[bot]"));
    house.hear().await;
    assert_eq!(house.runs(&foreign).await, []);
    assert_eq!(house.told(&foreign).await, ["check: waiting for the approval of this commit"]);
    foreign.by("mergify[bot]").comment("/benchd run");
    house.hear().await;
    assert_eq!(house.runs(&foreign).await, [], "nor do their commands");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_branch_and_a_title_say_is_nothing_to_anybody() {
    let house = House::new("").await;
    let branch = "zzz\";echo${IFS}\"hello\";#`|@everyone<img>\u{202e}";
    house.repo.commit(branch, CommitSpec::new("@all\n/benchd run").files(&["a.py"]));
    let title = "/benchd run | `x` @everyone <script>\u{202e}\n/benchd run";
    let pull = house.repo.open(PullSpec::new(branch).title(title).author("bob"));
    pull.label("ready");
    house.hear().await;
    assert_eq!(house.runs(&pull).await, []);
    assert_eq!(house.told(&pull).await, ["check: waiting for label `perf-benchmarks`"]);
    pull.label("perf-benchmarks");
    house.hear().await;
    let [run] = &house.pull_runs(&pull).await[..] else { panic!("one run") };
    assert_eq!(run.run.branch.to_string(), "pull/1/head", "the name is taken nowhere");
    pull.by("bob").comment("/benchd status");
    house.hear().await;
    let told = house.told(&pull).await.join("\n");
    assert!(!told.contains("zzz") && !told.contains("everyone") && !told.contains("script"), "{told}");
}
