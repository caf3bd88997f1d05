//! Pull requests: labels, commands, "Re-run", and what is not measured.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_labels_lead_to_one_comment_and_one_check_run_that_live_through_queue_run_and_result() {
    let world = World::new(0).await;
    let hub = Hub::new(&world, Learns::ByWebhook).await;
    // Something to be held against.
    let base = hub.image("a", &good("0.5")).await;
    hub.repo.commit("main", CommitSpec::new("on main").sha(&base));
    hub.measured("merge").await;

    let pull = hub.pull("b", &held(&good("0.5"))).await;
    let head = pull.head();
    hub.pause(true).await;
    pull.by("ann").label(LABELS[0]);
    pull.by("mergify[bot]").label(LABELS[1]);
    hub.until_check(&head, ("queued", Value::Null)).await;
    hub.pause(false).await;
    hub.until_check(&head, ("in_progress", Value::Null)).await;
    hub.let_go();
    let run = hub.measured("pull_request").await;

    assert_eq!(hub.said(COMMENTS, COMMENT, answer), ["Queued", "Running", "No change of 1 % or more"]);
    let status = |body: &Value| body["status"].as_str().unwrap().to_owned();
    assert_eq!(hub.said(CHECKS, CHECK, status), ["queued", "in_progress", "completed"]);
    let calls = hub.gh.calls();
    assert_eq!((calls.to("POST", COMMENTS).count(), calls.to("POST", CHECKS).count()), (1, 1));

    let comment = hub.comment(&pull);
    for told in [
        "**No change of 1 % or more** on `1x Test_CPU_4c`: 2 series compared.",
        "because of the labels of this pull request, asked by `mergify[bot]`.",
        &format!("Baseline: [`{}`]", &base[..10]),
        "Series: 2 within the threshold. Points: 2 measured.",
        "docker create",
        &format!("run {run}"),
    ] {
        assert!(comment.contains(told), "{told:?} is not in {comment}");
    }
    // The run, its values, the log of its job.
    hub.assert_links(&comment, 3).await;
    let check = hub.check(&head);
    assert_eq!((&check["name"], &check["conclusion"]), (&json!("benchd"), &json!("success")));
    assert!(check["output"]["title"].as_str().unwrap().starts_with("No change of 1 % or more"), "{check:#}");
    hub.assert_links(check["output"]["summary"].as_str().unwrap(), 3).await;
    let leads_to = format!("{}/example/engine/pull/1#issuecomment-{}", hub.gh.url(), hub.own(&pull).id);
    assert_eq!(check["details_url"], leads_to.as_str());
    assert_eq!(hub.published(), [format!("main/{base}"), format!("pull/1/head/{head}")]);

    // Everything once more, after the run: nothing follows from it.
    for delivery in hub.gh.deliveries().iter().filter(|delivery| delivery.hooked) {
        hub.gh.redeliver(&delivery.guid);
    }
    hub.assert_well().await;
    assert_eq!(hub.daemon.runs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_a_check_that_is_wanted_again_go_on_in_the_same_comment_and_check() {
    let world = World::new(0).await;
    let hub = Hub::new(&world, Learns::ByWebhook).await;
    let pull = hub.pull("a", &format!("[ -e \"$HF_HOME/go\" ] || exit 7\n{}", good("0.5"))).await;
    let head = pull.head();
    let asked = pull.by("ann").comment("/benchd run");
    let run = hub.run("command", "failed").await;
    let comment = hub.comment(&pull);
    assert!(comment.starts_with("**Failed** on `1x Test_CPU_4c`: "), "{comment}");
    // The run, and the log: of the job, of its failure, and of both points.
    hub.assert_links(&comment, 5).await;
    assert_eq!(hub.check(&head)["conclusion"], "failure");

    hub.let_go();
    let again = pull.by("ann").comment("/benchd retry");
    hub.until_comment(&pull, "**No baseline yet**").await;
    hub.until_check(&head, ("completed", json!("neutral"))).await;
    for comment in pull.comments().iter().filter(|comment| [asked, again].contains(&comment.id)) {
        assert_eq!(comment.reactions, ["eyes", "+1"], "{}", comment.body);
    }
    assert_eq!(hub.run("command", "published").await, run);

    let check = hub.check(&head);
    hub.repo.by("ann").rerequest(check["id"].as_u64().unwrap());
    hub.measured("rerun").await;
    assert!(hub.comment(&pull).contains("1 earlier run"), "{}", hub.comment(&pull));
    assert_eq!(hub.check(&head)["id"], check["id"]);
    hub.assert_well().await;
    assert_eq!(hub.daemon.runs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_measured_has_a_quiet_check() {
    let world = World::new(0).await;
    let hub = Hub::new(&world, Learns::ByWebhook).await;
    let waits = hub.repo.commit("waits", CommitSpec::new("faster").files(&["a.py"]));
    let docs = hub.repo.commit("docs", CommitSpec::new("explained").files(&["README.md"]));
    hub.repo.open(PullSpec::new("waits")).label(LABELS[0]);
    let pull = hub.repo.open(PullSpec::new("docs"));
    for label in LABELS {
        pull.label(label);
    }
    hub.until_check(&waits, ("completed", json!("neutral"))).await;
    hub.until_check(&docs, ("completed", json!("skipped"))).await;
    assert_eq!(hub.check(&waits)["output"]["title"], "waiting for label `ready`");
    hub.assert_well().await;
    assert_eq!((pull.comments(), hub.daemon.runs().await), (vec![], vec![]));
}
