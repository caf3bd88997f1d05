//! Deliveries: what is sent for which change, signed, and how they go wrong.

use axum::http::StatusCode;
use github_standin::{CommitSpec, Delivery, DeliveryFault, Order, PullRequest, Repository, StandIn};
use serde_json::json;

use crate::receiver::Receiver;
use crate::{app_clients, small};

async fn watched() -> (StandIn, Repository, PullRequest, Receiver) {
    let (gh, repo, pull) = small().await;
    let receiver = Receiver::start(StatusCode::ACCEPTED).await;
    gh.webhook(&receiver.url, "s");
    (gh, repo, pull, receiver)
}

#[tokio::test]
async fn every_change_is_told_in_order_and_signed() {
    let (gh, repo, pull, receiver) = watched().await;
    pull.by("mergify[bot]").label("ready");
    pull.unlabel("ready");
    pull.convert_to_draft();
    pull.ready_for_review();
    let before = pull.head();
    let after = pull.push(CommitSpec::new("more"));
    pull.close();
    pull.reopen();
    let comment = pull.comment("hello");
    pull.edit_comment(comment, "bye");
    pull.delete_comment(comment);
    repo.tag("v1", "main");
    let merged = pull.by("boss").merge();
    gh.suspend_installation(true);
    gh.settled().await;
    let got = receiver.got();
    assert_eq!(
        receiver.names(),
        [
            "pull_request.labeled",
            "pull_request.unlabeled",
            "pull_request.converted_to_draft",
            "pull_request.ready_for_review",
            "push",
            "pull_request.synchronize",
            "pull_request.closed",
            "pull_request.reopened",
            "issue_comment.created",
            "issue_comment.edited",
            "issue_comment.deleted",
            "create",
            "push",
            "pull_request.closed",
            "push",
            "installation.suspend",
        ]
    );
    assert!(got.iter().all(|g| g.is_signed_with("s") && !g.is_signed_with("t")));
    let (labeled, sync) = (got[0].json(), got[5].json());
    assert_eq!((&labeled["label"]["name"], &labeled["sender"]["type"]), (&json!("ready"), &json!("Bot")));
    assert_eq!(
        (&sync["before"], &sync["after"], &sync["pull_request"]["head"]["sha"]),
        (&json!(before), &json!(after), &json!(after))
    );
    assert_eq!(got[12].json()["ref"], "refs/tags/v1");
    let closed = got[13].json();
    assert_eq!(
        (&closed["pull_request"]["merged"], &closed["pull_request"]["merge_commit_sha"]),
        (&json!(true), &json!(merged))
    );
    let push = got[14].json();
    assert_eq!(
        (&push["ref"], &push["after"], &push["forced"]),
        (&json!("refs/heads/main"), &json!(merged), &json!(false))
    );
}

#[tokio::test]
async fn what_the_client_writes_comes_back() {
    let (gh, repo, pull, receiver) = watched().await;
    let app = gh.install_app(4711, "benchd");
    let (_, http) = app_clients(&gh, &app);
    http.issues("o", "r").create_comment(1, "mine").await.unwrap();
    let run = http.checks("o", "r").create_check_run("benchmarks", pull.head()).send().await.unwrap();
    repo.by("ann").rerequest(run.id.0);
    gh.settled().await;
    assert_eq!(receiver.names(), ["issue_comment.created", "check_run.created", "check_run.rerequested"]);
    let got = receiver.got();
    assert_eq!(
        (&got[0].json()["sender"]["login"], &got[0].json()["installation"]["id"]),
        (&json!("benchd[bot]"), &json!(app.installation_id))
    );
    assert_eq!(got[2].json()["sender"]["login"], "ann");
}

#[tokio::test]
async fn deliveries_go_wrong_as_told() {
    let (gh, _, pull, receiver) = watched().await;
    let guid = |gh: &StandIn, label: &str| {
        let of =
            |d: &&Delivery| d.body.contains(&format!("\"name\":\"{label}\"")) && d.action.as_deref() == Some("labeled");
        gh.deliveries().iter().find(of).unwrap().guid.clone()
    };
    let go_wrong = |fault| gh.delivery_fault("pull_request", Some("labeled"), fault, 1);
    go_wrong(DeliveryFault::Lost);
    pull.label("lost");
    go_wrong(DeliveryFault::Doubled);
    pull.label("doubled");
    go_wrong(DeliveryFault::Behind(2));
    pull.label("overtaken");
    pull.unlabel("lost");
    go_wrong(DeliveryFault::WrongSecret);
    pull.label("forged");
    gh.settled().await;
    assert_eq!(
        receiver.names(),
        [
            "pull_request.labeled",
            "pull_request.labeled",
            "pull_request.unlabeled",
            "pull_request.labeled",
            "pull_request.labeled",
        ]
    );
    let got = receiver.got();
    assert!(got[0].guid == got[1].guid && got[0].guid == guid(&gh, "doubled"));
    assert!(!got[3].is_signed_with("s"));
    assert_eq!(got[4].guid, guid(&gh, "overtaken"));
    gh.redeliver(&guid(&gh, "lost"));
    gh.settled().await;
    let last = receiver.got().pop().unwrap();
    assert_eq!(last.json()["label"]["name"], "lost");
    assert!(last.is_signed_with("s"));
}

