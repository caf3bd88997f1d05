//! Turns the deserialiser's words into ours: what is wrong, as a person who writes YAML would say it, and a hint.
//! Values that may be secrets are never repeated.

use std::collections::BTreeSet;

use serde_yaml::Value;

use super::Config;
use super::fault::{KeyPath, Step};

/// What kind of fault a message tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key that is not known there.
    UnknownKey(String),
    /// A required key that is not there.
    MissingKey,
    /// A value that is not understood.
    Value,
}

/// A fault in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Explained {
    /// What kind.
    pub kind: Kind,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Explains `message`, which the deserialiser gave at `path`.
pub fn explain(path: &KeyPath, message: &str) -> Explained {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown_key(rest);
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        let message = format!("the key {key} is missing");
        return Explained { kind: Kind::MissingKey, message, hint: None };
    }
    let (message, hint) = value(path, message);
    Explained { kind: Kind::Value, message, hint }
}

/// `rest` is "`key`, expected one of `a`, `b`" or "`key`, there are no fields".
fn unknown_key(rest: &str) -> Explained {
    let mut words = quoted(rest).into_iter();
    let key = words.next().unwrap_or_default();
    let allowed: Vec<String> = words.collect();
    let hint = secret_key(&key, &allowed)
        .or_else(|| nearest(&key, &allowed).map(|near| format!("did you mean `{near}`?")))
        .or_else(|| elsewhere(&key))
        .or_else(|| match allowed.is_empty() {
            true => None,
            false => Some(format!("known here: {}", list(&allowed))),
        });
    Explained { message: format!("unknown key `{key}`"), hint, kind: Kind::UnknownKey(key) }
}

/// A hint for a secret that was about to be written into the file.
fn secret_key(key: &str, allowed: &[String]) -> Option<String> {
    let variants = [format!("{key}_file"), format!("{key}_files"), format!("{key}_env")];
    let named: Vec<String> = variants.into_iter().filter(|variant| allowed.contains(variant)).collect();
    let (first, more) = named.split_first()?;
    let or = more.first().map(|other| format!(" (or `{other}`)")).unwrap_or_default();
    Some(format!("secrets are not written here: put it in a file and use `{first}`{or}"))
}

/// The known word most like `word`, if one is like enough.
pub fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distance = |candidate: &str| match candidate.strip_prefix(&word).or_else(|| word.strip_prefix(candidate)) {
        // A form of the same word: `label` for `labels`.
        Some(rest) if word.len() >= 3 && rest.len() <= 2 => 1,
        Some(_) | None => strsim::damerau_levenshtein(&word, candidate),
    };
    let (least, candidate) =
        known.iter().map(|candidate| (distance(candidate), candidate)).min_by_key(|(distance, _)| *distance)?;
    (least <= (word.chars().count() / 3).max(1)).then_some(candidate.as_str())
}

/// Where else `key`, or one spelt much like it, is known.
fn elsewhere(key: &str) -> Option<String> {
    let known = known_keys();
    let names: Vec<String> = known.iter().map(|(_, name)| name.clone()).collect();
    let name = if names.iter().any(|name| name == key) { key } else { nearest(key, &names)? };
    let above = |place: &str| if place.is_empty() { "the top".to_owned() } else { format!("`{place}`") };
    let places: Vec<String> = known.iter().filter(|(_, known)| known == name).map(|(place, _)| above(place)).collect();
    let belongs = match places.as_slice() {
        [one] => format!("it belongs to {one}"),
        [_, ..] if places.len() <= 4 => format!("it belongs to one of {}", places.join(", ")),
        [..] => return None,
    };
    Some(if name == key { belongs } else { format!("did you mean `{name}`? {belongs}") })
}

