//! `device-sim record`: subscribes and writes what comes into a capture, with its times, until something ends it.
//!
//! Promise: bounded. A capture ends at its time, its number of messages or its bytes, whichever comes first, and says which; one
//! that is interrupted, or whose connection broke, is a whole file with its end, too. A file that is there already is not
//! touched.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use gateway_protocol::packet::{Packet, Publish};
use gateway_protocol::{PropertiesBuf, ProtocolVersion, QoS, TopicFilter};
use serde::Serialize;
use tokio::sync::watch;

use crate::capture::anonymise::Anonymiser;
use crate::capture::file::{CaptureError, Header, Writer};
use crate::capture::link::{Link, LinkError};
use crate::capture::{Message, is_kept};
use crate::command::{BrokerAddress, CommandError, parse_broker};
use crate::process;
use crate::report::Verdict;
use crate::report::text::grouped;
use crate::scenario::duration;
use crate::stop::Stop;

/// How long one look at the connection takes at most, so that a signal is seen.
const LOOK: Duration = Duration::from_millis(100);
const FILTERS_MAX: usize = 64;

/// What to record.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The capture to be written; it must not be there yet.
    file: PathBuf,
    /// Where the broker is.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = parse_broker)]
    broker: BrokerAddress,
    /// What to subscribe to; may be given several times.
    #[arg(long, value_name = "FILTER", default_value = "#", value_parser = parse_filter)]
    filter: Vec<String>,
    /// The highest QoS to be sent messages with.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// MQTT 3.1.1 instead of 5; messages have no properties then.
    #[arg(long)]
    v3: bool,
    /// Ends it after this time, such as 10m; without it, at Ctrl-C.
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Ends it after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_messages: Option<u64>,
    /// Ends it before the file is larger than this.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1 << 10..))]
    max_bytes: u64,
    /// Replace these levels of topics, counted from 1, by keyed hashes; names in payloads, too.
    #[arg(long, value_name = "LEVEL", value_delimiter = ',')]
    anonymise: Vec<usize>,
    /// The key of these hashes: a file of 16 bytes or more. Without it a new one, which nobody knows.
    #[arg(long, value_name = "FILE", requires = "anonymise")]
    key_file: Option<PathBuf>,
    /// JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
struct Recorded {
    messages: u64,
    bytes: u64,
    /// Messages that could not be anonymised and are not in the capture.
    withheld: u64,
    seconds: f64,
    ended_by: String,
}

/// Records. Blocks.
pub(crate) fn run(args: &RecordArgs, stop: &watch::Receiver<Stop>) -> Result<Verdict, CommandError> {
    if args.filter.len() > FILTERS_MAX {
        return Err(CommandError::Usage(format!("more than {FILTERS_MAX} filters")));
    }
    let anonymiser = (!args.anonymise.is_empty())
        .then(|| Anonymiser::new(&args.anonymise, args.key_file.as_deref()))
        .transpose()
        .map_err(|error| CommandError::Usage(format!("no key for anonymous names: {error}")))?;
    let address = args.broker.resolve()?;
    let file = File::create_new(&args.file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CommandError::Usage(format!("{} is there already", args.file.display()))
        }
        _ => CommandError::Usage(format!("cannot write {}: {error}", args.file.display())),
    })?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = Header {
        began_unix_ms: began.as_millis() as u64,
        broker: args.broker.to_string(),
        filters: args.filter.clone(),
        anonymised: args.anonymise.clone(),
    };
    let unwritable = |error: CaptureError| {
        CommandError::CouldNotRun(format!("cannot write {}: {error}", args.file.display()))
    };
    let writer = Writer::new(BufWriter::new(file), &header).map_err(unwritable)?;
    let mut recorder =
        Recorder { writer, anonymiser, began: Instant::now(), withheld: 0, failed: None, args };
    let outcome = recorder.record(address, stop);
    let (ended_by, broken) = match outcome {
        Ok(why) => (why.to_owned(), None),
        Err(error) => (error.to_string(), Some(error)),
    };
    let Recorder { writer, began, withheld, failed, .. } = recorder;
    if let Some(error) = failed {
        return Err(unwritable(error));
    }
    let (messages, bytes, seconds) = (writer.messages(), writer.bytes(), began.elapsed().as_secs_f64());
    let done = writer.finish(&ended_by).map_err(unwritable)?;
    let synced = done.into_inner().map_err(io::Error::from).and_then(|file| file.sync_all());
    synced.map_err(|error| unwritable(error.into()))?;
    let recorded = Recorded { messages, bytes, withheld, seconds, ended_by };
    match broken {
        Some(error) => {
            Err(CommandError::CouldNotRun(format!("{error}, after {} messages", grouped(messages))))
        }
        None => say(&recorded, args.json).map(|()| Verdict::Kept),
    }
}

