//! What the command line writes: answers to standard output, everything else to standard error. Every secret that this
//! process has read is masked in all of it.
#![expect(clippy::print_stderr, reason = "the one place that prints")]

use std::fmt::Arguments;
use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::redact;

/// Prints a line of an answer to standard output; a closed pipe ends the output quietly.
pub fn print(line: Arguments<'_>) {
    if writeln!(std::io::stdout(), "{}", redact::masked(&line.to_string())).is_err() {
        // The reader went away (`benchd runs | head`): nothing is left to tell it.
    }
}

/// Prints bytes as they are to standard output.
///
/// # Errors
/// When nobody reads them any more.
pub fn print_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// Tells the person something on standard error.
pub fn say(line: Arguments<'_>) {
    eprintln!("{}", redact::masked(&line.to_string()));
}

/// Prints a value as indented JSON to standard output.
pub fn print_json(value: &impl Serialize) -> Result<(), serde_json::Error> {
    print(format_args!("{}", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Standard error for log lines.
struct Masked;

impl Write for Masked {
    /// `tracing` writes a line at once.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        std::io::stderr().write_all(redact::masked(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Sends log lines to standard error, filtered by `filter`; a broken filter falls back to warnings and says so.
pub fn init_logging(filter: &str, format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let parsed = EnvFilter::try_new(filter);
    if let Err(error) = &parsed {
        say(format_args!("benchd: log filter `{filter}` is not understood ({error}), using `warn`"));
    }
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(|| Masked);
    let installed = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(lines.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish()),
    };
    if installed.is_err() {
        // A test has installed its own subscriber first; it sees the log lines.
    }
}
