//! Every trigger from one end to the other: the real `benchd serve` is an App on the stand-in GitHub, with a real engine,
//! registry and S3.

mod forks;
mod pulls;
mod triggers;

use std::fs;
use std::time::{Duration, Instant};

use github_standin::{CommentSeen, CommitSpec, PullRequest, PullSpec, Repository, Role, StandIn};
use reqwest::Method;
use serde_json::{Value, json};

use super::kills::daemon::{Case, Daemon, PATIENCE};
use super::kills::world::World;
use super::run::project::good;

const LABELS: [&str; 2] = ["perf-benchmarks", "ready"];
const SECRET: &str = "a-webhook-secret";
/// What links begin with: the proxy that stands before the daemon.
const PUBLIC: &str = "https://bench.example";
const COMMENTS: &str = "/repos/*/*/issues/*/comments";
const COMMENT: &str = "/repos/*/*/issues/comments/*";
const CHECKS: &str = "/repos/*/*/check-runs";
const CHECK: &str = "/repos/*/*/check-runs/*";

/// How the daemon learns what happens on GitHub.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Learns {
    ByWebhook,
    /// Webhooks cannot reach it.
    ByAsking,
}

/// GitHub with one repository, and the daemon that is its App.
struct Hub<'a> {
    gh: StandIn,
    repo: Repository,
    case: Case<'a>,
    daemon: Daemon,
}

impl<'a> Hub<'a> {
    /// The daemon follows the repository; `ann` may write, everybody else reads.
    async fn new(world: &'a World, learns: Learns) -> Self {
        let gh = StandIn::start();
        let repo = gh.repository("example/engine");
        repo.commit("main", CommitSpec::new("long ago"));
        repo.permit("ann", Role::Write);
        let app = gh.install_app(4711, "benchd");
        let triggers = "    triggers: {schedule: [], pull_request: {quiet_for: 1s, ignore_paths: [\"*.md\"]}}";
        let case = Case::in_bucket(world, "github", "engine", triggers);
        fs::write(case.dir().join("app.pem"), &app.private_key_pem).unwrap();
        fs::write(case.dir().join("webhook-secret"), SECRET).unwrap();
        let (secrets, reconcile) = match learns {
            Learns::ByWebhook => ("[webhook-secret]", "1h"),
            Learns::ByAsking => ("[]", "1s"),
        };
        let github = format!(
            "github: {{api_url: \"{}\", app: {{id: {}, private_key_file: app.pem}}, webhook_secret_files: {secrets}, \
             reconcile: {reconcile}, write_interval: 100ms}}\nrepositories:",
            gh.url(),
            app.app_id
        );
        case.configure("repositories:", &github);
        case.configure("http: {", &format!("http: {{public_url: \"{PUBLIC}\", "));
        case.configure("publish: {", "publish: {from: [pull_request, merge, release, schedule, manual], ");
        // Commits are GitHub's, and each image has the suite of its commit.
        case.configure(&format!("    checkout: {}\n", world.project.path("checkout").display()), "");
        case.configure("    suite: {kind: vllm, scripts: repository}\n", "");
        let daemon = case.listening().await;
        if learns == Learns::ByWebhook {
            gh.webhook(&daemon.url("/webhook/github"), SECRET);
        }
        // What is there before the first look has ended is no news; the repository is asked for before it and after it.
        gh.called("GET", "/repos/*/*", 2).await;
        Self { gh, repo, case, daemon }
    }

    /// The daemon is killed and started again.
    async fn restarted(self) -> Self {
        self.daemon.kill();
        Self { daemon: self.case.listening().await, ..self }
    }

    /// Puts the image of a commit that is yet to come, whose suite is `script`; the commit's id.
    async fn image(&self, digit: &str, script: &str) -> String {
        let sha = digit.repeat(40);
        self.case.world.project.push_suite(&sha, script).await;
        sha
    }

    /// A pull request of `bob`, whose commit's suite is `script`.
    async fn pull(&self, digit: &str, script: &str) -> PullRequest {
        let (sha, branch) = (self.image(digit, script).await, format!("work-{digit}"));
        self.repo.commit(&branch, CommitSpec::new("faster").sha(&sha).files(&["a.py"]));
        self.repo.open(PullSpec::new(&branch).author("bob"))
    }

    /// Lets a suite that is [`held`] go on.
    fn let_go(&self) {
        self.case.world.project.write("hf_cache/go", "");
    }

    /// Runs with this trigger, oldest first.
    async fn runs(&self, kind: &str) -> Vec<u64> {
        let runs = self.daemon.runs().await;
        let of_kind = runs.iter().rev().filter(|run| run["trigger"]["kind"] == kind);
        of_kind.map(|run| run["id"].as_u64().unwrap()).collect()
    }

    /// Waits until the only run with this trigger is in this state, and everybody who is owed its news has them.
    async fn run(&self, kind: &str, state: &str) -> u64 {
        let stands = |run: &Value| run["trigger"]["kind"] == kind && run["state"] == state;
        self.daemon.wait("/api/v1/runs", |runs| runs.as_array().unwrap().iter().any(stands)).await;
        let [run] = self.runs(kind).await[..] else { panic!("one run by {kind}") };
        let told = |run: &Value| run["outbox"].as_array().unwrap().iter().all(|row| row["state"] != "owed");
        self.daemon.wait(&format!("/api/v1/runs/{run}"), told).await;
        run
    }

