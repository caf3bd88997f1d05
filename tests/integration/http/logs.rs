//! Logs: as files with ranges, and as streams that grow and can be taken up again.

use std::fs::OpenOptions;
use std::io::Write;

use benchd::model::Conclusion;
use reqwest::header::RANGE;

use super::{Answer, Site, against, output};

fn append(path: &std::path::Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_log_is_sent() {
    let (site, filled) = Site::filled().await;
    let path = format!("/api/v1/jobs/{}/log", filled.good_job);
    let whole = site.get(&path).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!((whole.header("benchd-attempt"), whole.header("benchd-pass")), ("1", "1"));
    assert!(whole.text.ends_with(" done\n"));
    let ranged = |range: &str| site.client.get(site.url(&path)).header(RANGE, range.to_owned()).send();
    let part = Answer::of(ranged("bytes=-5").await.unwrap()).await;
    assert_eq!((part.status, part.text.as_str()), (206, "done\n"));
    assert_eq!(part.header("content-range"), format!("bytes 51-55/{}", whole.text.len()));
    let beyond = Answer::of(ranged("bytes=1000-").await.unwrap()).await;
    assert_eq!(beyond.status, 416);
    beyond.assert_problem("out_of_range", "the file is shorter than that");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_grows_with_the_log_and_ends_with_the_pass() {
    let site = Site::open().await;
    site.submit(1).await;
    let job = site.claim().await;
    let path = format!("/api/v1/jobs/{}/log/follow", job.job.id);
    let answer = site.get(&path).await;
    answer.assert_problem("not_found", &format!("job {} has no log yet: it is claimed by gpu-1", job.job.id));
    let log = site.begin(&job).await;
    append(&log, "one\n");
    let mut stream = site.client.get(site.url(&path)).send().await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "one\n");
    append(&log, "two\n");
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "two\n", "what comes is sent as it comes");
    // The connection breaks; what was not seen is sent again from there.
    drop(stream);
    append(&log, "three\n");
    let resumed = site.client.get(site.url(&format!("{path}?attempt=1&pass=1&offset=8")));
    let resumed = tokio::spawn(async move { Answer::of(resumed.send().await.unwrap()).await });
    append(&log, "four\n");
    site.end(&job, 1.0).await;
    append(&log, "late\n");
    let answer = resumed.await.unwrap();
    assert!(answer.text.starts_with("three\nfour\n"), "{}", answer.text);
    assert_eq!(site.get(&format!("{path}?offset=24")).await.text, "", "nothing new, and it has ended");
    let beyond = site.get(&format!("{path}?offset=25")).await;
    beyond.assert_problem("out_of_range", "the log has 24 bytes, 25 are known already: begin anew");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_the_server_stops() {
    let site = Site::open().await;
    site.submit(1).await;
    let job = site.claim().await;
    append(&site.begin(&job).await, "begun\n");
    let url = site.url(&format!("/api/v1/jobs/{}/log/follow", job.job.id));
    let mut stream = site.client.get(url).send().await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "begun\n");
    site.stop().await;
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_follows_to_the_end() {
    let site = Site::open().await;
    let run = site.submit(1).await;
    let job = site.claim().await;
    let log = site.begin(&job).await;
    append(&log, "one\n");
    // Over the server and in the store beside it: the same.
    let over = tokio::spawn(output(against(&site, &["logs", "-f", &run.to_string()])));
    let mut beside = crate::support::benchd();
    beside.args(["logs", "-f", &job.job.id.to_string(), "--state-dir"]).arg(site.dir.path());
    let beside = tokio::spawn(output(beside));
    append(&log, "two\n");
    site.end(&job, 1.0).await;
    site.finish(&job, Conclusion::Success).await;
    for output in [over.await.unwrap(), beside.await.unwrap()] {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\n");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.ends_with(&format!("-- job {}: success\n", job.job.id)), "{told}");
    }
    let text = output(against(&site, &["logs", &job.job.id.to_string()])).await;
    assert_eq!(String::from_utf8_lossy(&text.stdout), "one\ntwo\n");
    let objects = output(against(&site, &["logs", "--json", &job.job.id.to_string()])).await;
    assert_eq!(String::from_utf8_lossy(&objects.stdout), "{\"line\":\"one\"}\n{\"line\":\"two\"}\n");
    site.stop().await;
}
