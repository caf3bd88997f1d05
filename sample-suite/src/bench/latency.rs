//! Latency: how long one batch of prompts takes from first to last token.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::percentiles;
use crate::Result;
use crate::args::Arguments;
use crate::generator::Generator;
use crate::record::{write_native, write_records};
use crate::stats::mean;

/// Runs the benchmark.
pub fn run(args: &Arguments) -> Result<()> {
    let generator = Generator::load(args.required("model")?, args)?;
    let prompts: usize = args.number("batch-size", 8)?;
    let (input, output): (usize, usize) = (args.number("input-len", 32)?, args.number("output-len", 128)?);
    let batch = || {
        let began = Instant::now();
        let mut states: Vec<u64> = (0..prompts).map(|_| generator.read_prompt(input)).collect();
        for _ in 0..output {
            states.iter_mut().for_each(|state| *state = generator.next_token(*state));
        }
        began.elapsed().as_secs_f64()
    };
    for _ in 0..args.number("num-iters-warmup", 10)? {
        batch();
    }
    let latencies: Vec<f64> = (0..args.number("num-iters", 30)?).map(|_| batch()).collect();
    println!("Avg latency: {} seconds", mean(&latencies));
    let Some(file) = args.text("output-json").map(Path::new) else { return Ok(()) };
    let (average, percentiles) = (mean(&latencies), percentiles(&latencies));
    write_native(
        file,
        &json!({"model_id": generator.model, "avg_latency": average, "latencies": latencies, "percentiles": percentiles}),
    )?;
    let extra = json!({"avg_latency": average, "percentiles": percentiles});
    write_records(file, "", args, "latency", &[("latency", latencies)], &extra)
}
