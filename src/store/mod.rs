//! All SQL: one file per table, migrations numbered and append-only, every change of a state guarded by the state it
//! leaves. SQLite in WAL mode; reads go through a pool, writes through one connection that begins IMMEDIATE.

mod answers;
pub mod artifacts;
mod attempts;
mod baselines;
mod codec;
mod commits;
mod controls;
mod counts;
mod deliveries;
mod detail;
mod error;
mod followed;
mod images;
mod imports;
mod jobs;
mod looks;
mod measured;
mod measurements;
mod outbox;
mod passes;
mod progress;
mod pulls;
mod queued;
mod reports;
mod requests;
mod runners;
mod runs;
mod ticks;

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlSafeStr, Sqlite, SqliteConnection, Transaction};
use tokio::sync::watch;

use self::codec::{Columns, id_column};
use self::error::sql;
use crate::model::{InvalidId, next_id};
use crate::step::Step;

pub use answers::{Answer, AnswerKind, AnswerRow, QuietCheck};
pub use attempts::AttemptEnd;
pub use baselines::{Baseline, Machines};
pub use commits::{BranchCommit, Commit};
pub use counts::{Counts, PassPlace};
pub use deliveries::{Delivery, DeliveryFacts};
pub use detail::{AttemptDetail, JobDetail, PassDetail, PointDetail, RunDetail};
pub use error::StoreError;
pub use followed::FollowedRow;
pub use images::PulledImage;
pub use imports::{ImportOutcome, ImportedJob, KnownObject, ObjectEntry, ObjectMark};
pub use jobs::{Claim, ClaimedJob, Heartbeat, JobRow, JobStart, NewJob};
pub use looks::{Look, LookKind, Mark, UnknownLook};
pub use measured::KnownJob;
pub use measurements::{Previous, SeriesMeasurement, SeriesValue};
pub use outbox::{OutboxRow, Owed, OwedKind, OwedState, UnknownOwed};
pub use passes::{PassEnd, PassStart, PointOutcome};
pub use progress::{PointCounts, Progress};
pub use pulls::{ApprovalRow, ApprovedBy, PullRow, PullRun, UnknownApproval};
pub use queued::{Alike, HeldJob, QueuedJob};
pub use reports::{PullKey, PullOrder, ReportKey, ReportKind, ReportRow, Told};
pub use requests::KeyedRequest;
pub use runners::RunnerRow;
pub use runs::{LeftOut, NewRun, RunFilter, RunRow, RunSummary, RunTerms, Scope, UnknownScope};
pub use ticks::{Recorded, ScheduleRow, TickKey, TickRow, TickState};

/// Name of the database file in the state directory.
pub const DATABASE_FILE: &str = "benchd.db";
/// How long a write waits for another process's write before it reports [`StoreError::Locked`].
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reads: a page of the dashboard and a few API calls at once.
const READERS: u32 = 4;

/// Whether a guarded change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Outcome {
    /// It was made.
    Performed,
    /// Somebody else has moved the row meanwhile (or it does not exist); nothing was changed.
    Moved,
}

impl Outcome {
    fn of(rows: u64) -> Self {
        if rows == 0 { Self::Moved } else { Self::Performed }
    }
}

/// The open store of one state directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    readers: SqlitePool,
    writer: SqlitePool,
    changes: watch::Sender<()>,
}

