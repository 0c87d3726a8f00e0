//! A gateway under cachegrind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use gateway::app::Gateway;
use gateway::config::{Config, LoadOptions};
use gateway::telemetry::Metrics;
use tempfile::TempDir;

/// The argument with which this program is a gateway.
pub(crate) const SERVE: &str = "--serve";

/// What is done beside the work.
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

/// Runs a gateway in this process until standard input ends.
pub(crate) fn run(mode: Mode, collector: &str) {
    if mode == Mode::Uncounted {
        Metrics::install_stub().expect("the first in this process");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut sets = vec![
        format!("storage.data_dir={}", dir.path().display()),
        "storage.durability=memory".to_owned(),
        "listener.0.address=127.0.0.1:0".to_owned(),
        "admin.enabled=false".to_owned(),
        "mqtt.sys_interval_secs=0".to_owned(),
        "mqtt.connect_timeout_ms=60000".to_owned(),
        // cachegrind makes it slow, which is no overload.
        "admission.ladder=false".to_owned(),
    ];
    if mode == Mode::Traced {
        sets.push(format!("telemetry.traces_endpoint=http://{collector}"));
        sets.push("telemetry.traces_sample_ratio=0.01".to_owned());
    }
    let config = Config::load(LoadOptions { sets, ..LoadOptions::default() }).expect("a configuration");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let gateway = Gateway::start(config).await.expect("a gateway");
        println!("{}", gateway.mqtt_addr());
        let over = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        over.await.expect("a thread").expect("standard input");
        gateway.shutdown().await;
    });
}

/// Such a process, from outside.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    process: Child,
    dir: TempDir,
}

impl Served {
    pub(crate) fn start(mode: Mode) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut process = Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--quiet", "--fair-sched=yes"])
            .arg(format!("--cachegrind-out-file={}", dir.path().join("counts").display()))
            .arg(std::env::current_exe().expect("this program has a path"))
            .args([SERVE, mode.name(), &collector().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("valgrind is installed");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the gateway says where it is");
        Self { address: line.trim().parse().expect("an address"), process, dir }
    }

    /// Ends it, and says how many instructions it took in all.
    pub(crate) fn stop(mut self) -> f64 {
        drop(self.process.stdin.take());
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "cachegrind: {status}");
        let text = std::fs::read_to_string(self.dir.path().join("counts")).expect("what was counted");
        let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        of("totals:").or_else(|| of("summary:")).expect("a total")
    }
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
