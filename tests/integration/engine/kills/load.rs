//! Kills at random moments while ten runs are measured.

use std::time::Duration;

use super::daemon::Case;
use super::world::{World, assert_records};
use super::{NO_SCHEDULE, ended};

const RUNS: usize = 10;
/// How long a daemon lives, in milliseconds: often too short for anything, sometimes long enough for a job.
const LIFE_MS: std::ops::Range<u64> = 100..2800;
/// More lives than this are no progress.
const MOST_LIVES: usize = 200;

/// Numbers that look random and are the same in every run of the test (Knuth's linear congruential generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_runs_survive_kills_at_random_moments() {
    let seed = std::env::var("BENCHD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("seed {seed}");
    let mut numbers = Numbers(seed);
    let world = World::new(RUNS).await;
    let case = Case::in_bucket(&world, "load", "engine", NO_SCHEDULE);
    let mut accepted: Vec<Option<u64>> = vec![None; RUNS];
    for life in 1.. {
        assert!(life < MOST_LIVES, "no progress");
        let daemon = case.listening().await;
        let lives = Duration::from_millis(LIFE_MS.start + numbers.below(LIFE_MS.end - LIFE_MS.start));
        let asking = async {
            for (sha, accepted) in world.commits.iter().zip(&mut accepted) {
                if accepted.is_none() {
                    *accepted = daemon.submit(sha, sha, "configured").await.map(|(run, _)| run);
                }
            }
            std::future::pending::<()>().await
        };
        let killed = tokio::time::timeout(lives, asking).await;
        assert!(killed.is_err());
        let runs = daemon.runs().await;
        println!("life {life}: {lives:?}, {} of {} ended", runs.iter().filter(|run| ended(run)).count(), runs.len());
        for run in accepted.iter().flatten() {
            assert!(runs.iter().any(|seen| seen["id"] == *run), "an accepted request is forgotten");
        }
        if runs.len() == RUNS && runs.iter().all(ended) {
            break;
        }
        daemon.kill();
    }
    let daemon = case.listening().await;
    assert_eq!(daemon.runs().await.len(), RUNS);
    for (sha, accepted) in world.commits.iter().zip(accepted) {
        let (run, _) = daemon.submit(sha, sha, "configured").await.unwrap();
        assert!(accepted.is_none_or(|accepted| accepted == run));
        world.assert_whole(&case, &daemon, run).await;
        // A container whose start was under way at the kill may be seen as one that never started: it is removed
        // (137) and another one measures.
        let ends: Vec<_> = world.events(run).await.into_iter().filter(|event| event != "start").collect();
        assert_eq!(ends.iter().filter(|end| *end == "0").count(), 1, "measured once: {ends:?}");
        assert!(ends.iter().all(|end| end == "0" || end == "137"), "{ends:?}");
    }
    let objects = world.objects("load");
    assert_eq!(objects.len(), RUNS, "{objects:?}");
    for (key, text) in &objects {
        assert_records(text, key);
    }
    assert_eq!(world.puts("load"), RUNS, "each object was put once");
}
