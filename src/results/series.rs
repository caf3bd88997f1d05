//! What makes two results one series: the hash of a benchmark's own parameters. Never of everything the suite echoes,
//! which holds random ids and changes its types from file to file.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hexadecimal digits of a configuration hash.
const DIGITS: usize = 16;

/// A stable hash (16 hexadecimal digits of SHA-256) of a suite file entry's parameters. Equal is what gives the suite the
/// same command line: the order of keys, `_` for `-` in a key, and a number for its text make no difference.
pub fn configuration_hash(parameters: &Value) -> String {
    let mut text = String::new();
    canonical(parameters, &mut text);
    let mut hash = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        if write!(hash, "{byte:02x}").is_err() {
            // Writing into a string cannot fail.
        }
    }
    hash.truncate(DIGITS);
    hash
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "\"true\"" } else { "\"false\"" }),
        Value::Number(number) => {
            out.push('"');
            out.push_str(&number.to_string());
            out.push('"');
        }
        Value::String(text) => out.push_str(&Value::String(text.clone()).to_string()),
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().map(|(key, value)| (key.replace('_', "-"), value)).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            out.push('{');
            for (key, value) in pairs {
                out.push_str(&Value::String(key).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_command_line_is_the_same_configuration() {
        let hash = configuration_hash(&json!({"model": "m", "tensor_parallel_size": 1, "list": ["a"]}));
        assert_eq!(hash, configuration_hash(&json!({"list": ["a"], "tensor-parallel-size": "1", "model": "m"})));
        assert_eq!((hash.len(), hash.bytes().all(|b| b.is_ascii_hexdigit())), (16, true));
        // Stored hashes must stay valid: this one never changes.
        assert_eq!(configuration_hash(&json!({"model": "m"})), "4b98695326143645");
    }

    #[test]
    fn another_parameter_is_another_configuration() {
        let hash = |value: Value| configuration_hash(&value);
        assert_ne!(hash(json!({"a": 1})), hash(json!({"a": 2})));
        assert_ne!(hash(json!({"a": [1, 2]})), hash(json!({"a": [2, 1]})));
        assert_ne!(hash(json!({"a": ""})), hash(json!({})));
    }
}
