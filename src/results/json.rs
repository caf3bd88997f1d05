//! Looking into and writing JSON as Python writes it: NaN, integers of any size, repeated keys of which the last one
//! counts. Apart because `serde_json` knows none of these.

use std::collections::HashSet;
use std::io::{self, Write};

use jiter::JsonValue;

/// Objects up to this many keys are searched for repeated keys pair by pair, larger ones by a set.
const PAIRWISE_KEYS: usize = 64;

/// The value of `key` in an object; the last one when the key is repeated.
pub fn field<'v, 'j>(value: &'v JsonValue<'j>, key: &str) -> Option<&'v JsonValue<'j>> {
    object(value)?.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v)
}

/// The pairs of an object, as written.
pub fn object<'v, 'j>(value: &'v JsonValue<'j>) -> Option<&'v [(std::borrow::Cow<'j, str>, JsonValue<'j>)]> {
    if let JsonValue::Object(pairs) = value { Some(pairs) } else { None }
}

/// The items of a list.
pub fn list<'v, 'j>(value: &'v JsonValue<'j>) -> Option<&'v [JsonValue<'j>]> {
    if let JsonValue::Array(items) = value { Some(items) } else { None }
}

/// The text of a string.
pub fn text<'v>(value: &'v JsonValue<'_>) -> Option<&'v str> {
    if let JsonValue::Str(text) = value { Some(text) } else { None }
}

/// A number as a double, which may be infinite or NaN; `None` for everything else, booleans too.
pub fn number(value: &JsonValue<'_>) -> Option<f64> {
    match value {
        // Text to double rounds correctly, also beyond 2^53.
        JsonValue::Int(int) => int.to_string().parse().ok(),
        JsonValue::BigInt(int) => int.to_string().parse().ok(),
        JsonValue::Float(float) => Some(*float),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Str(_) | JsonValue::Array(_) | JsonValue::Object(_) => None,
    }
}

/// The pairs of an object without those that a later pair of the same key replaces.
pub fn last_of_each<'v, 'j>(
    pairs: &'v [(std::borrow::Cow<'j, str>, JsonValue<'j>)],
) -> impl Iterator<Item = (&'v str, &'v JsonValue<'j>)> {
    let mut replaced = HashSet::new();
    if pairs.len() > PAIRWISE_KEYS {
        let mut seen = HashSet::with_capacity(pairs.len());
        for (at, (key, _)) in pairs.iter().enumerate().rev() {
            if !seen.insert(key.as_ref()) {
                replaced.insert(at);
            }
        }
    }
    pairs.iter().enumerate().filter_map(move |(at, (key, value))| {
        let again = if pairs.len() > PAIRWISE_KEYS {
            !replaced.is_empty() && replaced.contains(&at)
        } else {
            pairs.iter().skip(at + 1).any(|(later, _)| later == key)
        };
        (!again).then_some((key.as_ref(), value))
    })
}

/// Whether any text of `value`, keys included, is what `wanted` looks for.
pub fn any_text(value: &JsonValue<'_>, wanted: &impl Fn(&str) -> bool) -> bool {
    match value {
        JsonValue::Str(text) => wanted(text),
        JsonValue::Array(items) => items.iter().any(|item| any_text(item, wanted)),
        JsonValue::Object(pairs) => pairs.iter().any(|(key, item)| wanted(key) || any_text(item, wanted)),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Int(_) | JsonValue::BigInt(_) | JsonValue::Float(_) => false,
    }
}

/// Where in `value` the first number stands that JSON cannot carry (NaN or infinite), as a path like `.extra_info.x`.
/// What lies under the keys of `spared` is not looked at.
pub fn not_finite(value: &JsonValue<'_>, spared: &[&str]) -> Option<String> {
    match value {
        JsonValue::Float(float) => (!float.is_finite()).then(String::new),
        JsonValue::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| not_finite(item, &[]).map(|rest| format!("[{at}]{rest}")))
        }
        JsonValue::Object(pairs) => pairs.iter().find_map(|(key, item)| {
            let below = match spared {
                [only] if key == only => return None,
                [first, below @ ..] if key == first => below,
                [] | [_, ..] => &[],
            };
            not_finite(item, below).map(|rest| format!(".{key}{rest}"))
        }),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Int(_) | JsonValue::BigInt(_) | JsonValue::Str(_) => None,
    }
}

/// Writes `value` as JSON in ASCII. Numbers that JSON cannot carry become `null`; where that would change what a record
/// says, it is refused before it comes here.
pub fn write(out: &mut impl Write, value: &JsonValue<'_>) -> io::Result<()> {
    match value {
        JsonValue::Null => out.write_all(b"null"),
        JsonValue::Bool(bool) => out.write_all(if *bool { b"true" } else { b"false" }),
        JsonValue::Int(int) => serde_json::to_writer(out, int).map_err(io::Error::from),
        JsonValue::BigInt(int) => write!(out, "{int}"),
        JsonValue::Float(float) => serde_json::to_writer(out, float).map_err(io::Error::from),
        JsonValue::Str(text) => write_text(out, text),
        JsonValue::Array(items) => {
            out.write_all(b"[")?;
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                write(out, item)?;
            }
            out.write_all(b"]")
        }
        JsonValue::Object(pairs) => {
            out.write_all(b"{")?;
            for (at, (key, item)) in last_of_each(pairs).enumerate() {
                if at > 0 {
                    out.write_all(b",")?;
                }
                write_text(out, key)?;
                out.write_all(b":")?;
                write(out, item)?;
            }
            out.write_all(b"}")
        }
    }
}

