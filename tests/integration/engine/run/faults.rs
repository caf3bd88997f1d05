//! What can go wrong around a run, as a person meets it: exit code and message.

use super::BASE;
use super::project::{FIRST, Project, Ran, good};
use crate::engine::SecondEngine;
use crate::engine::images::{noise, serve_to};
use crate::engine::passes::SmallDisk;
use crate::support::real_registry::RealRegistry;
use sqlx::Connection;
use std::os::unix::process::CommandExt;

const PASSWORD: &str = "pw?>~?>~ü:x";
const PASSWORD_HASH: &str = "$2y$05$1D29x7I/zw4iNrXR.eJcz.v9jbgQwMtFhXQtRG9CcCrgZ7/r.lvWi";

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_be_used_is_told_with_what_to_do() {
    let project = Project::new().await;
    let run = ["run", "--commit", FIRST, "--timestamp", "1780007200", "--state-dir", "/tmp/benchd-never-made"];
    let with_host = |host: &str| {
        let mut command = project.command(&run);
        command.env("DOCKER_HOST", host);
        command
    };
    let away = format!("unix://{}", project.path("absent.sock").display());
    Ran::of(with_host(&away).output().unwrap()).assert(3, &["no Docker Engine at unix:", "systemctl start docker"]);
    drop(std::os::unix::net::UnixListener::bind(project.path("dead.sock")).unwrap());
    let dead = format!("unix://{}", project.path("dead.sock").display());
    Ran::of(with_host(&dead).output().unwrap())
        .assert(3, &["refuses the connection: it was stopped or is still starting"]);
    // As nobody, who may read the project's folder.
    std::fs::set_permissions(project.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let forbidden = with_host(project.engine.host()).uid(65534).gid(65534).output().unwrap();
    Ran::of(forbidden).assert(3, &["this user may not use the Docker Engine", "usermod -aG docker"]);
    Ran::of(with_host("ssh://host").output().unwrap()).assert(3, &["`ssh://host` is not a Docker address"]);
}

/// Before the image is even looked for: a suite that fails later has its reason in the lines above.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_model_cache_is_told_before_the_run_fails() {
    let project = Project::new().await;
    project.push_suite(FIRST, "echo 'OSError: No space left on device'\nexit 1\n").await;
    assert!(!project.run(FIRST, &BASE).err.contains("the model cache"), "it has all the room that is wanted");
    project.configure("cache: {dir: hf_cache, min_free: 0 B}", "cache: {dir: hf_cache, min_free: 4000 TiB}");
    let ran = project.run(FIRST, &BASE);
    let told = format!("benchd: the model cache {} has ", project.path("hf_cache").display());
    ran.assert(
        1,
        &[&told, "less than the 4000 TiB wanted (execution.cache.min_free): remove models or give it a larger disk"],
    );
    let place = |text: &str| ran.err.find(text).unwrap();
    assert!(place(&told) < place("looking for ") && place("looking for ") < place("the container runs"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_told_with_what_to_do() {
    let mut project = Project::new().await;
    let host = project.registry.host.clone();
    project.registry_image("engine", "other").await;
    project.run(FIRST, &BASE).assert(
        1,
        &[
            &format!("there is no image {host}/engine:{FIRST}: it was not built (yet), or the image template is wrong"),
            "Wait for the commit's image build",
        ],
    );
    project.registry.push("engine", FIRST, "s390x", b"x").await;
    project.run(FIRST, &BASE).assert(1, &["was built for linux/s390x, this host needs linux/"]);
    project.configure("{sha}\"}", "{sha}\", pull: never}");
    project.run(FIRST, &BASE).assert(1, &["the engine does not have", "`docker pull"]);
    project.configure("pull: never", "pull: always");
    project.registry.kill();
    project.run(FIRST, &BASE).assert(
        3,
        &[
            "the registry could not say whether the image exists",
            &format!("tiny/model was not measured: failed to reach the registry {host}: "),
        ],
    );
    project.configure("{sha}", "{sha}{");
    project.run(FIRST, &BASE).assert(2, &["benchd.yaml:5:"]);
    project.configure("{sha}{", "{sha}");
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_the_registry_and_a_wrong_one_is_not_shown() {
    let registry = RealRegistry::start_for("bob", PASSWORD, PASSWORD_HASH).await;
    let project = Project::with_registry(registry).await;
    project.write("benchd.yaml", &project.config());
    project.push_suite(FIRST, &good("0.5")).await;
    let anonymous = project.run(FIRST, &BASE);
    anonymous.assert(3, &["refuses access to engine (asked without credentials): give credentials (`docker login"]);
    project.configure("plain_http: true", "plain_http: true, username: bob, password_file: password");
    project.write("password", "wrong?>~\n");
    let wrong = project.run(FIRST, &BASE);
    wrong.assert(3, &["refuses access to engine (asked as bob): check the password"]);
    assert!(!wrong.err.contains("wrong?>~"));
    project.write("password", PASSWORD);
    project.run(FIRST, &BASE).assert(0, &["published"]);
    std::fs::remove_file(project.path("password")).unwrap();
    project.run(FIRST, &BASE).assert(2, &["password"]);
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suites_that_fail_are_told_apart() {
    let project = Project::new().await;
    let cases: [(&str, String, &[&str]); 7] = [
        ("some", format!("{}exit 7", good("0.5")), &["incomplete: the suite failed with exit code 7", "published"]),
        ("none", "exit 7".into(), &["failure: the suite failed with exit code 7", "Read the end of the log"]),
        ("quiet", "exit 0".into(), &["failure: the suite left no results"]),
        ("gone", format!("{}rm -rf benchmarks", good("0.5")), &["failure: the suite left no results"]),
        ("zero", good("0").replace(" 100", " 0"), &["failure: all results are zero", "latency_tiny"]),
        ("bad", good("'0.5,'"), &["incomplete", "latency_tiny", "the text is no valid JSON"]),
        (
            "odd",
            format!("{}cd benchmarks/results; ln -s /etc/passwd link.json; echo x >$'bad\\xff.txt'", good("0.5")),
            &["tokens_per_second", "published"],
        ),
    ];
    for (name, script, said) in cases {
        println!("== {name}");
        project.push_suite(&format!("{name}-{FIRST}"), &script).await;
        let image = format!("{}/engine:{name}-{FIRST}", project.registry.host);
        let ran = project.run(FIRST, &["--variants", "base", "--publish", "--image", &image]);
        ran.assert(i32::from(name != "odd"), said);
    }
    // No script where the configuration says.
    project.registry_image("engine", FIRST).await;
    project.run(FIRST, &BASE).assert(1, &["failure: the suite's script is missing", "Check the suite's command"]);
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told_with_the_setting_that_moves_them() {
    let project = Project::new().await;
    project.push_suite(FIRST, &format!("{}sleep 1000", good("0.5"))).await;
    project.configure("  cache:", "  limits: {idle_timeout: 2s, results_size: 100 KiB}\n  cache:");
    let hung = project.run(FIRST, &BASE);
    hung.assert(1, &["incomplete: nothing was printed for execution.limits.idle_timeout", "published"]);
    let image = format!("{}/engine:large", project.registry.host);
    project.push_suite("large", "head -c 300000 /dev/zero >benchmarks/results/large.json").await;
    let large = project.run(FIRST, &["--variants", "base", "--image", &image]);
    large.assert(
        1,
        &[
            "failure: the results are larger than allowed: more than execution.limits.results_size (102400 bytes)",
            "Raise the cap on results",
        ],
    );

    let suite = "{command: \"bash /suite.sh\"}";
    project.write("benchd.yaml", &project.command_config(suite, "engine:{sha}"));
    project.configure("  cache:", "  untrusted: {memory: 64 MiB}\n  cache:");
    for (name, script) in [("child", "tail /dev/zero; true"), ("main", "exec tail /dev/zero")] {
        project.push(name, &[("suite.sh", script)], serde_json::json!({})).await;
        let image = format!("{}/engine:{name}", project.registry.host);
        let ran = project.run(FIRST, &["--untrusted", "--image", &image]);
        ran.assert(1, &["failure: the suite ran out of memory", "Raise the memory limit"]);
    }
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_start_is_told_and_removed() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    std::fs::rename(project.path("benchmarks/cpu"), project.path("benchmarks/rocm")).unwrap();
    for kind in ["latency", "throughput"] {
        let file = |suffix: &str| project.path(&format!("benchmarks/rocm/{kind}-tests{suffix}.json"));
        std::fs::rename(file("-cpu"), file("")).unwrap();
    }
    project
        .configure("platform: cpu", "platform: rocm\n  device_access: {rocm: {devices: [/dev/benchd-no-such-device]}}");
    project.configure("{cpu: ", "{rocm: ");
    let failed = project.run(FIRST, &BASE);
    failed.assert(3, &["tiny/model was not measured: failed to start the container: ", "/dev/benchd-no-such-device"]);
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_is_told() {
    let project = Project::new().await;
    project.push_suite(FIRST, "head -c 3000000 /dev/zero >benchmarks/results/large.json").await;
    let artifacts = project.path("state/artifacts");
    std::fs::create_dir_all(&artifacts).unwrap();
    let _disk = SmallDisk::mount(artifacts, "1m");
    project.run(FIRST, &BASE).assert(
        3,
        &[
            "failure: the disk is full",
            "tiny/model was not measured: failed to write ",
            "No space left on device",
            "Free disk space",
        ],
    );
    project.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_during_the_pull_is_told() {
    let project = Project::new().await;
    project.registry.push("engine", FIRST, project.engine.architecture(), &noise()).await;
    let second = SecondEngine::new(&format!("run-{}", std::process::id()));
    second.limit("24m");
    let engine = second.start().await;
    let _served = serve_to(&project.registry, &second);
    let mut command = project.command(&["run", "--commit", FIRST, "--timestamp", "1780007200", "--variants", "base"]);
    let ran = Ran::of(command.env("DOCKER_HOST", engine.host()).output().unwrap());
    ran.assert(3, &["failure: the disk is full", "no space left on device", "Free disk space"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_may_not_be_written_is_told() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    let disk = SmallDisk::mount(project.path("state"), "64m");
    project.run(FIRST, &BASE).assert(0, &["published"]);
    disk.remount("ro");
    let refused = project.run(FIRST, &BASE);
    refused.assert(3, &["the database cannot be written (check owner and permissions of the state directory"]);
    assert!(!refused.err.contains("panicked"));
    disk.remount("rw");
    project.run(FIRST, &BASE).assert(0, &["published"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_used_is_told() {
    let project = Project::new().await;
    project.push_suite(FIRST, &good("0.5")).await;
    project.write("state/benchd.db", &"not a database, but a text of some length\n".repeat(200));
    project.run(FIRST, &BASE).assert(3, &["the database is damaged or is none (restore a copy of it"]);
    std::fs::remove_dir_all(project.path("state")).unwrap();
    project.write("state", "a file");
    project.run(FIRST, &BASE).assert(3, &["failed to make the state directory"]);
    std::fs::remove_file(project.path("state")).unwrap();

    assert_eq!(project.run(FIRST, &BASE).code, 0);
    let database = sqlx::sqlite::SqliteConnectOptions::new().filename(project.path("state/benchd.db"));
    let mut other = sqlx::SqliteConnection::connect_with(&database).await.unwrap();
    sqlx::query("insert into _sqlx_migrations values (9999, 'from the future', 0, true, x'00', 0)")
        .execute(&mut other)
        .await
        .unwrap();
    project.run(FIRST, &BASE).assert(3, &["its tables are of version 9999, this benchd knows versions up to"]);
    sqlx::query("delete from _sqlx_migrations where version = 9999").execute(&mut other).await.unwrap();
    // Somebody else's transaction, longer than benchd waits.
    sqlx::query("begin immediate").execute(&mut other).await.unwrap();
    project.run(FIRST, &BASE).assert(3, &["the database stayed locked by another process"]);
    sqlx::query("rollback").execute(&mut other).await.unwrap();
    project.run(FIRST, &BASE).assert(0, &["published"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_gave_wrongly_is_told_before_anything_runs() {
    let project = Project::new().await;
    let cases: [(&[&str], &str); 8] = [
        (&["--timestamp", "yesterday"], "expected seconds since 1970, or a date like"),
        (&["--repo", "engine"], "--repo"),
        (&["--compilation-config", "[1]"], "--compilation-config"),
        (&["--benchmarks", "absent"], "there is no folder of benchmarks at absent: give --benchmarks DIR"),
        (&["--devices", "9"], "device"),
        (&["--config", "absent.yaml"], "absent.yaml"),
        (&["--checkout", "absent"], "absent"),
        (&["--trusted", "--untrusted"], "cannot be used with"),
    ];
    for (arguments, said) in cases {
        let arguments = [&["run", "--commit", FIRST], arguments].concat();
        let timed = arguments.contains(&"--timestamp") || arguments.contains(&"--checkout");
        let time: &[&str] = if timed { &[] } else { &["--timestamp", "1780007200"] };
        project.benchd(&[&arguments[..], time].concat()).assert(2, &[said]);
    }
    project.write("benchmarks/cpu/latency-tests-cpu.json", "[{]");
    let broken = project.run(FIRST, &["--dry-run"]);
    broken.assert(0, &["latency-tests-cpu.json:1:3: bad JSON", "tiny/model on"]);
}
