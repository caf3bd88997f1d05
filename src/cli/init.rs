//! `benchd init`: looks at this host and writes a commented configuration that works.

use std::io::Write;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::app::runner::detect;
use crate::config::{Config, HostFacts, VLLM, environment, starter};
use crate::executor::device::{Tools, detect_platform};
use crate::model::{Platform, RepoName};

use super::{Answer, CommandResult, Failure, terminal};

/// benchd's own benchmarks, as they lie in `benchmarks/`.
static BENCHMARKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/benchmarks");

/// Arguments of `benchd init`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to write it
    #[arg(long, default_value = "benchd.yaml", value_name = "FILE")]
    output: PathBuf,
    /// The repository to measure
    #[arg(long, default_value = "vllm-project/vllm", value_name = "OWNER/NAME")]
    repo: RepoName,
    /// Replace the file if it is there
    #[arg(long, conflicts_with = "print")]
    force: bool,
    /// Print it instead of writing it
    #[arg(long)]
    print: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> CommandResult {
    let folder = args.output.parent().unwrap_or(Path::new(""));
    let facts = host_facts(folder).await;
    let text = starter(&args.repo, &facts);
    if args.print {
        terminal::print(format_args!("{}", text.trim_end()));
        return Ok(Answer::Yes);
    }
    write(&args.output, &text, args.force)?;
    let wants_benchmarks = facts.benchmarks.is_none() && args.repo.as_str() == VLLM;
    if wants_benchmarks {
        let folder = folder.join("benchmarks");
        let written = std::fs::create_dir_all(&folder).and_then(|()| BENCHMARKS.extract(&folder));
        written.map_err(|source| {
            Failure::usage(anyhow::Error::from(source).context(format!("failed to write {}", folder.display())))
        })?;
        terminal::print(format_args!("wrote {}", folder.display()));
    }
    Config::load(&args.output).map_err(Failure::usage)?;
    terminal::print(format_args!("wrote {}", args.output.display()));
    let named = if args.output == Path::new("benchd.yaml") {
        String::new()
    } else {
        format!(" --config {}", args.output.display())
    };
    terminal::say(format_args!(
        "next: read it, `benchd doctor{named}`, then `benchd run{named} --commit SHA --dry-run` (without a GitHub token \
         also --branch and --timestamp)"
    ));
    Ok(Answer::Yes)
}

fn write(output: &Path, text: &str, replace: bool) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(replace).create_new(!replace);
    let written = options.open(output).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| {
        let exists = source.kind() == std::io::ErrorKind::AlreadyExists;
        let error = anyhow::Error::from(source);
        match exists {
            true => Failure::usage(anyhow::anyhow!("{} is already there: --force replaces it", output.display())),
            false => Failure::usage(error.context(format!("failed to write {}", output.display()))),
        }
    })
}

/// Looks at this host. `folder` is where the configuration will lie.
async fn host_facts(folder: &Path) -> HostFacts {
    let (platform, devices) = devices().await;
    let model_cache = model_cache();
    let disk = model_cache.as_deref().unwrap_or(Path::new("/"));
    let github_token_env = ["GITHUB_TOKEN", "GH_TOKEN"].into_iter().find(|name| environment::variable(name).is_some());
    HostFacts {
        platform,
        devices,
        docker_host: docker_host(),
        free_bytes: free_bytes(disk),
        model_cache,
        github_token_env,
        has_hf_token: environment::variable("HF_TOKEN").is_some(),
        benchmarks: benchmarks(folder),
    }
}

/// The platform and the devices in words; a tool that fails is told there, and the platform is what its name says.
async fn devices() -> (Platform, String) {
    match detect(&Config::default()).await {
        Ok(found) => (found.platform, format!("{}, {} x {}", found.platform, found.count, found.device_type)),
        Err(error) => {
            let tools = Tools::in_folders(environment::search_path());
            let native = if std::env::consts::ARCH == "aarch64" { Platform::Arm64Cpu } else { Platform::Cpu };
            let platform = detect_platform(&tools).await.unwrap_or(native);
            (platform, format!("{platform}; what devices it has could not be found out: {error}"))
        }
    }
}

fn docker_host() -> Option<String> {
    let sockets = [
        Some(PathBuf::from("/var/run/docker.sock")),
        environment::path("XDG_RUNTIME_DIR").map(|dir| dir.join("docker.sock")),
    ];
    let socket = || sockets.into_iter().flatten().find(|socket| socket.exists());
    environment::docker_host().or_else(|| socket().map(|socket| format!("unix://{}", socket.display())))
}

fn model_cache() -> Option<PathBuf> {
    let places = [
        environment::hf_home(),
        Some(PathBuf::from("/mnt/hf_cache")),
        environment::home_dir().map(|home| home.join(".cache/huggingface")),
    ];
    places.into_iter().flatten().find(|place| place.is_dir()).and_then(|place| std::path::absolute(place).ok())
}

fn benchmarks(folder: &Path) -> Option<PathBuf> {
    let beside = PathBuf::from("benchmarks");
    if folder.join(&beside).is_dir() {
        return Some(beside);
    }
    Some(PathBuf::from("/usr/share/benchd/benchmarks")).filter(|installed| installed.is_dir())
}

fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}
