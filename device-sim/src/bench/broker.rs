//! The brokers that are measured: how each is started for a run, and what its process has used.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::command::CommandError;
use crate::process;

/// How long a broker may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// A broker that can be started here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// This product.
    #[value(skip)]
    Gateway,
    /// Eclipse Mosquitto.
    Mosquitto,
    /// NATS with its MQTT listener and JetStream.
    Nats,
    /// rumqttd.
    Rumqttd,
}

impl Kind {
    /// As it is called in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Mosquitto => "Mosquitto",
            Self::Nats => "NATS",
            Self::Rumqttd => "rumqttd",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Mosquitto => "mosquitto",
            Self::Nats => "nats-server",
            Self::Rumqttd => "rumqttd",
        }
    }

    /// What it does not speak is not asked of it.
    pub(super) const fn speaks_v5(self) -> bool {
        !matches!(self, Self::Nats)
    }
}

/// A broker's program.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) kind: Kind,
    program: PathBuf,
}

/// A broker that runs until this is dropped. Its files go with it.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    child: Child,
    dir: PathBuf,
}

impl Peer {
    /// The gateway: the program given, or the one beside this program.
    pub(super) fn gateway(given: Option<&Path>) -> Result<Self, CommandError> {
        let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("gateway")));
        let program = given.map(Path::to_owned).or(beside).unwrap_or_else(|| "gateway".into());
        Ok(Self { kind: Kind::Gateway, program })
    }

    /// A peer, if it is installed: in the search path, or where Debian has programs for administrators.
    pub(super) fn find(kind: Kind) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let program = places.map(|place| place.join(kind.program())).find(|program| program.is_file())?;
        Some(Self { kind, program })
    }

    /// The version it says it is.
    pub(super) fn version(&self) -> String {
        let flag = if self.kind == Kind::Mosquitto { "-h" } else { "--version" };
        let said = Command::new(&self.program).arg(flag).stderr(Stdio::null()).output();
        let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
        let line = said.lines().next().unwrap_or_default();
        line.rsplit([' ', 'v']).find(|word| !word.is_empty()).unwrap_or("of unknown version").to_owned()
    }

    /// Starts it with an empty data directory; the gateway with these settings (`section.key=value`).
    pub(super) fn start(&self, settings: &[&str]) -> Result<Running, CommandError> {
        self.start_with(settings, None)
    }

    /// The same; the gateway with this configuration file besides.
    pub(super) fn start_with(
        &self,
        settings: &[&str],
        config: Option<&str>,
    ) -> Result<Running, CommandError> {
        let cannot = |what: &str, error: std::io::Error| {
            CommandError::CouldNotRun(format!("{what} {}: {error}", self.program.display()))
        };
        let dir = std::env::temp_dir().join(format!("device-sim-bench-{:016x}", process::fresh_number()));
        std::fs::create_dir_all(&dir).map_err(|error| cannot("no directory for", error))?;
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
        if self.kind == Kind::Gateway {
            command.args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]);
            command.arg(dir.join("data")).args(["--set", "log.level=error"]).stdout(Stdio::piped());
            command.args(settings.iter().flat_map(|setting| ["--set", setting]));
            if let Some(config) = config {
                let file = dir.join("gateway.toml");
                std::fs::write(&file, config).map_err(|error| cannot("no configuration for", error))?;
                command.arg("--config").arg(file);
            }
        } else {
            let address = free_address().map_err(|error| cannot("no port for", error))?;
            let config = self.config(address, &dir);
            // rumqttd goes by the ending; the others do not care.
            let file = dir.join("broker.toml");
            std::fs::write(&file, config).map_err(|error| cannot("no configuration for", error))?;
            command.arg("-c").arg(file);
            let child = command.spawn().map_err(|error| cannot("cannot start", error))?;
            let mut running = Running { address, child, dir };
            return running.wait_until_it_listens(self.kind).map(|()| running);
        }
        let mut child = command.spawn().map_err(|error| cannot("cannot start", error))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(|error| cannot("cannot read", error))?;
        }
        let said = line.split_whitespace().find_map(|word| word.strip_prefix("mqtt=")?.parse().ok());
        let address = said.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let running = Running { address, child, dir };
        match said {
            Some(_) => Ok(running),
            None => Err(CommandError::CouldNotRun(format!("{} did not get ready", self.program.display()))),
        }
    }

    /// A configuration that bounds nothing the run would meet, and stores nothing.
    fn config(&self, address: SocketAddr, dir: &Path) -> String {
        let (port, dir) = (address.port(), dir.display());
        let mut config = String::new();
        // Writing to a String cannot fail.
        let _ = match self.kind {
            Kind::Gateway => Ok(()),
            Kind::Mosquitto => write!(
                config,
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
                 max_inflight_messages 1000\nmax_queued_messages 0\nlog_dest none\nuser root\n"
            ),
            Kind::Nats => write!(
                config,
                "server_name: bench\nhost: 127.0.0.1\nport: -1\nmax_connections: 100000\n\
                 jetstream {{ store_dir: \"{dir}/jetstream\" }}\nmqtt {{ host: 127.0.0.1, port: {port} }}\n"
            ),
            Kind::Rumqttd => write!(
                config,
                "id = 0\n[router]\nid = 0\nmax_connections = 20010\nmax_outgoing_packet_count = 200\n\
                 max_segment_size = 104857600\nmax_segment_count = 10\n[v5.1]\nname = \"v5\"\n\
                 listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n[v5.1.connections]\n\
                 connection_timeout_ms = 60000\nmax_payload_size = 1048576\nmax_inflight_count = 1000\n\
                 dynamic_filters = true\n"
            ),
        };
        config
    }
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    #[expect(clippy::disallowed_methods, reason = "another program says in no other way that it listens")]
    fn wait_until_it_listens(&mut self, kind: Kind) -> Result<(), CommandError> {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if ended || began.elapsed() > START_PATIENCE {
                return Err(CommandError::CouldNotRun(format!("{} did not listen", kind.name())));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// User and system time of all its threads, those that have ended included.
    pub(super) cpu: Duration,
    /// Its resident memory.
    pub(super) resident_bytes: u64,
}

impl Usage {
    /// None without a process, and when the system does not say.
    pub(super) fn read(pid: Option<u32>) -> Option<Self> {
        let pid = pid?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, blanks and parentheses included.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11);
        let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let cpu =
            Duration::from_secs_f64((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64);
        let resident_pages: u64 = fields.nth(8)?.parse().ok()?;
        Some(Self { cpu, resident_bytes: resident_pages * rustix::param::page_size() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let began = Usage::read(Some(std::process::id())).unwrap();
        assert!(began.resident_bytes > 1 << 20, "{began:?}");
        let mut sum = 0_u64;
        while Usage::read(Some(std::process::id())).unwrap().cpu == began.cpu {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
    }
}
