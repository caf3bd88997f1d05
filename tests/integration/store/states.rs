//! docs/states.md draws the tables of legal moves: the page and the enums are kept equal here.

use std::collections::BTreeSet;

use benchd::model::{JobPhase, RunPhase};

const BOUNDARY: &str = "[*]";

/// The arrows of the n-th diagram of the page.
fn drawn(diagram: usize) -> BTreeSet<(String, String)> {
    let page = include_str!("../../../docs/states.md");
    let block = page.split("```mermaid").nth(diagram + 1).unwrap().split("```").next().unwrap();
    let arrows = block.lines().filter_map(|line| line.split_once("-->"));
    arrows.map(|(from, to)| (from.trim().to_owned(), to.trim().to_owned())).collect()
}

/// The arrows that a table of moves means, with the ways in and the ways out.
fn meant<P: Copy + std::fmt::Debug + 'static>(
    all: &[P],
    starts: &[P],
    is_final: impl Fn(P) -> bool,
    moves: impl Fn(P) -> &'static [P],
) -> BTreeSet<(String, String)> {
    let name = |phase: P| format!("{phase:?}");
    let mut arrows: BTreeSet<_> = starts.iter().map(|p| (BOUNDARY.to_owned(), name(*p))).collect();
    for from in all {
        arrows.extend(moves(*from).iter().map(|to| (name(*from), name(*to))));
        if is_final(*from) {
            arrows.insert((name(*from), BOUNDARY.to_owned()));
        }
    }
    arrows
}

#[test]
fn the_page_draws_what_the_tables_say() {
    assert_eq!(drawn(0), meant(&RunPhase::ALL, &[RunPhase::Requested], RunPhase::is_final, RunPhase::moves));
    let starts = [JobPhase::WaitingForImage, JobPhase::Queued];
    let finished = |phase| phase == JobPhase::Finished;
    assert_eq!(drawn(1), meant(&JobPhase::ALL, &starts, finished, JobPhase::moves));
}
