//! What a service manager is told: that the gateway is ready, drains, and is alive.
//!
//! The protocol of `sd_notify(3)`: datagrams to the socket that `NOTIFY_SOCKET` names, and no more than a few lines of it. Without a manager
//! that asks for it nothing is sent. The watchdog's signs of life come from the runtime that serves connections: if that hangs,
//! they stop, and the manager restarts the gateway.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

/// The manager's ear.
pub(crate) struct Manager(Option<UnixDatagram>);

impl Manager {
    /// The one that has started this process, if one did that wants to be told.
    pub(crate) fn find() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        match connect(&name) {
            Ok(socket) => Self(Some(socket)),
            Err(error) => {
                warn!(%error, ?name, "the service manager cannot be reached: it is told nothing");
                Self(None)
            }
        }
    }

    /// The gateway accepts traffic.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The gateway drains, and may take `longest` for it.
    pub(crate) fn stopping(&self, longest: Duration) {
        self.tell(&format!("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={}", longest.as_micros()));
    }

    /// Gives signs of life for as long as it runs, twice as often as the manager expects them; returns at once if it expects none.
    pub(crate) async fn keep_alive(&self) {
        let expected = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let is_meant = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let Some(expected) = expected.filter(|micros: &u64| *micros > 0 && is_meant && self.0.is_some())
        else {
            return;
        };
        let mut ticks = tokio::time::interval(Duration::from_micros(expected / 2));
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, words: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(words.as_bytes()) {
            warn!(%error, "the service manager was not told");
        }
    }
}

/// `@name` is an abstract socket, anything else a path.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not listen must not hold up the gateway.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_of_it_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("gateway-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (ear, called) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let manager = Manager(Some(connect(&called).unwrap()));
            manager.ready("mqtt=1");
            manager.stopping(Duration::from_secs(2));
            let mut heard = [0; 256];
            let length = ear.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1\nSTATUS=mqtt=1");
            let length = ear.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=2000000");
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        Manager(None).ready("");
        assert!(connect(OsStr::new("/nowhere/at/all")).is_err());
    }
}
