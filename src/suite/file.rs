//! Reads one benchmark file: both of its forms, every entry on its own, each problem with its line.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::benchmark::Benchmark;
use super::check::{check_entry, kind_of, known_keys, unknown_key};
use super::problem::{Problem, ProblemKind};
use crate::model::{Platform, SuiteKind, Variant};

/// Larger files are not benchmark files.
pub(super) const SIZE_LIMIT_MIB: usize = 16;

/// How a file is written for the suite.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// An array of benchmarks.
    Plain,
    /// `{defaults, tests}`, which the suite reads for serving alone.
    Defaults(Map<String, Value>),
}

/// The good benchmarks of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkFile {
    /// Base name.
    pub name: String,
    /// Whose file it is by its name; `None` when the name says nothing.
    pub suite: Option<SuiteKind>,
    /// How it is written for the suite.
    pub form: Form,
    /// In the file's order.
    pub benchmarks: Vec<Benchmark>,
}

/// The name of the file that the suite reads on `platform`.
pub fn file_name(suite: SuiteKind, platform: Platform) -> String {
    format!("{suite}-tests{}.json", platform.file_suffix())
}

/// Reads the file `name` of `platform`.
pub(super) fn read_file(name: &str, platform: Platform, bytes: &[u8]) -> (BenchmarkFile, Vec<Problem>) {
    let suite = SuiteKind::ALL.into_iter().find(|suite| name.contains(suite.as_str()));
    let mut reader = Reader { name, text: "", problems: Vec::new() };
    let expected = suite.map(|suite| file_name(suite, platform));
    if expected.as_deref() != Some(name) {
        let expected = expected.unwrap_or_else(|| format!("SUITE-tests{}.json", platform.file_suffix()));
        reader.add(None, None, ProblemKind::NotRead { expected });
    }
    let mut file = BenchmarkFile { name: name.to_owned(), suite, form: Form::Plain, benchmarks: Vec::new() };
    if let Some(text) = reader.decode(bytes) {
        reader.text = text;
        reader.read(platform, &mut file);
    }
    (file, reader.problems)
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn add(&mut self, at: Option<(usize, usize)>, benchmark: Option<String>, kind: ProblemKind) {
        self.problems.push(Problem { file: self.name.to_owned(), at, benchmark, kind });
    }

    fn decode(&mut self, bytes: &'a [u8]) -> Option<&'a str> {
        let fault = if bytes.len() > SIZE_LIMIT_MIB * 1024 * 1024 {
            ProblemKind::TooLarge { limit_mib: SIZE_LIMIT_MIB }
        } else if bytes.starts_with(b"\xef\xbb\xbf") {
            ProblemKind::ByteOrderMark
        } else {
            match std::str::from_utf8(bytes) {
                Ok(text) => return Some(text),
                Err(error) => ProblemKind::NotUtf8(error.valid_up_to()),
            }
        };
        self.add(None, None, fault);
        None
    }

    fn read(&mut self, platform: Platform, file: &mut BenchmarkFile) {
        // First as any JSON: its errors say best where the file is broken, and what it is instead.
        let whole: Value = match serde_json::from_str(self.text) {
            Ok(whole) => whole,
            Err(error) => return self.bad_json(&error),
        };
        let (defaults, entries) = match &whole {
            Value::Array(_) => (None, serde_json::from_str::<Vec<&RawValue>>(self.text)),
            Value::Object(object) => {
                let Some(tests) = object.get("tests") else {
                    return self.add(None, None, ProblemKind::Shape("an object without them"));
                };
                if !tests.is_array() {
                    return self.add(None, None, ProblemKind::TestsType(kind_of(tests)));
                }
                for key in object.keys().filter(|k| !["defaults", "tests"].contains(&k.as_str())) {
                    self.add(None, None, unknown_key(key, &["defaults", "tests"]));
                }
                let parts = serde_json::from_str::<BTreeMap<String, &RawValue>>(self.text);
                let tests = parts.and_then(|mut p| p.remove("tests").map_or(Ok(Vec::new()), from_raw));
                (Some(self.defaults(file.suite, object.get("defaults"))), tests)
            }
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                return self.add(None, None, ProblemKind::Shape(kind_of(other)));
            }
        };
        match entries {
            Ok(entries) => self.entries(platform, defaults, &entries, file),
            Err(error) => self.bad_json(&error),
        }
    }

    fn bad_json(&mut self, error: &serde_json::Error) {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string().replace(&place, "");
        self.add(Some((error.line(), error.column())), None, ProblemKind::BadJson(message));
    }

    fn defaults(&mut self, suite: Option<SuiteKind>, defaults: Option<&Value>) -> Map<String, Value> {
        let defaults = match defaults {
            None | Some(Value::Null) => return Map::new(),
            Some(Value::Object(defaults)) => defaults,
            Some(other) => {
                let found = kind_of(other).to_owned();
                let kind = ProblemKind::Type { key: "defaults".to_owned(), expected: "an object", found };
                self.add(None, None, kind);
                return Map::new();
            }
        };
        if let Some(suite) = suite {
            let known: Vec<_> = known_keys(suite).iter().copied().filter(|k| *k != "test_name").collect();
            for key in defaults.keys().filter(|k| !known.contains(&k.as_str())) {
                self.add(None, Some("defaults".to_owned()), unknown_key(key, &known));
            }
        }
        defaults.clone()
    }

    fn entries(
        &mut self,
        platform: Platform,
        defaults: Option<Map<String, Value>>,
        entries: &[&'a RawValue],
        file: &mut BenchmarkFile,
    ) {
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        let none = Map::new();
        let mut found: Vec<(Benchmark, (usize, usize))> = Vec::new();
        for (index, raw) in entries.iter().enumerate() {
            let at = self.place_of(raw);
            // Already read once as part of the whole: only depth could fail, and that failed before.
            let entry = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
            let checked = check_entry(file.suite, defaults.as_ref().unwrap_or(&none), entry);
            let label = checked.name.clone().unwrap_or_else(|| format!("entry {}", index + 1));
            for kind in checked.problems {
                self.add(Some(at), Some(label.clone()), kind);
            }
            let Some(name) = checked.name else { continue };
            if let Some(line) = lines.get(&name) {
                self.add(Some(at), Some(label), ProblemKind::Duplicate(*line));
                continue;
            }
            lines.insert(name, at.0);
            found.extend(checked.benchmark.map(|benchmark| (benchmark, at)));
        }
        for (mut benchmark, at) in found {
            let taken = |v: &Variant| {
                let of = benchmark.name.strip_suffix(v.name_suffix()).filter(|_| *v != Variant::Base)?;
                lines.contains_key(of).then(|| (*v, of.to_owned()))
            };
            let taken = Variant::ALL.iter().find_map(taken).filter(|_| platform.has_variants());
            if let Some((variant, of)) = taken {
                let kind = ProblemKind::VariantName { variant: variant.to_string(), of };
                self.add(Some(at), Some(benchmark.name), kind);
                continue;
            }
            match (&defaults, file.suite) {
                (Some(defaults), Some(SuiteKind::Serving)) => file.form = Form::Defaults(defaults.clone()),
                // Other suites read plain arrays only, so the defaults are laid under each benchmark.
                (Some(_), Some(_) | None) => benchmark.entry.clone_from(&benchmark.merged),
                (None, Some(_) | None) => {}
            }
            file.benchmarks.push(benchmark);
        }
    }

    /// Line and column, from 1, of a part of the text.
    fn place_of(&self, part: &RawValue) -> (usize, usize) {
        let offset = part.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let before = self.text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default().chars().count() + 1)
    }
}

fn from_raw(raw: &RawValue) -> serde_json::Result<Vec<&RawValue>> {
    serde_json::from_str(raw.get())
}
