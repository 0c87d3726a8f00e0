//! The real gateway as a library, on ports of the kernel's choosing.

use gateway::app::Gateway;
use gateway::config::Config;
use tempfile::TempDir;

/// A gateway whose data are in `directory`.
pub(crate) async fn start_gateway(directory: &TempDir) -> Gateway {
    let mut config = Config::default();
    config.storage.data_dir = directory.path().to_owned();
    config.admin.address.set_port(0);
    for listener in &mut config.listeners {
        listener.address.set_port(0);
    }
    Gateway::start(config).await.expect("the gateway starts")
}
