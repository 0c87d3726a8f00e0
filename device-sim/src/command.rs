//! What all commands have in common: how a broker is named, and why a command came to nothing.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// A host and a port, as people write them.
#[derive(Clone, Debug)]
pub(crate) struct BrokerAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl BrokerAddress {
    /// The first address of the host.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, CommandError> {
        let wrong = |why: String| CommandError::Usage(format!("{self}: {why}"));
        let mut found = self.to_string().to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
        found.next().ok_or_else(|| wrong("the host has no address".to_owned()))
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

/// `HOST:PORT` of a command line.
pub(crate) fn parse_broker(text: &str) -> Result<BrokerAddress, String> {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parsed {
        Some((host, port)) if !host.is_empty() && port > 0 => {
            Ok(BrokerAddress { host: host.to_owned(), port })
        }
        _ => Err(format!("`{text}` is not HOST:PORT")),
    }
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The person who asked can mend it.
    #[error("{0}")]
    Usage(String),
    /// The world did not allow it.
    #[error("{0}")]
    CouldNotRun(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        let address = parse_broker("[::1]:1883").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("[::1]", 1883));
        for wrong in ["localhost", ":1883", "localhost:0", "localhost:70000", ""] {
            assert!(parse_broker(wrong).is_err(), "{wrong}");
        }
    }
}
