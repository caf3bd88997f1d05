//! Judges a directory of result files in one pass: which records are valid, what is wrong and where, and what came of
//! every expected point. Valid records are handed on as they are found, so that a large directory is never held whole.

use std::io;
use std::path::{Path, PathBuf};

use jiter::JsonValue;
use serde::Serialize;

use super::files::{self, Content, Entry, Kind};
use super::judge::{Verdict, command_says_eager, judge};
use super::limits::{MAX_RECORD_BYTES, MAX_RECORDS, MAX_VALUES, is_name, shown};
use super::names::point_of;
use super::parse::{Element, Reading, TOLD_FAULTS, parse};
pub use super::points::Point;
use super::points::{Points, Source};
use super::problem::{At, Problem, ProblemKind};
use super::{foreign, json, record};
use crate::model::{ExpectedPoint, PointState, SuiteKind, Variant};
use crate::redact;

/// Bytes of all files with records; a large job's are a tenth of it.
const MAX_RECORD_FILES_BYTES: usize = 64 << 20;
/// No text grows beyond so many times its length by the escapes with which it is written.
const MOST_ESCAPED: usize = 6;

/// What a directory is held against.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// The points of a plan; without one, every point that has a `.commands` file is expected.
    pub points: Option<Vec<ExpectedPoint>>,
    /// Whether the platform compiles nothing (Gaudi's lazy mode), so that compilation times may be zero or absent.
    pub without_compilation: bool,
}

/// How strictly a directory is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Every problem and every missing point counts.
    Strict,
    /// Anything valid is enough.
    Lenient,
}

/// What a directory amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Valid records, no problem, no expected point missing.
    Complete,
    /// Valid records, and something is wrong or missing.
    Incomplete,
    /// No valid record.
    Empty,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// It claims records: by its name, or because it holds an object with `benchmark`.
    Records,
    /// Results in another project's format.
    Foreign,
    /// A native result of the suite: one object.
    Native,
    /// The suite's own summary.
    Summary,
    /// The command lines of a point.
    Commands,
    /// It cannot be read and claims no records.
    Unreadable,
    /// Anything else.
    Other,
}

/// One file of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its name in the directory.
    pub name: String,
    /// How many valid records it holds.
    pub records: usize,
    /// What it is.
    pub kind: FileKind,
}

/// The judgement on a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many valid records there are.
    pub records: usize,
    /// Every file, by name.
    pub files: Vec<File>,
    /// Every point, by name.
    pub points: Vec<Point>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// What is worth knowing and no fault.
    pub warnings: Vec<String>,
}

impl Report {
    /// What the directory amounts to.
    pub fn completeness(&self) -> Completeness {
        let in_order = |point: &Point| match point.state {
            PointState::Ok | PointState::Extra => true,
            PointState::NotRun | PointState::Failed | PointState::Zeroed | PointState::NotANumber => false,
        };
        if self.records == 0 {
            Completeness::Empty
        } else if self.problems.is_empty() && self.points.iter().all(in_order) {
            Completeness::Complete
        } else {
            Completeness::Incomplete
        }
    }

    /// Whether the directory passes.
    pub fn passes(&self, strictness: Strictness) -> bool {
        match (self.completeness(), strictness) {
            (Completeness::Complete, Strictness::Strict | Strictness::Lenient)
            | (Completeness::Incomplete, Strictness::Lenient) => true,
            (Completeness::Incomplete, Strictness::Strict)
            | (Completeness::Empty, Strictness::Strict | Strictness::Lenient) => false,
        }
    }
}

/// Whether a valid record measures something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It holds measured values.
    Measured,
    /// It says zero because nothing was compiled: in order, and no measurement.
    NothingCompiled,
}

/// Who shaped a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The suite wrote it.
    Suite,
    /// benchd made it of another project's format.
    Foreign,
}

/// A valid record and where it belongs.
#[derive(Debug)]
pub struct Found<'a, 'j> {
    /// The benchmark's name with its variant's suffix.
    pub benchmark: &'a str,
    /// The variant.
    pub variant: Variant,
    /// The point's name.
    pub point: &'a str,
    /// The record, as written.
    pub record: &'a JsonValue<'j>,
    /// Whether it measures something.
    pub worth: Worth,
    /// Who shaped it.
    pub origin: Origin,
}

/// What the pass over a directory comes upon.
#[derive(Debug)]
pub enum Finding<'a, 'j> {
    /// A valid record.
    Record(Found<'a, 'j>),
    /// A native result: one object without `benchmark`.
    Native {
        /// The point's name.
        point: &'a str,
        /// The object.
        value: &'a JsonValue<'j>,
    },
}

