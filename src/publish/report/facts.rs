//! From rows to what people are told of a run. Pure: whoever calls has read the rows.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{BaselineReport, JobReport, JobStanding, PointFailure, Publishing, RunReport, SeriesReport, TargetReport};
use crate::compare::difference;
use crate::model::{BranchName, JobState, MetricClass, PointState, Role, RunId, Target};
use crate::queue::place::Place;
use crate::store::{
    AttemptDetail, Baseline, JobDetail, Machines, OutboxRow, OwedKind, OwedState, PointCounts, RunDetail, SeriesValue,
};

/// The rows that a report of a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The run with its jobs.
    pub detail: &'a RunDetail,
    /// What it measured.
    pub values: &'a [SeriesValue],
    /// What its series are held against.
    pub baselines: &'a BTreeMap<u64, Baseline>,
    /// What measured the baselines.
    pub machines: &'a BTreeMap<(RunId, Target), Machines>,
    /// Where unfinished jobs stand.
    pub places: &'a [Place],
    /// The branch that the baselines are of.
    pub base: &'a BranchName,
    /// Changes below this are not told, in percent.
    pub threshold_percent: f64,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What people are told of a run.
pub fn run_report(sources: &Sources<'_>) -> RunReport {
    let RunDetail { run, progress: _, jobs, outbox } = sources.detail;
    let attempts = || jobs.iter().flat_map(|job| &job.attempts);
    RunReport {
        id: run.id,
        sha: run.sha.clone(),
        trigger: run.trigger.clone(),
        asked_by: run.terms.asked_by.clone(),
        state: run.state,
        superseded_by: run.superseded_by,
        requested_at: run.requested_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        base: sources.base.to_string(),
        wanted_baseline: run.terms.baseline.clone(),
        targets: targets(sources),
        left_out: run.terms.left_out.clone(),
        publishing: publishing(outbox),
        threshold_percent: sources.threshold_percent,
        device_time: attempts().map(|attempt| held(attempt, sources.now)).sum(),
        waited: attempts()
            .map(|attempt| attempt.claimed_at)
            .min()
            .and_then(|claimed_at| (claimed_at - run.requested_at).to_std().ok()),
    }
}

fn targets(sources: &Sources<'_>) -> Vec<TargetReport> {
    let mut found: BTreeMap<&Target, Vec<&JobDetail>> = BTreeMap::new();
    for job in &sources.detail.jobs {
        found.entry(&job.job.target).or_default().push(job);
    }
    let target = |(target, jobs): (&Target, Vec<&JobDetail>)| {
        let last: Vec<&AttemptDetail> = jobs.iter().filter_map(|job| job.attempts.last()).collect();
        let passes = last.iter().flat_map(|attempt| &attempt.passes).filter(|pass| pass.role == Role::Candidate);
        let runners = last.iter().map(|attempt| attempt.runner.clone());
        let passes = passes.map(|pass| (pass.driver.clone(), pass.digest.clone()));
        TargetReport {
            target: target.clone(),
            jobs: jobs.iter().map(|job| job_report(job, sources.places)).collect(),
            series: series(sources, target),
            baselines: baselines(sources, target),
            machines: Machines::of(runners, passes),
        }
    };
    found.into_iter().map(target).collect()
}

/// The series that are worth telling. Jobs that repeat the same benchmarks count together.
fn series(sources: &Sources<'_>, target: &Target) -> Vec<SeriesReport> {
    let mut told: BTreeMap<u64, (SeriesReport, f64)> = BTreeMap::new();
    for value in told_values(sources, target) {
        let passes = value.passes.len();
        let weight = u32::try_from(passes).map_or(1.0, f64::from);
        if let Some((known, sum)) = told.get_mut(&value.series) {
            *sum += value.value * weight;
            known.passes += passes;
            continue;
        }
        let report = SeriesReport {
            model: value.model.clone(),
            benchmark: value.benchmark.clone(),
            point: value.point.clone(),
            metric: value.metric.clone(),
            unit: value.unit.clone(),
            better: value.better,
            class: value.class,
            candidate: value.value,
            passes,
            baseline: sources.baselines.get(&value.series).map(|baseline| baseline.value),
            difference: None,
        };
        told.insert(value.series, (report, value.value * weight));
    }
    let compared = told.into_values().map(|(mut report, sum)| {
        report.candidate = sum / u32::try_from(report.passes.max(1)).map_or(1.0, f64::from);
        report.difference = report
            .baseline
            .and_then(|baseline| difference(baseline, report.candidate, report.better, sources.threshold_percent));
        report
    });
    compared.collect()
}

