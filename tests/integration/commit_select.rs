//! `benchd pick` against the recorded cases of choosing a commit, with GitHub, a registry and a bucket on the wire, and
//! against what the recordings do not have: side commits, outages, clones, what the store knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use benchd::model::DeviceType;
use benchd::results::record::object_key;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::history::{StandInCommit, StandInHistory, sha};
use crate::support::s3::{Fault, S3Server};
use crate::support::stand_in::{StandIn, answer};
use crate::support::{benchd, shared};

pub const REPO: &str = "vllm-project/vllm";
const REGISTRY: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// GitHub, registry, bucket and a configuration that names them.
pub struct World {
    pub github: StandIn,
    pub registry: StandIn,
    pub bucket: S3Server,
    pub dir: TempDir,
}

/// What `benchd pick --json` said.
struct Said {
    code: i32,
    pick: Value,
    whole: Value,
    stderr: String,
}

impl World {
    /// `images` by name without the registry's host; `objects` by key.
    pub async fn new(history: StandInHistory, images: BTreeSet<String>, objects: &[String]) -> Self {
        let github = history.serve(REPO).await;
        let registry = registry(images).await;
        let bucket = S3Server::start_open("ossci-benchmarks");
        for key in objects {
            let file = bucket.file("ossci-benchmarks", key);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        Self { github, registry, bucket, dir: tempfile::tempdir().unwrap() }
    }

    pub fn configure(&self, platform: &str, suffix: &str, model: &str, more: &str) {
        let dir = self.dir.path();
        let host = &self.registry.host;
        let folder = dir.join("benchmarks").join(platform);
        fs::create_dir_all(&folder).unwrap();
        let test = json!([{"test_name": "latency_x", "parameters": {"model": model, "tensor_parallel_size": 1}}]);
        let file_suffix = if suffix.is_empty() { String::new() } else { suffix.to_owned() };
        fs::write(folder.join(format!("latency-tests{file_suffix}.json")), test.to_string()).unwrap();
        let template = |repository: &str| format!("{host}/{repository}:{{sha}}{suffix}");
        let (main, other) = match platform {
            "rocm" => (template("rocm/vllm-ci"), template("rocm/vllm-ci")),
            _ => (template("q9t5s3a7/vllm-ci-postmerge-repo"), template("q9t5s3a7/vllm-ci-test-repo")),
        };
        let config = format!(
            "state_dir: state
github: {{api_url: 'http://{github}'}}
registries: [{{host: '{host}', plain_http: true}}]
repositories:
  - name: {REPO}
    images: {{{platform}: {{main: '{main}', other: '{other}'}}}}
    publish: {{to: [{{url: 's3://ossci-benchmarks', endpoint: '{bucket}', anonymous: true}}]}}
{more}",
            github = self.github.host,
            bucket = self.bucket.endpoint(),
        );
        fs::write(dir.join("benchd.yaml"), config).unwrap();
    }

    async fn pick(&self, arguments: &[&str]) -> Said {
        pick(&self.dir.path().join("benchd.yaml"), arguments).await
    }
}

async fn pick(config: &Path, arguments: &[&str]) -> Said {
    let mut command = benchd();
    command.env_remove("BENCHD_CONFIG").env("DOCKER_CONFIG", "/nonexistent").arg("pick").arg("--json");
    command.arg("--config").arg(config).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let pick = whole["picks"].get(0).cloned().unwrap_or(Value::Null);
    Said { code: output.status.code().unwrap(), pick, whole, stderr }
}

/// A registry that wants a token and has these images and no others; of those that end in `!` it cannot speak.
async fn registry(images: BTreeSet<String>) -> StandIn {
    // The demand names the port, which is only known once it serves.
    let realm = Arc::new(OnceLock::<String>::new());
    let known = Arc::clone(&realm);
    let stand_in = StandIn::start(move |asked| {
        let demand = format!(r#"Bearer realm="{}",service="r""#, known.get().unwrap());
        let name = asked.path.trim_start_matches("/v2/").replace("/manifests/", ":");
        let answer = match asked.path.as_str() {
            "/token" => answer(200, &[], r#"{"token":"t","expires_in":300}"#),
            _ if asked.authorization.is_none() => answer(401, &[REGISTRY, ("www-authenticate", &demand)], ""),
            _ if images.contains(&format!("{name}!")) => answer(500, &[REGISTRY], ""),
            _ if images.contains(&name) => answer(200, &[REGISTRY, ("docker-content-digest", DIGEST)], ""),
            _ => answer(404, &[REGISTRY], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        };
        async move { answer }
    })
    .await;
    realm.set(format!("http://{}/token", stand_in.host)).unwrap();
    stand_in
}

/// A recorded case.
pub struct Case {
    pub name: String,
    pub input: Value,
    pub expected: Value,
}

pub fn cases() -> Vec<Case> {
    let Some(folder) = shared("golden/commit_select") else { return Vec::new() };
    let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            Case {
                name: path.file_name().unwrap().to_string_lossy().into_owned(),
                input: read(path.join("input/case.json")),
                expected: read(path.join("expected/result.json")),
            }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Cases in which the workflow does what benchd must not do.
const FLAWED: [&str; 7] = [
    "all_100_done",
    "none_built",
    "registry_has_only_done_commits",
    "s3_no_credentials",
    "plus_in_device_never_matches",
    "pr_ref_key_mismatch",
    "fewer_than_100_commits_all_done",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_cases() {
    for case in cases() {
        let text = |key: &str| case.input[key].as_str().unwrap();
        if !text("vllm_commit").is_empty() {
            // A commit that somebody names is not picked: see `manual`.
            continue;
        }
        let (suffix, branch, model) = (text("image_suffix"), text("branch"), text("models"));
        let platform = match (text("image_prefix").contains("rocm"), suffix) {
            (true, _) => "rocm",
            (false, "") => "cuda",
            (false, suffix) => suffix.trim_start_matches('-'),
        };
        let without_host = |image: &String| image.split_once('/').unwrap().1.to_owned();
        let images: BTreeSet<_> = texts(&case.input["images_present"]).iter().map(without_host).collect();
        let objects = texts(&case.input["s3_objects_present"]);
        let commits = texts(&case.input["commits_newest_first"]);
        let mut history = StandInHistory::linear(&commits, branch);
        if let Some(number) = branch.strip_prefix("refs/pull/").and_then(|rest| rest.strip_suffix("/head")) {
            let head = (commits[0].clone(), "fork/vllm".to_owned(), "x".to_owned());
            history.pulls.insert(number.parse().unwrap(), head);
        }
        let world = World::new(history, images.clone(), &objects).await;
        world.configure(platform, suffix, model, "");
        let denied = text("s3_mode") != "ok";
        if denied {
            world.bucket.next([Fault::Answer(403, "AccessDenied"); 200]);
        }
        let target = format!("{platform}:{}", text("device_type"));
        let said = world.pick(&["--branch", branch, "--target", &target]).await;

        // The rule, written once more and as simply as it can be.
        let device: DeviceType = text("device_type").parse().unwrap();
        let repository = text("image_prefix").split_once('/').unwrap().1;
        let has_image = |sha: &String| images.contains(&format!("{repository}:{sha}{suffix}"));
        let (repo, branch) = (REPO.parse().unwrap(), branch.parse().unwrap());
        let is_done = |sha: &String| {
            objects.contains(&object_key(&repo, &branch, &sha.parse().unwrap(), &device, &model.to_lowercase()))
        };
        let built = |sha: &&String| has_image(sha);
        let looked_at = commits.iter().take(100);
        let name = &case.name;
        if denied {
            assert_eq!((said.code, &said.pick["outcome"]), (3, &json!("unknown")), "{name}: {}", said.stderr);
            assert!(said.stderr.contains("access denied"), "{name}: {}", said.stderr);
            continue;
        }
        match looked_at.clone().filter(built).find(|sha| !is_done(sha)) {
            Some(sha) => {
                assert_eq!((said.code, &said.pick["sha"]), (0, &json!(sha)), "{name}: {} {}", said.pick, said.stderr);
                let behind = commits.iter().position(|commit| commit == sha).unwrap();
                assert_eq!(said.pick["behind"], json!(behind), "{name}");
                assert_eq!(said.pick["passed_over"].as_array().unwrap().len(), behind, "{name}");
            }
            None => {
                assert_eq!((said.code, &said.pick["outcome"]), (1, &json!("nothing_new")), "{name}: {}", said.stderr);
                assert_eq!(said.pick["passed_over"].as_array().unwrap().len(), looked_at.len(), "{name}");
            }
        }
        if !FLAWED.contains(&name.as_str()) {
            assert_eq!(said.pick["sha"], case.expected["head_sha"], "{name}: as the workflow picks");
        }
        let asked = (world.registry.asked().len(), world.bucket.requests().len());
        assert!(world.github.count("GET", "/repos") <= 2, "{name}: one page, and the pull request");
        assert!(asked.0 <= 2 + 100 && asked.1 <= 100, "{name}: {asked:?} requests");
        if name == "head_ready" {
            let (images, objects) = (world.registry.count("HEAD", "/v2/"), world.bucket.requests().len());
            assert_eq!((images, objects), (1, 2), "one image; the bucket is asked once more for its own name");
        }
    }
}

const IMAGES: &str = "q9t5s3a7/vllm-ci-postmerge-repo";

pub fn shas(count: usize) -> Vec<String> {
    (0..count).map(sha).collect()
}

pub fn image(sha: &str) -> String {
    format!("{IMAGES}:{sha}")
}

pub fn key(sha: &str, model: &str) -> String {
    format!("v3/{REPO}/main/{sha}/X/benchmark_results_{model}.json")
}

const CUDA: [&str; 2] = ["--target", "cuda:X"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_done_commits_cost_a_page_and_two_requests_each() {
    let all = shas(150);
    let objects: Vec<_> = all.iter().map(|sha| key(sha, "m")).collect();
    let images = all.iter().map(|sha| image(sha)).collect();
    let world = World::new(StandInHistory::linear(&all, "main"), images, &objects).await;
    world.configure("cuda", "", "m", "");
    let said = world.pick(&CUDA).await;
    assert_eq!((said.code, &said.pick["outcome"]), (1, &json!("nothing_new")), "{}", said.stderr);
    assert_eq!((said.whole["commits"].clone(), world.github.asked().len()), (json!(100), 1));
    assert_eq!(world.registry.asked().len(), 2 + 100);
    assert_eq!(world.bucket.requests().len(), 100);
    assert_eq!(said.pick["passed_over"][99]["kind"], "published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_merged_from_the_side_are_never_picked() {
    // A merge every third commit: its side is listed between the branch's own, and the list comes in pages.
    let mut commits = Vec::new();
    for number in 0..300 {
        let (own, next, side) = (sha(number * 2), sha((number + 1) * 2), sha(number * 2 + 1));
        let last = number == 299;
        let mut parents = if last { Vec::new() } else { vec![next.clone()] };
        if number % 3 == 0 && !last {
            parents.push(side.clone());
        }
        commits.push(StandInCommit { sha: own, parents });
        if number % 3 == 0 && !last {
            commits.push(StandInCommit { sha: side, parents: vec![next] });
        }
    }
    let images = commits.iter().map(|commit| image(&commit.sha)).collect();
    // All of the branch's own last 100 are done; none of the side.
    let objects: Vec<_> = (0..100).map(|number| key(&sha(number * 2), "m")).collect();
    let tip = commits[0].sha.clone();
    let history = StandInHistory { commits, refs: [("main".to_owned(), tip)].into(), ..StandInHistory::default() };
    let world = World::new(history, images, &objects).await;
    world.configure("cuda", "", "m", "");
    let said = world.pick(&CUDA).await;
    assert_eq!((said.code, &said.pick["outcome"]), (1, &json!("nothing_new")), "{}", said.stderr);
    assert_eq!(said.whole["commits"], 100);
    assert_eq!(world.github.asked().len(), 2, "the second page begins where the first one broke off");
    for passed in said.pick["passed_over"].as_array().unwrap() {
        let number = usize::from_str_radix(passed["sha"].as_str().unwrap(), 16).unwrap() - 1;
        assert_eq!(number % 2, 0, "{passed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_cannot_speak_of_a_commit_hides_no_commit() {
    let all = shas(3);
    let images = BTreeSet::from([format!("{}!", image(&all[0])), image(&all[1]), image(&all[2])]);
    let world = World::new(StandInHistory::linear(&all, "main"), images.clone(), &[]).await;
    world.configure("cuda", "", "m", "");
    let said = world.pick(&CUDA).await;
    assert_eq!((said.code, &said.pick["outcome"], &said.pick["sha"]), (3, &json!("unknown"), &json!(all[0])));
    assert!(said.pick["error"].as_str().unwrap().contains("500"), "{}", said.pick);

    world.configure("cuda", "", "m", "    triggers: {pick: {unknown: pass_over}}\n");
    let said = world.pick(&CUDA).await;
    assert_eq!((said.code, &said.pick["sha"]), (0, &json!(all[1])), "as configured: {}", said.stderr);
    assert_eq!(said.pick["passed_over"][0]["kind"], "unknown");

    // Its results lie there: whatever the registry says, it is done.
    let world = World::new(StandInHistory::linear(&all, "main"), images, &[key(&all[0], "m")]).await;
    world.configure("cuda", "", "m", "");
    let said = world.pick(&CUDA).await;
    assert_eq!((said.code, &said.pick["sha"]), (0, &json!(all[1])), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_history_is_an_error_and_an_unknown_branch_too() {
    let all = shas(3);
    let world = World::new(StandInHistory::linear(&all, "main"), BTreeSet::new(), &[]).await;
    world.configure("cuda", "", "m", "");
    let said = world.pick(&["--target", "cuda:X", "--branch", "releases/v9"]).await;
    assert_eq!(said.code, 3);
    assert!(said.stderr.contains("has no branch `releases/v9`"), "{}", said.stderr);
    let path = world.dir.path().join("benchd.yaml");
    let config = fs::read_to_string(&path).unwrap().replace(&world.github.host, "127.0.0.1:1");
    fs::write(&path, config).unwrap();
    let said = world.pick(&CUDA).await;
    assert_eq!((said.code, said.pick), (3, Value::Null));
    assert!(said.stderr.contains("failed to ask GitHub"), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_may_be_read_counts_and_the_answer_says_so() {
    let all = shas(2);
    let images: BTreeSet<_> = all.iter().map(|sha| image(sha)).collect();
    let world = World::new(StandInHistory::linear(&all, "main"), images, &[key(&all[0], "m")]).await;
    world.configure("cuda", "", "m", "");
    let said = world.pick(&CUDA).await;
    assert_eq!(said.pick["sha"], json!(all[1]), "{}", said.stderr);
    let looked_in = said.whole["looked_in"].to_string();
    assert!(looked_in.contains("s3://ossci-benchmarks") && looked_in.contains("anonymously"), "{looked_in}");

    let path = world.dir.path().join("benchd.yaml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("publish: {to", "publish: {shadow: true, to")).unwrap();
    let before = world.bucket.requests().len();
    let said = world.pick(&CUDA).await;
    assert_eq!((said.code, &said.pick["sha"]), (0, &json!(all[0])), "what lies in a shadow is not ours");
    assert_eq!(world.bucket.requests().len(), before, "and is not asked for");
    let looked_in = said.whole["looked_in"].to_string();
    assert!(looked_in.contains("shadow") && looked_in.contains("store only"), "{looked_in}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_model_has_its_own_commit_and_images_are_asked_for_once() {
    let all = shas(20);
    let images: BTreeSet<_> = all.iter().map(|sha| image(sha)).collect();
    let objects: Vec<_> = all.iter().take(10).map(|sha| key(sha, "b_m")).chain([key(&all[0], "a")]).collect();
    let world = World::new(StandInHistory::linear(&all, "main"), images, &objects).await;
    world.configure("cuda", "", "m", "");
    let tests = json!([
        {"test_name": "latency_a", "parameters": {"model": "A", "tensor_parallel_size": 1}},
        {"test_name": "latency_b", "parameters": {"model": "B/M", "tensor_parallel_size": 1}},
        {"test_name": "latency_c", "parameters": {"model": "c", "tensor_parallel_size": 4}},
    ]);
    fs::write(world.dir.path().join("benchmarks/cuda/latency-tests.json"), tests.to_string()).unwrap();
    let said = world.pick(&CUDA).await;
    let picks = said.whole["picks"].as_array().unwrap();
    let of = |index: usize| (picks[index]["model"].as_str().unwrap(), picks[index]["sha"].as_str().unwrap());
    assert_eq!((of(0), of(1), picks.len()), (("a", &*all[1]), ("b/m", &*all[10]), 2), "{}", said.stderr);
    let mut asked: Vec<_> = world.registry.asked().into_iter().filter(|a| a.method == "HEAD").map(|a| a.path).collect();
    let all_asked = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), all_asked, "no image twice");
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_is_asked_instead_of_github() {
    let work = tempfile::tempdir().unwrap();
    let origin = work.path().join("origin");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "--quiet"]);
    for number in 0..3 {
        git(&origin, &["commit", "--quiet", "--allow-empty", "-m", &format!("c{number}")]);
    }
    git(&origin, &["checkout", "--quiet", "-b", "side"]);
    git(&origin, &["commit", "--quiet", "--allow-empty", "-m", "side"]);
    let side = git(&origin, &["rev-parse", "HEAD"]);
    git(&origin, &["checkout", "--quiet", "main"]);
    git(&origin, &["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
    let commits = git(&origin, &["log", "--first-parent", "--format=%H"]);
    let commits: Vec<_> = commits.lines().map(str::to_owned).collect();
    git(work.path(), &["clone", "--quiet", "origin", "clone"]);

    let images: BTreeSet<_> = commits.iter().chain([&side]).map(|sha| image(sha)).collect();
    let objects: Vec<_> = commits.iter().take(2).map(|sha| key(sha, "m")).collect();
    let world = World::new(StandInHistory::linear(&shas(1), "main"), images, &objects).await;
    world.configure("cuda", "", "m", "");
    let clone = work.path().join("clone");
    let said = world.pick(&["--target", "cuda:X", "--checkout", clone.to_str().unwrap()]).await;
    assert_eq!((said.code, &said.pick["sha"]), (0, &json!(commits[2])), "{}", said.stderr);
    assert_eq!(said.whole["commits"], 4, "the whole history is shorter than the look-back");
    // As within a hook of another repository.
    let mut command = benchd();
    command.env("DOCKER_CONFIG", "/nonexistent").args(["pick", "--json", "--target", "cuda:X", "--checkout"]);
    command.arg(&clone).arg("--config").arg(world.dir.path().join("benchd.yaml"));
    let other = work.path().join("other");
    git(work.path(), &["init", "--quiet", "other"]);
    git(&other, &["commit", "--quiet", "--allow-empty", "-m", "another repository"]);
    command.env("GIT_DIR", other.join(".git")).env("GIT_WORK_TREE", &other);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let within: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(within["picks"][0]["sha"], json!(commits[2]));
    assert_eq!(world.github.asked().len(), 0);

    git(work.path(), &["clone", "--quiet", "--depth=2", &format!("file://{}", origin.display()), "shallow"]);
    let shallow = work.path().join("shallow");
    let said = world.pick(&["--target", "cuda:X", "--checkout", shallow.to_str().unwrap()]).await;
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.whole["note"].as_str().unwrap().contains("shallow"), "{}", said.whole);
}
