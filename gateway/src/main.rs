//! The `gateway` program: a command line, a runtime, and signals around [`gateway::app::Gateway`].
//!
//! Standard output carries what was asked for and nothing else: for `run`, the one line `ready mqtt=ADDR admin=ADDR`.
//! Logs and errors go to standard error. Exit status: 0 after a clean drain, 1 when something could not be done or a store is not whole, 2 when the
//! command line is not understood, 3 when the gateway that was to be asked does not answer, 128 and the
//! signal's number when a second signal cut the drain short.

mod cli;
mod reload;
mod service;

use std::io::{self, Write};
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use gateway::admin::{Controls, Order};
use gateway::app::Gateway;
use gateway::config::{Config, DEFAULT_TOML, LoadOptions, LogFormat, Settings, Source};
use gateway::telemetry::{LineFormat, logs_to_stderr};
use gateway_storage::Offset;
use gateway_storage::offline::{self, OfflineError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::cli::{
    BackedUp, Cli, ClientError, Command, ConfigCommand, Exported, From, Repaired, StorageCommand, StoreArgs,
    Summary, Verified,
};
use crate::reload::Reload;
use crate::service::Manager;

/// Tasks that a busy worker runs before it looks at sockets again: what consumers acknowledge is not to wait for many reads of publishers.
const EVENT_INTERVAL: u32 = 16;
/// File descriptors for other than client connections: segments, the view, admin clients, the runtime.
const OTHER_FDS: u64 = 512;
/// Exit status when the gateway that was to be asked does not answer.
const UNREACHABLE: u8 = 3;
/// How long a drain may take, as the service manager is told: connections, consumers, sinks, and the log.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long threads of the runtime may take to end after the drain.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell it to if standard error is gone.
            let _ = writeln!(io::stderr(), "gateway: {}", in_one_line(&error));
            match error.downcast_ref() {
                Some(ClientError::Unreachable { .. }) => ExitCode::from(UNREACHABLE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Does what was asked for. False where that was to look at something and it is not as it should be.
fn execute(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run(arguments) => {
            let options = arguments.into_load_options();
            let (config, settings) = Config::load_with_settings(options.clone())?;
            run(config, settings, options)?;
        }
        Command::Check(arguments) => {
            let config = Config::load(arguments.into_load_options())?;
            print(format_args!("{}\n", Summary(&config)))?;
        }
        Command::Config(ConfigCommand::Default) => print(format_args!("{DEFAULT_TOML}"))?,
        Command::Config(ConfigCommand::Reference) => print(format_args!("{}", cli::reference(DEFAULT_TOML)))?,
        Command::Completions { shell } => cli::completions(shell, &mut io::stdout().lock()),
        Command::Man { to } => {
            cli::man_pages(&to).with_context(|| format!("cannot write manual pages to {}", to.display()))?;
        }
        Command::Config(ConfigCommand::Show(arguments)) => {
            let (_, settings) = Config::load_with_settings(arguments.into_load_options())?;
            print(format_args!("{settings}"))?;
        }
        Command::Storage(command) => return storage(command),
        Command::Status(arguments) => return ask(|out| arguments.ask(out)),
        Command::Clients(arguments) => return ask(|out| arguments.ask(out)),
        Command::Retained(arguments) => return ask(|out| arguments.ask(out)),
        Command::Streams(arguments) => return ask(|out| arguments.ask(out)),
        Command::Consumers(arguments) => return ask(|out| arguments.ask(out)),
        Command::DeadLetters(arguments) => return ask(|out| arguments.ask(out)),
        Command::Sinks(arguments) => return ask(|out| arguments.ask(out)),
        Command::Decisions(arguments) => return ask(|out| arguments.ask(out)),
        Command::Topics(arguments) => return ask(|out| arguments.ask(out)),
        Command::Trace(arguments) => return ask(|out| arguments.ask(out)),
        Command::LogLevel(arguments) => return ask(|out| arguments.ask(out)),
        Command::Reload(arguments) => return ask(|out| arguments.ask(out)),
        Command::Drain(arguments) => return ask(|out| arguments.ask(out)),
    }
    Ok(true)
}

/// Asks a running gateway. False if it could not do all of what it was asked for.
fn ask(question: impl FnOnce(&mut dyn Write) -> Result<bool, ClientError>) -> anyhow::Result<bool> {
    let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let answered = question(&mut out).and_then(|done| Ok(out.flush().map(|()| done)?));
    match answered {
        // A reader that has seen enough (`| head`) is no error.
        Err(ClientError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        answered => Ok(answered?),
    }
}

/// Looks at a store. False if it is not whole.
fn storage(command: StorageCommand) -> anyhow::Result<bool> {
    hush_sled();
    match command {
        StorageCommand::Verify(store) => {
            let report = offline::verify(&data_dir(store)?)?;
            print(format_args!("{}\n", Verified(&report)))?;
            Ok(report.is_whole())
        }
        StorageCommand::Repair(store) => {
            let mut printed = Ok(());
            let report = offline::repair(&data_dir(store)?, &mut |step| {
                if printed.is_ok() {
                    printed = print(format_args!("{step}\n"));
                }
            })?;
            printed?;
            print(format_args!("{}\n", Repaired(&report)))?;
            Ok(report.after.is_whole())
        }
        StorageCommand::Backup { store, to } => {
            let report = offline::backup(&data_dir(store)?, &to, &mut |_, _| {})?;
            print(format_args!("{}\n", BackedUp(&report)))?;
            Ok(report.verified.is_whole())
        }
        StorageCommand::Export { store, from: From(from), to } => {
            let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
            match offline::export(&data_dir(store)?, from, to.map(Offset::new), &mut out) {
                // A reader that has seen enough (`| head`) is no error.
                Err(OfflineError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
                Err(error) => Err(error.into()),
                Ok(report) => {
                    let _ = writeln!(io::stderr(), "gateway: {}", Exported(&report));
                    Ok(report.missing_count == 0)
                }
            }
        }
    }
}

fn data_dir(store: StoreArgs) -> anyhow::Result<PathBuf> {
    match store.data_dir {
        Some(dir) => Ok(dir),
        None => Ok(Config::load(store.into_config_args().into_load_options())?.storage.data_dir),
    }
}

/// Keeps sled's panics, which are caught and reported as what they mean, from being printed as well.
fn hush_sled() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|location| location.file().contains("/sled-")) {
            before(info);
        }
    }));
}

