//! Why commits are measured: every trigger ends in one request, planned and submitted here.

pub mod context;
pub mod cron;
pub mod pick;
pub mod policy;
pub mod request;
pub mod source;

pub use context::{Context, UnknownRepository};
pub use request::{Planned, Request, RequestError};
