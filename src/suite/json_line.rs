//! JSON on one line in the spelling of Python's `json.dumps`: `", "` and `": "` between parts, ASCII only. The suite's
//! own tools read either; files are easier to hold against those of the reference when they look the same.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

struct OneLine;

/// `value` as one line of ASCII JSON.
///
/// # Errors
/// When `value` cannot be JSON (a map with keys that are no text).
pub fn json_line(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, OneLine))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn separate(writer: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
    if first { Ok(()) } else { writer.write_all(b", ") }
}

impl Formatter for OneLine {
    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() {
                write!(writer, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_python_and_keeps_the_order() {
        let value: serde_json::Value = serde_json::from_str(r#"{"b":[1,2.5,"é😀\n"],"a":{},"c":null}"#).unwrap();
        assert_eq!(json_line(&value).unwrap(), r#"{"b": [1, 2.5, "\u00e9\ud83d\ude00\n"], "a": {}, "c": null}"#);
    }
}
