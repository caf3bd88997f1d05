//! The last words of a comment: how sure its result is, and what a reader can do now. Only what would be accepted is
//! advised.

use super::words::{Overall, conclusion_of, plain_percent, skip_reason};
use super::{Head, JobReport, PullReport, RunReport, Takes};
use crate::model::Conclusion;

/// How the result came about, and what it does not say.
pub(super) fn method(run: &RunReport) -> String {
    if run.tally().compared() == 0 && run.wanted_baseline.is_some() {
        return "How sure: there is nothing to compare with. Without `baseline=` a run is held against the base branch."
            .to_owned();
    }
    if run.tally().compared() == 0 {
        return "How sure: there is nothing to compare with yet. Once a commit of the base branch is measured, later runs are \
                held against it."
            .to_owned();
    }
    let passes = run.targets.iter().flat_map(|target| &target.series).map(|series| series.passes).max().unwrap_or(1);
    format!(
        "How sure: each series was measured in {} and is held against an earlier run of the baseline; changes below {} % \
         are not told. Noise between runs is not judged yet, so a change here is a hint and no proof.",
        if passes == 1 { "1 pass".to_owned() } else { format!("{passes} passes") },
        plain_percent(run.threshold_percent)
    )
}

/// What a reader can do now.
pub(super) fn next_step(report: &PullReport) -> String {
    let run = &report.run;
    let asking = Asking { of_head: report.head == Head::Measured, takes: report.takes };
    let tell = |text: &str| format!("Next: {text}");
    match run.overall() {
        Overall::WaitingForImage { .. } | Overall::Queued(_) | Overall::TryingAgain(_) | Overall::Running { .. } => {
            let cancel = if report.takes == Takes::Nothing { "" } else { " `/benchd cancel` stops it." };
            tell(&format!("nothing to do, this comment follows the run.{cancel}"))
        }
        Overall::Superseded => tell("nothing to do, a newer commit is measured."),
        Overall::Failed(_) if run.jobs().all(|job| skip_reason(job).is_some()) => {
            tell("nothing to do here; another machine may measure it.")
        }
        Overall::Failed(kind) => {
            let then = if asking.may_retry() { " Then `/benchd retry`." } else { "" };
            tell(&format!("{}{then}{}", kind.advice(), asking.head()))
        }
        Overall::Cancelled if asking.may_rerun() => tell("`/benchd rerun` measures this commit after all."),
        Overall::Cancelled => tell(&format!("nothing to do.{}", asking.head())),
        Overall::Measured => tell(&after_results(run, &asking)),
    }
}

fn after_results(run: &RunReport, asking: &Asking) -> String {
    let mut text = if run.jobs().any(is_retried) && asking.may_retry() {
        "see the log of what failed; `/benchd retry` tries failed jobs again.".to_owned()
    } else if run.points().failed > 0 || run.jobs().any(is_retried) {
        let again = if asking.may_rerun() { "; `/benchd rerun` measures this commit once more." } else { "." };
        format!("see the log of what failed{again}")
    } else if run.tally().worse > 0 {
        let again =
            if asking.may_rerun() { "; `/benchd rerun` measures once more and shows whether it stays." } else { "." };
        format!("look whether the change is expected{again}")
    } else {
        "nothing to do.".to_owned()
    };
    text.push_str(asking.head());
    text
}

/// Whether `/benchd retry` tries a job again that belongs to a run with results: what has values of its own is measured
/// anew by a rerun only.
fn is_retried(job: &JobReport) -> bool {
    let failed = match conclusion_of(job) {
        Some(Conclusion::Failure(_) | Conclusion::TimedOut) => true,
        Some(
            Conclusion::Success
            | Conclusion::Incomplete
            | Conclusion::Cancelled
            | Conclusion::Superseded
            | Conclusion::Skipped { .. },
        )
        | None => false,
    };
    failed && job.points.ok == 0
}

/// What may be asked. Commands are about the head: once that has moved on, nobody can ask for this commit.
struct Asking {
    of_head: bool,
    takes: Takes,
}

impl Asking {
    fn may_retry(&self) -> bool {
        self.of_head && self.takes != Takes::Nothing
    }

    fn may_rerun(&self) -> bool {
        self.of_head && self.takes == Takes::All
    }

    /// What measures the head instead.
    fn head(&self) -> &'static str {
        match self.takes {
            Takes::All if !self.of_head => " `/benchd run` measures the head.",
            Takes::All | Takes::Retry | Takes::Nothing => "",
        }
    }
}
