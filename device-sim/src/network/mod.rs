//! The network between clients and the broker, which a scenario may spoil: a TCP proxy inside this process.
//!
//! Promise: without weather it passes bytes on as they come. With it, every connection of its side is reset or refused,
//! goes silent for good, or gets its bytes later; bytes are never changed, reordered or dropped from a connection that
//! stands. What a lost packet does to TCP (everything behind it waits) is what [`Weather::Loss`] does here.
//! It knows no MQTT. `line` is one direction of one connection.
//!
//! Bounds: one task per connection, [`line::BYTES_MAX`] held in each direction.

mod line;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{copy, sink};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::random::{Purpose, Seed, unit};
use crate::scenario::phase::Weather;
use line::Line;

/// Before connections are taken again after that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A proxy of one side. Its connections end with it.
pub(crate) struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

/// What the network is like, and what has been done to connections so far.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    weather: Option<Weather>,
    /// Counts what is done once to the connections that stand.
    strokes: u64,
    /// The last of these.
    stroke: Stroke,
}

/// What is done once to connections that stand.
#[derive(Clone, Copy, Debug, Default)]
enum Stroke {
    #[default]
    None,
    /// So large a share of them is reset.
    Reset(f64),
    /// So large a share of them goes silent.
    Silence(f64),
}

impl Proxy {
    /// A proxy to `host` and `port`, on a port of the kernel's choosing. `number` tells its draws from other proxies'.
    pub(crate) async fn start(host: String, port: u16, seed: Seed, number: u32) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (orders, hear) = watch::channel(Orders::default());
        let accept = Accept { listener, host, port, seed: Seed(seed.0 ^ u64::from(number) << 32), hear };
        Ok(Proxy { address, orders, task: tokio::spawn(accept.run()) })
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network is like this.
    pub(crate) fn set(&self, weather: Option<Weather>) {
        self.orders.send_modify(|orders| match weather {
            Some(Weather::Cut) => {
                orders.weather = weather;
                orders.strike(Stroke::Reset(1.0));
            }
            Some(Weather::HalfOpen { share }) => orders.strike(Stroke::Silence(share)),
            weather => orders.weather = weather,
        });
    }

    /// Resets a share of the connections.
    pub(crate) fn reset(&self, share: f64) {
        self.orders.send_modify(|orders| orders.strike(Stroke::Reset(share)));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Orders {
    fn strike(&mut self, stroke: Stroke) {
        self.strokes += 1;
        self.stroke = stroke;
    }
}

/// Takes connections.
struct Accept {
    listener: TcpListener,
    host: String,
    port: u16,
    seed: Seed,
    hear: watch::Receiver<Orders>,
}

impl Accept {
    async fn run(self) {
        let mut connections = JoinSet::new();
        let mut count: u32 = 0;
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let Ok((client, _)) = accepted else {
                        // Out of descriptors, or gone before it was taken: the client tries again.
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    };
                    if self.hear.borrow().weather == Some(Weather::Cut) {
                        reset(client);
                        continue;
                    }
                    count = count.wrapping_add(1);
                    let connection = Connection { hear: self.hear.clone(), seed: self.seed, number: count };
                    connections.spawn(connection.run(client, self.host.clone(), self.port));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Passes one connection on.
struct Connection {
    hear: watch::Receiver<Orders>,
    seed: Seed,
    number: u32,
}

impl Connection {
    async fn run(mut self, client: TcpStream, host: String, port: u16) {
        let mut strokes = self.hear.borrow_and_update().strokes;
        let Ok(server) = TcpStream::connect((host.as_str(), port)).await else { return reset(client) };
        // Both ends say what they have to say at once; a proxy that waited would be weather of its own.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut rng = self.seed.stream(Purpose::Network, self.number);
        let lines = self.seed.stream(Purpose::Network, !self.number);
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let mut up = Line::new(client_read, server_write, self.hear.clone(), lines.clone());
        let mut down = Line::new(server_read, client_write, self.hear.clone(), lines);
        loop {
            tokio::select! {
                biased;
                changed = self.hear.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = async { tokio::join!(up.run(), down.run()); } => return,
            }
            let orders = *self.hear.borrow_and_update();
            if orders.strokes == strokes {
                continue;
            }
            strokes = orders.strokes;
            match orders.stroke {
                Stroke::Reset(share) if unit(&mut rng) < share => {
                    up.reset();
                    down.reset();
                    return;
                }
                Stroke::Silence(share) if unit(&mut rng) < share => {
                    return silence(up.into_halves(), down.into_halves()).await;
                }
                Stroke::None | Stroke::Reset(_) | Stroke::Silence(_) => {}
            }
        }
    }
}

/// Both sides may say what they like and close when they like; the other one hears nothing of it.
async fn silence(up: (OwnedReadHalf, OwnedWriteHalf), down: (OwnedReadHalf, OwnedWriteHalf)) {
    let ((mut client_read, _server_write), (mut server_read, _client_write)) = (up, down);
    let (mut nowhere, mut nowhere_either) = (sink(), sink());
    let _ = tokio::join!(copy(&mut client_read, &mut nowhere), copy(&mut server_read, &mut nowhere_either));
}

/// Ends a connection as a network does that has lost it: by a reset.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

#[cfg(test)]
mod tests;