/// Every key of the configuration with the path of the mapping it stands in (lists as `[]`): what the complete example
/// amounts to, with the keys it leaves unset.
pub fn known_keys() -> BTreeSet<(String, String)> {
    fn walk(value: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
        match value {
            Value::Mapping(mapping) => {
                for (key, below) in mapping.iter().filter_map(|(key, below)| Some((key.as_str()?, below))) {
                    found.insert((path.to_owned(), key.to_owned()));
                    // Names of variables are the person's own.
                    if !FREE_KEYS.contains(&key) {
                        walk(below, &if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }, found);
                    }
                }
            }
            Value::Sequence(list) => list.iter().for_each(|element| walk(element, &format!("{path}[]"), found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => {}
        }
    }

    let mut found = BTreeSet::new();
    if let Ok(example) = serde_yaml::from_str::<Config>(EXAMPLE).and_then(serde_yaml::to_value) {
        walk(&example, "", &mut found);
    }
    found
}

/// The complete, commented example that is delivered with benchd.
pub const EXAMPLE: &str = include_str!("../../deploy/benchd.example.yaml");

/// Mappings whose keys a person chooses.
pub const FREE_KEYS: [&str; 2] = ["env", "env_files"];

/// The words in back quotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn list(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Explains a value that is not understood.
fn value(path: &KeyPath, message: &str) -> (String, Option<String>) {
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let mut words = quoted(rest).into_iter();
        let word = words.next().unwrap_or_default();
        let allowed: Vec<String> = words.collect();
        let hint = nearest(&word, &allowed).map(|near| format!("did you mean `{near}`?"));
        return (format!("`{word}` is not one of {}", list(&allowed)), hint);
    }
    let mismatch = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = mismatch.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return address(message).unwrap_or_else(|| (message.to_owned(), placeholder_hint(message)));
    };
    let expected_words = expected_in_words(expected);
    let hint = hint_for(expected, found);
    let text = found.strip_prefix("string \"").unwrap_or_default();
    let found = if holds_secret(path) || looks_secret(text) {
        String::new()
    } else {
        format!(", found {}", found_in_words(found))
    };
    (format!("expected {expected_words}{found}"), hint)
}

/// What the libraries say of addresses, in our words; the text is left out, it may hold a password.
fn address(message: &str) -> Option<(String, Option<String>)> {
    if message == "invalid socket address syntax" {
        let message = "not an address with a port such as `127.0.0.1:8787`";
        return Some((message.to_owned(), Some("write an IP address, names are not looked up".to_owned())));
    }
    let (reason, _) = message.rsplit_once(": \"")?;
    let hint = (reason == "relative URL without a base").then(|| "begin it with https://".to_owned());
    let message = match &hint {
        Some(_) => "not a complete address".to_owned(),
        None => format!("not an address: {reason}"),
    };
    Some((message, hint))
}

/// `unknown placeholder` names all known ones; the nearest is told first.
fn placeholder_hint(message: &str) -> Option<String> {
    let word = message.strip_prefix("unknown placeholder `{")?.split_once('}')?.0;
    let known = ["sha", "suffix", "platform", "branch", "repo"].map(str::to_owned);
    nearest(word, &known).map(|near| format!("did you mean `{{{near}}}`?"))
}

fn expected_in_words(expected: &str) -> String {
    match expected {
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping of keys".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "string" => "a text".to_owned(),
        "path string" => "a path".to_owned(),
        "a duration" => "a duration such as `90s`, `30m` or `6h`".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "f64" => "a number".to_owned(),
        "field identifier" => "the name of a key".to_owned(),
        "socket address" => "an address with a port such as `127.0.0.1:8787`".to_owned(),
        "a string representing an URL" => "an address such as `https://host`".to_owned(),
        other if other.starts_with("struct ") => "a mapping of keys".to_owned(),
        other => other.to_owned(),
    }
}

fn found_in_words(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string", text)) => format!("the text {text}"),
        Some(("integer" | "floating", number)) => {
            format!("the number {}", number.trim_start_matches("point ").trim_matches('`'))
        }
        Some(("boolean", truth)) => truth.trim_matches('`').to_owned(),
        Some(("unit", _)) => "nothing".to_owned(),
        Some(_) | None => match found {
            "sequence" => "a list".to_owned(),
            "map" => "a mapping".to_owned(),
            "null" | "unit" | "Option value" => "nothing".to_owned(),
            other => other.to_owned(),
        },
    }
}

fn hint_for(expected: &str, found: &str) -> Option<String> {
    let number = found.starts_with("integer") || found.starts_with("floating") || found.starts_with("boolean");
    match expected {
        _ if number && (expected == "a duration" || expected.starts_with("a size")) => {
            Some("write its unit".to_owned())
        }
        "a string" | "path string" if number => Some("put it in quotes".to_owned()),
        "a boolean" if ["\"yes\"", "\"no\"", "\"on\"", "\"off\""].iter().any(|word| found.ends_with(word)) => {
            Some("YAML's words are `true` and `false`".to_owned())
        }
        _ => None,
    }
}

/// Whether the value at `path` could be a secret, by the names of the keys.
fn holds_secret(path: &KeyPath) -> bool {
    path.0.iter().any(|step| match step {
        Step::Key(key) => is_secret_name(key),
        Step::Index(_) => false,
    })
}

/// Whether a key or variable of this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    ["token", "secret", "password", "passwd", "private_key", "api_key", "apikey", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether a text has the form of a known kind of secret. Files and variables may be called alike; secrets are long.
pub fn looks_secret(text: &str) -> bool {
    let forms = ["ghp_", "gho_", "ghs_", "ghu_", "github_pat_", "hf_", "-----BEGIN"];
    text.len() > 12 && forms.iter().any(|form| text.starts_with(form))
}
