//! What can be read: commits, branches, comparisons, tags, pull requests, pages, redirects, conditional requests.

use chrono::{TimeDelta, Utc};
use github_standin::{CommitSpec, MergeMethod, PullSpec, StandIn};
use serde_json::{Value, json};

use crate::{client, raw, read, small};

#[tokio::test]
async fn history_lists_side_commits_by_date_and_pages_by_link() {
    let gh = StandIn::start();
    let repo = gh.repository("o/r");
    let day = |n| Utc::now() + TimeDelta::days(n);
    let first = repo.commit("main", CommitSpec::new("first").at(day(0)));
    let side = repo.commit("side", CommitSpec::new("side").parents(&[&first]).at(day(2)));
    let second = repo.commit("main", CommitSpec::new("second").at(day(1)));
    let third = repo.commit("main", CommitSpec::new("third").at(day(3)));
    let merge = repo.commit("main", CommitSpec::new("merge").parents(&[&third, &side]).at(day(4)));
    let gh_client = client(gh.url(), None);
    let page = gh_client.repos("o", "r").list_commits().sha("main").per_page(2).send().await.unwrap();
    assert!(page.next.is_some() && page.prev.is_none());
    let all = gh_client.all_pages(page).await.unwrap();
    let shas: Vec<&str> = all.iter().map(|c| c.sha.as_str()).collect();
    assert_eq!(shas, [&merge, &third, &side, &second, &first]);
    assert_eq!(all[0].parents.len(), 2);
    assert_eq!(gh.calls().count(), 3);
    // By any kind of name.
    for name in ["main", "heads/main", "refs/heads/main", merge.as_str(), &merge[..8]] {
        assert_eq!(read(&gh_client, &format!("/repos/o/r/commits/{name}")).await["sha"], merge.as_str(), "{name}");
    }
    assert_eq!(raw(&gh_client, "GET", "/repos/o/r/commits?sha=nowhere", None, &[]).await.0, 404);
    let (status, body, _) = raw(&gh_client, "GET", &format!("/repos/o/r/commits/{}", "0".repeat(40)), None, &[]).await;
    assert_eq!((status, &body["message"]), (422, &json!(format!("No commit found for SHA: {}", "0".repeat(40)))));
    assert_eq!(raw(&gh_client, "GET", "/repos/o/absent/commits/main", None, &[]).await.0, 404);
    gh.repository("o/empty");
    assert_eq!(raw(&gh_client, "GET", "/repos/o/empty/commits", None, &[]).await.0, 409);
}

#[tokio::test]
async fn a_comparison_has_the_merge_base_and_both_distances() {
    let (gh, repo, pull) = small().await;
    let base = repo.tip("main");
    repo.commit("main", CommitSpec::new("later"));
    let http = client(gh.url(), None);
    let seen = read(&http, "/repos/o/r/compare/main...work").await;
    assert_eq!(seen["merge_base_commit"]["sha"], base.as_str());
    assert_eq!((&seen["status"], &seen["ahead_by"], &seen["behind_by"]), (&json!("diverged"), &json!(1), &json!(1)));
    assert_eq!(seen["commits"][0]["sha"], pull.head().as_str());
    assert_eq!(seen["files"][0]["filename"], "a.py");
    assert_eq!(read(&http, "/repos/o/r/compare/main...main").await["status"], "identical");
    assert_eq!(read(&http, "/repos/o/r/compare/work...work").await["ahead_by"], 0);
    assert_eq!(raw(&http, "GET", "/repos/o/r/compare/main...nowhere", None, &[]).await.0, 404);
    // A fork's commit is readable under the base repository; its branches are not.
    let fork = repo.fork("stranger");
    let sha = fork.commit("patch", CommitSpec::new("patch"));
    assert_eq!(read(&http, &format!("/repos/o/r/commits/{sha}")).await["sha"], sha.as_str());
    assert_eq!(raw(&http, "GET", "/repos/o/r/branches/patch", None, &[]).await.0, 404);
    assert_eq!(read(&http, "/repos/o/r/compare/main...stranger:patch").await["ahead_by"], 1);
    assert_eq!(read(&http, &format!("/repos/o/r/compare/{sha}...main")).await["status"], "behind");
}

