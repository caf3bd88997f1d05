//! The object store over the wire: S3 with faults, and a folder. What is not a clear answer is never "not there".

use std::time::Duration;

use benchd::config::{PublishTarget, TargetUrl};
use benchd::model::Fault as Repeat;
use benchd::objects::{ObjectError, ObjectTarget, Patience, Presence, PutOnce};
use benchd::publish::upload::{Existing, UploadObject, UploadOutcome, upload};
use bytes::Bytes;

use crate::support::benchd;
use crate::support::s3::{Fault, S3Server};

const KEY: &str = "v3/o/r/main/abc/cpu/benchmark_results_m.json";

fn patience() -> Patience {
    Patience {
        request_for: Duration::from_millis(400),
        connect_for: Duration::from_millis(400),
        retries: 2,
        first_wait_for: Duration::from_millis(10),
        total_for: Duration::from_secs(5),
    }
}

/// Opens a target without touching the environment of this process: the bucket answers anybody.
fn open(server: &S3Server, url: &str) -> ObjectTarget {
    let access = PublishTarget {
        endpoint: Some(server.endpoint().parse().unwrap()),
        anonymous: true,
        ..PublishTarget::default()
    };
    ObjectTarget::open(&url.parse().unwrap(), &access, patience()).unwrap()
}

fn object(lines: &str) -> UploadObject {
    UploadObject { key: KEY.to_owned(), body: Bytes::copy_from_slice(lines.as_bytes()), records: 1, plain_bytes: 0 }
}

#[tokio::test]
async fn a_folder_keeps_what_is_put_once() {
    let dir = tempfile::tempdir().unwrap();
    let url = TargetUrl::File(dir.path().join("made/on/the/way"));
    let target = ObjectTarget::open(&url, &PublishTarget::default(), patience()).unwrap();
    assert_eq!(target.exists(KEY).await.unwrap(), Presence::Absent);
    assert_eq!(target.read(KEY).await.unwrap(), None);
    assert_eq!(target.put_once(KEY, Bytes::from_static(b"1")).await.unwrap(), PutOnce::Created);
    assert_eq!(target.put_once(KEY, Bytes::from_static(b"2")).await.unwrap(), PutOnce::Exists);
    assert_eq!(target.read(KEY).await.unwrap().unwrap(), "1");
    target.replace(KEY, Bytes::from_static(b"3")).await.unwrap();
    assert_eq!(target.read(KEY).await.unwrap().unwrap(), "3");
    assert!(matches!(target.exists("a/../b").await.unwrap_err(), ObjectError::Key { .. }));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let url = TargetUrl::File(dir.path().join("file/folder"));
    let error = ObjectTarget::open(&url, &PublishTarget::default(), patience()).unwrap_err();
    assert!(error.to_string().contains("file/folder"), "{error}");
}

#[tokio::test]
async fn what_a_folder_cannot_do_is_told_and_never_absent() {
    let dir = tempfile::tempdir().unwrap();
    let url = TargetUrl::File(dir.path().to_owned());
    let target = ObjectTarget::open(&url, &PublishTarget::default(), patience()).unwrap();
    // A file stands where the key needs a folder.
    std::fs::write(dir.path().join("v3"), "").unwrap();
    let error = target.put_once(KEY, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, ObjectError::Disk { .. }) && error.to_string().contains(KEY), "{error}");
    assert!(matches!(target.read(KEY).await.unwrap_err(), ObjectError::Disk { .. }));
}

#[tokio::test]
async fn a_bucket_with_a_prefix() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket/shadow/one");
    assert_eq!(target.exists(KEY).await.unwrap(), Presence::Absent);
    assert_eq!(target.put_once(KEY, Bytes::from_static(b"1")).await.unwrap(), PutOnce::Created);
    assert_eq!(target.exists(KEY).await.unwrap(), Presence::Present);
    assert!(server.file("bucket", &format!("shadow/one/{KEY}")).is_file());
    assert_eq!(open(&server, "s3://bucket").exists(KEY).await.unwrap(), Presence::Absent);
    assert_eq!(target.address("k"), "s3://bucket/shadow/one/k");
}

#[tokio::test]
async fn an_outage_is_tried_again_and_then_told() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket");
    server.next([Fault::Answer(500, "InternalError"), Fault::Answer(503, "SlowDown")]);
    assert_eq!(target.exists(KEY).await.unwrap(), Presence::Absent);
    server.next([Fault::Answer(503, "SlowDown"); 3]);
    let error = target.exists(KEY).await.unwrap_err();
    assert!(matches!(error, ObjectError::Outage { .. }) && error.fault() == Repeat::Transient, "{error:?}");
    assert!(error.to_string().contains(&format!("s3://bucket/{KEY}")), "{error}");
}

#[tokio::test]
async fn slowness_is_tried_again_and_then_told() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket");
    server.next([Fault::Late(Duration::from_secs(2))]);
    assert_eq!(target.read(KEY).await.unwrap(), None);
    server.next([Fault::Late(Duration::from_secs(2)); 3]);
    assert!(matches!(target.read(KEY).await.unwrap_err(), ObjectError::Outage { .. }));
}

#[tokio::test]
async fn denied_is_told_with_what_to_do_and_never_absent() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket");
    for status in [401, 403] {
        server.next([Fault::Answer(status, "AccessDenied")]);
        let error = target.exists(KEY).await.unwrap_err();
        assert!(matches!(error, ObjectError::Forbidden { .. }) && error.fault() == Repeat::Permanent, "{error:?}");
        assert!(error.to_string().contains("s3:PutObject"), "{error}");
    }
    server.next([Fault::Answer(403, "AccessDenied")]);
    assert!(matches!(target.put_once(KEY, Bytes::new()).await.unwrap_err(), ObjectError::Forbidden { .. }));
}

