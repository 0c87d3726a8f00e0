//! The command line: what can be asked for, and what the exit code says.

mod fleets;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::process;
use crate::report::{Report, Verdict, text};
use crate::run::{self, Phase, Plan, Shared, Stop};
use crate::scenario::{Scenario, duration};

/// The largest scenario file that is read.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

/// A fleet of simulated devices, and a ledger that checks every promise of the broker.
///
/// Exit code: 0 all promises kept, 1 a promise broken, 2 usage or scenario error, 3 could not run.
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
    /// The fleets that come with the simulator: `[fleet] use = "smart-meters"`.
    Fleets(fleets::FleetsArgs),
    /// Measure what a broker does, and what that costs it.
    Bench(Box<crate::bench::BenchArgs>),
    /// Start the gateway and a fleet in one process and watch them.
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario; scenarios/first.toml shows every key.
    scenario: PathBuf,
    /// Where the broker is.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = parse_broker)]
    broker: BrokerAddress,
    /// The seed of everything random, instead of the scenario's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// For how long events are due, instead of the scenario's; such as 30s.
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// The form of the report on standard output.
    #[arg(long, value_enum, default_value_t = ReportForm::Text)]
    report: ReportForm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReportForm {
    Text,
    Json,
}

#[derive(Clone, Debug)]
struct BrokerAddress {
    host: String,
    port: u16,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The person who asked can mend it.
    #[error("{0}")]
    Usage(String),
    /// The world did not allow it.
    #[error("{0}")]
    CouldNotRun(String),
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
        Command::Fleets(args) => fleets::run(&args).map(|()| Verdict::Kept),
        Command::Bench(args) => tokio::task::spawn_blocking(move || crate::bench::run(&args))
            .await
            .unwrap_or_else(|_| Err(CommandError::CouldNotRun("the benchmark panicked".to_owned()))),
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
    let mut scenario = read_scenario(&args.scenario)?;
    if let Some(wanted) = args.duration {
        if wanted <= scenario.run.warm_up {
            return Err(CommandError::Usage(format!(
                "--duration {wanted:?} is not longer than the scenario's warm_up of {:?}",
                scenario.run.warm_up
            )));
        }
        scenario.run.duration = Some(wanted);
    }
    let seed = args.seed.or(scenario.run.seed).unwrap_or_else(process::fresh_number);
    let plan = Plan {
        scenario,
        host: args.broker.host,
        port: args.broker.port,
        seed,
        epoch: process::fresh_number() as u32,
    };
    let shared = run::prepare(&plan);
    let progress = tokio::spawn(print_progress(Arc::clone(&shared), io::stderr().is_terminal()));
    let outcome = run::execute(&plan, &shared, listen_for_signals()?, 0).await;
    progress.abort();
    let report = outcome.map_err(|error| CommandError::CouldNotRun(error.to_string()))?;
    print_report(&report, args.report)?;
    Ok(report.verdict)
}

fn read_scenario(path: &PathBuf) -> Result<Scenario, CommandError> {
    let name = path.display();
    let unreadable = |error: io::Error| CommandError::Usage(format!("cannot read {name}: {error}"));
    if std::fs::metadata(path).map_err(unreadable)?.len() > SCENARIO_BYTES_MAX {
        return Err(CommandError::Usage(format!("{name} is larger than {SCENARIO_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Scenario::parse(&text).map_err(|faults| CommandError::Usage(format!("{name} cannot be run:\n{faults}")))
}

fn print_report(report: &Report, form: ReportForm) -> Result<(), CommandError> {
    let unwritable =
        |error: io::Error| CommandError::CouldNotRun(format!("cannot write the report: {error}"));
    let text = match form {
        ReportForm::Text => text::render(report),
        ReportForm::Json => {
            serde_json::to_string_pretty(report).map_err(|error| unwritable(error.into()))? + "\n"
        }
    };
    io::stdout().lock().write_all(text.as_bytes()).map_err(unwritable)
}

/// One line per second for someone who watches.
async fn print_progress(shared: Arc<Shared>, watched: bool) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut before = 0;
    loop {
        seconds.tick().await;
        let stats = &shared.stats;
        let sent = stats.sent.qos0.get() + stats.sent.qos1.get();
        let line = match shared.phase() {
            Phase::Connecting => format!("connecting: {} devices", stats.connected.get()),
            Phase::Publishing => {
                format!("publishing: {} events/s, {} sent", sent - before, text::grouped(sent))
            }
            Phase::Draining => "draining".to_owned(),
            Phase::Done => return,
        };
        before = sent;
        if watched {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// SIGINT and SIGTERM: the first stops gently, the second at once.
pub(crate) fn listen_for_signals() -> Result<watch::Receiver<Stop>, CommandError> {
    let cannot = |error: io::Error| CommandError::CouldNotRun(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let (sender, receiver) = watch::channel(Stop::No);
    tokio::spawn(async move {
        for stop in [Stop::Gently, Stop::Now] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let _ = sender.send(stop);
        }
    });
    Ok(receiver)
}

fn parse_broker(text: &str) -> Result<BrokerAddress, String> {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parsed {
        Some((host, port)) if !host.is_empty() && port > 0 => {
            Ok(BrokerAddress { host: host.to_owned(), port })
        }
        _ => Err(format!("`{text}` is not HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        let address = parse_broker("[::1]:1883").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("[::1]", 1883));
        for wrong in ["localhost", ":1883", "localhost:0", "localhost:70000", ""] {
            assert!(parse_broker(wrong).is_err(), "{wrong}");
        }
    }
}
