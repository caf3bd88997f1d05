//! From a run to its jobs: what is measured where, and in which order.

pub mod planner;
