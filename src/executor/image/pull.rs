//! One pull, by digest: its progress, its end, and its silence. The engine's client has no idle timeout of its own,
//! and a pull that fails half-way still began with status 200.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::time::Instant;

use super::progress::PullTally;
use super::{ImageError, Origin, PullProgress, ReadyImage, ResolvedImage, in_engine};
use crate::executor::docker::{Engine, EngineError};
use crate::registry::{DOCKER_HUB, Login, Registry};

/// How long an engine may say nothing during a pull: verifying one layer of many GB takes minutes on a slow disk.
pub const PULL_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Pulls exactly the digest of `image`, telling `progress` how far it is, with the same credentials that the registry
/// was asked with.
///
/// # Errors
/// Each failure as its own [`ImageError`]; also when the engine said nothing for `idle`, or its answer broke off.
pub async fn pull(
    engine: &Engine,
    registry: &Registry,
    image: &ResolvedImage,
    progress: &watch::Sender<PullProgress>,
    idle: Duration,
) -> Result<ReadyImage, ImageError> {
    let pinned = image.pinned();
    let host = pinned.host();
    let credentials = registry.login(host).await?.map(|login| credentials(host, login));
    let options = CreateImageOptions { from_image: Some(pinned.to_string()), ..CreateImageOptions::default() };
    let mut messages = Box::pin(engine.docker().create_image(Some(options), None, credentials));
    let action = format!("pull {pinned}");
    let began = Instant::now();
    let mut tally = PullTally::default();
    loop {
        match tokio::time::timeout(idle, messages.next()).await {
            Ok(Some(Ok(message))) => {
                progress.send_replace(tally.take(&message, began.elapsed()));
            }
            Ok(Some(Err(error))) => {
                return Err(ImageError::of_pull(pinned.to_string(), engine.failed_to(action)(error)));
            }
            Ok(None) => break,
            Err(_elapsed) => return Err(ImageError::Stalled { reference: pinned.to_string(), after: idle }),
        }
    }
    // An engine that dies ends its answer like one that is done: only what it has afterwards counts.
    let ready = in_engine(engine, &image.reference, &pinned).await?.ok_or_else(|| EngineError::Lost {
        action,
        host: engine.host().to_owned(),
        reason: "its answer broke off".to_owned(),
    })?;
    Ok(ReadyImage { origin: Origin::Pulled, ..ready })
}

fn credentials(host: &str, login: Login) -> DockerCredentials {
    let address = if host == DOCKER_HUB { "https://index.docker.io/v1/" } else { host };
    let to_host = DockerCredentials { serveraddress: Some(address.to_owned()), ..DockerCredentials::default() };
    match login {
        Login::Password { username, password } => DockerCredentials {
            username: Some(username),
            password: Some(password.expose_secret().to_owned()),
            ..to_host
        },
        Login::IdentityToken(token) => {
            DockerCredentials { identitytoken: Some(token.expose_secret().to_owned()), ..to_host }
        }
    }
}
