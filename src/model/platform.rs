//! What a commit is measured on: platform, device type as the hardware names itself, and their count.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Configuration folder and image suffix of a kind of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// NVIDIA GPUs.
    Cuda,
    /// AMD GPUs.
    Rocm,
    /// Intel Gaudi.
    Hpu,
    /// x86 CPUs.
    Cpu,
    /// 64-bit ARM CPUs.
    Arm64Cpu,
}

/// No platform has this name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a platform (cuda, rocm, hpu, cpu, arm64-cpu)")]
pub struct UnknownPlatform(String);

impl Platform {
    /// All platforms.
    pub const ALL: [Self; 5] = [Self::Cuda, Self::Rocm, Self::Hpu, Self::Cpu, Self::Arm64Cpu];

    /// The name in folders, configuration and published records (`runners[0].name`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Hpu => "hpu",
            Self::Cpu => "cpu",
            Self::Arm64Cpu => "arm64-cpu",
        }
    }

    /// What stands between `serving-tests` and `.json` in the name of a benchmark file.
    pub fn file_suffix(self) -> &'static str {
        match self {
            Self::Cuda | Self::Rocm => "",
            Self::Hpu => "-hpu",
            Self::Cpu => "-cpu",
            Self::Arm64Cpu => "-arm64-cpu",
        }
    }

    /// What follows the commit in the tag of a CI image.
    pub fn image_suffix(self) -> &'static str {
        self.file_suffix()
    }

    /// Whether the suite runs on processors (`ON_CPU=1`).
    pub fn is_cpu(self) -> bool {
        match self {
            Self::Cpu | Self::Arm64Cpu => true,
            Self::Cuda | Self::Rocm | Self::Hpu => false,
        }
    }

    /// Whether compilation variants (eager, inductor graph partition) are measured besides base; Gaudi is lazy.
    pub fn has_variants(self) -> bool {
        match self {
            Self::Cuda | Self::Rocm | Self::Cpu | Self::Arm64Cpu => true,
            Self::Hpu => false,
        }
    }
}

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| UnknownPlatform(text.to_owned()))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The hardware as it names itself, for example `NVIDIA H100 80GB HBM3`: one non-empty line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceType(String);

/// The text cannot name a device.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a device type (one non-empty line)")]
pub struct InvalidDeviceType(String);

impl DeviceType {
    /// The name, trimmed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in object keys: every character outside `[A-Za-z0-9.-]` becomes `_`. Look-up and upload share it.
    pub fn device_key(&self) -> String {
        self.0.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' }).collect()
    }

    /// The name in published records (`runners[0].type`): the key with `_` turned back into spaces.
    pub fn runner_type(&self) -> String {
        self.device_key().replace('_', " ")
    }
}

impl FromStr for DeviceType {
    type Err = InvalidDeviceType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        if name.is_empty() || name.chars().any(char::is_control) {
            Err(InvalidDeviceType(text.to_owned()))
        } else {
            Ok(Self(name.to_owned()))
        }
    }
}

impl TryFrom<String> for DeviceType {
    type Error = InvalidDeviceType;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceType> for String {
    fn from(device: DeviceType) -> Self {
        device.0
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Platform, device type and device count: what is picked, claimed, measured once and published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Kind of hardware.
    pub platform: Platform,
    /// Which hardware.
    pub device_type: DeviceType,
    /// How many devices a benchmark uses.
    pub count: u32,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x {}", self.count, self.device_type)
    }
}

/// The text is not a target.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a target (platform:device type:count, for example `cuda:NVIDIA H100 80GB HBM3:2`)")]
pub struct InvalidTarget(String);

impl FromStr for Target {
    type Err = InvalidTarget;

    /// `platform:device type:count`; the count is 1 where it is left out.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidTarget(text.to_owned());
        let (platform, rest) = text.split_once(':').ok_or_else(invalid)?;
        let platform = platform.trim().parse().map_err(|_unknown| invalid())?;
        let counted = rest.rsplit_once(':').and_then(|(name, count)| Some((name, count.trim().parse::<u32>().ok()?)));
        let (name, count) = counted.unwrap_or((rest, 1));
        let device_type = name.parse().map_err(|_invalid| invalid())?;
        if count == 0 { Err(invalid()) } else { Ok(Self { platform, device_type, count }) }
    }
}

/// A model's name in object keys: lower case, and `/` becomes `_`.
pub fn model_key(model: &str) -> String {
    model.trim().to_lowercase().replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_for_look_up_and_upload() {
        let xeon: DeviceType = "Xeon_Platinum_8480+_112c".parse().unwrap();
        assert_eq!(xeon.device_key(), "Xeon_Platinum_8480__112c");
        assert_eq!(xeon.runner_type(), "Xeon Platinum 8480  112c");
        let h100: DeviceType = "NVIDIA H100 80GB HBM3\n".parse().unwrap();
        assert_eq!(
            (h100.device_key().as_str(), h100.runner_type().as_str()),
            ("NVIDIA_H100_80GB_HBM3", "NVIDIA H100 80GB HBM3")
        );
        assert!("ARM\nEC2".parse::<DeviceType>().is_err());
    }

    #[test]
    fn a_target_is_read_as_a_person_writes_it() {
        let of = |text: &str| text.parse::<Target>().map(|t| (t.platform, t.device_type.to_string(), t.count));
        assert_eq!(of("cuda:NVIDIA H100 80GB HBM3:2").unwrap(), (Platform::Cuda, "NVIDIA H100 80GB HBM3".into(), 2));
        assert_eq!(of("cpu:Xeon_6972P_192c").unwrap(), (Platform::Cpu, "Xeon_6972P_192c".into(), 1));
        for bad in ["", "cuda", "cuda:", "gpu:x:1", "cuda:x:0"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