/// A write in progress: it holds the database's only write lock until [`Write::commit`], and leaves nothing behind
/// when dropped.
#[derive(Debug)]
pub struct Write(Transaction<'static, Sqlite>, Wake, Step);

/// Whom a commit wakes.
#[derive(Debug)]
struct Wake {
    changes: watch::Sender<()>,
    /// Whether the write gives anybody something to do.
    due: bool,
}

impl Store {
    /// Opens the store in `state_dir`, makes it where it is absent and brings its tables up to date.
    pub async fn open(state_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(state_dir, BUSY_TIMEOUT).await
    }

    /// [`Store::open`] only where a store exists already: for commands that look and make nothing.
    pub async fn open_existing(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(DATABASE_FILE);
        match tokio::fs::metadata(&path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(StoreError::Absent { path }),
            Ok(_) | Err(_) => Self::open(state_dir).await,
        }
    }

    /// [`Store::open`] with another busy timeout.
    pub async fn open_with(state_dir: &Path, busy_timeout: Duration) -> Result<Self, StoreError> {
        tokio::fs::create_dir_all(state_dir)
            .await
            .map_err(|source| StoreError::Directory { path: state_dir.to_owned(), source })?;
        let path = state_dir.join(DATABASE_FILE);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: a commit survives a power cut. Writes are few and each may stand for an hour of measuring.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(busy_timeout);
        let doing = || format!("open {}", path.display());
        let mut first = SqliteConnection::connect_with(&options).await.map_err(sql(doing()))?;
        migrate(&mut first, &path, &migrations()).await?;
        first.close().await.map_err(sql(doing()))?;
        // A waiting writer of this process waits for the ones before it, each of which may wait for the busy timeout.
        let wait = busy_timeout.saturating_mul(8);
        // A write that finds the disk full is taken back by the database itself, and its client goes on to count it as
        // open: such a connection would never write again.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(wait)
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
        let readers = SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(wait);
        Ok(Self {
            writer: writer.connect_with(options.clone()).await.map_err(sql(doing()))?,
            readers: readers.connect_with(options).await.map_err(sql(doing()))?,
            changes: watch::Sender::new(()),
        })
    }

    /// Begins the write that makes `step`.
    pub async fn write(&self, step: Step) -> Result<Write, StoreError> {
        // A deferred transaction that reads and then writes fails at once when another writer came between, in spite
        // of the busy timeout; IMMEDIATE takes the write lock first and waits for it.
        let wake = Wake { changes: self.changes.clone(), due: false };
        Ok(Write(self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(sql(step.name()))?, wake, step))
    }

    /// Begins a read whose statements all see the database as the first of them finds it.
    async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(sql("begin to read"))
    }

    /// Tells when a commit of this process has given somebody something to do: a job was queued, waits for its image or
    /// has ended, a pause was taken back. What other processes write tells nothing: whoever waits looks now and then.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Copies the database as it is now to a file that is not there yet, while others read and write.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        sqlx::query("vacuum into ?1")
            .bind(path.to_string_lossy().as_ref())
            .execute(&self.readers)
            .await
            .map_err(sql(format!("copy the database to {}", path.display())))?;
        Ok(())
    }

    /// Closes all connections; the write-ahead log is folded into the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Write {
    /// Makes the changes lasting.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self(transaction, wake, step) = self;
        step.take(transaction.commit()).await.map_err(sql(format!("commit: {step}")))?;
        if wake.due {
            wake.changes.send_replace(());
        }
        Ok(())
    }

    /// A new id, larger than every one this store has given.
    async fn new_id<T: TryFrom<u64, Error = InvalidId>>(&mut self, now: DateTime<Utc>) -> Result<T, StoreError> {
        let doing = "make an id";
        let row = sqlx::query("select last from id_clock").fetch_optional(&mut *self.0).await.map_err(sql(doing))?;
        let last = row.map(|row| Columns { table: "id_clock", row: &row }.number("last")).transpose()?;
        let mut random = [0; 2];
        getrandom::fill(&mut random)?;
        let id = next_id(last, now, u16::from_le_bytes(random))?;
        sqlx::query("insert into id_clock (one, last) values (1, ?1) on conflict do update set last = excluded.last")
            .bind(id_column(id))
            .execute(&mut *self.0)
            .await
            .map_err(sql(doing))?;
        Ok(T::try_from(id)?)
    }
}

/// All migrations, oldest first. A released one is never edited: a change of tables is a new file.
fn migrations() -> Migrator {
    let all = [
        (1, "initial", include_str!("migrations/0001_initial.sql")),
        (2, "queue", include_str!("migrations/0002_queue.sql")),
        (3, "triggers", include_str!("migrations/0003_triggers.sql")),
        (4, "github_looks", include_str!("migrations/0004_github_looks.sql")),
        (5, "pulls", include_str!("migrations/0005_pulls.sql")),
        (6, "reports", include_str!("migrations/0006_reports.sql")),
        (9, "progress", include_str!("migrations/0009_progress.sql")),
        (11, "imports", include_str!("migrations/0011_imports.sql")),
        (12, "told", include_str!("migrations/0012_told.sql")),
        (13, "deliveries_seen", include_str!("migrations/0013_deliveries_seen.sql")),
    ];
    let migration = |(version, name, text): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
    };
    Migrator::with_migrations(all.into_iter().map(migration).collect())
}

/// Brings the tables up to date, all or nothing. The write lock is taken first, so that two processes that open a
/// store at once migrate it one after the other.
async fn migrate(connection: &mut SqliteConnection, path: &Path, migrator: &Migrator) -> Result<(), StoreError> {
    let doing = || format!("open {}", path.display());
    let wrong = |source| {
        if let MigrateError::Execute(source) = source {
            return sql(doing())(source);
        }
        if let MigrateError::VersionMissing(found) = source {
            let known = migrator.iter().map(|m| m.version).max().unwrap_or(0);
            return StoreError::Newer { path: path.to_owned(), found, known };
        }
        StoreError::Migration { path: path.to_owned(), source: source.into() }
    };
    let mut write = connection.begin_with("BEGIN IMMEDIATE").await.map_err(sql(doing()))?;
    migrator.run(&mut *write).await.map_err(wrong)?;
    Step::Migrate.take(write.commit()).await.map_err(sql(doing()))
}

#[cfg(test)]
mod tests;