fn run(mut config: Config, settings: Settings, options: LoadOptions) -> anyhow::Result<()> {
    let format = match config.log.format {
        LogFormat::Human => LineFormat::Human,
        LogFormat::Json => LineFormat::Json,
    };
    let level = logs_to_stderr(&config.log.level, format)?;
    fit_connections(&mut config, &settings);
    let reload = Reload::new(options, settings, level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .thread_name("worker")
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(config, reload));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    result
}

async fn serve(config: Config, reload: Reload) -> anyhow::Result<()> {
    let manager = Manager::find();
    // Before anything starts, so that no signal finds its default action, which is to kill.
    let (controls, orders) = Controls::new(reload.log_level());
    let mut signals = Signals::new(reload, orders).context("cannot listen for signals")?;
    let gateway = tokio::select! {
        started = Gateway::start_with(config, controls) => started.context("cannot start")?,
        signal = signals.stop() => {
            info!(signal = signal.name(), "stopped before it was ready");
            return Ok(());
        }
    };
    let mqtt = gateway.mqtt_addr();
    let ready = match gateway.admin_addr() {
        Some(admin) => print(format_args!("ready mqtt={mqtt} admin={admin}\n")),
        None => print(format_args!("ready mqtt={mqtt} admin=off\n")),
    };
    if let Err(error) = ready {
        warn!("the ready line could not be printed: {error:#}");
    }
    manager.ready(&format!("mqtt={mqtt}"));
    let alive = async {
        manager.keep_alive().await;
        std::future::pending().await
    };
    tokio::pin!(alive);
    let signal = tokio::select! {
        signal = signals.stop() => signal,
        () = &mut alive => return Ok(()),
    };
    info!(signal = signal.name(), "draining; a second signal ends it at once");
    manager.stopping(DRAIN_TIMEOUT);
    tokio::select! {
        () = &mut alive => Ok(()),
        () = gateway.shutdown_to(signal.server_reference()) => {
            info!("drained");
            Ok(())
        }
        (kind, name) = signals.stop_at_once() => {
            error!(signal = name, "ended before it was drained");
            std::process::exit(128 + kind.as_raw_value());
        }
    }
}

