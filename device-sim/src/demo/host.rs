//! The gateway, embedded: on its usual ports if they are free, with its data in a temporary directory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use gateway::app::Gateway;
use gateway::config::Config;
use tempfile::TempDir;

use crate::command::CommandError;

/// A running gateway and its directory.
pub(super) struct Host {
    gateway: Gateway,
    // Dropped, and with it removed, after the gateway has let go of it.
    directory: TempDir,
    usual_ports: bool,
}

impl Host {
    pub(super) async fn start() -> Result<Self, CommandError> {
        let could_not =
            |what: &str, error: &dyn std::fmt::Display| CommandError::CouldNotRun(format!("{what}: {error}"));
        let directory = tempfile::Builder::new()
            .prefix("device-sim-demo-")
            .tempdir()
            .map_err(|error| could_not("cannot make a temporary directory", &error))?;
        let mut config = Config::default();
        config.storage.data_dir = directory.path().to_owned();
        let mut usual_ports = free_or_any(&mut config.admin.address);
        for listener in &mut config.listeners {
            usual_ports &= free_or_any(&mut listener.address);
        }
        let gateway =
            Gateway::start(config).await.map_err(|error| could_not("the gateway did not start", &error))?;
        Ok(Host { gateway, directory, usual_ports })
    }

    pub(super) fn mqtt(&self) -> SocketAddr {
        self.gateway.mqtt_addr()
    }

    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.gateway.admin_addr()
    }

    /// False if a usual port was taken and the kernel chose others.
    pub(super) fn has_usual_ports(&self) -> bool {
        self.usual_ports
    }

    pub(super) async fn shutdown(self) {
        self.gateway.shutdown().await;
        drop(self.directory);
    }
}

/// Keeps an address whose port is free; otherwise lets the kernel choose one. Loopback in any case.
fn free_or_any(address: &mut SocketAddr) -> bool {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    let free = TcpListener::bind(wanted).is_ok();
    *address = if free { wanted } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
    free
}
