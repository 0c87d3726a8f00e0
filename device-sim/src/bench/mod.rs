//! `device-sim bench`: how much a broker does, and what that costs it.
//!
//! Ten scenarios ([`Scenario`]), each against one broker or, with `--compare`, against several in turn; the highest rate that keeps an
//! SLO (`find_max`); curves of the cost of a message
//! when there is more of something ([`scaling`]); the weight of an idle connection ([`memory`]); and a document with all of it
//! ([`report`]). CPU time and memory are those of the broker's process, read from the system; rates and latencies are the client's.
//! Everything shares one machine, so only figures of one run can be compared with each other, and CPU for each message says more than
//! messages for each second.

mod broker;
mod compare;
mod figures;
mod find_max;
mod lean;
mod listening;
mod load;
mod memory;
mod report;
mod retained;
mod scaling;
mod scenario;
mod side;
mod slo;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::broker::{Kind, Peer};
use self::report::{Places, Report};
use self::scaling::{Curve, Effort};
use self::scenario::{Scenario, Sizes};
use self::side::Side;
use self::slo::Slo;
use crate::command::CommandError;
use crate::process;
use crate::report::Verdict;
use crate::scenario::duration;

/// File descriptors for other than connections.
const OTHER_FILES: u64 = 128;
/// Events/s that a search begins with.
const FIND_FROM: f64 = 1_000.0;
/// Largest points of curves: a backlog in bytes, and the same where time is no matter.
const SIZE_MAX: u64 = 1 << 30;
const FULL_SIZE_MAX: u64 = 10 << 30;

/// What to measure, and of whom.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure; `all` of them one after the other.
    #[arg(value_enum, default_value_t = Wanted::All)]
    scenario: Wanted,
    /// A broker that runs already. Without it the gateway beside this program is started for the time of the run.
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// The process of that broker, whose CPU time and memory are read. Without it, the one that listens there on this machine.
    #[arg(long, value_name = "PID", requires = "broker")]
    pid: Option<u32>,
    /// Run the gateway (or --broker) and another broker that runs already in turn, A B A B, and set them side by side; CPU time and
    /// memory of a process of this machine are read. Without a URL: the gateway and its --peers, each started for the run.
    #[arg(long, value_name = "BROKER_URL", num_args = 0..=1)]
    compare: Option<Option<String>>,
    /// Search for the highest rate that keeps --slo.
    #[arg(long, requires = "slo", conflicts_with = "compare")]
    find_max: bool,
    /// What a rate has to keep: p50, p99, p999 or max <TIME (of deliveries if there are any; `puback.p99`, `delivery.p99` for one
    /// of both), loss=0, loss<0.1%. At least 97 % of the rate has to be reached.
    #[arg(long, value_name = "BOUNDS", requires = "find_max")]
    slo: Option<Slo>,
    /// With --compare: the peers. Those that are not installed are named and left out.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Mosquitto, Kind::Nats, Kind::Rumqttd])]
    peers: Vec<Kind>,
    /// With --compare and for curves: how often each is measured; medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// With --compare and for curves: also put the report into this file, as Markdown; `all` then has curves and idle connections, too. In
    /// a file that has a report already that one is replaced, and what stands around it is kept; `scaling` replaces its curves alone.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// With --write: where the plots go; without it, beside the file.
    #[arg(long, value_name = "DIR", requires = "write")]
    plots: Option<PathBuf>,
    /// Of `scaling`: only these curves.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Curve::ALL)]
    curves: Vec<Curve>,
    /// Of `scaling` and `memory`: no point larger than this; 1 GiB of backlog if not given.
    #[arg(long, value_name = "SIZE")]
    up_to: Option<u64>,
    /// Of `scaling`: a backlog of 10 GiB, too.
    #[arg(long, conflicts_with = "up_to")]
    full: bool,
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
    /// Open loop: so many events in a second, whatever the broker does. Without it, as fast as it goes. With --find-max: where
    /// to begin, 1,000 if it is not given.
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
    /// All of those that follow, but for scaling and memory.
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
    /// Fan-in at QoS 1 to a group of 4 that share a subscription.
    Shared,
    /// Subscribers that come and are sent 10,000 Retained Messages each.
    Retained,
    /// Fan-in at QoS 1 into a stream, and 4 workers of one consumer. The gateway only.
    Consumer,
    /// What a message costs with more topics, filters, connections, backlog. The gateway only.
    Scaling,
    /// What idle connections weigh, in steps up to 18,000. The gateway only.
    Memory,
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
            Self::Shared => vec![Scenario::Shared],
            Self::Retained => vec![Scenario::Retained],
            Self::Consumer => vec![Scenario::Consumer],
            Self::Scaling | Self::Memory => Vec::new(),
        }
    }
}

