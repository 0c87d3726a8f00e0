//! A gateway in a process of its own, which says how much CPU it has taken.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use gateway::app::Gateway;
use gateway::config::{Config, LoadOptions};
use gateway::telemetry::Metrics;
use rustix::time::{ClockId, clock_gettime};

/// The argument with which this program is a gateway.
pub(crate) const SERVE: &str = "--serve";

/// What a gateway does beside its work.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// Nothing.
    Uncounted,
    /// Metrics.
    Counted,
    /// Metrics, and one message of a hundred is traced.
    Traced,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Uncounted, Self::Counted, Self::Traced];

    const fn name(self) -> &'static str {
        match self {
            Self::Uncounted => "uncounted",
            Self::Counted => "counted",
            Self::Traced => "traced",
        }
    }

    pub(crate) fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|mode| mode.name() == name).expect("a mode")
    }
}

/// Runs a gateway in this process until standard input ends. For each line of that it prints the CPU that the process has taken, in nanoseconds.
pub(crate) fn run(mode: Mode, collector: &str) {
    if mode == Mode::Uncounted {
        Metrics::install_stub().expect("the first in this process");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut sets = vec![
        format!("storage.data_dir={}", dir.path().display()),
        "listener.0.address=127.0.0.1:0".to_owned(),
        "admin.address=127.0.0.1:0".to_owned(),
    ];
    if mode == Mode::Traced {
        sets.push(format!("telemetry.traces_endpoint=http://{collector}"));
        sets.push("telemetry.traces_sample_ratio=0.01".to_owned());
    }
    let config = Config::load(LoadOptions { sets, ..LoadOptions::default() }).expect("a configuration");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let gateway = Gateway::start(config).await.expect("a gateway");
        println!("{}", gateway.mqtt_addr());
        let over = tokio::task::spawn_blocking(|| {
            for line in io::stdin().lines() {
                line.expect("standard input");
                let taken = clock_gettime(ClockId::ProcessCPUTime);
                println!("{}", taken.tv_sec as u64 * 1_000_000_000 + taken.tv_nsec as u64);
            }
        });
        over.await.expect("a thread");
        gateway.shutdown().await;
    });
}

/// Such a process, from outside.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Served {
    pub(crate) fn start(mode: Mode) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program has a path"))
            .args([SERVE, mode.name(), &collector().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let input = process.stdin.take().expect("it is piped");
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        let address = line(&mut output).parse().expect("an address");
        Self { address, process, input, output }
    }

    /// What it has taken since it started.
    pub(crate) fn cpu(&mut self) -> Duration {
        self.input.write_all(b"\n").expect("it reads");
        Duration::from_nanos(line(&mut self.output).parse().expect("a number"))
    }

    pub(crate) fn stop(self) {
        let Self { mut process, input, .. } = self;
        drop(input);
        let status = process.wait().expect("it ends");
        assert!(status.success(), "the gateway: {status}");
    }
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("the gateway says something");
    line.trim().to_owned()
}

/// Takes spans and forgets them.
fn collector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // Until the gateway ends.
            while forget(&connection).is_some() {}
        }
    });
    address
}

fn forget(mut connection: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}
