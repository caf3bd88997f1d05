//! The comment of a pull request: Markdown, small by design. What does not fit goes by whole rows and sections, so that
//! no table is ever cut in the middle.

use super::advice::{method, next_step};
use super::marker::Marker;
use super::text::{block, code, counted, number};
use super::words::{Overall, Style, answer, time};
use super::{Head, JobReport, JobStanding, Links, Publishing, PullReport, RunReport, SeriesReport, TargetReport};
use crate::compare::Change;
use crate::model::{Better, CommitSha, Conclusion, PointState, RepoName, Trigger};
use crate::queue::place::Why;
use crate::store::Machines;

/// A comment stays below this, in bytes.
pub(super) const SMALL: usize = 16_000;
/// Longest name (model, benchmark, metric) in a table, in characters.
const NAME: usize = 80;
/// Longest reason or message, in characters.
const REASON: usize = 200;
/// Of so many jobs the logs are linked.
const LOGS: usize = 3;
/// Longest command that repeats a measurement, in characters.
const COMMAND: usize = 3000;

/// How much is shown.
#[derive(Clone, Copy, Debug)]
struct Limits {
    targets: usize,
    rows: usize,
    failures: usize,
    left_out: usize,
    earlier: usize,
    commands: usize,
}

/// From what is shown usually to what always fits.
const LIMITS: [Limits; 5] = [
    Limits { targets: 6, rows: 10, failures: 8, left_out: 8, earlier: 8, commands: 1 },
    Limits { targets: 6, rows: 10, failures: 5, left_out: 5, earlier: 5, commands: 0 },
    Limits { targets: 4, rows: 6, failures: 3, left_out: 3, earlier: 3, commands: 0 },
    Limits { targets: 2, rows: 3, failures: 2, left_out: 0, earlier: 1, commands: 0 },
    Limits { targets: 1, rows: 1, failures: 1, left_out: 0, earlier: 0, commands: 0 },
];

/// The comment. Below 16,000 bytes whatever the report holds.
pub fn comment(report: &PullReport) -> String {
    let marker = Marker::of(report);
    let mut text = body(report, SMALL - 300);
    text.push_str(&format!("\n\n{marker}"));
    text
}

/// The comment's text without its marker, at most `most` bytes where the least of it does not need more.
pub(super) fn body(report: &PullReport, most: usize) -> String {
    let mut shown = String::new();
    for limits in LIMITS {
        shown = Page { report, limits }.write();
        if shown.len() <= most {
            break;
        }
    }
    shown
}

/// One attempt to show everything that the limits let through.
struct Page<'a> {
    report: &'a PullReport,
    limits: Limits,
}

