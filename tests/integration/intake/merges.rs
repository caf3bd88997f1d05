//! Merge commits, whoever tells of them.

use benchd::model::{RunPhase, Trigger};
use benchd::trigger::looks::LookAnswer;
use benchd::trigger::merge::MergeAnswer;
use chrono::TimeDelta;
use github_standin::{CommitSpec, DeliveryFault, MergeMethod, Order, PullRequest, PullSpec};

use super::Desk;

fn pull(desk: &Desk, branch: &str) -> PullRequest {
    desk.repo.commit(branch, CommitSpec::new(branch));
    desk.repo.open(PullSpec::new(branch))
}

fn waits(sha: &str) -> (String, Trigger, RunPhase) {
    (sha.to_owned(), Trigger::Merge, RunPhase::Queued)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_is_measured_once_whoever_tells_of_it() {
    for method in [MergeMethod::Squash, MergeMethod::Merge] {
        for lost in [None, Some("push"), Some("pull_request")] {
            for order in [Order::Kept, Order::Reversed] {
                let desk = Desk::new("").await;
                desk.follow().await;
                desk.hooked();
                let pull = pull(&desk, "work");
                if let Some(event) = lost {
                    desk.gh.delivery_fault(event, None, DeliveryFault::Lost, 1);
                }
                let sha = desk.gh.in_order(order, || pull.merge_as(method, None));
                desk.hear().await;
                assert_eq!(desk.measured().await, [waits(&sha)], "{method:?} {lost:?} {order:?}");
                let run = &desk.runs().await[0];
                let detail = desk.context.store.run_detail(run.id).await.unwrap().unwrap();
                assert!(detail.jobs[0].job.spec["image"].to_string().contains("main/r"), "the branch's image");
                for guid in desk.gh.deliveries().into_iter().filter(|d| d.hooked).map(|d| d.guid) {
                    desk.gh.redeliver(&guid);
                }
                desk.hear().await;
                desk.reconcile().await;
                desk.take().await;
                assert_eq!(desk.measured().await.len(), 1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_push_of_several_commits_the_newest_is_measured_and_the_others_are_kept() {
    let desk = Desk::new("").await;
    desk.follow().await;
    desk.hooked();
    let newest = desk.repo.push("main", ["a", "b", "c"].map(CommitSpec::new).to_vec());
    desk.hear().await;
    assert_eq!(desk.measured().await, [waits(&newest)]);
    let history = desk.repo.history("main");
    let (repository, main) = ("o/r".parse().unwrap(), "main".parse().unwrap());
    let shas: Vec<_> = history.iter().map(|sha| sha.parse().unwrap()).collect();
    for sha in &shas {
        assert!(desk.context.store.is_placed(&repository, &main, sha).await.unwrap(), "{sha} has its place");
    }
    for pair in shas.windows(2).take(3) {
        let commit = desk.context.store.commit(&repository, &pair[0]).await.unwrap().unwrap();
        assert_eq!(commit.first_parent.as_ref(), Some(&pair[1]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_merges_between_two_looks_are_two_also_without_a_webhook() {
    for hooked in [true, false] {
        let desk = Desk::new("").await;
        desk.follow().await;
        if hooked {
            desk.hooked();
        }
        let first = pull(&desk, "one").merge();
        let second = pull(&desk, "two").merge();
        if hooked {
            desk.gh.settled().await;
        } else {
            desk.pass(TimeDelta::minutes(5));
            assert_eq!(desk.reconcile().await, ["merge main"]);
        }
        desk.take().await;
        assert_eq!(desk.measured().await, [waits(&first), waits(&second)], "hooked: {hooked}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_the_backlog_the_newest_takes_the_place_of_all_that_wait() {
    let desk = Desk::new("merge: {backlog: 2}").await;
    desk.follow().await;
    desk.hooked();
    let mut shas = Vec::new();
    for number in 0..2 {
        shas.push(pull(&desk, &format!("work-{number}")).merge());
        desk.hear().await;
    }
    assert_eq!(desk.measured().await, [waits(&shas[0]), waits(&shas[1])]);
    // Two more at once.
    for number in 2..4 {
        shas.push(pull(&desk, &format!("work-{number}")).merge());
    }
    let answers = desk.hear().await;
    let moved = answers.iter().find_map(|answer| match answer {
        LookAnswer::Merge(MergeAnswer::Moved(moved)) => Some(moved),
        _ => None,
    });
    assert_eq!(moved.unwrap().superseded.len(), 3);
    let runs = desk.runs().await;
    let newest = runs.iter().find(|run| run.sha.as_str() == shas[3]).unwrap();
    assert_eq!(newest.state.phase(), RunPhase::Queued);
    for run in runs.iter().filter(|run| run.id != newest.id) {
        assert_eq!((run.state.phase(), run.superseded_by), (RunPhase::Superseded, Some(newest.id)), "{}", run.sha);
    }
    assert_eq!(runs.len(), 4, "each that was passed over is told");
    desk.reconcile().await;
    desk.take().await;
    assert_eq!(desk.runs().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merges_of_a_weekend_without_a_webhook_are_passed_over_and_kept() {
    for merges in [36, 106] {
        let desk = Desk::new("").await;
        desk.follow().await;
        let mut shas = Vec::new();
        for number in 0..merges {
            shas.push(pull(&desk, &format!("work-{number}")).merge());
        }
        desk.pass(TimeDelta::hours(60));
        assert_eq!(desk.reconcile().await, ["merge main"]);
        let answers = desk.take().await;
        let [LookAnswer::Merge(MergeAnswer::Moved(moved))] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((moved.superseded.len(), moved.rewritten), (merges - 1, false));
        let newest = desk.runs().await.into_iter().find(|run| run.state.phase() == RunPhase::Queued).unwrap();
        assert_eq!(newest.sha.as_str(), shas[merges - 1]);
        for (number, sha) in shas.iter().enumerate() {
            let commit = desk.context.store.commit(&newest.repository, &sha.parse().unwrap()).await.unwrap().unwrap();
            let parent = number.checked_sub(1).map(|before| shas[before].parse().unwrap());
            assert!(parent.is_none() || commit.first_parent == parent, "merge {number} is kept with its parent");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_branches_test_merges_and_deleted_branches_are_not_measured() {
    let desk = Desk::new("").await;
    desk.follow().await;
    desk.hooked();
    let open = pull(&desk, "work");
    let other = pull(&desk, "into-other");
    desk.repo.commit("release/v1", CommitSpec::new("other branch"));
    desk.repo.delete_branch("release/v1");
    open.close();
    other.close();
    desk.hear().await;
    assert_eq!(desk.measured().await, [], "{} is only a test merge", open.merge_commit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewritten_branch_has_one_new_tip() {
    let desk = Desk::new("").await;
    desk.follow().await;
    desk.hooked();
    let history = desk.repo.history("main");
    let oldest = history.last().unwrap().clone();
    desk.repo.commit("rewritten", CommitSpec::new("again").parents(&[&oldest]));
    let tip = desk.repo.commit("rewritten", CommitSpec::new("and again"));
    desk.repo.set_branch("main", &tip);
    desk.hear().await;
    assert_eq!(desk.measured().await, [waits(&tip)]);
    desk.repo.set_branch("main", &history[0]);
    desk.hear().await;
    assert_eq!(desk.measured().await.len(), 2, "the tip of before was never measured: it is new");
    desk.repo.set_branch("main", &tip);
    desk.hear().await;
    assert_eq!(desk.measured().await.len(), 2, "nothing is measured twice");
}
