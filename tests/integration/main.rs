//! All integration tests in one binary: on two cores, linking is what costs. Modules under `engine` need a Docker
//! Engine and a registry (`tests/support/engine.sh start`); everything else runs on its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test that fails should fail at once and say where"
)]

mod benchmark_source;
mod benchmarks;
mod broken_configs;
mod commit_select;
mod configuration;
mod docker_run;
mod doctor;
mod documents;
mod engine;
mod github;
mod golden_device;
mod golden_results;
mod golden_setup;
mod http;
mod import;
mod intake;
mod layering;
mod object_store;
mod packing;
mod pulls;
mod registry;
mod results_command;
mod sample_suite;
mod store;
mod suite_log;
mod support;
mod told;
mod triggers;
mod upload_api;