struct Recorder<'a, W: Write> {
    writer: Writer<W>,
    anonymiser: Option<Anonymiser>,
    began: Instant,
    withheld: u64,
    /// Why nothing more can be written.
    failed: Option<CaptureError>,
    args: &'a RecordArgs,
}

impl<W: Write> Recorder<'_, W> {
    /// Until something ends it; answers what.
    fn record(
        &mut self,
        address: std::net::SocketAddr,
        stop: &watch::Receiver<Stop>,
    ) -> Result<&'static str, LinkError> {
        let args = self.args;
        let version = if args.v3 { ProtocolVersion::V3_1_1 } else { ProtocolVersion::V5 };
        let client_id = format!("device-sim-record-{:08x}", process::fresh_number() as u32);
        let mut link = Link::connect(address, &client_id, version)?;
        let qos = QoS::from_u8(args.qos).unwrap_or(QoS::AtLeastOnce);
        self.began = Instant::now();
        link.subscribe(&args.filter, qos, |packet, replies| {
            self.take(packet);
            replies.acknowledge(packet)
        })?;
        let ended_by = loop {
            if let Some(why) = self.end(stop) {
                break why;
            }
            let left = args.duration.map_or(LOOK, |all| all.saturating_sub(self.began.elapsed()));
            link.poll(left.min(LOOK), |packet, replies| {
                self.take(packet);
                replies.acknowledge(packet)
            })?;
        };
        link.disconnect();
        Ok(ended_by)
    }

    fn end(&self, stop: &watch::Receiver<Stop>) -> Option<&'static str> {
        let args = self.args;
        if self.failed.is_some() {
            Some("the file")
        } else if *stop.borrow() != Stop::No {
            Some("a signal")
        } else if args.duration.is_some_and(|all| self.began.elapsed() >= all) {
            Some("its time")
        } else if args.max_messages.is_some_and(|most| self.writer.messages() >= most) {
            Some("its number of messages")
        } else if self.writer.bytes() >= args.max_bytes {
            Some("its bytes")
        } else {
            None
        }
    }

    /// Writes a message, as long as there is room.
    fn take(&mut self, packet: &Packet<'_>) {
        let Packet::Publish(publish) = packet else { return };
        let is_full = self.args.max_messages.is_some_and(|most| self.writer.messages() >= most)
            || self.writer.bytes() + publish.payload.len() as u64 >= self.args.max_bytes;
        if is_full || self.failed.is_some() {
            return;
        }
        let message = message(publish, self.began.elapsed());
        let message = match &self.anonymiser {
            Some(anonymiser) => anonymiser.apply(message),
            None => Some(message),
        };
        match message {
            Some(message) => self.failed = self.writer.push(&message).err(),
            None => self.withheld += 1,
        }
    }
}

fn message(publish: &Publish<'_>, at: Duration) -> Message {
    let mut properties = PropertiesBuf::new();
    // What was decoded is legal, and less of it is, too.
    let _ = properties.extend_filtered(publish.properties, is_kept);
    Message {
        at_us: at.as_micros() as u64,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic.to_owned(),
        properties,
        payload: publish.payload.to_vec(),
    }
}

fn say(recorded: &Recorded, as_json: bool) -> Result<(), CommandError> {
    let cannot = |error: io::Error| CommandError::CouldNotRun(format!("cannot write the report: {error}"));
    let text = match as_json {
        true => serde_json::to_string_pretty(recorded).map_err(|error| cannot(error.into()))?,
        false => {
            let Recorded { messages, bytes, withheld, seconds, ended_by } = recorded;
            let withheld = match withheld {
                0 => String::new(),
                count => format!("; {} were withheld, since they could not be anonymised", grouped(*count)),
            };
            let (messages, bytes) = (grouped(*messages), grouped(*bytes));
            format!("{messages} messages in {seconds:.1} s, {bytes} bytes, ended by {ended_by}{withheld}")
        }
    };
    writeln!(io::stdout().lock(), "{text}").map_err(cannot)
}

fn parse_filter(text: &str) -> Result<String, String> {
    TopicFilter::parse(text).map(|filter| filter.as_str().to_owned()).map_err(|error| error.to_string())
}
