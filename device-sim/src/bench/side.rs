//! Who is measured: a broker that is started anew for each run, or one that runs already.

use std::net::{SocketAddr, ToSocketAddrs};

use super::broker::{Peer, Running};
use super::figures::Figures;
use super::listening;
use super::scenario::{Scenario, Sizes};
use crate::command::CommandError;

/// The usual port.
const PORT: u16 = 1_883;

/// One of those that are compared.
#[derive(Clone, Debug)]
pub(super) enum Side {
    /// Started for each run, with nothing stored.
    Started(Peer),
    /// Runs already, and keeps what it has.
    There {
        /// As it was named.
        name: String,
        /// Where it is.
        address: SocketAddr,
        /// Its process, if it is on this machine and can be seen.
        pid: Option<u32>,
    },
}

impl Side {
    /// A broker that runs already: `mqtt://HOST:PORT`, or less of it. Its process is found by its port if it is not given.
    pub(super) fn there(url: &str, pid: Option<u32>) -> Result<Self, CommandError> {
        let wrong = |why: String| CommandError::Usage(format!("`{url}` is not a broker: {why}"));
        let rest = match url.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => rest.trim_end_matches('/'),
            Some((scheme, _)) => return Err(wrong(format!("{scheme} is not spoken here"))),
            None => url,
        };
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host_and_port = if has_port { rest.to_owned() } else { format!("{rest}:{PORT}") };
        let mut found = host_and_port.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
        let address = found.next().ok_or_else(|| wrong("it has no address".to_owned()))?;
        let pid = pid.or_else(|| listening::process(address));
        let program = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        let name = match program {
            Some(program) => format!("{} at {host_and_port}", program.trim()),
            None => host_and_port,
        };
        Ok(Side::There { name, address, pid })
    }

    /// As it is called in reports.
    pub(super) fn name(&self) -> &str {
        match self {
            Side::Started(peer) => peer.kind.name(),
            Side::There { name, .. } => name,
        }
    }

    /// The version it says it is; nothing if it cannot be asked.
    pub(super) fn version(&self) -> String {
        match self {
            Side::Started(peer) => peer.version(),
            Side::There { pid: Some(pid), .. } => format!("(process {pid})"),
            Side::There { pid: None, .. } => "(its process is not seen)".to_owned(),
        }
    }

    pub(super) fn speaks_v5(&self) -> bool {
        match self {
            Side::Started(peer) => peer.kind.speaks_v5(),
            Side::There { .. } => true,
        }
    }

    /// Puts the scenario on it.
    pub(super) fn measure(&self, scenario: Scenario, sizes: &Sizes) -> Result<Figures, CommandError> {
        match self {
            Side::Started(peer) => {
                let running: Running = peer.start_with(&[], scenario.config())?;
                scenario.measure(sizes, running.address, Some(running.pid()))
            }
            Side::There { address, pid, .. } => scenario.measure(sizes, *address, *pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_broker_is_named_in_several_ways_and_its_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for url in [format!("mqtt://{address}"), format!("tcp://{address}/"), address.to_string()] {
            let Side::There { address: found, pid, .. } = Side::there(&url, None).unwrap() else {
                unreachable!()
            };
            assert_eq!((found, pid), (address, Some(std::process::id())), "{url}");
        }
        let Side::There { address, .. } = Side::there("127.0.0.1", Some(1)).unwrap() else { unreachable!() };
        assert_eq!(address.port(), PORT);
        for wrong in ["wss://127.0.0.1", "", "no such host.invalid"] {
            assert!(Side::there(wrong, None).is_err(), "{wrong}");
        }
    }
}
