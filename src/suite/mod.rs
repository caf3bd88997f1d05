//! The benchmark files of a suite: where they come from, what is wrong with them, and what each benchmark asks for.
//!
//! Files are in the format of vLLM's suite (`run-performance-benchmarks.sh`): one per suite and platform, a plain array
//! of benchmarks or `{defaults, tests}`. A broken benchmark is reported and left out; it never takes others with it.

mod benchmark;
mod check;
mod compilation;
mod directory;
mod file;
mod json_line;
mod problem;
mod source;
#[cfg(test)]
mod tests;

pub use benchmark::{Benchmark, Load};
pub use compilation::{CompilationConfig, InvalidCompilationConfig};
pub use directory::{BenchmarkSet, ReadError, read_all, read_platform};
pub use file::{BenchmarkFile, Form, file_name};
pub use json_line::json_line;
pub use problem::{Problem, ProblemKind, Severity};
pub use source::{Source, SourceError};
