//! Plain TCP.

use crate::connection::{self, Context};
use crate::registry::Door;
use rustix::net::sockopt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// Pause after a failed accept: descriptors have run out, and trying again at once only burns a processor.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Connections that the kernel holds for us until they are accepted; its own limit (net.core.somaxconn) may be lower. When a fleet comes
/// back at once and this overflows, the kernel drops the handshake, and the client waits a second before it tries again.
const BACKLOG: u32 = 4096;

/// Congestion control within this machine, where there is no network to be polite to. Every kernel has it, and it sends as soon as it
/// may, whereas one that paces (BBR) waits for a timer between segments.
const LOOPBACK_CONGESTION_CONTROL: &str = "reno";

/// A bound TCP socket, not accepting yet.
pub struct TcpAcceptor {
    listener: TcpListener,
    address: SocketAddr,
}

impl TcpAcceptor {
    /// Binds `address`; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// Those of `bind`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A gateway that is started again finds its port although connections of the last run linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` changes, as long as there is room for one more handshake. What comes meanwhile waits with the kernel.
    pub async fn run(self, door: Arc<Door>, context: Arc<Context>, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                _ = stop.changed() => return,
                accepted = async {
                    door.room().await;
                    self.listener.accept().await
                } => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    tune(&stream, peer.ip());
                    let place = door.enter(peer.ip());
                    tokio::spawn(connection::serve(context.clone(), stream, place));
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }
}

/// Many small packets, each of which somebody waits for. A socket that cannot be told is already broken, or goes on as it is.
fn tune(stream: &TcpStream, peer: IpAddr) {
    let _ = stream.set_nodelay(true);
    if peer.to_canonical().is_loopback() {
        let _ = sockopt::set_tcp_congestion(stream, LOOPBACK_CONGESTION_CONTROL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_on_this_machine_is_not_paced_and_one_elsewhere_is_left_to_the_operator() {
        let acceptor = TcpAcceptor::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(acceptor.local_addr()), acceptor.listener.accept());
        let (client, (stream, peer)) = (client.unwrap(), accepted.unwrap());
        let machines = sockopt::tcp_congestion(&client).unwrap();
        tune(&stream, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(sockopt::tcp_congestion(&stream).unwrap(), machines);
        tune(&stream, peer.ip());
        assert_eq!(sockopt::tcp_congestion(&stream).unwrap(), LOOPBACK_CONGESTION_CONTROL);
        assert!(stream.nodelay().unwrap());
    }
}
