//! Pull requests: what their labels, heads and forks decide.

pub mod decide;
pub mod paths;
mod say;
#[cfg(test)]
mod tests;
