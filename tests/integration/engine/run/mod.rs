//! `benchd run` as a person calls it: the executable, a real engine, a real registry and a real S3 service.

mod faults;
mod foreign;
mod places;
pub mod project;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use project::{BUCKET, FIRST, Project, SECOND, TOKEN, good};

const BASE: [&str; 2] = ["--variants", "base"];

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_measured_published_and_held_against_the_one_before() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("'0.5, 0.7'")).await;
    project.push_suite(SECOND, &good("'0.9, 0.9'")).await;
    let first = project.run(FIRST, &BASE);
    first.assert(0, &["latency_tiny", "0.6000", "published 2 records as v3/example/engine/main/1111"]);
    assert!(!first.out.contains("worse") && !first.out.contains("not in order"));
    let shown = project.last_run();
    assert_eq!(shown["state"], "published", "{shown:#}");
    assert_eq!(shown["values"].as_array().unwrap().len(), 2);
    let records = project.object(FIRST).unwrap();
    assert_eq!(records.lines().count(), 2);
    assert!(
        records.contains("\"head_branch\":\"main(refs/heads/main)\"") && records.contains("\"timestamp\":1780007200")
    );
    assert!(!records.contains(TOKEN));

    // The same results again are the same object; other ones of the same commit do not take their place.
    project.run(FIRST, &BASE).assert(0, &["published 2 records"]);
    assert_eq!(project.object(FIRST).unwrap(), records);
    project.push_suite(FIRST, &good("0.65")).await;
    project.configure("{sha}\"}", "{sha}\", pull: always}");
    project.run(FIRST, &BASE).assert(0, &["not published: other results of this commit lie at"]);
    assert_eq!(project.object(FIRST).unwrap(), records);
    project.run(FIRST, &["--variants", "base", "--publish"]).assert(0, &["published 2 records"]);
    assert!(project.object(FIRST).unwrap().contains("0.65"));

    let second = project.run(SECOND, &BASE);
    second.assert(0, &["0.6500", "+38.5% worse", "published"]);
    let json = project.run(SECOND, &["--variants", "base", "--json"]);
    json.assert(0, &[]);
    assert_eq!(json.json()["values"].as_array().unwrap().len(), 2);
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_stays_in_the_store_unless_it_is_to_be_published() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    let part = ["--suites", "latency", "--variants", "base"];
    let kept = project.run(FIRST, &part);
    kept.assert(0, &["the results stay in the store: only a part of the suite was selected"]);
    assert!(project.object(FIRST).is_none());
    project.run(FIRST, &[&part[..], &["--publish"]].concat()).assert(0, &["published"]);
    assert!(project.object(FIRST).is_some());
    let never = project.run(SECOND, &["--no-publish", "--dry-run"]);
    never.assert(0, &["publishing was not wanted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commit_is_known_from_flags_a_checkout_or_the_images_labels() {
    let project = Project::new().await;
    // The flags, one by one.
    project.benchd(&["run"]).assert(2, &["the commit is not known: give --commit with all 40 digits"]);
    project.benchd(&["run", "--commit", FIRST]).assert(2, &["the commit's time is not known: give --timestamp"]);
    let dry = ["run", "--dry-run", "--commit", FIRST, "--timestamp", "2026-05-28T22:26:40Z"];
    project.benchd(&dry).assert(0, &[FIRST, "tiny/model on 1x Test_CPU_4c: 6 points"]);
    let planned = project.benchd(&[&dry[..], &["--json"]].concat());
    planned.assert(0, &[]);
    assert_eq!(planned.json()["branch"], "main");
    project
        .run(FIRST, &["--models", "other/model"])
        .assert(1, &["no benchmark measures the model other/model", "nothing to measure: no benchmark was selected"]);

    // A checkout says everything.
    project.write("checkout/readme", "one");
    let sha = project.commit();
    project.push_suite(&sha, &good("0.5")).await;
    let from_checkout = project.benchd(&["run", "--checkout", "checkout", "--variants", "base", "--json"]);
    from_checkout.assert(0, &[]);
    assert_eq!(from_checkout.json()["sha"], sha.as_str());

    // An image that is not on this host yet is asked in the registry for its labels.
    let image = format!("{}/engine:labelled", project.registry.host);
    let path = "vllm-workspace/.buildkite/performance-benchmarks/scripts/run-performance-benchmarks.sh";
    let labels = serde_json::json!({
        "org.opencontainers.image.source": "https://github.com/example/engine",
        "org.opencontainers.image.revision": SECOND,
        "org.opencontainers.image.created": "2026-05-28T22:26:40Z",
    });
    project.push("labelled", &[(path, &good("0.5"))], labels).await;
    project
        .benchd(&["run", "--image", &image, "--dry-run"])
        .assert(0, &[SECOND, "the commit's time is not known; the image's build time 2026-05-28"]);
    let absent = format!("{}/engine:absent", project.registry.host);
    project.benchd(&["run", "--image", &absent]).assert(2, &["there is no image"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_the_run_and_removes_its_container() {
    let project = Project::new().await;
    project.push_suite(FIRST, "echo ready; sleep 1000").await;
    for signal in ["INT", "TERM"] {
        let arguments = ["run", "--follow", "--commit", FIRST, "--timestamp", "1780007200"];
        let mut child = project.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.by_ref().any(|line| line.ends_with("ready")));
        let kill = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let rest: Vec<String> = said.collect();
        println!("{}", rest.join("\n"));
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert!(rest.last().unwrap().contains("interrupted; the container was removed"));
        let shown = project.last_run();
        assert_eq!(shown["state"], "cancelled", "{shown:#}");
        project.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_repositories_are_told_apart() {
    let project = Project::new().await;
    project.configure(
        "repositories:",
        "repositories:\n  - {name: other/one, suite: {command: ./x}, images: {cpu: \"a:b\"}}",
    );
    project.push_suite(FIRST, &good("0.5")).await;
    project.run(FIRST, &BASE).assert(2, &["the repository is not known: give --repo owner/name"]);
    project.run(FIRST, &["--repo", "example/engine", "--variants", "base"]).assert(0, &["published"]);
    let other = project.run(FIRST, &["--repo", "other/one", "--dry-run"]);
    other.assert(0, &["other/one on 1x Test_CPU_4c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forks_commit_runs_without_secrets_if_its_model_is_cached() {
    let project = Project::new().await;
    project.push_suite(FIRST, &format!("echo \"token $HF_TOKEN\"\n{}", good("0.5"))).await;
    let arguments = ["run", "--variants", "base", "--timestamp", "1780007200", "--commit", FIRST];
    let fork = [&arguments[..], &["--branch", "pull/7/head"]].concat();
    let skipped = project.benchd(&fork);
    skipped.assert(1, &["skipped: the model tiny/model is not in the cache", "code of a fork may not download it"]);
    project.write("hf_cache/hub/models--Tiny--Model/snapshots/1/config.json", "{}");
    let ran = project.benchd(&[&fork[..], &["--follow"]].concat());
    ran.assert(0, &["token hf_untrusted", "published 2 records as v3/example/engine/pull/7/head/1111"]);
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_that_ends_well_with_everything_missing_has_failed() {
    let project = Project::new().await;
    let script = "for t in latency_tiny throughput_tiny; do
        echo \"Running test case $t\"; echo '{}' >benchmarks/results/$t.commands; echo 'Error: it crashed'; done; exit 0";
    project.push_suite(FIRST, script).await;
    let failed = project.run(FIRST, &BASE);
    failed.assert(1, &["failure: the suite left no results"]);
    let shown = project.last_run();
    assert_eq!(shown["state"], "failed", "{shown:#}");
    assert!(project.object(FIRST).is_none());
    assert!(std::fs::read_dir(project.s3.file(BUCKET, "")).unwrap().next().is_none());
    assert_eq!(project.s3.requests(), Vec::<String>::new());
}
