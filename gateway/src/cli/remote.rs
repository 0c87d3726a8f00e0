//! `gateway streams`, `consumers`, `dead-letters`, `sinks`, `decisions`: their options. What they do is in [`super::answer`].

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use gateway::config::parse_duration;

use super::decisions::DecisionsArgs;
use super::log_level::LogLevelArgs;
use super::operations::{ClientsCommand, RetainedCommand};
use super::process::DrainArgs;
use super::topics::TopicsArgs;
use super::trace::TraceArgs;

/// Where the environment says what `--admin` would.
pub(crate) const ADMIN_VARIABLE: &str = "GATEWAY_ADMIN";

/// Which gateway, and how its answer is shown.
#[derive(Args, Debug)]
pub(crate) struct RemoteArgs {
    /// Address of the admin listener of the gateway that is meant
    #[arg(long, env = ADMIN_VARIABLE, value_name = "ADDR:PORT", default_value = "127.0.0.1:9464", global = true)]
    pub(crate) admin: SocketAddr,
    /// How the answer is printed
    #[arg(long, value_enum, default_value = "table", global = true)]
    pub(crate) output: Output,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// As the gateway gives it.
    Json,
}

/// What is asked of a running gateway.
#[derive(Debug)]
pub(crate) enum Remote {
    Status,
    Clients(ClientsCommand),
    Retained(RetainedCommand),
    Streams(StreamsCommand),
    Consumers(ConsumersCommand),
    DeadLetters(DeadLettersCommand),
    Sinks,
    Decisions(DecisionsArgs),
    Topics(TopicsArgs),
    Trace(TraceArgs),
    LogLevel(LogLevelArgs),
    Reload,
    Drain(DrainArgs),
}

#[derive(Args, Debug)]
pub(crate) struct StreamsArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<StreamsCommand>,
}

#[derive(Args, Debug)]
pub(crate) struct ConsumersArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<ConsumersCommand>,
}

#[derive(Args, Debug)]
pub(crate) struct DeadLettersArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<DeadLettersCommand>,
}

