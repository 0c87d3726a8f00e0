//! The command line: what can be asked for, and what the exit code says.

mod fleets;

mod looking;
mod report;
mod scenarios;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::sync::watch;

use crate::command::{BrokerAddress, CommandError, parse_broker};
use crate::plan::Plan;
use crate::process;
use crate::rated;
use crate::report::Verdict;
use crate::run::{self, EdgeError};
use crate::scenario::broker::Program;
use crate::scenario::phase::Disturbance;
use crate::scenario::{BrokerSpec, Scenario, Variant, duration};
use crate::shared::Shared;
use crate::stop::{Stop, listen_for_signals};

/// A fleet of simulated devices, and a ledger that checks every promise of the broker.
///
/// Exit code: 0 all promises kept and all gates held, 1 not so, 2 usage or scenario error, 3 could not run.
#[derive(Debug, Parser)]
#[command(name = "device-sim", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario against a broker.
    Run(RunArgs),
    /// Look at the scenarios that come with the program.
    Scenarios(scenarios::ScenariosArgs),
    /// The fleets that come with the simulator: `[fleet] use = "smart-meters"`.
    Fleets(fleets::FleetsArgs),
    /// Measure what a broker does, and what that costs it.
    Bench(Box<crate::bench::BenchArgs>),
    /// Be a worker of a run; started by `run` itself, with orders on standard input.
    #[command(hide = true)]
    Worker,
    /// Subscribe and write what comes into a capture.
    Record(crate::record::RecordArgs),
    /// Publish a capture again: at its times, faster, or shifted.
    Replay(crate::replay::ReplayArgs),
    /// Start the gateway and a fleet in one process and watch them.
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario: a file, or the name of one that comes with the program; `scenarios show first` shows every key.
    scenario: PathBuf,
    /// Where the broker is; 127.0.0.1:1883 if the scenario does not start one.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_broker, conflicts_with = "start")]
    broker: Option<BrokerAddress>,
    /// Start this broker for the run, instead of the scenario's.
    #[arg(long, value_enum)]
    start: Option<StartedBroker>,
    /// The seed of everything random, instead of the scenario's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// For how long events are due, instead of the scenario's; such as 30s.
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Makes the phases of a scenario with [rated] so many times shorter, for a quick look; gates on what takes its time may not hold.
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    hasten: Option<f64>,
    /// What the broker can take, events per second, of a scenario with [rated]: it is not asked then.
    #[arg(long, value_name = "EVENTS", value_parser = factor)]
    rated: Option<f64>,
    #[command(flatten)]
    reports: report::ReportArgs,
    #[command(flatten)]
    watch: looking::WatchArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StartedBroker {
    /// The program that GATEWAY_BIN names, the one beside this one, or in the search path.
    Gateway,
    /// As Debian installs it, with persistence.
    Mosquitto,
}

/// Does what the arguments ask for.
pub async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let outcome = match cli.command {
        Command::Run(args) => run_scenario(args).await,
        Command::Scenarios(args) => scenarios::run(&args),
        Command::Fleets(args) => fleets::run(&args).map(|()| Verdict::Kept),
        Command::Bench(args) => tokio::task::spawn_blocking(move || crate::bench::run(&args))
            .await
            .unwrap_or_else(|_| Err(CommandError::CouldNotRun("the benchmark panicked".to_owned()))),
        Command::Worker => tokio::task::spawn_blocking(crate::workers::worker::run)
            .await
            .map_err(|_| CommandError::CouldNotRun("the worker panicked".to_owned()))
            .and_then(|done| done.map_err(|error| CommandError::CouldNotRun(error.to_string())))
            .map(|()| Verdict::Kept),
        Command::Record(args) => captures(move |stop| crate::record::run(&args, stop)).await,
        Command::Replay(args) => captures(move |stop| crate::replay::run(&args, stop)).await,
        #[cfg(feature = "demo")]
        Command::Demo(args) => crate::demo::run(args).await,
    };
    match outcome {
        Ok(Verdict::Kept) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "device-sim: {error}");
            ExitCode::from(match error {
                CommandError::Usage(_) => 2,
                CommandError::CouldNotRun(_) => 3,
            })
        }
    }
}

