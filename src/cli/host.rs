//! What commands that measure or plan for this host ask it: its hardware, as configured or as its tools say.

use super::Failure;
use crate::config::{Config, environment};
use crate::executor::device::{DetectError, DeviceInventory, Tools, detect};
use crate::model::Target;

/// The hardware of this host by configuration and tools.
pub async fn inventory(config: &Config) -> Result<DeviceInventory, Failure> {
    let tools = Tools::in_folders(environment::search_path());
    let execution = &config.execution;
    detect(&tools, execution.platform, &execution.devices).await.map_err(|error| match error {
        DetectError::NoSuchDevice { .. } | DetectError::NoneChosen => Failure::usage(error),
        DetectError::Tool(_) | DetectError::Missing { .. } | DetectError::Untold { .. } | DetectError::Name(_) => {
            Failure::infrastructure(error)
        }
    })
}

/// What this host can measure on: all its devices.
pub async fn target(config: &Config) -> Result<Target, Failure> {
    let DeviceInventory { platform, device_type, count, .. } = inventory(config).await?;
    Ok(Target { platform, device_type, count })
}
