//! Reads the text of one result file as leniently as the suites write it: JSON with Python's extensions, whole or one
//! value a line, with or without a byte order mark. What cannot be read is said with its position, never lost.

use std::ops::Range;

use jiter::{JsonValue, LinePosition};

use super::json;
use super::problem::{At, ProblemKind};

/// One value of a file: an item of its list, the value of a line, or its only value.
#[derive(Debug)]
pub struct Element<'j> {
    /// Where it stands.
    pub at: At,
    /// What it is.
    pub value: JsonValue<'j>,
}

/// A part that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub at: At,
    /// Which kind.
    pub kind: ProblemKind,
    /// What a person reads.
    pub message: String,
}

/// Faults of one file that are told one by one; a broken file of a million lines is told once.
pub(super) const TOLD_FAULTS: usize = 100;

/// All that a file says.
#[derive(Debug, Default)]
pub struct Reading<'j> {
    /// Its values, in order.
    pub elements: Vec<Element<'j>>,
    /// What could not be read; the first of it.
    pub faults: Vec<Fault>,
    /// How many more parts could not be read.
    pub untold: usize,
    /// Whether the file is one JSON object, as native results are.
    pub single: bool,
}

impl Reading<'_> {
    fn fault(&mut self, fault: impl FnOnce() -> Fault) {
        if self.faults.len() < TOLD_FAULTS {
            self.faults.push(fault());
        } else {
            self.untold += 1;
        }
    }

    /// Whether an element is an object with `benchmark`, or the unreadable text looks like one.
    pub fn holds_benchmark(&self, bytes: &[u8]) -> bool {
        self.elements.iter().any(|e| json::field(&e.value, "benchmark").is_some())
            || (!self.faults.is_empty() && mentions_benchmark(bytes))
    }
}

/// Whether `"benchmark":` stands in the text.
fn mentions_benchmark(bytes: &[u8]) -> bool {
    const KEY: &[u8] = b"\"benchmark\"";
    let mut rest = bytes;
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = rest.get(at + KEY.len()..).unwrap_or_default();
        if rest.trim_ascii_start().first() == Some(&b':') {
            return true;
        }
    }
    false
}

/// Reads the text of a file. Never fails: what is unreadable becomes a fault.
pub fn parse(bytes: &[u8]) -> Reading<'_> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if text.trim_ascii().is_empty() {
        return Reading {
            faults: vec![Fault { at: At::File, kind: ProblemKind::NoRecords, message: "the file is empty".to_owned() }],
            ..Reading::default()
        };
    }
    match JsonValue::parse(text, true) {
        Ok(JsonValue::Array(items)) => {
            let items = std::sync::Arc::unwrap_or_clone(items);
            let numbered = items.into_iter().enumerate();
            let elements = numbered.map(|(at, value)| Element { at: At::Record(at + 1), value }).collect();
            Reading { elements, ..Reading::default() }
        }
        Ok(value) => {
            let single = json::object(&value).is_some();
            Reading { elements: vec![Element { at: At::Record(1), value }], single, ..Reading::default() }
        }
        Err(whole) => {
            let parts = each_item(text).unwrap_or_else(|| each_row(text));
            if parts.elements.is_empty() {
                Reading { faults: vec![unreadable(text, 0..text.len(), &whole)], ..Reading::default() }
            } else {
                parts
            }
        }
    }
}

/// Reads a list that as a whole cannot be read item by item, cut at its own commas: an item that cannot be read costs no
/// other one. `None` for what is no list, has no end, or has no item that can be read.
fn each_item(text: &[u8]) -> Option<Reading<'_>> {
    let begin = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let end = begin + text.get(begin..)?.trim_ascii_end().len() - 1;
    if text.get(begin) != Some(&b'[') || text.get(end) != Some(&b']') {
        return None;
    }
    let mut reading = Reading::default();
    let mut number = 0;
    let mut item = |range: Range<usize>| {
        number += 1;
        match JsonValue::parse(text.get(range.clone()).unwrap_or_default(), true) {
            Ok(value) => reading.elements.push(Element { at: At::Record(number), value }),
            Err(error) => reading.fault(|| unreadable(text, range, &error)),
        }
    };
    let mut start = begin + 1;
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate().take(end).skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            // The list ends before the text does: these are several lines, each with its own.
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                item(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    item(start..end);
    (depth == 0 && !quoted && !reading.elements.is_empty()).then_some(reading)
}

