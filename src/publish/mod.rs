//! The last stage: what was measured leaves the house, as records and as words on pull requests.

pub mod destination;
pub mod outbox;
pub mod report;
pub mod runner;
pub mod tell;
pub mod upload;
mod upload_api;
