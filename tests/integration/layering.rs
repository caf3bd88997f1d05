//! Keeps the house in order: a module names only modules on layers below its own (ARCHITECTURE.md, "Modules").

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. Members of one layer do not name each other.
const LAYERS: &[&[&str]] = &[
    &["model", "clock", "redact", "meters", "step"],
    &["health"],
    &["git"],
    &["config", "suite", "results", "compare"],
    &["store", "github", "registry", "objects"],
    &["queue"],
    &["trigger", "executor", "publish"],
    &["http"],
    &["app"],
    &["cli"],
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every top-level module that `text` names after `crate::`, also inside a group (`use crate::{a::B, c}`).
fn named_modules(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let mut rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if depth == 0 && start && (c.is_alphabetic()) => {
                        found.push(group[i..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
                        start = false;
                    }
                    _ => {}
                }
            }
            rest = "";
        }
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !name.is_empty() {
            found.push(name);
        }
    }
    found
}

#[test]
fn modules_name_only_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let own = relative.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        if own == "lib" || own == "main" {
            continue;
        }
        let own_layer = layer_of(&own).unwrap_or_else(|| panic!("{own} stands on no layer: add it to LAYERS"));
        for named in named_modules(&fs::read_to_string(&file).unwrap()) {
            let allowed = named == own || layer_of(&named).is_some_and(|layer| layer < own_layer);
            if !allowed {
                wrong.entry(relative.display().to_string()).or_insert_with(Vec::new).push(named);
            }
        }
    }
    assert!(wrong.is_empty(), "modules that name a layer not below their own: {wrong:#?}");
}

#[test]
fn groups_are_seen() {
    assert_eq!(named_modules("use crate::{model::{A, B}, store};\nfn f() -> crate::cli::X"), ["model", "store", "cli"]);
}
