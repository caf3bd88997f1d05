//! `benchd run` killed in the middle: what it left behind is removed by whoever comes next, and only then.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::BASE;
use super::project::{FIRST, Project, Ran, SECOND, good};

/// `benchd run` on a suite that does not end, since its first line.
fn begun(project: &Project) -> Child {
    let arguments = ["run", "--follow", "--commit", FIRST, "--timestamp", "1780007200", "--variants", "base"];
    let mut child = project.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.by_ref().any(|line| line.ends_with("ready")));
    // Whatever it says from now on is read, so that no full pipe stops it.
    std::thread::spawn(move || said.for_each(drop));
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn containers(run: &Value) -> Vec<String> {
    let label = format!("label=benchd.run={}", run["id"]);
    let listed = Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &label]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn shown(project: &Project, run: &Value) -> Value {
    project.benchd(&["show", &run["id"].to_string(), "--json"]).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_removed_and_a_living_one_is_left_alone() {
    let project = Project::new().await;
    project.push_suite(FIRST, "echo ready; sleep 1000").await;
    project.push_suite(SECOND, &good("0.5")).await;
    let child = begun(&project);
    let run = project.last_run();
    let by = run["jobs"][0]["by"].as_str().unwrap();
    assert!(by.ends_with(&format!("/run-{}", run["id"])), "{by}");

    let beside = project.run(SECOND, &BASE);
    beside.assert(0, &["published"]);
    assert!(!beside.err.contains("killed"));
    assert_eq!((&shown(&project, &run)["state"], containers(&run).len()), (&"running".into(), 1));

    kill(child);
    assert_eq!(containers(&run).len(), 1, "nobody has looked yet");
    let next = project.run(SECOND, &BASE);
    next.assert(0, &[&format!("run {} was killed: what it left behind is removed", run["id"])]);
    assert_eq!(containers(&run), Vec::<String>::new());
    let ended = shown(&project, &run);
    assert_eq!(ended["jobs"][0]["failure"], "lost_runner", "{ended:#}");
    assert_eq!(ended["jobs"][0]["attempts"][0]["message"], "the `benchd run` that measured it was killed");
    assert!(std::fs::read_dir(project.path("state/processes")).unwrap().next().is_none());
    assert!(!project.run(SECOND, &BASE).err.contains("killed"), "it is told once");
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_removes_what_a_killed_run_left() {
    let project = Project::new().await;
    project.push_suite(FIRST, "echo ready; sleep 1000").await;
    let text = std::fs::read_to_string(project.path("benchd.yaml")).unwrap();
    // Nothing answers there: this daemon measures nothing by itself.
    let alone = "http: {listen: \"127.0.0.1:0\"}\ngithub: {api_url: \"http://127.0.0.1:1\"}\n";
    project.write("benchd.yaml", &format!("{text}{alone}"));
    let child = begun(&project);
    let run = project.last_run();
    let log = std::fs::File::create(project.path("serve.log")).unwrap();
    let mut daemon = project.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let held = async || {
        // Longer than the daemon needs to look.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let shown = shown(&project, &run);
        assert_eq!((&shown["state"], containers(&run).len()), (&"running".into(), 1), "{shown:#}");
        assert!(shown["jobs"][0]["by"].as_str().unwrap().contains("/run-"));
    };
    held().await;
    assert!(daemon.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(project.path("serve.log")).unwrap());
    kill(child);
    let mut looks = 0;
    while !containers(&run).is_empty() || shown(&project, &run)["state"] == "running" {
        looks += 1;
        assert!(looks < 600, "{}", std::fs::read_to_string(project.path("serve.log")).unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stop = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
    assert!(stop.success());
    let output = daemon.wait_with_output().unwrap();
    Ran::of(output).assert(0, &[]);
    project.assert_clean().await;
}
