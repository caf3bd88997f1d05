//! The last stage: what was measured leaves the house.

pub mod destination;
pub mod outbox;
pub mod runner;
pub mod upload;
mod upload_api;
