//! The command line as vLLM's tools take it: `--key value`, `--flag`, `--metadata a=b c=d`. Unknown options are kept,
//! since every benchmark file may hold some that mean nothing here.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::Result;

/// The options given, in their order.
#[derive(Debug, Default)]
pub struct Arguments(Vec<(String, Vec<String>)>);

impl Arguments {
    /// Reads `words`; what stands before the first option is ignored.
    pub fn parse(words: &[&str]) -> Self {
        let mut options: Vec<(String, Vec<String>)> = Vec::new();
        for word in words {
            if let Some(option) = word.strip_prefix("--") {
                let (key, value) = option.split_once('=').map_or((option, None), |(k, v)| (k, Some(v)));
                options.push((key.replace('_', "-"), value.into_iter().map(str::to_owned).collect()));
            } else if let Some((_, values)) = options.last_mut() {
                values.push((*word).to_owned());
            }
        }
        Self(options)
    }

    /// All values of option `key`; none if it was not given.
    fn values(&self, key: &str) -> Option<&[String]> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, values)| values.as_slice())
    }

    /// Whether option `key` was given.
    pub fn has(&self, key: &str) -> bool {
        self.values(key).is_some()
    }

    /// The value of option `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values(key)?.first().map(String::as_str)
    }

    /// The value of option `key`, which must be there.
    pub fn required(&self, key: &str) -> Result<&str> {
        self.text(key).ok_or_else(|| format!("--{key} is missing"))
    }

    /// The value of option `key` as a number, or `default` if it was not given.
    pub fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T> {
        self.text(key).map_or(Ok(default), |text| text.parse().map_err(|_| format!("--{key}: not a number: {text}")))
    }

    /// The pairs of `--metadata`.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values("metadata").unwrap_or_default().iter().filter_map(|pair| pair.split_once('='))
    }

    /// Everything given, as it is echoed into the records: numbers as numbers, flags as `true`.
    pub fn echo(&self) -> Map<String, Value> {
        let value = |values: &[String]| match values {
            [] => Value::Bool(true),
            [one] => echoed(one),
            more => Value::from(more.to_vec()),
        };
        self.0.iter().map(|(key, values)| (key.replace('-', "_"), value(values))).collect()
    }
}

/// A word as the type it reads as; infinity stays text, since JSON has no number for it.
fn echoed(text: &str) -> Value {
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        return object.into();
    }
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(integer), _) => Value::from(integer),
        (_, Ok(number)) if number.is_finite() => Value::from(number),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_flags_and_metadata_are_read() {
        let args = Arguments::parse(&[
            "--max_concurrency",
            "4",
            "--enforce-eager",
            "--request-rate",
            "inf",
            "--metadata",
            "a=1",
            "b=",
            "--seed=7",
            "--compilation-config",
            r#"{"mode":0}"#,
        ]);
        assert_eq!(args.number("max-concurrency", 0).unwrap(), 4);
        assert_eq!(args.number("num-prompts", 9).unwrap(), 9);
        assert!(args.has("enforce-eager") && !args.has("eager"));
        assert_eq!(args.metadata().collect::<Vec<_>>(), [("a", "1"), ("b", "")]);
        let echo = serde_json::to_string(&args.echo()).unwrap();
        assert_eq!(
            echo,
            r#"{"max_concurrency":4,"enforce_eager":true,"request_rate":"inf","metadata":["a=1","b="],"seed":7,"compilation_config":{"mode":0}}"#
        );
        assert!(Arguments::parse(&["--seed", "x"]).number("seed", 0).is_err());
    }
}
