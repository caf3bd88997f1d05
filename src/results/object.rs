//! Reads an object of the public format back: records as JSON lines, with gzip or without, whoever wrote them. Apart
//! from the writer because nothing of it is trusted: all is bounded, and a broken record costs itself alone.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use jiter::JsonValue;
use serde::{Deserialize, Serialize};

use super::check::{Finding, Found, Origin, Worth};
use super::identity::{Hints, Identity, KeyParts, OwnIds, Stated, identify};
use super::json;
use super::judge::{Verdict, judge};
use super::limits::{MAX_RECORD_BYTES, MAX_RECORDS, MAX_VALUES, shown};
use super::measurement::Collector;
use crate::model::{BranchName, CommitSha, ExpectedPoint, Measurement, RepoName, Target, Variant};

/// Bytes of one object after decompression; a job's results stay far below.
const MAX_PLAIN_BYTES: u64 = 256 << 20;
/// Bytes of one line: a record and what benchd adds to it.
const MAX_LINE_BYTES: usize = MAX_RECORD_BYTES + (64 << 10);
/// Jobs whose records one object may hold.
const MAX_JOBS: usize = 64;
/// Faults of one object that are told one by one.
const TOLD_FAULTS: usize = 20;

/// What was wrong in an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFault {
    /// In which line, from 1; 0 for the object as a whole.
    pub line: u64,
    /// What.
    pub message: String,
}

/// What an object holds.
#[derive(Clone, Debug, Default)]
pub struct PublishedObject {
    /// The jobs whose results are in it, in the order in which they are met.
    pub jobs: Vec<PublishedJob>,
    /// How many records are in order.
    pub records: u64,
    /// How many faults there are.
    pub faults: u64,
    /// The first of them.
    pub told: Vec<ObjectFault>,
}

/// One job's results, as published.
#[derive(Clone, Debug)]
pub struct PublishedJob {
    /// Whose.
    pub stated: Stated,
    /// Its points, by name.
    pub points: Vec<ExpectedPoint>,
    /// All that was measured.
    pub measurements: Vec<PublishedMeasurement>,
}

/// A measurement with what its series needs besides.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedMeasurement {
    /// How the engine compiled.
    pub variant: Variant,
    /// Hash of the benchmark's own parameters; empty where nobody knows it.
    pub configuration: String,
    /// What was measured.
    pub measurement: Measurement,
}

impl PublishedJob {
    /// The repository.
    pub fn repo(&self) -> &RepoName {
        &self.stated.repo
    }

    /// The branch.
    pub fn branch(&self) -> &BranchName {
        &self.stated.branch
    }

    /// The commit.
    pub fn sha(&self) -> &CommitSha {
        &self.stated.sha
    }

    /// What it was measured on.
    pub fn target(&self) -> &Target {
        &self.stated.target
    }

    /// The numbers under which benchd itself published it.
    pub fn own(&self) -> Option<OwnIds> {
        self.stated.own
    }
}

/// Reads `body`, the object under `key`. It never fails: what is wrong is among the faults.
pub fn read_object(body: &[u8], key: &str, hints: &Hints) -> PublishedObject {
    let mut reading = Reading {
        key: KeyParts::of(key, hints.repo.as_ref()),
        hints,
        jobs: Vec::new(),
        values: 0,
        found: PublishedObject::default(),
    };
    let plain: Box<dyn Read + '_> =
        if body.starts_with(b"\x1f\x8b") { Box::new(MultiGzDecoder::new(body)) } else { Box::new(body) };
    reading.lines(plain);
    reading.finish()
}

/// The records of one job, while they are read.
struct Draft {
    stated: Stated,
    collector: Collector,
    points: BTreeMap<String, ExpectedPoint>,
    configurations: BTreeMap<String, String>,
}

struct Reading<'h> {
    key: KeyParts,
    hints: &'h Hints,
    jobs: Vec<Draft>,
    values: usize,
    found: PublishedObject,
}

