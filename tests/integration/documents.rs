//! What the documents show must work: every configuration in them is read, every make target in them exists.

use std::fs;
use std::path::Path;

use benchd::config::Config;
use benchd::model::FailureKind;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The fenced blocks of `language` in a Markdown text.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn configurations_are_read() {
    let files = [
        "demo/benchd.yaml",
        "demo/github.yaml",
        "deploy/kubernetes/base/benchd.yaml",
        "deploy/kubernetes/overlays/example/benchd.yaml",
    ];
    let mut configurations: Vec<_> = files.into_iter().map(|file| (file, read(file))).collect();
    for (page, count) in [("README.md", 2), ("docs/operations.md", 1), ("docs/migrate.md", 2), ("docs/github.md", 1)] {
        let text = read(page);
        let shown = blocks(&text, "yaml");
        assert_eq!(shown.len(), count, "{page}");
        configurations.extend(shown.into_iter().map(|block| (page, block.to_owned())));
    }
    for (file, yaml) in configurations {
        let config = Config::parse(&yaml).unwrap_or_else(|faults| panic!("{file}: {faults:#?}\n{yaml}"));
        assert_eq!(config.repositories.len(), 1, "{file}");
    }
}

#[test]
fn make_targets_exist() {
    let makefile = read("Makefile");
    for file in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", ".ci/run"] {
        let text = read(file);
        for (at, _) in text.match_indices("make ") {
            let before = text[..at].chars().next_back();
            let target: String = text[at + 5..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            // In prose "make" is a verb: what counts stands in code or begins a command.
            if before.is_some_and(|c| matches!(c, '`' | '$')) || text[..at].ends_with("$ ") {
                assert!(makefile.contains(&format!("\n{target}:")), "{file}: make {target}");
            }
        }
    }
}

#[test]
fn operations_tell_what_to_do_about_every_failure() {
    let page = read("docs/operations.md");
    for kind in FailureKind::ALL {
        let wire = serde_json::to_value(kind).unwrap();
        let repeated = if kind.is_infrastructure() { "yes" } else { "no" };
        let row = format!("| `{}` | {repeated} | {}", wire["failure"].as_str().unwrap(), kind.advice());
        assert!(page.contains(&row), "docs/operations.md lacks the row {row}");
    }
}

#[test]
fn tests_that_the_faults_name_exist() {
    // Each table counts from 1.
    let mut number = 0;
    for row in read("docs/faults.md").lines().filter(|line| line.starts_with("| ")) {
        if row.starts_with("| # ") {
            number = 0;
            continue;
        }
        number += 1;
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        assert_eq!(cells[0], number.to_string(), "{row}");
        let named: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test in {row}");
        for name in named {
            let (file, test) = name.rsplit_once("::").unwrap_or_else(|| panic!("no module in {name}"));
            let path = format!("tests/integration/{}", file.replace("::", "/"));
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let beside = format!("src/{}.rs", file.replace("::", "/"));
            let source = [format!("{path}.rs"), format!("{path}/mod.rs"), beside]
                .iter()
                .find_map(|file| fs::read_to_string(root.join(file)).ok())
                .unwrap_or_else(|| panic!("no file for {name}"));
            let found = source.split("#[test]").chain(source.split("#[tokio::test")).skip(1);
            let head = format!("fn {test}(");
            assert!(
                found.into_iter().any(|rest| rest.lines().take(3).any(|line| line.contains(&head))),
                "{name} is no test"
            );
        }
    }
}

#[test]
fn the_apps_manifest_asks_for_what_is_needed_and_no_more() {
    let manifest: serde_json::Value = serde_json::from_str(&read("deploy/github-app.manifest.json")).unwrap();
    assert!(manifest["hook_attributes"]["url"].as_str().unwrap().ends_with("/webhook/github"));
    assert_eq!((&manifest["public"], &manifest["hook_attributes"]["active"]), (&false.into(), &true.into()));
    let events: Vec<&str> =
        manifest["default_events"].as_array().unwrap().iter().map(|event| event.as_str().unwrap()).collect();
    // "ping" comes unasked.
    let mut read: Vec<&str> = benchd::trigger::delivery::EVENTS.iter().copied().filter(|e| *e != "ping").collect();
    read.sort_unstable();
    assert_eq!(events, read);
    let permissions: std::collections::BTreeMap<String, String> =
        serde_json::from_value(manifest["default_permissions"].clone()).unwrap();
    let installation =
        |permissions| benchd::github::Installation { id: 1, account: None, permissions, suspended_at: None };
    assert_eq!(installation(permissions.clone()).missing(), Vec::<String>::new());
    for (name, level) in &permissions {
        let mut less = permissions.clone();
        less.remove(name);
        assert_ne!(installation(less).missing(), Vec::<String>::new(), "{name} is not needed");
        let mut read_only = permissions.clone();
        if level == "write" {
            read_only.insert(name.clone(), "read".to_owned());
            assert_ne!(installation(read_only).missing(), Vec::<String>::new(), "{name}: read would do");
        }
    }
}
