//! `benchd backup`: a copy of the store taken while it is in use, with a manifest that tells whether it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::state_dir::StateDirArgs;
use super::{Answer, CommandResult, Failure, terminal};
use crate::clock::Clock;
use crate::http::VERSION;
use crate::store::DATABASE_FILE;

/// Arguments of `benchd backup`.
#[derive(clap::Args)]
pub struct Args {
    /// A new or empty folder, or a new file that ends in `.db`
    #[arg(value_name = "DIR|FILE.db")]
    to: PathBuf,
    /// Copy logs and results too; needs a folder
    #[arg(long)]
    artifacts: bool,
    #[command(flatten)]
    state_dir: StateDirArgs,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

/// What a backup holds; it stands beside it as `manifest.json` (of FILE.db: FILE.json).
#[derive(Debug, Serialize)]
struct Manifest {
    /// The benchd that made it; an older one cannot read it.
    benchd: &'static str,
    /// When.
    created_at: DateTime<Utc>,
    /// Where the store is that was copied.
    state_dir: PathBuf,
    /// The database's file name beside the manifest.
    database: String,
    /// Its size.
    bytes: u64,
    /// Its SHA-256, in hexadecimal.
    sha256: String,
    /// How many runs it holds.
    runs: u64,
    /// Files of logs and results that were copied; `None` when that was not wanted.
    artifact_files: Option<u64>,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let (database, manifest) = places(&args.to).map_err(Failure::usage)?;
    if args.artifacts && args.to != database.parent().unwrap_or(&args.to) {
        return Err(Failure::usage(anyhow::anyhow!("--artifacts needs a folder to copy to")));
    }
    let store = args.state_dir.open().await?;
    let partial = database.with_extension("db.partial");
    remove_if_there(&partial).map_err(Failure::infrastructure)?;
    store.copy_to(&partial).await.map_err(Failure::infrastructure)?;
    let runs = store.counts().await.map_err(Failure::infrastructure)?.runs.iter().map(|(_, _, runs)| runs).sum();
    store.close().await;
    let finished = finish(&args, args.state_dir.folder()?, &partial, &database, &manifest, runs)
        .map_err(Failure::infrastructure)?;
    if args.json {
        terminal::print_json(&finished).map_err(Failure::infrastructure)?;
    } else {
        let files = finished.artifact_files.map_or_else(String::new, |files| format!(" and {files} files"));
        terminal::print(format_args!("{}: {} bytes, {runs} runs{files}", database.display(), finished.bytes));
    }
    Ok(Answer::Yes)
}

/// Where database and manifest go; nothing that is there is written over.
fn places(to: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (database, manifest) = if to.extension().is_some_and(|extension| extension == "db") {
        (to.to_owned(), to.with_extension("json"))
    } else {
        fs::create_dir_all(to).with_context(|| format!("failed to make the folder {}", to.display()))?;
        (to.join(DATABASE_FILE), to.join("manifest.json"))
    };
    for path in [&database, &manifest] {
        if path.symlink_metadata().is_ok() {
            bail!("{} is there already: name a new folder or file", path.display());
        }
    }
    Ok((database, manifest))
}

/// Copies the artifacts, writes the manifest and gives the database its name last: a backup that has it is whole.
fn finish(
    args: &Args,
    state_dir: PathBuf,
    partial: &Path,
    database: &Path,
    manifest: &Path,
    runs: u64,
) -> anyhow::Result<Manifest> {
    let artifact_files = match args.artifacts {
        true => Some(copy_files(&state_dir.join("artifacts"), &args.to.join("artifacts"))?),
        false => None,
    };
    let mut file = fs::File::open(partial).context("failed to read the copy")?;
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut file, &mut hasher).context("failed to read the copy")?;
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let contents = Manifest {
        benchd: VERSION,
        created_at: Clock::system().now(),
        state_dir,
        database: name,
        bytes,
        sha256,
        runs,
        artifact_files,
    };
    let text = serde_json::to_string_pretty(&contents)? + "\n";
    fs::write(manifest, text).with_context(|| format!("failed to write {}", manifest.display()))?;
    file.sync_all().context("failed to write the copy to the disk")?;
    fs::rename(partial, database).with_context(|| format!("failed to name the copy {}", database.display()))?;
    Ok(contents)
}

/// Copies the files below `from`; links are left out. What goes meanwhile (the retention is at work) is left out too.
fn copy_files(from: &Path, to: &Path) -> anyhow::Result<u64> {
    let mut copied = 0;
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        let entries = match fs::read_dir(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("failed to read {}", from.display()))?,
        };
        fs::create_dir_all(&to).with_context(|| format!("failed to make the folder {}", to.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to read {}", from.display()))?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().with_context(|| format!("failed to look at {}", source.display()))?;
            if kind.is_dir() {
                folders.push((source, target));
            } else if kind.is_file() {
                match fs::copy(&source, &target) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    done => done.with_context(|| format!("failed to copy {}", source.display()))?,
                };
                copied += 1;
            }
        }
    }
    Ok(copied)
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
