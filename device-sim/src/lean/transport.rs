//! The seam between the lean client and the network: something that is dialled, watched, read and written without ever waiting.
//!
//! [`TcpDialer`] is what there is today. Another transport (TLS, WebSocket) implements the two traits; nothing else in the lean
//! client names a socket.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with};

use crate::scenario::{SourceRange, source_of};

/// One connection's bytes. Reading and writing answer [`io::ErrorKind::WouldBlock`] rather than wait; a transport that holds back
/// bytes which no poller can see reads on until it does.
pub(crate) trait Transport: Read + Write + AsFd {
    /// Called when it can be written to for the first time: whether a connection came about.
    fn opened(&mut self) -> io::Result<()>;
}

/// Makes transports.
pub(crate) trait Dial {
    /// Begins a connection, the `number`th of the fleet; it is there when it can be written to and [`Transport::opened`] agrees.
    fn dial(&self, number: u32) -> io::Result<Box<dyn Transport>>;
}

/// TCP, from the source addresses of the scenario.
pub(crate) struct TcpDialer {
    /// The broker.
    pub(crate) broker: SocketAddr,
    /// Where connections come from; none: the system chooses.
    pub(crate) sources: Vec<SourceRange>,
}

impl Dial for TcpDialer {
    fn dial(&self, number: u32) -> io::Result<Box<dyn Transport>> {
        let family = match self.broker {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        if let Some(source) = source_of(&self.sources, number) {
            bind_to(&socket, source)?;
        }
        match connect(&socket, &self.broker) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Box::new(Tcp(stream)))
    }
}

fn bind_to(socket: &impl AsFd, source: IpAddr) -> io::Result<()> {
    bind(socket, &SocketAddr::new(source, 0)).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("cannot connect from {source}: {error}"))
    })
}

struct Tcp(TcpStream);

impl Transport for Tcp {
    fn opened(&mut self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }
}

impl Read for Tcp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
