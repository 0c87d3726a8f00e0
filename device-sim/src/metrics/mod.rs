//! `--metrics ADDR`: the run's own figures for Prometheus, as long as it lasts.
//!
//! Promise: bounded. [`CONNECTIONS_MAX`] are served at once and others wait in the kernel's queue; a request has [`PATIENCE`]
//! and [`REQUEST_BYTES_MAX`]. Who scrapes costs the run one look at its counters. [`families`] is what is said.

mod families;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::shared::Shared;

const CONNECTIONS_MAX: usize = 8;
const REQUEST_BYTES_MAX: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until it is dropped.
pub(crate) struct Server {
    /// Where, with the port the kernel chose if none was given.
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

/// Starts serving.
pub(crate) async fn serve(address: SocketAddr, shared: Arc<Shared>) -> io::Result<Server> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Server { address, task: tokio::spawn(accept(listener, shared)) })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        // Out of descriptors, mostly: the next one may be luckier.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client that leaves or dawdles has itself to blame.
            let _ = timeout(PATIENCE, answer(stream, &shared)).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut request = Vec::with_capacity(1_024);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() >= REQUEST_BYTES_MAX || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = respond(&request, shared);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn respond(request: &[u8], shared: &Shared) -> (&'static str, String) {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => ("200 OK", families::render(shared)),
        (Some(b"GET"), _) => ("404 Not Found", "there is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET alone\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::scenario::Scenario;

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else_is() {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
        let server = serve(([127, 0, 0, 1], 0).into(), Shared::of(&plan)).await.unwrap();
        for (request, status, part) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "device_sim_devices 200\n"),
            ("GET / HTTP/1.1\r\n\r\n", "404", "/metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405", "GET"),
        ] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part), "{answer}");
        }
    }
}
