//! Where a command reads: a server's API when one is named, else the store on this host. Both give the same values.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::client::{Client, ClientError, ServerArgs};
use super::state_dir::StateDirArgs;
use super::{Failure, Fault, terminal};
use crate::clock::Clock;
use crate::http::api::runs::ValueWithPrevious;
use crate::model::{JobId, RunId};
use crate::queue::place::QueueView;
use crate::queue::{Pace, Queue};
use crate::store::artifacts::{Artifacts, AttemptKey};
use crate::store::{JobDetail, RunDetail, RunFilter, RunSummary, Store};

/// Arguments that say where to read.
#[derive(clap::Args)]
pub struct SourceArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    state_dir: StateDirArgs,
}

/// Where a command reads.
pub enum Source {
    /// A server's API.
    Server(Client),
    /// The store on this host.
    Local {
        /// The store.
        store: Store,
        /// The files beside it.
        artifacts: Artifacts,
    },
}

/// Which part of which log.
#[derive(Clone, Copy, Debug)]
pub struct LogPart {
    /// The job.
    pub job: JobId,
    /// Its run.
    pub run: RunId,
    /// The attempt.
    pub attempt: u32,
    /// The pass.
    pub pass: u32,
    /// From where, in bytes.
    pub offset: u64,
}

/// Whether a log is copied as it is, or as it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// As it is.
    No,
    /// As it grows; a server sends until the pass ends.
    Yes,
}

impl SourceArgs {
    /// Opens what is meant: a state directory that is named wins over a server from the environment.
    pub async fn open(&self) -> Result<Source, Failure> {
        if self.server.server.is_some() && !self.state_dir.is_named() {
            return Ok(Source::Server(self.server.client()?));
        }
        let store = self.state_dir.open().await?;
        Ok(Source::Local { store, artifacts: Artifacts::new(&self.state_dir.folder()?) })
    }
}

/// How a log is printed.
pub enum LogPrinter {
    /// As it is.
    Text,
    /// An object for each line; what came of a line that is not whole yet is kept.
    Json(Vec<u8>),
}

impl LogPrinter {
    /// Prints what came of a log.
    pub fn print(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Text => terminal::print_bytes(bytes),
            Self::Json(begun) => {
                begun.extend_from_slice(bytes);
                while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = begun.drain(..=end).collect();
                    print_line(&line)?;
                }
                Ok(())
            }
        }
    }

    /// Prints a last line without an end.
    pub fn end(&mut self) -> std::io::Result<()> {
        match self {
            Self::Json(begun) if !begun.is_empty() => print_line(&std::mem::take(begun)),
            Self::Json(_) | Self::Text => Ok(()),
        }
    }
}

fn print_line(line: &[u8]) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(line);
    terminal::print_bytes(format!("{}\n", serde_json::json!({ "line": text.trim_end_matches('\n') })).as_bytes())
}

impl Source {
    /// Runs, newest first.
    pub async fn runs(&self, limit: u32, filter: &RunFilter) -> Result<Vec<RunSummary>, Failure> {
        match self {
            Self::Server(client) => {
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                query.append_pair("limit", &limit.to_string());
                let named = [
                    ("repository", filter.repository.as_ref().map(ToString::to_string)),
                    ("branch", filter.branch.as_ref().map(ToString::to_string)),
                    ("state", filter.state.map(|state| state.to_string())),
                    ("commit", filter.commit.clone()),
                    ("before", filter.before.map(|before| before.to_string())),
                ];
                for (name, value) in named {
                    query.extend_pairs(value.map(|value| (name, value)));
                }
                Ok(client.get(&format!("/api/v1/runs?{}", query.finish())).await?)
            }
            Self::Local { store, .. } => store.list_runs(limit, filter).await.map_err(Failure::infrastructure),
        }
    }

    /// The run that is meant: its id, or a commit or release tag, whose newest run it is.
    pub async fn named_run(&self, name: &str) -> Result<RunId, Failure> {
        if let Ok(run) = name.parse() {
            return Ok(run);
        }
        let filter = RunFilter { commit: Some(name.to_owned()), ..RunFilter::default() };
        let newest = self.runs(1, &filter).await?.into_iter().next();
        newest.map(|summary| summary.run.id).ok_or_else(|| {
            let error = "is no run, and no commit or release tag that has one: `benchd runs` lists the runs";
            Failure::usage(anyhow::anyhow!("`{name}` {error}"))
        })
    }

    /// A run that must be there.
    pub async fn run(&self, run: RunId) -> Result<RunDetail, Failure> {
        match self {
            Self::Server(client) => Ok(client.get(&format!("/api/v1/runs/{run}")).await?),
            Self::Local { store, .. } => {
                let detail = store.run_detail(run).await.map_err(Failure::infrastructure)?;
                detail
                    .ok_or_else(|| Failure::usage(anyhow::anyhow!("there is no run {run} (`benchd runs` lists them)")))
            }
        }
    }

