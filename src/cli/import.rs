//! `benchd import`: published objects into the store.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use url::Url;

use super::state_dir::StateDirArgs;
use super::{Answer, CommandResult, Failure, Fault, terminal};
use crate::app::import::{ImportError, ImportEvent, Imported, Source, Wish, import, known_benchmarks};
use crate::clock::Clock;
use crate::config::{PublishTarget, TargetUrl};
use crate::model::{DeviceType, Platform, RepoName, Variant};
use crate::results::identity::Hints;
use crate::store::{Store, StoreError};

/// Arguments of `benchd import`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the objects lie: `s3://bucket/v3/owner/name/`, `s3://bucket`, `file:///folder` or a folder
    #[arg(value_name = "FROM")]
    from: String,

    #[command(flatten)]
    state_dir: StateDirArgs,

    /// Repository, where the path does not say it; records of others are refused
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<RepoName>,

    /// Variant of records that do not say theirs [default: what the name of their result file says, else unknown]
    #[arg(long)]
    variant: Option<Variant>,

    /// Benchmark files, a folder for each platform, that the records of others were measured with: makes their series
    /// those of benchd's own measurements
    #[arg(long, value_name = "DIR")]
    benchmarks: Option<PathBuf>,

    /// Full name of hardware that records have shortened, as `benchd device` tells it; may be repeated
    #[arg(long, value_name = "TYPE")]
    device_type: Vec<DeviceType>,

    /// Address of an S3-compatible service
    #[arg(long, value_name = "URL")]
    endpoint: Option<Url>,

    /// Region of the bucket
    #[arg(long)]
    region: Option<String>,

    /// Use no credentials for the bucket
    #[arg(long)]
    anonymous: bool,

    /// Only commits since then: a date, or RFC 3339
    #[arg(long, value_name = "DATE", value_parser = instant)]
    since: Option<DateTime<Utc>>,

    /// At most so many objects, the newest ones
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Read what was imported before once more
    #[arg(long)]
    again: bool,

    /// Read and judge everything, write nothing
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answered<'a> {
    ok: bool,
    dry_run: bool,
    #[serde(flatten)]
    imported: &'a Imported,
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let date = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc());
    let exact = DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc));
    exact.or_else(date).ok_or_else(|| format!("`{text}` is neither a date (2026-01-31) nor an RFC 3339 time"))
}

/// Runs the command: 1 when something was broken.
pub async fn run(args: Args) -> CommandResult {
    let url = address(&args.from).map_err(Failure::usage)?;
    let access = PublishTarget {
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        anonymous: args.anonymous,
        ..PublishTarget::default()
    };
    let source = Source::open(&url, &access, args.repo.as_ref()).map_err(failed)?;
    let benchmarks = args.benchmarks.as_deref().map(known_benchmarks).transpose().map_err(failed)?;
    let devices = args.device_type.iter();
    let devices = devices.flat_map(|device| Platform::ALL.map(|platform| (platform, device.clone())));
    let wish = Wish {
        since: args.since,
        limit: args.limit,
        again: args.again,
        hints: Hints {
            repo: args.repo.clone(),
            variant: args.variant,
            devices: devices.collect(),
            benchmarks: benchmarks.unwrap_or_default(),
        },
    };
    let folder = args.state_dir.folder()?;
    let store = match args.dry_run {
        false => Some(Store::open(&folder).await.map_err(Failure::infrastructure)?),
        true => match Store::open_existing(&folder).await {
            Ok(store) => Some(store),
            Err(StoreError::Absent { .. }) => None,
            Err(error) => return Err(Failure::infrastructure(error)),
        },
    };
    let bar = Bar::new();
    let mut tell = |event| bar.tell(&event);
    let clock = Clock::system();
    let ended = tokio::select! {
        ended = import(&source, store.as_ref(), args.dry_run, &wish, &clock, &mut tell) => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    bar.finish();
    if let Some(store) = store {
        store.close().await;
    }
    let Some(ended) = ended else {
        let error = anyhow!("stopped; what was imported stays, the same command goes on from here");
        return Err(Failure { fault: Fault::Interrupted, error });
    };
    let imported = ended.map_err(failed)?;
    let ok = imported.broken == 0;
    if args.json {
        let answered = Answered { ok, dry_run: args.dry_run, imported: &imported };
        terminal::print_json(&answered).map_err(Failure::infrastructure)?;
    } else {
        print(&imported, args.dry_run);
    }
    Ok(if ok { Answer::Yes } else { Answer::No })
}

fn failed(error: ImportError) -> Failure {
    match error {
        ImportError::Folder(_) | ImportError::Benchmarks(_) | ImportError::NoBenchmarks(_) => Failure::usage(error),
        ImportError::Objects(_) | ImportError::Store(_) | ImportError::Join(_) => Failure::infrastructure(error),
    }
}

/// A bucket's or folder's address; a path is a folder.
fn address(text: &str) -> anyhow::Result<TargetUrl> {
    if text.contains("://") {
        return Ok(text.parse()?);
    }
    let path = std::path::absolute(text).with_context(|| format!("failed to find the folder {text}"))?;
    Ok(TargetUrl::File(path))
}

fn print(imported: &Imported, dry_run: bool) {
    for faults in &imported.faults {
        for fault in &faults.told {
            let line = if fault.line == 0 { String::new() } else { format!(", line {}", fault.line) };
            terminal::say(format_args!("benchd: {}{line}: {}", faults.key, fault.message));
        }
        let more = faults.count.saturating_sub(u64::try_from(faults.told.len()).unwrap_or(0));
        if more > 0 {
            terminal::say(format_args!("benchd: {}: and {more} faults more", faults.key));
        }
    }
    let verb = if dry_run { "would import" } else { "imported" };
    let taken = imported.imported + imported.replaced;
    let (jobs, records) = (imported.jobs, imported.records);
    let place = format!("{}/{}", imported.place.trim_end_matches('/'), imported.prefix);
    let mut line =
        format!("{verb} {taken} of {} objects from {place}: {jobs} jobs, {records} records", imported.objects);
    for (count, what) in [
        (imported.known, "known already"),
        (imported.same, "with known content"),
        (imported.replaced, "changed since they were imported"),
        (imported.older, "older"),
        (imported.left, "left for the next time"),
        (imported.broken, "with faults (see above)"),
        (imported.unusable, "of them without any record in order"),
    ] {
        if count > 0 {
            line = format!("{line}; {count} {what}");
        }
    }
    terminal::print(format_args!("{line}"));
}

/// Progress on standard error, where that is a terminal: objects, bytes, time left.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_message("listing");
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        }))
    }

    fn tell(&self, event: &ImportEvent) {
        let Some(bar) = &self.0 else { return };
        match event {
            ImportEvent::Begins { objects, bytes } => {
                let style = "{spinner} {prefix}{msg} objects {wide_bar} {bytes}/{total_bytes} {elapsed} eta {eta}";
                if let Ok(style) = ProgressStyle::with_template(style) {
                    bar.set_style(style);
                }
                bar.set_length(*bytes);
                bar.set_message(format!("0/{objects}"));
                bar.reset_eta();
            }
            ImportEvent::Done { bytes, done, objects } => {
                bar.inc(*bytes);
                bar.set_message(format!("{done}/{objects}"));
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