fn told_values<'a>(sources: &Sources<'a>, target: &'a Target) -> impl Iterator<Item = &'a SeriesValue> {
    sources.values.iter().filter(move |value| {
        value.role == Role::Candidate && value.class != MetricClass::Information && value.target == *target
    })
}

fn baselines(sources: &Sources<'_>, target: &Target) -> Vec<BaselineReport> {
    let mut found: BTreeMap<RunId, BaselineReport> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for value in told_values(sources, target) {
        let Some(baseline) = sources.baselines.get(&value.series).filter(|_| seen.insert(value.series)) else {
            continue;
        };
        let machines = sources.machines.get(&(baseline.run, target.clone())).cloned().unwrap_or_default();
        let report = found.entry(baseline.run).or_insert_with(|| BaselineReport {
            sha: baseline.sha.clone(),
            run: baseline.run,
            series: 0,
            older_by: baseline.older_by,
            machines,
        });
        report.series += 1;
    }
    let mut found: Vec<BaselineReport> = found.into_values().collect();
    found.sort_by_key(|baseline| (usize::MAX - baseline.series, baseline.run));
    found
}

fn job_report(detail: &JobDetail, places: &[Place]) -> JobReport {
    let JobDetail { job, progress: _, attempts } = detail;
    let place = places.iter().find(|place| place.job == job.id);
    let last = attempts.last();
    let state = match &job.state {
        JobState::WaitingForImage { .. } | JobState::Queued { .. } => JobStanding::Waiting {
            position: place.and_then(|place| place.position),
            of: place.map_or(0, |place| place.of),
            why: place.map(|place| place.why.clone()),
            starts_at: place.and_then(|place| place.starts_at),
        },
        JobState::Claimed { .. } | JobState::Running { .. } => {
            JobStanding::Running { ends_at: place.and_then(|place| place.ends_at) }
        }
        JobState::Finished { conclusion } => JobStanding::Ended {
            conclusion: conclusion.clone(),
            message: job.message.clone().or_else(|| last.and_then(|attempt| attempt.message.clone())),
        },
    };
    let ended = matches!(state, JobStanding::Ended { .. });
    let told = |attempt: &AttemptDetail| {
        let end = attempt.end.as_ref().map(ToString::to_string)?;
        Some(attempt.message.as_ref().map_or_else(|| end.clone(), |message| format!("{end}: {message}")))
    };
    JobReport {
        id: job.id,
        model: job.model.clone(),
        tries: job.attempts_begun.saturating_sub(job.attempts_before),
        most_tries: job.max_attempts,
        failed_before: (!ended).then(|| last.and_then(told)).flatten(),
        points: PointCounts::of(&job.state, &job.spec, last),
        failures: failures(last),
        repro_command: last.and_then(|attempt| attempt.passes.first()).map(|pass| pass.repro_command.clone()),
        state,
    }
}

/// The points that came to nothing.
fn failures(last: Option<&AttemptDetail>) -> Vec<PointFailure> {
    let mut failures = Vec::new();
    let passes = last.iter().flat_map(|attempt| &attempt.passes);
    for point in passes.filter(|pass| pass.role == Role::Candidate).flat_map(|pass| &pass.points) {
        match point.state {
            PointState::Ok | PointState::Extra => {}
            PointState::NotRun | PointState::Failed | PointState::Zeroed | PointState::NotANumber => {
                failures.push(PointFailure {
                    benchmark: point.benchmark.clone(),
                    point: point.point.clone(),
                    state: point.state,
                    reason: point.reason.clone(),
                });
            }
        }
    }
    // What was not run usually follows from what failed.
    failures.sort_by_key(|failure| failure.state == PointState::NotRun);
    failures
}

fn publishing(outbox: &[OutboxRow]) -> Publishing {
    let uploads = || outbox.iter().filter(|row| row.owed.kind == OwedKind::Upload);
    if let Some(refused) = uploads().find(|row| row.state == OwedState::Refused) {
        return Publishing::Refused(refused.last_error.clone().unwrap_or_default());
    }
    let owed = uploads().filter(|row| row.state == OwedState::Owed).count();
    match owed {
        0 if uploads().count() == 0 => Publishing::Kept,
        0 => Publishing::Done,
        owed => Publishing::Owed(owed),
    }
}

/// How long an attempt held its devices, all of them together.
fn held(attempt: &AttemptDetail, now: DateTime<Utc>) -> Duration {
    let until = attempt.finished_at.unwrap_or(now);
    let took = (until - attempt.claimed_at).to_std().unwrap_or_default();
    took.saturating_mul(u32::try_from(attempt.slot.devices.len().max(1)).unwrap_or(1))
}