    /// What a run measured.
    pub async fn results(&self, run: RunId) -> Result<Vec<ValueWithPrevious>, Failure> {
        match self {
            Self::Server(client) => Ok(client.get(&format!("/api/v1/runs/{run}/results")).await?),
            Self::Local { store, .. } => {
                let values = store.values_of_run(run).await.map_err(Failure::infrastructure)?;
                let previous = store.previous_values(run).await.map_err(Failure::infrastructure)?;
                let with_previous = |value: crate::store::SeriesValue| ValueWithPrevious {
                    previous: previous.get(&value.series).cloned(),
                    value,
                };
                Ok(values.into_iter().map(with_previous).collect())
            }
        }
    }

    /// The queue as it stands.
    pub async fn queue(&self) -> Result<QueueView, Failure> {
        match self {
            Self::Server(client) => Ok(client.get("/api/v1/queue").await?),
            Self::Local { store, .. } => {
                let queue = Queue::new(store.clone(), Clock::system(), Pace::default());
                queue.view().await.map_err(Failure::infrastructure)
            }
        }
    }

    /// A job; `None` when there is none.
    pub async fn job(&self, job: JobId) -> Result<Option<JobDetail>, Failure> {
        match self {
            Self::Server(client) => match client.get(&format!("/api/v1/jobs/{job}")).await {
                Ok(job) => Ok(Some(job)),
                Err(ClientError::Refused(problem)) if problem.status == 404 => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Local { store, .. } => {
                let Some(row) = store.job(job).await.map_err(Failure::infrastructure)? else { return Ok(None) };
                let run = store.run_detail(row.run).await.map_err(Failure::infrastructure)?;
                Ok(run.into_iter().flat_map(|run| run.jobs).find(|detail| detail.job.id == job))
            }
        }
    }

    /// Prints a part of a log and says how many bytes that were. A stream that breaks off ends the part.
    pub async fn print_log(&self, part: LogPart, follow: Follow, printer: &mut LogPrinter) -> Result<u64, Failure> {
        let LogPart { job, run, attempt, pass, offset } = part;
        match self {
            Self::Server(client) => {
                let path = match follow {
                    Follow::No => format!("/api/v1/jobs/{job}/log?attempt={attempt}&pass={pass}"),
                    Follow::Yes => {
                        format!("/api/v1/jobs/{job}/log/follow?attempt={attempt}&pass={pass}&offset={offset}")
                    }
                };
                let mut stream = match client.stream(&path).await {
                    Ok(stream) => stream,
                    // The pass has just begun.
                    Err(ClientError::Refused(problem)) if follow == Follow::Yes && problem.status == 404 => {
                        return Ok(0);
                    }
                    Err(error) => return Err(error.into()),
                };
                let mut printed = 0;
                while let Ok(Some(bytes)) = stream.chunk().await {
                    printer.print(&bytes).map_err(unread)?;
                    printed += u64::try_from(bytes.len()).unwrap_or(0);
                }
                Ok(printed)
            }
            Self::Local { artifacts, .. } => {
                let path = artifacts.log(AttemptKey { run, job, attempt }, pass);
                let mut file = match tokio::fs::File::open(&path).await {
                    Err(error) if follow == Follow::Yes && error.kind() == std::io::ErrorKind::NotFound => {
                        return Ok(0);
                    }
                    file => file.with_context(|| format!("failed to read the log {}", path.display())),
                }
                .map_err(Failure::infrastructure)?;
                let mut printed = 0;
                let mut piece = vec![0; 64 * 1024];
                file.seek(std::io::SeekFrom::Start(offset)).await.map_err(Failure::infrastructure)?;
                loop {
                    let read = file.read(&mut piece).await.map_err(Failure::infrastructure)?;
                    let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(printed) };
                    printer.print(bytes).map_err(unread)?;
                    printed += u64::try_from(read).unwrap_or(0);
                }
            }
        }
    }

    /// Where the log and the results of a pass are.
    pub fn places(&self, key: AttemptKey, pass: u32) -> (String, String) {
        match self {
            Self::Server(client) => {
                let server = client.server().as_str().trim_end_matches('/');
                let AttemptKey { job, attempt, .. } = key;
                let log = format!("{server}/api/v1/jobs/{job}/log?attempt={attempt}&pass={pass}");
                (log, format!("{server}/api/v1/jobs/{job}/attempts/{attempt}/artifacts"))
            }
            Self::Local { artifacts, .. } => {
                let text = |path: PathBuf| path.display().to_string();
                (text(artifacts.log(key, pass)), text(artifacts.results_dir(key, pass)))
            }
        }
    }

    /// Closes the store.
    pub async fn close(self) {
        match self {
            Self::Server(_) => {}
            Self::Local { store, .. } => store.close().await,
        }
    }
}

/// Nobody reads the output any more (`benchd logs -f JOB | head`): there is nothing left to do.
fn unread(error: std::io::Error) -> Failure {
    let error = anyhow::Error::from(error).context("failed to write to standard output");
    Failure { fault: Fault::Interrupted, error }
}
