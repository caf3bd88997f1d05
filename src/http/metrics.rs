//! `/metrics`: what the store says now (kept for a few seconds) and what was counted since the start, as Prometheus'
//! text.

use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::problem::Problem;
use super::{AppState, VERSION};
use crate::health::Trouble;
use crate::meters;
use crate::model::JobPhase;
use crate::store::Counts;

/// How long counted rows are told again before they are counted anew: scrapes of several servers cost one.
const KEPT_FOR: chrono::Duration = chrono::Duration::seconds(5);

/// Media type of Prometheus' text format, version 0.0.4.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The last counts.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Option<(DateTime<Utc>, Counts)>>);

impl Cache {
    fn fresh(&self, now: DateTime<Utc>) -> Option<Counts> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: DateTime<Utc>| now >= at && now - at < KEPT_FOR;
        cached.as_ref().filter(|(at, _)| fresh(*at)).map(|(_, counts)| counts.clone())
    }

    fn keep(&self, now: DateTime<Utc>, counts: &Counts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, counts.clone()));
    }
}

/// All numbers, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security((), ("token" = ["read"])),
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")),
)]
pub async fn metrics(State(state): State<AppState>) -> Result<impl IntoResponse, Problem> {
    let now = state.clock.now();
    let counts = match state.metrics.fresh(now) {
        Some(counts) => counts,
        None => {
            let counts = state.store.counts().await?;
            state.metrics.keep(now, &counts);
            counts
        }
    };
    let counted = meters::counted();
    counted.run_upkeep();
    let page = states(&state, &counts, now) + &counted.render();
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], page))
}

/// The numbers that the rows give, by a recorder of this page's own: a label that no row has any more is gone.
fn states(state: &AppState, counts: &Counts, now: DateTime<Utc>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        meters::describe();
        gauge!(meters::BUILD.name, "version" => VERSION).set(1.0);
        for (trigger, state, runs) in &counts.runs {
            match state.is_final() {
                true => metrics::counter!(meters::RUNS.name, "trigger" => trigger.clone(), "state" => state.as_str())
                    .absolute(*runs),
                false => gauge!(meters::OPEN_RUNS.name, "state" => state.as_str()).increment(whole(*runs)),
            }
        }
        for phase in JobPhase::ALL.into_iter().filter(|phase| *phase != JobPhase::Finished) {
            gauge!(meters::JOBS.name, "state" => phase.as_str()).set(whole(counts.jobs_in(phase)));
        }
        for (conclusion, failure, jobs) in &counts.conclusions {
            let labels = [("conclusion", conclusion.clone()), ("failure", failure.clone().unwrap_or_default())];
            metrics::counter!(meters::CONCLUSIONS.name, &labels).absolute(*jobs);
        }
        let age = |since: Option<DateTime<Utc>>| {
            since.and_then(|since| (now - since).to_std().ok()).unwrap_or_default().as_secs_f64()
        };
        gauge!(meters::QUEUE_AGE.name).set(age(counts.oldest_queued));
        for (kind, rows) in &counts.owed {
            gauge!(meters::OUTBOX.name, "kind" => kind.as_str()).set(whole(*rows));
        }
        gauge!(meters::OUTBOX_AGE.name).set(age(counts.oldest_owed));
        let total = u64::from(state.host.target.count);
        let used = counts.devices_used.min(total);
        for (slot, devices) in [("total", total), ("used", used), ("free", total - used)] {
            gauge!(meters::SLOTS.name, "state" => slot).set(whole(devices));
        }
        let troubles = state.health.troubles();
        gauge!(meters::READY.name).set(if troubles.iter().all(Trouble::is_note) { 1.0 } else { 0.0 });
        for trouble in troubles {
            gauge!(meters::TROUBLE.name, "part" => trouble.part.as_str()).set(1.0);
        }
    });
    recorder.handle().render()
}

/// A count as the exporter takes it; counts stay far below 2^53.
fn whole(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
