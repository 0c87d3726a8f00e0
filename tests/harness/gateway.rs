//! The program under test, in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use gateway_protocol::ProtocolVersion;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Client, Hello, Memory, Metrics, Output, TIMEOUT, binary, memory_of, wait};

/// From start to the ready line; a start may have a whole log to replay.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// From SIGTERM to the end: the drain has 5 s for connections, and the log has to be closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between samples of gauges, and some for the sampler to be late.
const SAMPLED_EVERY: Duration = Duration::from_millis(1_300);
/// Ports that the kernel gives to nobody who does not ask for them by number.
const UNASSIGNED_PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How a gateway is to be started.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// `--set` options: `section.key=value`.
    pub sets: Vec<String>,
    /// Listen on ports that the kernel gives to no outgoing connection. A gateway that is killed and restarted many
    /// times among clients that keep connecting would else find its port taken, now and then, by one of them.
    pub on_unassigned_ports: bool,
    /// The data directory; None: one of its own.
    pub data_dir: Option<PathBuf>,
}

/// A gateway on a directory of its own, which goes when this goes. When the test fails, what it said on standard
/// error is printed.
pub struct Gateway {
    options: GatewayOptions,
    dir: TempDir,
    child: Option<Child>,
    mqtt: SocketAddr,
    admin: SocketAddr,
    /// Standard error of every start so far; the last one's is written to at the moment.
    errors: Vec<Output>,
}

impl Gateway {
    /// A gateway with the built-in configuration.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(GatewayOptions::default())
    }

    /// A gateway with some keys set: `section.key=value`.
    #[must_use]
    pub fn start_set(sets: &[&str]) -> Self {
        Self::start_with(GatewayOptions {
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
            ..GatewayOptions::default()
        })
    }

    /// A gateway, up and accepting.
    #[must_use]
    pub fn start_with(options: GatewayOptions) -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (mqtt, admin) = match options.on_unassigned_ports {
            true => (unassigned_address(0), unassigned_address(1)),
            false => (anywhere, anywhere),
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut gateway = Self { options, dir, child: None, mqtt, admin, errors: Vec::new() };
        gateway.restart();
        gateway
    }

    /// Starts the program again after [`Gateway::kill`] or [`Gateway::terminate`]: same ports, same directory.
    /// Answers the time from start to the ready line.
    pub fn restart(&mut self) -> Duration {
        assert!(self.child.is_none(), "it is running");
        let began = Instant::now();
        let mut child = Command::new(binary::gateway())
            .args(["run", "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen", &self.mqtt.to_string(), "--admin", &self.admin.to_string()])
            .args(self.options.sets.iter().flat_map(|set| ["--set", set]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway can be started");
        let lines = Output::of(child.stdout.take().unwrap());
        self.errors.push(Output::of(child.stderr.take().unwrap()));
        self.child = Some(child);
        let Some((_, ready)) = lines.wait_for(0, READY_TIMEOUT, |line| line.starts_with("ready ")) else {
            panic!("the gateway did not become ready within {READY_TIMEOUT:?}");
        };
        let took = began.elapsed();
        let address = |key: &str| {
            let found = ready.split(' ').find_map(|word| word.strip_prefix(key)?.parse().ok());
            found.unwrap_or_else(|| panic!("no {key} in: {ready}"))
        };
        (self.mqtt, self.admin) = (address("mqtt="), address("admin="));
        took
    }

    /// Where MQTT clients connect to.
    #[must_use]
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Where metrics are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What it keeps.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir.clone().unwrap_or_else(|| self.dir.path().join("data"))
    }

    /// Somewhere for the test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Whether the program is an optimised build, going by its path.
    #[must_use]
    pub fn is_release_build() -> bool {
        binary::gateway().components().any(|part| part.as_os_str() == "release")
    }

    /// A connection whose CONNECT was accepted, Clean Start set.
    #[must_use]
    pub fn connect(&self, version: ProtocolVersion, client_id: &str) -> Client {
        Client::connect(self.mqtt, &Hello::new(version, client_id)).0
    }

    /// SIGKILL: the end, at once.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().expect("it can be killed");
        child.wait().expect("it is dead");
    }

    /// SIGTERM, and the wait for exit status 0.
    pub fn terminate(&mut self) {
        self.begin_terminate();
        self.await_exit();
    }

    /// SIGTERM alone; [`Gateway::await_exit`] is to follow.
    pub fn begin_terminate(&self) {
        let pid = Pid::from_child(self.child.as_ref().expect("it is running"));
        kill_process(pid, Signal::TERM).expect("it takes signals");
    }

    /// The end of the drain that [`Gateway::begin_terminate`] began, with exit status 0.
    pub fn await_exit(&mut self) {
        let child = self.child.as_mut().expect("it is running");
        let status: ExitStatus = wait::until("the drain", DRAIN_TIMEOUT, || child.try_wait().unwrap());
        self.child = None;
        assert_eq!(status.code(), Some(0), "exit status after SIGTERM");
        self.assert_sound();
    }

    /// The books of this moment. Gauges in them are up to a second old.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::read(self.admin)
    }

    /// Waits until so many connections are open.
    pub fn await_connections(&self, count: usize) {
        self.await_gauge("gateway_connections", count as f64);
    }

    /// Waits until a gauge that is sampled each second shows `value`. What was sampled before the call is not
    /// trusted.
    pub fn await_gauge(&self, gauge: &str, value: f64) {
        let began = Instant::now();
        let look = || (began.elapsed() > SAMPLED_EVERY, self.metrics().find(gauge));
        wait::until_it(gauge, TIMEOUT, look, |found| *found == (true, Some(value)));
    }

    /// What it has in memory.
    #[must_use]
    pub fn memory(&self) -> Memory {
        memory_of(self.process_id())
    }

    /// The process that runs at the moment.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// What it said on standard error, over all its starts, where a line is `wanted`.
    pub fn said(&self, wanted: impl Fn(&str) -> bool + Copy) -> Vec<String> {
        self.errors.iter().flat_map(|output| output.lines_with(wanted)).collect()
    }

    /// No panic, and no line of level ERROR, which would mean that data is lost or a person is needed.
    pub fn assert_sound(&self) {
        let alarms = self.said(|line| line.contains("panicked") || line.contains(" ERROR "));
        assert!(alarms.is_empty(), "the gateway reports: {alarms:#?}");
    }

    /// It still runs, and [`Gateway::assert_sound`].
    pub fn assert_alive(&mut self) {
        let status = self.child.as_mut().expect("it was started").try_wait().unwrap();
        assert_eq!(status, None, "the gateway has ended");
        self.assert_sound();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, which is what the test then says.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for (start, output) in self.errors.iter().enumerate() {
                eprintln!("--- the gateway's standard error, start {start}");
                for line in output.lines() {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// A free port out of those that are given to no outgoing connection. Processes start to look at different places.
fn unassigned_address(nth: usize) -> SocketAddr {
    let ports = UNASSIGNED_PORTS.len();
    let start = (std::process::id() as usize * 37 + nth * 1_009) % ports;
    let free =
        (0..ports).map(|step| UNASSIGNED_PORTS.start + ((start + step) % ports) as u16).find_map(|port| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            TcpListener::bind(address).is_ok().then_some(address)
        });
    free.expect("a port is free")
}
