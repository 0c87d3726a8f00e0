//! `device-sim replay`: publishes a capture again, at the times it has, faster, or shifted.
//!
//! Promise: open loop. Every message is due at a time that no broker changes, and latency counts from then; if this program
//! was late by itself, it says so. Messages of one topic keep their order, whatever the number of connections. The file is
//! read as it is played, never as a whole. [`sender`] is one connection.

mod sender;

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use gateway_protocol::{ProtocolVersion, QoS};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::watch;

use self::sender::{Sender, Sent};
use crate::capture::anonymise::Anonymiser;
use crate::capture::file::{CaptureError, Reader};
use crate::command::{BrokerAddress, CommandError, parse_broker};
use crate::report::text::{grouped, micros};
use crate::report::{LAG_P99_MAX_US, Verdict};
use crate::scenario::duration;
use crate::stop::Stop;

const CONNECTIONS_MAX: i64 = 64;

/// What to replay.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A capture that `device-sim record` wrote.
    file: PathBuf,
    /// Where the broker is.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = parse_broker)]
    broker: BrokerAddress,
    /// How many times as fast as it was; `max` for as fast as it goes.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = parse_speed)]
    speed: Speed,
    /// Everything is due so much later.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    shift: Duration,
    /// Leave out what came before this time of the capture; what follows moves to the beginning.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    from: Duration,
    /// Leave out what came at this time of the capture, or after.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    until: Option<Duration>,
    /// Connections to spread the topics over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=CONNECTIONS_MAX))]
    connections: u16,
    /// The highest QoS to publish with; below that, the one of the capture.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// QoS 1 and 2: what a connection may have unacknowledged.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// MQTT 3.1.1 instead of 5; properties are left out.
    #[arg(long)]
    v3: bool,
    /// In front of every topic.
    #[arg(long, value_name = "LEVELS/", default_value = "")]
    prefix: String,
    /// Replace these levels of topics, counted from 1, by keyed hashes; names in payloads, too.
    #[arg(long, value_name = "LEVEL", value_delimiter = ',')]
    anonymise: Vec<usize>,
    /// The key of these hashes: a file of 16 bytes or more. Without it a new one, which nobody knows.
    #[arg(long, value_name = "FILE", requires = "anonymise")]
    key_file: Option<PathBuf>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    /// So many times as fast as it was.
    Times(f64),
    /// As fast as it goes.
    Max,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
struct Replayed {
    sent: u64,
    acknowledged: u64,
    refused: u64,
    /// Sent, and neither.
    unacknowledged: u64,
    /// Messages that could not be anonymised and were not sent.
    withheld: u64,
    seconds: f64,
    sent_per_s: f64,
    /// From due to PUBACK or PUBCOMP.
    due_to_acknowledged_us: Option<Percentiles>,
    /// From due to written, less what the window was waited for.
    lag_p99_us: u64,
    /// Whether the replay was late by its own doing.
    bottleneck: bool,
    /// Whether the capture has its end, or was cut short.
    complete: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    p50: u64,
    p99: u64,
    max: u64,
}

impl Speed {
    /// When something is due that came at this time of the capture.
    fn due(self, at: Duration) -> Duration {
        match self {
            Speed::Times(times) => at.div_f64(times),
            Speed::Max => Duration::ZERO,
        }
    }
}

