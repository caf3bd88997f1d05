//! What may come between benchd and GitHub: nothing is lost, and nothing is told twice.

use benchd::github::{CheckOutput, CheckRun, CheckState};
use github_standin::Fault;

use super::*;

const COMMENTS: &str = "/repos/*/*/issues/*/comments";
const CHECKS: &str = "/repos/*/*/check-runs";

#[tokio::test]
async fn an_answer_that_is_lost_doubles_nothing() {
    for fault in [Fault::LostAnswer, Fault::StatusAfter(502), Fault::Truncated] {
        let site = Site::new().await;
        let run = site.whole_run(&site.pull.head(), site.by_labels(), 1.0).await;
        site.owe("reply", AnswerKind::Reply { text: "hello".into() }).await;
        // The first one is the reply's, the second one the comment's.
        let comments = site.gh.fault("POST", COMMENTS, fault.clone()).times(2);
        let checks = site.gh.fault("POST", CHECKS, fault.clone());
        let teller = site.teller();
        for _ in 0..12 {
            site.tell(&teller).await;
            site.later(31);
        }
        assert_eq!((comments.struck(), checks.struck()), (2, 1), "{fault:?}");
        let told = site.comments();
        assert_eq!(told.len(), 2, "{fault:?}: {told:#?}");
        assert!(told[0].starts_with("hello") && told[1].starts_with("**No baseline yet**"), "{told:#?}");
        assert_eq!(site.check(&site.pull.head()).0, "completed", "{fault:?}");
        assert_eq!(site.state(run).await, RunState::Published, "{fault:?}");
        assert_eq!(site.trouble(), None, "{fault:?}");
    }
}

/// A run that has ended and a benchd that was killed after it had sent a request of this kind and before its answer.
async fn killed_while_telling(route: &str) -> (Site, RunId) {
    let site = Site::new().await;
    let run = site.whole_run(&site.pull.head(), site.by_labels(), 1.0).await;
    let slow = site.gh.fault("POST", route, Fault::Slow(Duration::from_secs(30)));
    {
        let teller = site.teller();
        tokio::select! {
            () = site.tell(&teller) => panic!("the answer takes half a minute"),
            () = async {
                while slow.struck() == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            } => {}
        }
    }
    site.gh.called("POST", route, 1).await;
    (site, run)
}

#[tokio::test]
async fn a_kill_between_request_and_answer_doubles_nothing() {
    let client = |site: &Site| GitHub::timed(&site.config.github, site.clock.clone()).unwrap();
    let (site, run) = killed_while_telling(COMMENTS).await;
    // The request that was on its way has arrived.
    let marker = format!("<!-- benchd:comment of o/r #{} by benchd -->", site.pull.number());
    let repo = "o/r".parse().unwrap();
    client(&site).create_comment(&repo, site.pull.number(), &format!("late\n\n{marker}")).await.unwrap();
    let teller = site.teller();
    site.tell(&teller).await;
    assert_eq!(site.comment().lines().next(), Some("late"), "it is not looked for at once: it may be on its way");
    site.later(11);
    site.tell(&teller).await;
    assert!(site.comment().starts_with("**No baseline yet**"));
    assert_eq!(site.state(run).await, RunState::Published);

    let (site, run) = killed_while_telling(CHECKS).await;
    let late = CheckRun {
        name: "benchd".into(),
        sha: site.head(),
        external_id: "benchd".into(),
        details_url: None,
        started_at: None,
        state: CheckState::Queued,
        output: CheckOutput { title: "late".into(), summary: "late".into(), text: None },
    };
    client(&site).create_check_run(&repo, &late).await.unwrap();
    site.later(11);
    site.tell(&site.teller()).await;
    assert_eq!(site.check(&site.pull.head()).0, "completed");
    assert_eq!(site.state(run).await, RunState::Published);
}

#[tokio::test]
async fn a_request_that_a_kill_cut_off_is_made_again() {
    for route in [COMMENTS, CHECKS] {
        let (site, run) = killed_while_telling(route).await;
        site.later(11);
        site.tell(&site.teller()).await;
        assert!(site.comment().starts_with("**No baseline yet**"), "{route}");
        assert_eq!(site.check(&site.pull.head()).0, "completed", "{route}");
        assert_eq!(site.state(run).await, RunState::Published, "{route}");
    }
}