#[tokio::test]
async fn late_ones_are_passed_and_held_ones_shuffled() {
    let (gh, _, pull, receiver) = watched().await;
    gh.delivery_fault("pull_request", Some("labeled"), DeliveryFault::Late(std::time::Duration::from_millis(50)), 1);
    gh.in_order(Order::Kept, || {
        pull.label("late");
        pull.close();
    });
    gh.settled().await;
    assert_eq!(receiver.names(), ["pull_request.closed", "pull_request.labeled"]);
    gh.in_order(Order::Reversed, || {
        pull.label("a");
        pull.label("b");
    });
    gh.settled().await;
    let labels: Vec<_> = receiver.got()[2..].iter().map(|g| g.json()["label"]["name"].clone()).collect();
    assert_eq!(labels, ["b", "a"]);
    gh.in_order(Order::Shuffled(7), || (0..20).for_each(|n| pull.label(&n.to_string())));
    gh.settled().await;
    let shuffled: Vec<String> =
        receiver.got()[4..].iter().map(|g| g.json()["label"]["name"].as_str().unwrap().to_owned()).collect();
    let sorted: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert!(shuffled != sorted && sorted.iter().all(|l| shuffled.contains(l)));
}

#[tokio::test]
async fn a_failed_delivery_is_recorded_and_not_repeated() {
    let (gh, _, pull) = small().await;
    let receiver = Receiver::start(StatusCode::INTERNAL_SERVER_ERROR).await;
    assert!(!gh.deliveries().is_empty());
    gh.webhook(&receiver.url, "s");
    pull.label("ready");
    gh.settled().await;
    assert_eq!(receiver.names(), ["pull_request.labeled"], "nothing from before, and nothing twice");
    let last = gh.deliveries().pop().unwrap();
    assert_eq!((last.status, last.attempts), (Some(500), 1));
}

#[tokio::test]
async fn a_push_with_a_forced_update_says_so() {
    let (gh, repo, _, receiver) = watched().await;
    let first = repo.tip("main");
    repo.commit("main", CommitSpec::new("second").files(&["x"]));
    repo.set_branch("main", &first);
    repo.delete_branch("work");
    gh.settled().await;
    assert_eq!(receiver.names(), ["push", "push", "pull_request.closed", "push"]);
    let pushes: Vec<_> = receiver.got().iter().filter(|g| g.event == "push").map(|g| g.json()).collect();
    assert_eq!((&pushes[0]["forced"], &pushes[0]["commits"][0]["modified"]), (&json!(false), &json!(["x"])));
    assert_eq!(pushes[1]["forced"], true);
    assert_eq!((&pushes[2]["deleted"], &pushes[2]["after"]), (&json!(true), &json!("0".repeat(40))));
}

#[tokio::test]
async fn pushes_to_a_fork_are_seen_only_through_its_pull_request() {
    let (gh, repo, _, receiver) = watched().await;
    let fork = repo.fork("stranger");
    fork.commit("patch", CommitSpec::new("patch"));
    let pull = repo.open(github_standin::PullSpec::new("patch").from_fork(&fork).author("stranger"));
    let head = pull.push(CommitSpec::new("more"));
    pull.close();
    let later = fork.commit("patch", CommitSpec::new("while closed"));
    assert_eq!(pull.head(), head);
    pull.reopen();
    assert_eq!(pull.head(), later);
    gh.settled().await;
    let expected = ["opened", "synchronize", "closed", "reopened"].map(|action| format!("pull_request.{action}"));
    assert_eq!(receiver.names(), expected);
    assert_eq!(receiver.got()[0].json()["pull_request"]["head"]["repo"]["fork"], true);
}

#[tokio::test]
async fn any_event_can_be_sent() {
    let (gh, _, _, receiver) = watched().await;
    gh.send_event("hovercraft", &json!({ "action": "eels", "repository": { "id": 7 } }));
    gh.settled().await;
    assert_eq!(receiver.names(), ["hovercraft.eels"]);
    assert!(receiver.got()[0].is_signed_with("s"));
}

#[tokio::test]
async fn a_burst_on_fifty_pull_requests_arrives_whole_in_any_order() {
    let (gh, repo, _, receiver) = watched().await;
    let history = (0..500).map(|n| CommitSpec::new(&format!("{n}"))).collect();
    repo.push("main", history);
    let pulls: Vec<PullRequest> = (0..50)
        .map(|n| {
            repo.commit(&format!("b{n}"), CommitSpec::new("x"));
            repo.open(github_standin::PullSpec::new(&format!("b{n}")))
        })
        .collect();
    gh.settled().await;
    let before = receiver.got().len();
    gh.in_order(Order::Shuffled(1), || {
        for pull in &pulls {
            for label in ["perf-benchmarks", "ready", "a", "b", "c"] {
                pull.label(label);
            }
            pull.close();
        }
    });
    gh.settled().await;
    let got: Vec<_> = receiver.got().split_off(before);
    let mut guids: Vec<_> = got.iter().map(|g| g.guid.clone()).collect();
    guids.sort();
    guids.dedup();
    assert_eq!((got.len(), guids.len()), (300, 300));
}