/// Why a directory could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be listed.
    #[error("failed to read the results directory {path} (it must exist and be readable)")]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What takes the records failed.
    #[error("failed to hand on a record of {file}")]
    Sink {
        /// The file it stands in.
        file: String,
        /// Why.
        source: io::Error,
    },
}

/// Takes what is found, in the order of file names.
pub type Sink<'s> = dyn FnMut(Finding<'_, '_>) -> io::Result<()> + 's;

/// Judges the files directly in `dir` and hands every valid record and native result to `sink`.
pub fn check(dir: &Path, expectation: Expectation, sink: &mut Sink<'_>) -> Result<Report, CheckError> {
    let entries = files::entries(dir).map_err(|source| CheckError::Directory { path: dir.to_owned(), source })?;
    let mut buffer = Vec::new();
    let mut report =
        Report { records: 0, files: Vec::new(), points: Vec::new(), problems: Vec::new(), warnings: Vec::new() };

    let (commands, results): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.name.ends_with(".commands"));
    let mut told = Vec::new();
    for entry in commands {
        if !matches!(entry.kind, Kind::File) {
            report.warnings.push(format!("{}: not a file, ignored", entry.name));
            continue;
        }
        let text = match files::read(&entry.path, &mut buffer) {
            Ok(Content::Read) => String::from_utf8_lossy(&buffer).into_owned(),
            Ok(Content::TooLarge) | Err(_) => String::new(),
        };
        told.push(expected_by_commands(&entry.name, &text));
        report.files.push(File { name: entry.name, records: 0, kind: FileKind::Commands });
    }
    let mut points = expected_points(expectation, told);

    let mut pass = Pass { report: &mut report, points: &mut points, guards: Vec::new(), values: 0, bytes: 0, sink };
    for entry in results {
        pass.entry(&entry, &mut buffer)?;
    }
    pass.settle_guards();
    report.files.sort_by(|a, b| a.name.cmp(&b.name));
    report.points = points.settle();
    Ok(report)
}

/// The points to expect: the plan's, or those of the command files; what a command line says counts for both.
fn expected_points(expectation: Expectation, told: Vec<ExpectedPoint>) -> Points {
    let without_compilation = expectation.without_compilation;
    let eager = |mut point: ExpectedPoint| {
        point.eager |= without_compilation || told.iter().any(|t| t.point == point.point && t.eager);
        point
    };
    let (source, expected) = match expectation.points {
        Some(plan) => (Source::Plan, plan.into_iter().map(eager).collect()),
        None => (Source::Commands, told.iter().cloned().map(eager).collect()),
    };
    let mut points = Points::expecting(source, expected, without_compilation);
    for point in &told {
        points.started(&point.point);
    }
    points
}

fn expected_by_commands(file: &str, text: &str) -> ExpectedPoint {
    let (point, _) = point_of(file);
    let suite = SuiteKind::ALL
        .into_iter()
        .find(|suite| text.contains(&format!("\"{suite}_command\"")) || point.starts_with(suite.as_str()))
        .unwrap_or(SuiteKind::Serving);
    let benchmark = super::names::benchmark_of(point);
    ExpectedPoint {
        suite: suite.as_str().to_owned(),
        benchmark: benchmark.to_owned(),
        variant: super::names::variant_of(benchmark),
        point: point.to_owned(),
        eager: command_says_eager(text),
    }
}

/// One pass over the result files.
struct Pass<'p, 's> {
    report: &'p mut Report,
    points: &'p mut Points,
    /// What native results say against their points; told only for points that are expected or have records.
    guards: Vec<(String, Problem)>,
    /// Values of all valid records so far.
    values: usize,
    /// Bytes of all files with records so far.
    bytes: usize,
    sink: &'p mut Sink<'s>,
}

impl Pass<'_, '_> {
    fn entry(&mut self, entry: &Entry, buffer: &mut Vec<u8>) -> Result<(), CheckError> {
        let claims = entry.name.ends_with(".pytorch.json");
        match entry.kind {
            Kind::File => {}
            Kind::Directory => {
                self.report.warnings.push(format!("{}: a directory, ignored", entry.name));
                return Ok(());
            }
            Kind::Other => {
                let message = "not a plain file (a link, device or pipe), not read";
                self.unread(entry, claims, ProblemKind::NotAFile, message);
                return Ok(());
            }
            Kind::BadName => {
                self.unread(entry, claims, ProblemKind::NotAFile, "its name holds control characters, not read");
                return Ok(());
            }
        }
        match files::read(&entry.path, buffer) {
            Ok(Content::Read) => self.file(&entry.name, claims, buffer),
            Ok(Content::TooLarge) => {
                let message = format!("larger than {} MiB, not read", files::MAX_FILE_BYTES >> 20);
                self.unread(entry, claims, ProblemKind::TooLarge, &message);
                Ok(())
            }
            Err(error) => {
                self.unread(entry, claims, ProblemKind::Unreadable, &format!("failed to read the file: {error}"));
                Ok(())
            }
        }
    }

