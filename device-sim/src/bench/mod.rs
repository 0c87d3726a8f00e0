//! `device-sim bench`: how much a broker does, and what that costs it.
//!
//! Five scenarios ([`Scenario`]), each against one broker or, with `--compare`, against several in turn. CPU time and memory are those of
//! the broker's process, read from the system; rates and latencies are the client's. Everything shares one machine, so only figures of
//! one run can be compared with each other, and CPU for each message says more than messages for each second.

mod broker;
mod compare;
mod figures;
mod lean;
mod load;
mod scenario;
mod table;

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::broker::{Kind, Peer};
use self::scenario::{Scenario, Sizes};
use crate::cli::CommandError;
use crate::process;
use crate::report::Verdict;
use crate::scenario::duration;

/// File descriptors for other than connections.
const OTHER_FILES: u64 = 128;

/// What to measure, and of whom.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure; `all` of them one after the other.
    #[arg(value_enum, default_value_t = Wanted::All)]
    scenario: Wanted,
    /// A broker that runs already. Without it the gateway beside this program is started for the time of the run.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "compare")]
    broker: Option<String>,
    /// The process of that broker, whose CPU time and memory are read.
    #[arg(long, value_name = "PID", requires = "broker")]
    pid: Option<u32>,
    /// Run the gateway and its peers in turn, A B A B, and set them side by side.
    #[arg(long)]
    compare: bool,
    /// With --compare: the peers. Those that are not installed are named and left out.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Mosquitto, Kind::Nats, Kind::Rumqttd])]
    peers: Vec<Kind>,
    /// With --compare: how often each is measured; medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// With --compare: also write the report to this file, as Markdown, with plots beside it.
    #[arg(long, value_name = "FILE", requires = "compare")]
    write: Option<PathBuf>,
    /// The gateway's program, instead of the one beside this program.
    #[arg(long, value_name = "FILE", env = "GATEWAY_BIN")]
    gateway: Option<PathBuf>,
    /// QoS of what is published; each scenario has its own default.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: Option<u8>,
    /// Publishers.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    publishers: Option<u32>,
    /// Subscribers.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    subscribers: Option<u32>,
    /// Connections of `connect`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: Option<u32>,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    payload: u32,
    /// QoS 1: what a publisher may have unacknowledged.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Open loop: so many events in a second, whatever the broker does. Without it, as fast as it goes.
    #[arg(long, value_name = "EVENTS/S", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long to measure.
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    duration: Duration,
    /// How long to publish before that.
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    warm_up: Duration,
    /// MQTT 3.1.1 instead of 5.
    #[arg(long)]
    v3: bool,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// All of them.
    All,
    /// Many publishers, one subscriber, QoS 0 and QoS 1.
    FanIn,
    /// Few publishers, many subscribers to the same topic.
    FanOut,
    /// How fast connections are made, and what an idle one costs.
    Connect,
    /// Fan-in at QoS 1 into a stream and a durable session.
    Durable,
    /// Fan-out with one subscriber that hardly reads.
    SlowSubscriber,
}

impl Wanted {
    fn scenarios(self, qos: Option<u8>) -> Vec<Scenario> {
        let fan_in = match qos {
            Some(0) => vec![Scenario::FanInQos0],
            Some(_) => vec![Scenario::FanInQos1],
            None => vec![Scenario::FanInQos0, Scenario::FanInQos1],
        };
        match self {
            Self::All => Scenario::ALL.to_vec(),
            Self::FanIn => fan_in,
            Self::FanOut => vec![Scenario::FanOut],
            Self::Connect => vec![Scenario::Connect],
            Self::Durable => vec![Scenario::Durable],
            Self::SlowSubscriber => vec![Scenario::SlowSubscriber],
        }
    }
}

/// Does what the arguments ask for. Blocks.
pub(crate) fn run(args: &BenchArgs) -> Result<Verdict, CommandError> {
    let sizes = Sizes {
        publishers: args.publishers,
        subscribers: args.subscribers,
        connections: args.connections,
        payload_bytes: args.payload as usize,
        window: args.window,
        rate: args.rate.map(f64::from),
        duration: args.duration,
        warm_up: args.warm_up,
        is_v3: args.v3,
    };
    let scenarios = args.scenario.scenarios(args.qos);
    let files = scenarios.iter().map(|scenario| scenario.connections(&sizes)).max().unwrap_or(0);
    process::allow_open_files(files + OTHER_FILES).map_err(|most| {
        CommandError::Usage(format!("{files} connections need more than the {most} open files allowed here"))
    })?;
    let gateway = Peer::gateway(args.gateway.as_deref())?;
    let text = if args.compare {
        let peers = args.peers.clone();
        compare::run(&gateway, peers, &scenarios, &sizes, args)?
    } else {
        let mut rows = Vec::new();
        for scenario in scenarios {
            let figures = match &args.broker {
                Some(broker) => load::run(&scenario.load(&sizes), resolve(broker)?, args.pid)?,
                None => {
                    let running = gateway.start(scenario)?;
                    load::run(&scenario.load(&sizes), running.address, Some(running.pid()))?
                }
            };
            rows.push((scenario, figures));
        }
        match args.json {
            true => table::json(&rows)?,
            false => table::of_one(&rows),
        }
    };
    io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| CommandError::CouldNotRun(format!("cannot write the report: {error}")))?;
    Ok(Verdict::Kept)
}

fn resolve(broker: &str) -> Result<SocketAddr, CommandError> {
    let wrong = |why: String| CommandError::Usage(format!("`{broker}` is not HOST:PORT: {why}"));
    let mut found = broker.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("it has no address".to_owned()))
}
