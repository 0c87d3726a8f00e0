//! Plain TCP.

use crate::connection::{self, Context};
use crate::registry::Door;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

/// Pause after a failed accept: descriptors have run out, and trying again at once only burns a processor.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Connections that the kernel holds for us until they are accepted; its own limit (net.core.somaxconn) may be lower. When a fleet comes
/// back at once and this overflows, the kernel drops the handshake, and the client waits a second before it tries again.
const BACKLOG: u32 = 4096;

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
                    // Many small packets, each of which somebody waits for. A socket that cannot be told is already broken.
                    let _ = stream.set_nodelay(true);
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
