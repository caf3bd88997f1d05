//! Commands in comments: who may, what is done, what is answered, and each once.

use benchd::model::{Asked, RunPhase, Trigger};
use benchd::queue::Outcome;
use benchd::step::Step;
use benchd::store::{LookKind, Mark};
use github_standin::PullRequest;
use serde_json::json;

use super::{House, REPO, label_both};

impl House {
    /// Somebody comments, and what follows.
    /// Presses "Re-run" beside the check of a commit; what the pull request is told.
    async fn wants_again(&self, pull: &PullRequest, by: &str, sha: &str) -> Vec<String> {
        let before = self.told(pull).await.len();
        let now = self.clock.now();
        let facts = json!({"sender": by, "sha": sha, "name": "benchd", "external_id": null});
        let mark = Mark::at_once(&REPO.parse().unwrap(), LookKind::CheckRun, 7, "rerequested", now).knowing(facts);
        let mut write = self.context.store.write(Step::MarkFound).await.unwrap();
        write.look_at(&mark, now).await.unwrap();
        write.commit().await.unwrap();
        self.take().await;
        self.told(pull).await.split_off(before)
    }

    async fn say(&self, pull: &PullRequest, by: &str, body: &str) -> Vec<String> {
        let before = self.told(pull).await.len();
        pull.by(by).comment(body);
        self.hear().await;
        self.told(pull).await.split_off(before)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_for_who_may_and_acknowledged_first() {
    let house = House::new("").await;
    let pull = house.own();
    assert_eq!(house.say(&pull, "ann", "/benchd run models=m repeats=2").await, ["eyes", "+1"]);
    let [run] = &house.pull_runs(&pull).await[..] else { panic!("one run") };
    assert_eq!(run.run.trigger, Trigger::Command { number: 1 });
    assert_eq!((run.asked, run.by.as_deref()), (Asked::Part, Some("ann")));
    assert_eq!(house.context.store.jobs_of_run(run.run.id).await.unwrap().len(), 2, "one model, twice");
    label_both(&pull);
    house.hear().await;
    assert_eq!(house.runs(&pull).await.len(), 2, "a part does not stand for the whole");
    let told = house.say(&pull, "ann", "/benchd run").await;
    assert!(told[2].starts_with("Run ") && told[2].ends_with("already."), "{told:?}");
    assert_eq!(house.runs(&pull).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_done_once_whatever_comes_again() {
    let mut house = House::new("").await;
    let pull = house.own();
    let id = pull.by("ann").comment("/benchd run");
    house.hear().await;
    for _ in 0..2 {
        let now = house.clock.now();
        let mut write = house.context.store.write(Step::MarkFound).await.unwrap();
        let mark = Mark::at_once(&REPO.parse().unwrap(), LookKind::Comment, id, "redelivered", now);
        write.look_at(&mark, now).await.unwrap();
        write.commit().await.unwrap();
        house.take().await;
        house.restarted().await;
    }
    pull.edit_comment(id, "/benchd  run\n\nthanks");
    house.hear().await;
    assert_eq!(house.runs(&pull).await.len(), 1);
    assert_eq!(house.told(&pull).await, ["eyes", "+1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_mended_is_done() {
    let house = House::new("").await;
    let pull = house.own();
    let id = pull.by("ann").comment("/benchd rnu");
    house.hear().await;
    assert_eq!(house.runs(&pull).await, []);
    pull.edit_comment(id, "/benchd run");
    house.hear().await;
    assert_eq!(house.runs(&pull).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_once_and_authors_may_little() {
    let house = House::new("").await;
    let pull = house.own();
    let told = house.say(&pull, "mallory", "/benchd run\n/benchd cancel\n/benchd bogus").await;
    assert_eq!((told.len(), told[0].as_str()), (2, "-1"), "{told:?}");
    assert!(told[1].contains("write permission"));
    assert_eq!(house.say(&pull, "mallory", "/benchd run").await, ["-1"], "and not told why again");
    assert_eq!(house.say(&pull, "tess", "/benchd run").await.len(), 2, "another is told");
    let told = house.say(&pull, "bob", "/benchd run").await;
    assert_eq!((told[0].as_str(), told[1].as_str(), told.len()), ("eyes", "-1", 3));
    let told = house.say(&pull, "bob", "/benchd status").await;
    assert_eq!((told[1].as_str(), told.len()), ("+1", 3));
    assert!(told[2].contains(&pull.head()) && told[2].contains("not measured"), "{told:?}");
    assert_eq!(house.runs(&pull).await, []);
    let told = house.say(&pull, "bob", "/benchd rerun").await;
    assert!(told[2].contains("not yet"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_may_rerun_what_was_measured_and_not_for_ever() {
    let house = House::new("commands: {author_reruns: 1}").await;
    let pull = house.own();
    label_both(&pull);
    house.hear().await;
    let told = house.say(&pull, "bob", "/benchd rerun").await;
    assert!(told[2].contains("already"), "{told:?}");
    house.end_all().await;
    assert_eq!(house.say(&pull, "bob", "/benchd rerun").await, ["eyes", "+1"]);
    let runs = house.pull_runs(&pull).await;
    assert_eq!(runs[1].run.trigger, Trigger::Rerun { of: runs[0].run.id });
    house.end_all().await;
    let told = house.say(&pull, "bob", "/benchd rerun").await;
    assert!(told[2].contains("as often as"), "{told:?}");
    assert_eq!(house.say(&pull, "ann", "/benchd rerun").await, ["eyes", "+1"]);
    assert_eq!(house.runs(&pull).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_retry_act_on_the_runs() {
    let house = House::new("").await;
    let pull = house.own();
    label_both(&pull);
    house.hear().await;
    assert_eq!(house.say(&pull, "bob", "/benchd cancel").await, ["eyes", "+1"]);
    assert_eq!(house.runs(&pull).await[0].1, RunPhase::Cancelled);
    house.reconcile(&pull).await;
    assert_eq!(house.runs(&pull).await.len(), 1, "the labels do not start it again");
    assert_eq!(house.say(&pull, "ann", "/benchd cancel").await[1], "confused");
    assert_eq!(house.say(&pull, "ann", "/benchd retry").await, ["eyes", "+1"]);
    assert_eq!(house.runs(&pull).await, [(pull.head(), RunPhase::Queued)]);
    house.end_all().await;
    assert_eq!(house.say(&pull, "ann", "/benchd retry").await, ["eyes", "+1"]);
    pull.by("ann").close();
    house.hear().await;
    let told = house.say(&pull, "ann", "/benchd run").await;
    assert!(told[2].contains("closed"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_answered_with_help() {
    let house = House::new("").await;
    let pull = house.own();
    for (body, told) in [
        ("/benchd make me a sandwich @all", "`there is no command 'make'"),
        ("/benchd run env=TOKEN", "takes no 'env=TOKEN'"),
        ("/benchd run models=nobody", "no benchmark of cuda has them"),
        ("/benchd run targets=tpu", "this host is cuda"),
        ("/benchd run repeats=99", "must be 1 to 10"),
        (
            "/benchd run models=[a](http://x.example),<img/src=//x.example>",
            "`'models': <img/src=//x.example>, [a](http://x.example): no",
        ),
        ("/benchd run baseline=`[a](http://x.example)`", "`o/r has no commit, tag or branch ''[a](http://x.example)''"),
        ("/benchd run baseline=v9", "no commit, tag or branch 'v9'"),
    ] {
        let answers = house.say(&pull, "ann", body).await;
        assert_eq!((answers[0].as_str(), answers[1].as_str()), ("eyes", "confused"), "{body}");
        assert!(answers[2].contains(told), "{body}: {}", answers[2]);
    }
    assert_eq!(house.runs(&pull).await, []);
    for body in ["> /benchd run", "```\n/benchd run\n```", "please /benchd run"] {
        assert_eq!(house.say(&pull, "ann", body).await, Vec::<String>::new(), "{body}");
    }
    let id = pull.by("ann").comment("/benchd run");
    pull.delete_comment(id);
    house.hear().await;
    assert_eq!(house.runs(&pull).await, [], "the comment is gone");
    let own = house.say(&pull, "bench", "/benchd run").await;
    assert_eq!(own, Vec::<String>::new(), "our own account");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_wanted_again_is_a_rerun_by_who_may() {
    let house = House::new("").await;
    let pull = house.own();
    label_both(&pull);
    house.hear().await;
    house.end_all().await;
    let first = pull.head();
    for (by, sha, runs, told) in [
        ("mallory", first.clone(), 1, "commands are taken from people with write permission"),
        ("ann", "1".repeat(40), 1, ""),
        ("ann", first.clone(), 2, ""),
        ("ann", first.clone(), 2, "waits in the queue already"),
    ] {
        let said = house.wants_again(&pull, by, &sha).await;
        assert_eq!(house.runs(&pull).await.len(), runs, "{by} {sha}: one is open already");
        assert_eq!(said.is_empty(), told.is_empty(), "{by} {sha}: {said:?}");
        assert!(said.iter().all(|said| said.contains(told) && said.contains(&sha)), "{by} {sha}: {said:?}");
    }
    pull.push(github_standin::CommitSpec::new("second").files(&["a.py"]));
    house.hear().await;
    let said = house.wants_again(&pull, "ann", &first).await;
    assert!(said.len() == 1 && said[0].contains("not the head any more"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_takes_the_place_of_what_a_command_started() {
    let house = House::new("").await;
    let pull = house.own();
    house.say(&pull, "ann", "/benchd run").await;
    let first = pull.head();
    pull.push(github_standin::CommitSpec::new("second").files(&["a.py"]));
    house.hear().await;
    assert_eq!(house.runs(&pull).await, [(first.clone(), RunPhase::Queued)], "nobody asked for the second");
    house.say(&pull, "ann", "/benchd run").await;
    assert_eq!(house.runs(&pull).await, [(first, RunPhase::Superseded), (pull.head(), RunPhase::Queued)]);
}

/// What was asked and answered, without what differs from one time to another.
struct Talk {
    lines: Vec<String>,
}

impl Talk {
    async fn say(&mut self, house: &House, pull: &PullRequest, by: &str, body: &str) {
        let told = house.say(pull, by, body).await;
        let mut text = format!("{by}: {body}\n{}", told.join("\n"));
        for (number, run) in house.pull_runs(pull).await.iter().enumerate() {
            text = text.replace(&run.run.id.to_string(), &format!("RUN-{}", number + 1));
        }
        let text = text.replace(&pull.head(), "HEAD").replace(&pull.head()[..10], "HEAD");
        self.lines.push(text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_reads_well() {
    let mut talk = Talk { lines: Vec::new() };
    let house = House::new("commands: {author_reruns: 1}").await;
    let pull = house.own();
    for (by, body) in [
        ("ann", "/benchd help"),
        ("ann", "/benchd make it fast"),
        ("ann", "/benchd run env=TOKEN"),
        ("ann", "/benchd run models=nobody"),
        ("ann", "/benchd run baseline=v9"),
        ("mallory", "/benchd run"),
        ("bob", "/benchd run"),
        ("bob", "/benchd rerun"),
        ("ann", "/benchd status"),
        ("ann", "/benchd cancel"),
        ("ann", "/benchd retry"),
        ("ann", "/benchd run"),
        ("ann", "/benchd run"),
        ("bob", "/benchd status"),
        ("ann", "/benchd retry"),
    ] {
        talk.say(&house, &pull, by, body).await;
    }
    let claimed = house.begin().await;
    talk.say(&house, &pull, "ann", "/benchd status").await;
    assert_eq!(house.context.queue.give_back(&claimed.claim, "enough").await.unwrap(), Outcome::Performed);
    house.end_all().await;
    talk.say(&house, &pull, "ann", "/benchd status").await;
    talk.say(&house, &pull, "bob", "/benchd rerun").await;
    house.end_all().await;
    talk.say(&house, &pull, "bob", "/benchd rerun").await;
    pull.by("ann").close();
    house.hear().await;
    for body in ["/benchd run", "/benchd rerun", "/benchd retry", "/benchd status"] {
        talk.say(&house, &pull, "ann", body).await;
    }
    let closed = house.own();
    closed.by("ann").close();
    house.hear().await;
    talk.say(&house, &closed, "ann", "/benchd retry").await;

    let house = House::new("forks: never").await;
    let (_fork, pull) = house.by_fork();
    talk.say(&house, &pull, "ann", "/benchd run").await;
    let house = House::new("forks: approve_each_commit").await;
    let (fork, pull) = house.by_fork();
    house.hear().await;
    fork.commit("patch", github_standin::CommitSpec::new("second").files(&["a.py"]));
    talk.say(&house, &pull, "ann", "/benchd run").await;
    insta::assert_snapshot!(talk.lines.join("\n\n"));
}
