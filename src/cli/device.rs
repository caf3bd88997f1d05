//! `benchd device`.

use super::{Answer, CommandResult, Failure, terminal};
use crate::config::{DevicesConfig, environment, human};
use crate::executor::device::{DeviceInventory, Tools, detect};
use crate::model::{DeviceType, Platform};

/// Arguments of `benchd device`.
#[derive(clap::Args)]
pub struct Args {
    /// Platform of this host, whatever tools it has: cuda, rocm, hpu, cpu or arm64-cpu
    #[arg(long)]
    platform: Option<Platform>,

    /// Device type, instead of what the tools say
    #[arg(long, value_name = "TYPE")]
    device_type: Option<DeviceType>,

    /// How many devices there are (NUMA nodes on CPUs), instead of what the tools say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,

    /// Only these devices, by number from 0, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "0,1")]
    devices: Option<Vec<u32>>,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// Runs the command: 0 when the hardware is known, 3 when a tool fails.
pub async fn run(args: Args) -> CommandResult {
    let overrides = DevicesConfig { device_type: args.device_type, count: args.count, indices: args.devices };
    let tools = Tools::in_folders(environment::search_path());
    let inventory =
        detect(&tools, args.platform, &overrides).await.map_err(|error| Failure::of(error.is_usage(), error))?;
    if args.json {
        terminal::print_json(&inventory).map_err(Failure::infrastructure)?;
    } else {
        print_inventory(&inventory);
    }
    for warning in &inventory.warnings {
        terminal::say(format_args!("benchd: {warning}"));
    }
    Ok(Answer::Yes)
}

fn print_inventory(inventory: &DeviceInventory) {
    let line = |name: &str, value: &str| terminal::print(format_args!("{name:<12} {value}"));
    line("platform", inventory.platform.as_str());
    line("device type", inventory.device_type.as_str());
    line("device key", &inventory.device_key);
    line("runner type", &inventory.runner_type);
    line("count", &inventory.count.to_string());
    for device in &inventory.devices {
        let memory = device.memory_bytes.map_or_else(String::new, |bytes| format!(", {}", human(bytes)));
        let uuid = device.uuid.as_ref().map_or_else(String::new, |uuid| format!(", {uuid}"));
        line(&format!("  {}", device.index), &format!("{}{memory}{uuid}", device.name));
    }
    line("driver", inventory.driver.as_deref().unwrap_or("-"));
    let count = |n: Option<u32>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let cpu = &inventory.cpu;
    let model = cpu.model.as_deref().unwrap_or("?");
    line("cpu", &format!("{model}, {} cores, {} sockets", count(cpu.cores), count(cpu.sockets)));
    line("memory", &inventory.memory_bytes.map_or_else(|| "?".to_owned(), human));
}
