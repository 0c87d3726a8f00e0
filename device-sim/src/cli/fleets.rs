//! `device-sim fleets`: the fleets that come with the simulator, and what they say, without a broker.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::{Args, Subcommand};

use crate::command::CommandError;
use crate::fleet::Payloads;
use crate::fleets;
use crate::payload::protobuf;
use crate::plan::Plan;
use crate::roster;
use crate::scenario::Scenario;
use crate::schedule::Schedule;

/// The most events of a sample.
const SAMPLE_MAX: u64 = 1_000_000;

#[derive(Debug, Args)]
pub(crate) struct FleetsArgs {
    #[command(subcommand)]
    command: FleetsCommand,
}

#[derive(Debug, Subcommand)]
enum FleetsCommand {
    /// The names of the built-in fleets, and what each is.
    List,
    /// A fleet's TOML, to start one's own from.
    Show {
        /// Its name.
        name: String,
        /// The Protocol Buffers schemas of its models instead.
        #[arg(long)]
        proto: bool,
    },
    /// The first events of a fleet, as a broker would get them: due time, QoS, topic, payload.
    Sample(SampleArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// A built-in fleet, or a .toml file with one.
    name: String,
    /// How many events.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SAMPLE_MAX))]
    count: u64,
    /// The seed; the same one gives the same bytes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many devices, instead of the fleet's own number.
    #[arg(long, value_name = "N")]
    devices: Option<u32>,
}

pub(crate) fn run(args: &FleetsArgs) -> Result<(), CommandError> {
    let text = match &args.command {
        FleetsCommand::List => list(),
        FleetsCommand::Show { name, proto: false } => known(name)?.to_owned(),
        FleetsCommand::Show { name, proto: true } => schemas(name)?,
        FleetsCommand::Sample(args) => sample(args)?,
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CommandError::CouldNotRun(format!("cannot write: {error}"))),
        Ok(()) => Ok(()),
    }
}

fn known(name: &str) -> Result<&'static str, CommandError> {
    fleets::by_name(name).ok_or_else(|| {
        let names: Vec<&str> = fleets::names().collect();
        CommandError::Usage(format!("there is no fleet `{name}`; there are {}", names.join(", ")))
    })
}

fn list() -> String {
    let widest = fleets::names().map(str::len).max().unwrap_or(0);
    fleets::names().fold(String::new(), |mut text, name| {
        let description = fleets::by_name(name).and_then(fleets::description).unwrap_or_default();
        let _ = writeln!(text, "{name:widest$}  {description}");
        text
    })
}

fn schemas(name: &str) -> Result<String, CommandError> {
    let plan = plan(name, None, 0)?;
    let schemas = plan.scenario.fleet.cohorts.iter().map(|cohort| {
        format!("// {}: {}\n{}", cohort.name, cohort.payload.name(), protobuf::schema_of(&cohort.model))
    });
    Ok(schemas.collect::<Vec<_>>().join("\n"))
}

/// The first events of a fleet, one per line; the epoch is 0.
fn sample(args: &SampleArgs) -> Result<String, CommandError> {
    let plan = plan(&args.name, args.devices, args.seed)?;
    let mut devices: Vec<(String, Payloads)> = roster::identities(&plan)
        .map(|identity| (identity.topic.clone(), Payloads::new(&plan, &identity)))
        .collect();
    let mut schedule = Schedule::of_fleet(plan.seed(), &plan.scenario.fleet);
    let (mut text, mut events) = (String::new(), 0);
    while let Some(due) = schedule.pop_due(u64::MAX) {
        let Some((topic, payloads)) = devices.get_mut(due.device as usize) else { continue };
        let Some(payload) = payloads.next(due.into(), topic) else { continue };
        let seconds = due.due_us as f64 / 1e6;
        let _ = write!(text, "{seconds:12.6} s  QoS {}  {:5} B  {topic}  ", due.qos as u8, payload.len());
        match std::str::from_utf8(&payload) {
            Ok(readable) if !readable.contains(char::is_control) => text.push_str(readable),
            _ => payload.iter().for_each(|byte| {
                let _ = write!(text, "{byte:02x}");
            }),
        }
        text.push('\n');
        events += 1;
        if events == args.count {
            break;
        }
    }
    Ok(text)
}

/// A plan with nothing but a fleet in it.
fn plan(name: &str, devices: Option<u32>, seed: u64) -> Result<Plan, CommandError> {
    let mut text = format!("[fleet]\nuse = {}\n", toml::Value::from(name));
    if let Some(devices) = devices {
        let _ = writeln!(text, "devices = {devices}");
    }
    text += "[[subscriber]]\nname = \"nobody\"\nfilter = \"#\"\n[run]\nduration = \"1s\"\n";
    let scenario = Scenario::parse(&text).map_err(|faults| CommandError::Usage(faults.to_string()))?;
    Ok(Plan { scenario, host: String::new(), port: 0, seed, epoch: 0 })
}