/// How many bytes [`write()`] makes of `value`.
pub fn written_bytes(value: &JsonValue<'_>) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    if write(&mut count, value).is_err() {
        // Counting cannot fail.
    }
    count.0
}

/// Writes a string with everything beyond ASCII as `\uXXXX`, as the public records have it.
pub fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !matches!(byte, b' '..=b'!' | b'#'..=b'[' | b']'..=b'~')) {
        // The byte found starts a character, since those before it are ASCII.
        let (plain, from) = rest.split_at(at);
        out.write_all(plain.as_bytes())?;
        let Some(special) = from.chars().next() else { break };
        match special {
            '"' => out.write_all(b"\\\"")?,
            '\\' => out.write_all(b"\\\\")?,
            '\n' => out.write_all(b"\\n")?,
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        rest = from.get(special.len_utf8()..).unwrap_or("");
    }
    out.write_all(rest.as_bytes())?;
    out.write_all(b"\"")
}

/// Writes `value` so that equal values give equal bytes: keys sorted, whole doubles as integers. `skip` names keys of
/// the outermost object that are left out.
pub fn write_canonical(out: &mut impl Write, value: &JsonValue<'_>, skip: &[&str]) -> io::Result<()> {
    match value {
        JsonValue::Object(pairs) => {
            let mut sorted: Vec<_> = last_of_each(pairs).filter(|(key, _)| !skip.contains(key)).collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.write_all(b"{")?;
            for (key, item) in sorted {
                write_text(out, key)?;
                out.write_all(b":")?;
                write_canonical(out, item, &[])?;
                out.write_all(b",")?;
            }
            out.write_all(b"}")
        }
        JsonValue::Array(items) => {
            out.write_all(b"[")?;
            for item in items.iter() {
                write_canonical(out, item, &[])?;
                out.write_all(b",")?;
            }
            out.write_all(b"]")
        }
        JsonValue::Int(_) | JsonValue::Float(_) => match number(value) {
            // 1, 1.0 and 1e0 are one number; `{}` writes all three as `1`.
            Some(number) => write!(out, "{number}"),
            None => out.write_all(b"null"),
        },
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::BigInt(_) | JsonValue::Str(_) => write(out, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, &JsonValue::parse(json.as_bytes(), true).unwrap()).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn canonical(json: &str) -> String {
        let mut out = Vec::new();
        write_canonical(&mut out, &JsonValue::parse(json.as_bytes(), true).unwrap(), &["job_id"]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_python_writes_is_kept() {
        assert_eq!(written("{\"a\": 123456789012345678901234567890}"), "{\"a\":123456789012345678901234567890}");
        assert_eq!(written("{\"a\": 1, \"b\": 2.5, \"a\": -0.0}"), "{\"b\":2.5,\"a\":-0.0}");
        assert_eq!(written("[\"é\u{1f600}\\u0001\\\"\\\\\\n\"]"), "[\"\\u00e9\\ud83d\\ude00\\u0001\\\"\\\\\\n\"]");
        assert_eq!(written("[1e16, 1E-7, true, null, []]"), "[1e+16,1e-7,true,null,[]]");
    }

    #[test]
    fn the_last_of_repeated_keys_counts_in_large_objects_too() {
        let pairs: Vec<String> = (0..200).map(|n| format!("\"k{}\": {n}", n % 150)).collect();
        let read: serde_json::Value = serde_json::from_str(&written(&format!("{{{}}}", pairs.join(",")))).unwrap();
        assert_eq!(read.as_object().unwrap().len(), 150);
        assert_eq!((&read["k10"], &read["k149"]), (&160.into(), &149.into()));
    }

    #[test]
    fn numbers_that_json_cannot_carry_are_found() {
        let first = |json: &str, spared: &[&str]| not_finite(&JsonValue::parse(json.as_bytes(), true).unwrap(), spared);
        assert_eq!(first("{\"a\": [1, {\"b\": NaN}]}", &[]).as_deref(), Some(".a[1].b"));
        assert_eq!(first("[1e400]", &[]).as_deref(), Some("[0]"));
        assert_eq!(first("[\"inf\", 1]", &[]), None);
        assert_eq!(first("{\"a\": {\"b\": [NaN]}}", &["a", "b"]), None);
        assert_eq!(first("{\"a\": {\"b\": 1, \"c\": {\"b\": NaN}}}", &["a", "b"]).as_deref(), Some(".a.c.b"));
        assert_eq!(first("{\"b\": NaN}", &["a", "b"]).as_deref(), Some(".b"));
    }

    #[test]
    fn equal_values_have_one_canonical_form() {
        assert_eq!(
            canonical("{\"b\": 1.0, \"a\": [\"\\u00e9\"], \"job_id\": 4}"),
            canonical("{\"a\":[\"é\"],\"b\":1}")
        );
        assert_ne!(canonical("{\"a\": 1}"), canonical("{\"a\": \"1\"}"));
    }
}
