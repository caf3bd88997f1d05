//! From a directory of result files to judged records and measurements: reading, judging, records on the wire. Apart
//! from reading the directory all of it is pure.

pub mod check;
mod files;
mod foreign;
pub mod identity;
pub mod json;
mod judge;
mod limits;
pub mod measurement;
mod names;
pub mod object;
pub mod parse;
mod points;
mod problem;
pub mod record;
pub mod series;

pub use check::{CheckError, Completeness, Expectation, Finding, Report, Strictness, check};
pub use names::{benchmark_of, variant_of};
pub use problem::{At, Problem, ProblemKind};
