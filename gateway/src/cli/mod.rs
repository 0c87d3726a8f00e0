//! The command line: what was asked for, and how its options become a layer of configuration.
//!
//! Nothing is done here; `main` does it. But what is asked of a running gateway is asked here: each question a file, on what they have in common (`session`).

mod client;
mod consumers;
mod dead_letters;
mod decisions;
mod log_level;
mod operations;
mod process;
mod reference;
mod session;
mod storage;
mod streams;
mod table;
mod topics;
mod trace;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use gateway::config::{Config, Durability, LoadOptions, format_duration, format_size};

pub(crate) use self::client::ClientError;
use self::consumers::ConsumersArgs;
use self::dead_letters::DeadLettersArgs;
use self::decisions::DecisionsCommandArgs;
use self::log_level::LogLevelCommandArgs;
use self::operations::{ClientsArgs, RetainedArgs, StatusArgs};
use self::process::{DrainCommandArgs, ReloadArgs};
pub(crate) use self::reference::{completions, man_pages, reference};
use self::session::ADMIN_VARIABLE;
pub(crate) use self::storage::{BackedUp, Exported, From, Repaired, StorageCommand, StoreArgs, Verified};
use self::streams::{SinksArgs, StreamsArgs};
use self::topics::TopicsCommandArgs;
use self::trace::TraceCommandArgs;

/// MQTT ingestion gateway: durable before it acknowledges, honest under overload.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway. Prints `ready mqtt=ADDR admin=ADDR` on standard output when it accepts traffic; logs go to
    /// standard error. TERM and INT drain; a second one ends it at once.
    Run(ConfigArgs),
    /// Check the configuration and print a summary. Exit status 0 when it is valid, 1 when not.
    Check(ConfigArgs),
    /// Print the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the store of a gateway that does not run, mend it, or read it out; copy that of one that does.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Print the completions of a shell, to be sourced by it.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, one for each command.
    Man {
        /// The directory to write them into
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// How a running gateway is, in a few lines. Exit status 1 when it is not ready.
    Status(StatusArgs),
    /// Clients of a running gateway: who is connected, and why others are not any more.
    Clients(ClientsArgs),
    /// Retained Messages of a running gateway.
    Retained(RetainedArgs),
    /// Streams of a running gateway: what is kept, and for how long.
    Streams(StreamsArgs),
    /// Consumers of a running gateway: who reads its streams, how far they are, and what their workers do.
    Consumers(ConsumersArgs),
    /// Dead letters of a running gateway: events that no worker could settle.
    DeadLetters(DeadLettersArgs),
    /// Sinks of a running gateway: where it writes events to.
    Sinks(SinksArgs),
    /// Decisions of a running gateway: what did not go through, and why.
    Decisions(DecisionsCommandArgs),
    /// Topics of a running gateway and their rates, level by level. It counts them only while somebody looks.
    Topics(TopicsCommandArgs),
    /// Follow one device live: every packet of it a line, with what became of it, and its connects and ends. Costs the gateway nothing while
    /// nobody traces.
    Trace(TraceCommandArgs),
    /// Show or change what a running gateway logs, by module and by client, until it is set back, its configuration changes, or it ends.
    LogLevel(LogLevelCommandArgs),
    /// Have a running gateway read its configuration again, as HUP does. Prints what was applied and what takes a restart. Exit status 1
    /// when the configuration has faults; then nothing is changed.
    Reload(ReloadArgs),
    /// Drain a running gateway, as TERM does: it is not ready any more, takes no connections, acknowledges what is being stored, tells
    /// every client to go (0x8B, or another server), closes its log, and its process ends with status 0. A service manager that restarts
    /// it only on failure leaves it stopped. Returns when the process has ended.
    Drain(DrainCommandArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every key with its default and meaning, as a file to start from.
    Default,
    /// Print what every key means, as Markdown.
    Reference,
    /// Print every key in force, and the layer it comes from where that is not the default.
    Show(ConfigArgs),
}

/// Where the configuration comes from, lowest layer first: built-in default, --config, the environment
/// (`GATEWAY_SECTION__KEY`), --set, and last the options that stand for one key each.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the log and the view [storage.data_dir]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of the first MQTT listener; port 0 lets the kernel choose [listener.0.address]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Address of the admin listener; port 0 lets the kernel choose [admin.address]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// One key and its value; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
}

