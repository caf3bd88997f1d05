//! benchd measures commits on GPU runners and tells people what it found.
//!
//! The library holds every stage; the executable in `main.rs` only parses the command line. Modules are
//! layered (see ARCHITECTURE.md): a module names only modules on layers below its own, and a test keeps that true.

pub mod app;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod config;
pub mod executor;
pub mod git;
pub mod github;
pub mod health;
pub mod http;
pub mod meters;
pub mod model;
pub mod objects;
pub mod publish;
pub mod queue;
pub mod redact;
pub mod registry;
pub mod results;
pub mod step;
pub mod store;
pub mod suite;
pub mod trigger;