    /// A file of which nothing is known but its name.
    fn unread(&mut self, entry: &Entry, claims: bool, kind: ProblemKind, message: &str) {
        if claims {
            self.problem(&entry.name, point_of(&entry.name).0, At::File, kind, message);
        } else {
            self.report.warnings.push(format!("{}: {message}", entry.name));
        }
        self.report.files.push(File { name: entry.name.clone(), records: 0, kind: FileKind::Unreadable });
    }

    fn file(&mut self, name: &str, named_records: bool, bytes: &[u8]) -> Result<(), CheckError> {
        let reading = parse(bytes);
        let (stem, _) = point_of(name);
        let before = self.report.records;
        let kind = if named_records || reading.holds_benchmark(bytes) {
            self.records(name, &reading, bytes.len())?;
            FileKind::Records
        } else if let Some(elements) = foreign::records(&reading, stem) {
            self.foreign(name, &elements, bytes.len())?;
            FileKind::Foreign
        } else if let Some(fault) = reading.faults.first() {
            self.report.warnings.push(format!("{name}: {} (it claims no records and is ignored)", fault.message));
            FileKind::Unreadable
        } else if name == "benchmark_results.json" {
            FileKind::Summary
        } else if let ([element], true) = (reading.elements.as_slice(), reading.single) {
            self.native(name, stem, &element.value)?;
            FileKind::Native
        } else {
            FileKind::Other
        };
        let records = self.report.records - before;
        self.report.files.push(File { name: name.to_owned(), records, kind });
        Ok(())
    }

