//! The life of a comment and a check, from the queue to the result.

use benchd::model::{FailureKind, Reaction};
use benchd::queue::RunningJobs;
use benchd::step::Step;
use benchd::store::{PullKey, PullRow, QuietCheck};

use super::*;

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap()
}

#[tokio::test]
async fn a_run_is_followed_from_the_queue_to_its_result_and_a_restart_tells_nothing_again() {
    let site = Site::new().await;
    let merged = site.whole_run(&site.base, Trigger::Merge, 100.0).await;
    assert!(site.store.run_detail(merged).await.unwrap().unwrap().outbox.is_empty(), "a merge owes no comment");
    let head = site.pull.head();
    let run = site.submit(&head, site.by_labels()).await;
    let teller = site.teller();
    site.tell(&teller).await;
    assert!(
        first_line(&site.comment()).starts_with("**Queued** on `1x Xeon_8488C_48c`: place 1 of 1"),
        "{}",
        site.comment()
    );
    assert_eq!(site.check(&head), ("queued".into(), None));
    let job = site.claim().await;
    site.begin(&job, &head).await;
    site.tell(&teller).await;
    assert!(first_line(&site.comment()).starts_with("**Running**"), "{}", site.comment());
    assert_eq!(site.check(&head), ("in_progress".into(), None));
    let _noted = site.queue.note_points(&job.claim, 3).await.unwrap();
    let detail = site.store.run_detail(run).await.unwrap().unwrap();
    assert_eq!(detail.jobs[0].attempts[0].points_begun, 3);
    site.later(600);
    site.end(&job, 104.0).await;
    assert_eq!(site.state(run).await, RunState::Measured, "it is published when the answer is there");
    site.tell(&teller).await;
    let told = site.comment();
    assert!(first_line(&told).starts_with("**Worse in 1 of 1 series**"), "{told}");
    assert!(told.contains("| +4.0 % worse | 1 |") && told.contains(&site.base[..10]), "{told}");
    assert!(told.contains("driver `570.86.15`"), "{told}");
    assert!(told.contains("10 machine minutes") && told.contains("No significance is claimed yet"), "{told}");
    assert_eq!(site.check(&head), ("completed".into(), Some("neutral".into())));
    assert_eq!(site.state(run).await, RunState::Published);
    assert_eq!(site.owed(run, OwedKind::Comment).await, Some((OwedState::Delivered, None)));
    assert_eq!(site.gh.calls().to("POST", "/repos/*/*/issues/*/comments").count(), 1);
    assert_eq!(site.gh.calls().to("POST", "/repos/*/*/check-runs").count(), 1);
    // After a restart, also with the rows alone.
    site.gh.forget_calls();
    site.tell(&site.teller()).await;
    reopened(site.dir.path()).await.close().await;
    site.later(7200);
    site.tell(&site.teller()).await;
    assert_eq!(site.gh.calls().count(), 0, "{:?}", site.gh.calls().lines());
    site.gh.calls().writes().assert_serial();
}

/// Where the comment lies, for a reader.
fn comment_url(site: &Site) -> String {
    let id = site.pull.comments()[0].id;
    format!("{}o/r/pull/{}#issuecomment-{id}", site.config.github.web_url(), site.pull.number())
}

#[tokio::test]
async fn a_closed_pull_request_is_advised_what_it_takes() {
    let site = Site::new().await;
    let _merged = site.whole_run(&site.base, Trigger::Merge, 100.0).await;
    let head = site.pull.head();
    let _run = site.whole_run(&head, site.by_labels(), 104.0).await;
    site.look(&site.seen("ready")).await;
    let teller = site.teller();
    site.tell(&teller).await;
    assert!(site.comment().contains("`/benchd rerun`"), "{}", site.comment());
    assert_eq!(site.repo.check_runs(&head)[0]["details_url"], comment_url(&site));
    site.later(60);
    site.look(&site.seen("merged")).await;
    site.tell(&teller).await;
    let told = site.comment();
    assert!(told.contains("Next: look whether the change is expected.") && !told.contains("/benchd"), "{told}");
    site.gh.forget_calls();
    site.later(60);
    site.tell(&teller).await;
    site.look(&site.seen("ready")).await;
    assert_eq!(site.gh.calls().count(), 0, "{:?}", site.gh.calls().lines());
    site.tell(&teller).await;
    assert!(site.comment().contains("`/benchd rerun`"), "open again: {}", site.comment());
    // What changes no word is read once.
    let pull = PullKey { repository: "o/r".parse().unwrap(), number: site.pull.number() };
    site.later(60);
    site.look(&site.seen("ready")).await;
    assert_eq!(site.store.pulls_to_tell(site.clock.now()).await.unwrap(), [pull]);
    site.tell(&teller).await;
    assert_eq!(site.store.pulls_to_tell(site.clock.now()).await.unwrap(), []);
}

