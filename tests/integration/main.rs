//! All integration tests in one binary: on two cores, linking is what costs. Modules under `engine` need a Docker
//! Engine and a registry (`tests/support/engine.sh start`); everything else runs on its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test that fails should fail at once and say where"
)]

mod broken_configs;
mod configuration;
mod golden_results;
mod layering;
mod object_store;
mod results_command;
mod store;
mod support;
mod upload_api;