    /// The same of a run that was measured: whole, in one container.
    async fn measured(&self, kind: &str) -> u64 {
        let (run, world) = (self.run(kind, "published").await, self.case.world);
        world.assert_whole_of(&self.case, &self.daemon, run, 0, 1).await;
        assert_eq!(world.events(run).await, ["start", "0"], "{kind}: measured once");
        run
    }

    /// Commits whose records lie in the bucket, with their branch: `main/aaaa..`.
    fn published(&self) -> Vec<String> {
        let objects = self.case.world.objects("github");
        let place = |key: &str| {
            let (place, _) = key.strip_prefix("v3/example/engine/").unwrap().split_once("/Test_CPU_4c/").unwrap();
            place.to_owned()
        };
        let mut places: Vec<String> = objects.iter().map(|(key, _)| place(key)).collect();
        places.sort();
        places
    }

    /// The only comment of benchd on a pull request.
    fn own(&self, pull: &PullRequest) -> CommentSeen {
        let comments = pull.comments();
        let own: Vec<_> = comments.iter().filter(|comment| comment.author == "benchd[bot]").collect();
        assert_eq!(own.len(), 1, "{comments:#?}");
        own[0].clone()
    }

    /// What that says.
    fn comment(&self, pull: &PullRequest) -> String {
        self.own(pull).body
    }

    /// The only check run of a commit.
    fn check(&self, sha: &str) -> Value {
        let checks = self.repo.check_runs(sha);
        assert_eq!(checks.len(), 1, "{checks:#?}");
        checks[0].clone()
    }

    /// Waits until the check of a commit has this status and conclusion.
    async fn until_check(&self, sha: &str, wanted: (&str, Value)) {
        let until = Instant::now() + PATIENCE;
        loop {
            let checks = self.repo.check_runs(sha);
            if checks.iter().any(|check| (&check["status"], &check["conclusion"]) == (&json!(wanted.0), &wanted.1)) {
                return;
            }
            assert!(Instant::now() < until, "{wanted:?}: {checks:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the comment begins with `words`.
    async fn until_comment(&self, pull: &PullRequest, words: &str) {
        let until = Instant::now() + PATIENCE;
        while !pull.comments().iter().any(|comment| comment.body.starts_with(words)) {
            assert!(Instant::now() < until, "{words:?}: {:#?}", pull.comments());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything that one field said, in all writes to these routes, without repetitions.
    fn said(&self, create: &str, change: &str, word: impl Fn(&Value) -> String) -> Vec<String> {
        let calls = self.gh.calls();
        let writes = calls.filter(|call| {
            let of = |method, route| calls.to(method, route).0.iter().any(|other| other.began == call.began);
            of("POST", create) || of("PATCH", change)
        });
        let mut said: Vec<String> = writes.0.iter().map(|call| word(&call.body)).collect();
        said.dedup();
        said
    }

    /// Follows every link of a text as anybody would: those to benchd lead somewhere, the others to a commit on GitHub.
    async fn assert_links(&self, text: &str, wanted: usize) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let links = text.split("](<").skip(1).map(|rest| rest.split_once(">)").unwrap().0);
        let (own, others): (Vec<&str>, Vec<&str>) = links.partition(|link| link.starts_with(PUBLIC));
        assert_eq!(own.len(), wanted, "{text}");
        for link in own {
            let there = self.daemon.url(link.strip_prefix(PUBLIC).unwrap());
            assert_eq!(client.get(&there).send().await.unwrap().status(), 200, "{there}");
        }
        let commit = format!("{}/example/engine/commit/", self.gh.url());
        assert!(others.iter().all(|link| link.starts_with(&commit)), "{others:?}");
    }

    /// Pauses the host, or ends that.
    async fn pause(&self, paused: bool) {
        let what = json!({"what": "host"});
        let (method, path, body) = match paused {
            true => (Method::POST, "/api/v1/pauses", Some(&what)),
            false => (Method::DELETE, "/api/v1/pauses/host", None),
        };
        // The answer to the end of a pause has no body.
        let answer = self.daemon.ask(method, path, None, body).await;
        assert!(answer.is_none_or(|(status, _)| status == 201));
    }

    /// What must hold whatever happened: deliveries are taken, writes are serial, our own limits are kept.
    async fn assert_well(&self) {
        self.gh.settled().await;
        let deliveries = self.gh.deliveries();
        let taken = |status: Option<u16>| status.is_some_and(|status| status == 200 || status == 202);
        for delivery in deliveries.iter().filter(|delivery| delivery.hooked) {
            assert!(taken(delivery.status), "{}: {:?}", delivery.event, delivery.status);
        }
        self.gh.calls().writes().assert_serial();
        self.daemon.until_trouble(None).await;
    }
}

/// A suite that waits for [`Hub::let_go`].
fn held(script: &str) -> String {
    format!("until [ -e \"$HF_HOME/go\" ]; do sleep 0.1; done\n{script}")
}

/// Its first words, which are the answer.
fn answer(body: &Value) -> String {
    body["body"].as_str().unwrap().split("**").nth(1).unwrap().to_owned()
}
