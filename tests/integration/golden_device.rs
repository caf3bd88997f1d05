//! `benchd device --json` on hosts made of recorded tool output, against what the reference calls them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{benchd, shared};

/// Where benchd deliberately calls a host otherwise (docs/compatibility.md, "Devices"): the case and its device type.
const DEVIATIONS: &[(&str, &str)] = &[
    // The lines of the BIOS, shown to root, are not the processor's.
    ("arm64_graviton2_root", "ARM"),
    ("cpu_6972p_bios_lines", "Xeon_6972P_192c"),
    // HL-2xx is Gaudi2; blanks at the end are cut.
    ("hpu_hl225_gaudi2", "Intel Gaudi2 HL-225"),
    ("hpu_trailing_space", "Intel Gaudi3 HL-325L"),
];

/// Puts a tool for each recorded output into `folder`.
fn stand_in(input: &Path, folder: &Path) {
    // Another process writes them: a file that this one has open for writing could not be run meanwhile.
    let put = |tool: &str, script: &str| {
        let made = Command::new("/bin/sh")
            .args(["-c", r#"printf '%s\n' "$1" > "$0" && chmod 755 "$0""#])
            .arg(folder.join(tool))
            .arg(format!("#!/bin/sh\n{script}"))
            .status();
        assert!(made.unwrap().success());
    };
    for entry in fs::read_dir(input).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(tool) = name.strip_suffix(".fails.txt") {
            put(tool, "echo 'an error line'; exit 9");
        } else if name == "uname_m.txt" {
            put("uname", &format!("/bin/cat '{}'", path.display()));
        } else {
            put(name.strip_suffix(".txt").unwrap(), &format!("/bin/cat '{}'", path.display()));
        }
    }
}

#[test]
fn hosts_are_called_as_in_published_records() {
    let Some(cases) = shared("golden/device") else { return };
    let mut count = 0;
    for case in fs::read_dir(&cases).unwrap() {
        let case = case.unwrap();
        let name = case.file_name().to_string_lossy().into_owned();
        let tools = tempfile::tempdir().unwrap();
        stand_in(&case.path().join("input"), tools.path());
        let ran = benchd().args(["device", "--json"]).env("PATH", tools.path()).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        let expected: Value =
            serde_json::from_slice(&fs::read(case.path().join("expected/result.json")).unwrap()).unwrap();
        count += 1;
        if expected["detect_rc"] != 0 {
            assert_eq!(ran.status.code(), Some(3), "{name}: {said}");
            for part in ["nvidia-smi", "exit status: 9", "an error line", "--device-type"] {
                assert_eq!(said.matches(part).count(), 1, "{name}: {part} is not once in {said}");
            }
            continue;
        }
        assert_eq!(ran.status.code(), Some(0), "{name}: {said}");
        let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(found["platform"], expected["DEVICE_NAME"], "{name}");
        if let Some((_, device_type)) = DEVIATIONS.iter().find(|(deviating, _)| *deviating == name) {
            assert_eq!(found["device_type"], *device_type, "{name}");
            assert_eq!(found["device_key"], device_type.replace(' ', "_"), "{name}");
        } else if name == "cpu_no_sockets" {
            let device_type = found["device_type"].as_str().unwrap();
            assert!(!device_type.ends_with("_0c"), "{name}: {device_type}");
        } else {
            assert_eq!(found["device_type"], expected["DEVICE_TYPE"], "{name}");
            assert_eq!(found["device_key"], expected["upload_key_device"], "{name}");
            assert_eq!(found["runner_type"], expected["record_runner_type"], "{name}");
        }
        let listed = |tool: &str, what: &str| {
            let text = fs::read_to_string(case.path().join("input").join(tool)).unwrap();
            text.lines().filter(|line| line.contains(what)).count()
        };
        let devices = match found["platform"].as_str().unwrap() {
            "cuda" => listed("nvidia-smi.txt", "NVIDIA"),
            "rocm" => listed("rocminfo.txt", "GPU-"),
            "hpu" => listed("hl-smi.txt", "Product Name"),
            _ => usize::try_from(found["count"].as_u64().unwrap()).unwrap(),
        };
        assert_eq!(found["count"], devices, "{name}");
        assert_eq!(found["devices"].as_array().unwrap().len(), devices, "{name}");
    }
    assert!(count >= 15, "{count} cases");
}

#[test]
fn arm_keeps_its_key_word_and_its_model() {
    let Some(cases) = shared("golden/device/arm64_graviton2_root") else { return };
    let tools = tempfile::tempdir().unwrap();
    stand_in(&cases.join("input"), tools.path());
    let ran = benchd().args(["device", "--json"]).env("PATH", tools.path()).output().unwrap();
    let found: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&found["device_key"], &found["cpu"]["model"]), (&Value::from("ARM"), &Value::from("Neoverse-N1")));
}
