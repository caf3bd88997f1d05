//! What can go wrong with the store, told apart by what a person or a caller does about it. Messages name the step
//! and end in the cause; [`StoreError::fault`] says whether repeating helps.

use std::fmt;
use std::path::PathBuf;

use crate::health::lowest_cause;
use crate::model::{Fault, IdsExhausted, InvalidId};

/// A step on the store failed; nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its folder cannot be written (or does not exist and cannot be made).
    #[error(
        "failed to {doing}: the database cannot be written (check owner and permissions of the state directory and \
         of `benchd.db*` in it)"
    )]
    NotWritable {
        /// The step.
        doing: String,
        /// The database's answer.
        source: Cause,
    },
    /// Another process holds the write lock for longer than the busy timeout.
    #[error("failed to {doing}: the database stayed locked by another process")]
    Locked {
        /// The step.
        doing: String,
        /// The database's answer.
        source: Cause,
    },
    /// The file is no SQLite database or is damaged.
    #[error(
        "failed to {doing}: the database is damaged or is none (restore a copy of it, or move it away to begin anew)"
    )]
    Damaged {
        /// The step.
        doing: String,
        /// The database's answer.
        source: Cause,
    },
    /// No room is left for the database.
    #[error("failed to {doing}: the disk is full")]
    DiskFull {
        /// The step.
        doing: String,
        /// The database's answer.
        source: Cause,
    },
    /// A newer benchd has changed the tables.
    #[error(
        "failed to open {path}: its tables are of version {found}, this benchd knows versions up to {known} (use the \
         newer benchd, or restore a copy from before the update)"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The last version known.
        known: i64,
    },
    /// A migration failed or was changed after it had been applied.
    #[error("failed to bring the tables of {path} up to date")]
    Migration {
        /// The database file.
        path: PathBuf,
        /// What the migration met.
        source: Cause,
    },
    /// There is no state directory or no database in it.
    #[error("there is no store at {path} yet (`benchd run` makes it; `--state-dir` names another place)")]
    Absent {
        /// The database file that was looked for.
        path: PathBuf,
    },
    /// The state directory cannot be made.
    #[error("failed to make the state directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A row holds what this benchd does not understand.
    #[error("failed to read {table}.{column}: `{value}` is not understood")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// A column is not there or of another type.
    #[error("failed to read {table}.{column}")]
    Column {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The database's answer.
        source: Cause,
    },
    /// A move that no table of legal moves allows: a mistake in benchd.
    #[error("refused to move a {what} from {from} to {to}: no such move exists (please report this)")]
    IllegalMove {
        /// Run or job.
        what: &'static str,
        /// The state it is in.
        from: String,
        /// The state it was to have.
        to: String,
    },
    /// No id can be made.
    #[error(transparent)]
    Ids(#[from] IdsExhausted),
    /// What was made is no id.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The system gives no random bytes.
    #[error("failed to make an id: the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// A value cannot be written as JSON.
    #[error("failed to write {column} as JSON")]
    Json {
        /// The column.
        column: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Anything else the database says.
    #[error("failed to {doing}")]
    Sql {
        /// The step.
        doing: String,
        /// The database's answer.
        source: Cause,
    },
}

/// What the database said, told once: the layers of its client repeat each other's words.
#[derive(Debug)]
pub struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

impl From<sqlx::Error> for Cause {
    fn from(error: sqlx::Error) -> Self {
        Self(lowest_cause(&error))
    }
}

impl From<sqlx::migrate::MigrateError> for Cause {
    /// Its outermost words, which end in the cause and also name the migration.
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self(error.to_string())
    }
}

impl StoreError {
    /// Whether the same step may succeed later without anybody's help.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Locked { .. } => Fault::Transient,
            Self::NotWritable { .. }
            | Self::Damaged { .. }
            | Self::DiskFull { .. }
            | Self::Newer { .. }
            | Self::Migration { .. }
            | Self::Absent { .. }
            | Self::Directory { .. }
            | Self::Row { .. }
            | Self::Column { .. }
            | Self::IllegalMove { .. }
            | Self::Ids(_)
            | Self::Id(_)
            | Self::Random(_)
            | Self::Json { .. }
            | Self::Sql { .. } => Fault::Permanent,
        }
    }
}

/// Sorts the database's answer to the step `doing` ("claim a job") into a [`StoreError`].
pub(super) fn sql(doing: impl Into<String>) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| {
        let doing = doing.into();
        if matches!(source, sqlx::Error::PoolTimedOut) {
            return StoreError::Locked { doing, source: source.into() };
        }
        // The low byte of SQLite's extended result codes is the primary code (https://sqlite.org/rescode.html).
        let primary = source.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok()).map(|code| code & 0xff);
        let source = source.into();
        match primary {
            Some(5 | 6) => StoreError::Locked { doing, source },
            Some(3 | 8 | 14 | 23) => StoreError::NotWritable { doing, source },
            Some(11 | 26) => StoreError::Damaged { doing, source },
            Some(13) => StoreError::DiskFull { doing, source },
            Some(_) | None => StoreError::Sql { doing, source },
        }
    }
}
