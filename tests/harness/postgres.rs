//! A PostgreSQL server of the test's own: Debian's, on a directory and a port of its own, without a password, on loopback.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::wait;

/// Where Debian puts each major version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The user of Debian's package. The server refuses to run as root.
const USER: &str = "postgres";
/// From start to the first answer, and from a signal to the end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A server that is gone, with all it has, when this goes.
pub struct Postgres {
    programs: PathBuf,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// A server that answers.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let mut server = Self::make();
        server.restart();
        server
    }

    /// A server that answers over TLS alone, with this certificate and key in PEM.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start_with_tls(certificate: &str, key: &str) -> Self {
        let mut server = Self::make();
        let mut settings = std::fs::read_to_string(server.data().join("postgresql.conf")).expect("settings");
        settings.push_str("\nssl = on\n");
        for (name, text) in [
            ("server.crt", certificate),
            ("server.key", key),
            ("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n"),
            ("postgresql.conf", &settings),
        ] {
            let path = server.data().join(name);
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
            if geteuid().is_root() {
                assert!(run(Command::new("chown").arg(USER).arg(&path)).status.success());
            }
        }
        server.restart();
        server
    }

    /// A server that is not started.
    fn make() -> Self {
        let versions = std::fs::read_dir(VERSIONS).expect("Debian's package postgresql is installed");
        let newest = versions
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .max()
            .expect("a version of PostgreSQL");
        let programs = Path::new(VERSIONS).join(newest.to_string()).join("bin");
        let dir = tempfile::tempdir().expect("a temporary directory");
        if geteuid().is_root() {
            assert!(run(Command::new("chown").arg(USER).arg(dir.path())).status.success());
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let server = Self { programs, dir, port, child: None };
        let mut initdb = server.command("initdb");
        initdb.args([
            "--auth=trust",
            "--username",
            USER,
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--pgdata",
        ]);
        let made = run(initdb.arg(server.data()));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server
    }

    /// Starts it again after [`Postgres::stop`] or [`Postgres::kill`]: same port, same data.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        server.args(["-c", "unix_socket_directories="]);
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(server.spawn().expect("the server can be started"));
        wait::until("PostgreSQL", TIMEOUT, || self.try_query("SELECT 1").ok());
    }

    /// Stops it: connections are cut, what is committed is saved.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Stops it without letting it save anything: it recovers when it is started again.
    pub fn kill(&mut self) {
        self.end(Signal::QUIT);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill_process(Pid::from_child(&child), signal);
        let _ = wait::until("the end of PostgreSQL", TIMEOUT, || child.try_wait().ok().flatten());
    }

    /// How a client connects.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgresql://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The rows that `sql` finds, columns separated by tabs.
    ///
    /// # Panics
    /// When the server refuses it.
    #[must_use]
    pub fn query(&self, sql: &str) -> Vec<String> {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The rows that `sql` finds, or what the server says.
    ///
    /// # Errors
    /// The message.
    pub fn try_query(&self, sql: &str) -> Result<Vec<String>, String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--field-separator=\t"]);
        let done = run(psql.args(["--set=ON_ERROR_STOP=1", "--dbname", &self.url(), "--command", sql]));
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()),
            false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A server program, as a user that it is willing to run as.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        if !geteuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
        command.current_dir(self.dir.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}
