//! A benchmark suite small enough to run anywhere that keeps vLLM's contract: the same commands, configuration files
//! and result files. It measures a tiny text generator that works for every token, so that its figures are real.
//!
//! In an image it is also called `vllm`, because that is what the suite's commands name.

mod args;
mod bench;
mod generator;
mod http;
mod record;
mod serve;
mod stats;
mod suite;
mod summary;

use std::process::ExitCode;

use args::Arguments;

/// A failure told to a person; nothing here is handled by kind.
type Result<T, E = String> = std::result::Result<T, E>;

const USAGE: &str = "usage: sample-suite serve MODEL [--port 8000] ...
       sample-suite bench serve|latency|throughput|startup --model MODEL ...
       sample-suite calls serving|latency|startup|throughput FILE
       sample-suite object KEY VALUE ...
       sample-suite summary RESULTS
       sample-suite collect-env";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("Error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["serve", model, rest @ ..] => serve::run(model, &Arguments::parse(rest)),
        ["bench", "serve", rest @ ..] => bench::serve::run(&Arguments::parse(rest)),
        ["bench", "latency", rest @ ..] => bench::latency::run(&Arguments::parse(rest)),
        ["bench", "throughput", rest @ ..] => bench::throughput::run(&Arguments::parse(rest)),
        ["bench", "startup", rest @ ..] => bench::startup::run(&Arguments::parse(rest)),
        ["calls", kind, file] => {
            print!("{}", suite::calls(kind.parse()?, file.as_ref())?);
            Ok(())
        }
        ["object", pairs @ ..] => {
            println!("{:#}", suite::object(pairs));
            Ok(())
        }
        ["summary", results] => summary::write(results.as_ref()),
        ["collect-env"] => {
            print!("{}", summary::environment());
            Ok(())
        }
        _ => Err(format!("not a command: {words:?}\n{USAGE}")),
    }
}
