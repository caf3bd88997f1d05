//! Broken configuration files, and exactly what `benchd check-config` says of each.

mod cases;

use std::fs;
use std::path::Path;

use crate::support::benchd;

use cases::{BROKEN, REPOSITORY};

/// What is said of `file` on standard error; it must be refused with exit code 2 and nothing on standard output.
fn refusal(file: &Path) -> String {
    let output = benchd().arg("check-config").arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn every_broken_file_is_refused_with_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("benchd.yaml");
    for (begin, rest, faults) in BROKEN {
        let text = format!("{begin}{rest}");
        fs::write(&file, &text).unwrap();
        let lines: Vec<String> = faults.iter().map(|fault| format!("{}:{fault}\n", file.display())).collect();
        let expected = match lines.as_slice() {
            [one] => format!("benchd: {one}"),
            many => format!("benchd: {} faults in the configuration\n{}", many.len(), many.concat()),
        };
        assert_eq!(refusal(&file), expected, "{text}");
    }
    assert!(BROKEN.len() >= 45);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let missing = dir.path().join("none.yaml");
    let advice = format!("(`benchd init --output {0}` writes one)", missing.display());
    assert_eq!(refusal(&missing), format!("benchd: the configuration {} does not exist {advice}\n", missing.display()));
    assert_eq!(refusal(dir.path()), format!("benchd: the configuration {at} is a folder: name the file in it\n"));
    let file = dir.path().join("benchd.yaml");
    fs::write(&file, b"repositories:\n  - name: \xff\n").unwrap();
    let below = file.join("benchd.yaml");
    let said = refusal(&below);
    assert!(said.starts_with(&format!("benchd: failed to read the configuration {}: ", below.display())), "{said}");
    let place = format!("benchd: {}:2:11: not UTF-8 text, save the file in that encoding\n", file.display());
    assert_eq!(refusal(&file), place);
    fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(refusal(&file), format!("benchd: the configuration {} is larger than 1 MiB\n", file.display()));
}

#[test]
fn faults_are_told_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("benchd.yaml");
    fs::write(&file, "repositories:\n  - name: a/b\n    tirggers: {}\n").unwrap();
    let output = benchd().arg("check-config").arg(&file).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report,
        serde_json::json!({
            "ok": false,
            "file": file.to_str().unwrap(),
            "faults": [{
                "line": 3, "column": 5, "path": "repositories[0]",
                "message": "unknown key `tirggers`", "hint": "did you mean `triggers`?",
            }],
        })
    );
}

#[test]
fn no_secret_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("benchd.yaml");
    for secret in [
        "github: {token: s3cretvalue}",
        "github: {token_file: {a: s3cretvalue}}",
        "github: {app: {id: 1, private_key_file: [s3cretvalue]}}",
        "github: ghp_s3cretvalue",
        "github: {api_url: 'https://u:s3cretvalue@host/'}",
        "github: {api_url: 's3cretvalue'}",
        "execution: {hf_token_env: hf_s3cretvalue}",
        "execution: {env: {HF_TOKEN: s3cretvalue}}",
        "registries: [{host: r, username: u, password: s3cretvalue}]",
        "execution: {docker_host: 'tcp://u:s3cretvalue@h'}",
        "execution: {docker_host: 'ssh://u:s3cretvalue@h'}",
        "    publish: {to: [{url: 's3://AKIA:s3cretvalue/x@bucket'}]}",
        "    publish: {to: [{url: 'https://u:s3cretvalue@h/x'}]}",
        "    images: {cuda: {http: 'https://u:s3cretvalue@h/{sha}'}}",
        "    images: {cuda: {http: 'https://u:s3cretvalue@h/{sha'}}",
        "    images: {cuda: {http: 'https://u:s3cretvalue@h/ {sha}'}}",
        "    images: {cuda: 'https://u:s3cretvalue@h/x:{sha}'}",
        "    benchmarks: {git: 'u:s3cretvalue@h/x.git'}",
        "    benchmarks: {git: 'https://u:s3cretvalue@h/x.git'}",
    ] {
        fs::write(&file, format!("{REPOSITORY}{secret}\n")).unwrap();
        let said = refusal(&file);
        assert!(!said.contains("s3cretvalue"), "{said}");
    }
}