/// Reads one value a line; a line that is neither an object nor a list is a fault, a blank one is nothing.
fn each_row(text: &[u8]) -> Reading<'_> {
    let mut reading = Reading::default();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let line = line.trim_ascii_end();
        if line.trim_ascii().is_empty() {
            continue;
        }
        match JsonValue::parse(line, true) {
            Ok(JsonValue::Array(items)) => {
                let items = std::sync::Arc::unwrap_or_clone(items).into_iter();
                reading.elements.extend(items.map(|value| Element { at: At::Line(number, 1), value }));
            }
            Ok(value @ JsonValue::Object(_)) => reading.elements.push(Element { at: At::Line(number, 1), value }),
            Ok(_) => reading.fault(|| Fault {
                at: At::Line(number, 1),
                kind: ProblemKind::BadLine,
                message: "the line is neither an object nor a list".to_owned(),
            }),
            Err(error) => {
                let items = each_item(line).unwrap_or_else(|| Reading {
                    faults: vec![unreadable(line, 0..line.len(), &error)],
                    ..Reading::default()
                });
                reading.elements.extend(items.elements.into_iter().map(|e| Element { at: At::Line(number, 1), ..e }));
                for fault in items.faults {
                    let column = if let At::Line(_, column) = fault.at { column } else { 1 };
                    reading.fault(|| Fault { at: At::Line(number, column), kind: ProblemKind::BadLine, ..fault });
                }
                reading.untold += items.untold;
            }
        }
    }
    reading
}

