//! How near packing comes to the best that is possible: the shipped benchmarks of cuda on a simulated host with 8
//! devices, beside running one job at a time. Simulated time: the figures depend on the seeds alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints and fails at once"
)]

#[path = "../tests/support/packing.rs"]
mod packing;

use benchd::config::Packing;
use packing::{DEVICES, Packed, simulate};

const SEEDS: u64 = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = |packing, commits, seed| {
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(simulate(dir.path(), packing, commits, seed))
    };
    println!("commits  lower bound   packed  ratio (mean, worst)   one at a time  ratio");
    for commits in [1, 2, 3, 4, 8] {
        let packed: Vec<_> = (0..SEEDS).map(|seed| run(Packing::Pack, commits, seed)).collect();
        let alone: Vec<_> = (0..SEEDS).map(|seed| run(Packing::Exclusive, commits, seed)).collect();
        println!(
            "{commits:>7}  {:>9.0} m  {:>5.0} m  {:>4.2}, {:>4.2}           {:>10.0} m  {:>5.2}",
            mean(&packed, |p| p.lower_bound.as_seconds_f64() / 60.0),
            mean(&packed, |p| p.took.as_seconds_f64() / 60.0),
            mean(&packed, Packed::ratio),
            packed.iter().map(Packed::ratio).fold(0.0, f64::max),
            mean(&alone, |p| p.took.as_seconds_f64() / 60.0),
            mean(&alone, Packed::ratio),
        );
    }
    let best: Vec<_> = (0..SEEDS).map(packing::best_of_two_commits).collect();
    let (all, worst) = (best.iter().sum::<f64>(), best.iter().copied().fold(0.0, f64::max));
    println!("\nthe best of all orders of two commits: ratio {:.2}, {worst:.2}", all / SEEDS as f64);
    println!("\ntwo commits, packed (seed 0; a column is {STEP} minutes):\n{}", drawn(&run(Packing::Pack, 2, 0)));
}

/// Minutes of a column.
const STEP: i64 = 10;

/// One line for each device; each job is a letter, jobs of one model are the same letter.
fn drawn(packed: &Packed) -> String {
    let mut models: Vec<_> = packed.stays.iter().map(|stay| stay.model.clone()).collect();
    models.sort();
    models.dedup();
    let mut lines = Vec::new();
    for device in 0..DEVICES {
        let letter = |at: i64| {
            let here = |stay: &&packing::Stay| {
                stay.devices.contains(&device) && (stay.from.num_minutes()..stay.to.num_minutes()).contains(&at)
            };
            let model = packed.stays.iter().find(here).map(|stay| &stay.model);
            model
                .and_then(|model| models.iter().position(|m| m == model))
                .map_or('.', |n| ['a', 'b', 'c', 'd', 'e'][n % 5])
        };
        let columns = (0..packed.took.num_minutes()).step_by(usize::try_from(STEP).unwrap());
        lines.push(format!("  device {device}  {}", columns.map(letter).collect::<String>()));
    }
    lines.extend(models.iter().zip('a'..).map(|(model, letter)| format!("  {letter}  {model}")));
    lines.join("\n")
}

fn mean(all: &[Packed], of: impl Fn(&Packed) -> f64) -> f64 {
    all.iter().map(of).sum::<f64>() / f64::from(u32::try_from(all.len()).unwrap())
}
