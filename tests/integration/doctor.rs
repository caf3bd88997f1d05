//! `benchd doctor` as a person calls it: what is wrong is found, all of it, and nothing secret is shown.

use std::path::Path;

use github_standin::{CommitSpec, StandIn as GitHub};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::benchd;
use crate::support::s3::{Fault, S3Server};
use crate::support::stand_in::{StandIn, answer};

/// A host with a configuration, and what a person would have around it.
struct Host {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Host {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("benchd.yaml"), config).unwrap();
        let missing = format!("unix://{}", dir.path().join("no.sock").display());
        Self { dir, env: vec![("DOCKER_HOST".to_owned(), missing)] }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The exit code and the checks.
    fn examine(&self) -> (i32, Vec<Value>) {
        let output = self.command().arg("--json").output().unwrap();
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let code = output.status.code().unwrap();
        assert_eq!(value["ok"], code == 0);
        (code, value["checks"].as_array().unwrap().clone())
    }

    fn command(&self) -> assert_cmd::Command {
        let mut command = benchd();
        command.current_dir(self.path()).args(["doctor", "--config", "benchd.yaml"]);
        command.env("HOME", self.path()).env_remove("DOCKER_CONFIG");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// State, finding and advice of the check whose name begins so.
    fn check(&self, name: &str) -> (String, String, String) {
        let (_, checks) = self.examine();
        found(&checks, name)
    }
}

fn found(checks: &[Value], name: &str) -> (String, String, String) {
    let check = checks.iter().find(|check| check["name"].as_str().unwrap().starts_with(name));
    let check = check.unwrap_or_else(|| panic!("no {name} in {checks:#?}"));
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("found"), text("advice"))
}

/// A configuration whose images are at `registry` and whose results go to `publish`.
fn config(registry: &str, publish: &str) -> String {
    format!(
        "state_dir: state\n\
         repositories:\n\
         \x20 - name: o/r\n\
         \x20   suite: {{command: ./run, results: out}}\n\
         \x20   images: {{cpu: '{registry}/ci:{{sha}}'}}\n\
         \x20   publish: {{to: [{publish}]}}\n\
         registries: [{{host: '{registry}', plain_http: true}}]\n\
         execution: {{platform: cpu}}\n"
    )
}

const FOLDER: &str = "{url: 'file:///tmp/benchd-doctor-unused'}";

fn in_folder(dir: &Path) -> String {
    format!("{{url: 'file://{}'}}", dir.display())
}

