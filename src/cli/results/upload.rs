//! `benchd results upload`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::anyhow;
use chrono::DateTime;
use secrecy::SecretString;
use serde::Serialize;
use url::Url;

use super::{counted, planned_points, print_report};
use crate::cli::{Answer, CommandResult, Failure, terminal};
use crate::config::{PublishTarget, SecretSource, TargetUrl};
use crate::model::{BranchName, CommitSha, DeviceType, Platform, RepoName};
use crate::objects::Patience;
use crate::publish::destination::Destination;
use crate::publish::runner::this_host;
use crate::publish::upload::{Existing, Part, Prepared, UploadClient, UploadOutcome, prepare};
use crate::results::record::{Metadata, WireNumber};
use crate::results::{Completeness, Expectation, Report};

/// Arguments of `benchd results upload`.
#[derive(clap::Args)]
pub struct Args {
    /// Directory with the result files
    dir: PathBuf,

    /// Repository, `owner/name`
    #[arg(long)]
    repo: RepoName,

    /// Branch: `main`, `releases/v0.11.0`, `pull/123/head`
    #[arg(long)]
    branch: BranchName,

    /// Another local branch, shown in parentheses after the branch
    #[arg(long, value_name = "BRANCH")]
    local_branch: Option<String>,

    /// Commit, 40 hexadecimal digits
    #[arg(long)]
    sha: CommitSha,

    /// When the commit was made: seconds since 1970, or RFC 3339
    #[arg(long, value_parser = timestamp)]
    timestamp: u64,

    /// Platform: cuda, rocm, hpu, cpu, arm64-cpu
    #[arg(long)]
    platform: Platform,

    /// Device type, as `benchd device` tells it
    #[arg(long)]
    device_type: DeviceType,

    /// How many devices were used
    #[arg(long, value_name = "N")]
    device_count: Option<u32>,

    /// Model
    #[arg(long, default_value = "")]
    model: String,

    /// `name` of every record
    #[arg(long, default_value = "vLLM benchmark", value_name = "NAME")]
    benchmark_name: String,

    /// Number of the run; default: the timestamp
    #[arg(long, value_name = "NUMBER")]
    run_id: Option<String>,

    /// Attempt at the job; default: 1
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<String>,

    /// Number of the job; default: the timestamp
    #[arg(long, value_name = "NUMBER")]
    job_id: Option<String>,

    /// Plan whose points are expected (`benchd plan --json`); default: points with a `.commands` file
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,

    /// Bucket or folder: `s3://bucket`, `s3://bucket/prefix`, `file:///folder`
    #[arg(long, value_name = "URL", required_unless_present = "api", conflicts_with = "api")]
    to: Option<TargetUrl>,

    /// Address of an S3-compatible service
    #[arg(long, value_name = "URL", conflicts_with = "api")]
    endpoint: Option<Url>,

    /// Region of the bucket
    #[arg(long, conflicts_with = "api")]
    region: Option<String>,

    /// Use no credentials for the bucket
    #[arg(long, conflicts_with = "api")]
    anonymous: bool,

    /// Upload API instead of a bucket; the password is read from a file or from `UPLOADER_PASSWORD`
    #[arg(long, value_name = "URL", requires = "api_username")]
    api: Option<Url>,

    /// User name at the upload API
    #[arg(long, value_name = "NAME", env = "UPLOADER_USERNAME", hide_env_values = true)]
    api_username: Option<SecretString>,

    /// File with the password at the upload API; default: the environment variable `UPLOADER_PASSWORD`
    #[arg(long, value_name = "FILE", requires = "api")]
    api_password_file: Option<PathBuf>,

    /// Write over other results under the same key
    #[arg(long, conflicts_with = "api")]
    replace: bool,

    /// Show what would be sent
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What became of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Sent {
    /// It was given to its destination.
    Given(UploadOutcome),
    /// It stayed here.
    Kept(Kept),
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    /// Only shown.
    DryRun,
    /// Nothing was measured.
    Nothing,
}

#[derive(Serialize)]
struct Output<'a> {
    ok: bool,
    outcome: Sent,
    address: String,
    key: String,
    records: usize,
    bytes: usize,
    plain_bytes: u64,
    complete: bool,
    report: &'a Report,
}

fn timestamp(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok();
    let date = || u64::try_from(DateTime::parse_from_rfc3339(text).ok()?.timestamp()).ok();
    seconds.or_else(date).ok_or_else(|| format!("`{text}` is neither seconds since 1970 nor an RFC 3339 date after it"))
}

