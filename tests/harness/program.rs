//! Somebody else's client: a program with its output watched and its time bounded.

use std::process::{Child, Command, ExitStatus, Stdio};

use crate::{Gateway, Output, TIMEOUT, wait};

/// A program that is running, or has ended. Killed when dropped; when the test fails, what it said is printed.
pub struct Program {
    name: String,
    child: Child,
    /// Its standard output.
    pub output: Output,
    /// Lines of standard error.
    pub errors: Output,
}

impl Program {
    /// Starts `name` with `arguments`, its output line by line.
    ///
    /// # Panics
    /// When the program is not installed.
    #[must_use]
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        // Into a pipe, the C library would keep lines back until it has a block of them.
        let child = Command::new("stdbuf")
            .args(["-oL", "-eL", name])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("stdbuf (coreutils) can be run");
        let output = Output::of(child.stdout.take().unwrap());
        let errors = Output::of(child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, output, errors }
    }

    /// The first line from number `from` on that is `wanted`, and its number.
    ///
    /// # Panics
    /// When it does not come.
    pub fn await_line(&self, from: usize, what: &str, wanted: impl Fn(&str) -> bool) -> (usize, String) {
        self.output.wait_for(from, TIMEOUT, wanted).unwrap_or_else(|| {
            let errors = self.errors.lines();
            assert!(
                !errors.iter().any(|line| line.contains("No such file or directory") && line.contains(&self.name)),
                "{} is not installed: `apt-get install mosquitto-clients`, or run the tests by tests/run, which does",
                self.name
            );
            panic!("{}: {what} was expected; it said {:#?} and {errors:#?}", self.name, self.output.lines());
        })
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn finish(&mut self) -> ExitStatus {
        let status = wait::until(&self.name, TIMEOUT, || self.child.try_wait().unwrap());
        assert!(
            status.code() != Some(127),
            "{} is not installed: `apt-get install mosquitto-clients`, or run the tests by tests/run, which does",
            self.name
        );
        self.output.wait_for_end(TIMEOUT);
        status
    }

    /// Ends it by SIGTERM, upon which the mosquitto clients send DISCONNECT, and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        // Their signal handler prints. Were it to interrupt another print, that one's line would come out twice:
        // the signal is sent when the program sleeps, which is when it waits for its socket.
        let stat = format!("/proc/{}/stat", self.child.id());
        wait::until(&self.name, TIMEOUT, || {
            std::fs::read_to_string(&stat).ok()?.contains(") S ").then_some(())
        });
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it takes signals");
        self.finish();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}: {:#?} {:#?}", self.name, self.output.lines(), self.errors.lines());
        }
    }
}

/// What lines with a message begin with; the others are `mosquitto_sub`'s own.
const MESSAGE: &str = "MESSAGE ";

/// `mosquitto_sub`, subscribed.
pub struct Subscriber {
    program: Program,
    /// The next line to look at.
    line: usize,
}

impl Subscriber {
    /// Starts it and waits for its SUBACK. Messages are printed as `format` says (see `mosquitto_sub -F`).
    #[must_use]
    pub fn start(gateway: &Gateway, version: &str, format: &str, arguments: &[&str]) -> Self {
        let port = gateway.mqtt().port().to_string();
        let format = format!("{MESSAGE}{format}");
        let mut all = vec!["-d", "-h", "127.0.0.1", "-p", &port, "-V", version, "-F", &format];
        all.extend_from_slice(arguments);
        let program = Program::start("mosquitto_sub", &all);
        program.await_line(0, "SUBACK", |line| line.starts_with("Subscribed (mid:"));
        Self { program, line: 0 }
    }

    /// The next message.
    ///
    /// # Panics
    /// When it does not come.
    pub fn message(&mut self) -> String {
        let (at, line) = self.program.await_line(self.line, "a message", |line| line.starts_with(MESSAGE));
        self.line = at + 1;
        line[MESSAGE.len()..].to_owned()
    }

    /// The next `count` messages.
    pub fn messages(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.message()).collect()
    }

    /// Has it leave, and answers what messages it printed that were not asked for.
    pub fn stop(mut self) -> Vec<String> {
        self.program.stop();
        let lines = self.program.output.lines();
        lines
            .iter()
            .skip(self.line)
            .filter_map(|line| line.strip_prefix(MESSAGE))
            .map(str::to_owned)
            .collect()
    }
}

/// Publishes with `mosquitto_pub`; it waits for the PUBACK at QoS 1.
///
/// # Panics
/// When it does not succeed.
pub fn publish_with_mosquitto(gateway: &Gateway, version: &str, qos: &str, topic: &str, payload: &str) {
    let port = gateway.mqtt().port().to_string();
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", qos, "-t", topic, "-m", payload];
    let mut program = Program::start("mosquitto_pub", &arguments);
    let status = program.finish();
    assert!(status.success(), "mosquitto_pub: {status}");
}
