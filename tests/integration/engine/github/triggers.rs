//! Merges, releases, schedules and requests, and everything of GitHub's at once where no webhook arrives.

use github_standin::MergeMethod::Squash;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_and_a_release_are_measured_and_published_once_each() {
    let world = World::new(0).await;
    let hub = Hub::new(&world, Learns::ByWebhook).await;
    let pull = hub.pull("a", &good("0.5")).await;
    let merged = hub.image("b", &good("0.5")).await;
    pull.by("ann").merge_as(Squash, Some(&merged));
    hub.measured("merge").await;
    let told: Vec<_> = hub.gh.deliveries().into_iter().map(|told| (told.event, told.action)).collect();
    for (event, action) in [("pull_request", Some("closed")), ("push", None)] {
        assert!(told.contains(&(event.to_owned(), action.map(str::to_owned))), "{told:?}");
    }

    let released = hub.image("c", &good("0.6")).await;
    hub.repo.commit("releases/1", CommitSpec::new("the release").sha(&released));
    hub.repo.annotated_tag("v1.0", &released);
    let run = hub.measured("release").await;
    assert_eq!(hub.daemon.get("/api/v1/runs?commit=v1.0").await[0]["id"], run);
    assert_eq!(hub.published(), [format!("main/{merged}"), format!("v1.0/{released}")]);
    hub.assert_well().await;
    assert_eq!((hub.daemon.runs().await.len(), pull.comments()), (2, vec![]), "nobody is told of a merge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_webhooks_labels_commands_merges_and_releases_are_found() {
    let world = World::new(0).await;
    let hub = Hub::new(&world, Learns::ByAsking).await;
    let labelled = hub.pull("a", &good("0.5")).await;
    let commanded = hub.pull("b", &good("0.5")).await;
    let merged = hub.image("c", &good("0.5")).await;
    let released = hub.image("d", &good("0.5")).await;
    hub.repo.commit("releases/1", CommitSpec::new("the release").sha(&released));
    for label in LABELS {
        labelled.label(label);
    }
    commanded.by("ann").comment("/benchd run");
    hub.pull("e", &good("0.5")).await.merge_as(Squash, Some(&merged));
    hub.repo.tag("v1.0", &released);
    for kind in ["pull_request", "command", "merge", "release"] {
        hub.measured(kind).await;
    }
    for pull in [&labelled, &commanded] {
        assert!(hub.comment(pull).contains("Points: 2 measured."), "{}", hub.comment(pull));
        assert_eq!(hub.check(&pull.head())["status"], "completed");
    }
    hub.assert_well().await;
    assert_eq!((hub.daemon.runs().await.len(), hub.published().len()), (4, 4));
    assert!(hub.gh.deliveries().iter().all(|delivery| !delivery.hooked));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_and_a_person_measure_commits_that_github_knows() {
    let world = World::new(0).await;
    let hub = Hub::new(&world, Learns::ByAsking).await;
    // It was there before the daemon, so that only the schedule finds it.
    let tip = hub.repo.tip("main");
    world.project.push_suite(&tip, &good("0.5")).await;
    hub.case.configure("schedule: []", "schedule: [\"0 0 * * * *\"]");
    let hub = hub.restarted().await;
    hub.case.set_back("0 0 * * * *").await;
    let hub = hub.restarted().await;
    hub.measured("schedule").await;

    let pull = hub.pull("a", &good("0.5")).await;
    let request = json!({"pull_request": pull.number()});
    let (status, answer) = hub.daemon.ask(Method::POST, "/api/v1/runs", None, Some(&request)).await.unwrap();
    assert_eq!(status, 202, "{answer}");
    hub.measured("manual").await;
    assert_eq!(hub.published(), [format!("main/{tip}"), format!("pull/1/head/{}", pull.head())]);
    hub.assert_well().await;
    assert_eq!(hub.daemon.runs().await.len(), 2);
}