impl ConfigArgs {
    /// The options as layers, with this process's environment.
    pub(crate) fn into_load_options(self) -> LoadOptions {
        let mut sets = self.sets;
        // Quoted, so that a directory named `true` or `[x]` is not read as anything else.
        let quoted = |key: &str, value: String| format!("{key}={}", toml::Value::String(value));
        sets.extend(self.data_dir.map(|directory| quoted("storage.data_dir", directory)));
        sets.extend(self.listen.map(|address| quoted("listener.0.address", address.to_string())));
        sets.extend(self.admin.map(|address| quoted("admin.address", address.to_string())));
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            })
            // It names a gateway to talk to, and would be taken for the whole section.
            .filter(|(name, _)| name != ADMIN_VARIABLE)
            .collect();
        LoadOptions { file: self.config, environment, sets }
    }
}

/// What `gateway check` prints: the few things an operator would look for first.
pub(crate) struct Summary<'a>(pub(crate) &'a Config);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { storage, listeners, admin, mqtt, streams, .. } = self.0;
        writeln!(f, "the configuration is valid")?;
        for listener in listeners {
            let whom = if self.0.admits_anonymous(listener) { ", without credentials" } else { "" };
            writeln!(f, "  listener  mqtt over tcp on {}{whom}", listener.address)?;
        }
        match admin.enabled {
            true => writeln!(f, "  admin     http on {}", admin.address)?,
            false => writeln!(f, "  admin     off")?,
        }
        let receipt = match storage.durability {
            Durability::Fsync => "acknowledged after fdatasync".to_owned(),
            Durability::Interval(interval) => {
                format!("acknowledged when written, synced every {}", format_duration(interval))
            }
            Durability::Memory => "acknowledged when written, never synced".to_owned(),
        };
        let size = format_size(storage.max_bytes);
        writeln!(f, "  storage   {}, at most {size}, {receipt}", storage.data_dir.display())?;
        for stream in streams {
            let (age, size) = (format_duration(stream.max_age), format_size(stream.max_bytes));
            writeln!(
                f,
                "  stream    {}: {} for {age}, at most {size}",
                stream.name,
                stream.topics.join(" ")
            )?;
        }
        let packet = format_size(mqtt.max_packet_bytes as u64);
        write!(f, "  mqtt      QoS up to {}, packets up to {packet}", mqtt.max_qos as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str]) -> Config {
        let cli = Cli::try_parse_from(arguments).unwrap();
        let Command::Run(arguments) = cli.command else { panic!("not run") };
        let options = LoadOptions { environment: Vec::new(), ..arguments.into_load_options() };
        Config::load(options).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn options_stand_for_keys_and_win_over_sets() {
        let config = load(&[
            "gateway",
            "run",
            "--data-dir",
            "[x]",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "[::1]:0",
            "--set",
            "listener=[{address='127.0.0.1:7'}]",
            "--set",
            "storage.data_dir=y",
            "--set",
            "log.format=json",
        ]);
        assert_eq!(config.storage.data_dir, std::path::Path::new("[x]"));
        assert_eq!(config.listeners[0].address.port(), 0);
        assert!(config.admin.address.is_ipv6());
        assert_eq!(config.log.format, gateway::config::LogFormat::Json);
    }

    #[test]
    fn the_summary_says_who_may_connect_and_what_an_acknowledgement_means() {
        let summary = Summary(&load(&["gateway", "run"])).to_string();
        for line in [
            "  listener  mqtt over tcp on 127.0.0.1:1883, without credentials",
            "  storage   data, at most 10GiB, acknowledged after fdatasync",
            "  stream    telemetry: devices/# for 7d, at most 8GiB",
        ] {
            assert!(summary.lines().any(|found| found == line), "{line}\n{summary}");
        }
    }
}
