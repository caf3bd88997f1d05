//! What the command line writes: answers to standard output, everything else to standard error.
#![expect(clippy::print_stderr, reason = "the one place that prints")]

use std::fmt::Arguments;
use std::io::Write;

use serde::Serialize;

/// Prints a line of an answer to standard output; a closed pipe ends the output quietly.
pub fn print(line: Arguments<'_>) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        // The reader went away (`benchd runs | head`): nothing is left to tell it.
    }
}

/// Tells the person something on standard error.
pub fn say(line: Arguments<'_>) {
    eprintln!("{line}");
}

/// Prints a value as indented JSON to standard output.
pub fn print_json(value: &impl Serialize) -> Result<(), serde_json::Error> {
    print(format_args!("{}", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Sends log lines to standard error, filtered by `filter`; a broken filter falls back to warnings and says so.
pub fn init_logging(filter: &str) {
    use tracing_subscriber::EnvFilter;
    let parsed = EnvFilter::try_new(filter);
    if let Err(error) = &parsed {
        say(format_args!("benchd: log filter `{filter}` is not understood ({error}), using `warn`"));
    }
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).finish();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        // A test has installed its own subscriber first; it sees the log lines.
    }
}
