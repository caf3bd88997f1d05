//! Lists over several pages, what is free because it has not changed, and pull requests in every state.

use std::fs;

use benchd::github::{GitHub, Permission, PullState};
use github_standin::{CommitSpec, MergeMethod, PullSpec, Role, StandIn};
use serde_json::Value;

use super::{repo, with_app};
use crate::support::shared;
use crate::support::stand_in::{self, answer};

#[tokio::test]
async fn a_list_is_read_to_its_end_and_a_full_last_page_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, standin, client) = with_app(dir.path());
    standin.commit("work", CommitSpec::new("work"));
    let pull = standin.open(PullSpec::new("work"));
    let bodies = async || -> Vec<String> {
        let comments = client.comments(&repo(), pull.number()).await.unwrap();
        comments.into_iter().map(|comment| comment.body).collect()
    };
    let write = |range: std::ops::Range<usize>| {
        for n in range {
            pull.comment(&format!("comment {n}"));
        }
    };
    write(0..100);
    assert_eq!(bodies().await.len(), 100);
    write(100..101);
    assert_eq!(bodies().await.last().unwrap(), "comment 100", "the first page has not changed");
    write(101..250);
    let all = bodies().await;
    assert_eq!((all.len(), all[249].as_str()), (250, "comment 249"));
    gh.forget_calls();
    assert_eq!(bodies().await, all);
    let calls = gh.calls();
    assert_eq!((calls.count(), calls.charged().count()), (3, 0), "{:?}", calls.lines());
}

#[tokio::test]
async fn an_idle_look_over_200_pull_requests_is_almost_free() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, standin, client) = with_app(dir.path());
    for n in 0..200 {
        let branch = format!("work-{n}");
        standin.commit(&branch, CommitSpec::new(&branch));
        standin.open(PullSpec::new(&branch).labels(&["ready"]));
    }
    assert_eq!(client.open_pulls(&repo()).await.unwrap().len(), 200);
    gh.forget_calls();
    let again = client.open_pulls(&repo()).await.unwrap();
    assert_eq!(again.len(), 200);
    assert!(again.iter().all(|pull| pull.labels == ["ready"]));
    gh.calls().assert_at_most_charged(1);
    // After a restart each page is paid for once.
    let dir = tempfile::tempdir().unwrap();
    let app = gh.install_app(4711, "benchd");
    let restarted = GitHub::configured(&super::app_settings(&gh, dir.path(), &app)).unwrap();
    gh.forget_calls();
    assert_eq!(restarted.open_pulls(&repo()).await.unwrap(), again);
    gh.calls().assert_at_most_charged(4);
}

#[tokio::test]
async fn a_pull_request_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (_gh, standin, client) = with_app(dir.path());
    let pull = |number| {
        let client = client.clone();
        async move { client.pull(&repo(), number).await.unwrap().unwrap() }
    };
    standin.commit("work", CommitSpec::new("work").files(&["docs/a.md", "src/b.py"]));
    let own = standin.open(PullSpec::new("work").author("ann").title("zzz\";echo").labels(&["ready", "perf"]).draft());
    let seen = pull(own.number()).await;
    assert_eq!((&seen.state, seen.draft, seen.title.as_str()), (&PullState::Open, true, "zzz\";echo"));
    assert_eq!((seen.labels.as_slice(), seen.commits), (["ready".to_owned(), "perf".to_owned()].as_slice(), Some(1)));
    assert_eq!((seen.author.as_ref().unwrap().login.as_str(), seen.is_from_fork()), ("ann", false));
    assert_eq!((seen.head.sha.as_str(), seen.head.branch.as_str()), (own.head().as_str(), "work"));
    assert_eq!(seen.base.branch, "main");
    assert_eq!(client.pull_files(&repo(), own.number()).await.unwrap(), ["docs/a.md", "src/b.py"]);
    let merged = own.merge_as(MergeMethod::Squash, None);
    let state = PullState::Merged { commit: Some(merged.parse().unwrap()) };
    assert_eq!(pull(own.number()).await.state, state);
    let found = client.pulls_of(&repo(), &merged.parse().unwrap()).await.unwrap();
    assert_eq!(found.iter().map(|pull| pull.number).collect::<Vec<_>>(), [own.number()]);
    assert_eq!(found[0].state, state, "lists say it in another way");

    let fork = standin.fork("stranger");
    fork.commit("theirs", CommitSpec::new("theirs"));
    let foreign = standin.open(PullSpec::new("theirs").from_fork(&fork));
    assert!(pull(foreign.number()).await.is_from_fork());
    fork.delete();
    let seen = pull(foreign.number()).await;
    assert!(seen.head.repository.is_none() && seen.is_from_fork());
    foreign.close();
    assert_eq!(pull(foreign.number()).await.state, PullState::Closed);
    assert!(client.open_pulls(&repo()).await.unwrap().is_empty());
    assert_eq!(client.pull(&repo(), 4242).await.unwrap(), None);
}

