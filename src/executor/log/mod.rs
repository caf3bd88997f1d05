//! The log of a pass: what the container printed, as a file that a person can read and that holds no secret. Framing
//! ([`entries`]), terminal handling ([`lines`]), redaction ([`crate::redact`]) and the mending of gaps ([`completion`])
//! are pure; only [`mod@file`] writes.

pub mod completion;
pub mod entries;
pub mod file;
pub mod lines;
pub mod progress;

pub use crate::redact::Redactor;
pub use file::{LogFile, LogSummary};