#[tokio::test]
async fn a_check_succeeds_when_nothing_is_worse_and_is_skipped_when_nothing_is_measured() {
    let site = Site::new().await;
    let _merged = site.whole_run(&site.base, Trigger::Merge, 100.0).await;
    let head = site.pull.head();
    let _run = site.whole_run(&head, site.by_labels(), 100.2).await;
    let teller = site.teller();
    site.tell(&teller).await;
    assert!(first_line(&site.comment()).starts_with("**No change of 1 % or more**"), "{}", site.comment());
    assert_eq!(site.check(&head), ("completed".into(), Some("success".into())));
    let next = site.pull.push(CommitSpec::new("more"));
    let _run = site.submit(&next, site.by_labels()).await;
    let job = site.claim().await;
    site.finish(&job, Conclusion::Skipped { reason: "needs 8 devices".into() }).await;
    site.tell(&teller).await;
    assert!(first_line(&site.comment()).starts_with("**Nothing to measure**"), "{}", site.comment());
    assert_eq!(site.check(&next), ("completed".into(), Some("skipped".into())));
}

#[tokio::test]
async fn a_token_sets_a_status_in_place_of_a_check_run() {
    let site = Site::with(As::Token, "").await;
    let head = site.pull.head();
    let run = site.submit(&head, site.by_labels()).await;
    let teller = site.teller();
    site.tell(&teller).await;
    let states = || -> Vec<String> {
        let statuses = site.repo.statuses(&head);
        assert!(
            statuses
                .iter()
                .all(|s| s["description"].as_str().unwrap().chars().count() <= 140 && s["context"] == "benchd")
        );
        statuses.iter().map(|s| s["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states().len(), 1);
    let job = site.claim().await;
    site.finish(&job, Conclusion::Failure(FailureKind::ServerDied)).await;
    site.tell(&teller).await;
    let mut told = states();
    told.sort();
    assert_eq!(told, ["failure", "pending"]);
    assert!(first_line(&site.comment()).contains("the server under test died"));
    assert!(site.repo.statuses(&head).iter().all(|status| status["target_url"] == comment_url(&site)));
    assert_eq!(site.state(run).await, RunState::Failed(FailureKind::ServerDied));
    assert_eq!(site.owed(run, OwedKind::CheckRun).await, Some((OwedState::Delivered, None)));
}

#[tokio::test]
async fn without_credentials_nothing_is_owed_for_ever() {
    let site = Site::with(As::Nobody, "").await;
    let run = site.whole_run(&site.pull.head(), site.by_labels(), 1.0).await;
    site.owe("hello", AnswerKind::Reply { text: "hello".into() }).await;
    site.tell(&site.teller()).await;
    assert_eq!(site.state(run).await, RunState::Published);
    assert!(matches!(site.owed(run, OwedKind::Comment).await, Some((OwedState::Kept, Some(_)))));
    assert_eq!(site.answers().await, [OwedState::Kept]);
    assert_eq!(site.gh.calls().count(), 0);
}

#[tokio::test]
async fn what_is_switched_off_is_not_told() {
    let site = Site::with(As::App, "    report: {comment: false, name: speed}\n").await;
    let head = site.pull.head();
    let run = site.whole_run(&head, site.by_labels(), 1.0).await;
    site.tell(&site.teller()).await;
    assert!(site.comments().is_empty());
    assert_eq!(site.repo.check_runs(&head)[0]["name"], "speed");
    assert_eq!(site.state(run).await, RunState::Published);
}

#[tokio::test]
async fn places_are_told_now_and_then_and_changes_at_once() {
    let site = Site::new().await;
    let before = site.submit(&site.base, Trigger::Merge).await;
    let run = site.submit(&site.pull.head(), site.by_labels()).await;
    let teller = site.teller();
    site.tell(&teller).await;
    let said = site.comment();
    let place = |text: &str| first_line(text).split(": ").nth(1).unwrap().to_owned();
    let other = site.submit(&"c".repeat(40), Trigger::Release { tag: "v1".into() }).await;
    site.later(10);
    site.tell(&teller).await;
    assert_eq!(site.comment(), said, "another place is no reason to write at once");
    site.later(300);
    site.tell(&teller).await;
    assert_ne!(place(&site.comment()), place(&said), "{}", site.comment());
    for run in [before, other, run] {
        let _cancelled = site.queue.cancel(run, "cancelled by ann").await.unwrap();
    }
    site.tell(&teller).await;
    assert!(first_line(&site.comment()).starts_with("**Cancelled** (`cancelled by ann`)"), "{}", site.comment());
    assert_eq!(site.check(&site.pull.head()).1.as_deref(), Some("cancelled"));
    assert_eq!(site.state(run).await, RunState::Cancelled);
}

#[tokio::test]
async fn a_newer_head_folds_the_older_one_whose_check_ends_too() {
    let site = Site::new().await;
    let (old, teller) = (site.pull.head(), site.teller());
    let first = site.submit(&old, site.by_labels()).await;
    site.tell(&teller).await;
    site.later(5);
    let new = site.pull.push(CommitSpec::new("even faster"));
    let second = site.submit(&new, site.by_labels()).await;
    let _ended = site.queue.supersede(first, second, RunningJobs::Stop).await.unwrap();
    site.tell(&teller).await;
    let told = site.comment();
    assert!(first_line(&told).starts_with("**Queued**") && told.contains("1 earlier run"), "{told}");
    assert!(told.contains(&format!("**Superseded** by run {second}")), "{told}");
    assert_eq!(site.check(&old), ("completed".into(), Some("neutral".into())));
    assert_eq!(site.check(&new).0, "queued");
    assert_eq!(site.owed(first, OwedKind::Comment).await, Some((OwedState::Delivered, None)));
    assert_eq!(site.owed(first, OwedKind::CheckRun).await, Some((OwedState::Delivered, None)));
}

#[tokio::test]
async fn a_head_that_moved_on_makes_the_answer_outdated() {
    let site = Site::new().await;
    let old = site.pull.head();
    let _run = site.whole_run(&old, site.by_labels(), 1.0).await;
    let teller = site.teller();
    site.tell(&teller).await;
    assert!(first_line(&site.comment()).starts_with("**No baseline yet**"), "{}", site.comment());
    site.later(60);
    let new = site.pull.push(CommitSpec::new("docs"));
    let said = Some("waiting for label ready".into());
    site.look(&PullRow { head: new.parse().unwrap(), said, said_count: 1, ..site.seen("ready") }).await;
    site.tell(&teller).await;
    let told = site.comment();
    assert!(told.contains("**Outdated**") && told.contains(&new[..10]), "{told}");
    assert!(told.contains("waiting for label ready"), "{told}");
    site.gh.forget_calls();
    site.tell(&teller).await;
    assert_eq!(site.gh.calls().count(), 0);
}

#[tokio::test]
async fn a_retry_and_a_rerun_go_on_in_the_same_comment() {
    let site = Site::new().await;
    let (head, teller) = (site.pull.head(), site.teller());
    let run = site.submit(&head, site.by_labels()).await;
    let job = site.claim().await;
    site.finish(&job, Conclusion::Failure(FailureKind::NoResults)).await;
    site.tell(&teller).await;
    assert!(first_line(&site.comment()).starts_with("**Failed**"));
    assert_eq!(site.check(&head).1.as_deref(), Some("failure"));
    let _retried = site.queue.retry(run).await.unwrap();
    site.later(5);
    site.tell(&teller).await;
    assert_eq!(site.check(&head), ("queued".into(), None), "{}", site.comment());
    let job = site.claim().await;
    site.begin(&job, &head).await;
    site.end(&job, 7.0).await;
    site.tell(&teller).await;
    assert_eq!(site.check(&head).1.as_deref(), Some("neutral"));
    assert_eq!(site.state(run).await, RunState::Published);
    let benchd::queue::Rerun::Run { run: again } = site.queue.rerun(run).await.unwrap() else { panic!("no rerun") };
    site.later(5);
    site.tell(&teller).await;
    let told = site.comment();
    assert!(first_line(&told).starts_with("**Queued**") && told.contains(&format!("run {run}")), "{told}");
    let pull = PullKey { repository: "o/r".parse().unwrap(), number: site.pull.number() };
    let runs: Vec<_> = site.store.runs_of_pull(&pull, 9).await.unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(runs, [again, run]);
}

#[tokio::test]
async fn answers_are_given_once_and_in_order() {
    let site = Site::new().await;
    let asked = site.pull.by("ann").comment("/benchd status");
    site.owe("a", AnswerKind::Reaction { comment: asked, content: Reaction::Eyes }).await;
    site.owe("b", AnswerKind::Reply { text: "@ann: 1 run waits, see #5.".into() }).await;
    site.owe("b", AnswerKind::Reply { text: "twice".into() }).await;
    let quiet = |sha: CommitSha, title: &str| AnswerKind::Check {
        sha,
        title: title.into(),
        summary: format!("{title}: see the documentation."),
        state: QuietCheck::Waiting,
    };
    site.owe("c", quiet(site.head(), "waiting for label `ready`")).await;
    let teller = site.teller();
    site.tell(&teller).await;
    site.tell(&teller).await;
    assert_eq!(site.answers().await, [OwedState::Delivered; 3]);
    assert_eq!(site.pull.comments()[0].reactions, ["eyes"]);
    let reply = site.comment();
    assert!(reply.starts_with("@\u{200b}ann: 1 run waits, see #\u{200b}5."), "{reply}");
    assert_eq!(site.check(&site.pull.head()), ("completed".into(), Some("neutral".into())));
    // Once a run stands for the commit, a check that is late keeps quiet.
    let _run = site.submit(&site.pull.head(), site.by_labels()).await;
    site.owe("d", quiet(site.head(), "waiting for label `ready`")).await;
    site.tell(&teller).await;
    assert_eq!(site.answers().await[3], OwedState::Kept);
    assert_eq!(site.check(&site.pull.head()).0, "queued");
}

#[tokio::test]
async fn the_baseline_is_the_newest_of_the_branch_where_the_pull_request_left_it() {
    let site = Site::new().await;
    let repository: benchd::model::RepoName = "o/r".parse().unwrap();
    let shas: Vec<String> = ["1", "2", "3", "4"].iter().map(|digit| digit.repeat(40)).collect();
    // The second commit is measured last, the third one not at all; the pull request left the branch at the third one.
    for (index, latency) in [(0, 100.0), (3, 400.0), (1, 200.0)] {
        let _run = site.whole_run(&shas[index], Trigger::Merge, latency).await;
    }
    let head = site.pull.head();
    let mut write = site.store.write(Step::KeepTip).await.unwrap();
    for (sha, parent) in [(&shas[2], None), (&head, Some(&shas[2]))] {
        let commit = benchd::store::Commit {
            repository: repository.clone(),
            sha: sha.parse().unwrap(),
            first_parent: parent.map(|parent| parent.parse().unwrap()),
            committed_at: None,
        };
        write.record_commit(&commit).await.unwrap();
    }
    let stretch = shas.iter().rev().zip((10..=13).rev()).map(|(sha, position)| benchd::store::BranchCommit {
        sha: sha.parse().unwrap(),
        committed_at: "2026-09-21T12:00:00Z".parse().unwrap(),
        first_parent: None,
        position: Some(position),
    });
    write.place_stretch(&repository, &"main".parse().unwrap(), &stretch.collect::<Vec<_>>()).await.unwrap();
    write.commit().await.unwrap();
    let run = site.whole_run(&head, site.by_labels(), 210.0).await;
    let main = "main".parse().unwrap();
    let found = site.store.baselines_of_run(run, &main).await.unwrap();
    let found = found.values().next().unwrap();
    assert_eq!((found.sha.as_str(), found.value, found.older_by), (shas[1].as_str(), 200.0, Some(1)));
    site.tell(&site.teller()).await;
    let told = site.comment();
    assert!(told.contains("1 commit older than where this pull request left its branch"), "{told}");
    assert!(told.contains("+5.0 % worse"), "{told}");
    // Another pull request's head is nobody's baseline.
    let _other = site.whole_run(&"5".repeat(40), Trigger::PullRequest { number: 99 }, 1.0).await;
    let again = site.whole_run(&"6".repeat(40), site.by_labels(), 1.0).await;
    let found = site.store.baselines_of_run(again, &main).await.unwrap();
    assert_eq!(
        found.values().next().unwrap().sha.as_str(),
        shas[3],
        "its place is not known: the newest of the branch"
    );
}
