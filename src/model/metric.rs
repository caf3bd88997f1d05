//! Which way a metric is better and how much it counts. Source: the suites' own writers and the public dashboard
//! (docs/metrics.md lists every name).

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which direction is an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A smaller value is better (latency, time).
    Lower,
    /// A larger value is better (throughput).
    Higher,
}

/// How much a metric counts in a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricClass {
    /// Told first.
    Primary,
    /// Told when it changes.
    Secondary,
    /// Shown, never judged.
    Information,
}

/// No direction or class has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a direction (lower, higher) nor a class (primary, secondary, information) of a metric")]
pub struct UnknownMetricWord(String);

impl Better {
    /// The name in the store, the API and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
        }
    }
}

impl FromStr for Better {
    type Err = UnknownMetricWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Lower, Self::Higher]
            .into_iter()
            .find(|b| b.as_str() == text)
            .ok_or_else(|| UnknownMetricWord(text.to_owned()))
    }
}

impl MetricClass {
    /// The name in the store, the API and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Information => "information",
        }
    }
}

impl FromStr for MetricClass {
    type Err = UnknownMetricWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Primary, Self::Secondary, Self::Information]
            .into_iter()
            .find(|c| c.as_str() == text)
            .ok_or_else(|| UnknownMetricWord(text.to_owned()))
    }
}

/// What is known of a metric by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MetricKind {
    /// Unit for people, empty when the metric is a plain number.
    pub unit: &'static str,
    /// Which direction is better; `None` for information.
    pub better: Option<Better>,
    /// How much it counts.
    pub class: MetricClass,
}

const fn lower(unit: &'static str, class: MetricClass) -> MetricKind {
    MetricKind { unit, better: Some(Better::Lower), class }
}

const fn higher(unit: &'static str, class: MetricClass) -> MetricKind {
    MetricKind { unit, better: Some(Better::Higher), class }
}

const fn information(unit: &'static str) -> MetricKind {
    MetricKind { unit, better: None, class: MetricClass::Information }
}

/// Unit, direction and class of the metric called `name`; unknown names are judged by their form, otherwise
/// information. A serving throughput at a finite request rate is pinned by the offered load: callers that know the
/// rate use [`MetricClass::Information`] for it.
pub fn metric_kind(name: &str) -> MetricKind {
    use MetricClass::{Primary, Secondary};
    match name {
        "latency" | "avg_latency" | "avg_cold_startup_time" | "avg_warm_startup_time" => lower("s", Primary),
        "median_ttft_ms" | "median_tpot_ms" | "median_itl_ms" => lower("ms", Primary),
        "mean_ttft_ms" | "mean_tpot_ms" | "mean_itl_ms" | "p99_ttft_ms" | "p99_tpot_ms" | "p99_itl_ms"
        | "mean_e2el_ms" | "median_e2el_ms" | "p99_e2el_ms" => lower("ms", Secondary),
        "avg_cold_compilation_time"
        | "avg_warm_compilation_time"
        | "avg_cold_encoder_compilation_time"
        | "avg_warm_encoder_compilation_time"
        | "elapsed_time"
        | "duration" => lower("s", Secondary),
        "requests_per_second" | "request_throughput" | "request_goodput" => higher("req/s", Primary),
        "tokens_per_second" | "output_throughput" | "total_token_throughput" => higher("tok/s", Primary),
        "max_output_tokens_per_s" => higher("tok/s", Secondary),
        "rtfx" | "spec_decode_acceptance_rate" | "spec_decode_acceptance_length" => higher("", Secondary),
        "std_ttft_ms" | "std_tpot_ms" | "std_itl_ms" => information("ms"),
        "std_latency" => information("s"),
        "num_requests"
        | "total_num_tokens"
        | "total_input_tokens"
        | "total_output_tokens"
        | "max_concurrent_requests" => information(""),
        other => by_form(other),
    }
}

fn by_form(name: &str) -> MetricKind {
    let holds = |parts: &[&str]| parts.iter().any(|p| name.contains(p));
    let ends = |parts: &[&str]| parts.iter().any(|p| name.ends_with(p));
    if holds(&["throughput", "goodput", "per_s", "speedup"]) || name.ends_with("_rate") {
        higher("", MetricClass::Secondary)
    } else if ends(&["_ms"]) {
        lower("ms", MetricClass::Secondary)
    } else if ends(&["_time", "_s"]) || name.contains("latency") {
        lower("s", MetricClass::Secondary)
    } else {
        information("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_names() {
        assert_eq!(metric_kind("median_ttft_ms").better, Some(Better::Lower));
        assert_eq!(metric_kind("std_itl_ms").better, None);
        assert_eq!(metric_kind("cache_hit_rate").better, Some(Better::Higher));
        assert_eq!(metric_kind("queue_wait_ms").better, Some(Better::Lower));
        assert_eq!(metric_kind("colour").class, MetricClass::Information);
    }
}
