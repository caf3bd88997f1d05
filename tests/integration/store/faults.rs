//! Faults of the disk and of other processes. Processes that are killed are this test binary itself, started once
//! more for one test with `BENCHD_TEST_STORE` set.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use benchd::model::Fault;
use benchd::step::Step;
use benchd::store::{DATABASE_FILE, RunFilter, StoreError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::*;

const CHILD_STORE: &str = "BENCHD_TEST_STORE";

/// Starts this binary for one test, which then plays its part on the store in `dir`.
pub fn child(test: &str, dir: &Path, more: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD_STORE, dir);
    command.envs(more.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The store that this process was started for, when it is such a child.
pub fn childs_store() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD_STORE).map(Into::into)
}

fn wait_for_line(child: &mut Child, wanted: &str) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(wanted)), "the child never said {wanted}");
}

async fn raw(dir: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(dir.join(DATABASE_FILE))).await.unwrap()
}

async fn assert_sound(dir: &Path) {
    let mut connection = raw(dir).await;
    let integrity: String = sqlx::query_scalar("pragma integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(integrity, "ok");
    assert!(sqlx::query("pragma foreign_key_check").fetch_all(&mut connection).await.unwrap().is_empty());
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_locked_database_is_transient_and_work_goes_on_after() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).await.unwrap().close().await;
    let store = Store::open_with(dir.path(), Duration::from_millis(50)).await.unwrap();
    let queue = Queue::new(store.clone(), Clock::manual(noon()), Pace::default());
    let mut other = raw(dir.path()).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = queue.submit_run(&plan(SHA, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Transient);
    assert_eq!(error.to_string(), "failed to submit a run: the database stayed locked by another process");
    assert!(store.list_runs(10, &RunFilter::default()).await.unwrap().is_empty(), "reads go on meanwhile");
    lock.rollback().await.unwrap();
    assert!(matches!(queue.submit_run(&plan(SHA, 1)).await.unwrap(), Submitted::Run(_)));
}

#[tokio::test]
async fn a_database_from_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).await.unwrap().close().await;
    let mut other = raw(dir.path()).await;
    sqlx::query("insert into _sqlx_migrations values (9999, 'from the future', 0, true, x'00', 0)")
        .execute(&mut other)
        .await
        .unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error}");
    assert!(error.to_string().contains("tables are of version 9999, this benchd knows versions up to"), "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(DATABASE_FILE), "not a database, but a text of some length\n".repeat(200)).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("restore a copy"), "{error}");
}

#[tokio::test]
async fn a_database_with_broken_pages_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    bench.submit(&plan(SHA, 200)).await;
    bench.store.close().await;
    let path = dir.path().join(DATABASE_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = Store::open(&dir.path().join("file/state")).await.unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    let error = Store::open_existing(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Absent { .. }), "{error}");
    assert!(!dir.path().join(DATABASE_FILE).exists(), "looking makes nothing");
}

#[tokio::test]
async fn a_copy_taken_while_the_store_is_in_use_opens() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    bench.whole_run(&plan(SHA, 1), 1.0).await;
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join(DATABASE_FILE).to_str().unwrap().to_owned();
    let mut other = raw(dir.path()).await;
    sqlx::query("vacuum into ?1").bind(path).execute(&mut other).await.unwrap();
    bench.whole_run(&plan(SHA, 1), 2.0).await;
    let store = Store::open(copy.path()).await.unwrap();
    assert_eq!(store.list_runs(10, &RunFilter::default()).await.unwrap().len(), 1);
}

/// Root may write everywhere, so the command runs as a user who may not.
#[tokio::test]
async fn a_read_only_file_or_folder_is_said_to_be_so() {
    let dir =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    Store::open(dir.path()).await.unwrap().close().await;
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    let mut modes = vec![(dir.path().join(DATABASE_FILE), 0o444), (dir.path().to_owned(), 0o555)];
    modes.reverse();
    for (path, mode) in modes {
        let before = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_benchd"));
        command.args(["runs", "--state-dir"]).arg(dir.path());
        if is_root {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("the database cannot be written (check owner and permissions"), "{stderr}");
        std::fs::set_permissions(&path, before).unwrap();
    }
}

#[tokio::test]
async fn processes_that_open_a_new_store_at_once_all_succeed() {
    if let Some(dir) = childs_store() {
        let bench = bench(&dir).await;
        bench.submit(&plan(SHA, 3)).await;
        bench.store.close().await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "store::faults::processes_that_open_a_new_store_at_once_all_succeed";
    let children: Vec<_> = (0..6).map(|_| child(test, dir.path(), &[])).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.list_runs(10, &RunFilter::default()).await.unwrap().len(), 6);
    assert_sound(dir.path()).await;
}

#[tokio::test]
async fn a_kill_within_a_write_leaves_nothing_of_it() {
    if let Some(dir) = childs_store() {
        let store = Store::open(&dir).await.unwrap();
        let mut write = store.write(Step::SubmitRun).await.unwrap();
        for n in 0..2000 {
            let commit = Commit { sha: format!("{:040x}", n + 1).parse().unwrap(), ..plan(SHA, 0).commit };
            write.record_commit(&commit).await.unwrap();
        }
        println!("within the write");
        tokio::time::sleep(Duration::from_secs(600)).await;
        write.commit().await.unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path()).await;
    bench.whole_run(&plan(SHA, 1), 1.0).await;
    let mut child = child("store::faults::a_kill_within_a_write_leaves_nothing_of_it", dir.path(), &[]);
    wait_for_line(&mut child, "within the write");
    child.kill().unwrap();
    child.wait().unwrap();
    let first = "0000000000000000000000000000000000000001".parse().unwrap();
    assert_eq!(bench.store.commit(&plan(SHA, 0).commit.repository, &first).await.unwrap(), None);
    bench.whole_run(&plan(SHA, 1), 2.0).await;
    bench.store.close().await;
    assert_sound(dir.path()).await;
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_whole_runs_only() {
    const JOBS: usize = 20;
    if let Some(dir) = childs_store() {
        let bench = bench(&dir).await;
        loop {
            bench.submit(&plan(SHA, JOBS)).await;
            println!("submitted");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=5 {
        let mut child = child("store::faults::a_kill_at_any_moment_leaves_whole_runs_only", dir.path(), &[]);
        for _ in 0..round {
            wait_for_line(&mut child, "submitted");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_sound(dir.path()).await;
        let store = Store::open(dir.path()).await.unwrap();
        let runs = store.list_runs(10_000, &RunFilter::default()).await.unwrap();
        assert!(runs.len() >= round, "what was said to be submitted is there");
        assert!(runs.iter().all(|run| usize::try_from(run.jobs).unwrap() == JOBS), "a run has all its jobs");
        store.close().await;
    }
}
