//! Runs a job's containers on the Docker Engine. No other module talks to Docker.

pub mod cache;
pub mod collect;
pub mod container;
pub mod device;
pub mod docker;
mod entry;
mod follow;
pub mod give_back;
pub mod image;
mod input;
pub mod job;
pub mod life;
pub mod log;
pub mod measured;
pub mod network;
pub mod outcome;
pub mod pass;
pub mod room;
pub mod settings;
pub mod telemetry;
pub mod watch;
pub mod workspace;

pub use outcome::{PassEnd, PassError, PassEvent, PassNotice, PassOutcome, Results};
pub use pass::{resume, run_pass};
