//! Whether an infrastructure failure goes away by itself: every error type of an edge classifies itself with this.

/// What repeating the same step can bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The same step fails again until a person changes something.
    Permanent,
    /// The other side was down, busy or slow: worth a bounded number of retries with backoff.
    Transient,
}
