//! How a variant is written into a benchmark: the `compilation-config` option, quoted for the suite's shell.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::model::Variant;

/// The option's name; hyphens, as the suite passes keys on.
const OPTION: &str = "compilation-config";

/// A value of `--compilation-config`, in single quotes so that it survives the suite's `eval` and `bash -c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompilationConfig(String);

/// The text cannot be a compilation configuration.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCompilationConfig {
    /// It is not JSON.
    #[error("the compilation configuration is not JSON")]
    Json(#[from] serde_json::Error),
    /// It is JSON of another kind.
    #[error("the compilation configuration must be a JSON object")]
    NotAnObject,
    /// It cannot be quoted.
    #[error("the compilation configuration holds a single quote, which would end the suite's quoting")]
    Quote,
}

impl FromStr for CompilationConfig {
    type Err = InvalidCompilationConfig;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Value::Object(object) = serde_json::from_str(text)? else {
            return Err(InvalidCompilationConfig::NotAnObject);
        };
        let compact = Value::Object(object).to_string();
        if compact.contains('\'') {
            return Err(InvalidCompilationConfig::Quote);
        }
        Ok(Self(format!("'{compact}'")))
    }
}

impl CompilationConfig {
    /// What `variant` sets; `None` for base.
    pub fn of_variant(variant: Variant) -> Option<Self> {
        match variant {
            Variant::Base | Variant::Unknown => None,
            Variant::Eager => Some(Self(r#"'{"backend":"eager"}'"#.to_owned())),
            Variant::InductorGraphPartition => {
                Some(Self(r#"'{"cudagraph_mode":"PIECEWISE","use_inductor_graph_partition":true}'"#.to_owned()))
            }
        }
    }

    /// Adds the option as the last key, or replaces its value where it is already.
    pub(super) fn set_in(&self, parameters: &mut Map<String, Value>) {
        parameters.insert(OPTION.to_owned(), Value::String(self.0.clone()));
    }
}

/// Whether these parameters tell the engine to run without compilation, so that compilation times of zero are right.
pub(super) fn is_eager(parameters: &Map<String, Value>) -> bool {
    parameters.iter().any(|(key, value)| match key.replace('-', "_").as_str() {
        "enforce_eager" => *value != Value::Bool(false),
        "compilation_config" => config_is_eager(value),
        "compilation_config.mode" => is_no_mode(value),
        "compilation_config.backend" => value == "eager",
        "optimization_level" => text_of(value) == "0",
        _ => false,
    })
}

fn config_is_eager(value: &Value) -> bool {
    let parsed = match value {
        Value::String(text) => serde_json::from_str(text.trim().trim_matches('\'')).unwrap_or(Value::Null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.clone(),
    };
    // A bare number is the mode.
    parsed.get("backend").is_some_and(|b| b == "eager") || is_no_mode(parsed.get("mode").unwrap_or(&parsed))
}

fn is_no_mode(value: &Value) -> bool {
    matches!(text_of(value).as_str(), "0" | "NONE")
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_compact_and_in_order() {
        let config: CompilationConfig = r#"{"mode": 3, "cudagraph_mode": "FULL"}"#.parse().unwrap();
        assert_eq!(config.0, r#"'{"mode":3,"cudagraph_mode":"FULL"}'"#);
        for (bad, said) in [
            ("{bad", "the compilation configuration is not JSON"),
            ("[]", "the compilation configuration must be a JSON object"),
            (
                r#"{"a": "it's"}"#,
                "the compilation configuration holds a single quote, which would end the suite's quoting",
            ),
        ] {
            assert_eq!(bad.parse::<CompilationConfig>().unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn told_to_run_eagerly() {
        let eager = |text: &str| is_eager(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap());
        assert!(eager(r#"{"enforce_eager": ""}"#));
        assert!(eager(r#"{"enforce-eager": true}"#));
        assert!(eager(r#"{"compilation-config": "'{\"backend\":\"eager\"}'"}"#));
        assert!(eager(r#"{"compilation_config": {"mode": 0}}"#));
        assert!(eager(r#"{"compilation_config.mode": "NONE"}"#));
        assert!(eager(r#"{"optimization_level": 0}"#));
        assert!(!eager(r#"{"enforce_eager": false, "compilation-config": "'{\"mode\":3}'", "model": "eager/eager"}"#));
    }
}