#[derive(Args, Debug)]
pub(crate) struct SinksArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<SinksCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SinksCommand {
    /// List the sinks. The default.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StreamsCommand {
    /// List the streams. The default.
    List,
    /// Show one stream.
    Show {
        /// Its name
        name: String,
    },
    /// Make a stream, or make it different.
    Set {
        /// Its name: 1 to 64 of a-z, 0-9, - and _
        name: String,
        /// A Topic Filter of what it keeps; may be repeated
        #[arg(long = "topic", value_name = "FILTER", required = true)]
        topics: Vec<String>,
        /// How long events are kept
        #[arg(long, value_name = "DURATION", default_value = "7d")]
        max_age: String,
        /// How many bytes are kept
        #[arg(long, value_name = "SIZE", default_value = "1GiB")]
        max_bytes: String,
    },
    /// Remove a stream. What it kept cannot be read any more.
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConsumersCommand {
    /// List the consumers. The default.
    List,
    /// Show one consumer and its workers.
    Show {
        /// Its name
        name: String,
    },
    /// Make a consumer.
    Create {
        /// Its name: 1 to 64 of a-z, 0-9, - and _
        name: String,
        /// The stream it reads
        #[arg(long)]
        stream: String,
        /// Where it begins: earliest, latest, an offset, an RFC 3339 time, or a time ago as -15m
        #[arg(long, value_name = "FROM", default_value = "latest", allow_hyphen_values = true)]
        from: String,
        #[command(flatten)]
        changes: ChangesArgs,
    },
    /// Make a consumer different. What is not named stays.
    Alter {
        /// Its name
        name: String,
        #[command(flatten)]
        changes: ChangesArgs,
    },
    /// Remove a consumer, and its dead letters with it.
    Remove {
        /// Its name
        name: String,
    },
    /// Have a consumer hand out nothing until it is resumed.
    Pause {
        /// Its name
        name: String,
    },
    /// Have a paused consumer go on.
    Resume {
        /// Its name
        name: String,
    },
    /// Have a consumer begin anew elsewhere in its stream. What is handed out is forgotten.
    Reset {
        /// Its name
        name: String,
        /// Where: earliest, latest, an offset, an RFC 3339 time, or a time ago as -15m
        #[arg(long, value_name = "FROM", allow_hyphen_values = true)]
        to: String,
    },
    /// Take events. They come again after the consumer's ack_wait unless they are settled.
    Next {
        /// The consumer
        name: String,
        /// How many at most, 1 to 1000
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        max: u32,
        /// How long to wait for the first of them, up to 1m
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
        wait: Duration,
        /// Who takes them
        #[arg(long, value_name = "NAME")]
        worker: Option<String>,
    },
    /// Say that events are done with.
    Ack(IdsArgs),
    /// Say that the work on events failed, and is to be tried again.
    Nak {
        #[command(flatten)]
        ids: IdsArgs,
        /// Not before this time has passed [default: the consumer's backoff]
        #[arg(long, value_name = "DURATION")]
        delay: Option<String>,
    },
    /// Say that events cannot be worked on: they become dead letters.
    Reject {
        #[command(flatten)]
        ids: IdsArgs,
        /// Why: payload_format_invalid, implementation_specific, or unspecified
        #[arg(long, default_value = "unspecified")]
        cause: String,
    },
    /// Say that the work goes on: the time until events come again begins anew.
    Extend(IdsArgs),
    /// Look at the events of a consumer as they come. Nothing is taken.
    Watch {
        /// The consumer
        name: String,
        /// Begin with this offset rather than with what comes next
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
        /// How fast: full, events in a second as 1000/s, or a multiple of the speed at which they came as 10x
        #[arg(long)]
        pace: Option<String>,
        /// End after so many events
        #[arg(long)]
        count: Option<u64>,
    },
}

/// What of a consumer can be chosen.
#[derive(Args, Debug)]
pub(crate) struct ChangesArgs {
    /// Which topics of the stream [default of a new one: #]
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// How long a worker may take before the event goes to another [default of a new one: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) ack_wait: Option<String>,
    /// Attempts before an event becomes a dead letter; 0: no end [default of a new one: 5]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_deliver: Option<u32>,
    /// How long to wait after the first, second, ... failure; the last one repeats
    #[arg(long, value_name = "DURATION", value_delimiter = ',')]
    pub(crate) backoff: Option<Vec<String>>,
    /// Events that may be handed out at one time [default of a new one: 1000]
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_ack_pending: Option<u32>,
    /// `none`, or `key`: one event of each publisher and topic at a time [default of a new one: none]
    #[arg(long)]
    pub(crate) order: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct IdsArgs {
    /// The consumer
    pub(crate) name: String,
    /// The ids that `next` gave
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters by consumer and offset. The default.
    List {
        #[command(flatten)]
        query: QueryArgs,
        /// How many at most
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: usize,
        /// Go on where a list ended: what it said then
        #[arg(long, value_name = "PLACE")]
        after: Option<String>,
    },
    /// Show one dead letter, its event included.
    Show {
        /// Its consumer
        consumer: String,
        /// Its offset
        offset: u64,
    },
    /// Have dead letters delivered again to their consumer, each with a full count of attempts.
    Redrive {
        #[command(flatten)]
        which: WhichArgs,
        /// How many in a second [default: 100]
        #[arg(long, value_name = "COUNT")]
        rate: Option<u32>,
    },
    /// Remove dead letters for good.
    Purge {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Write dead letters to standard output, a JSON object to a line.
    Export {
        #[command(flatten)]
        query: QueryArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct QueryArgs {
    /// Of this consumer
    #[arg(long)]
    pub(crate) consumer: Option<String>,
    /// Of this cause: max_deliver, rejected, ...
    #[arg(long)]
    pub(crate) cause: Option<String>,
    /// Of these topics
    #[arg(long, value_name = "FILTER")]
    pub(crate) topic: Option<String>,
}

/// Which dead letters of a consumer; one way of saying it.
#[derive(Args, Debug)]
pub(crate) struct WhichArgs {
    /// The consumer
    pub(crate) consumer: String,
    /// Those at these offsets
    pub(crate) offsets: Vec<u64>,
    /// All of them
    #[arg(long, conflicts_with = "offsets")]
    pub(crate) all: bool,
    /// Those of this cause
    #[arg(long, conflicts_with_all = ["offsets", "all"])]
    pub(crate) cause: Option<String>,
    /// Those of these topics
    #[arg(long, value_name = "FILTER", conflicts_with_all = ["offsets", "all"])]
    pub(crate) topic: Option<String>,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration with its unit, like 5s or 500ms".to_owned())
}

impl StreamsArgs {
    pub(crate) fn parts(self) -> (RemoteArgs, Remote) {
        (self.remote, Remote::Streams(self.command.unwrap_or(StreamsCommand::List)))
    }
}

impl ConsumersArgs {
    pub(crate) fn parts(self) -> (RemoteArgs, Remote) {
        (self.remote, Remote::Consumers(self.command.unwrap_or(ConsumersCommand::List)))
    }
}

impl DeadLettersArgs {
    pub(crate) fn parts(self) -> (RemoteArgs, Remote) {
        let query = QueryArgs { consumer: None, cause: None, topic: None };
        let list = DeadLettersCommand::List { query, limit: 1000, after: None };
        (self.remote, Remote::DeadLetters(self.command.unwrap_or(list)))
    }
}

impl SinksArgs {
    pub(crate) fn parts(self) -> (RemoteArgs, Remote) {
        (self.remote, Remote::Sinks)
    }
}