    /// A file that claims records: whatever in it is none is a problem.
    fn records(&mut self, name: &str, reading: &Reading<'_>, bytes: usize) -> Result<(), CheckError> {
        let (point, part) = point_of(name);
        self.points.started(point);
        let (benchmark, variant) = self.points.benchmark(point);
        let told_eager = self.points.is_eager(point);
        let mut faults = Faults { name, point, count: 0 };
        for fault in &reading.faults {
            faults.add(self, fault.at, fault.kind, fault.message.clone());
        }
        faults.count += reading.untold;
        if reading.elements.is_empty() && reading.faults.is_empty() {
            faults.add(self, At::File, ProblemKind::NoRecords, "the file holds no records".to_owned());
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let mut overwritten: Vec<String> = Vec::new();
        for Element { at, value } in &reading.elements {
            let worth = match self.worth(value, told_eager, bytes) {
                Ok(worth) => worth,
                Err((kind, message)) => {
                    faults.add(self, *at, kind, message);
                    continue;
                }
            };
            let keys = json::object(value).unwrap_or_default().iter().map(|(key, _)| key.as_ref());
            overwritten.extend(keys.filter(|key| !record::is_kept(key)).map(str::to_owned));
            self.report.records += 1;
            self.points.valid(point, part);
            let found = Found { benchmark: &benchmark, variant, point, record: value, worth, origin: Origin::Suite };
            self.hand_on(name, Finding::Record(found))?;
        }
        overwritten.sort_unstable();
        overwritten.dedup();
        if !overwritten.is_empty() {
            let keys = overwritten.join("`, `");
            self.report
                .warnings
                .push(format!("{name}: a record may not set `{keys}`, which benchd knows better: dropped"));
        }
        let info = reading.elements.iter().find_map(|e| json::field(json::field(&e.value, "metric")?, "extra_info"));
        if let Some(info) = info {
            self.guard(name, point, info);
        }
        faults.end(self);
        Ok(())
    }

    fn foreign(&mut self, name: &str, elements: &[Element<'_>], bytes: usize) -> Result<(), CheckError> {
        self.bytes = self.bytes.saturating_add(bytes);
        let mut faults = Faults { name, point: point_of(name).0, count: 0 };
        for Element { at, value } in elements {
            let benchmark = json::field(value, "benchmark").and_then(|b| json::field(b, "name")).and_then(json::text);
            let benchmark = benchmark.unwrap_or(name);
            if !is_name(benchmark) {
                let message = format!("`{}` is no name of a benchmark", shown(benchmark));
                faults.add(self, *at, ProblemKind::NotARecord, message);
                continue;
            }
            faults.point = benchmark;
            match self.worth(value, false, bytes) {
                Ok(Worth::Measured | Worth::NothingCompiled) => {
                    self.report.records += 1;
                    self.points.valid(benchmark, None);
                    let found = Found {
                        benchmark,
                        variant: Variant::Base,
                        point: benchmark,
                        record: value,
                        worth: Worth::Measured,
                        origin: Origin::Foreign,
                    };
                    self.hand_on(name, Finding::Record(found))?;
                }
                Err((kind, message)) => faults.add(self, *at, kind, message),
            }
        }
        faults.end(self);
        Ok(())
    }

    /// What one element of a file of `bytes` is worth as a record, or what is wrong with it.
    fn worth(&mut self, value: &JsonValue<'_>, told_eager: bool, bytes: usize) -> Result<Worth, (ProblemKind, String)> {
        let worth = match judge(value, told_eager) {
            Verdict::Valid => Worth::Measured,
            Verdict::NothingCompiled => Worth::NothingCompiled,
            Verdict::Invalid(kind, message) => return Err((kind, message)),
        };
        let values = json::field(value, "metric").and_then(|metric| json::field(metric, "benchmark_values"));
        let values = self.values.saturating_add(values.and_then(json::list).map_or(0, |values| values.len()));
        let (kind, message) = if self.report.records >= MAX_RECORDS {
            (ProblemKind::TooLarge, format!("more than {MAX_RECORDS} records"))
        } else if values > MAX_VALUES {
            (ProblemKind::TooLarge, format!("more than {MAX_VALUES} values"))
        } else if self.bytes > MAX_RECORD_FILES_BYTES {
            (ProblemKind::TooLarge, format!("more than {} MiB of records", MAX_RECORD_FILES_BYTES >> 20))
        } else if bytes > MAX_RECORD_BYTES / MOST_ESCAPED && json::written_bytes(value) > MAX_RECORD_BYTES {
            (ProblemKind::TooLarge, format!("a record of more than {} MiB", MAX_RECORD_BYTES >> 20))
        } else if json::any_text(value, &redact::holds_secret) {
            (ProblemKind::HoldsSecret, "the record holds a secret".to_owned())
        } else {
            self.values = values;
            return Ok(worth);
        };
        Err((kind, message))
    }

    fn native(&mut self, name: &str, point: &str, value: &JsonValue<'_>) -> Result<(), CheckError> {
        self.guard(name, point, value);
        self.hand_on(name, Finding::Native { point, value })
    }

    /// Notes what the load generator says against the point: failed or missing requests.
    fn guard(&mut self, name: &str, point: &str, info: &JsonValue<'_>) {
        if self.guards.iter().any(|(guarded, _)| guarded == point) {
            return;
        }
        let figure = |key: &str| json::field(info, key).and_then(json::number);
        let (failed, completed, asked) = (figure("failed"), figure("completed"), figure("num_prompts"));
        let (kind, message) = match (failed, completed, asked) {
            (Some(failed), _, asked) if failed > 0.0 => {
                let of = asked.map_or_else(String::new, |asked| format!(" of {asked}"));
                (ProblemKind::RequestsFailed, format!("{failed}{of} requests failed"))
            }
            (_, Some(completed), Some(asked)) if completed < asked => {
                (ProblemKind::RequestsMissing, format!("{completed} of {asked} requests were completed"))
            }
            _ => return,
        };
        self.guards.push((point.to_owned(), Problem { file: name.to_owned(), at: At::File, kind, message }));
    }

    fn settle_guards(&mut self) {
        for (point, problem) in std::mem::take(&mut self.guards) {
            if self.points.knows(&point) {
                self.points.wrong(&point, problem.kind, &problem.message);
                self.report.problems.push(problem);
            }
        }
    }

    fn problem(&mut self, name: &str, point: &str, at: At, kind: ProblemKind, message: &str) {
        // It may quote what was stumbled over.
        let message = shown(message);
        self.points.wrong(point, kind, &message);
        self.report.problems.push(Problem { file: name.to_owned(), at, kind, message });
    }

    fn hand_on(&mut self, name: &str, finding: Finding<'_, '_>) -> Result<(), CheckError> {
        (self.sink)(finding).map_err(|source| CheckError::Sink { file: name.to_owned(), source })
    }
}

/// What is wrong with the records of one file. Only the first ones are told one by one.
struct Faults<'f> {
    name: &'f str,
    point: &'f str,
    count: usize,
}

impl Faults<'_> {
    fn add(&mut self, pass: &mut Pass<'_, '_>, at: At, kind: ProblemKind, message: String) {
        self.count += 1;
        if self.count <= TOLD_FAULTS {
            pass.problem(self.name, self.point, at, kind, &message);
        }
    }

    fn end(self, pass: &mut Pass<'_, '_>) {
        let more = self.count.saturating_sub(TOLD_FAULTS);
        if more > 0 {
            pass.problem(self.name, self.point, At::File, ProblemKind::More, &format!("{more} more problems"));
        }
    }
}

#[cfg(test)]
mod tests;
