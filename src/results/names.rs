//! What the names of result files say: point, part of a start-up, benchmark, variant. The suites name files this way;
//! nothing is judged by a name.

use crate::model::Variant;

/// The four files that a start-up benchmark leaves.
pub(super) const STARTUP_PARTS: [&str; 4] = ["cold_startup", "cold_compilation", "warm_startup", "warm_compilation"];

/// Point and part of a result file: `a_tp1.cold_startup.pytorch.json` is part `cold_startup` of point `a_tp1`.
pub(super) fn point_of(file: &str) -> (&str, Option<&str>) {
    let stem = file.strip_suffix(".json").or_else(|| file.strip_suffix(".commands")).unwrap_or(file);
    let stem = stem.strip_suffix(".pytorch").unwrap_or(stem);
    match stem.rsplit_once('.') {
        Some((point, part)) if part.starts_with("cold_") || part.starts_with("warm_") => (point, Some(part)),
        Some(_) | None => (stem, None),
    }
}

/// The benchmark of a point: its name without `_qps_R_concurrency_C`.
pub fn benchmark_of(point: &str) -> &str {
    match point.rsplit_once("_qps_") {
        Some((benchmark, load)) if !benchmark.is_empty() && !load.is_empty() => benchmark,
        Some(_) | None => point,
    }
}

/// The variant that a benchmark's name ends with.
pub fn variant_of(benchmark: &str) -> Variant {
    let ends = |variant: &Variant| !variant.name_suffix().is_empty() && benchmark.ends_with(variant.name_suffix());
    Variant::ALL.into_iter().find(ends).unwrap_or(Variant::Base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_suites() {
        assert_eq!(point_of("s_tp1.cold_startup.pytorch.json"), ("s_tp1", Some("cold_startup")));
        assert_eq!(point_of("l3.1_8B_qps_0.5_concurrency_8.pytorch.json"), ("l3.1_8B_qps_0.5_concurrency_8", None));
        assert_eq!(point_of("latency_a.json"), ("latency_a", None));
        assert_eq!(point_of("latency_a.commands"), ("latency_a", None));
        assert_eq!(benchmark_of("s_eager_qps_inf_concurrency_200"), "s_eager");
        assert_eq!(variant_of("s_eager"), Variant::Eager);
        assert_eq!(variant_of("s_inductor_graph_partition"), Variant::InductorGraphPartition);
        assert_eq!(variant_of("eager_beaver"), Variant::Base);
    }
}
