//! The nouns of benchd, without I/O: what is measured (suite, benchmark, point, variant), of what (commit), on what
//! (platform, device type, target) and how far it has come (run and job states).

mod commit;
mod fault;
mod metric;
mod platform;
mod point;
mod suite;

pub use commit::{BranchName, CommitSha, InvalidBranch, InvalidRepo, InvalidSha, RepoName};
pub use fault::Fault;
pub use metric::{Better, MetricClass, MetricKind, metric_kind};
pub use platform::{DeviceType, InvalidDeviceType, Platform, Target, UnknownPlatform, model_key};
pub use point::{ExpectedPoint, Measurement, PointState};
pub use suite::{SuiteKind, UnknownSuite, UnknownVariant, Variant};
