//! What goes into a container before it starts: the entry script, its settings, the commands before the suite and the
//! suite files, as one archive. It is kept with the artifacts, so that the pass can be repeated by hand.

use std::fmt::Write as _;
use std::io;

use crate::model::SuiteKind;

use super::container::command_line::quote;
use super::container::{PassRequest, SuiteFile};
use super::entry::console_kib;

/// The main process of every container.
const ENTRY_SCRIPT: &str = include_str!("entry.sh");

/// Modes of files: the image's user need not be root.
const READ: u32 = 0o644;
const WRITE: u32 = 0o666;

/// The archive for `/`.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn archive(request: &PassRequest) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        tar.append_data(&mut header, path, bytes)
    };
    add("benchd/entry.sh", READ, ENTRY_SCRIPT.as_bytes())?;
    add("benchd/settings", READ, settings(request).as_bytes())?;
    add("benchd/console", WRITE, b"")?;
    add("benchd/outcome", WRITE, b"")?;
    for (index, command) in request.suite.pre_commands.iter().enumerate() {
        add(&format!("benchd/before/{index:03}"), READ, command.as_bytes())?;
    }
    if request.suite.tests_dir.is_some() {
        for file in request.files.iter().chain(&empty_files(request)) {
            add(&format!("benchd/tests/{}", file.name), READ, &file.bytes)?;
        }
    }
    tar.into_inner()
}

/// An empty list for each suite without benchmarks: vLLM's script ends at once, before every other suite, when the
/// serving file is missing.
fn empty_files(request: &PassRequest) -> Vec<SuiteFile> {
    let names = SuiteKind::ALL.iter().map(|kind| request.file_of(*kind));
    let missing = names.filter(|name| request.files.iter().all(|file| file.name != *name));
    missing.map(|name| SuiteFile { name, bytes: b"[]\n".to_vec() }).collect()
}

/// The variables that the entry script reads, in the shell's own form.
fn settings(request: &PassRequest) -> String {
    let suite = &request.suite;
    let mut text = String::new();
    let mut set = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}={}", quote(value));
    };
    set("COMMAND", &suite.command);
    set("SCRIPT", script_of(&suite.command).unwrap_or_default());
    set("WORKDIR", &suite.workdir);
    set("TESTS_DIR", suite.tests_dir.as_deref().unwrap_or_default());
    set("RESULTS_DIR", &suite.results_dir);
    set("CONSOLE_KIB", &console_kib(&request.limits).to_string());
    // A server on another machine cannot be seen from here.
    let server = suite.server.as_ref().filter(|_| request.env.get("REMOTE_HOST").is_none_or(String::is_empty));
    set("LOOK_SECONDS", &server.map_or(5, |watch| watch.interval_s).to_string());
    let list = |words: &[String]| words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
    let servers = server.map(|watch| list(&watch.server)).unwrap_or_default();
    let clients = server.map(|watch| list(&watch.clients)).unwrap_or_default();
    let _ = writeln!(text, "SERVERS=({servers})\nCLIENTS=({clients})");
    text
}

/// The script that `command` runs, if it plainly runs one (`bash path/to/script ..`): it is looked for beforehand,
/// because "no such file" would come as an exit code like any other.
fn script_of(command: &str) -> Option<&str> {
    let mut words = command.split_ascii_whitespace();
    let shell = words.next()?;
    let script = words.next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (["bash", "sh"].contains(&shell) && !script.starts_with('-') && script.chars().all(plain)).then_some(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_known_when_it_is_plain() {
        assert_eq!(script_of("bash .buildkite/run.sh --x"), Some(".buildkite/run.sh"));
        assert_eq!(script_of("bash -c 'true'"), None);
        assert_eq!(script_of("bash \"$X/run.sh\""), None);
        assert_eq!(script_of("cargo bench"), None);
    }

    #[test]
    fn every_suite_has_a_file_and_settings_are_quoted() {
        let mut request = crate::executor::container::tests::request();
        request.suite.command = "echo 'it''s' $(id)".to_owned();
        request.files = vec![SuiteFile { name: "latency-tests-cpu.json".into(), bytes: b"[1]".to_vec() }];
        let bytes = archive(&request).unwrap();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let mut names: Vec<String> =
            tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "benchd/console",
                "benchd/entry.sh",
                "benchd/outcome",
                "benchd/settings",
                "benchd/tests/latency-tests-cpu.json",
                "benchd/tests/serving-tests-cpu.json",
                "benchd/tests/startup-tests-cpu.json",
                "benchd/tests/throughput-tests-cpu.json",
            ]
        );
        assert!(settings(&request).starts_with("COMMAND='echo '\\''it'\\'''\\''s'\\'' $(id)'\n"));
    }
}
