//! Every number that `/metrics` tells: its name, labels and meaning, and the one function that counts it. It stands
//! below all modules, so that each may count where a thing happens; docs/monitoring.md lists them (a test compares).

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// What kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// The state of now.
    Gauge,
    /// Durations, in buckets.
    Histogram,
}

/// One number, or one for each combination of its labels' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its name: unit last, `_total` for counters (<https://prometheus.io/docs/practices/naming/>).
    pub name: &'static str,
    /// What kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! meters {
    ($($(#[$doc:meta])* $constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Meter =
                Meter { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them.
        pub const ALL: &[Meter] = &[$($constant),*];
    };
}

meters! {
    BUILD = Gauge "benchd_build_info" ["version"] "Always 1; the label says which benchd this is.";
    RUNS = Counter "benchd_runs_total" ["trigger", "state"] "Runs that have ended, by trigger and final state.";
    OPEN_RUNS = Gauge "benchd_open_runs" ["state"] "Runs that something may still happen to, by state.";
    JOBS = Gauge "benchd_jobs" ["state"] "Jobs that have not finished, by state.";
    CONCLUSIONS = Counter "benchd_job_conclusions_total" ["conclusion", "failure"]
        "Finished jobs by conclusion; `failure` is the kind of failure, else empty.";
    QUEUE_AGE = Gauge "benchd_queue_age_seconds" [] "How long the oldest job that may be claimed has waited.";
    OUTBOX = Gauge "benchd_outbox" ["kind"] "What is owed to the outside and not delivered yet.";
    OUTBOX_AGE = Gauge "benchd_outbox_age_seconds" [] "How long the oldest of that has been owed.";
    SLOTS = Gauge "benchd_slots" ["state"] "Devices of this host: `used` by jobs, `free`, and all of them (`total`).";
    READY = Gauge "benchd_ready" [] "1 when `/readyz` says yes, else 0.";
    TROUBLE = Gauge "benchd_trouble" ["part"] "1 for each part that keeps the daemon from being ready.";
    PHASES = Histogram "benchd_phase_duration_seconds" ["phase"]
        "How long the phases of a job took: `wait`, `image`, `pass`, `results`, `upload`.";
    IMAGE_PULLS = Counter "benchd_image_pulls_total" ["outcome"]
        "Images asked for: `present` on the host already, `pulled`, or `failed`.";
    API_CALLS = Counter "benchd_api_calls_total" ["service", "outcome"]
        "Calls to `github`, `registry` and `object_store`; the outcome is `ok`, `unchanged` (a free 304), `refused` or `failed`.";
    DELIVERIES = Counter "benchd_deliveries_total" ["event", "outcome"]
        "Webhook deliveries by event and outcome: `marked`, `known`, `ignored`, `refused` or `failed`.";
    LOOKS = Counter "benchd_looks_total" ["kind", "outcome"]
        "Looks at GitHub by what was looked at; the outcome is `answered` or `postponed`.";
    HTTP_REQUESTS = Counter "benchd_http_requests_total" ["method", "route", "status"]
        "Requests that were answered, by route and status.";
}

/// A phase of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From queued to claimed.
    Wait,
    /// Finding and pulling the image.
    Image,
    /// One pass in its container.
    Pass,
    /// Reading and judging results.
    Results,
    /// Delivering records.
    Upload,
}

/// What became of an image that a job needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePull {
    /// It was on the host already.
    Present,
    /// It was pulled.
    Pulled,
    /// It could not be had.
    Failed,
}

/// A service outside benchd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// GitHub's API.
    Github,
    /// An image registry.
    Registry,
    /// An object store.
    ObjectStore,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// With the answer, also "there is no such thing".
    Ok,
    /// With "not modified": GitHub does not count it.
    Unchanged,
    /// With a refusal: not permitted, not valid, too often.
    Refused,
    /// Without an answer.
    Failed,
}

impl Call {
    /// How a call ended that was answered with this HTTP status. "There is no such thing" is an answer.
    pub fn of_status(status: u16) -> Self {
        match status {
            304 => Self::Unchanged,
            0..400 | 404 => Self::Ok,
            400..500 => Self::Refused,
            500.. => Self::Failed,
        }
    }
}

/// Buckets of durations in seconds: from a look-up to a job of a day.
const SECONDS: [f64; 14] =
    [0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0];

/// What was counted since this process started, ready to be rendered. The first call begins the counting; it belongs
/// to the start of the daemon.
pub fn counted() -> &'static PrometheusHandle {
    static COUNTED: OnceLock<PrometheusHandle> = OnceLock::new();
    COUNTED.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let builder = match builder.set_buckets_for_metric(Matcher::Full(PHASES.name.to_owned()), &SECONDS) {
            Ok(builder) => builder,
            // Only an empty list is refused.
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics stands already, /metrics tells states only");
        }
        describe();
        handle
    })
}

/// Tells the current recorder what the numbers mean.
pub fn describe() {
    for Meter { name, kind, help, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
}

/// A phase of a job has ended.
pub fn phase(phase: Phase, took: Duration) {
    let phase = match phase {
        Phase::Wait => "wait",
        Phase::Image => "image",
        Phase::Pass => "pass",
        Phase::Results => "results",
        Phase::Upload => "upload",
    };
    metrics::histogram!(PHASES.name, "phase" => phase).record(took.as_secs_f64());
}

/// A job needed an image.
pub fn image_pull(outcome: ImagePull) {
    let outcome = match outcome {
        ImagePull::Present => "present",
        ImagePull::Pulled => "pulled",
        ImagePull::Failed => "failed",
    };
    metrics::counter!(IMAGE_PULLS.name, "outcome" => outcome).increment(1);
}

/// A service outside was called.
pub fn api_call(service: Service, outcome: Call) {
    let service = match service {
        Service::Github => "github",
        Service::Registry => "registry",
        Service::ObjectStore => "object_store",
    };
    let outcome = match outcome {
        Call::Ok => "ok",
        Call::Unchanged => "unchanged",
        Call::Refused => "refused",
        Call::Failed => "failed",
    };
    metrics::counter!(API_CALLS.name, "service" => service, "outcome" => outcome).increment(1);
}

/// What became of a webhook delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It was stored, and something is looked at because of it.
    Marked,
    /// It had come before.
    Known,
    /// It is about nothing that is followed.
    Ignored,
    /// It cannot be accepted as it is.
    Refused,
    /// It could not be stored.
    Failed,
}

/// A webhook delivery was answered. Events that benchd knows nothing of count as `other`: names come from outside.
pub fn delivery(event: &'static str, outcome: DeliveryOutcome) {
    let outcome = match outcome {
        DeliveryOutcome::Marked => "marked",
        DeliveryOutcome::Known => "known",
        DeliveryOutcome::Ignored => "ignored",
        DeliveryOutcome::Refused => "refused",
        DeliveryOutcome::Failed => "failed",
    };
    metrics::counter!(DELIVERIES.name, "event" => event, "outcome" => outcome).increment(1);
}

/// Something on GitHub was looked at.
pub fn look(kind: &'static str, answered: bool) {
    let outcome = if answered { "answered" } else { "postponed" };
    metrics::counter!(LOOKS.name, "kind" => kind, "outcome" => outcome).increment(1);
}

/// A request was answered; `route` is the pattern, never the path.
pub fn http_request(method: &str, route: &str, status: u16) {
    let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
    metrics::counter!(HTTP_REQUESTS.name, &labels).increment(1);
}
