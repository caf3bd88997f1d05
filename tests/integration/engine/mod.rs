//! Tests against a running Docker Engine (`tests/support/engine.sh start`).

mod container_image;
mod pass_case;
mod passes;
mod passes_under_fault;
