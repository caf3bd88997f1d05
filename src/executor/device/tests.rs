//! Detection on hosts made of stand-in tools, and the answers of tools that no recorded case has.

use std::path::Path;

use super::*;

/// Makes an executable script. Another process writes it: while this one has it open for writing, a child that another
/// test forks would hold it open too, and running it fails ("text file busy").
pub(in crate::executor) fn make_tool(folder: &Path, name: &str, script: &str) {
    let made = std::process::Command::new("/bin/sh")
        .args(["-c", r#"printf '%s\n' "$1" > "$0" && chmod 755 "$0""#])
        .arg(folder.join(name))
        .arg(format!("#!/bin/sh\n{script}"))
        .status();
    assert!(made.unwrap().success());
}

struct Standins(tempfile::TempDir);

impl Standins {
    fn new(tools: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in tools {
            make_tool(folder.path(), name, script);
        }
        Self(folder)
    }

    async fn detect(&self, overrides: &DevicesConfig) -> Result<DeviceInventory, DetectError> {
        detect(&Tools::in_folders(vec![self.0.path().to_owned()]), None, overrides).await
    }
}

const EIGHT_H100: &str = r#"case "$*" in
  *name,uuid*) for i in 0 1 2 3 4 5 6 7; do
    echo "$i, NVIDIA H100 80GB HBM3, GPU-$i, 81559 MiB, 570.86.15"; done ;;
  *) echo "NVIDIA H100 80GB HBM3" ;;
esac"#;

#[tokio::test]
async fn details_of_gpus_and_a_choice_of_them() {
    let host = Standins::new(&[("nvidia-smi", EIGHT_H100)]);
    let all = host.detect(&DevicesConfig::default()).await.unwrap();
    assert_eq!((all.platform, all.count, all.devices.len()), (Platform::Cuda, 8, 8));
    assert_eq!(all.driver.as_deref(), Some("570.86.15"));
    let third = Device {
        index: 3,
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        uuid: Some("GPU-3".to_owned()),
        memory_bytes: Some(81_559 << 20),
    };
    assert_eq!(all.devices[3], third);
    assert!(all.warnings.is_empty(), "{:?}", all.warnings);

    let chosen = DevicesConfig { indices: Some(vec![3, 1, 3]), ..DevicesConfig::default() };
    let two = host.detect(&chosen).await.unwrap();
    assert_eq!(two.count, 2);
    assert_eq!(two.devices.iter().map(|d| d.index).collect::<Vec<_>>(), [1, 3]);
    let absent = DevicesConfig { indices: Some(vec![8]), ..DevicesConfig::default() };
    let error = host.detect(&absent).await.unwrap_err().to_string();
    assert_eq!(error, "device 8 was chosen, this host has 8 (from 0)");
}

#[tokio::test]
async fn a_failing_tool_is_no_missing_gpu() {
    let host = Standins::new(&[("nvidia-smi", "echo 'No devices were found'; exit 6"), ("lscpu", "exit 1")]);
    let error = host.detect(&DevicesConfig::default()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "`nvidia-smi -i 0 --query-gpu=name --format=csv,noheader` failed (exit status: 6): No devices were found; \
         mend it, or say what this host has: execution.platform, execution.devices.device_type and \
         execution.devices.count (--platform, --device-type, --count)"
    );
    let told = DevicesConfig { device_type: Some("NVIDIA B200".parse().unwrap()), count: Some(2), indices: None };
    let inventory = host.detect(&told).await.unwrap();
    assert_eq!((inventory.device_key.as_str(), inventory.count, inventory.devices.len()), ("NVIDIA_B200", 2, 2));
    assert!(inventory.warnings[0].starts_with("the devices are as configured: `nvidia-smi"));
}

#[tokio::test]
async fn half_an_answer_is_a_warning_and_none_an_error() {
    let no_details = r#"case "$*" in *uuid*) exit 2 ;;
      --list-gpus) echo "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-a)"; echo "GPU 1: NVIDIA A10 (UUID: GPU-b)" ;;
      *) echo "NVIDIA A100-SXM4-40GB" ;; esac"#;
    let host = Standins::new(&[("nvidia-smi", no_details)]);
    let inventory = host.detect(&DevicesConfig::default()).await.unwrap();
    assert_eq!((inventory.count, inventory.devices[1].uuid.as_deref()), (2, Some("GPU-b")));
    assert_eq!(inventory.warnings.len(), 2);
    assert_eq!(
        inventory.warnings[1],
        "the devices differ (NVIDIA A10, NVIDIA A100-SXM4-40GB); results are named by NVIDIA A100-SXM4-40GB"
    );
    let chosen = |indices: &[u32]| DevicesConfig { indices: Some(indices.to_vec()), ..DevicesConfig::default() };
    let second = host.detect(&chosen(&[1])).await.unwrap();
    assert_eq!((second.device_type.as_str(), second.count), ("NVIDIA A10", 1), "named by what was chosen");
    let error = host.detect(&chosen(&[0, 1])).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().starts_with("the chosen devices differ (NVIDIA A10, "), "{error}");

    let name_only = r#"[ "$1" = -i ] && echo "NVIDIA H200" || exit 2"#;
    let inventory = Standins::new(&[("nvidia-smi", name_only)]).detect(&DevicesConfig::default()).await.unwrap();
    assert_eq!((inventory.count, inventory.devices[0].name.as_str()), (1, "NVIDIA H200"));
    assert_eq!(inventory.warnings[1], "nvidia-smi does not list its GPUs: taken for one");

    for (tool, script, said) in [
        ("nvidia-smi", "echo '[GPU requires reset]'", "`nvidia-smi` does not tell the name of GPU 0; "),
        (
            "nvidia-smi",
            "echo 'Failed to initialize NVML: Unknown Error'",
            "`nvidia-smi` does not tell the name of GPU 0; ",
        ),
        ("rocm-smi", "exit 0", "`rocminfo`, which names the rocm devices, is not on PATH; "),
        ("hl-smi", "echo nothing", "`hl-smi` does not tell a `Product Name`; "),
        ("uname", "exit 3", "`uname -m` failed (exit status: 3); "),
    ] {
        let host = Standins::new(&[(tool, script)]);
        let error = host.detect(&DevicesConfig::default()).await.unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    let cpus_only = "echo 'Agent 1'; echo 'Marketing Name: EPYC'; echo 'Device Type: CPU'";
    let host = Standins::new(&[("rocm-smi", "exit 0"), ("rocminfo", cpus_only)]);
    let error = host.detect(&DevicesConfig::default()).await.unwrap_err().to_string();
    assert!(error.starts_with("`rocminfo` does not tell any agent that is a GPU; "), "{error}");
}