impl Page<'_> {
    fn write(&self) -> String {
        let run = &self.report.run;
        let mut parts = vec![answer(run, Style::Markdown)];
        parts.extend(self.banner());
        parts.push(self.what());
        if has_ended(run) {
            parts.extend(run.targets.iter().take(self.limits.targets).map(|target| self.target(target)));
            parts.extend(more(run.targets.len(), self.limits.targets, "target"));
        } else {
            parts.extend(self.waiting());
        }
        parts.extend(self.failures());
        parts.extend(self.left_out());
        parts.extend(self.publishing());
        if has_results(run) {
            parts.push(method(run));
        }
        parts.push(next_step(self.report));
        parts.extend(self.links());
        parts.extend(self.repeat());
        parts.extend(self.earlier());
        parts.push(self.footer());
        parts.join("\n\n")
    }

    /// What a reader must know before the rest.
    fn banner(&self) -> Option<String> {
        let Head::Moved { to, why } = &self.report.head else { return None };
        let why = why.as_ref().map(|why| format!(" ({})", code(why, REASON))).unwrap_or_default();
        Some(format!(
            "> **Outdated**: the head is {} by now{why}; this is about {}.",
            self.commit(to),
            self.commit(&self.report.run.sha)
        ))
    }

    /// What is measured, against what, and why.
    fn what(&self) -> String {
        let run = &self.report.run;
        let by = run.asked_by.as_ref().map(|by| format!(", asked by {}", code(by, NAME))).unwrap_or_default();
        let trigger = match &run.trigger {
            Trigger::PullRequest { .. } => "the labels of this pull request".to_owned(),
            Trigger::Command { .. } => "a command".to_owned(),
            Trigger::Rerun { of } => format!("a rerun of run {of}"),
            other @ (Trigger::Schedule
            | Trigger::Merge
            | Trigger::Release { .. }
            | Trigger::Manual
            | Trigger::Bisect
            | Trigger::Imported { .. }
            | Trigger::AA) => code(&other.to_string(), NAME),
        };
        let against = run.wanted_baseline.as_ref();
        let against =
            against.map(|sha| format!(", held against {} as asked for", self.commit(sha))).unwrap_or_default();
        format!("Commit {}, because of {trigger}{by}{against}.", self.commit(&run.sha))
    }

    fn target(&self, target: &TargetReport) -> String {
        let mut lines = vec![format!("#### {}", code(&target.target.to_string(), NAME))];
        lines.push(where_measured(target));
        lines.extend(self.baselines(target));
        if let Some(table) = self.table(target) {
            lines.push(table);
        }
        lines.extend(counts(target));
        lines.join("\n\n")
    }

    fn baselines(&self, target: &TargetReport) -> Option<String> {
        let (first, others) = target.baselines.split_first()?;
        let older = |older_by: Option<u32>| match older_by {
            Some(0) => ", where this pull request left its branch".to_owned(),
            Some(1) => ", 1 commit older than where this pull request left its branch".to_owned(),
            Some(commits) => format!(", {commits} commits older than where this pull request left its branch"),
            None => String::new(),
        };
        let branch = code(&self.report.run.base, NAME);
        let chosen = match &self.report.run.wanted_baseline {
            Some(wanted) if *wanted == first.sha => "as asked for".to_owned(),
            Some(_) | None => format!("the newest measured commit of {branch}{}", older(first.older_by)),
        };
        let mut text = format!(
            "Baseline: {}, {chosen} ({}, run {}).",
            self.commit(&first.sha),
            counted(first.series, "series"),
            first.run
        );
        let shown = others
            .iter()
            .take(2)
            .map(|other| format!("{} for {}", self.commit(&other.sha), counted(other.series, "series")));
        let shown: Vec<String> = shown.collect();
        if !shown.is_empty() {
            let rest = others.len() - shown.len();
            let rest = if rest > 0 { format!(" and {}", counted(rest, "other commit")) } else { String::new() };
            text.push_str(&format!(" Also: {}{rest}.", shown.join(", ")));
        }
        if !first.machines.digests.is_empty() {
            text.push_str(&format!(" Its image: {}.", code(&first.machines.digests.join(", "), REASON)));
        }
        if let Some(differs) = differs(&first.machines, &target.machines) {
            text.push_str(&format!("\n\n> {differs}"));
        }
        Some(text)
    }

    /// Changed series only, those that count most first.
    fn table(&self, target: &TargetReport) -> Option<String> {
        let mut changed: Vec<&SeriesReport> = target
            .series
            .iter()
            .filter(|series| series.difference.is_some_and(|difference| difference.change != Change::Same))
            .collect();
        if changed.is_empty() {
            return None;
        }
        changed.sort_by(|one, other| {
            let percent = |series: &SeriesReport| series.difference.map_or(0.0, |difference| difference.percent.abs());
            let change = |series: &SeriesReport| series.difference.map(|difference| difference.change);
            (one.class, change(one))
                .cmp(&(other.class, change(other)))
                .then(percent(other).total_cmp(&percent(one)))
                .then_with(|| (&one.model, &one.point, &one.metric).cmp(&(&other.model, &other.point, &other.metric)))
        });
        let mut rows = vec![
            "| model | point | metric | baseline | candidate | change | n |".to_owned(),
            "|---|---|---|--:|--:|--:|--:|".to_owned(),
        ];
        rows.extend(changed.iter().take(self.limits.rows).map(|series| row(series)));
        if changed.len() > self.limits.rows {
            let all = self.run_url("/results").map(|url| format!(" ([all values](<{url}>))")).unwrap_or_default();
            rows.push(String::new());
            rows.push(format!("and {} more{all}.", changed.len() - self.limits.rows));
        }
        Some(rows.join("\n"))
    }

    /// The jobs of a run that goes on.
    fn waiting(&self) -> Option<String> {
        let jobs: Vec<(&TargetReport, &JobReport)> =
            self.report.run.targets.iter().flat_map(|t| t.jobs.iter().map(move |job| (t, job))).collect();
        if jobs.len() < 2 {
            return None;
        }
        let mut rows = vec!["| model | target | state |".to_owned(), "|---|---|---|".to_owned()];
        rows.extend(jobs.iter().take(self.limits.rows).map(|(target, job)| {
            format!("| {} | {} | {} |", code(&job.model, NAME), code(&target.target.to_string(), NAME), where_is(job))
        }));
        if jobs.len() > self.limits.rows {
            rows.push(String::new());
            rows.push(format!("and {} more.", jobs.len() - self.limits.rows));
        }
        Some(rows.join("\n"))
    }

    /// What failed, by kind, with where its log is.
    fn failures(&self) -> Option<String> {
        let mut lines = Vec::new();
        let mut all = 0;
        for job in self.report.run.jobs() {
            if let Some(line) = self.failed_job(job) {
                all += 1;
                lines.push(line);
            }
            for failure in &job.failures {
                all += 1;
                let reason = failure.reason.as_ref().map(|reason| format!(": {}", code(reason, REASON)));
                lines.push(format!(
                    "- {} {}: {}{}{}",
                    code(&job.model, NAME),
                    code(&failure.point, NAME),
                    point_word(failure.state),
                    reason.unwrap_or_default(),
                    self.log(job)
                ));
            }
        }
        if lines.is_empty() {
            return None;
        }
        lines.truncate(self.limits.failures);
        let rest = all - lines.len();
        if rest > 0 {
            lines.push(format!("- and {rest} more."));
        }
        Some(format!("What came to nothing:\n\n{}", lines.join("\n")))
    }

    fn failed_job(&self, job: &JobReport) -> Option<String> {
        let JobStanding::Ended { conclusion, message } = &job.state else { return None };
        match conclusion {
            Conclusion::Success | Conclusion::Incomplete | Conclusion::Superseded => return None,
            Conclusion::Failure(_) | Conclusion::TimedOut | Conclusion::Cancelled | Conclusion::Skipped { .. } => {}
        }
        let what = match conclusion {
            Conclusion::Skipped { reason } => format!("skipped: {}", code(reason, REASON)),
            Conclusion::Success
            | Conclusion::Incomplete
            | Conclusion::Superseded
            | Conclusion::Failure(_)
            | Conclusion::TimedOut
            | Conclusion::Cancelled => conclusion.to_string(),
        };
        let message = message.as_ref().map(|message| format!(": {}", code(message, REASON))).unwrap_or_default();
        let tries = if job.tries > 1 { format!(", after {} tries", job.tries) } else { String::new() };
        Some(format!("- {}: {what}{tries}{message}{}", code(&job.model, NAME), self.log(job)))
    }

    fn left_out(&self) -> Option<String> {
        let left_out = &self.report.run.left_out;
        if left_out.is_empty() {
            return None;
        }
        let points: usize = left_out.iter().map(|one| usize::try_from(one.points).unwrap_or(usize::MAX)).sum();
        let named: Vec<String> =
            left_out.iter().take(self.limits.left_out).map(|one| code(&one.benchmark, NAME)).collect();
        let rest = left_out.len() - named.len();
        let mut text = format!(
            "Left out by the time budget: {} ({})",
            counted(left_out.len(), "benchmark"),
            counted(points, "point")
        );
        if !named.is_empty() {
            text.push_str(&format!(": {}", named.join(", ")));
            if rest > 0 {
                text.push_str(&format!(" and {rest} more"));
            }
        }
        Some(text + ".")
    }

    fn publishing(&self) -> Option<String> {
        match &self.report.run.publishing {
            Publishing::Kept | Publishing::Done => None,
            Publishing::Owed(_) => Some("The records are being published.".to_owned()),
            Publishing::Refused(reason) => Some(format!(
                "The records could not be published: {}. They are kept and can be sent again.",
                code(reason, REASON)
            )),
        }
    }

    fn links(&self) -> Option<String> {
        let run = self.run_url("")?;
        let mut links = vec![format!("[run {}](<{run}>)", self.report.run.id)];
        if has_results(&self.report.run) {
            links.push(format!("[all values](<{run}/results>)"));
        }
        let mut text = format!("Raw JSON: {}", links.join(", "));
        let logs = self.report.run.jobs().filter_map(|job| Some((job, self.log_url(job)?)));
        let logs: Vec<String> = logs.take(LOGS + 1).map(|(job, url)| format!("[job {}](<{url}>)", job.id)).collect();
        // Of many jobs nobody reads every log; those of failed ones stand beside the failures.
        if (1..=LOGS).contains(&logs.len()) {
            text.push_str(&format!(". Log: {}", logs.join(", ")));
        }
        Some(text + ".")
    }

    /// The command that repeats a measurement, folded.
    fn repeat(&self) -> Option<String> {
        if !has_ended(&self.report.run) {
            return None;
        }
        let jobs = self.report.run.jobs().filter_map(|job| Some((job, job.repro_command.as_ref()?)));
        let shown = jobs
            .filter(|(_, command)| command.chars().count() <= COMMAND)
            .take(self.limits.commands)
            .map(|(job, command)| format!("{}\n\n{}", code(&job.model, NAME), block("sh", command)))
            .collect::<Vec<_>>();
        (!shown.is_empty()).then(|| folded("Repeat a measurement", &shown.join("\n\n")))
    }

    fn earlier(&self) -> Option<String> {
        let earlier = &self.report.earlier;
        if earlier.is_empty() || self.limits.earlier == 0 {
            return None;
        }
        let mut lines: Vec<String> = earlier
            .iter()
            .take(self.limits.earlier)
            .map(|one| {
                format!("- {} ({}, run {}): {}", self.commit(&one.sha), time(one.requested_at), one.run, one.answer)
            })
            .collect();
        if earlier.len() > self.limits.earlier {
            lines.push(format!("- and {} more.", earlier.len() - self.limits.earlier));
        }
        Some(folded(&counted(earlier.len(), "earlier run"), &lines.join("\n")))
    }

    fn footer(&self) -> String {
        let run = &self.report.run;
        let mut parts = Vec::new();
        if !run.device_time.is_zero() {
            let gpus = run.targets.iter().any(|target| !target.target.platform.is_cpu());
            let unit = if gpus { "GPU minutes" } else { "machine minutes" };
            parts.push(format!("{} {unit}", number_of_minutes(run.device_time.as_secs())));
        }
        if let Some(waited) = run.waited {
            parts.push(format!("{} min in the queue", number_of_minutes(waited.as_secs())));
        }
        parts.push(format!("run {}", run.id));
        parts.push(format!("benchd {}", self.report.version));
        format!("<sub>{}</sub>", parts.join(" · "))
    }

    fn commit(&self, sha: &CommitSha) -> String {
        commit_link(&self.report.links, &self.report.repository, sha)
    }

    fn run_url(&self, below: &str) -> Option<String> {
        let public = self.report.links.public.as_ref()?;
        Some(format!("{}/api/v1/runs/{}{below}", public.as_str().trim_end_matches('/'), self.report.run.id))
    }

    fn log(&self, job: &JobReport) -> String {
        self.log_url(job).map(|url| format!(" ([log](<{url}>))")).unwrap_or_default()
    }

    fn log_url(&self, job: &JobReport) -> Option<String> {
        let public = self.report.links.public.as_ref().filter(|_| job.tries > 0)?;
        Some(format!("{}/api/v1/jobs/{}/log", public.as_str().trim_end_matches('/'), job.id))
    }
}

