//! A durable subscriber that is far behind, on the real program: everything comes, in order, once, and the backlog costs next to no memory
//! meanwhile. `CATCH_UP_EVENTS=1000000 cargo test --release -p gateway --test catch_up -- --nocapture` says how fast.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this file is a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PAYLOAD: usize = 240;
/// Publishes without an answer at most.
const WINDOW: usize = 4000;

struct Gateway {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Gateway {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path());
        command.args(more).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        let address = ready.split_once("mqtt=").unwrap().1.split_whitespace().next().unwrap().to_owned();
        Self { child, address, _dir: dir }
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// A connection with a persistent Session, MQTT 3.1.1.
    fn connect(&self, client_id: &str) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client { stream, received: Vec::new() };
        let mut body = b"\x00\x04MQTT\x04\x00\x00\x00".to_vec();
        text(&mut body, client_id);
        client.send(0x10, &body);
        client.wait_for(0x20);
        client
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(out: &mut Vec<u8>, head: u8, body: &[u8]) {
    out.push(head);
    let mut left = body.len();
    while left > 127 {
        out.push((left % 128) as u8 | 0x80);
        left /= 128;
    }
    out.push(left as u8);
    out.extend_from_slice(body);
}

/// The packet that `bytes` begin with: its first byte, its body, and its whole length.
fn next_packet(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (mut len, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        len |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte < 0x80 {
            return Some((bytes[0], bytes.get(at..at + len)?, at + len));
        }
    }
}

impl Client {
    fn send(&mut self, head: u8, body: &[u8]) {
        let mut bytes = Vec::new();
        packet(&mut bytes, head, body);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Reads what there is, unless a whole packet is left over, and gives packets to `take` for as long as that wants more.
    fn read(&mut self, mut take: impl FnMut(u8, &[u8]) -> bool) {
        if next_packet(&self.received).is_none() {
            let mut buffer = vec![0; 256 << 10];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the gateway closed the connection");
            self.received.extend_from_slice(&buffer[..count]);
        }
        let (mut used, mut more) = (0, true);
        while more && let Some((head, body, len)) = next_packet(&self.received[used..]) {
            more = take(head, body);
            used += len;
        }
        self.received.drain(..used);
    }

    fn wait_for(&mut self, expected: u8) {
        let mut found = false;
        while !found {
            self.read(|head, _| {
                found = head == expected;
                !found
            });
        }
    }

    fn subscribe(&mut self, filter: &str) {
        let mut body = vec![0, 1];
        text(&mut body, filter);
        body.push(1);
        self.send(0x82, &body);
        self.wait_for(0x90);
    }

    /// Publishes `numbers`, each with itself as its payload, to the topics `topic` gives.
    fn publish(&mut self, count: u64, topic: impl Fn(u64) -> String) {
        let (mut next, mut open, mut bytes) = (0, 0, Vec::new());
        while next < count || open > 0 {
            bytes.clear();
            while next < count && open < WINDOW {
                let mut body = Vec::with_capacity(PAYLOAD + 64);
                text(&mut body, &topic(next));
                body.extend_from_slice(&((next % 65_535) as u16 + 1).to_be_bytes());
                body.extend_from_slice(&next.to_le_bytes());
                body.resize(body.len() + PAYLOAD - 8, b'x');
                packet(&mut bytes, 0x32, &body);
                (next, open) = (next + 1, open + 1);
            }
            self.stream.write_all(&bytes).unwrap();
            self.read(|head, _| {
                open -= usize::from(head == 0x40);
                true
            });
        }
    }

    /// Takes `count` messages, acknowledging each, and gives their numbers to `check`.
    fn take(&mut self, count: u64, mut check: impl FnMut(u64, u64)) {
        let (mut seen, mut answers) = (0, Vec::new());
        while seen < count {
            self.read(|head, body| {
                assert_eq!(head, 0x32, "a PUBLISH at QoS 1 that was never sent before");
                let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                packet(&mut answers, 0x40, &body[at..at + 2]);
                check(seen, u64::from_le_bytes(body[at + 2..at + 10].try_into().unwrap()));
                seen += 1;
                true
            });
            self.stream.write_all(&answers).unwrap();
            answers.clear();
        }
    }
}

fn events() -> u64 {
    std::env::var("CATCH_UP_EVENTS").map_or(30_000, |text| text.parse().unwrap())
}

#[test]
fn one_who_takes_all_catches_up_in_order() {
    let events = events();
    let gateway = Gateway::start(&[
        "--set",
        "mqtt.max_inflight=10000",
        "--set",
        "storage.view_save_interval_ms=100",
        "--set",
        &format!("mqtt.max_queued_messages={events}"),
        "--set",
        "mqtt.max_queued_bytes=2GiB",
    ]);
    let mut subscriber = gateway.connect("s");
    subscriber.subscribe("plant/#");
    drop(subscriber);
    let mut publisher = gateway.connect("p");
    publisher.publish(1000, |_| "elsewhere".into());
    let before_kib = gateway.resident_kib();
    publisher.publish(events, |number| format!("plant/{}", number % 100));
    let after_kib = gateway.resident_kib();
    let start = Instant::now();
    let mut subscriber = gateway.connect("s");
    subscriber.take(events, |at, number| assert_eq!(at, number));
    let secs = start.elapsed().as_secs_f64();
    eprintln!(
        "{events} events of {PAYLOAD} bytes in {secs:.2} s: {:.0} events/s; resident before {before_kib} KiB, with the backlog {after_kib} KiB",
        events as f64 / secs
    );
}

#[test]
fn those_who_take_every_hundredth_catch_up_in_order() {
    let events = events();
    const SESSIONS: u64 = 100;
    let gateway = Gateway::start(&[
        "--set",
        "mqtt.max_inflight=10000",
        "--set",
        "storage.view_save_interval_ms=100",
        "--set",
        &format!("mqtt.max_queued_messages={events}"),
        "--set",
        "mqtt.max_queued_bytes=2GiB",
    ]);
    for session in 0..SESSIONS {
        gateway.connect(&format!("s{session}")).subscribe(&format!("plant/{session}"));
    }
    let mut publisher = gateway.connect("p");
    publisher.publish(1000, |_| "elsewhere".into());
    let before_kib = gateway.resident_kib();
    publisher.publish(events, |number| format!("plant/{}", number % SESSIONS));
    let after_kib = gateway.resident_kib();
    let start = Instant::now();
    for session in 0..SESSIONS {
        let mut subscriber = gateway.connect(&format!("s{session}"));
        subscriber.take(events / SESSIONS, |at, number| assert_eq!(number, at * SESSIONS + session));
    }
    let secs = start.elapsed().as_secs_f64();
    eprintln!(
        "{events} events to {SESSIONS} sessions, one after the other, in {secs:.2} s: {:.0} events/s; \
         resident before {before_kib} KiB, with the backlogs {after_kib} KiB",
        events as f64 / secs
    );
}