/// Does what the arguments ask for. Blocks.
pub(crate) fn run(args: &BenchArgs) -> Result<Verdict, CommandError> {
    let sizes = args.sizes();
    let scenarios = args.scenario.scenarios(args.qos);
    let files = scenarios.iter().map(|scenario| scenario.connections(&sizes)).max().unwrap_or(0);
    process::allow_open_files(files + OTHER_FILES).map_err(|most| {
        CommandError::Usage(format!("{files} connections need more than the {most} open files allowed here"))
    })?;
    let gateway = Peer::gateway(args.gateway.as_deref())?;
    let text = match args.scenario {
        Wanted::Scaling | Wanted::Memory
            if args.broker.is_some() || args.compare.is_some() || args.find_max =>
        {
            return Err(CommandError::Usage("scaling and memory are of the gateway alone".to_owned()));
        }
        _ if args.write.is_some() && args.compare.is_none() && args.scenario != Wanted::Scaling => {
            return Err(CommandError::Usage("--write is for --compare and for scaling".to_owned()));
        }
        Wanted::Scaling => {
            let curves = scaling::run(&gateway, &args.curves, &args.effort())?;
            if let Some(document) = &args.write {
                let places = Places { document, plots: args.plots.as_deref() };
                curves.iter().try_for_each(|curve| report::curves::write(&places, curve))?;
            }
            let tables =
                || curves.iter().map(|curve| table::aligned(&scaling::lines(curve)) + "\n").collect();
            args.form(&curves, tables)?
        }
        Wanted::Memory => {
            let growth = memory::run(&gateway, &sizes, args.connections_max())?;
            args.form(&growth, || format!("{}\n{}\n", table::aligned(&growth.lines()), growth.sentence()))?
        }
        _ if args.compare.is_some() => compare(&gateway, &scenarios, &sizes, args)?,
        _ => {
            let side = args.side(gateway)?;
            match &args.slo {
                Some(slo) => find_max(&side, &scenarios, &sizes, slo, args)?,
                None => {
                    let mut rows = Vec::new();
                    for scenario in scenarios {
                        rows.push(table::Row { scenario, figures: side.measure(scenario, &sizes)? });
                    }
                    args.form(&rows, || table::of_one(&rows))?
                }
            }
        }
    };
    io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| CommandError::CouldNotRun(format!("cannot write the report: {error}")))?;
    Ok(Verdict::Kept)
}

