//! What a pass that has ended makes of its job: results judged and written down, the conclusion and its sentence.

use std::path::Path;
use std::sync::Arc;

use super::{JobEvent, Listener, ONLY_PASS, Verdict, Worker};
use crate::executor::collect::Taken;
use crate::executor::measured::{Measured, measure, nothing};
use crate::executor::outcome::{PassEnd as SuiteEnd, PassError, PassOutcome, RESULTS_DIR, Results};
use crate::meters::{self, Phase};
use crate::model::{Conclusion, FailureKind};
use crate::queue::spec::JobSpec;
use crate::queue::{Claim, Outcome, PassEnd};
use crate::store::StoreError;

impl Worker {
    pub(super) async fn judge(
        &self,
        claim: &Claim,
        spec: &JobSpec,
        artifacts: &Path,
        outcome: &PassOutcome,
        listener: Listener<'_>,
    ) -> Result<Verdict, StoreError> {
        let platform = spec.planned.target.platform;
        let began = self.clock.now();
        let measured = match &outcome.results {
            Results::Taken(_) | Results::TooLarge { .. } => {
                let (dir, job) = (artifacts.join(RESULTS_DIR), Arc::new(spec.planned.clone()));
                let judging = tokio::task::spawn_blocking(move || measure(&dir, &job, platform)).await;
                match judging.map_err(anyhow::Error::from).and_then(|judged| judged.map_err(anyhow::Error::from)) {
                    Ok(measured) => Some(measured),
                    Err(error) => return Ok(Verdict::failed(FailureKind::InvalidResults, error)),
                }
            }
            Results::None => None,
        };
        meters::phase(Phase::Results, (self.clock.now() - began).to_std().unwrap_or_default());
        let (points, measurements) = match &measured {
            Some(measured) => (measured.points.clone(), measured.measurements.clone()),
            None => (nothing(&spec.planned, "nothing came out of the suite"), Vec::new()),
        };
        let end = PassEnd { exit_code: outcome.exit_code, points, measurements };
        if self.queue.end_pass(claim, ONLY_PASS, &end).await? == Outcome::Moved {
            // Its end was written down before benchd was restarted.
            tracing::info!(job.id = %claim.job, "the pass had ended before");
        }
        let conclusion = match &measured {
            Some(measured) => {
                listener(JobEvent::Judged(measured));
                let conclusion = outcome.conclude(measured.good(), measured.missing());
                match conclusion == Conclusion::Failure(FailureKind::NoResults) {
                    true => Conclusion::Failure(measured.worthless()),
                    false => conclusion,
                }
            }
            None => outcome.conclude(0, spec.planned.points.len()),
        };
        let message = explanation(outcome, measured.as_ref(), &conclusion);
        Ok(Verdict { conclusion, message })
    }

    pub(super) async fn without_outcome(
        &self,
        claim: &Claim,
        spec: &JobSpec,
        error: PassError,
    ) -> Result<Verdict, StoreError> {
        let Some(kind) = error.failure_kind() else {
            return Ok(Verdict { conclusion: Conclusion::Cancelled, message: None });
        };
        let end =
            PassEnd { exit_code: None, points: nothing(&spec.planned, &kind.to_string()), measurements: Vec::new() };
        let _ended_or_lost: Outcome = self.queue.end_pass(claim, ONLY_PASS, &end).await?;
        Ok(Verdict::failed(kind, error))
    }
}

/// What a person reads beside a conclusion that is not plain success.
fn explanation(outcome: &PassOutcome, measured: Option<&Measured>, conclusion: &Conclusion) -> Option<String> {
    let mut said = Vec::new();
    if let SuiteEnd::TimedOut(limit) = &outcome.end {
        said.push(limit.to_string());
    }
    if let Some(kind) = outcome.failure()
        && *conclusion != Conclusion::Failure(kind)
    {
        said.push(kind.to_string());
    }
    for name in &outcome.points.server_died {
        said.push(format!("the server of {name} died"));
    }
    if let Results::TooLarge { cap_bytes } = outcome.results {
        said.push(format!("more than execution.limits.results_size ({cap_bytes} bytes)"));
    }
    said.extend(outcome.notices.iter().map(ToString::to_string));
    if let Some(measured) = measured {
        let mut wrong = measured.points.iter().filter_map(|p| Some((&p.point.point, p.reason.as_deref()?)));
        if let Some((point, reason)) = wrong.next() {
            let others = match wrong.count() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            said.push(format!("{point}: {reason}{others}"));
        } else if let Some(problem) = measured.report.problems.first() {
            said.push(problem.to_string());
        }
    }
    if let Results::Taken(Taken { problems, .. }) = &outcome.results {
        // What was not taken cannot be judged, so it is told here.
        said.extend(problems.first().map(ToString::to_string));
    }
    (!said.is_empty()).then(|| said.join("; "))
}
