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
    pub(super) shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            header_bytes: 16 * 1024,
            header_timeout: Duration::from_secs(30),
            connection_timeout: Duration::from_secs(600),
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
        let mut stopped = stopped.clone();
        connections.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                _ = stopped.changed() => None,
                () = sleep(limits.connection_timeout) => None,
            };
            // What is being answered may be answered; after that the connection ends.
            let ended = match ended {
                Some(ended) => Ok(ended),
                None => {
                    connection.as_mut().graceful_shutdown();
                    timeout(limits.shutdown_timeout, connection).await
                }
            };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "admin connection ended"),
                Err(_) => debug!("admin connection cut at its time limit"),
            }
            drop(permit);
        });
    }
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
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