/// Replays. Blocks.
pub(crate) fn run(args: &ReplayArgs, stop: &watch::Receiver<Stop>) -> Result<Verdict, CommandError> {
    let anonymiser = (!args.anonymise.is_empty())
        .then(|| Anonymiser::new(&args.anonymise, args.key_file.as_deref()))
        .transpose()
        .map_err(|error| CommandError::Usage(format!("no key for anonymous names: {error}")))?;
    let address = args.broker.resolve()?;
    // Faults of the file are for the one who named it, before anything is connected.
    open(args)?;
    let plan = Arc::new(sender::Plan {
        address,
        version: if args.v3 { ProtocolVersion::V3_1_1 } else { ProtocolVersion::V5 },
        speed: args.speed,
        shift: args.shift,
        from: args.from,
        until: args.until.unwrap_or(Duration::MAX),
        connections: args.connections,
        qos_max: QoS::from_u8(args.qos).unwrap_or(QoS::ExactlyOnce),
        window: args.window,
        prefix: args.prefix.clone(),
        anonymiser,
    });
    let mut senders = Vec::new();
    for number in 0..args.connections {
        senders.push((Sender::connect(Arc::clone(&plan), number)?, open(args)?));
    }
    let began = Instant::now();
    let mut threads = Vec::new();
    for (sender, capture) in senders {
        let stop = stop.clone();
        let thread = thread::Builder::new().name("replay".to_owned());
        let thread = thread.spawn(move || sender.play(capture, began, &stop));
        threads.push(thread.map_err(|error| CommandError::CouldNotRun(format!("no thread: {error}")))?);
    }
    let mut all = Sent::new()?;
    for thread in threads {
        let panicked = |_| CommandError::CouldNotRun("a connection's thread panicked".to_owned());
        all.add(&thread.join().map_err(panicked)??);
    }
    let replayed = replayed(&all, began.elapsed());
    say(&replayed, args.json)?;
    let is_whole = replayed.unacknowledged == 0 && replayed.refused == 0;
    Ok(if is_whole { Verdict::Kept } else { Verdict::Broken })
}

fn open(args: &ReplayArgs) -> Result<Reader<BufReader<File>>, CommandError> {
    let name = args.file.display();
    let unreadable = |error: CaptureError| CommandError::Usage(format!("cannot read {name}: {error}"));
    let file = File::open(&args.file).map_err(|error| unreadable(error.into()))?;
    Reader::new(BufReader::new(file)).map(|(reader, _)| reader).map_err(unreadable)
}

fn replayed(all: &Sent, took: Duration) -> Replayed {
    let seconds = took.as_secs_f64();
    let latency = &all.latency;
    let percentiles = |of: &Histogram<u64>| Percentiles {
        p50: of.value_at_quantile(0.5),
        p99: of.value_at_quantile(0.99),
        max: of.max(),
    };
    let lag_p99_us = all.lag.value_at_quantile(0.99);
    Replayed {
        sent: all.sent,
        acknowledged: all.acknowledged,
        refused: all.refused,
        unacknowledged: all.unacknowledged,
        withheld: all.withheld,
        seconds,
        sent_per_s: all.sent as f64 / seconds.max(1e-9),
        due_to_acknowledged_us: (!latency.is_empty()).then(|| percentiles(latency)),
        lag_p99_us,
        bottleneck: lag_p99_us > LAG_P99_MAX_US,
        complete: all.complete,
    }
}

fn say(replayed: &Replayed, as_json: bool) -> Result<(), CommandError> {
    let cannot = |error: io::Error| CommandError::CouldNotRun(format!("cannot write the report: {error}"));
    let text = match as_json {
        true => serde_json::to_string_pretty(replayed).map_err(|error| cannot(error.into()))?,
        false => text(replayed),
    };
    writeln!(io::stdout().lock(), "{text}").map_err(cannot)
}

fn text(replayed: &Replayed) -> String {
    let latency = replayed.due_to_acknowledged_us.map(|of| {
        format!(
            "\ndue to acknowledged: p50 {}, p99 {}, max {}",
            micros(of.p50),
            micros(of.p99),
            micros(of.max)
        )
    });
    let remarks = [
        (replayed.bottleneck, "\nit was itself late: latencies say more about it than about the broker"),
        (!replayed.complete, "\nthe capture was cut short; all that is good of it was sent"),
        (replayed.withheld > 0, "\nsome messages could not be anonymised and were withheld"),
    ];
    let remarks: String = remarks.into_iter().filter(|(is, _)| *is).map(|(_, remark)| remark).collect();
    format!(
        "{} messages in {:.1} s ({}/s): {} acknowledged, {} refused, {} unacknowledged, {} withheld; own lag p99 {}{}{remarks}",
        grouped(replayed.sent),
        replayed.seconds,
        grouped(replayed.sent_per_s.round() as u64),
        grouped(replayed.acknowledged),
        grouped(replayed.refused),
        grouped(replayed.unacknowledged),
        grouped(replayed.withheld),
        micros(replayed.lag_p99_us),
        latency.unwrap_or_default(),
    )
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if (0.001..=1e6).contains(&times) => Ok(Speed::Times(times)),
        _ => Err("must be a number of times, 0.001 to 1000000, or `max`".to_owned()),
    }
}
