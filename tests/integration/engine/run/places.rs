//! Where results go, while those places fail: results are kept, and the next run sends what is still owed.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::BASE;
use super::project::{BUCKET, FIRST, KEY, Project, SECOND, good};
use crate::support::s3::Fault;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fails_once_is_asked_again() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    project.s3.next([Fault::Answer(500, "InternalError"), Fault::Late(Duration::from_millis(500)), Fault::LostAnswer]);
    project.run(FIRST, &BASE).assert(0, &["published 2 records"]);
    assert!(project.object(FIRST).is_some());
}

/// Beside an existing system: both places get every result, and what the shadow holds does not stand for the commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_gets_the_same_records_under_its_own_prefix() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    let endpoint = project.s3.endpoint();
    let shadow = format!("publish: {{to: [{{url: \"s3://{BUCKET}/beside\", endpoint: \"{endpoint}\", shadow: true}}, ");
    project.configure("publish: {to: [", &shadow);
    project.run(FIRST, &BASE).assert(0, &["to s3://results/beside", "to s3://results\n"]);
    let shown = project.last_run();
    let delivered = shown["outbox"].as_array().unwrap().iter().filter(|row| row["state"] == "delivered");
    assert_eq!((shown["state"].as_str(), delivered.count()), (Some("published"), 2), "{shown:#}");
    let beside = KEY.replace("{sha}", FIRST);
    let read = |key: &str| std::fs::read(project.s3.file(BUCKET, key)).unwrap();
    assert_eq!(read(&format!("beside/{beside}")), read(&beside));
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_refuses_is_kept_and_sent_by_the_next_run() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    project.push_suite(SECOND, &good("0.5")).await;
    project.s3.next([Fault::Answer(403, "AccessDenied")]);
    let refused = project.run(FIRST, &BASE);
    refused.assert(
        3,
        &[
            "not published yet: failed to read s3://results/v3/example/engine/main/1111",
            "access denied (check the AWS credentials of this process",
            "they are kept, and the next `benchd run` sends what is still owed",
        ],
    );
    let shown = project.last_run();
    assert_eq!(shown["state"], "measured", "{shown:#}");
    assert_eq!(shown["outbox"][0]["state"], "owed");

    // Still away: the own results wait like the earlier ones, in one line each and without asking twice.
    project.s3.next([Fault::Answer(403, "AccessDenied")]);
    let asked = project.s3.requests().len();
    project.run(SECOND, &BASE).assert(3, &["1 upload of earlier runs is still not delivered: failed to read"]);
    assert_eq!(project.s3.requests().len(), asked + 1);

    let next = project.run(SECOND, &["--variants", "base", "--no-publish"]);
    next.assert(0, &["2 uploads of earlier runs were delivered"]);
    assert!(project.object(FIRST).is_some() && project.object(SECOND).is_some());
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_down_costs_no_results() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    let endpoint = project.s3.endpoint();
    project.configure(&endpoint, "http://127.0.0.1:1");
    project.run(FIRST, &BASE).assert(3, &["(is the service up and its endpoint right?)", "Connection refused"]);
    assert_eq!(project.last_run()["values"].as_array().unwrap().len(), 2);

    project.configure("http://127.0.0.1:1", &endpoint);
    let mut command = project.command(&["run", "--commit", FIRST, "--timestamp", "1780007200", "--variants", "base"]);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    super::project::Ran::of(command.output().unwrap()).assert(3, &["no AWS credentials were found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_is_told() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    project.s3.next([Fault::Answer(404, "NoSuchBucket")]);
    let refused = project.run(FIRST, &BASE);
    refused.assert(
        3,
        &[
            "not published yet: failed to read s3://results/v3/example/engine/main/1111",
            "the bucket does not exist (check its name, --endpoint and --region)",
        ],
    );
    project.run(FIRST, &["--variants", "base", "--no-publish"]).assert(0, &["1 upload of earlier runs was delivered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_is_sent_to_where_the_place_is_now() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    let endpoint = project.s3.endpoint();
    project.configure(&endpoint, "http://127.0.0.1:1");
    project.run(FIRST, &BASE).assert(3, &["not published yet"]);
    project.configure("http://127.0.0.1:1", &endpoint);
    project.run(FIRST, &["--variants", "base", "--no-publish"]).assert(0, &["1 upload of earlier runs was delivered"]);
    assert!(project.object(FIRST).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_interrupted_is_sent_by_the_next_run() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    for signal in ["INT", "TERM"] {
        let asked = project.s3.requests().len();
        project.s3.next([Fault::Late(Duration::from_secs(600))]);
        let common = ["run", "--commit", FIRST, "--timestamp", "1780007200", "--variants", "base", "--publish"];
        let mut command = project.command(&common);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while project.s3.requests().len() == asked {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let kill = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let interrupted = super::project::Ran::of(child.wait_with_output().unwrap());
        interrupted.assert(130, &["results that are not published yet are kept, and the next `benchd run` sends them"]);
        let shown = project.last_run();
        assert_eq!((&shown["state"], &shown["outbox"][0]["state"]), (&"measured".into(), &"owed".into()), "{shown:#}");
        let next = project.run(FIRST, &["--variants", "base", "--no-publish"]);
        next.assert(0, &["1 upload of earlier runs was delivered"]);
        assert!(project.object(FIRST).is_some());
    }
    project.assert_clean().await;
}