#[tokio::test]
async fn cores_that_lscpu_does_not_tell_are_counted() {
    let host = Standins::new(&[("lscpu", "echo 'Model name: Intel(R) Xeon(R) 6980P'"), ("uname", "echo x86_64")]);
    let counted = host::cpu().cores.expect("the kernel tells its cores");
    let inventory = host.detect(&DevicesConfig::default()).await.unwrap();
    assert_eq!(inventory.device_type.as_str(), format!("Xeon_6980P_{counted}c"));
    assert_eq!(inventory.warnings.len(), 1);
}

#[test]
fn words_as_xargs_reads_them() {
    let named = |name: &str| parse::rocm(&format!("Agent 1\n  Marketing Name:   {name}  \n")).device_type;
    assert_eq!(named("AMD  Radeon\tPRO   W7900"), "AMD Radeon PRO W7900");
    assert_eq!(named(r#""AMD  Instinct" MI\300X"#), "AMD  Instinct MI300X");
    assert_eq!(named("AMD Instinct: MI300X"), "AMD Instinct");
}

#[test]
fn gaudi_generations() {
    let named = |product: &str| parse::gaudi(&format!(" Product Name : {product}  \n")).device_type;
    assert_eq!(named("HL-325L").as_deref(), Some("Intel Gaudi3 HL-325L"));
    assert_eq!(named("HL-338").as_deref(), Some("Intel Gaudi3 HL-338"));
    assert_eq!(named("HL-225H").as_deref(), Some("Intel Gaudi2 HL-225H"));
    assert_eq!(named("HL-205").as_deref(), Some("Intel Gaudi2 HL-205"));
    assert_eq!(named("HL-100").as_deref(), Some("Intel Gaudi HL-100"));
    let two = "Driver Version : 1.22\n Product Name : HL-325L\n UUID : 01P4\n Total : 131072 MB\n Used : 1 MB\n \
               Product Name : HL-325L\n Total : 131072 MB\n Total : 5 W\n";
    let found = parse::gaudi(two);
    assert_eq!((found.devices.len(), found.driver.as_deref()), (2, Some("1.22")));
    assert_eq!((found.devices[0].uuid.as_deref(), found.devices[1].memory_bytes), (Some("01P4"), Some(131_072 << 20)));
}

#[test]
fn rocm_memory_is_that_of_the_largest_pool() {
    let info = "Agent 1\n Name: EPYC\n Marketing Name: AMD EPYC\n Device Type: CPU\n Size: 9(0x9) KB\n\
                Agent 2\n Name: gfx942\n Uuid: GPU-1a\n Marketing Name: AMD Instinct MI300X\n Device Type: GPU\n\
                Workgroup Max Size: 1024(0x400)\n Size: 201310208(0xbffc000) KB\n Size: 64(0x40) KB\n Name: amdgcn\n";
    let found = parse::rocm(info);
    assert_eq!(found.devices.len(), 1);
    assert_eq!(found.devices[0].memory_bytes, Some(201_310_208 << 10));
    assert_eq!(found.devices[0].uuid.as_deref(), Some("GPU-1a"));
}

#[test]
fn x86_names_keep_what_is_no_decoration() {
    for (model, name) in [
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", "Xeon_Platinum_8275CL_@_3.00GHz_48c"),
        ("INTEL(R) XEON(R) PLATINUM 8562Y+", "INTEL_XEON_PLATINUM_8562Y+_48c"),
        ("AMD EPYC 7R13 Processor", "AMD_EPYC_7R13_48c"),
        ("Intel(R) Core(TM)  Ultra 9", "Core_Ultra_9_48c"),
    ] {
        assert_eq!(parse::x86_device_type(model, 48).as_deref(), Some(name));
    }
    assert_eq!(parse::x86_device_type("CPU Processor", 2), None);
}

#[test]
fn the_kernel_counts_cores_once_per_socket() {
    let text = "processor : 0\nmodel name : X\nphysical id : 0\ncore id : 0\n\
                processor : 1\nmodel name : X\nphysical id : 0\ncore id : 0\n\
                processor : 2\nmodel name : X\nphysical id : 1\ncore id : 0\n";
    let told = parse::cpuinfo(text);
    assert_eq!((told.model.as_deref(), told.cores, told.sockets), (Some("X"), Some(2), Some(2)));
    assert_eq!(parse::cpuinfo("processor : 0\n"), CpuDetail::default());
    assert_eq!(parse::memory_bytes("MemTotal:       24684084 kB\n"), Some(24_684_084 * 1024));
}
