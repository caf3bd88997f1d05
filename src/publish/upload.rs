//! From a results directory to an object in a bucket: the object is prepared in one pass, then put where nothing is.
//! What lies there already is compared, never overwritten unasked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiter::JsonValue;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use super::upload_api::{ApiError, ApiOutcome, UploadClient};
use crate::objects::{ObjectError, ObjectTarget, PutOnce};
use crate::results::check::{Finding, Worth};
use crate::results::record::{Metadata, RecordWriter, VOLATILE};
use crate::results::{CheckError, Expectation, Report, check, json};
use crate::step::Step;

/// Records repeat most of their text: a low level already makes a fortieth of it, in a third of the default's time.
const COMPRESSION: u32 = 3;
/// Content is not decompressed beyond this, in bytes.
const MAX_PLAIN_BYTES: u64 = 1 << 30;
/// How often an upload starts anew because somebody else wrote in between.
const ROUNDS: usize = 3;

/// The results of one job, ready to be put into a bucket.
#[derive(Clone, Debug)]
pub struct UploadObject {
    /// Its key, without the target's prefix.
    pub key: String,
    /// JSON lines, compressed with gzip.
    pub body: Bytes,
    /// How many records it holds.
    pub records: usize,
    /// Bytes before compression.
    pub plain_bytes: u64,
}

/// Judged directories and what of them is worth publishing.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The judgements, one for each directory.
    pub reports: Vec<Report>,
    /// The object; `None` when no valid record measures anything.
    pub object: Option<UploadObject>,
}

/// Why an object could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The directory cannot be judged.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Writing the records failed.
    #[error("failed to write the records of {key}")]
    Write {
        /// The object's key.
        key: String,
        /// Why.
        source: io::Error,
    },
}

/// One results directory of an object.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// What it is held against.
    pub expectation: Expectation,
    /// What its records say of themselves.
    pub metadata: &'a Metadata,
}

/// Judges the directories and writes their valid records, file by file, into one object under the first one's key. An
/// invalid record is never in it. The reports stand in the order of the parts.
///
/// # Errors
/// When a directory cannot be read.
pub fn prepare(parts: Vec<Part<'_>>) -> Result<Prepared, PrepareError> {
    let key = parts.first().map(|part| part.metadata.object_key()).unwrap_or_default();
    let failed = |source| PrepareError::Write { key: key.clone(), source };
    let mut out = Counted { gzip: GzEncoder::new(Vec::new(), Compression::new(COMPRESSION)), bytes: 0 };
    let (mut measured, mut records) = (0_usize, 0_usize);
    let mut reports = Vec::with_capacity(parts.len());
    for part in parts {
        let mut writer = RecordWriter::after(records, part.metadata).map_err(failed)?;
        let report = check(part.dir, part.expectation, &mut |finding| match finding {
            Finding::Record(found) => {
                measured += match found.worth {
                    Worth::Measured => 1,
                    Worth::NothingCompiled => 0,
                };
                writer.write(&mut out, &found)
            }
            Finding::Native { .. } => Ok(()),
        })?;
        records = writer.written();
        reports.push(report);
    }
    let plain_bytes = out.bytes;
    let object = if measured > 0 {
        let body = out.gzip.finish().map_err(failed)?.into();
        Some(UploadObject { key, body, records, plain_bytes })
    } else {
        // Compilation times of zero accompany measurements; alone they say nothing.
        None
    };
    Ok(Prepared { reports, object })
}

struct Counted {
    gzip: GzEncoder<Vec<u8>>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.gzip.write(buffer)?;
        self.bytes += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gzip.flush()
    }
}

/// What to do with another object under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it.
    Keep,
    /// Write over it.
    Replace,
}

/// What came of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadOutcome {
    /// The object was written where none was.
    Created,
    /// The same results lie there already.
    Unchanged,
    /// Other results lay there and were replaced, as asked.
    Replaced,
    /// Other results lie there and were left.
    Conflict,
    /// Something lies there and was left; the destination does not tell whether it is the same.
    Exists,
}

/// Puts the object. Repeating it is safe: equal results are left as they are.
///
/// # Errors
/// When the store cannot be asked or refuses.
pub async fn upload(
    target: &ObjectTarget,
    object: &UploadObject,
    existing: Existing,
) -> Result<UploadOutcome, ObjectError> {
    for _ in 0..ROUNDS {
        if let Some(there) = target.read(&object.key).await? {
            if same_records(&there, &object.body) {
                return Ok(UploadOutcome::Unchanged);
            }
            return match existing {
                Existing::Keep => Ok(UploadOutcome::Conflict),
                Existing::Replace => {
                    Step::ReplaceObject.take(target.replace(&object.key, object.body.clone())).await?;
                    Ok(UploadOutcome::Replaced)
                }
            };
        }
        match Step::PutObject.take(target.put_once(&object.key, object.body.clone())).await? {
            PutOnce::Created => return Ok(UploadOutcome::Created),
            // Somebody wrote in between, or an answer to our own writing was lost: look again.
            PutOnce::Exists => {}
        }
    }
    Ok(UploadOutcome::Conflict)
}

/// Whether two bodies, compressed or plain, hold the same records in any order, apart from run, job and runner.
/// A body that cannot be read is like no other.
pub fn same_records(one: &[u8], other: &[u8]) -> bool {
    match (fingerprints(one), fingerprints(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// The content of a body as text lines.
pub fn plain(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    reader(body).read_to_end(&mut text)?;
    Ok(text)
}

fn reader(body: &[u8]) -> Box<dyn Read + '_> {
    if body.starts_with(b"\x1f\x8b") {
        Box::new(MultiGzDecoder::new(body).take(MAX_PLAIN_BYTES))
    } else {
        Box::new(body)
    }
}

fn fingerprints(body: &[u8]) -> io::Result<Vec<[u8; 32]>> {
    let mut found = Vec::new();
    let mut text = Vec::new();
    for line in BufReader::new(reader(body)).split(b'\n') {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        text.clear();
        match JsonValue::parse(&line, true) {
            Ok(record) => json::write_canonical(&mut text, &record, &VOLATILE)?,
            Err(_) => text.extend_from_slice(&line),
        }
        found.push(Sha256::digest(&text).into());
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_run_and_runner_make_no_difference() {
        let one = br#"{"a": 1, "job_id": 1, "runners": []}
{"a": 2.0, "b": "\u00e9"}"#;
        let other = "{\"b\":\"é\",\"a\":2}\n{\"runners\":[1],\"a\":1.0,\"job_id\":\"9\"}\n";
        assert!(same_records(one, other.as_bytes()));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(one).unwrap();
        let gzip = gzip.finish().unwrap();
        assert!(same_records(&gzip, other.as_bytes()));
        assert_eq!(plain(&gzip).unwrap(), one);
        assert!(!same_records(&gzip, br#"{"a": 1}"#));
        assert!(!same_records(b"{\"a\": 1}", b"{\"a\": 1}\n{\"a\": 1}"));
        assert!(!same_records(b"{\"timestamp\": 1}", b"{\"timestamp\": 2}"));
        assert!(!same_records(b"\x1f\x8bbroken", b"\x1f\x8bbroken"));
    }
}
