//! `benchd serve`.

use std::path::PathBuf;

use anyhow::anyhow;
use tokio_util::sync::CancellationToken;

use super::{Answer, CommandResult, Failure, terminal};
use crate::app::serve::serve;
use crate::clock::Clock;
use crate::config::Config;

/// Arguments of `benchd serve`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration [default: $BENCHD_CONFIG, ./benchd.yaml, /etc/benchd/benchd.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command: until SIGTERM or Ctrl-C; running containers go on or are stopped, as `execution.on_stop` says.
pub async fn run(args: Args) -> CommandResult {
    let (file, config) = Config::find_and_load(args.config.as_deref()).map_err(Failure::usage)?;
    if config.repositories.is_empty() {
        return Err(Failure::usage(anyhow!("{} names no repository: nothing would be measured", file.display())));
    }
    let stop = CancellationToken::new();
    tokio::spawn(stop_by_signals(stop.clone()));
    let ready = |addresses: &[std::net::SocketAddr]| {
        for address in addresses {
            terminal::say(format_args!("benchd: listening on http://{address}"));
        }
    };
    let served = Box::pin(serve(config, Clock::system(), stop, ready)).await;
    served.map(|()| Answer::Yes).map_err(|error| Failure::of(error.is_usage(), error))
}

async fn stop_by_signals(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("stopping: no job is begun any more");
            stop.cancel();
        }
        Err(error) => tracing::warn!(%error, "failed to listen for SIGTERM"),
    }
}
