//! Everything that can be wrong with a benchmark file, each with the sentence that a person reads.

use std::fmt;

use serde::Serialize;
use serde::ser::SerializeStruct;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The benchmark or file cannot be measured and is left out.
    Fault,
    /// It is measured, but probably not as meant.
    Warning,
}

/// One problem and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The file's name (with its platform's folder where several are read).
    pub file: String,
    /// Line and column, from 1, where the broken JSON or the benchmark begins.
    pub at: Option<(usize, usize)>,
    /// Name of the benchmark, or `entry N` (from 1) when it has none.
    pub benchmark: Option<String>,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What is wrong with a file or a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The file could not be read.
    #[error("failed to read the file: {0}")]
    Unreadable(String),
    /// The file is far larger than any benchmark file.
    #[error("the file has more than {limit_mib} MiB")]
    TooLarge {
        /// The limit in MiB.
        limit_mib: usize,
    },
    /// The file starts with a byte order mark.
    #[error("the file starts with a byte order mark, which the suite cannot read: save it as UTF-8 without one")]
    ByteOrderMark,
    /// The file is not text.
    #[error("the file is not UTF-8 (byte {0})")]
    NotUtf8(usize),
    /// The file is not JSON.
    #[error("bad JSON: {0}")]
    BadJson(String),
    /// The JSON is neither an array nor `{defaults, tests}`.
    #[error("a benchmark file is an array of benchmarks or an object with `tests`, this is {0}")]
    Shape(&'static str),
    /// `tests` is not an array.
    #[error("`tests` must be an array, not {0}")]
    TestsType(&'static str),
    /// The file's name is not one that the suite reads on this platform.
    #[error("the suite reads `{expected}` here; this file is read only when the suite is told its name")]
    NotRead {
        /// The name that is read.
        expected: String,
    },
    /// The file or folder of files lies beside the platforms' folders.
    #[error("it belongs to no platform and is not read: benchmark files lie in {platforms}")]
    Stray {
        /// The folders that are read.
        platforms: String,
    },
    /// A folder bears the name of a benchmark file.
    #[error("this is a folder, not a benchmark file")]
    Folder,
    /// An entry is not an object.
    #[error("a benchmark must be an object, not {0}")]
    EntryType(&'static str),
    /// A benchmark has no name.
    #[error("`test_name` is missing")]
    NoName,
    /// The name cannot be part of a file name and a shell command.
    #[error("the name holds {0:?}; names become file names: use letters, digits, `.`, `_`, `-`, `+`")]
    NameCharacter(char),
    /// The name leaves no room for what is appended to it.
    #[error("the name has {length} characters, more than {limit}: result files append to it")]
    NameLength {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The name's prefix does not fit the file; the suite stops at such a name.
    #[error("the name must start with {0}")]
    Prefix(String),
    /// Two benchmarks bear one name.
    #[error("the name is used before, at line {0}")]
    Duplicate(usize),
    /// A benchmark bears the name that another one's variant is given.
    #[error("the name is also that of the {variant} variant of `{of}`")]
    VariantName {
        /// Which variant.
        variant: String,
        /// Whose.
        of: String,
    },
    /// A key has the wrong type.
    #[error("`{key}` must be {expected}, not {found}")]
    Type {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The benchmark has no parameters.
    #[error("none of `parameters`, `server_parameters`, `common_parameters` is there: exactly one must be")]
    NoParameters,
    /// The benchmark has several kinds of parameters.
    #[error("{0} are there together: exactly one of `parameters`, `server_parameters`, `common_parameters` must be")]
    SeveralParameters(String),
    /// The parameters belong to another suite.
    #[error("a {suite} benchmark has `{expected}`, this one has `{found}`")]
    WrongParameters {
        /// The suite.
        suite: String,
        /// What it reads.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Parameters that only older suites read.
    #[error("`common_parameters` are read by older suites only")]
    CommonParameters,
    /// No model is named.
    #[error("`{0}.model` is missing")]
    NoModel(&'static str),
    /// The model's name would not survive the shell.
    #[error("`{section}.model` is {model:?}: a model is named by letters, digits and `/._-@:+`")]
    ModelName {
        /// Where it stands.
        section: &'static str,
        /// The name.
        model: String,
    },
    /// Server and client ask for different models; the suite skips such a benchmark without an error.
    #[error("`client_parameters.model` is {client}, `server_parameters.model` is `{server}`: the suite skips it")]
    ClientModel {
        /// The client's, quoted, or `missing`.
        client: String,
        /// The server's.
        server: String,
    },
    /// No host can have that many devices in one tensor-parallel group.
    #[error("tensor parallel size {0} is impossible (1, 2, 4 or 8)")]
    TensorParallel(String),
    /// Not a number of pipeline or data parallel groups.
    #[error("`{key}` is {value}: a positive whole number is needed")]
    Parallel {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// An option that the suite itself passes.
    #[error("`{section}.{key}` is set by the suite itself: remove it")]
    SetBySuite {
        /// Where it stands.
        section: &'static str,
        /// The key.
        key: String,
    },
    /// The same option in two spellings.
    #[error("`{section}` has `{option}` twice (`_` and `-` are the same)")]
    OptionTwice {
        /// Where it stands.
        section: &'static str,
        /// The option with hyphens.
        option: String,
    },
    /// A key that cannot be an option.
    #[error("`{section}` has the key {key:?}, which cannot be an option's name")]
    OptionName {
        /// Where it stands.
        section: &'static str,
        /// The key.
        key: String,
    },
    /// A key that cannot be an environment variable.
    #[error("`{section}` has the key {key:?}, which cannot be a variable's name")]
    VariableName {
        /// Where it stands.
        section: &'static str,
        /// The key.
        key: String,
    },
    /// No request rate.
    #[error("`qps_list` is missing")]
    NoRates,
    /// A list without elements.
    #[error("`{0}` is empty: nothing would be measured")]
    EmptyList(&'static str),
    /// Not a request rate.
    #[error("`qps_list` holds {0}: a request rate is a positive number or \"inf\"")]
    Rate(String),
    /// Not a concurrency.
    #[error("`max_concurrency_list` holds {0}: a concurrency is a positive whole number")]
    Concurrency(String),
    /// Two elements name one point.
    #[error("`{list}` holds {value} twice: the second overwrites the first one's results")]
    Repeated {
        /// The list.
        list: &'static str,
        /// The element.
        value: String,
    },
    /// Neither concurrency nor number of prompts.
    #[error(
        "neither `max_concurrency_list` nor `client_parameters.num_prompts` (a positive whole number) is there: the suite asks for the concurrency `null`, which its client refuses"
    )]
    NoConcurrency,
    /// A key that nothing reads.
    #[error("unknown key `{key}`{hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Empty, or `, did you mean ..?`.
        hint: String,
    },
    /// A value that loses its quotes in the shell.
    #[error("`{section}.{key}` is {what}: the suite hands it to the shell unquoted; write a text in single quotes")]
    Unquoted {
        /// Where it stands.
        section: &'static str,
        /// The key.
        key: String,
        /// What it is.
        what: &'static str,
    },
    /// A flag that is not written as the suite needs it.
    #[error("`{section}.{key}` is {value}, which is passed on as a word; a flag is written as an empty text")]
    Flag {
        /// Where it stands.
        section: &'static str,
        /// The key.
        key: String,
        /// `true`, `false` or `null`.
        value: String,
    },
}

impl ProblemKind {
    /// Whether the thing is left out because of it.
    pub fn severity(&self) -> Severity {
        match self {
            Self::NotRead { .. }
            | Self::Stray { .. }
            | Self::Folder
            | Self::CommonParameters
            | Self::OptionTwice { .. }
            | Self::Repeated { .. }
            | Self::NoConcurrency
            | Self::UnknownKey { .. }
            | Self::Unquoted { .. }
            | Self::Flag { .. } => Severity::Warning,
            Self::Unreadable(_)
            | Self::TooLarge { .. }
            | Self::ByteOrderMark
            | Self::NotUtf8(_)
            | Self::BadJson(_)
            | Self::Shape(_)
            | Self::TestsType(_)
            | Self::EntryType(_)
            | Self::NoName
            | Self::NameCharacter(_)
            | Self::NameLength { .. }
            | Self::Prefix(_)
            | Self::Duplicate(_)
            | Self::VariantName { .. }
            | Self::Type { .. }
            | Self::NoParameters
            | Self::SeveralParameters(_)
            | Self::WrongParameters { .. }
            | Self::NoModel(_)
            | Self::ModelName { .. }
            | Self::ClientModel { .. }
            | Self::TensorParallel(_)
            | Self::Parallel { .. }
            | Self::SetBySuite { .. }
            | Self::OptionName { .. }
            | Self::VariableName { .. }
            | Self::NoRates
            | Self::EmptyList(_)
            | Self::Rate(_)
            | Self::Concurrency(_) => Severity::Fault,
        }
    }
}

impl Problem {
    /// Whether the thing is left out because of it.
    pub fn is_fault(&self) -> bool {
        self.kind.severity() == Severity::Fault
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(benchmark) = &self.benchmark {
            write!(f, ": {benchmark}")?;
        }
        match self.kind.severity() {
            Severity::Fault => write!(f, ": {}", self.kind),
            Severity::Warning => write!(f, ": warning: {}", self.kind),
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut problem = serializer.serialize_struct("Problem", 6)?;
        problem.serialize_field("severity", &self.kind.severity())?;
        problem.serialize_field("file", &self.file)?;
        problem.serialize_field("line", &self.at.map(|(line, _)| line))?;
        problem.serialize_field("column", &self.at.map(|(_, column)| column))?;
        problem.serialize_field("benchmark", &self.benchmark)?;
        problem.serialize_field("message", &self.kind.to_string())?;
        problem.end()
    }
}
