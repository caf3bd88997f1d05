//! Listening: connections with a limit on their number and on slow headers, and an end that lets answers finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{AppState, router};

/// How many connections are open at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send a request's headers, also between two requests of a connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// How long answers may take to finish after the stop.
const STOP_WITHIN: Duration = Duration::from_secs(3);
/// How long accepting rests after an error, which mostly means that file descriptors ran out.
const REST_AFTER_ERROR: Duration = Duration::from_millis(200);

/// The server cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener has no address.
    #[error("failed to learn the address of a listener")]
    Address(#[from] std::io::Error),
    /// A listening task ended by a panic.
    #[error("a listener has failed")]
    Listener(#[from] tokio::task::JoinError),
}

/// Serves the API on every listener until `shutdown` is cancelled; then no connection is accepted any more, streams
/// end, and answers under way have a few seconds to finish.
///
/// # Errors
/// When a listener cannot be used.
pub async fn serve(
    listeners: Vec<TcpListener>,
    state: AppState,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    for listener in &listeners {
        tracing::info!(http.address = %listener.local_addr()?, "listening");
    }
    let router = router(state.clone());
    let graceful = Arc::new(GracefulShutdown::new());
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let cut = CancellationToken::new();
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let accept = Accept {
            router: router.clone(),
            connections: connections.clone(),
            graceful: graceful.clone(),
            cut: cut.clone(),
            shutdown: shutdown.clone(),
        };
        accepting.spawn(accept.all(listener));
    }
    while let Some(ended) = accepting.join_next().await {
        ended?;
    }
    state.stopping.cancel();
    // The accepting tasks have ended and hold it no more.
    if let Some(graceful) = Arc::into_inner(graceful)
        && tokio::time::timeout(STOP_WITHIN, graceful.shutdown()).await.is_err()
    {
        cut.cancel();
        tracing::warn!("some answers had not finished {STOP_WITHIN:?} after the stop");
    }
    Ok(())
}

/// What accepting needs.
struct Accept {
    router: Router,
    connections: Arc<Semaphore>,
    graceful: Arc<GracefulShutdown>,
    cut: CancellationToken,
    shutdown: CancellationToken,
}

impl Accept {
    async fn all(self, listener: TcpListener) {
        loop {
            let permit = tokio::select! {
                () = self.shutdown.cancelled() => return,
                permit = self.connections.clone().acquire_owned() => permit,
            };
            // The semaphore is never closed.
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.connection(stream, peer, permit),
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(REST_AFTER_ERROR).await;
                }
            }
        }
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let service = TowerToHyperService::new(self.router.clone().map_request(with_peer(peer)));
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = self.graceful.watch(connection);
        let cut = self.cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    // The client went away or was too slow: its own affair.
                    tracing::debug!("a connection ended: {error}");
                }
            }
            drop(permit);
        });
    }
}

/// Tells the routes who asks.
fn with_peer<B>(peer: SocketAddr) -> impl Fn(Request<B>) -> Request<B> + Clone {
    move |mut request| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    }
}