#[tokio::test]
async fn roles_tags_and_the_repository_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (_gh, standin, client) = with_app(dir.path());
    for (login, role, expected) in [
        ("reader", Role::Read, Permission::Read),
        ("sorter", Role::Triage, Permission::Triage),
        ("pusher", Role::Write, Permission::Write),
        ("keeper", Role::Maintain, Permission::Maintain),
        ("owner", Role::Admin, Permission::Admin),
    ] {
        standin.permit(login, role);
        assert_eq!(client.permission(&repo(), login).await.unwrap(), expected, "{login}");
    }
    assert_eq!(client.permission(&repo(), "no/body?").await.unwrap(), Permission::None);
    let tip = standin.tip("main");
    standin.tag("v1.0", "main");
    standin.annotated_tag("v1.1/rc", "main");
    let mut tags: Vec<_> = client.tags(&repo()).await.unwrap().into_iter().map(|tag| (tag.name, tag.sha)).collect();
    tags.sort();
    let sha: benchd::model::CommitSha = tip.parse().unwrap();
    assert_eq!(tags, [("v1.0".to_owned(), sha.clone()), ("v1.1/rc".to_owned(), sha.clone())]);
    assert_eq!(client.tag(&repo(), "v1.1/rc").await.unwrap().unwrap().sha, sha);
    assert_eq!(client.tag(&repo(), "v2").await.unwrap(), None);
    let repository = client.repository(&repo()).await.unwrap().unwrap();
    assert_eq!((repository.id, repository.default_branch.as_str()), (standin.id(), "main"));
    assert_eq!(client.repository(&"o/absent".parse().unwrap()).await.ok(), None);
}

#[tokio::test]
async fn deliveries_are_found_and_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (gh, standin, client) = with_app(dir.path());
    gh.webhook("http://127.0.0.1:1/webhook/github", "secret");
    standin.commit("work", CommitSpec::new("work"));
    let pull = standin.open(PullSpec::new("work"));
    for n in 0..120 {
        pull.label(&format!("label-{n}"));
    }
    gh.settled().await;
    let since = gh.now() - chrono::TimeDelta::hours(1);
    let deliveries = client.hook_deliveries(since).await.unwrap();
    assert!(deliveries.len() > 120 && deliveries.iter().all(|delivery| !delivery.was_taken()));
    let opened = deliveries.iter().find(|d| d.action.as_deref() == Some("opened")).unwrap();
    client.redeliver(opened.id).await.unwrap();
    gh.settled().await;
    let again = client.hook_deliveries(since).await.unwrap();
    let attempts: Vec<_> = again.iter().filter(|delivery| delivery.guid == opened.guid).collect();
    assert_eq!((attempts.len(), attempts[0].redelivery), (2, true));
    gh.advance(chrono::TimeDelta::days(4));
    assert_eq!(client.hook_deliveries(gh.now() - chrono::TimeDelta::days(3)).await.unwrap(), []);
}

/// Pull requests as GitHub really sends them.
#[tokio::test]
async fn real_pull_requests_are_read() {
    let Some(folder) = shared("github/payloads") else { return };
    let mut read = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let payload: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let Some(pull) = payload.get("pull_request").filter(|pull| pull.get("head").is_some()) else { continue };
        let (head, number) = (pull["head"]["sha"].clone(), pull["number"].as_u64().unwrap());
        let body = pull.to_string();
        let gh = stand_in::StandIn::start(move |_| {
            let body = body.clone();
            async move { answer(200, &[], body) }
        })
        .await;
        let client = GitHub::connect(&format!("http://{}", gh.host), None).unwrap();
        let seen = client.pull(&repo(), number).await.unwrap_or_else(|e| panic!("{}: {e:?}", path.display())).unwrap();
        assert_eq!(seen.head.sha.as_str(), head.as_str().unwrap(), "{}", path.display());
        assert_eq!(seen.number, number);
        read += 1;
    }
    assert!(read > 20, "{read}");
}

#[tokio::test]
async fn an_enterprise_address_has_a_path_of_its_own() {
    let gh = StandIn::start();
    gh.repository("o/r").commit("main", CommitSpec::new("first"));
    for url in [format!("{}/api/v3", gh.url()), format!("{}/api/v3/", gh.url())] {
        let client = GitHub::connect(&url, None).unwrap();
        assert!(client.commit(&repo(), "main").await.unwrap().is_some());
    }
}