#[tokio::test]
async fn tags_and_refs() {
    let (gh, repo, _) = small().await;
    let sha = repo.tip("main");
    repo.tag("v1.0", "main");
    repo.annotated_tag("v2.0", "main");
    let http = client(gh.url(), None);
    let tags = http.repos("o", "r").list_tags().send().await.unwrap();
    assert_eq!(tags.items.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["v2.0", "v1.0"]);
    assert!(tags.items.iter().all(|t| t.commit.sha == sha));
    let light = read(&http, "/repos/o/r/git/ref/tags/v1.0").await;
    assert_eq!((&light["object"]["type"], &light["object"]["sha"]), (&json!("commit"), &json!(sha)));
    let heavy = read(&http, "/repos/o/r/git/ref/tags/v2.0").await;
    assert_eq!(heavy["object"]["type"], "tag");
    let object = heavy["object"]["sha"].as_str().unwrap();
    assert_eq!(read(&http, &format!("/repos/o/r/git/tags/{object}")).await["object"]["sha"], sha.as_str());
    assert_eq!(read(&http, "/repos/o/r/commits/v2.0").await["sha"], sha.as_str());
    // An id is not a ref.
    assert_eq!(raw(&http, "GET", &format!("/repos/o/r/git/ref/{sha}"), None, &[]).await.0, 404);
    assert_eq!(read(&http, "/repos/o/r/git/matching-refs/tags/v").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn pull_requests_are_listed_sorted_and_paged() {
    let (gh, repo, first) = small().await;
    for n in 2..=35 {
        repo.commit(&format!("b{n}"), CommitSpec::new("x").parents(&[&repo.tip("main")]).files(&["docs/a.md"]));
        repo.open(PullSpec::new(&format!("b{n}")));
    }
    repo.pull_request(35).close();
    gh.advance(TimeDelta::minutes(1));
    first.label("ready");
    let http = client(gh.url(), None);
    let page = http.pulls("o", "r").list().per_page(30).send().await.unwrap();
    let all = http.all_pages(page).await.unwrap();
    assert_eq!(all.iter().map(|p| p.number).collect::<Vec<_>>(), (1..=34).rev().collect::<Vec<_>>());
    let updated = read(&http, "/repos/o/r/pulls?state=all&sort=updated&direction=desc&per_page=1").await;
    assert_eq!((&updated[0]["number"], &updated[0]["labels"][0]["name"]), (&json!(1), &json!("ready")));
    let whole = http.pulls("o", "r").get(1).await.unwrap();
    assert_eq!((whole.changed_files, whole.commits, whole.merged), (Some(1), Some(1), Some(false)));
    assert_eq!(read(&http, "/repos/o/r/pulls/1/files").await[0]["filename"], "a.py");
    assert_eq!(read(&http, "/repos/o/r/pulls/1/commits").await[0]["sha"], first.head().as_str());
    assert_eq!(raw(&http, "GET", "/repos/o/r/pulls/99", None, &[]).await.0, 404);
}

#[tokio::test]
async fn a_test_merge_is_on_neither_branch_and_a_merge_on_the_base() {
    let (gh, repo, pull) = small().await;
    let http = client(gh.url(), None);
    let test_merge = pull.merge_commit();
    assert_eq!(read(&http, &format!("/repos/o/r/commits/{test_merge}")).await["parents"].as_array().unwrap().len(), 2);
    assert!(!repo.history("main").contains(&test_merge) && !repo.history("work").contains(&test_merge));
    let merged = pull.merge_as(MergeMethod::Merge, None);
    assert_eq!(repo.history("main")[0], merged);
    let seen = http.pulls("o", "r").get(1).await.unwrap();
    assert_eq!((seen.merged, seen.merge_commit_sha.as_deref()), (Some(true), Some(merged.as_str())));
    for sha in [&merged, &pull.head()] {
        let pulls = read(&http, &format!("/repos/o/r/commits/{sha}/pulls")).await;
        assert_eq!(pulls.as_array().unwrap().iter().map(|p| p["number"].clone()).collect::<Vec<_>>(), [json!(1)]);
    }
    // What a merged pull request brought is still listed.
    assert_eq!(read(&http, "/repos/o/r/pulls/1/files").await[0]["filename"], "a.py");
}

#[tokio::test]
async fn a_deleted_fork_leaves_the_head_without_repository() {
    let (gh, repo, _) = small().await;
    let fork = repo.fork("stranger");
    fork.commit("patch", CommitSpec::new("patch"));
    let pull = repo.open(PullSpec::new("patch").from_fork(&fork).author("stranger"));
    let http = client(gh.url(), None);
    let route = format!("/repos/o/r/pulls/{}", pull.number());
    assert_eq!(read(&http, &route).await["head"]["repo"]["full_name"], "stranger/r");
    fork.delete();
    let seen = http.pulls("o", "r").get(pull.number()).await.unwrap();
    assert!(seen.head.repo.is_none());
    assert_eq!(seen.head.sha, pull.head());
}

#[tokio::test]
async fn a_renamed_repository_is_redirected_method_and_body_kept() {
    let (gh, repo, pull) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    repo.rename("new-owner/new-name");
    let seen = http.pulls("o", "r").get(1).await.unwrap();
    assert_eq!(seen.head.sha, pull.head());
    // The client follows a read by itself, a write with a body it does not.
    let hello = || Some(serde_json::json!({ "body": "hello" }));
    let (status, _, headers) = raw(&http, "POST", "/repos/o/r/issues/1/comments", hello(), &[]).await;
    let there = headers["location"].to_str().unwrap().strip_prefix(gh.url()).unwrap().to_owned();
    assert_eq!((status, pull.comments().len()), (307, 0));
    assert_eq!(raw(&http, "POST", &there, hello(), &[]).await.0, 201);
    assert_eq!(pull.comments()[0].body, "hello");
    let statuses: Vec<_> = gh.calls().0.iter().map(|c| (c.method.clone(), c.status.unwrap())).collect();
    assert_eq!(statuses, [("GET".into(), 301), ("GET".into(), 200), ("POST".into(), 307), ("POST".into(), 201)]);
    assert_eq!(read(&http, &format!("/repositories/{}", repo.id())).await["full_name"], "new-owner/new-name");
}

#[tokio::test]
async fn unchanged_answers_are_free() {
    let (gh, _, pull) = small().await;
    let http = client(gh.url(), Some(&gh.personal_token("bench", &["repo"])));
    let (_, _, headers) = raw(&http, "GET", "/repos/o/r/pulls", None, &[]).await;
    let etag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(headers["x-ratelimit-remaining"], "4999");
    assert_eq!(headers["x-oauth-scopes"], "repo");
    let ask = async || raw(&http, "GET", "/repos/o/r/pulls", None, &[("if-none-match", &etag)]).await;
    let (status, body, headers) = ask().await;
    assert_eq!((status, body, &headers["x-ratelimit-remaining"]), (304, Value::Null, &"4999".parse().unwrap()));
    pull.label("ready");
    assert_eq!(ask().await.0, 200);
    assert_eq!((gh.calls().conditional().count(), gh.calls().charged().count()), (2, 2));
    gh.calls().assert_at_most_charged(2);
}

#[tokio::test]
async fn the_budget_runs_out_and_comes_back_with_the_clock() {
    let (gh, ..) = small().await;
    gh.limit_requests(2);
    let http = client(gh.url(), None);
    for _ in 0..2 {
        assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 200);
    }
    let (status, body, headers) = raw(&http, "GET", "/repos/o/r", None, &[]).await;
    assert_eq!((status, &headers["x-ratelimit-remaining"]), (403, &"0".parse().unwrap()));
    assert_eq!(body["message"], "API rate limit exceeded");
    assert_eq!(read(&http, "/rate_limit").await["rate"]["remaining"], 0);
    gh.advance(TimeDelta::hours(1));
    assert_eq!(raw(&http, "GET", "/repos/o/r", None, &[]).await.0, 200);
}

#[tokio::test]
async fn an_enterprise_path_serves_the_same() {
    let (gh, _, pull) = small().await;
    let http = client(&format!("{}/api/v3", gh.url()), None);
    assert_eq!(http.pulls("o", "r").get(1).await.unwrap().head.sha, pull.head());
}
