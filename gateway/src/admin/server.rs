//! The accept loop, and a bound on everything a client of it may hold.
//!
//! A library's ready-made loop would be shorter, but has no limit on connections and no timer for request headers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::v1::Peer;

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) header_bytes: usize,
    pub(super) header_timeout: Duration,
    pub(super) connection_timeout: Duration,
    /// What is being answered at the end of that may take so long; a request for events may wait for a minute.
    pub(super) answer_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            header_bytes: 16 * 1024,
            header_timeout: Duration::from_secs(30),
            connection_timeout: Duration::from_secs(600),
            answer_timeout: Duration::from_secs(65),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes);

    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer))));
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let stopped = stopped.clone();
        connections.spawn(async move {
            match conduct(connection, limits, stopped).await {
                Some(Ok(())) => {}
                Some(Err(error)) => debug!(%error, "admin connection ended"),
                None => debug!("admin connection cut at its time limit"),
            }
            drop(permit);
        });
    }
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

/// Serves one connection to its end. `None`: it was cut. At its time limit, and when all is to stop, it takes no more requests, and what is
/// being answered has some time more.
async fn conduct(
    connection: Connection,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) -> Option<hyper::Result<()>> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Some(ended),
        // The sender is dropped, and never sends.
        _ = stopped.changed() => {}
        () = sleep(limits.connection_timeout) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => return Some(ended),
                _ = stopped.changed() => {}
                () = sleep(limits.answer_timeout) => return None,
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    timeout(limits.shutdown_timeout, connection).await.ok()
}

/// The next connection and its place among the permitted. With no place left, clients wait in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            // Out of file descriptors, most likely: accepting again at once would spin.
            debug!(%error, "admin listener cannot accept");
            sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
