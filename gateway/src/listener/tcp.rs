//! Plain TCP.

use crate::connection::{self, Context};
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
    anonymous: bool,
}

impl TcpAcceptor {
    /// Binds `address`; port 0 lets the kernel choose. `anonymous`: clients without credentials are admitted.
    ///
    /// # Errors
    /// Those of `bind`.
    pub fn bind(address: SocketAddr, anonymous: bool) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A gateway that is started again finds its port although connections of the last run linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, anonymous })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` changes.
    pub async fn run(self, context: Arc<Context>, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                _ = stop.changed() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Many small packets, each of which somebody waits for. A socket that can not be told is already broken.
                    let _ = stream.set_nodelay(true);
                    let place = context.registry.enter();
                    tokio::spawn(connection::serve(context.clone(), stream, place, self.anonymous));
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "a connection can not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }
}
