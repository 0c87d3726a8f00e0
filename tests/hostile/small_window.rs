//! Connections whose receive buffer is small, so that a client that does not read is noticed after kilobytes
//! instead of megabytes.

use std::net::{SocketAddr, TcpStream};

use gateway_protocol::ProtocolVersion;
use gateway_tests::Client;

const RECEIVE_BUFFER_BYTES: u32 = 4 * 1024;

/// A connection with a small receive buffer, on which nothing has been said. The buffer has to be set before
/// connecting, which only the runtime's socket can do.
pub(crate) fn open(address: SocketAddr, version: ProtocolVersion) -> Client {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream: TcpStream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        socket.connect(address).await.expect("the gateway accepts connections").into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    Client::on(stream, version)
}