#[tokio::test]
async fn a_comment_that_somebody_deletes_is_written_again() {
    let site = Site::new().await;
    let run = site.submit(&site.pull.head(), site.by_labels()).await;
    let teller = site.teller();
    site.tell(&teller).await;
    let id = site.pull.comments()[0].id;
    site.pull.by("ann").delete_comment(id);
    let _cancelled = site.queue.cancel(run, "cancelled by ann").await.unwrap();
    site.tell(&teller).await;
    assert!(site.comment().starts_with("**Cancelled**"));
    assert_eq!(site.gh.calls().to("POST", COMMENTS).count(), 2);
}

#[tokio::test]
async fn the_comment_is_found_on_the_third_page_and_only_our_own_counts() {
    let site = Site::new().await;
    let run = site.submit(&site.pull.head(), site.by_labels()).await;
    let marker = format!("<!-- benchd:comment of o/r #{} by benchd -->", site.pull.number());
    for number in 0..230 {
        site.pull.by("mallory").comment(&format!("no {number}\n\n{marker}"));
    }
    site.tell(&site.teller()).await;
    let ours = site.comment();
    assert!(ours.ends_with(&marker), "{ours}");
    // The store is lost, and the run is asked for anew.
    let fresh = Store::open(&site.dir.path().join("fresh")).await.unwrap();
    let fresh_queue = Queue::new(fresh.clone(), site.clock.clone(), Pace::default());
    let site = Site { store: fresh, queue: fresh_queue, ..site };
    site.later(60);
    let again = site.whole_run(&site.pull.head(), site.by_labels(), 2.0).await;
    assert_ne!(again, run);
    site.tell(&site.teller()).await;
    assert!(site.comment().starts_with("**No baseline yet**"), "{}", site.comment());
    assert_eq!(site.check(&site.pull.head()).0, "completed", "the check run was found again too");
    assert!(site.pull.comments()[..230].iter().all(|c| c.body.starts_with("no ")), "others' comments stay");
}

#[tokio::test]
async fn revoked_or_suspended_is_waited_for_and_shown() {
    let site = Site::new().await;
    let run = site.whole_run(&site.pull.head(), site.by_labels(), 1.0).await;
    site.gh.suspend_installation(true);
    let teller = site.teller();
    site.tell(&teller).await;
    assert!(site.trouble().unwrap().contains("suspended"), "{:?}", site.trouble());
    assert_eq!(site.owed(run, OwedKind::Comment).await.unwrap().0, OwedState::Owed);
    site.gh.forget_calls();
    site.tell(&teller).await;
    assert_eq!(site.gh.calls().count(), 0, "nothing is asked before its time");
    site.gh.suspend_installation(false);
    for _ in 0..12 {
        site.later(60);
        site.tell(&teller).await;
    }
    assert_eq!((site.comments().len(), site.trouble()), (1, None));
    assert_eq!(site.state(run).await, RunState::Published);

    let site = Site::with(As::Token, "").await;
    let run = site.whole_run(&site.pull.head(), site.by_labels(), 1.0).await;
    let refused = site.gh.fault("*", "/**", Fault::Unauthorised).forever();
    let teller = site.teller();
    for _ in 0..5 {
        site.tell(&teller).await;
        site.later(10);
    }
    assert_eq!(refused.struck(), 2, "asked once, and once more when half a minute had passed");
    assert!(site.trouble().unwrap().contains("does not accept the credentials"), "{:?}", site.trouble());
    assert_eq!(site.state(run).await, RunState::Measured);
    site.gh.clear_faults();
    site.later(300);
    site.tell(&teller).await;
    assert_eq!((site.comments().len(), site.trouble()), (1, None));
}

