//! The composition root: builds clients and store, and puts the stages together for `benchd run` and the daemon.

pub mod alive;
pub mod doctor;
pub mod identity;
mod images;
pub mod import;
pub mod once;
pub mod runner;
pub mod serve;
mod work;
