//! The images that jobs wait for, looked for by the real daemon.

use axum::body::Body;
use github_standin::{CommitSpec, PullSpec};

use super::daemon::{Place, until};
use crate::support::stand_in::{StandIn, answer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_asked_for_once_and_one_that_hangs_keeps_no_other_waiting() {
    let place = Place::new("1d");
    let labels = ["perf-benchmarks", "ready"];
    let heads = ["first", "second"].map(|branch| {
        place.repo.commit(branch, CommitSpec::new(branch));
        (branch, place.repo.tip(branch))
    });
    let hangs = heads[0].1.clone();
    let registry = StandIn::start(move |asked| {
        let hangs = asked.path.contains(&hangs);
        async move { if hangs { std::future::pending().await } else { answer(204, &[], Body::empty()) } }
    })
    .await;
    place.look_for_images_at(&format!("http://{}/{{sha}}", registry.host));
    let _daemon = place.start(None).await.unwrap();
    place.followed().await;

    let looked_for = async |sha: &str| {
        let count = "select count(*) from jobs join runs on runs.id = jobs.run_id where last_look is not null";
        place.number(&format!("{count} and sha = '{sha}'")).await
    };
    let path = |sha: &str| format!("/{sha}");
    place.repo.open(PullSpec::new(heads[0].0).labels(&labels)).comment("the first");
    until("the image that hangs is asked for", async || registry.count("GET", &path(&heads[0].1)) > 0).await;
    place.repo.open(PullSpec::new(heads[1].0).labels(&labels)).comment("the second");
    until("both models know of the other image", async || looked_for(&heads[1].1).await == 2).await;
    assert_eq!(looked_for(&heads[0].1).await, 0, "nobody knows of the first yet");
    assert_eq!(registry.count("GET", &path(&heads[0].1)), 1, "one question for both models");
}
