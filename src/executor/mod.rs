//! Runs a job's containers on the Docker Engine. No other module talks to Docker.

pub mod cache;
pub mod collect;
pub mod device;
pub mod docker;
pub mod log;
pub mod workspace;