fn compare(
    gateway: &Peer,
    scenarios: &[Scenario],
    sizes: &Sizes,
    args: &BenchArgs,
) -> Result<String, CommandError> {
    let sides = match args.compare.as_ref().and_then(Option::as_ref) {
        Some(url) => (vec![args.side(gateway.clone())?, Side::there(url, None)?], Vec::new()),
        None if args.broker.is_some() => {
            return Err(CommandError::Usage(
                "--compare with --broker needs the URL of another broker".to_owned(),
            ));
        }
        None => compare::peers(gateway, &args.peers),
    };
    let comparison = compare::run(sides, scenarios, sizes, args.rounds)?;
    let mut text = args.form(&comparison, || comparison.text())?;
    let Some(document) = &args.write else { return Ok(text) };
    let places = Places { document, plots: args.plots.as_deref() };
    let mut report = Report { comparison, curves: Vec::new(), growth: None };
    // A quarter of an hour's work: kept, whatever becomes of the rest.
    report.write(&places)?;
    if args.scenario == Wanted::All {
        report.curves = scaling::run(gateway, &args.curves, &args.effort())?;
        report.growth = Some(memory::run(gateway, sizes, args.connections_max())?);
        report.write(&places)?;
    }
    let Report { curves, growth, .. } = &report;
    text.extend(curves.iter().map(|curve| table::aligned(&scaling::lines(curve)) + "\n"));
    text.extend(
        growth.iter().map(|growth| format!("{}\n{}\n", table::aligned(&growth.lines()), growth.sentence())),
    );
    Ok(text)
}

/// Searches in each scenario, one after the other.
fn find_max(
    side: &Side,
    scenarios: &[Scenario],
    sizes: &Sizes,
    slo: &Slo,
    args: &BenchArgs,
) -> Result<String, CommandError> {
    if let Some(scenario) =
        scenarios.iter().find(|scenario| !scenario.has_a_rate()).filter(|_| scenarios.len() == 1)
    {
        return Err(CommandError::Usage(format!(
            "`{}` has no rate that could be searched for",
            scenario.name()
        )));
    }
    let mut all = Vec::new();
    for scenario in scenarios.iter().filter(|scenario| scenario.has_a_rate()) {
        let start = sizes.rate.unwrap_or(FIND_FROM);
        let seconds = sizes.duration.as_secs_f64();
        let found = find_max::search(slo, start, seconds, |rate| {
            side.measure(*scenario, &Sizes { rate: Some(rate), ..*sizes })
        })?;
        all.push((*scenario, found));
    }
    args.form(&all, || {
        all.iter().map(|(scenario, found)| format!("{}: {}\n", scenario.name(), found.sentence())).collect()
    })
}

impl BenchArgs {
    /// Who is measured: the broker that was named, or the gateway, started for the run.
    fn side(&self, gateway: Peer) -> Result<Side, CommandError> {
        match &self.broker {
            Some(broker) => Side::there(broker, self.pid),
            None => Ok(Side::Started(gateway)),
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            publishers: self.publishers,
            subscribers: self.subscribers,
            connections: self.connections,
            payload_bytes: self.payload as usize,
            window: self.window,
            rate: self.rate.map(f64::from),
            duration: self.duration,
            warm_up: self.warm_up,
            is_v3: self.v3,
        }
    }

    /// Points are many, so each is given half of the time of a scenario.
    fn effort(&self) -> Effort {
        let size_max = if self.full { FULL_SIZE_MAX } else { SIZE_MAX };
        Effort {
            rounds: self.rounds,
            warm_up: self.warm_up / 2,
            duration: self.duration / 2,
            payload_bytes: self.payload as usize,
            size_max: self.up_to.unwrap_or(size_max),
            connections_max: self.connections_max(),
        }
    }

    /// As many as are asked for, and as there may be open files.
    fn connections_max(&self) -> u32 {
        let wanted = u32::try_from(self.up_to.unwrap_or(u64::MAX)).unwrap_or(u32::MAX).min(memory::LARGEST);
        match process::allow_open_files(u64::from(wanted) + OTHER_FILES) {
            Ok(()) => wanted,
            Err(most) => u32::try_from(most.saturating_sub(OTHER_FILES)).unwrap_or(wanted),
        }
    }

    /// JSON or a table, as was asked for.
    fn form<T: serde::Serialize + ?Sized>(
        &self,
        measured: &T,
        table: impl FnOnce() -> String,
    ) -> Result<String, CommandError> {
        if !self.json {
            return Ok(table());
        }
        serde_json::to_string_pretty(measured)
            .map(|text| text + "\n")
            .map_err(|error| CommandError::CouldNotRun(format!("cannot write the report: {error}")))
    }
}
