use proptest::prelude::*;

use super::standing::Counts;
use super::*;
use crate::model::{Conclusion, FailureKind, Trigger};
use crate::store::{KnownJob, Scope};

fn run(number: u64) -> RunId {
    number.try_into().unwrap()
}

fn facts(image: Fact<Image>, object: Fact<Option<String>>) -> Facts {
    Facts { standing: Standing::Unmeasured, image, object }
}

fn present() -> Fact<Image> {
    Fact::Known(Image::Present)
}

fn done() -> Facts {
    facts(present(), Fact::Known(Some("s3://b/k".to_owned())))
}

fn answer(facts: &[Facts]) -> DecidedOutcome {
    match decide(facts, UnknownPolicy::Wait, 8) {
        Step::Answer(decision) => decision.outcome,
        Step::Ask(questions) => panic!("asks {questions:?}"),
    }
}

#[test]
fn the_newest_commit_with_an_image_and_without_results() {
    let absent = || facts(Fact::Known(Image::Absent(None)), Fact::Unasked);
    let free = || facts(present(), Fact::Known(None));
    assert_eq!(answer(&[absent(), done(), free(), free()]), DecidedOutcome::Found(2));
    assert_eq!(answer(&[absent(), done(), absent()]), DecidedOutcome::NothingNew);
    assert_eq!(answer(&[]), DecidedOutcome::NothingNew, "a branch may be shorter than the look-back");
}

#[test]
fn nothing_is_asked_that_cannot_matter() {
    let ask = |facts: &[Facts], ahead| match decide(facts, UnknownPolicy::Wait, ahead) {
        Step::Ask(questions) => questions,
        Step::Answer(decision) => panic!("answers {decision:?}"),
    };
    let new = || Facts::new(Standing::Unmeasured);
    assert_eq!(ask(&[new(), new()], 8), [(0, Question::Image)]);
    assert_eq!(ask(&[facts(present(), Fact::Unasked), new()], 8), [(0, Question::Object)]);
    let measured = || Facts::new(Standing::Measured { run: run(1) });
    assert_eq!(ask(&[measured(), new()], 8), [(1, Question::Image)], "the store's knowledge costs no request");
    let long = |count: usize| (0..count).map(|_| measured()).chain((0..20).map(|_| new())).collect::<Vec<_>>();
    assert_eq!((ask(&long(5), 8).len(), ask(&long(50), 8).len()), (5, 8), "a long way is gone in strides");
    let free = facts(present(), Fact::Known(None));
    let mut near = long(5);
    near.insert(6, free);
    assert_eq!(ask(&near, 8).len(), 1, "not behind a free one");
}

#[test]
fn an_error_is_neither_absent_nor_unmeasured() {
    let failed = || Fact::Failed("registry down".to_owned());
    let free = || facts(present(), Fact::Known(None));
    let unknown = |index, text: &str| DecidedOutcome::Unknown(index, text.to_owned());
    assert_eq!(answer(&[facts(failed(), Fact::Known(None)), free()]), unknown(0, "registry down"));
    let no_bucket = facts(present(), Fact::Failed("forbidden".to_owned()));
    assert_eq!(answer(&[done(), no_bucket.clone(), free()]), unknown(1, "forbidden"));
    // Results that lie there settle it, whatever the registry says.
    let lies_there = facts(failed(), Fact::Known(Some("s3://b/k".to_owned())));
    assert_eq!(answer(&[lies_there, free()]), DecidedOutcome::Found(1));
    let passed = vec![(0, Reason::Unknown { error: "forbidden".to_owned() })];
    let older = Step::Answer(Decision { outcome: DecidedOutcome::Found(1), passed });
    assert_eq!(decide(&[no_bucket, free()], UnknownPolicy::PassOver, 8), older);
}

#[test]
fn a_commit_in_hand_is_not_passed_over_for_an_older_one() {
    let in_hand = Facts::new(Standing::InHand { run: run(7) });
    assert_eq!(answer(&[done(), in_hand, facts(present(), Fact::Known(None))]), DecidedOutcome::InHand(1, run(7)));
}

#[test]
fn own_incomplete_results_are_replaced() {
    let repeat = |uploaded| Facts { standing: Standing::MayRepeat { uploaded }, ..done() };
    assert_eq!(answer(&[repeat(true)]), DecidedOutcome::FoundAgain(0));
    assert_eq!(answer(&[repeat(false)]), DecidedOutcome::NothingNew, "somebody else's complete ones stand");
}

fn job(conclusion: Option<Conclusion>) -> KnownJob {
    KnownJob {
        run: run(1),
        trigger: Trigger::Schedule,
        scope: Scope::Full,
        conclusion,
        publishes: true,
        uploads: false,
    }
}

