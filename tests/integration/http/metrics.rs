//! `/metrics` and the page that explains it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use benchd::health::Part;
use benchd::meters::{self, Call, DeliveryOutcome, ImagePull, Phase, Service};

use super::Site;

/// Every metric of an exposition with its labels, help and kind taken apart.
fn exposed(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let labels = rest.strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
        let labels = labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
        found.entry(name.to_owned()).or_default().extend(labels.filter(|label| label != "le"));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_and_exposition_are_equal() {
    let (site, _) = Site::filled().await;
    site.health.trouble(Part::Disk, "full");
    meters::phase(Phase::Pass, std::time::Duration::from_secs(70));
    meters::image_pull(ImagePull::Pulled);
    meters::api_call(Service::Github, Call::Ok);
    meters::delivery("push", DeliveryOutcome::Marked);
    meters::look("pull", true);
    site.get("/api/v1/runs").await;
    let page = site.get("/metrics").await;
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let exposed = exposed(&page.text);
    let known = meters::ALL.iter().map(|meter| {
        (meter.name.to_owned(), meter.labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>())
    });
    assert_eq!(exposed, known.collect());
    for meter in meters::ALL {
        assert!(page.text.contains(&format!("# HELP {} {}\n", meter.name, meter.help)), "{}", meter.name);
    }
    let documented = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md")).unwrap();
    let rows: Vec<_> = documented.lines().filter(|line| line.starts_with("| `benchd_")).collect();
    assert_eq!(rows.len(), meters::ALL.len(), "docs/monitoring.md");
    for (row, meter) in rows.iter().zip(meters::ALL) {
        let labels = meter.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let kind = format!("{:?}", meter.kind).to_lowercase();
        let told = format!("| `{}` | {kind} | {labels} | {} | ", meter.name, meter.help);
        let advice = row.strip_prefix(&told).unwrap_or_else(|| panic!("docs/monitoring.md: {row} is not {told}.."));
        assert!(advice.len() > 20, "docs/monitoring.md does not say what to do: {row}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_are_those_of_the_rows() {
    let (site, _) = Site::filled().await;
    site.claim().await;
    site.clock.advance(chrono::Duration::seconds(90));
    let page = site.get("/metrics").await.text;
    for line in [
        "benchd_runs_total{trigger=\"manual\",state=\"failed\"} 1",
        "benchd_open_runs{state=\"measured\"} 1",
        "benchd_open_runs{state=\"running\"} 1",
        "benchd_jobs{state=\"queued\"} 1",
        "benchd_jobs{state=\"claimed\"} 1",
        "benchd_jobs{state=\"running\"} 0",
        "benchd_job_conclusions_total{conclusion=\"failure\",failure=\"suite_exit\"} 1",
        "benchd_job_conclusions_total{conclusion=\"success\",failure=\"\"} 1",
        "benchd_queue_age_seconds 90",
        "benchd_outbox{kind=\"upload\"} 1",
        "benchd_outbox{kind=\"comment\"} 0",
        "benchd_outbox_age_seconds 90",
        "benchd_slots{state=\"used\"} 1",
        "benchd_slots{state=\"free\"} 7",
        "benchd_ready 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    // Counts are kept for a few seconds, then taken anew.
    site.submit(1).await;
    assert!(site.get("/metrics").await.text.contains("benchd_jobs{state=\"queued\"} 1\n"));
    site.clock.advance(chrono::Duration::seconds(5));
    assert!(site.get("/metrics").await.text.contains("benchd_jobs{state=\"queued\"} 2\n"));
    site.stop().await;
}
