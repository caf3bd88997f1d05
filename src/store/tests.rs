//! Migrations on filled tables. Every migration N is applied to a database that stands at N - 1 and holds a row in
//! each of its tables; a migration that is added needs its rows added here.

use std::path::PathBuf;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, SqlSafeStr, SqliteConnection};

use super::*;

/// One row for each table as it is after migration 1.
const ROWS_1: &str = "
    insert into id_clock values (1, 42);
    insert into commits values ('o/r', '9816774803221e23e6f26178546c65c2466e2c90', null, 1700000000000);
    insert into branch_commits values ('o/r', 'main', '9816774803221e23e6f26178546c65c2466e2c90', 7);
    insert into runs (id, repository, sha, branch, trigger, state, failure, owed, requested_at, started_at, finished_at)
        values (1, 'o/r', '9816774803221e23e6f26178546c65c2466e2c90', 'main', '{\"kind\":\"manual\"}',
        'running', null, '[]', 1700000000000, 1700000000001, null);
    insert into jobs (id, run_id, platform, device_type, device_count, model, spec, required, max_attempts, state,
            claimed_by, attempt, lease_until, started_at, created_at)
        values (2, 1, 'cpu', 'Xeon', 1, 'm', '{}', 1, 3, 'running', 'host', 1, 1700000000002, 1700000000001,
            1700000000000);
    insert into jobs (id, run_id, platform, device_type, device_count, model, spec, required, max_attempts, state,
            until_at, created_at)
        values (5, 1, 'cpu', 'Xeon', 1, 'm', '{}', 1, 3, 'waiting_for_image', 1700000000009, 1700000000000);
    insert into attempts (job_id, attempt, runner, claimed_at) values (2, 1, 'host', 1700000000001);
    insert into passes (job_id, attempt, pass, role, sha, image, digest, container, repro_command, started_at,
        finished_at, exit_code) values (2, 1, 1, 'candidate', '9816774803221e23e6f26178546c65c2466e2c90', 'i:t', 'sha256:0',
        '{}', 'docker run i', 1700000000001, null, null);
    insert into points values (2, 1, 1, 'b', 'p', 'latency', 'base', 'ok', null);
    insert into series values (3, 'o/r', 'cpu', 'Xeon', 1, 'm', 'b', 'base', 'p', 'latency', 'c', 's', 'lower',
        'primary');
    insert into measurements values (3, 1, 2, 1, 1, 'candidate', '9816774803221e23e6f26178546c65c2466e2c90', 1.5,
        '[1.0,2.0]');
    insert into outbox values (4, 1, 2, 'upload', 's3://b', '{}', 'owed', 0, 1700000000000, 1700000000000, null, null);
    insert into images values ('sha256:1', 'i:t', 'sha256:0', 10, 1700000000000, 1700000000000);
";

/// What migration 2 adds.
const ROWS_2: &str = "
    update runs set priority = 60;
    update jobs set selection = 'c0ffee', waiting_since = created_at, next_look_at = created_at,
        last_look = '{\"at\":\"2023-11-14T22:13:20Z\",\"asked\":\"i:t\",\"answer\":\"absent\"}'
        where state = 'waiting_for_image';
    update attempts set devices = '[0]', cpus = '0-3', co_tenants = '[7]';
    insert into runners values ('host', 'cpu', 'Xeon', '{}', 1700000000000);
    insert into controls values ('host:host', 'alice', 'maintenance', 1700000000000);
";

/// One row for each table that migration 3 adds.
const ROWS_3: &str = "
    update runs set terms = '{\"scope\":\"part\"}';
    insert into schedules values ('o/r', '0 0 */4 * * *', 1700000000000);
    insert into ticks values ('o/r', '0 0 */4 * * *', 1700000000000, 'due', 1, 1700000000000, null, '{}');
    insert into keyed_requests values ('key', 'hash', 1, 1700000000000);
";