/// Why the part of `text` in `range` cannot be read, and where in `text`.
fn unreadable(text: &[u8], range: Range<usize>, error: &jiter::JsonError) -> Fault {
    let at = |index: usize| {
        let position = LinePosition::find(text, (range.start + index).min(text.len().saturating_sub(1)));
        At::Line(position.line, position.column.max(1))
    };
    match std::str::from_utf8(text.get(range.clone()).unwrap_or_default()) {
        Err(utf8) => Fault {
            at: at(utf8.valid_up_to()),
            kind: ProblemKind::InvalidUtf8,
            message: "the text is no valid UTF-8".to_owned(),
        },
        Ok(_) => Fault {
            at: at(error.index),
            kind: ProblemKind::InvalidJson,
            message: format!("the text is no valid JSON: {}", error.error_type),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ats(text: &str) -> (Vec<String>, Vec<(String, ProblemKind)>) {
        let reading = parse(text.as_bytes());
        let elements = reading.elements.iter().map(|e| e.at.to_string()).collect();
        (elements, reading.faults.iter().map(|f| (f.at.to_string(), f.kind)).collect())
    }

    #[test]
    fn whole_file_or_one_value_a_line() {
        assert_eq!(ats("[{}, 1]").0, ["record 1", "record 2"]);
        assert_eq!(ats("{\n}").0, ["record 1"]);
        assert_eq!(ats("{\"a\":1}\r\n[{}, {}]\r\n\r\n").0, ["1:1", "2:1", "2:1"]);
        let (elements, faults) = ats("{}\n{bad\n42\n\n\"s\"\n{}\n");
        assert_eq!(elements, ["1:1", "6:1"]);
        assert_eq!(faults.iter().map(|f| f.0.as_str()).collect::<Vec<_>>(), ["2:2", "3:1", "5:1"]);
        assert!(faults.iter().all(|f| f.1 == ProblemKind::BadLine));
    }

    #[test]
    fn two_pretty_printed_documents_are_one_fault() {
        let (elements, faults) = ats("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n");
        assert_eq!((elements.len(), faults), (0, vec![("4:1".to_owned(), ProblemKind::InvalidJson)]));
    }

    #[test]
    fn an_item_that_cannot_be_read_costs_no_other_one() {
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        let long = "1".repeat(5000);
        for bad in [&deep, r#"{"x": "\ud800"}"#, &long, "{x}"] {
            let text = format!(" [{{\"a\": \"],}}\\\"\"}}, {{}},\n {bad}, [2, {{}}]]\n");
            let (elements, faults) = ats(&text);
            assert_eq!(elements, ["record 1", "record 2", "record 4"], "{bad:.20}");
            assert!(faults.len() == 1 && faults[0].0.starts_with("2:"), "{bad:.20}: {faults:?}");
            assert_eq!(faults[0].1, ProblemKind::InvalidJson);
            // The same where each line is a value of its own.
            let (elements, faults) = ats(&format!("{{}}\n[{{}}, {bad}]\n[3]\n"));
            assert_eq!(elements, ["1:1", "2:1", "3:1"], "{bad:.20}");
            assert!(faults.len() == 1 && faults[0].0.starts_with("2:"), "{bad:.20}: {faults:?}");
        }
        let reading = parse(b"[1, \"\xff\", 2]");
        assert_eq!((reading.elements.len(), reading.faults[0].kind), (2, ProblemKind::InvalidUtf8));
        assert_eq!(reading.faults[0].at, At::Line(1, 6));
        // Nothing is made of a list without an end, or of one that has no item that can be read.
        for text in ["[1, {\"a\"", "[{x}, {y}]", "[1}, 2]", "[1, \"2]", "[1, {2]"] {
            assert_eq!((ats(text).0.len(), ats(text).1.len()), (0, 1), "{text}");
        }
    }

    #[test]
    fn a_flood_of_faults_is_counted() {
        for text in ["[1".to_owned() + &",x".repeat(5000) + "]", "{}\n".to_owned() + &"x\n".repeat(5000)] {
            let reading = parse(text.as_bytes());
            assert_eq!((reading.elements.len(), reading.faults.len(), reading.untold), (1, TOLD_FAULTS, 4900));
        }
    }

    #[test]
    fn bad_bytes_are_a_fault_and_good_lines_stay() {
        let reading = parse(b"{\"a\": \"\xff\"}");
        assert_eq!((reading.elements.len(), reading.faults[0].kind), (0, ProblemKind::InvalidUtf8));
        assert_eq!(reading.faults[0].at.to_string(), "1:8");
        let reading = parse(b"{\"a\": 1}\n{\"a\": \"\xff\"}\n");
        assert_eq!((reading.elements.len(), reading.faults[0].at), (1, At::Line(2, 8)));
    }

    #[test]
    fn python_extensions_and_a_byte_order_mark() {
        let reading = parse("\u{feff}[NaN, -Infinity, 1e400, 99999999999999999999999]".as_bytes());
        assert!(reading.faults.is_empty(), "{:?}", reading.faults);
        let numbers: Vec<_> = reading.elements.iter().map(|e| json::number(&e.value).unwrap()).collect();
        assert!(numbers[0].is_nan() && numbers[1].is_infinite() && numbers[2].is_infinite());
        assert_eq!(numbers[3].to_string(), "100000000000000000000000");
    }

    #[test]
    fn depth_is_bounded() {
        let text = "[".repeat(100_000);
        let reading = parse(text.as_bytes());
        assert_eq!((reading.elements.len(), reading.faults[0].kind), (0, ProblemKind::InvalidJson));
    }

    #[test]
    fn an_unreadable_file_is_known_by_its_words() {
        let holds = |text: &str| parse(text.as_bytes()).holds_benchmark(text.as_bytes());
        assert!(holds("[{\"benchmark\" : {\"na"));
        assert!(holds("{\"a\": 1}\n{\"benchmark\": {}}"));
        assert!(!holds("{\"x\": \"benchmark\""));
        assert!(!holds("{\"note\": \"\\\"benchmark\\\": 1\"}"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let reading = parse(&bytes);
            prop_assert!(!reading.elements.is_empty() || !reading.faults.is_empty() || bytes.trim_ascii() == b"[]"
                || serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }

        #[test]
        fn anything_near_json_is_read_without_panic(text in "[\\[\\]{}\":,0-9eE.+\\-a-zNIé\n\r ]{0,200}") {
            let reading = parse(text.as_bytes());
            let mut out = Vec::new();
            for element in &reading.elements {
                json::write(&mut out, &element.value).unwrap();
                json::write_canonical(&mut out, &element.value, &[]).unwrap();
            }
            prop_assert!(out.is_ascii());
        }
    }
}
