//! The hands over HTTP, as a demonstration uses them.

use github_standin::StandIn;
use serde_json::{Value, json};

use crate::{client, raw};

#[tokio::test]
async fn a_shell_can_do_what_a_test_can() {
    let gh = StandIn::start();
    let http = client(gh.url(), None);
    let act = async |action: &str, body: Value| {
        let (status, answer, _) = raw(&http, "POST", &format!("/_control/{action}"), Some(body), &[]).await;
        assert_eq!(status, 200, "{action}: {answer}");
        answer
    };
    let sha = "1".repeat(40);
    act("repository", json!({ "repository": "o/r" })).await;
    act("repository/commit", json!({ "sha": sha, "text": "first" })).await;
    act("repository/set_branch", json!({ "branch": "work", "sha": "main" })).await;
    act("repository/commit", json!({ "branch": "work", "files": ["a.py"] })).await;
    let pull = act("repository/open", json!({ "branch": "work", "by": "ann" })).await;
    assert_eq!((&pull["number"], &pull["base"]["sha"]), (&json!(1), &json!(sha)));
    act("repository/permit", json!({ "name": "ann", "text": "triage" })).await;
    act("pull/label", json!({ "number": 1, "name": "ready" })).await;
    let pushed = act("pull/push", json!({ "number": 1, "text": "more" })).await;
    let comment = act("pull/comment", json!({ "number": 1, "text": "/benchd run" })).await;
    act("fault", json!({ "route": "/repos/*/*", "fault": "status", "status": 503 })).await;
    assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 503);
    act("delivery_fault", json!({ "event": "pull_request", "fault": "lost" })).await;
    act("pull/merge", json!({ "number": 1, "sha": "2".repeat(40) })).await;
    act("repository/tag", json!({ "name": "v1" })).await;
    let seen = gh.pull_request(1);
    assert_eq!(
        (seen.head(), seen.merge_commit(), seen.labels()),
        (pushed["sha"].as_str().unwrap().to_owned(), "2".repeat(40), vec!["ready".to_owned()])
    );
    assert_eq!(json!(seen.comments()[0].id), comment["id"]);
    let (_, calls, _) = raw(&http, "GET", "/_control/calls", None, &[]).await;
    assert_eq!(calls.as_array().unwrap().len(), 1, "control requests are not logged");
    let (_, deliveries, _) = raw(&http, "GET", "/_control/deliveries", None, &[]).await;
    assert_eq!(deliveries.as_array().unwrap().last().unwrap()["event"], "push");
}

#[tokio::test]
async fn a_wrong_command_is_refused_and_changes_nothing() {
    let gh = StandIn::start();
    gh.repository("o/r");
    let http = client(gh.url(), None);
    for (action, body) in [
        ("dance", json!({})),
        ("pull/label", json!({ "number": 1, "name": "ready" })),
        ("repository/open", json!({ "branch": "nowhere" })),
        ("repository/commit", json!({ "repository": "o/absent" })),
        ("repository/commit", json!({ "unknown": 1 })),
        ("fault", json!({ "route": "/**", "fault": "earthquake" })),
    ] {
        let (status, answer, _) = raw(&http, "POST", &format!("/_control/{action}"), Some(body), &[]).await;
        assert_eq!(status, 400, "{action}: {answer}");
    }
    assert!(gh.deliveries().is_empty());
}

#[tokio::test]
async fn the_executable_says_where_it_listens_and_hands_out_credentials() {
    use std::io::BufRead as _;
    let folder = std::env::temp_dir().join(format!("github-standin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let mut running = std::process::Command::new(env!("CARGO_BIN_EXE_github-standin"))
        .args(["--listen", "127.0.0.1:0", "--repository", "o/r", "--user", "bench", "--token-file", &file("token")])
        .args(["--app", "benchd", "--app-file", &file("app.json"), "--key-file", &file("key.pem")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    std::io::BufReader::new(running.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let token = std::fs::read_to_string(file("token")).unwrap();
    let seen = client(url.trim(), Some(&token)).current().user().await.unwrap();
    assert_eq!(seen.login, "bench");
    let app: Value = serde_json::from_slice(&std::fs::read(file("app.json")).unwrap()).unwrap();
    assert_eq!((&app["app_id"], &app["login"]), (&json!(4711), &json!("benchd[bot]")));
    assert!(std::fs::read_to_string(file("key.pem")).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    running.kill().unwrap();
    running.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_test_without_a_runtime_may_use_it_and_its_port_is_free_afterwards() {
    let gh = StandIn::start();
    let address = gh.url().strip_prefix("http://").unwrap().to_owned();
    gh.repository("o/r").commit("main", github_standin::CommitSpec::new("first"));
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /repos/o/r HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"full_name\":\"o/r\""), "{answer}");
    drop(gh);
    assert!(std::net::TcpStream::connect(&address).is_err());
}