/// The signals that mean something to a gateway, and what is asked over its admin listener.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    orders: mpsc::Receiver<Order>,
    reload: Reload,
}

/// What asked the gateway to stop.
enum Stop {
    Signal(SignalKind, &'static str),
    /// `gateway drain`.
    Drain(Option<Box<str>>),
}

impl Stop {
    const fn name(&self) -> &'static str {
        match self {
            Self::Signal(_, name) => name,
            Self::Drain(_) => "drain",
        }
    }

    fn server_reference(self) -> Option<Box<str>> {
        match self {
            Self::Signal(..) => None,
            Self::Drain(server_reference) => server_reference,
        }
    }
}

impl Signals {
    fn new(reload: Reload, orders: mpsc::Receiver<Order>) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            orders,
            reload,
        })
    }

    /// The next that asks to stop. What asks to reload is done meanwhile.
    async fn stop(&mut self) -> Stop {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Stop::Signal(SignalKind::terminate(), "SIGTERM"),
                _ = self.interrupt.recv() => return Stop::Signal(SignalKind::interrupt(), "SIGINT"),
                // Both sides of it are told in the log.
                _ = self.hang_up.recv() => drop(self.reload.reload()),
                Some(order) = self.orders.recv() => match order {
                    // Whoever asked may have gone.
                    Order::Reload(answer) => drop(answer.send(self.reload.reload())),
                    Order::Drain(drain) => return Stop::Drain(drain.server_reference),
                },
            }
        }
    }

    /// The next signal that asks to stop, when the drain has begun: to ask for one again changes nothing.
    async fn stop_at_once(&mut self) -> (SignalKind, &'static str) {
        loop {
            if let Stop::Signal(kind, name) = self.stop().await {
                return (kind, name);
            }
        }
    }
}

/// Each connection takes a file descriptor. Where there are too few of them, the number of connections gives way that nobody asked for;
/// one that was asked for stands, and what it lacks is said.
fn fit_connections(config: &mut Config, settings: &Settings) {
    let max_connections = &mut config.admission.max_connections;
    let wanted = *max_connections as u64 + OTHER_FDS;
    let limit = raise_fd_limit(wanted);
    if limit >= wanted {
        return;
    }
    let was_asked_for = settings.iter().any(|setting| {
        (setting.section, setting.key) == ("admission", "max_connections")
            && setting.source != Source::Default
    });
    if was_asked_for {
        warn!(limit, wanted, "open files are limited below admission.max_connections");
        return;
    }
    // A process that may open next to nothing shares that out.
    let fitting = limit.saturating_sub(OTHER_FDS).max(limit / 2).max(1);
    *max_connections =
        usize::try_from(fitting).map_or(*max_connections, |fitting| fitting.min(*max_connections));
    info!(
        max_connections,
        open_files = limit,
        "the default of admission.max_connections is lowered to what the limit of open files allows"
    );
}

/// Raises the soft limit of open files to `wanted`, or as far as the hard one allows; it is often 1024 where the hard one allows far more.
/// Answers what may be opened.
fn raise_fd_limit(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if current >= allowed {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: limit.maximum }) {
        Ok(()) => allowed,
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised");
            current
        }
    }
}

/// The error and its causes, each said once: many an error already ends with the words of its cause.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// Writes to standard output, all of it, now. A reader that has seen enough (`| head`) is no error.
fn print(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