/// A link to a commit's page.
fn commit_link(links: &Links, repository: &RepoName, sha: &CommitSha) -> String {
    format!("[`{}`](<{}/{repository}/commit/{sha}>)", sha.short(), links.web.as_str().trim_end_matches('/'))
}

fn has_results(run: &RunReport) -> bool {
    run.overall() == Overall::Measured
}

fn has_ended(run: &RunReport) -> bool {
    match run.overall() {
        Overall::Measured | Overall::Failed(_) | Overall::Cancelled | Overall::Superseded => true,
        Overall::WaitingForImage { .. } | Overall::Queued(_) | Overall::TryingAgain(_) | Overall::Running { .. } => {
            false
        }
    }
}

fn where_measured(target: &TargetReport) -> String {
    let Machines { runners, drivers, digests } = &target.machines;
    let mut parts = Vec::new();
    if runners.is_empty() {
        let why = target.jobs.iter().find_map(super::words::skip_reason);
        parts.push(match why {
            Some(why) => format!("Could not take part: {}", code(why, REASON)),
            None => "No machine has begun to measure here".to_owned(),
        });
    } else {
        parts.push(format!("Ran on {}", names(runners)));
    }
    if !drivers.is_empty() {
        parts.push(format!("driver {}", names(drivers)));
    }
    if !digests.is_empty() {
        parts.push(format!("image {}", code(&digests.join(", "), REASON)));
    }
    parts.join(", ") + "."
}