/// A number given on the command line; an empty one counts as not given.
fn given(flag: &str, text: Option<&str>, default: u64) -> Result<WireNumber, Failure> {
    match text {
        None | Some("") => Ok(WireNumber::Number(default)),
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u64>().is_ok() => {
            Ok(WireNumber::Text(text.to_owned()))
        }
        Some(text) => Err(Failure::usage(anyhow!("--{flag} `{text}` is no number"))),
    }
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let metadata = Metadata {
        timestamp: args.timestamp,
        benchmark_name: args.benchmark_name.clone(),
        repo: args.repo.clone(),
        branch: args.branch.clone(),
        local_branch: args.local_branch.clone(),
        sha: args.sha.clone(),
        workflow_id: given("run-id", args.run_id.as_deref(), args.timestamp)?,
        run_attempt: given("attempt", args.attempt.as_deref(), 1)?,
        job_id: given("job-id", args.job_id.as_deref(), args.timestamp)?,
        model: args.model.clone(),
        runner: this_host(args.platform, &args.device_type, args.device_count),
        configurations: BTreeMap::new(),
    };
    let expectation = Expectation {
        points: planned_points(args.plan.as_deref(), &args.model)?,
        without_compilation: args.platform == Platform::Hpu,
    };
    let part = Part { dir: &args.dir, expectation, metadata: &metadata };
    let Prepared { mut reports, object } = prepare(vec![part]).map_err(Failure::usage)?;
    let Some(report) = reports.pop() else { return Err(Failure::usage(anyhow::anyhow!("nothing was judged"))) };
    let key = metadata.object_key();
    let address = place(&args, &key);
    let sent = match &object {
        None => Sent::Kept(Kept::Nothing),
        Some(_) if args.dry_run => Sent::Kept(Kept::DryRun),
        Some(object) => {
            let existing = if args.replace { Existing::Replace } else { Existing::Keep };
            let outcome = open(&args)?.send(object, existing).await.map_err(Failure::infrastructure)?;
            Sent::Given(outcome)
        }
    };
    let complete = report.completeness() == Completeness::Complete;
    let stored = match sent {
        Sent::Given(UploadOutcome::Created | UploadOutcome::Unchanged | UploadOutcome::Replaced) | Sent::Kept(_) => {
            true
        }
        Sent::Given(UploadOutcome::Conflict | UploadOutcome::Exists) => false,
    };
    let ok = complete && stored;
    let (records, bytes, plain_bytes) =
        object.as_ref().map_or((0, 0, 0), |object| (object.records, object.body.len(), object.plain_bytes));
    if args.json {
        let output = Output { ok, outcome: sent, address, key, records, bytes, plain_bytes, complete, report: &report };
        terminal::print_json(&output).map_err(Failure::infrastructure)?;
    } else {
        if !complete {
            print_report(&report);
        }
        let size = format!("{}, {bytes} bytes ({plain_bytes} before compression)", counted(records, "record"));
        tell(sent, &address, &size);
        if !complete {
            terminal::say(format_args!("benchd: the job is incomplete (see above); only its valid records are sent"));
        }
    }
    Ok(if ok { Answer::Yes } else { Answer::No })
}

fn tell(sent: Sent, address: &str, size: &str) {
    match sent {
        Sent::Given(UploadOutcome::Created) => terminal::print(format_args!("uploaded {address}: {size}")),
        Sent::Given(UploadOutcome::Unchanged) => {
            terminal::print(format_args!("unchanged {address}: the same results are there, {size}"));
        }
        Sent::Given(UploadOutcome::Replaced) => terminal::print(format_args!("replaced {address}: {size}")),
        Sent::Given(UploadOutcome::Conflict) => terminal::print(format_args!(
            "not uploaded: other results lie at {address}; --replace writes these over them ({size})"
        )),
        Sent::Given(UploadOutcome::Exists) => terminal::print(format_args!(
            "not uploaded: the API already has {address}, and does not tell whether with the same results"
        )),
        Sent::Kept(Kept::DryRun) => terminal::print(format_args!("would upload {address}: {size}")),
        Sent::Kept(Kept::Nothing) => {
            terminal::print(format_args!("nothing to upload to {address}: no valid record measures anything"));
        }
    }
}

/// Where the object would go, without opening anything.
fn place(args: &Args, key: &str) -> String {
    match (&args.to, &args.api) {
        (Some(url), _) => format!("{}/{key}", url.to_string().trim_end_matches('/')),
        (None, Some(url)) => format!("{key} by {url}"),
        (None, None) => key.to_owned(),
    }
}

fn open(args: &Args) -> Result<Destination, Failure> {
    if let (Some(url), Some(username)) = (&args.api, &args.api_username) {
        let place = args.api_password_file.clone().map(SecretSource::File);
        let password = place.unwrap_or_else(|| SecretSource::Env("UPLOADER_PASSWORD".to_owned()));
        let password = password.read().map_err(Failure::usage)?;
        let client = UploadClient::new(url.clone(), username.clone(), password, Patience::default());
        return Ok(Destination::Api(Box::new(client.map_err(Failure::infrastructure)?)));
    }
    let target = PublishTarget {
        url: args.to.clone(),
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        anonymous: args.anonymous,
        ..PublishTarget::default()
    };
    Destination::open(&target, Patience::default()).map_err(Failure::infrastructure)
}
