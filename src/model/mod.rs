//! The nouns of benchd, without I/O: what is measured (suite, benchmark, point, variant), of what (commit), on what
//! (platform, device type, target) and how far it has come (run and job states).

mod commit;
mod conclusion;
mod control;
mod fault;
mod ids;
mod metric;
mod platform;
mod point;
mod priority;
mod pull;
mod reaction;
mod slot;
mod state;
mod suite;
mod trigger;

pub use commit::{BranchName, CommitSha, InvalidBranch, InvalidRepo, InvalidSha, RepoName};
pub use conclusion::{Conclusion, FailureKind};
pub use control::{Control, Pause, UnknownControl};
pub use fault::Fault;
pub use ids::{IdsExhausted, InvalidId, InvalidRunnerName, JobId, RunId, RunnerName, made_at, next_id, past_id};
pub use metric::{Better, MetricClass, MetricKind, UnknownMetricWord, metric_kind};
pub use platform::{DeviceType, InvalidDeviceType, InvalidTarget, Platform, Target, UnknownPlatform, model_key};
pub use point::{ExpectedPoint, Measurement, PointState, UnknownPointState};
pub use priority::{InvalidPriority, Priority};
pub use pull::{Asked, Origin, Standing, UnknownOfPull};
pub use reaction::Reaction;
pub use slot::{BusyDevice, CpuSet, DeviceId, InvalidCpuSet, Slot};
pub use state::{ImageLook, JobPhase, JobState, NoImage, RunPhase, RunState, UnknownPhase};
pub use suite::{SuiteKind, UnknownSuite, UnknownVariant, Variant};
pub use trigger::{Role, Trigger, UnknownRole};
