//! The command line as a client: the same values and tables as from the store, and exit codes that a script can use.

use serde_json::Value;

use super::{ADMIN, READ, Site, TRIGGER, against, output, token_file};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_and_store_print_the_same() {
    let (site, filled) = Site::filled().await;
    let good = filled.good.to_string();
    for args in [&["runs"][..], &["runs", "--json", "--limit", "2"], &["runs", "--state", "failed"], &["repro", &good]]
    {
        let over = output(against(&site, args)).await;
        let mut beside = crate::support::benchd();
        beside.args(args).env("COLUMNS", "200").env("NO_COLOR", "1").arg("--state-dir").arg(site.dir.path());
        let beside = output(beside).await;
        assert!(over.status.success(), "{args:?}: {}", text(&over.stderr));
        assert_eq!(text(&over.stdout), text(&beside.stdout), "{args:?}");
    }
    let shown = output(against(&site, &["show", &good])).await;
    let shown = text(&shown.stdout);
    for word in ["measured", "avg_latency", "1.500", "sha256:00ff", "/log?attempt=1&pass=1", "/attempts/1/artifacts"] {
        assert!(shown.contains(word), "{word} in\n{shown}");
    }
    let json = output(against(&site, &["show", &good, "--json"])).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["values"][0]["value"], 1.5);
    let log = json["artifacts"][0]["log"].as_str().unwrap().to_owned();
    assert!(site.client.get(log).send().await.unwrap().text().await.unwrap().ends_with("done\n"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_tell_whose_fault_it_is() {
    let (site, filled) = Site::filled().await;
    let waiting = filled.waiting.to_string();
    let cancel = ["cancel", waiting.as_str()];
    let denied = output(against(&site, &cancel)).await;
    assert_eq!(denied.status.code(), Some(2));
    let told = "benchd: this needs a token of scope `trigger`: send `Authorization: Bearer TOKEN` \
                (here: --token-file FILE or $BENCHD_TOKEN_FILE)\n";
    assert_eq!(text(&denied.stderr), told);
    for (token, code) in [(READ, 2), (TRIGGER, 0), (ADMIN, 0)] {
        let mut command = against(&site, &cancel);
        command.arg("--token-file").arg(token_file(site.dir.path(), token));
        let done = output(command).await;
        assert_eq!(done.status.code(), Some(code), "{}", text(&done.stderr));
        if code == 0 {
            assert_eq!(text(&done.stdout), format!("run {waiting} is cancelled\n"));
        }
    }
    let mut command = against(&site, &["cancel", &filled.bad.to_string()]);
    command.arg("--token-file").arg(token_file(site.dir.path(), TRIGGER));
    assert_eq!(output(command).await.status.code(), Some(1), "nothing is left to cancel");
    assert_eq!(output(against(&site, &["show", "1"])).await.status.code(), Some(2));
    let mut nobody = crate::support::benchd();
    nobody.args(["runs", "--server", "http://127.0.0.1:9"]).env("NO_PROXY", "*");
    let nobody = output(nobody).await;
    assert_eq!(nobody.status.code(), Some(3));
    assert!(text(&nobody.stderr).starts_with("benchd: failed to reach http://127.0.0.1:9/ (is `benchd serve` running"));
    let mut unnamed = crate::support::benchd();
    unnamed.args(cancel).env_remove("BENCHD_SERVER");
    let unnamed = output(unnamed).await;
    assert_eq!(unnamed.status.code(), Some(2));
    assert_eq!(
        text(&unnamed.stderr),
        "benchd: this needs a running server: name it with --server URL or $BENCHD_SERVER\n"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_a_store() {
    let (site, filled) = Site::filled().await;
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("backup");
    let backup = |to: &std::path::Path| {
        let mut command = crate::support::benchd();
        command.arg("backup").arg(to).arg("--state-dir").arg(site.dir.path());
        command
    };
    // The server goes on reading and writing meanwhile.
    let mut command = backup(&to);
    command.args(["--artifacts", "--json"]);
    let (made, later) = tokio::join!(output(command), site.submit(1));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let manifest: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(manifest["artifact_files"], 2);
    let database = std::fs::read(to.join("benchd.db")).unwrap();
    let sha256: String = <sha2::Sha256 as sha2::Digest>::digest(&database).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((&manifest["sha256"], &manifest["bytes"]), (&sha256.into(), &database.len().into()));
    let again = output(backup(&to)).await;
    assert_eq!(again.status.code(), Some(2), "nothing is written over");
    let file = place.path().join("one.db");
    assert!(output(backup(&file)).await.status.success());
    assert!(file.exists() && place.path().join("one.json").exists());
    // Restored as the documents say: the folder is a state directory.
    let mut shown = crate::support::benchd();
    shown.args(["show", &filled.good.to_string(), "--json", "--state-dir"]).arg(&to);
    let shown = output(shown).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["values"][0]["value"], 1.5);
    assert!(std::path::Path::new(shown["artifacts"][0]["log"].as_str().unwrap()).exists());
    let restored = benchd::store::Store::open(&to).await.unwrap();
    let runs = restored.list_runs(10, &Default::default()).await.unwrap();
    assert!(runs.len() >= 3 && runs.iter().all(|run| run.run.id == later || run.run.id <= filled.waiting));
    restored.close().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_are_json_and_hold_no_secret() {
    let (site, _) = Site::filled().await;
    let secret = "benchd-token-in-a-url";
    let mut command = against(&site, &["runs", "--log", "debug", "--log-format", "json"]);
    // The token is also the user of a proxy-like address, which a library might log.
    command.arg("--token-file").arg(token_file(site.dir.path(), secret));
    command.env("BENCHD_SERVER", format!("http://{secret}:{secret}@{}", site.address));
    let done = output(command).await;
    let lines = text(&done.stderr);
    let logged: Vec<_> = lines.lines().filter(|line| !line.starts_with("benchd: ")).collect();
    assert!(!logged.is_empty());
    for line in logged {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string() && line["target"].is_string());
    }
    assert!(!lines.contains(secret), "{lines}");
    site.stop().await;
}

/// What a person reads first of the commands that talk to a server.
#[test]
fn help_reads_well() {
    let mut help = String::new();
    let commands =
        ["status", "queue", "runs", "show", "logs", "trigger", "cancel", "retry", "rerun", "pause", "resume", "backup"];
    for command in commands {
        let mut benchd = crate::support::benchd();
        benchd.args([command, "--help"]).env("COLUMNS", "100");
        for variable in ["BENCHD_SERVER", "BENCHD_TOKEN_FILE", "BENCHD_LOG", "BENCHD_LOG_FORMAT", "BENCHD_CONFIG"] {
            benchd.env_remove(variable);
        }
        let output = benchd.output().unwrap();
        help.push_str(&format!("$ benchd {command} --help\n{}\n", text(&output.stdout)));
    }
    insta::assert_snapshot!(help);
}

/// The tables of a small store, as they stand in a terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_read_well() {
    let (site, filled) = Site::filled().await;
    let bad = filled.bad.to_string();
    let mut told = String::new();
    for args in [&["runs"][..], &["queue"], &["show", &bad]] {
        let shown = output(against(&site, args)).await;
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        told.push_str(&text(&shown.stdout));
        told.push('\n');
    }
    // Ids and the port are new each time; numbers as long keep the columns.
    let mut ids: Vec<u64> = Vec::new();
    for word in told.split(|c: char| !c.is_ascii_digit()).filter(|word| word.len() > 13) {
        if let Ok(id) = word.parse::<u64>()
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    for (n, id) in ids.iter().enumerate() {
        told = told.replace(&id.to_string(), &format!("{:0width$}", n + 1, width = id.to_string().len()));
    }
    insta::assert_snapshot!(told.replace(&site.address.to_string(), "SERVER"));
    site.stop().await;
}