#[test]
fn a_commit_is_repeated_so_often_and_no_more() {
    let of = |jobs: &[KnownJob]| standing(jobs, Counts::Published, 2);
    let incomplete = || KnownJob { uploads: true, ..job(Some(Conclusion::Incomplete)) };
    let broken = || job(Some(Conclusion::Failure(FailureKind::NoResults)));
    let lost = || job(Some(Conclusion::Failure(FailureKind::LostRunner)));
    assert_eq!(of(&[]), Standing::Unmeasured);
    assert_eq!(of(&[lost(), lost(), lost()]), Standing::Unmeasured, "the house's faults are no tries");
    assert_eq!(of(&[incomplete()]), Standing::MayRepeat { uploaded: true });
    assert_eq!(of(&[broken()]), Standing::MayRepeat { uploaded: false });
    assert!(matches!(of(&[incomplete(), broken()]), Standing::GivenUp { .. }));
    assert_eq!(of(&[incomplete(), job(Some(Conclusion::Success))]), Standing::Measured { run: run(1) });
    assert_eq!(of(&[incomplete(), broken(), job(None)]), Standing::InHand { run: run(1) });
}

#[test]
fn results_that_were_kept_back_do_not_stand_for_the_commit() {
    let success = job(Some(Conclusion::Success));
    let kept_back = KnownJob { publishes: false, ..success.clone() };
    assert_eq!(standing(std::slice::from_ref(&kept_back), Counts::Published, 2), Standing::Unmeasured);
    assert_eq!(standing(std::slice::from_ref(&kept_back), Counts::Full, 2), Standing::Measured { run: run(1) });
    let part = KnownJob { scope: Scope::Part, ..kept_back.clone() };
    let rerun = KnownJob { trigger: Trigger::Rerun { of: run(1) }, ..kept_back };
    assert_eq!(standing(&[part, rerun], Counts::Full, 2), Standing::Unmeasured);
}

#[test]
fn what_was_imported_stands_for_the_commit_whoever_measured_it() {
    let trigger = Trigger::Imported { from: "s3://b".to_owned(), workflow_id: None };
    let imported = |conclusion| KnownJob { trigger: trigger.clone(), publishes: false, ..job(Some(conclusion)) };
    for counts in [Counts::Published, Counts::Full] {
        for conclusion in [Conclusion::Success, Conclusion::Incomplete] {
            let standing = standing(&[imported(conclusion)], counts, 2);
            assert_eq!(standing, Standing::Measured { run: run(1) }, "it is not replaced, it may be another's");
        }
        let replaced = standing(&[imported(Conclusion::Superseded)], counts, 2);
        assert_eq!(replaced, Standing::Unmeasured, "its object holds others' results now");
    }
}

fn fact<T: Clone + fmt::Debug + 'static>(known: impl Strategy<Value = T>) -> impl Strategy<Value = Fact<T>> {
    prop_oneof![4 => known.prop_map(Fact::Known), 1 => Just(Fact::Failed("down".to_owned()))]
}

proptest! {
    /// Asking lazily, so many at a time, comes to what knowing everything at once comes to.
    #[test]
    fn laziness_changes_no_answer(
        truth in proptest::collection::vec(
            (
                prop_oneof![
                    6 => Just(Standing::Unmeasured),
                    2 => Just(Standing::Measured { run: run(1) }),
                    1 => Just(Standing::MayRepeat { uploaded: true }),
                    1 => Just(Standing::InHand { run: run(2) }),
                ],
                fact(prop_oneof![Just(Image::Present), Just(Image::Absent(None))]),
                fact(prop_oneof![Just(None), Just(Some("s3://b/k".to_owned()))]),
            ),
            0..40,
        ),
        ahead in 1..9_usize,
    ) {
        let all: Vec<_> = truth
            .iter()
            .map(|(standing, image, object)| Facts {
                standing: standing.clone(),
                image: image.clone(),
                object: object.clone(),
            })
            .collect();
        let mut lazy: Vec<_> = all.iter().map(|facts| Facts::new(facts.standing.clone())).collect();
        let mut asked = 0;
        let decision = loop {
            match decide(&lazy, UnknownPolicy::Wait, ahead) {
                Step::Answer(decision) => break decision,
                Step::Ask(questions) => {
                    prop_assert!(!questions.is_empty() && questions.len() <= ahead);
                    for (index, question) in questions {
                        asked += 1;
                        match question {
                            Question::Image => lazy[index].image = all[index].image.clone(),
                            Question::Object => lazy[index].object = all[index].object.clone(),
                        }
                    }
                }
            }
        };
        prop_assert_eq!(Step::Answer(decision), decide(&all, UnknownPolicy::Wait, ahead));
        prop_assert!(asked <= 2 * all.len(), "no question twice");
    }
}