#[test]
fn without_an_engine_everything_else_is_still_tried() {
    let results = tempfile::tempdir().unwrap();
    let host = Host::new(&config("127.0.0.1:1", &in_folder(results.path())));
    let (code, checks) = host.examine();
    assert_eq!(code, 1);
    let (state, told, _) = found(&checks, "docker engine");
    assert_eq!(state, "failed");
    assert!(told.starts_with("no Docker Engine at unix://") && told.contains("systemctl start docker"), "{told}");
    let (state, told, _) = found(&checks, "image 127.0.0.1:1/ci");
    assert_eq!(state, "failed");
    assert!(told.starts_with("failed to reach the registry 127.0.0.1:1"), "{told}");
    assert_eq!(found(&checks, "configuration").0, "ok");
    assert_eq!(found(&checks, "devices").0, "ok");
    let (state, told, _) = found(&checks, "state directory");
    assert_eq!(state, "ok");
    assert!(told.contains("the first run makes benchd.db"), "{told}");
    assert!(!host.path().join("state").exists(), "looking makes nothing");
    let (state, told, _) = found(&checks, "target file:");
    assert_eq!(state, "ok");
    assert!(told.starts_with("wrote, read and removed the file benchd-doctor/"), "{told}");
    assert_eq!(std::fs::read_dir(results.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_person_reads_a_list() {
    let host = Host::new(&config("127.0.0.1:1", FOLDER).replace(FOLDER, ""));
    let output = host.command().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("ok  configuration "), "{text}");
    assert!(text.contains("\nx   docker engine "), "{text}");
    assert!(text.contains("\n!   github token "), "{text}");
    assert!(text.contains("-> a token without any scope"), "{text}");
    assert!(text.ends_with("\n2 failed (x), 1 to look at (!)\n"), "{text}");
}

#[test]
fn a_faulty_configuration_hides_nothing_else() {
    let host = Host::new("repositories: [{name: o/r, tirggers: {}}]\n");
    let (code, checks) = host.examine();
    assert_eq!(code, 1);
    let (state, told, advice) = found(&checks, "configuration");
    assert_eq!(state, "failed");
    assert!(told.contains("did you mean `triggers`?") && advice.contains("built-in defaults"), "{told}: {advice}");
    assert_eq!(found(&checks, "docker engine").0, "failed");
    let output = benchd().args(["doctor", "--config", "/no/such/file.yaml", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let host = Host::new(&config("127.0.0.1:1", "").replace("state_dir: state", "state_dir: benchd.yaml/state"));
    let (state, told, advice) = host.check("state directory");
    assert_eq!(state, "failed");
    assert!(told.ends_with("benchd.yaml is not a folder") && advice.contains("state_dir"), "{told}: {advice}");
    let host = Host::new(&config("127.0.0.1:1", ""));
    std::fs::create_dir(host.path().join("state")).unwrap();
    std::fs::write(host.path().join("state/benchd.db"), "this is no database at all, and long enough").unwrap();
    let (state, told, _) = host.check("state directory");
    assert_eq!(state, "failed");
    assert!(told.contains("the database is damaged or is none"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_answers_refuses_or_fails() {
    let unauthorised = r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#;
    let absent = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#;
    for (status, body, state, told) in [
        (404, absent, "ok", "answers, asked without credentials"),
        (401, unauthorised, "failed", "refuses access to ci (asked without credentials): give credentials"),
        (503, "", "failed", "failed with status 503"),
    ] {
        let registry = StandIn::start(move |asked| async move {
            match asked.path.as_str() {
                "/v2/" => answer(200, &[], ""),
                _ => answer(status, &[], body),
            }
        })
        .await;
        let host = Host::new(&config(&registry.host, ""));
        let (found_state, found, _) = tokio::task::block_in_place(|| host.check("image "));
        assert_eq!(found_state, state, "{found}");
        assert!(found.contains(told), "{found}");
        assert!(registry.asked().iter().any(|asked| asked.path.contains(&"0".repeat(39))));
    }
}

#[test]
fn a_bucket_is_tried_by_writing() {
    let server = S3Server::start("results");
    let target = format!("{{url: 's3://results/bench', endpoint: '{}'}}", server.endpoint());
    let [key, secret] = S3Server::environment();
    let host = || Host::new(&config("127.0.0.1:1", &target)).env(key.0, key.1).env(secret.0, secret.1);
    let (state, told, _) = host().check("target s3://results/bench at http");
    assert_eq!(state, "ok", "{told}");
    assert!(told.starts_with("wrote, read and removed the object benchd-doctor/"), "{told}");
    // Objects are removed by a list of their names.
    let probe = |request: &String| request.contains("/results/bench/benchd-doctor/") || request == "POST /results";
    let made = server.requests();
    assert!(made.iter().all(probe), "{made:?}");
    // The right to remove is not needed.
    let pass = Fault::Late(std::time::Duration::ZERO);
    server.next([pass, pass, Fault::Answer(403, "AccessDenied")]);
    let (state, told, _) = host().check("target s3:");
    assert_eq!(state, "ok", "{told}");
    assert!(told.contains("removing it is not permitted"), "{told}");
}

#[test]
fn a_bucket_that_refuses_is_missing_or_is_down_is_told_apart() {
    let server = S3Server::start("results");
    let [key, secret] = S3Server::environment();
    let check = |bucket: &str, endpoint: &str| {
        let target = format!("{{url: 's3://{bucket}', endpoint: '{endpoint}'}}");
        Host::new(&config("127.0.0.1:1", &target)).env(key.0, key.1).env(secret.0, secret.1).check("target s3:")
    };
    server.next([Fault::Answer(403, "AccessDenied")]);
    let (state, told, _) = check("results", &server.endpoint());
    assert!(state == "failed" && told.contains("access denied (check the AWS credentials"), "{told}");
    server.next([Fault::Answer(404, "NoSuchBucket")]);
    let (state, told, _) = check("absent", &server.endpoint());
    assert!(state == "failed" && told.contains("the bucket does not exist"), "{told}");
    let (state, told, _) = check("results", "http://127.0.0.1:1");
    assert!(state == "failed" && told.contains("is the service up and its endpoint right?"), "{told}");
    assert!(!told.contains(S3Server::SECRET_KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_is_said() {
    let server = S3Server::start_open("results");
    let target = format!("{{url: 's3://results', endpoint: '{}', anonymous: true}}", server.endpoint());
    let (state, told, _) = Host::new(&config("127.0.0.1:1", &target)).check("target s3:");
    assert!(state == "ok" && told.contains("shows at the first upload"), "{told}");
    assert!(server.requests().iter().all(|request| !request.starts_with("PUT")), "nothing is written");
    let api = StandIn::start(|_| async { answer(405, &[], "") }).await;
    let target =
        format!("{{api: {{url: 'http://{}/upload', username_env: API_USER, password_env: API_PASS}}}}", api.host);
    let (host, told) = tokio::task::block_in_place(|| {
        let host = Host::new(&config("127.0.0.1:1", &target)).env("API_USER", "u").env("API_PASS", "s3cret");
        let told = host.check("target http:");
        (host, told)
    });
    assert!(told.0 == "ok" && told.1.starts_with("answers; whether it accepts"), "{told:?}");
    assert!(api.asked().iter().all(|asked| asked.method == "HEAD" && asked.body.is_empty()));
    drop(host);
    let (state, told, _) = tokio::task::block_in_place(|| {
        Host::new(&config("127.0.0.1:1", &target)).env("API_USER", "u").check("target http:")
    });
    assert!(state == "failed" && told.contains("API_PASS"), "{told}");
}

#[test]
fn a_github_token_is_tried() {
    let github = GitHub::start();
    github.repository("o/r").commit("main", CommitSpec::new("first"));
    let config = |rest: &str| {
        format!("{}github: {{api_url: '{}', token_file: token}}\n{rest}", config("127.0.0.1:1", ""), github.url())
    };
    let host = Host::new(&config(""));
    let with = |token: &str| {
        std::fs::write(host.path().join("token"), token).unwrap();
        host.examine().1
    };
    let checks = with(&github.personal_token("bench", &["public_repo"]));
    assert_eq!(found(&checks, "github token").0, "ok");
    assert!(found(&checks, "github token").1.ends_with("token: valid, scopes public_repo"));
    assert!(found(&checks, "github o/r").1.starts_with("main is at "));
    let checks = with(&github.fine_grained_token("bench"));
    assert!(found(&checks, "github token").1.contains("its permissions are not told"));
    let checks = with("ghp_wrong");
    let (state, told, advice) = found(&checks, "github token");
    assert!(state == "failed" && told.contains("does not accept the credentials"), "{told}");
    assert!(advice.starts_with("make a new token and put it into "), "{advice}");
    assert!(!format!("{checks:?}").contains("ghp_wrong"));
    std::fs::write(host.path().join("benchd.yaml"), config("").replace("name: o/r", "name: o/absent")).unwrap();
    let checks = with(&github.personal_token("bench", &[]));
    let (state, told, _) = found(&checks, "github o/absent");
    assert!(
        state == "failed" && told.contains("there is no branch main that can be read with these credentials"),
        "{told}"
    );
    assert!(found(&checks, "github token").1.contains("no scopes: public repositories are read"));
}

#[test]
fn a_github_app_is_tried_and_what_it_lacks_is_named() {
    let github = GitHub::start();
    github.repository("o/r").commit("main", CommitSpec::new("first"));
    let app = github.install_app(4711, "bench");
    let config = format!(
        "{}github: {{api_url: '{}', app: {{id: 4711, private_key_file: app.pem}}}}\n",
        config("127.0.0.1:1", ""),
        github.url()
    );
    let host = Host::new(&config);
    std::fs::write(host.path().join("app.pem"), &app.private_key_pem).unwrap();
    let checks = host.examine().1;
    assert_eq!(found(&checks, "github app").1, "it is `bench`, and its key is accepted");
    let (state, told, _) = found(&checks, "github app on o/r");
    assert!(state == "ok" && told.starts_with("installed with checks: write, contents: read"), "{told}");
    assert!(found(&checks, "github o/r").1.starts_with("main is at "));
    github.permit_app("checks", "none");
    github.permit_app("issues", "read");
    github.permit_app("pull_requests", "read");
    let (state, told, advice) = found(&host.examine().1, "github app on o/r");
    assert_eq!(
        (state.as_str(), told.as_str()),
        (
            "failed",
            "not permitted: checks: write (check runs), pull_requests or issues: write (the comment on a pull request)"
        )
    );
    assert!(advice.contains("accept them"), "{advice}");
    github.suspend_installation(true);
    assert_eq!(found(&host.examine().1, "github app on o/r").1, "the installation is suspended");
    std::fs::write(host.path().join("benchd.yaml"), config.replace("name: o/r", "name: o/absent")).unwrap();
    let told = found(&host.examine().1, "github app on o/absent").1;
    assert!(told.contains("not installed on o/absent"), "{told}");
    std::fs::write(host.path().join("benchd.yaml"), config.replace("id: 4711", "id: 4712")).unwrap();
    let (state, told, advice) = found(&host.examine().1, "github app");
    assert!(state == "failed" && advice.contains("`github.app.id`"), "{told} {advice}");
}

#[test]
fn benchmarks_and_models_are_counted() {
    let vllm = "state_dir: state\nrepositories: [{name: o/r, benchmarks: benchmarks, images: {cpu: '127.0.0.1:1/x:{sha}'}}]\n\
                execution: {platform: cpu, cache: {dir: cache, min_free: 0 B}}\n";
    let host = Host::new(vllm);
    let (state, told, advice) = host.check("benchmarks of o/r");
    assert_eq!(state, "failed", "{told}");
    assert!(advice.contains("repositories[].benchmarks"), "{advice}");
    let folder = host.path().join("benchmarks/cpu");
    std::fs::create_dir_all(&folder).unwrap();
    let good =
        |name: &str, model: &str| format!(r#"{{"test_name": "latency_{name}", "parameters": {{"model": "{model}"}}}}"#);
    let write = |entries: &[String]| {
        std::fs::write(folder.join("latency-tests-cpu.json"), format!("[{}]", entries.join(","))).unwrap();
    };
    write(&[good("a", "a/b"), good("b", "c/d")]);
    let snapshot = host.path().join("cache/hub/models--a--b/snapshots/1");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("config.json"), "{}").unwrap();
    let (_, checks) = host.examine();
    assert!(found(&checks, "benchmarks of o/r").1.ends_with("benchmarks: 2 benchmarks for cpu"), "{checks:#?}");
    let (state, told, advice) = found(&checks, "models");
    assert!(state == "warning" && told.starts_with("1 of 2 in ") && told.ends_with("not there: c/d"), "{told}");
    assert!(advice.contains("hf download c/d"), "{advice}");
    write(&[good("a", "a/b"), r#"{"test_name": "latency_b"}"#.to_owned()]);
    let (state, told, advice) = host.check("benchmarks of o/r");
    assert!(state == "warning" && told.contains("1 benchmarks for cpu, 1 faults"), "{told}");
    assert!(advice.starts_with("`benchd check-benchmarks "), "{advice}");
}

#[test]
fn a_tool_that_fails_is_told_by_the_doctor_and_by_init() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new(&config("127.0.0.1:1", "").replace("execution: {platform: cpu}\n", ""));
    let tool = host.path().join("nvidia-smi");
    std::fs::write(&tool, "#!/bin/sh\necho 'Driver/library version mismatch'; exit 18\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host_path = host.path().display().to_string();
    let host = host.env("PATH", &format!("{host_path}:/usr/bin:/bin"));
    let (_, checks) = host.examine();
    let (state, told, _) = found(&checks, "devices");
    assert!(state == "failed" && told.contains("Driver/library version mismatch"), "{told}");
    assert_eq!(found(&checks, "registry").0, "skipped");
    let mut init = benchd();
    init.args(["init", "--print"]).current_dir(host.path()).env("PATH", format!("{host_path}:/usr/bin:/bin"));
    let text = String::from_utf8(init.assert().success().get_output().stdout.clone()).unwrap();
    let line = text.lines().find(|line| line.starts_with("# This host: cuda; what devices it has")).unwrap();
    assert!(line.contains("Driver/library version mismatch"), "{line}");
}
