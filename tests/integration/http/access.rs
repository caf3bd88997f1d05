//! Who may do what, for every operation that the API describes.

use std::fs;

use benchd::config::ReadAccess;
use reqwest::Method;
use serde_json::Value;

use super::{ADMIN, READ, Site, TRIGGER};

/// The scope an operation needs, as described: `open`, `read`, `trigger` or `admin`.
fn scope_of(operation: &Value) -> String {
    let needs: Vec<_> = operation["security"].as_array().unwrap().iter().filter_map(|need| need.get("token")).collect();
    needs.first().map_or_else(|| "open".to_owned(), |scopes| scopes[0].as_str().unwrap().to_owned())
}

/// Every operation with a path that names nothing, and its scope.
async fn operations(site: &Site) -> Vec<(Method, String, String)> {
    let described = site.json("/openapi.json").await;
    let mut found = Vec::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        let mut filled = path.clone();
        for (parameter, value) in [
            ("{run}", "1"),
            ("{what}", "triggers"),
            ("{job}", "1"),
            ("{attempt}", "1"),
            ("{*path}", "1/console.log"),
            ("{path}", "1/console.log"),
        ] {
            filled = filled.replace(parameter, value);
        }
        assert!(!filled.contains('{'), "{path}: a parameter that this test does not know");
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            found.push((method, filled.clone(), scope_of(operation)));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_asks_for_the_scope_it_describes() {
    let ranks = ["open", "read", "trigger", "admin"];
    let tokens = [None, Some(READ), Some(TRIGGER), Some(ADMIN)];
    for access in [ReadAccess::Public, ReadAccess::Token] {
        let site = Site::with(|http| http.read_access = access).await;
        let operations = operations(&site).await;
        assert!(operations.len() > 10);
        for (method, path, scope) in operations {
            let needed = ranks.iter().position(|rank| *rank == scope).unwrap();
            let needed = if scope == "read" && access == ReadAccess::Public { 0 } else { needed };
            for (held, token) in tokens.into_iter().enumerate() {
                let answer = site.ask(method.clone(), &path, token).await;
                let expected = match (held >= needed, token) {
                    (true, _) => None,
                    (false, None) => Some(401),
                    (false, Some(_)) => Some(403),
                };
                match expected {
                    Some(status) => assert_eq!(answer.status, status, "{method} {path} {scope} {token:?}"),
                    None => assert!(![401, 403].contains(&answer.status), "{method} {path} {scope} {token:?}"),
                }
            }
            // A token that is not known is never taken for none.
            let wrong = site.ask(method.clone(), &path, Some("a-token-of-somebody-else")).await;
            if scope == "open" {
                assert!(wrong.status != 401, "{method} {path}");
            } else {
                wrong.assert_problem("unauthorized", "the token is not known");
                assert_eq!(wrong.header("www-authenticate"), "Bearer realm=\"benchd\"");
            }
        }
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_rotated_without_a_restart() {
    let site = Site::with(|http| http.read_access = ReadAccess::Token).await;
    let runs = "/api/v1/runs";
    assert_eq!(site.ask(Method::GET, runs, Some(READ)).await.status, 200);
    fs::write(site.dir.path().join("tokens"), "reader read the-next-token-to-read\n").unwrap();
    assert_eq!(site.ask(Method::GET, runs, Some(READ)).await.status, 401);
    assert_eq!(site.ask(Method::GET, runs, Some("the-next-token-to-read")).await.status, 200);
    let answer = site.ask(Method::GET, runs, None).await;
    answer.assert_problem("unauthorized", "this needs a token of scope `read`: send `Authorization: Bearer TOKEN`");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tokens_nobody_writes() {
    let site = Site::with(|http| http.tokens_file = None).await;
    let answer = site.ask(Method::POST, "/api/v1/runs/1/cancel", None).await;
    assert_eq!(answer.status, 403);
    answer.assert_problem(
        "forbidden",
        "this needs a token of scope `trigger`, and the server knows none: set `http.tokens_file`",
    );
    assert_eq!(site.get("/api/v1/runs").await.status, 200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_tell_reasons_only_to_those_who_may_read() {
    let site = Site::with(|http| http.read_access = ReadAccess::Token).await;
    site.health.trouble(benchd::health::Part::Registry, "registry.example: connection refused");
    let (outside, inside) = (site.get("/readyz").await, site.ask(Method::GET, "/readyz", Some(READ)).await);
    assert_eq!((outside.status, inside.status), (503, 503));
    assert_eq!(outside.json(), serde_json::json!({"ready": false, "reasons": []}));
    assert_eq!(inside.json()["reasons"][0]["part"], "registry");
    assert_eq!(inside.json()["reasons"][0]["since"], "2026-11-22T12:00:00Z");
    site.health.well(benchd::health::Part::Registry);
    assert_eq!(site.get("/readyz").await.json(), serde_json::json!({"ready": true, "reasons": []}));
    let _patient = site.health.task("sweep", std::time::Duration::from_secs(3600));
    site.clock.advance(chrono::Duration::days(1));
    assert_eq!(site.get("/healthz").await.status, 200, "a clock that steps makes nobody silent");
    let pulse = site.health.task("settle", std::time::Duration::ZERO);
    let answer = site.ask(Method::GET, "/healthz", Some(READ)).await;
    assert_eq!((answer.status, &answer.json()["silent_tasks"][0]["task"]), (503, &"settle".into()));
    drop(pulse);
    site.stop().await;
}