#[tokio::test]
async fn a_missing_bucket_is_not_a_missing_object() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://other");
    server.next([Fault::Answer(404, "NoSuchBucket"); 2]);
    assert!(matches!(target.read(KEY).await.unwrap_err(), ObjectError::NoBucket { .. }));
    assert!(matches!(target.put_once(KEY, Bytes::new()).await.unwrap_err(), ObjectError::NoBucket { .. }));
    // The answer to HEAD has no text that would name the bucket.
    server.next([Fault::Answer(404, ""), Fault::Answer(404, "NoSuchBucket")]);
    assert!(matches!(target.exists(KEY).await.unwrap_err(), ObjectError::NoBucket { .. }));
}

#[tokio::test]
async fn once_the_bucket_is_known_a_look_up_is_one_request() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket");
    for _ in 0..3 {
        assert_eq!(target.exists(KEY).await.unwrap(), Presence::Absent);
    }
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_service_that_is_down_is_an_outage() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket");
    drop(server);
    assert!(matches!(target.exists(KEY).await.unwrap_err(), ObjectError::Outage { .. }));
}

#[tokio::test]
async fn results_are_compared_and_never_written_over_unasked() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket");
    let one = object("{\"a\":1,\"job_id\":1}\n{\"a\":2}");
    let same = object("{\"a\":2.0,\"run_attempt\":2}\n{\"job_id\":7,\"a\":1}");
    let other = object("{\"a\":3}");
    assert_eq!(upload(&target, &one, Existing::Keep).await.unwrap(), UploadOutcome::Created);
    assert_eq!(upload(&target, &same, Existing::Keep).await.unwrap(), UploadOutcome::Unchanged);
    assert_eq!(upload(&target, &same, Existing::Replace).await.unwrap(), UploadOutcome::Unchanged);
    assert_eq!(upload(&target, &other, Existing::Keep).await.unwrap(), UploadOutcome::Conflict);
    assert_eq!(target.read(KEY).await.unwrap().unwrap(), one.body);
    assert_eq!(upload(&target, &other, Existing::Replace).await.unwrap(), UploadOutcome::Replaced);
    assert_eq!(target.read(KEY).await.unwrap().unwrap(), other.body);
}

#[tokio::test]
async fn a_lost_answer_is_no_conflict() {
    let server = S3Server::start_open("bucket");
    let target = open(&server, "s3://bucket");
    server.next([Fault::Late(Duration::ZERO), Fault::LostAnswer]);
    // The write happened, its answer was lost, the repetition finds the object.
    assert_eq!(upload(&target, &object("{\"a\":1}"), Existing::Keep).await.unwrap(), UploadOutcome::Unchanged);
}

/// The whole command, with credentials from the environment and the headers that the public database wants.
#[test]
fn the_command_signs_compresses_and_repeats() {
    let server = S3Server::start("bucket");
    let results = tempfile::tempdir().unwrap();
    let record = r#"[{"benchmark": {"name": "b"}, "metric": {"name": "latency", "benchmark_values": [1.5]}}]"#;
    std::fs::write(results.path().join("latency_a.pytorch.json"), record).unwrap();
    let endpoint = server.endpoint();
    let run = |secret: &str, more: &[&str]| {
        benchd()
            .env_clear()
            .envs(S3Server::environment())
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .args(["results", "upload"])
            .arg(results.path())
            .args("--repo o/r --branch main --sha 9816774803221e23e6f26178546c65c2466e2c90 --timestamp 1".split(' '))
            .args("--platform cpu --device-type X --model m --to s3://bucket --json --endpoint".split(' '))
            .arg(&endpoint)
            .args(more)
            .output()
            .unwrap()
    };
    let outcome = |output: &std::process::Output| {
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), json["outcome"].as_str().unwrap().to_owned())
    };
    server.next([Fault::Answer(500, "InternalError")]);
    let key = "v3/o/r/main/9816774803221e23e6f26178546c65c2466e2c90/X/benchmark_results_m.json";
    assert_eq!(outcome(&run(S3Server::SECRET_KEY, &["--dry-run"])), (Some(0), "dry_run".to_owned()));
    assert!(server.requests().is_empty());
    assert_eq!(outcome(&run(S3Server::SECRET_KEY, &[])), (Some(0), "created".to_owned()));
    assert_eq!(outcome(&run(S3Server::SECRET_KEY, &["--run-id", "9"])), (Some(0), "unchanged".to_owned()));
    assert!(std::fs::read(server.file("bucket", key)).unwrap().starts_with(b"\x1f\x8b"));
    std::fs::write(results.path().join("latency_b.pytorch.json"), record).unwrap();
    assert_eq!(outcome(&run(S3Server::SECRET_KEY, &[])), (Some(1), "conflict".to_owned()));
    assert_eq!(outcome(&run(S3Server::SECRET_KEY, &["--replace"])), (Some(0), "replaced".to_owned()));
    let denied = run("wrong", &[]);
    let told = String::from_utf8_lossy(&denied.stderr);
    assert_eq!(denied.status.code(), Some(3), "{told}");
    assert!(told.contains("access denied") && told.contains(key) && !told.contains(S3Server::SECRET_KEY), "{told}");
    let attributes = server.requests();
    assert!(attributes.iter().any(|request| request == &format!("PUT /bucket/{key}")), "{attributes:?}");
}
