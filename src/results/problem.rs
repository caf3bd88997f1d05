//! What is wrong with a result file, and where: the words that reports, logs and the API share.

use std::fmt;

use serde::{Serialize, Serializer};

/// Where in a file something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The file as a whole.
    File,
    /// Line and column (bytes), from 1.
    Line(usize, usize),
    /// The n-th element of the file's list, from 1.
    Record(usize),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line, column) => write!(f, "{line}:{column}"),
            Self::Record(number) => write!(f, "record {number}"),
        }
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The kind of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The file could not be read from the disk.
    Unreadable,
    /// The file is a link, device or pipe, which is not followed out of a container, or its name holds control characters.
    NotAFile,
    /// The file, a record, or all records together are larger than benchd takes.
    TooLarge,
    /// Bytes that are no UTF-8.
    InvalidUtf8,
    /// Text that is no JSON.
    InvalidJson,
    /// One line of several is no record.
    BadLine,
    /// The file should hold records and holds none.
    NoRecords,
    /// An element is no record: no object, or without `benchmark`.
    NotARecord,
    /// `metric` is missing, no object, or has no name.
    BadMetric,
    /// `benchmark_values` is missing or no list.
    NoValues,
    /// `benchmark_values` is an empty list.
    EmptyValues,
    /// A value is a boolean, null, text or a structure.
    NotANumber,
    /// A number is NaN or infinite.
    NotFinite,
    /// All values are zero.
    Zeroed,
    /// Another part of the record has a shape that the database refuses, and with it the whole object.
    BadShape,
    /// The record holds a secret that benchd knows.
    HoldsSecret,
    /// The load generator reports failed requests.
    RequestsFailed,
    /// The load generator completed fewer requests than it was told to send.
    RequestsMissing,
    /// More problems in this file than are listed.
    More,
}

impl ProblemKind {
    /// The kind's name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NotAFile => "not_a_file",
            Self::TooLarge => "too_large",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::BadLine => "bad_line",
            Self::NoRecords => "no_records",
            Self::NotARecord => "not_a_record",
            Self::BadMetric => "bad_metric",
            Self::NoValues => "no_values",
            Self::EmptyValues => "empty_values",
            Self::NotANumber => "not_a_number",
            Self::NotFinite => "not_finite",
            Self::Zeroed => "zeroed",
            Self::BadShape => "bad_shape",
            Self::HoldsSecret => "holds_secret",
            Self::RequestsFailed => "requests_failed",
            Self::RequestsMissing => "requests_missing",
            Self::More => "more",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name in the directory.
    pub file: String,
    /// Where in the file; empty for the file as a whole.
    pub at: At,
    /// Which kind.
    pub kind: ProblemKind,
    /// What a person reads.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            At::File => write!(f, "{}: {}", self.file, self.message),
            At::Line(..) => write!(f, "{}:{}: {}", self.file, self.at, self.message),
            At::Record(_) => write!(f, "{}, {}: {}", self.file, self.at, self.message),
        }
    }
}
