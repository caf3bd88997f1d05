//! The configuration as a person meets it: the example, the reference, `check-config` and `init`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::benchd;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Standard output of `benchd check-config` with `arguments`, which must be accepted.
fn accepted(arguments: &[&str]) -> String {
    let output = benchd().env_remove("BENCHD_CONFIG").arg("check-config").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Paths of all keys below `value`, lists as `[]`, without the names of variables, which are a person's own.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(mapping) => {
            for (key, below) in mapping {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if !["env", "env_files"].contains(&key.as_str()) {
                    keys(below, &path, found);
                }
                found.insert(path);
            }
        }
        Value::Array(list) => list.iter().for_each(|element| keys(element, &format!("{path}[]"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every key there is: those of the complete example as they are in effect.
fn every_key() -> BTreeSet<String> {
    let example = project("deploy/benchd.example.yaml");
    let printed = accepted(&[example.to_str().unwrap(), "--print-defaults", "--json"]);
    let mut found = BTreeSet::new();
    keys(&serde_json::from_str(&printed).unwrap(), "", &mut found);
    assert!(found.len() > 120, "{found:?}");
    found
}

#[test]
fn the_example_has_every_key() {
    let text = fs::read_to_string(project("deploy/benchd.example.yaml")).unwrap();
    let example: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let mut written = BTreeSet::new();
    keys(&serde_json::to_value(&example).unwrap(), "", &mut written);
    // Of two keys that exclude each other one is in a comment.
    let only_in_comment = |path: &String| {
        let key = path.rsplit('.').next().unwrap();
        text.lines().any(|line| line.contains('#') && line.contains(&format!("{key}:")))
    };
    for path in every_key() {
        assert!(written.contains(&path) || only_in_comment(&path), "{path} is not in the example");
    }
}

#[test]
fn the_reference_has_every_key() {
    let reference = fs::read_to_string(project("docs/configuration.md")).unwrap();
    let platforms = ["cuda", "rocm", "hpu", "cpu", "arm64-cpu"];
    let triggers = ["schedule", "pull_request", "merge", "release", "manual"];
    for path in every_key() {
        // What is the same for each platform or trigger is told once.
        let general = |prefix: &str, names: &[&str]| {
            names
                .iter()
                .fold(path.clone(), |path, name| path.replace(&format!("{prefix}.{name}."), &format!("{prefix}.*.")))
        };
        let forms = [
            path.clone(),
            general("repositories[].images", &platforms),
            general("repositories[].selection", &triggers),
        ];
        let told = forms.iter().any(|form| reference.contains(&format!("| `{form}` |")));
        assert!(told, "{path} is not in docs/configuration.md");
    }
}

#[test]
fn what_is_printed_is_accepted_again() {
    let dir = tempfile::tempdir().unwrap();
    let minimal = dir.path().join("minimal.yaml");
    fs::write(&minimal, "repositories:\n  - name: vllm-project/vllm\n").unwrap();
    let command = dir.path().join("command.yaml");
    fs::write(&command, "repositories:\n  - name: a/b\n    suite: {command: make}\n    images: {cpu: x}\n").unwrap();
    for file in [minimal, command, project("deploy/benchd.example.yaml")] {
        let printed = accepted(&[file.to_str().unwrap(), "--print-defaults"]);
        let again = dir.path().join("again.yaml");
        fs::write(&again, &printed).unwrap();
        assert_eq!(accepted(&[again.to_str().unwrap(), "--print-defaults"]), printed);
    }
}

#[test]
fn a_minimal_file_is_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("benchd.yaml");
    fs::write(&file, "repositories:\n  - name: vllm-project/vllm\nexecution:\n  # limits:\n").unwrap();
    let expected = "ok\n  vllm-project/vllm: suite vllm, published to nowhere, kept in the store\n";
    assert_eq!(accepted(&[file.to_str().unwrap()]), format!("{}: {expected}", file.display()));
    // Without a name: the variable, then the working folder.
    let by = |command: &mut assert_cmd::Command| {
        String::from_utf8(command.arg("check-config").output().unwrap().stdout).unwrap()
    };
    assert!(by(benchd().current_dir("/").env("BENCHD_CONFIG", &file)).ends_with(expected));
    assert_eq!(by(benchd().current_dir(dir.path()).env_remove("BENCHD_CONFIG")), format!("benchd.yaml: {expected}"));
}

#[test]
fn secrets_are_shown_as_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("benchd.yaml");
    fs::write(dir.path().join("token"), "s3cret-in-file").unwrap();
    fs::write(
        &file,
        "repositories: [{name: a/b}]\ngithub: {token_file: token}\nexecution: {hf_token_env: BENCHD_TEST_SECRET}\n",
    )
    .unwrap();
    let output = benchd()
        .env("BENCHD_TEST_SECRET", "s3cret-in-variable")
        .args(["check-config", "--print-defaults"])
        .arg(&file)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(&format!("token_file: {}\n", dir.path().join("token").display())), "{printed}");
    assert!(printed.contains("hf_token_env: BENCHD_TEST_SECRET\n"), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn defaults_are_printed_before_there_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = benchd();
    command.current_dir(dir.path()).env_remove("BENCHD_CONFIG").args(["check-config", "--print-defaults"]);
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    // Where a system-wide file is, it is printed.
    if !std::path::Path::new("/etc/benchd/benchd.yaml").exists() {
        assert_eq!(output.status.code(), Some(0));
        assert!(printed.contains("- name: vllm-project/vllm\n") && printed.contains("job_timeout: "), "{printed}");
    }
}

#[test]
fn init_writes_what_check_config_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let init = |arguments: &[&str]| {
        let mut command = benchd();
        command.current_dir(dir.path()).env_remove("BENCHD_CONFIG").arg("init").args(arguments).output().unwrap()
    };
    let output = init(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let wrote = match Path::new("/usr/share/benchd/benchmarks").is_dir() {
        true => "wrote benchd.yaml\n",
        false => "wrote benchmarks\nwrote benchd.yaml\n",
    };
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wrote);
    if wrote.contains("benchmarks") {
        // benchd's own set, as it is in the repository.
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/cuda/serving-tests.json");
        let written = std::fs::read(dir.path().join("benchmarks/cuda/serving-tests.json")).unwrap();
        assert_eq!(written, std::fs::read(own).unwrap());
        benchd().args(["check-benchmarks"]).arg(dir.path().join("benchmarks")).assert().success();
    }
    let file = dir.path().join("benchd.yaml");
    accepted(&[file.to_str().unwrap()]);

    let output = init(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "benchd: benchd.yaml is already there: --force replaces it\n"
    );
    assert_eq!(init(&["--force", "--repo", "example/project"]).status.code(), Some(0));
    assert!(accepted(&[file.to_str().unwrap()]).contains("example/project"));

    let printed = init(&["--print", "--output", "elsewhere.yaml"]);
    assert!(String::from_utf8(printed.stdout).unwrap().contains("- name: vllm-project/vllm\n"));
    assert!(!dir.path().join("elsewhere.yaml").exists());
    let output = init(&["--output", "no-such-folder/benchd.yaml"]);
    assert_eq!(output.status.code(), Some(2));
}
