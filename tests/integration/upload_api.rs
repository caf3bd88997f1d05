//! The upload API on the wire: a stand-in gives the answers that the real one was recorded with, and each is respected.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use benchd::config::{PublishTarget, UploadApi};
use benchd::objects::Patience;
use benchd::publish::destination::{Destination, DestinationError};
use benchd::publish::upload::{Existing, UploadObject, UploadOutcome};
use serde_json::{Value, json};

use crate::support::{benchd, shared};

const KEY: &str = "v3/vllm-project/vllm/main/9816774803221e23e6f26178546c65c2466e2c90/NVIDIA_H100_80GB_HBM3/\
                   benchmark_results_facebook_opt-125m.json";

#[derive(Clone, Default)]
struct Uploader {
    stored: Arc<Mutex<BTreeMap<String, String>>>,
    seen: Arc<Mutex<Vec<Value>>>,
    first: Arc<Mutex<VecDeque<(StatusCode, Value)>>>,
}

/// The uploader's rules: credentials, then parameters, then a key that must not exist.
async fn take(State(uploader): State<Uploader>, body: String) -> (StatusCode, Json<Value>) {
    let request: Value = serde_json::from_str(&body).unwrap();
    uploader.seen.lock().unwrap().push(request.clone());
    if let Some((status, answer)) = uploader.first.lock().unwrap().pop_front() {
        return (status, Json(answer));
    }
    if request["username"] != "user" || request["password"] != "pass?>~word" {
        return (StatusCode::FORBIDDEN, Json(json!({"message": "Invalid authentication credentials"})));
    }
    let (Some(key), Some(content)) = (request["s3_path"].as_str(), request["content"].as_str()) else {
        return (StatusCode::BAD_REQUEST, Json(json!({"message": "Missing required parameter: 'content'"})));
    };
    let mut stored = uploader.stored.lock().unwrap();
    if stored.contains_key(key) {
        let message = format!("Path {key} already exists in bucket ossci-benchmarks");
        return (StatusCode::CONFLICT, Json(json!({"message": message})));
    }
    stored.insert(key.to_owned(), content.to_owned());
    (StatusCode::OK, Json(json!({"message": format!("File uploaded successfully to {key}"), "etag": "\"x\""})))
}

struct Running {
    uploader: Uploader,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
    results: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let uploader = Uploader::default();
        let router = Router::new().route("/", post(take)).with_state(uploader.clone());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let results = tempfile::tempdir().unwrap();
        let record = r#"[{"benchmark": {"name": "b"}, "metric": {"name": "latency", "benchmark_values": [1.5]}}]"#;
        std::fs::write(results.path().join("latency_a.pytorch.json"), record).unwrap();
        Self { uploader, address, runtime: Some(runtime), results }
    }

    fn command(&self) -> assert_cmd::Command {
        let mut command = benchd();
        command
            .env("UPLOADER_USERNAME", "user")
            .args(["results", "upload"])
            .arg(self.results.path())
            .args("--repo vllm-project/vllm --branch main --timestamp 1780007200 --platform cuda".split(' '))
            .args("--sha 9816774803221e23e6f26178546c65c2466e2c90 --model facebook/opt-125m".split(' '))
            .args(["--device-type", "NVIDIA H100 80GB HBM3"])
            .arg("--api")
            .arg(format!("http://{}/", self.address));
        command
    }

    fn upload(&self, password: &str) -> (Option<i32>, String, String) {
        let output = self.command().env("UPLOADER_PASSWORD", password).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn the_first_upload_is_taken_and_the_second_is_told() {
    let running = Running::start();
    let (code, out, err) = running.upload("pass?>~word");
    assert_eq!(code, Some(0), "{out}{err}");
    let stored = running.uploader.stored.lock().unwrap().clone();
    let content: Value = serde_json::from_str(&stored[KEY]).unwrap();
    assert_eq!(content["head_branch"], "main(refs/heads/main)");
    let (code, out, _) = running.upload("pass?>~word");
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("already has") && out.contains(KEY), "{out}");
}

#[test]
fn wrong_credentials_are_told_without_the_password() {
    let running = Running::start();
    let (code, out, err) = running.upload("wrong-pass?>~");
    assert_eq!(code, Some(3), "{out}");
    assert!(err.contains("Invalid authentication credentials") && !err.contains("wrong-pass"), "{err}");
    assert_eq!(running.uploader.seen.lock().unwrap().len(), 1);
    // Not even when the service repeats it.
    let echo = (StatusCode::FORBIDDEN, json!({"message": "no user has the password wrong-pass?>~"}));
    running.uploader.first.lock().unwrap().push_back(echo);
    let (code, out, err) = running.upload("wrong-pass?>~");
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(err.contains("no user has the password ***") && !err.contains("wrong-pass"), "{err}");
}

