//! The configuration of each benchmark of a job, as a hash: what of a benchmark's own parameters makes another series.

use std::collections::BTreeMap;

use serde_json::Value;

use super::planner::SuiteFile;
use crate::results::series::configuration_hash;

/// The configuration hash of each benchmark: of its own parameters and variables, without its name and without the
/// rates and concurrencies, which make points and not series' configurations.
pub fn configurations(files: &[SuiteFile]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in files {
        let (defaults, tests) = match &file.content {
            Value::Array(tests) => (None, tests.as_slice()),
            Value::Object(object) => {
                (object.get("defaults"), object.get("tests").and_then(Value::as_array).map_or(&[][..], Vec::as_slice))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (None, &[][..]),
        };
        for test in tests {
            let Some(name) = test.get("test_name").and_then(Value::as_str) else { continue };
            let mut own = test.clone();
            if let Value::Object(own) = &mut own {
                for key in ["test_name", "qps_list", "max_concurrency_list"] {
                    own.shift_remove(key);
                }
                if let Some(defaults) = defaults {
                    own.insert("defaults".to_owned(), defaults.clone());
                }
            }
            found.insert(name.to_owned(), configuration_hash(&own));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_the_parameters_and_not_the_name_or_the_load() {
        let file = |text: &str| SuiteFile {
            name: "serving-tests.json".to_owned(),
            content: serde_json::from_str(text).unwrap(),
        };
        let one =
            configurations(&[file(r#"[{"test_name": "a", "qps_list": [1], "server_parameters": {"model": "m"}}]"#)]);
        let more = configurations(&[file(
            r#"[{"test_name": "b", "qps_list": [1, 4], "max_concurrency_list": [8], "server_parameters": {"model": "m"}}]"#,
        )]);
        let other =
            configurations(&[file(r#"[{"test_name": "c", "qps_list": [1], "server_parameters": {"model": "n"}}]"#)]);
        assert_eq!(one["a"], more["b"]);
        assert_ne!(one["a"], other["c"]);
    }
}