#[tokio::test]
async fn a_refused_status_is_shown_until_it_is_taken() {
    let site = Site::with(As::Token, "").await;
    let run = site.submit(&site.pull.head(), site.by_labels()).await;
    let refused = site.gh.fault("POST", "/repos/*/*/statuses/*", Fault::Status(403)).forever();
    let teller = site.teller();
    site.tell(&teller).await;
    assert!(site.trouble().is_some() && site.comment().starts_with("**Queued**"));
    // The comment goes on, and the status is refused again and again.
    let job = site.claim().await;
    site.begin(&job, &site.pull.head()).await;
    site.later(5);
    site.tell(&teller).await;
    assert!(site.trouble().is_some() && site.comment().starts_with("**Running**"), "{}", site.comment());
    site.owe("reply", AnswerKind::Reply { text: "hello".into() }).await;
    site.end(&job, 1.0).await;
    for _ in 0..10 {
        site.later(60);
        site.tell(&teller).await;
        assert!(site.trouble().is_some(), "after {} refusals", refused.struck());
    }
    assert!((3..=8).contains(&refused.struck()), "{}", refused.struck());
    site.gh.clear_faults();
    site.later(300);
    site.tell(&teller).await;
    assert_eq!((site.trouble(), site.state(run).await), (None, RunState::Published));
}

#[tokio::test]
async fn both_rate_limits_are_obeyed() {
    let limits = [
        (Fault::PrimaryLimit { status: 403, reset_in_s: 1800 }, 1800),
        (Fault::PrimaryLimit { status: 429, reset_in_s: 900 }, 900),
        (Fault::SecondaryLimit { status: 403, retry_after_s: Some(120) }, 120),
        (Fault::SecondaryLimit { status: 429, retry_after_s: None }, 60),
    ];
    for (limit, seconds) in limits {
        let site = Site::new().await;
        let run = site.whole_run(&site.pull.head(), site.by_labels(), 1.0).await;
        site.gh.fault("POST", COMMENTS, limit.clone());
        let teller = site.teller();
        site.tell(&teller).await;
        assert_eq!(site.trouble(), None, "a limit is ordinary");
        let asked = site.gh.calls().count();
        site.later(seconds - 15);
        site.tell(&teller).await;
        assert_eq!(site.gh.calls().count(), asked, "{limit:?}");
        // A client may add some seconds of its own.
        site.later(90);
        site.tell(&teller).await;
        assert!(site.comment().starts_with("**No baseline yet**"), "{limit:?}");
        assert_eq!(site.state(run).await, RunState::Published, "{limit:?}");
        site.gh.calls().assert_limits_obeyed();
    }
}

#[tokio::test]
async fn a_repository_that_is_renamed_keeps_its_comment() {
    let site = Site::new().await;
    let run = site.submit(&site.pull.head(), site.by_labels()).await;
    let teller = site.teller();
    site.tell(&teller).await;
    site.repo.rename("o/renamed");
    let _cancelled = site.queue.cancel(run, "cancelled by ann").await.unwrap();
    site.tell(&teller).await;
    assert!(site.comment().starts_with("**Cancelled**"), "{}", site.comment());
    assert_eq!(site.owed(run, OwedKind::CheckRun).await, Some((OwedState::Delivered, None)));
}

#[tokio::test]
async fn a_pull_request_that_is_gone_is_refused_and_the_run_is_published() {
    let site = Site::new().await;
    let run = site.whole_run(&site.pull.head(), Trigger::PullRequest { number: 4040 }, 1.0).await;
    site.tell(&site.teller()).await;
    let (state, reason) = site.owed(run, OwedKind::Comment).await.unwrap();
    assert_eq!(state, OwedState::Refused);
    assert!(reason.unwrap().contains("GitHub knows nothing at"), "a reason is kept");
    assert_eq!(site.state(run).await, RunState::Published);
}

#[tokio::test]
async fn github_that_is_down_loses_nothing() {
    let site = Site::new().await;
    let run = site.whole_run(&site.pull.head(), site.by_labels(), 1.0).await;
    let down = site.gh.fault("*", "/**", Fault::Status(503)).forever();
    let teller = site.teller();
    for _ in 0..60 {
        site.tell(&teller).await;
        site.later(60);
    }
    assert!(down.struck() <= 10, "{} requests in an hour of outage", down.struck());
    assert!(site.trouble().is_some());
    site.gh.clear_faults();
    site.later(3600);
    site.tell(&teller).await;
    assert_eq!((site.comments().len(), site.trouble()), (1, None));
    assert_eq!(site.state(run).await, RunState::Published);
}

