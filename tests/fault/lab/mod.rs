//! A gateway in this process, on a disk of the test's own.
//!
//! Many of them run one after the other, or side by side, each on its own runtime and directory. What they say is kept
//! by [`logs`]. [`disk`] is what they write to, [`wreck`] what a power cut leaves of it.

pub(crate) mod disk;
pub(crate) mod logs;
pub(crate) mod wreck;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::app::{Gateway, StartError};
use gateway::config::{Config, DEFAULT_TOML, LoadOptions};
use gateway_protocol::ReasonCode;
use gateway_protocol::packet::Packet;
use gateway_storage::log::segments::disk::Disk;
use gateway_tests::{Client, Hello};
use tokio::runtime::Runtime;

/// How long an orderly stop may take; connections have 5 s of it.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the answer to a CONNECT may take.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether this version has a key of this name. A run that wants more than there is does without.
pub(crate) fn has_key(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    DEFAULT_TOML.lines().any(|line| line.split(" = ").next() == Some(name))
}

/// Those of the settings (`section.key=value`) whose keys this version has.
pub(crate) fn known(sets: &[&str]) -> Vec<String> {
    let is_known = |set: &&&str| has_key(set.split('=').next().unwrap_or(set));
    sets.iter().filter(is_known).map(ToString::to_string).collect()
}

/// Whether this version trims its log.
pub(crate) fn trims() -> bool {
    has_key("storage.reserve_bytes")
}

/// The built-in configuration on a directory and on ports of the kernel's choice, with some keys set.
pub(crate) fn config(data_dir: &Path, sets: &[&str]) -> Config {
    let mut all = known(sets);
    all.extend(
        ["listener.0.address=127.0.0.1:0", "admin.address=127.0.0.1:0", "mqtt.sys_interval_secs=0"]
            .map(str::to_owned),
    );
    // Bytes are looked for in files; and a directory is copied often.
    all.extend(known(&["storage.compression=none", "storage.reserve_bytes=1MiB"]));
    all.push(format!("storage.data_dir={}", data_dir.display()));
    Config::load(LoadOptions { sets: all, ..LoadOptions::default() }).expect("a configuration")
}

/// A gateway that runs.
pub(crate) struct InProcess {
    runtime: Runtime,
    gateway: Option<Gateway>,
    pub(crate) mqtt: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl InProcess {
    /// Starts it. Not to be called within a runtime.
    pub(crate) fn start(config: Config, disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        logs::install();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
        let gateway = runtime.block_on(Gateway::start_on(config, disk))?;
        let mqtt = gateway.mqtt_addr();
        let admin = gateway.admin_addr().expect("it has an admin listener");
        Ok(Self { runtime, gateway: Some(gateway), mqtt, admin })
    }

    /// Stops it in an orderly way.
    ///
    /// # Panics
    /// When it does not stop.
    pub(crate) fn stop(mut self) {
        let gateway = self.gateway.take().expect("it runs");
        let stopped =
            self.runtime.block_on(async { tokio::time::timeout(STOP_TIMEOUT, gateway.shutdown()).await });
        stopped.expect("the gateway stops");
        self.runtime.shutdown_timeout(STOP_TIMEOUT);
    }
}

/// A connection, and Session Present; None if it is refused or closed.
pub(crate) fn try_connect(address: SocketAddr, hello: &Hello) -> Option<(Client, bool)> {
    let mut client = Client::open(address, hello.version);
    client.send_bytes(&hello.bytes());
    let frame = client.receive(CONNACK_TIMEOUT).ok()?;
    match frame.packet() {
        Packet::ConnAck(ack) if ack.reason_code == ReasonCode::Success => Some((client, ack.session_present)),
        Packet::ConnAck(_) => None,
        other => panic!("{}: {other:?}", hello.client_id),
    }
}

/// Copies a directory, or a file. What vanishes meanwhile is left out.
pub(crate) fn copy(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else {
        if from.exists() {
            let _ = fs::copy(from, to);
        }
        return;
    };
    fs::create_dir_all(to).unwrap();
    for entry in entries.map_while(Result::ok) {
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// Lets whatever goes on go on.
pub(crate) fn pause(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// The first offset that the log still has.
pub(crate) fn earliest(log: &Path) -> u64 {
    let names = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name());
    let firsts = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
    firsts.min().unwrap_or(0)
}