/// One row for each table that migration 4 adds.
const ROWS_4: &str = "
    insert into followed values ('o/r', 7, 1700000000000, 1700000000000);
    insert into deliveries values ('guid', 'push', null, 'o/r', 7, null, '9816774803221e23e6f26178546c65c2466e2c90',
        'refs/heads/main', 'ann', '{}', 1700000000000);
    insert into looks values ('o/r', 'pull', '1', 'pull_request.labeled', '{}', 1, 1700000000000, 1700000000000, 0,
        null);
    insert into branch_tips values ('o/r', 'main', '9816774803221e23e6f26178546c65c2466e2c90', 1700000000000);
    insert into tags values ('o/r', 'v1', '9816774803221e23e6f26178546c65c2466e2c90', 1700000000000);
";

/// One row for each table that migration 5 adds.
const ROWS_5: &str = "
    insert into pulls (repository, number, head_sha, head_seen_at, head_updated_at, labels, standing, origin, author,
        base_branch, said, said_count, updated_at) values ('o/r', 7, '9816774803221e23e6f26178546c65c2466e2c90', 1700000000000, 1700000000000,
        '[\"ready\"]', 'ready', 'fork', 'ann', 'main', 'waiting', 1, 1700000000000);
    insert into approvals values ('o/r', 7, '9816774803221e23e6f26178546c65c2466e2c90', 'bob', 'label',
        1700000000000);
    insert into pull_runs values (1, 'o/r', 7, '9816774803221e23e6f26178546c65c2466e2c90', 'labels', null, null);
    insert into commands values ('comment 9 run', 'o/r', 7, 'ann', 1700000000000);
";

/// One row for each table that migration 6 adds.
const ROWS_6: &str = "
    insert into reports values ('o/r', 'comment', '#7', 99, 'state', 'text', 1700000000000, null, 0, 0, null);
    insert into answers values (1, 'key', 'o/r', 7, '{\"kind\":\"reaction\",\"comment\":5,\"content\":\"eyes\"}', 'owed', 1,
        1700000000000, 1700000000000, null, 'refused');
";

/// What migration 11 adds.
const ROWS_11: &str = "
    insert into imported_objects values ('s3://b', 'v3/o/r/main/9/Xeon/benchmark_results.json', 'tag', 10,
        1700000000000, '0000000000000000000000000000000000000000000000000000000000000000', 1700000000000, 3, 1, '[]');
    insert into imported_jobs values ('s3://b', 'v3/o/r/main/9/Xeon/benchmark_results.json', 2);
";

/// The rows that a database at a version is filled with.
fn rows_of(version: i64) -> String {
    match version {
        1 => ROWS_1.to_owned(),
        2 => rows_of(1) + ROWS_2,
        3 => rows_of(2) + ROWS_3,
        4 => rows_of(3) + ROWS_4,
        5 => rows_of(4) + ROWS_5,
        6 => rows_of(5) + ROWS_6,
        9 => rows_of(6) + "update attempts set points_begun = 3;",
        11 => rows_of(9) + ROWS_11,
        12 => rows_of(11) + "update passes set driver = '570.86.15'; update pulls set turned_at = 1700000000000;",
        13 => rows_of(12) + "insert into deliveries_seen values (1, 1700000000000);",
        other => panic!("migration {other} has no rows to be tested on: add them here"),
    }
}

fn up_to(version: i64) -> Migrator {
    Migrator::with_migrations(migrations().iter().filter(|m| m.version <= version).cloned().collect())
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// A database at `version` with a row in every table.
async fn filled(dir: &Path, version: i64) -> (SqliteConnection, PathBuf) {
    let path = dir.join(DATABASE_FILE);
    let mut connection = connect(&path).await;
    migrate(&mut connection, &path, &up_to(version)).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(rows_of(version))).execute(&mut connection).await.unwrap();
    assert!(counts(&mut connection).await.iter().all(|(_, rows)| *rows > 0), "every table holds a row");
    (connection, path)
}

async fn counts(connection: &mut SqliteConnection) -> Vec<(String, i64)> {
    let statement = "select name from sqlite_master where type = 'table' and name not like 'sqlite%' order by name";
    let tables: Vec<String> = sqlx::query_scalar(statement).fetch_all(&mut *connection).await.unwrap();
    let mut counted = Vec::new();
    for table in tables.into_iter().filter(|table| table != "_sqlx_migrations") {
        let statement = AssertSqlSafe(format!("select count(*) from {table}"));
        let rows = sqlx::query_scalar(statement).fetch_one(&mut *connection).await.unwrap();
        counted.push((table, rows));
    }
    counted
}

