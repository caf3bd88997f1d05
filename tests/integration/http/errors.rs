//! What is asked wrongly is answered as a problem that says what is wrong, exactly.

use reqwest::Method;

use super::{Site, TRIGGER};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_request_has_its_problem() {
    let (site, filled) = Site::filled().await;
    let (good, job) = (filled.good, filled.good_job);
    let unknown = "there is nothing at this path: /openapi.json lists what there is";
    let cases: &[(&str, String, u16, &str, String)] = &[
        ("GET", "/api/v1/nothing".into(), 404, "not_found", unknown.into()),
        ("GET", "/api/v1/runs/1".into(), 404, "not_found", "there is no run 1".into()),
        ("GET", "/api/v1/runs/1/results".into(), 404, "not_found", "there is no run 1".into()),
        ("POST", "/api/v1/runs/1/cancel".into(), 404, "not_found", "there is no run 1".into()),
        ("GET", "/api/v1/jobs/1".into(), 404, "not_found", "there is no job 1".into()),
        ("GET", "/api/v1/jobs/1/log".into(), 404, "not_found", "there is no job 1".into()),
        (
            "GET",
            format!("/api/v1/jobs/{job}/log?attempt=9"),
            404,
            "not_found",
            format!("job {job} has no such attempt or pass"),
        ),
        (
            "GET",
            format!("/api/v1/jobs/{job}/attempts/2/artifacts"),
            404,
            "not_found",
            format!("job {job} has no attempt 2"),
        ),
        (
            "DELETE",
            "/api/v1/runs".into(),
            405,
            "method_not_allowed",
            "the `Allow` header lists what can be done".into(),
        ),
        (
            "POST",
            format!("/api/v1/runs/{good}/cancel"),
            409,
            "conflict",
            format!("run {good} is measured: there is nothing left to cancel"),
        ),
        ("GET", "/api/v1/runs?limit=0".into(), 400, "malformed", "in the query: `limit` is 1 to 200".into()),
        ("GET", "/api/v1/runs?limit=201".into(), 400, "malformed", "in the query: `limit` is 1 to 200".into()),
    ];
    for (method, path, status, kind, detail) in cases {
        let answer = site.ask(method.parse().unwrap(), path, Some(TRIGGER)).await;
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text);
        answer.assert_problem(kind, detail);
    }
    // Where a library words the fault, the part that names it counts.
    let cases = [
        ("/api/v1/runs/x", "in the path: "),
        ("/api/v1/runs/0", "is not an id of a run or job"),
        ("/api/v1/runs?limit=x", "in the query: "),
        ("/api/v1/runs?stat=failed", "unknown field `stat`"),
        ("/api/v1/runs?state=lost", "unknown variant `lost`"),
        ("/api/v1/runs?repository=x", "in the query: "),
        ("/api/v1/runs?before=-1", "in the query: "),
    ];
    for (path, part) in cases {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(part), "{path}: {detail}");
        answer.assert_problem("malformed", &detail);
    }
    assert_eq!(site.ask(Method::DELETE, "/api/v1/runs", None).await.header("allow"), "GET,HEAD,POST");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_carries_its_id_and_guards() {
    let site = Site::open().await;
    for path in ["/api/v1/runs", "/api/v1/nothing", "/healthz"] {
        let answer = site.get(path).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    }
    let request = site.client.get(site.url("/healthz")).header("x-request-id", "mine");
    assert_eq!(request.send().await.unwrap().headers()["x-request-id"], "mine");
    site.stop().await;
}