#[tokio::test]
async fn an_installation_token_that_is_revoked_is_replaced_and_everything_told_once() {
    let site = Site::new().await;
    let run = site.submit(&site.pull.head(), site.by_labels()).await;
    let teller = site.teller();
    site.tell(&teller).await;
    let tokens = |site: &Site| site.gh.calls().to("POST", "/app/installations/*/access_tokens").count();
    assert_eq!((site.comments().len(), tokens(&site)), (1, 1));
    site.gh.revoke_installation_tokens();
    let job = site.claim().await;
    site.begin(&job, &site.pull.head()).await;
    site.end(&job, 1.0).await;
    site.owe("reply", AnswerKind::Reply { text: "hello".into() }).await;
    for _ in 0..4 {
        site.tell(&teller).await;
        site.later(31);
    }
    let told = site.comments();
    assert!(told.len() == 2 && told[0].starts_with("**No baseline yet**") && told[1].starts_with("hello"), "{told:#?}");
    assert_eq!((site.check(&site.pull.head()).0.as_str(), tokens(&site)), ("completed", 2));
    assert!(site.gh.calls().filter(|call| call.status == Some(401)).count() >= 1, "it was refused in earnest");
    assert_eq!((site.state(run).await, site.trouble()), (RunState::Published, None));
}

#[tokio::test]
async fn names_that_others_choose_break_nothing_and_call_nobody() {
    const HOSTILE: &str = "feat`x|@everyone<img>\u{202e}#1";
    let shown = "``feat`x¦@everyone<img>#1``";
    let site = Site::new().await;
    let merged = site.request(HOSTILE, &site.base, Trigger::Merge).await;
    site.measure(&site.base, 100.0).await;
    let mut asked = site.planned("pull/1/head", &site.pull.head(), site.by_labels()).await;
    asked.run.terms.asked_by = Some(HOSTILE.into());
    let run = site.queued(&asked).await;
    site.measure(&site.pull.head(), 110.0).await;
    let head: CommitSha = site.pull.push(CommitSpec::new("@everyone")).parse().unwrap();
    let said = Some(format!("waiting for {HOSTILE}\n@all"));
    let moved = PullRow { base_branch: HOSTILE.into(), head: head.clone(), said, ..site.seen("ready") };
    site.look(&moved).await;
    let title = format!("waiting for label `{HOSTILE}`");
    let check = AnswerKind::Check {
        sha: head.clone(),
        title: title.clone(),
        summary: title,
        state: benchd::store::QuietCheck::Skipped,
    };
    site.owe("check", check).await;
    site.owe("reply", AnswerKind::Reply { text: format!("there is no {HOSTILE}, GH-1, ann@example.org, @ann") }).await;
    site.tell(&site.teller()).await;
    let [reply, told] = &site.comments()[..] else { panic!("{:#?}", site.comments()) };
    assert!(told.contains(&format!("asked by {shown}.")), "{told}");
    assert!(told.contains(&format!("the newest measured commit of {shown} (1 series, run {merged})")), "{told}");
    assert!(told.contains("by now (``waiting for feat`x¦@everyone<img>#1 @all``)"), "{told}");
    assert!(told.contains(&format!("run {run} ")) && !told.contains('\u{202e}'), "{told}");
    let rows: Vec<usize> =
        told.lines().filter(|line| line.starts_with('|')).map(|row| row.matches('|').count()).collect();
    assert_eq!(rows, [8, 8, 8], "{told}");
    assert_eq!(
        reply.lines().next().unwrap(),
        "there is no feat`x|@\u{200b}everyone<img>#\u{200b}1, GH-\u{200b}1, ann@example.org, @\u{200b}ann"
    );
    let (phase, conclusion) = site.check(head.as_str());
    assert_eq!((phase.as_str(), conclusion.as_deref()), ("completed", Some("skipped")));
    let output = &site.repo.check_runs(head.as_str())[0]["output"];
    assert!(!output["summary"].as_str().unwrap().contains("@everyone"), "{output}");
    assert!(!output["title"].as_str().unwrap().contains('\u{202e}'), "{output}");
}
