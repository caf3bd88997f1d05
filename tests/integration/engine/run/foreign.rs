//! Suites of other projects: a command in an image that anybody can use, the repository at the commit, other formats.

use super::project::{FIRST, Project};

#[tokio::test(flavor = "multi_thread")]
async fn another_project_is_built_and_measured_at_its_commit() {
    let project = Project::new().await;
    let suite = r#"{command: "bash measure.sh", prepare: "bash build.sh", results: out.json}"#;
    // The image lacks `{sha}`, so that build.sh comes out of the checkout and measure.sh is made by it.
    project.write("benchd.yaml", &project.command_config(suite, "shell:1"));
    project.registry_image("shell", "1").await;
    project.write(
        "checkout/build.sh",
        r#"printf '%s' 'echo "[{\"name\": \"parse\", \"value\": 12.5, \"unit\": \"ms\", \"better\": \"lower\"}]" >out.json' >measure.sh"#,
    );
    let sha = project.commit();
    let ran = project.benchd(&["run", "--checkout", "checkout", "--commit", &sha]);
    ran.assert(0, &["parse", "12.50", "ms"]);
    project.assert_clean().await;

    project.write("checkout/build.sh", "echo 'error: no compiler' >&2; exit 2");
    let sha = project.commit();
    let broken = project.benchd(&["run", "--checkout", "checkout", "--commit", &sha]);
    broken.assert(1, &["failure: a command before the suite failed with exit code 2", "Read the end of the log"]);
    let absent = project.benchd(&["run", "--checkout", "checkout", "--commit", FIRST]);
    absent.assert(2, &["1111111", "checkout"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_other_tools_are_read() {
    let project = Project::new().await;
    let formats = [
        ("github_action_benchmark", r#"[{"name": "parse", "value": 12.5, "unit": "ns/iter"}]"#, "ns/iter"),
        ("bencher", r#"{"parse": {"latency": {"value": 12.5, "lower_value": 12, "upper_value": 13}}}"#, "latency"),
        ("list", r#"[{"name": "parse", "value": 12.5, "unit": "req/s"}]"#, "req/s"),
    ];
    for (tag, (format, results, wanted)) in formats.into_iter().enumerate() {
        let suite = format!(r#"{{command: "bash /suite.sh", format: {format}, results: results}}"#);
        project.write("benchd.yaml", &project.command_config(&suite, &format!("engine:{tag}-{{sha}}")));
        let script = format!("mkdir -p results; echo '{results}' >results/out.json");
        project.push(&format!("{tag}-{FIRST}"), &[("suite.sh", &script)], serde_json::json!({})).await;
        project.run(FIRST, &[]).assert(0, &["parse", "12.50", wanted]);
    }
    project.assert_clean().await;
}
