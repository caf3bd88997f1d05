//! Holds a candidate's values against a baseline's. Pure: values in, words of change out. What is here so far are plain
//! differences; whether one is more than noise is nothing that it claims.

mod difference;

pub use difference::{Change, Difference, Tally, difference};