async fn assert_sound(connection: &mut SqliteConnection) {
    let integrity: String = sqlx::query_scalar("pragma integrity_check").fetch_one(&mut *connection).await.unwrap();
    assert_eq!(integrity, "ok");
    let orphans = sqlx::query("pragma foreign_key_check").fetch_all(&mut *connection).await.unwrap();
    assert!(orphans.is_empty(), "rows that point nowhere");
}

#[tokio::test]
async fn every_migration_keeps_what_is_there() {
    for version in migrations().iter().map(|m| m.version) {
        let dir = tempfile::tempdir().unwrap();
        let (mut connection, path) = filled(dir.path(), version).await;
        let before = counts(&mut connection).await;
        migrate(&mut connection, &path, &up_to(version + 1)).await.unwrap();
        migrate(&mut connection, &path, &migrations()).await.unwrap();
        assert_sound(&mut connection).await;
        let after = counts(&mut connection).await;
        assert!(before.iter().all(|row| after.contains(row)), "{before:?} became {after:?}");
        connection.close().await.unwrap();
        // What the rows say is understood by the code of today.
        let store = Store::open(dir.path()).await.unwrap();
        let detail = store.run_detail(1.try_into().unwrap()).await.unwrap().unwrap();
        assert_eq!(detail.jobs[0].attempts[0].passes[0].points.len(), 1);
        assert_eq!(store.values_of_run(detail.run.id).await.unwrap()[0].passes, [[1.0, 2.0]]);
        assert_eq!((store.pulled_images().await.unwrap().len(), detail.outbox.len()), (1, 1));
        assert_eq!(store.unfinished_jobs().await.unwrap().len(), 2);
        let whole = version == 1;
        let held = &store.held_jobs(None).await.unwrap()[0];
        assert_eq!(held.claimed.slot.devices.is_empty(), whole, "a claim from before devices were written down");
        store.close().await;
    }
}

#[tokio::test]
async fn a_migration_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut connection, path) = filled(dir.path(), 1).await;
    let before = counts(&mut connection).await;
    let broken = "create table half (id integer primary key) strict;
        alter table images add column owner text not null;";
    let next = Migration::new(2, "broken".into(), MigrationType::Simple, broken.into_sql_str(), false);
    let both = Migrator::with_migrations(up_to(1).iter().cloned().chain([next]).collect());
    let error = migrate(&mut connection, &path, &both).await.unwrap_err();
    assert!(error.to_string().starts_with("failed to bring the tables of"), "{error}");
    assert_eq!(counts(&mut connection).await, before);
    migrate(&mut connection, &path, &migrations()).await.unwrap();
    assert_sound(&mut connection).await;
}

#[tokio::test]
async fn a_released_migration_is_never_edited() {
    let dir = tempfile::tempdir().unwrap();
    let (mut connection, path) = filled(dir.path(), 1).await;
    let edited = Migration::new(1, "initial".into(), MigrationType::Simple, "select 1;".into_sql_str(), false);
    let error = migrate(&mut connection, &path, &Migrator::with_migrations(vec![edited])).await.unwrap_err();
    assert!(matches!(error, StoreError::Migration { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut connection, _) = filled(dir.path(), 1).await;
    // As many pages as there are now: the next one finds no room, as on a full disk.
    sqlx::query("pragma max_page_count = 1").execute(&mut connection).await.unwrap();
    let many = "with recursive n(value) as (select 1 union all select value + 1 from n where value < 9999)
        insert into commits select 'o/r', printf('%040x', value), null, 0 from n";
    let refused = sqlx::query(many).execute(&mut connection).await.unwrap_err();
    let error = sql("record commits")(refused);
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    // The cause is told, and once.
    let told = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(told, "failed to record commits: the disk is full: (code: 13) database or disk is full");
    assert_sound(&mut connection).await;
}
