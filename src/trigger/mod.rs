//! Why commits are measured: every trigger ends in one request, planned and submitted here.

pub mod request;

pub use request::{Planned, Request, RequestError};