async fn run_scenario(args: RunArgs) -> Result<Verdict, CommandError> {
    args.reports.check()?;
    let mut scenario = scenarios::read(&args.scenario)?;
    if scenario.edge.is_some() && !cfg!(feature = "edge") {
        return Err(CommandError::Usage(EdgeError::LeftOut.to_string()));
    }
    if let Some(wanted) = args.duration {
        if !scenario.phases.is_empty() {
            return Err(CommandError::Usage(
                "--duration is for scenarios without phases; this one's phases say how long they are"
                    .to_owned(),
            ));
        }
        if wanted <= scenario.run.warm_up {
            return Err(CommandError::Usage(format!(
                "--duration {wanted:?} is not longer than the scenario's warm_up of {:?}",
                scenario.run.warm_up
            )));
        }
        scenario.run.duration = Some(wanted);
    }
    let seed = args.seed.or(scenario.run.seed).unwrap_or_else(process::fresh_number);
    choose_broker(&mut scenario, &args)?;
    let broker = args.broker.unwrap_or_else(|| BrokerAddress { host: "127.0.0.1".to_owned(), port: 1_883 });
    let mut plan =
        Plan { scenario, host: broker.host, port: broker.port, seed, epoch: process::fresh_number() as u32 };
    let stop = listen_for_signals()?;
    let rated = rate(&mut plan, args.rated, args.hasten, &stop).await?;
    let shared = Shared::of(&plan);
    let name = args.scenario.file_stem().map(|name| name.to_string_lossy().into_owned());
    let watching = args.watch.start(&plan, &shared, name.as_deref().unwrap_or_default()).await?;
    let outcome = run::execute(&plan, &shared, stop, 0).await;
    watching.end().await;
    let mut report = outcome.map_err(|error| CommandError::CouldNotRun(error.to_string()))?;
    report.scenario = name;
    report.rated_per_s = rated;
    args.reports.write(&report)?;
    Ok(report.verdict)
}

/// Finds out what a rate of 1 is, if the scenario's rates are no events per second; what was found.
async fn rate(
    plan: &mut Plan,
    told: Option<f64>,
    hasten: Option<f64>,
    stop: &watch::Receiver<Stop>,
) -> Result<Option<f64>, CommandError> {
    if plan.scenario.rated.is_none() {
        return match told.or(hasten) {
            None => Ok(None),
            Some(_) => {
                Err(CommandError::Usage("--rated and --hasten are for scenarios with [rated]".to_owned()))
            }
        };
    }
    let rate = match told {
        Some(rate) => rate,
        None => rated::find(plan, stop.clone()).await.map_err(|error| {
            CommandError::CouldNotRun(format!("cannot find out what the broker can take: {error}"))
        })?,
    };
    // A person who waits wants to know what for.
    let _ = writeln!(io::stderr(), "a rate of 1 is {rate:.0} events/s");
    let variant = Variant { rate, hasten: hasten.unwrap_or(1.0), ..Variant::default() };
    plan.scenario = plan.scenario.clone().varied(variant);
    Ok(Some(rate))
}

/// Puts what the command line says about the broker over what the scenario says.
fn choose_broker(scenario: &mut Scenario, args: &RunArgs) -> Result<(), CommandError> {
    if let Some(start) = args.start {
        // What the scenario wrote for its own gateway is the gateway's.
        let own = scenario.broker.take();
        scenario.broker = Some(match (start, own) {
            (StartedBroker::Gateway, Some(own @ BrokerSpec { program: Program::Gateway { .. }, .. })) => own,
            (StartedBroker::Gateway, _) => BrokerSpec::of(Program::Gateway { settings: Vec::new() }),
            (StartedBroker::Mosquitto, own) => BrokerSpec {
                disk_bytes: own.as_ref().and_then(|own| own.disk_bytes),
                cpu: own.and_then(|own| own.cpu),
                ..BrokerSpec::of(Program::Mosquitto)
            },
        });
    }
    if args.broker.is_some() && scenario.broker.take().is_some() {
        let spoiled =
            scenario.phases.iter().find(|phase| matches!(phase.disturbance, Some(Disturbance::Broker(_))));
        if let Some(phase) = spoiled {
            return Err(CommandError::Usage(format!(
                "`{}` does something to the broker's process, which must then be started by the run: leave --broker out",
                phase.name
            )));
        }
    }
    Ok(())
}

/// Records and replays on a thread of their own: they block.
async fn captures(
    work: impl FnOnce(&watch::Receiver<Stop>) -> Result<Verdict, CommandError> + Send + 'static,
) -> Result<Verdict, CommandError> {
    let stop = listen_for_signals()?;
    tokio::task::spawn_blocking(move || work(&stop))
        .await
        .unwrap_or_else(|_| Err(CommandError::CouldNotRun("it panicked".to_owned())))
}

/// A number of at least 1.
fn factor(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (1.0..=10_000_000.0).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number of 1 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
