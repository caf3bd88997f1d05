//! From a commit to its image by template, program and address.

use benchd::config::{ImageRequest, ImageSource};
use benchd::model::{Fault, Platform};
use benchd::registry::{FindError, Finding};

use super::{absent, digest, present, registry, write_script};
use crate::support::stand_in::{StandIn, answer};

const SHA: &str = "9816774803221e23e6f26178546c65c2466e2c90";

async fn find(host: &str, yaml: &str, branch: &str) -> Result<Finding, FindError> {
    let source: ImageSource = serde_yaml::from_str(&yaml.replace("HOST", host)).unwrap();
    let (repo, branch, sha) = ("a/b".parse().unwrap(), branch.parse().unwrap(), SHA.parse().unwrap());
    let request = ImageRequest { repo: &repo, branch: &branch, sha: &sha, platform: Platform::Cpu };
    registry(host).find(&source, request).await
}

/// A registry that has only `a/post:SHA-cpu`.
async fn has_one() -> StandIn {
    StandIn::start(|asked| async move {
        if asked.path == format!("/v2/a/post/manifests/{SHA}-cpu") { present() } else { absent() }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn by_template_of_the_branch() {
    let stand_in = has_one().await;
    let yaml = "{main: 'HOST/a/post:{sha}{suffix}', other: 'HOST/a/test:{sha}{suffix}'}";
    let found = find(&stand_in.host, yaml, "main").await.unwrap();
    let reference = format!("{}/a/post:{SHA}-cpu", stand_in.host).parse().unwrap();
    assert_eq!(found, Finding::Present { reference, digest: digest() });
    let reference = format!("{}/a/test:{SHA}-cpu", stand_in.host).parse().unwrap();
    let found = find(&stand_in.host, yaml, "pull/7/head").await.unwrap();
    assert_eq!(found, Finding::Absent { reference: Some(reference) });
    let error = find(&stand_in.host, "HOST/A/b:{sha}", "main").await.unwrap_err();
    assert_eq!(error.fault(), Fault::Permanent);
    let told = benchd::health::with_causes(&error);
    assert!(told.contains("a repository is written in lower case"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_program() {
    let stand_in = has_one().await;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("find-image");
    let yaml = format!("{{command: [{}, '{{sha}}', '{{platform}}']}}", script.display());
    let host = &stand_in.host;
    let name = format!("echo {host}/a/post:$1-$2");
    let by_environment = format!("echo {host}/a/post:$BENCHD_SHA-$BENCHD_PLATFORM");
    for (text, expected) in [
        (name.as_str(), "present"),
        (&by_environment, "present"),
        (&format!("echo {host}/a/other:1"), "absent"),
        ("exit 1", "absent, no reference"),
        // A script that crashed explains itself; a shell that does not find its command too.
        ("echo Traceback >&2; exit 1", "failed: exit status: 1: Traceback"),
        ("echo half an answer; exit 1", "failed: exit status: 1: half an answer"),
        ("exit 2", "failed: exit status: 2"),
        ("no-such-command", "failed: exit status: 127"),
        ("kill -9 $$", "failed: signal: 9"),
        ("exit 0", "failed: it named nothing"),
        ("echo a; echo b", "failed: it said more than one line"),
        ("echo not a reference", "no image reference"),
        ("head -c 10000 /dev/zero | tr '\\0' x", "failed: it said far more than a reference"),
        ("while echo more; do :; done", "failed: signal: 13"),
    ] {
        write_script(&script, text);
        let found = match find(host, &yaml, "main").await {
            Ok(Finding::Present { .. }) => "present".to_owned(),
            Ok(Finding::Absent { reference: Some(_) }) => "absent".to_owned(),
            Ok(Finding::Absent { reference: None }) => "absent, no reference".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{text}: {found}");
    }
    let error = find(host, "{command: [/nonexistent/program]}", "main").await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/program"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_an_address() {
    let registry = has_one().await;
    let image = format!("{}/a/post:{SHA}-cpu", registry.host);
    let html = ("content-type", "text/html; charset=utf-8");
    let json = ("content-type", "application/json");
    for (status, header, body, expected) in [
        (200, ("content-type", "text/plain"), format!("{image}\n"), "present"),
        (200, json, format!(r#"{{"image":"{image}","more":1}}"#), "present"),
        (404, ("content-type", "text/plain"), "no build".to_owned(), "absent"),
        (204, ("x", "y"), String::new(), "absent"),
        (404, html, "<h1>nginx</h1>".to_owned(), "it answered 404 Not Found with a web page"),
        (200, html, "<h1>sign in</h1>".to_owned(), "it answered 200 OK with a web page"),
        (200, json, r#"{"images":[]}"#.to_owned(), "expected JSON like"),
        (200, ("x", "y"), String::new(), "it named nothing"),
        (403, ("x", "y"), String::new(), "it answered 403"),
        (500, ("x", "y"), String::new(), "failed with status 500"),
        (429, ("retry-after", "3"), String::new(), "limits the rate"),
    ] {
        let said = body.clone();
        let stand_in = StandIn::start(move |asked| {
            assert_eq!(asked.path, format!("/cpu/{SHA}"));
            let answer = answer(status, &[header], said.clone());
            async move { answer }
        })
        .await;
        // The registry is plain by its own setting, the address by its scheme.
        let yaml = format!("{{http: 'http://{}/{{platform}}/{{sha}}'}}", stand_in.host);
        let found = match find(&registry.host, &yaml, "main").await {
            Ok(Finding::Present { .. }) => "present".to_owned(),
            Ok(Finding::Absent { .. }) => "absent".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{status} {body}: {found}");
    }
}