#[test]
fn refusals_are_final_and_failures_are_tried_again() {
    let running = Running::start();
    let failure = || (StatusCode::INTERNAL_SERVER_ERROR, json!({"message": "Internal Server Error"}));
    // A page of something between, such as a login, says nothing of the object.
    let page = (StatusCode::OK, json!("<html>log in</html>"));
    running.uploader.first.lock().unwrap().extend([failure(), page]);
    assert_eq!(running.upload("pass?>~word").0, Some(0));
    assert_eq!(running.uploader.seen.lock().unwrap().len(), 3);
    assert!(running.uploader.stored.lock().unwrap().contains_key(KEY));
    let refusal = (StatusCode::BAD_REQUEST, json!({"message": "Missing required parameter: 's3_path'"}));
    running.uploader.first.lock().unwrap().push_back(refusal);
    let (code, _, err) = running.upload("pass?>~word");
    assert_eq!((code, running.uploader.seen.lock().unwrap().len()), (Some(3), 4));
    assert!(err.contains("400") && err.contains("s3_path"), "{err}");
}

#[test]
fn credentials_are_asked_for() {
    let output = benchd()
        .env_remove("UPLOADER_USERNAME")
        .args("results upload /tmp --repo o/r --branch main --timestamp 1 --platform cpu --device-type X".split(' '))
        .args("--sha 9816774803221e23e6f26178546c65c2466e2c90 --api http://127.0.0.1:9/".split(' '))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_password_may_lie_in_a_file() {
    let running = Running::start();
    let file = running.results.path().join("password");
    let upload =
        || running.command().env_remove("UPLOADER_PASSWORD").arg("--api-password-file").arg(&file).output().unwrap();
    let refused = upload();
    let err = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && err.contains(&*file.to_string_lossy()), "{err}");
    std::fs::write(&file, "pass?>~word\n").unwrap();
    assert_eq!(upload().status.code(), Some(0));
}

/// The recorded answers of the real uploader: each of its statuses leads to the same end here.
#[test]
fn recorded_answers_are_respected() {
    let Some(folder) = shared("golden/api_upload") else { return };
    let recorded: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let running = Running::start();
    for case in recorded["cases"].as_array().unwrap() {
        let answer = case.get("request").map_or(case, |requests| &requests[0]);
        let text = answer.get("response").or_else(|| answer.get("body")).unwrap().as_str().unwrap();
        let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
        let answer: Value = serde_json::from_str(text).unwrap();
        running.uploader.first.lock().unwrap().push_back((StatusCode::from_u16(status).unwrap(), answer.clone()));
        let (code, out, err) = running.upload("pass?>~word");
        let expected = match status {
            200 => Some(0),
            409 => Some(1),
            _ => Some(3),
        };
        assert_eq!(code, expected, "{}: {out}{err}", case["case"]);
        if expected == Some(3) {
            assert!(err.contains(answer["message"].as_str().unwrap()), "{}: {err}", case["case"]);
        }
    }
    assert_eq!(recorded["stored"]["key"], KEY);
    let request = running.uploader.seen.lock().unwrap()[0].clone();
    let keys: Vec<_> = request.as_object().unwrap().keys().cloned().collect();
    assert_eq!(json!(keys), recorded["cases"][0]["request"][0]["json_keys"]);
}

#[test]
fn a_configured_target_reads_its_credentials_from_files() {
    let running = Running::start();
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("user"), "user\n").unwrap();
    std::fs::write(secrets.path().join("password"), "pass?>~word\n").unwrap();
    let target = |password: Option<&str>| PublishTarget {
        api: Some(UploadApi {
            url: format!("http://{}/", running.address).parse().unwrap(),
            username_file: Some(secrets.path().join("user")),
            username_env: None,
            password_file: password.map(|name| secrets.path().join(name)),
            password_env: None,
        }),
        ..PublishTarget::default()
    };
    let object = UploadObject { key: "k".to_owned(), body: "{\"a\":1}".into(), records: 1, plain_bytes: 7 };
    let destination = Destination::open(&target(Some("password")), Patience::default()).unwrap();
    let send = || running.runtime.as_ref().unwrap().block_on(destination.send(&object, Existing::Replace)).unwrap();
    assert_eq!((send(), send()), (UploadOutcome::Created, UploadOutcome::Exists));
    assert_eq!(running.uploader.stored.lock().unwrap()["k"], "{\"a\":1}");
    for bad in [target(None), PublishTarget::default()] {
        let refused = Destination::open(&bad, Patience::default()).err().unwrap();
        assert!(matches!(refused, DestinationError::Nowhere), "{refused}");
    }
    let missing = Destination::open(&target(Some("absent")), Patience::default()).err().unwrap();
    assert!(matches!(missing, DestinationError::Secret(_)), "{missing}");
}