impl Reading<'_> {
    fn lines(&mut self, plain: impl Read) {
        let mut reader = BufReader::with_capacity(64 << 10, plain.take(MAX_PLAIN_BYTES + 1));
        let mut line = Vec::new();
        let (mut number, mut total) = (0_usize, 0_u64);
        loop {
            number += 1;
            let read = match bounded_line(&mut reader, &mut line) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    self.fault(number, format!("broken or cut off here: {error}"));
                    break;
                }
            };
            total = total.saturating_add(read);
            if total > MAX_PLAIN_BYTES {
                self.fault(number, format!("more than {} MiB: the rest is not read", MAX_PLAIN_BYTES >> 20));
                break;
            }
            if number > MAX_RECORDS {
                self.fault(number, format!("more than {MAX_RECORDS} lines: the rest is not read"));
                break;
            }
            if line.len() > MAX_LINE_BYTES {
                self.fault(number, format!("a line of more than {} MiB", MAX_LINE_BYTES >> 20));
                continue;
            }
            let text = line.trim_ascii();
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            match JsonValue::parse(text, true) {
                Ok(record) => match self.record(&record) {
                    Ok(()) => self.found.records += 1,
                    Err(message) => self.fault(number, message),
                },
                Err(error) => self.fault(number, format!("not JSON: {}", error.error_type)),
            }
        }
        if self.found.records + self.found.faults == 0 {
            self.fault(0, "holds no record".to_owned());
        }
    }

    fn record(&mut self, record: &JsonValue<'_>) -> Result<(), String> {
        let Identity { stated, benchmark, variant, point, configuration } = identify(record, &self.key, self.hints)?;
        let eager = match variant {
            Variant::Eager => true,
            Variant::Base | Variant::InductorGraphPartition | Variant::Unknown => {
                !stated.target.platform.has_variants()
            }
        };
        let worth = match judge(record, eager) {
            Verdict::Valid => Worth::Measured,
            Verdict::NothingCompiled => Worth::NothingCompiled,
            Verdict::Invalid(_, message) => return Err(message),
        };
        let values = json::field(record, "metric").and_then(|metric| json::field(metric, "benchmark_values"));
        self.values = self.values.saturating_add(values.and_then(json::list).map_or(0, |values| values.len()));
        if self.values > MAX_VALUES {
            return Err(format!("the object has more than {MAX_VALUES} values"));
        }
        let draft = self.draft(stated)?;
        let found = Found { benchmark: &benchmark, variant, point: &point, record, worth, origin: Origin::Suite };
        draft.collector.take(&Finding::Record(found));
        if let Some(configuration) = configuration {
            draft.configurations.entry(benchmark.clone()).or_insert(configuration);
        }
        draft.points.entry(point.clone()).or_insert_with(|| ExpectedPoint {
            suite: benchmark.split('_').next().unwrap_or_default().to_owned(),
            benchmark,
            variant,
            point,
            eager,
        });
        Ok(())
    }

    fn draft(&mut self, stated: Stated) -> Result<&mut Draft, String> {
        let place = self.jobs.iter().position(|draft| draft.stated.same_job(&stated));
        let place = match place {
            Some(place) => place,
            None if self.jobs.len() >= MAX_JOBS => return Err(format!("records of more than {MAX_JOBS} jobs")),
            None => {
                let (collector, points) = (Collector::default(), BTreeMap::new());
                self.jobs.push(Draft { stated, collector, points, configurations: BTreeMap::new() });
                self.jobs.len() - 1
            }
        };
        self.jobs.get_mut(place).ok_or_else(|| "no job".to_owned())
    }

    fn fault(&mut self, line: usize, message: String) {
        self.found.faults += 1;
        if self.found.told.len() < TOLD_FAULTS {
            // An error may quote what it stumbled over.
            let line = u64::try_from(line).unwrap_or(u64::MAX);
            self.found.told.push(ObjectFault { line, message: shown(&message) });
        }
    }

    fn finish(mut self) -> PublishedObject {
        for draft in self.jobs {
            let Draft { stated, collector, points, configurations } = draft;
            let measurement = |measurement: Measurement| {
                let variant = points.get(&measurement.point).map_or(Variant::Unknown, |point| point.variant);
                let configuration = configurations.get(&measurement.benchmark).cloned().unwrap_or_default();
                PublishedMeasurement { variant, configuration, measurement }
            };
            let measurements = collector.finish().into_iter().map(measurement).collect();
            self.found.jobs.push(PublishedJob { stated, points: points.into_values().collect(), measurements });
        }
        self.found
    }
}

/// Reads up to and with the next newline and returns how much that was; 0 at the end. What a line has beyond its limit
/// is read and dropped, but for one byte that shows it.
fn bounded_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let mut total = 0_u64;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(total);
        }
        let (taken, ends) = match piece.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (piece.len(), false),
        };
        let room = (MAX_LINE_BYTES + 1).saturating_sub(line.len());
        line.extend_from_slice(piece.get(..taken.min(room)).unwrap_or_default());
        reader.consume(taken);
        total = total.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
        if ends {
            return Ok(total);
        }
    }
}
