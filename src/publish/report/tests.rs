//! Every state of a report as people see it, and sizes that must hold whatever a report holds.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::compare::difference;
use crate::model::{BusyDevice, Control, FailureKind, Pause};
use crate::publish::report::comment::SMALL;

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::minutes(minutes)
}

fn sha(digit: char) -> CommitSha {
    digit.to_string().repeat(40).parse().unwrap()
}

fn run_id(number: u64) -> RunId {
    number.try_into().unwrap()
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn job(number: u64, state: JobStanding) -> JobReport {
    JobReport {
        id: number.try_into().unwrap(),
        model: "meta-llama/Llama-3.1-8B-Instruct".into(),
        tries: u32::from(!matches!(state, JobStanding::Waiting { .. })),
        most_tries: 3,
        failed_before: None,
        points: PointCounts { expected: 12, ..PointCounts::default() },
        failures: Vec::new(),
        repro_command: None,
        state,
    }
}

fn waiting(position: u32, why: Why) -> JobStanding {
    JobStanding::Waiting { position: Some(position), of: 7, why: Some(why), starts_at: Some(at(40)) }
}

fn ended(conclusion: Conclusion, message: Option<&str>) -> JobStanding {
    JobStanding::Ended { conclusion, message: message.map(str::to_owned) }
}

fn machines(runner: &str, driver: &str, digest: &str) -> Machines {
    Machines::of([runner.parse().unwrap()], [(Some(driver.to_owned()), Some(digest.to_owned()))])
}

/// As many as there may be, all called alike.
fn many_machines(runner: &str, text: &str, count: usize) -> Machines {
    let runners = vec![runner.parse().unwrap(); count];
    Machines { runners, drivers: vec![text.to_owned(); count], digests: vec![text.to_owned(); count] }
}

fn target_report(jobs: Vec<JobReport>) -> TargetReport {
    let begun = jobs.iter().any(|job| job.tries > 0);
    TargetReport {
        target: target("cuda:NVIDIA H100 80GB HBM3:2"),
        jobs,
        series: Vec::new(),
        baselines: Vec::new(),
        machines: if begun { machines("gpu-host-1", "570.86.15", "sha256:4f0c2d") } else { Machines::default() },
    }
}

fn report(state: RunState, jobs: Vec<JobReport>) -> PullReport {
    PullReport {
        repository: "vllm-project/vllm".parse().unwrap(),
        number: 4242,
        name: "benchd".into(),
        head: Head::Measured,
        run: RunReport {
            id: run_id(77),
            sha: sha('a'),
            trigger: Trigger::PullRequest { number: 4242 },
            asked_by: Some("ann".into()),
            state,
            superseded_by: None,
            requested_at: at(0),
            started_at: None,
            finished_at: None,
            base: "main".into(),
            wanted_baseline: None,
            targets: vec![target_report(jobs)],
            left_out: Vec::new(),
            publishing: Publishing::Kept,
            threshold_percent: 1.0,
            device_time: Duration::ZERO,
            waited: None,
        },
        earlier: Vec::new(),
        takes: Takes::All,
        links: Links {
            web: "https://github.com".parse().unwrap(),
            public: Some("https://bench.example.org/".parse().unwrap()),
            comment: Some(99),
        },
        version: "0.1.0".into(),
    }
}

fn series(
    metric: &str,
    better: Option<Better>,
    class: MetricClass,
    baseline: Option<f64>,
    candidate: f64,
) -> SeriesReport {
    SeriesReport {
        model: "meta-llama/Llama-3.1-8B-Instruct".into(),
        benchmark: "serving_llama8B_tp2_sharegpt".into(),
        point: "serving_llama8B_tp2_sharegpt_qps_4_concurrency_200".into(),
        metric: metric.into(),
        unit: "ms".into(),
        better,
        class,
        candidate,
        passes: 1,
        baseline,
        difference: baseline.and_then(|baseline| difference(baseline, candidate, better, 1.0)),
    }
}

/// A run that was measured whole, with these series.
fn measured(all: Vec<SeriesReport>) -> PullReport {
    let mut done = job(5, ended(Conclusion::Success, None));
    done.points.ok = 12;
    done.repro_command = Some("docker run --rm -e HF_TOKEN registry.example/ci@sha256:4f0c2d bash run.sh".into());
    let mut report = report(RunState::Published, vec![done]);
    report.run.device_time = Duration::from_secs(71 * 60 + 5);
    report.run.waited = Some(Duration::from_secs(9 * 60));
    report.run.publishing = Publishing::Done;
    let target = &mut report.run.targets[0];
    let with_baseline = all.iter().filter(|series| series.baseline.is_some()).count();
    target.series = all;
    if with_baseline > 0 {
        target.baselines.push(BaselineReport {
            sha: sha('b'),
            run: run_id(60),
            series: with_baseline,
            older_by: Some(3),
            machines: machines("gpu-host-1", "570.86.15", "sha256:77aa01"),
        });
    }
    report
}

fn same() -> SeriesReport {
    series("median_itl_ms", Some(Better::Lower), MetricClass::Primary, Some(10.0), 10.02)
}

fn worse() -> SeriesReport {
    series("median_ttft_ms", Some(Better::Lower), MetricClass::Primary, Some(110.2), 114.7)
}

fn better() -> SeriesReport {
    series("output_throughput", Some(Better::Higher), MetricClass::Primary, Some(2000.0), 2093.0)
}

/// Every state there is, by name.
fn states() -> Vec<(&'static str, PullReport)> {
    let image = Why::WaitingForImage { since: at(0), until: at(90), next_look_at: at(3), last_look: None };
    let taken = Why::DevicesTaken { by: Vec::new() };
    let mut all = vec![
        ("waiting_for_image", report(RunState::Queued, vec![job(5, waiting(2, image))])),
        (
            "queued",
            report(RunState::Queued, vec![job(5, waiting(3, taken.clone())), job(6, waiting(4, taken.clone()))]),
        ),
        (
            "queued_without_a_runner",
            report(
                RunState::Queued,
                vec![job(
                    5,
                    JobStanding::Waiting {
                        position: Some(1),
                        of: 1,
                        why: Some(Why::NoRunner { seen_at: Some(at(-900)) }),
                        starts_at: None,
                    },
                )],
            ),
        ),
    ];
    let mut done = job(5, ended(Conclusion::Success, None));
    done.points.ok = 12;
    let mut running = job(6, JobStanding::Running { ends_at: Some(at(55)) });
    running.points.begun = 4;
    all.push(("running", report(RunState::Running, vec![done.clone(), running])));
    let mut again = job(5, waiting(1, taken.clone()));
    again.tries = 1;
    again.failed_before = Some("failure: the runner was lost".into());
    all.push(("retry_in_progress", report(RunState::Running, vec![again])));
    let mut publishing = measured(vec![same(), worse()]);
    publishing.run.state = RunState::Measured;
    publishing.run.publishing = Publishing::Owed(2);
    all.push(("publishing", publishing));
    let mut refused = measured(vec![same()]);
    refused.run.state = RunState::Failed(FailureKind::PublishRefused);
    refused.run.publishing = Publishing::Refused("403 from s3://bucket".into());
    all.push(("publishing_refused", refused));
    all.push(("unchanged", measured(vec![same()])));
    all.push(("improved", measured(vec![same(), better()])));
    all.push(("worse", measured(vec![same(), worse()])));
    let mut mixed = measured(vec![
        same(),
        worse(),
        better(),
        series("colour", None, MetricClass::Secondary, Some(1.0), 2.0),
        series("p99_itl_ms", Some(Better::Lower), MetricClass::Secondary, None, 3.0),
    ]);
    mixed.run.targets[0].baselines[0].machines = machines("gpu-host-2", "570.86.15", "sha256:77aa01");
    mixed.run.left_out =
        vec![LeftOut { model: "m".into(), benchmark: "serving_big_tp8".into(), points: 6, seconds: 1800 }];
    all.push(("mixed", mixed));
    all.push((
        "no_baseline",
        measured(vec![series("median_ttft_ms", Some(Better::Lower), MetricClass::Primary, None, 114.7)]),
    ));
    let mut named = measured(vec![worse()]);
    named.run.wanted_baseline = Some(sha('b'));
    named.run.trigger = Trigger::Command { number: 4242 };
    all.push(("against_a_named_baseline", named));
    let alone = series("median_ttft_ms", Some(Better::Lower), MetricClass::Primary, None, 114.7);
    let mut unmeasured = measured(vec![alone]);
    unmeasured.run.wanted_baseline = Some(sha('b'));
    all.push(("against_a_baseline_that_is_not_measured", unmeasured));
    let mut many = measured((0..14).map(|_| worse()).collect());
    many.run.threshold_percent = 0.5;
    all.push(("more_than_ten", many));
    let mut incomplete = measured(vec![same()]);
    let job_5 = &mut incomplete.run.targets[0].jobs[0];
    job_5.state = ended(Conclusion::Incomplete, None);
    job_5.points = PointCounts { expected: 12, begun: 0, ok: 9, failed: 2, not_run: 1 };
    job_5.failures = vec![
        PointFailure {
            benchmark: "b".into(),
            point: "serving_b_qps_inf".into(),
            state: PointState::Failed,
            reason: Some("no result file".into()),
        },
        PointFailure {
            benchmark: "b".into(),
            point: "serving_b_qps_1".into(),
            state: PointState::Zeroed,
            reason: None,
        },
        PointFailure {
            benchmark: "b".into(),
            point: "serving_b_qps_4".into(),
            state: PointState::NotRun,
            reason: None,
        },
    ];
    all.push(("incomplete", incomplete));
    let mut partly = measured(vec![same()]);
    let mut timed_out = job(6, ended(Conclusion::TimedOut, Some("no point within 30m")));
    timed_out.points.not_run = 12;
    partly.run.targets[0].jobs.push(timed_out);
    all.push(("one_job_timed_out", partly));
    let failed = |kind: FailureKind, message| {
        report(RunState::Failed(kind), vec![job(5, ended(Conclusion::Failure(kind), Some(message)))])
    };
    all.push((
        "failed_server",
        failed(FailureKind::ServerDied, "CUDA error: an illegal memory access was encountered"),
    ));
    all.push((
        "failed_image",
        failed(
            FailureKind::ImageMissing,
            "waited 90 minutes for registry.example/ci:aaaa: it was not built in time, or is called otherwise",
        ),
    ));
    let mut lost = failed(FailureKind::LostRunner, "the runner sent no heartbeat");
    lost.run.targets[0].jobs[0].tries = 3;
    all.push(("failed_runner", lost));
    all.push((
        "timed_out",
        report(
            RunState::Failed(FailureKind::NothingMeasured),
            vec![job(5, ended(Conclusion::TimedOut, Some("longer than 4h")))],
        ),
    ));
    let mut skipped = job(5, ended(Conclusion::Skipped { reason: "needs 8 devices, this host has 2".into() }, None));
    skipped.tries = 0;
    all.push(("nothing_to_measure", report(RunState::Failed(FailureKind::NothingMeasured), vec![skipped])));
    all.push((
        "cancelled",
        report(RunState::Cancelled, vec![job(5, ended(Conclusion::Cancelled, Some("cancelled by ann")))]),
    ));
    let mut superseded = report(RunState::Superseded, vec![job(5, ended(Conclusion::Superseded, None))]);
    superseded.run.superseded_by = Some(run_id(78));
    all.push(("superseded", superseded));
    let mut outdated = measured(vec![same()]);
    outdated.head = Head::Moved { to: sha('c'), why: Some("waiting for label `ready`".into()) };
    outdated.earlier = vec![Earlier {
        run: run_id(70),
        sha: sha('d'),
        requested_at: at(-90),
        answer: "**Superseded** by run 77: nothing was measured of `dddddddddd`.".into(),
    }];
    all.push(("outdated", outdated));
    let mut closed = measured(vec![worse()]);
    closed.takes = Takes::Retry;
    all.push(("worse_and_closed", closed));
    let mut closed = failed(FailureKind::ServerDied, "CUDA error");
    closed.takes = Takes::Retry;
    all.push(("failed_and_closed", closed));
    let mut closed = failed(FailureKind::ServerDied, "CUDA error");
    (closed.takes, closed.head) = (Takes::Retry, Head::Moved { to: sha('c'), why: None });
    all.push(("failed_outdated_and_closed", closed));
    let mut moved = failed(FailureKind::ServerDied, "CUDA error");
    moved.head = Head::Moved { to: sha('c'), why: None };
    all.push(("failed_and_outdated", moved));
    let mut mute = failed(FailureKind::ServerDied, "CUDA error");
    mute.takes = Takes::Nothing;
    all.push(("failed_without_commands", mute));
    let mut driver = measured(vec![same(), worse()]);
    driver.run.targets[0].baselines[0].machines = machines("gpu-host-1", "550.54.15", "sha256:77aa01");
    all.push(("another_driver", driver));
    let mut elsewhere = measured(vec![same(), worse()]);
    elsewhere.run.targets[0].baselines[0].machines = machines("gpu-host-2", "550.54.15", "sha256:77aa01");
    all.push(("another_machine_and_driver", elsewhere));
    let held = |why| {
        report(
            RunState::Queued,
            vec![job(5, JobStanding::Waiting { position: Some(1), of: 2, why: Some(why), starts_at: None })],
        )
    };
    let pause = Pause {
        what: Control::Host("gpu-host-1".parse().unwrap()),
        by: "ann".into(),
        why: Some("new cables".into()),
        since: at(-30),
    };
    all.push(("queued_while_paused", held(Why::Paused { pause })));
    all.push(("queued_too_large", held(Why::TooLarge { needs: 8, has: 2 })));
    all.push(("queued_after_a_fault", held(Why::Backoff { until: at(3) })));
    let busy = BusyDevice { device: 0.into(), by: "python (pid 7)".into() };
    all.push(("queued_for_busy_devices", held(Why::DevicesBusy { devices: vec![busy] })));
    let mut bare = measured(vec![worse()]);
    bare.links.public = None;
    all.push(("without_an_address", bare));
    all
}

#[test]
fn every_state_as_a_comment() {
    for (name, report) in states() {
        insta::assert_snapshot!(format!("comment_{name}"), comment(&report));
    }
}

#[test]
fn every_state_as_a_check() {
    let lines: Vec<String> = states()
        .iter()
        .map(|(name, report)| {
            let check = check(report);
            assert!(check.summary.starts_with("**") && check.summary.len() < 65_535, "{name}");
            assert!(!check.title.contains('`') && !check.title.contains("**"), "{name}: {}", check.title);
            format!("{name}: {:?}: {}: {}", check.phase, check.title, check.details_url.unwrap_or_default())
        })
        .collect();
    insta::assert_snapshot!("checks", lines.join("\n"));
}

#[test]
fn only_what_people_must_know_changes_the_state() {
    let all = states();
    let of = |name: &str| all.iter().find(|(other, _)| *other == name).unwrap().1.clone();
    let queued = of("queued");
    let mut moved_up = queued.clone();
    moved_up.run.targets[0].jobs[0].state = waiting(1, Why::DevicesTaken { by: Vec::new() });
    assert_eq!(state_key(&queued), state_key(&moved_up));
    assert_ne!(comment(&queued), comment(&moved_up));
    let keys: std::collections::BTreeSet<_> = all.iter().map(|(_, report)| state_key(report)).collect();
    // The measured ones differ in values alone, which come all at once.
    assert!(keys.len() >= 15, "{}", keys.len());
    let mut outdated = queued.clone();
    outdated.head = Head::Moved { to: sha('c'), why: None };
    assert_ne!(state_key(&queued), state_key(&outdated));
}

#[test]
fn a_marker_is_ours_whatever_the_repository_is_called() {
    let report = measured(vec![same()]);
    let marker = Marker::of(&report);
    assert!(marker.is_in(&comment(&report)));
    let renamed = Marker { repository: "vllm/vllm".parse().unwrap(), ..marker.clone() };
    assert!(renamed.is_in(&comment(&report)));
    for other in [
        Marker { number: 42, ..marker.clone() },
        Marker { name: "other".into(), ..marker.clone() },
        Marker { what: "answer-1".into(), ..marker.clone() },
    ] {
        assert!(!other.is_in(&comment(&report)), "{other}");
    }
    assert!(!marker.is_in(&format!("quoted: {marker}")), "a marker is a line of its own");
}

/// A report whose every text is `text` and whose every list has `count` entries.
fn swollen(text: &str, count: usize) -> PullReport {
    let mut report = measured(vec![]);
    let mut one = job(5, ended(Conclusion::Failure(FailureKind::ServerDied), Some(text)));
    one.model = text.to_owned();
    one.repro_command = Some(text.repeat(4));
    one.failures = vec![
        PointFailure {
            benchmark: text.into(),
            point: text.into(),
            state: PointState::Failed,
            reason: Some(text.into())
        };
        count.min(20)
    ];
    let mut changed = worse();
    changed.model = text.to_owned();
    changed.benchmark = text.to_owned();
    changed.point = text.to_owned();
    changed.metric = text.to_owned();
    changed.unit = text.to_owned();
    let mut target = target_report(vec![one; count.min(60)]);
    target.series = vec![changed; count];
    target.machines = many_machines("host", text, count.min(50));
    target.baselines = vec![
        BaselineReport {
            sha: sha('b'),
            run: run_id(60),
            series: 1,
            older_by: Some(3),
            machines: many_machines("other", text, count.min(50)),
        };
        count
    ];
    report.run.targets = vec![target; count.min(12)];
    report.run.asked_by = Some(text.into());
    report.run.base = text.into();
    report.run.publishing = Publishing::Refused(text.into());
    report.run.left_out = vec![LeftOut { model: text.into(), benchmark: text.into(), points: 6, seconds: 1 }; count];
    report.head = Head::Moved { to: sha('c'), why: Some(text.into()) };
    report.earlier =
        vec![Earlier { run: run_id(70), sha: sha('d'), requested_at: at(0), answer: "x".repeat(700) }; count];
    report
}

#[test]
fn a_huge_report_loses_whole_rows_and_never_its_first_line() {
    let wide = "🦀`|@someone #1 <b>\u{202e}".repeat(300);
    for (text, count) in [("name", 500), (wide.as_str(), 30), ("n", 0), (&"x".repeat(199), 9)] {
        let mut report = swollen(text, count);
        for state in
            [RunState::Published, RunState::Failed(FailureKind::ServerDied), RunState::Cancelled, RunState::Running]
        {
            report.run.state = state;
            let text = comment(&report);
            assert!(text.len() < SMALL, "{} bytes", text.len());
            assert!(text.starts_with("**") && Marker::of(&report).is_in(&text));
            let columns = |line: &str| line.matches('|').count();
            for line in text.lines().filter(|line| line.starts_with('|')) {
                assert!([4, 8].contains(&columns(line)), "{line}");
            }
            let check = check(&report);
            assert!(check.summary.chars().count() < 65_535 && check.title.chars().count() <= 200);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_others_write_a_comment_is_small_and_names_nobody(text in "\\PC{0,300}|[@#`|<>\\\\\n*_\\[\\]a-c]{0,300}", count in 0_usize..30) {
        let report = swollen(&text, count);
        let told = comment(&report);
        prop_assert!(told.len() < SMALL);
        prop_assert!(told.starts_with("**"));
        // Outside of code spans and blocks nothing of the text is left: a mention would need its at-sign there.
        let mut block: Option<usize> = None;
        for line in told.lines() {
            // A line of backticks, with a word but no further backtick at its beginning (CommonMark 0.31, 4.5).
            let fence = line.chars().take_while(|c| *c == '`').count();
            match block {
                Some(length) if fence >= length && line[fence..].trim().is_empty() => block = None,
                None if fence >= 3 && !line[fence..].contains('`') => block = Some(fence),
                Some(_) | None => {}
            }
            if block.is_some() || line.starts_with("<!--") {
                continue;
            }
            let outside = without_spans(line);
            prop_assert!(!outside.contains('@'), "{line}");
        }
    }
}

/// A line without its code spans (CommonMark 0.31, 6.1).
fn without_spans(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        out.push_str(&rest[..start]);
        let fence = rest[start..].chars().take_while(|c| *c == '`').count();
        let after = &rest[start + fence..];
        let mut from = 0;
        let end = loop {
            let Some(next) = after[from..].find('`') else { break None };
            let length = after[from + next..].chars().take_while(|c| *c == '`').count();
            if length == fence {
                break Some(from + next);
            }
            from += next + length;
        };
        match end {
            Some(end) => rest = &after[end + fence..],
            None => {
                out.push_str(&rest[start..start + fence]);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}