/// In what the surroundings of a baseline differ from those of the candidate, beside the image. Kind and number of
/// devices are the same: they make the target.
fn differs(baseline: &Machines, candidate: &Machines) -> Option<String> {
    let other_machine = !baseline.runners.is_empty() && baseline.runners != candidate.runners;
    // What was imported knows no driver: nothing is said of it.
    let other_driver =
        !baseline.drivers.is_empty() && !candidate.drivers.is_empty() && baseline.drivers != candidate.drivers;
    let what = match (other_machine, other_driver) {
        (false, false) => return None,
        (true, false) => "on another machine",
        (false, true) => "with another driver",
        (true, true) => "on another machine with another driver",
    };
    let mut of = Vec::new();
    if other_machine {
        of.push(format!("on {}", names(&baseline.runners)));
    }
    if other_driver {
        of.push(format!("with driver {}", names(&baseline.drivers)));
    }
    Some(format!("**Measured {what}**: the baseline {}. Part of a difference may come from that.", of.join(" ")))
}

fn names(names: &[impl ToString]) -> String {
    code(&names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "), NAME)
}

fn row(series: &SeriesReport) -> String {
    let direction = match series.better {
        Some(Better::Lower) => ", lower is better",
        Some(Better::Higher) => ", higher is better",
        None => "",
    };
    let unit = if series.unit.is_empty() { String::new() } else { format!(" {}", code(&series.unit, 16)) };
    let point = if series.point.starts_with(&series.benchmark) {
        code(&series.point, NAME)
    } else {
        format!("{} {}", code(&series.benchmark, NAME), code(&series.point, NAME))
    };
    let (change, word) = match series.difference {
        Some(difference) => {
            let word = match difference.change {
                Change::Worse => " worse",
                Change::Better => " better",
                Change::Different | Change::Same => "",
            };
            (format!("{:+.1} %", difference.percent), word)
        }
        None => ("?".to_owned(), ""),
    };
    format!(
        "| {} | {point} | {}{unit}{direction} | {} | {} | {change}{word} | {} |",
        code(&series.model, NAME),
        code(&series.metric, NAME),
        series.baseline.map_or_else(|| "?".to_owned(), number),
        number(series.candidate),
        series.passes
    )
}

/// How many series and points came to what.
fn counts(target: &TargetReport) -> Option<String> {
    let tally = target.tally();
    let mut points = super::PointCounts::default();
    for job in &target.jobs {
        points.expected += job.points.expected;
        points.ok += job.points.ok;
        points.failed += job.points.failed;
        points.not_run += job.points.not_run;
    }
    if points.ended() == 0 && target.series.is_empty() {
        return None;
    }
    let list = |counts: &[(usize, &str)]| {
        let told: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    };
    let series = list(&[
        (tally.worse, "worse"),
        (tally.better, "better"),
        (tally.different, "different"),
        (tally.same, "within the threshold"),
        (tally.alone, "without a baseline"),
    ]);
    let points = list(&[(points.ok, "measured"), (points.failed, "failed"), (points.not_run, "not run")]);
    Some(format!("Series: {series}. Points: {points}."))
}

/// Where a job is, in a table's cell.
fn where_is(job: &JobReport) -> String {
    match &job.state {
        JobStanding::Waiting { why: Some(Why::WaitingForImage { .. }), .. } => "waits for its image".to_owned(),
        JobStanding::Waiting { position, of, .. } => match position {
            Some(position) => format!("place {position} of {of}"),
            None => "waits".to_owned(),
        },
        JobStanding::Running { ends_at } => match ends_at {
            Some(ends_at) => format!("runs, done about {}", time(*ends_at)),
            None => "runs".to_owned(),
        },
        JobStanding::Ended { conclusion: Conclusion::Skipped { .. }, .. } => "skipped".to_owned(),
        JobStanding::Ended { conclusion, .. } => code(&conclusion.to_string(), NAME),
    }
}

fn point_word(state: PointState) -> &'static str {
    match state {
        PointState::Ok => "measured",
        PointState::NotRun => "not run",
        PointState::Failed => "failed",
        PointState::Zeroed => "all values are zero",
        PointState::NotANumber => "a value is no number",
        PointState::Extra => "not expected",
    }
}

/// "and 3 more targets.", when there are more than are shown.
fn more(all: usize, shown: usize, noun: &str) -> Option<String> {
    (all > shown).then(|| format!("and {}.", counted(all - shown, &format!("more {noun}"))))
}

fn folded(title: &str, text: &str) -> String {
    format!("<details><summary>{title}</summary>\n\n{text}\n\n</details>")
}

/// Whole minutes, rounded up: what took a moment took a minute.
fn number_of_minutes(seconds: u64) -> u64 {
    seconds.div_ceil(60)
}
