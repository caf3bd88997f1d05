//! The suites and variants that benchd knows by name.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// One of vLLM's benchmark suites: one configuration file per platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SuiteKind {
    /// A server under load, at request rates and concurrencies.
    Serving,
    /// One batch, repeated.
    Latency,
    /// Many prompts at once, offline.
    Throughput,
    /// Cold and warm start of the engine.
    Startup,
}

/// No suite has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a suite (serving, latency, throughput, startup)")]
pub struct UnknownSuite(String);

impl SuiteKind {
    /// All suites, in the order in which the vLLM script runs them.
    pub const ALL: [Self; 4] = [Self::Serving, Self::Latency, Self::Startup, Self::Throughput];

    /// The name in files and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Startup => "startup",
        }
    }
}

impl FromStr for SuiteKind {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| UnknownSuite(text.to_owned()))
    }
}

impl fmt::Display for SuiteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the engine compiles the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// As configured.
    Base,
    /// Without compilation.
    Eager,
    /// With inductor's graph partition.
    InductorGraphPartition,
    /// Not told: results of others, read into the store. Nothing is measured as such.
    Unknown,
}

/// No variant has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a variant (base, eager, inductor_graph_partition)")]
pub struct UnknownVariant(String);

impl Variant {
    /// All variants that can be measured, in the order in which they are written into a suite file.
    pub const ALL: [Self; 3] = [Self::Base, Self::Eager, Self::InductorGraphPartition];

    /// The name in configuration and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Eager => "eager",
            Self::InductorGraphPartition => "inductor_graph_partition",
            Self::Unknown => "unknown",
        }
    }

    /// What is appended to a benchmark's name.
    pub fn name_suffix(self) -> &'static str {
        match self {
            Self::Base | Self::Unknown => "",
            Self::Eager => "_eager",
            Self::InductorGraphPartition => "_inductor_graph_partition",
        }
    }
}

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut known = Self::ALL.into_iter().chain([Self::Unknown]);
        known.find(|v| v.as_str() == text).ok_or_else(|| UnknownVariant(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Variant {
    /// A wrong name is told with those that can be measured, which are what people write.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_unknown| D::Error::unknown_variant(&text, &["base", "eager", "inductor_graph_partition"]))
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
