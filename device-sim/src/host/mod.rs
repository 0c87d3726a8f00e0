//! A broker that the scenario started itself: it may be killed, stopped, and left without a disk.
//!
//! Promise: the process ends with its [`Host`], and its directory goes with it; its port stays the same over restarts.
//! It knows no MQTT: a broker is ready when it takes connections. [`program`] says what is started, `disk` what a full
//! disk is, `ration` how it is kept to a part of a processor.

mod disk;
mod program;
mod ration;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::process;
use crate::scenario::BrokerSpec;
use crate::scenario::broker::Program;
use crate::timeline::BrokerStep;
use disk::Disk;
use ration::Ration;

/// How long a broker may take to listen, a recovery of its store included.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to end after SIGTERM before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(20);

const LOOK: Duration = Duration::from_millis(5);

/// What is shown of what a broker said before it ended.
const SAID_BYTES_MAX: usize = 2_000;

/// A broker's process, its directory and its ports.
pub(crate) struct Host {
    command: Vec<String>,
    dir: PathBuf,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    child: Option<Child>,
    disk: Option<Disk>,
    /// The part of a processor that it gets, and who sees to that.
    cpu: Option<f64>,
    ration: Option<Ration>,
}

/// Why a broker could not be started or spoiled.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The program is not there, or may not be run.
    #[error("cannot start `{command}`: {error}")]
    Start {
        /// The command line.
        command: String,
        /// What the system says.
        error: io::Error,
    },
    /// It ended, or did not listen in time.
    #[error("`{command}` did not listen on {address}; it said: {said}")]
    Silent {
        /// The command line.
        command: String,
        /// Where it should have.
        address: SocketAddr,
        /// The end of its output.
        said: String,
    },
    /// Its files could not be written.
    #[error("cannot prepare {path}: {error}")]
    Prepare {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// There is no small file system to fill.
    #[error(
        "a full disk needs a file system of its own, and this user may not mount one ({said}): run it as root, or under \
         `unshare --map-root-user --mount`"
    )]
    Mount {
        /// What `mount` says.
        said: String,
    },
    /// A signal or a file failed.
    #[error("cannot {what} the broker: {error}")]
    Step {
        /// What was to happen.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl Host {
    /// Starts a broker in a directory of its own, and waits until it listens.
    pub(crate) async fn start(spec: &BrokerSpec, needs_disk: bool) -> Result<Self, HostError> {
        let dir = std::env::temp_dir().join(format!("device-sim-broker-{:016x}", process::fresh_number()));
        let prepare = |error| HostError::Prepare { path: dir.clone(), error };
        std::fs::create_dir_all(&dir).map_err(prepare)?;
        let (address, admin_address) = free_addresses().map_err(prepare)?;
        let admin = matches!(spec.program, Program::Gateway { .. }).then_some(admin_address);
        let mut host = Host {
            command: Vec::new(),
            dir: dir.clone(),
            address,
            admin,
            child: None,
            disk: None,
            cpu: spec.cpu,
            ration: None,
        };
        if needs_disk || spec.disk_bytes.is_some() {
            host.disk = Some(Disk::mount(&dir, spec.disk_bytes)?);
        }
        let fill_in = |text: &str| {
            text.replace("{port}", &address.port().to_string())
                .replace("{admin}", &admin_address.port().to_string())
                .replace("{dir}", &dir.display().to_string())
        };
        let (command, files) = program::command(spec);
        for (name, content) in &files {
            std::fs::write(dir.join(name), fill_in(content)).map_err(prepare)?;
        }
        host.command = command.iter().map(|word| fill_in(word)).collect();
        host.spawn()?;
        host.wait_until_it_listens().await?;
        host.ration().map_err(|error| HostError::Step { what: "ration", error })?;
        Ok(host)
    }

    /// Where it listens for MQTT.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin listener is, if it is a gateway.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Does something to it. A start is over when the process exists; whether it listens is for clients to find out.
    pub(crate) async fn step(&mut self, step: BrokerStep) -> Result<(), HostError> {
        let failed = |what| move |error| HostError::Step { what, error };
        match step {
            BrokerStep::Kill => self.kill().map_err(failed("kill")),
            BrokerStep::Terminate => self.terminate().await.map_err(failed("stop")),
            BrokerStep::Start => {
                self.kill().map_err(failed("end"))?;
                self.spawn()?;
                self.ration().map_err(failed("ration"))
            }
            BrokerStep::Pause => self.signal(Signal::STOP).map_err(failed("pause")),
            BrokerStep::Resume => self.signal(Signal::CONT).map_err(failed("resume")),
            BrokerStep::Fill => {
                self.disk.as_mut().map_or(Ok(()), Disk::fill).map_err(failed("fill the disk of"))
            }
            BrokerStep::Free => {
                self.disk.as_mut().map_or(Ok(()), Disk::free).map_err(failed("free the disk of"))
            }
        }
    }

    fn spawn(&mut self) -> Result<(), HostError> {
        let start = |error| HostError::Start { command: self.command.join(" "), error };
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(start(io::ErrorKind::InvalidInput.into()));
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_of(&self.dir, self.disk.is_some()))
            .map_err(start)?;
        let said = log.try_clone().map_err(start)?;
        let child =
            Command::new(program).args(arguments).stdin(Stdio::null()).stdout(log).stderr(said).spawn();
        self.child = Some(child.map_err(start)?);
        Ok(())
    }

    async fn wait_until_it_listens(&mut self) -> Result<(), HostError> {
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || began.elapsed() > START_PATIENCE {
                let said =
                    std::fs::read_to_string(log_of(&self.dir, self.disk.is_some())).unwrap_or_default();
                let from = said.floor_char_boundary(said.len().saturating_sub(SAID_BYTES_MAX));
                let said = said.get(from..).unwrap_or_default().trim().to_owned();
                return Err(HostError::Silent {
                    command: self.command.join(" "),
                    address: self.address,
                    said,
                });
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn ration(&mut self) -> io::Result<()> {
        if let (Some(part), Some(pid)) = (self.cpu, self.pid()) {
            self.ration = Some(Ration::start(pid, part)?);
        }
        Ok(())
    }

    fn kill(&mut self) -> io::Result<()> {
        self.ration = None;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    async fn terminate(&mut self) -> io::Result<()> {
        self.ration = None;
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while let Some(child) = &mut self.child {
            if child.try_wait()?.is_some() || began.elapsed() > END_PATIENCE {
                return self.kill();
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.as_ref()?.id()).ok().and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        let pid = self.pid().ok_or(io::ErrorKind::InvalidInput)?;
        kill_process(pid, signal).map_err(io::Error::from)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.kill();
        drop(self.disk.take());
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::remove_file(log_of(&self.dir, true));
    }
}

/// Where its output goes: beside its directory if that is to be filled.
fn log_of(dir: &Path, beside: bool) -> PathBuf {
    if beside { dir.with_extension("log") } else { dir.join("broker.log") }
}

fn free_addresses() -> io::Result<(SocketAddr, SocketAddr)> {
    let (one, other) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    Ok((one.local_addr()?, other.local_addr()?))
}

#[cfg(test)]
mod tests;
