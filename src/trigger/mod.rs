//! Why commits are measured: every trigger ends in one request, planned and submitted here.

pub mod again;
pub mod command;
pub mod context;
pub mod cron;
pub mod delivery;
mod key;
pub mod looks;
pub mod manual;
pub mod merge;
mod payload;
pub mod pick;
pub mod policy;
pub mod pull;
pub mod reconcile;
pub mod release;
pub mod request;
pub mod resolve;
pub mod schedule;
pub mod source;
pub mod tick;

pub use context::{Context, UnknownRepository};
pub use request::{Planned, Request, RequestError};
