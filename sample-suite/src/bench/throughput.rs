//! Throughput: how much an engine gets done when every prompt is there from the start.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::Result;
use crate::args::Arguments;
use crate::generator::Generator;
use crate::record::{write_native, write_records};

/// Runs the benchmark.
pub fn run(args: &Arguments) -> Result<()> {
    let generator = Generator::load(args.required("model")?, args)?;
    let prompts: usize = args.number("num-prompts", 1000)?;
    let (input, output): (usize, usize) = (args.number("input-len", 32)?, args.number("output-len", 32)?);
    let began = Instant::now();
    for _ in 0..prompts {
        (0..output).fold(generator.read_prompt(input), |state, _| generator.next_token(state));
    }
    let elapsed = began.elapsed().as_secs_f64();
    let tokens = prompts * (input + output);
    let (requests_rate, tokens_rate) = (prompts as f64 / elapsed, tokens as f64 / elapsed);
    println!("Throughput: {requests_rate:.2} requests/s, {tokens_rate:.2} total tokens/s");
    let Some(file) = args.text("output-json").map(Path::new) else { return Ok(()) };
    write_native(
        file,
        &json!({
            "model_id": generator.model, "elapsed_time": elapsed, "num_requests": prompts, "total_num_tokens": tokens,
            "requests_per_second": requests_rate, "tokens_per_second": tokens_rate,
        }),
    )?;
    let extra = json!({"elapsed_time": elapsed, "num_requests": prompts, "total_num_tokens": tokens});
    let metrics = [("requests_per_second", vec![requests_rate]), ("tokens_per_second", vec![tokens_rate])];
    write_records(file, "", args, "throughput", &metrics, &extra)
}
