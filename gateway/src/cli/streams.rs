//! `gateway streams`, `sinks`: their options, and how the answers are shown.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;
use ureq::http::Method;

use super::client::{ClientError, path};
use super::session::{RemoteArgs, Session};
use super::table::{Column, sheet};

const STREAMS: [Column; 6] = [
    ("NAME", "name"),
    ("TOPICS", "topics"),
    ("MAX AGE", "max_age"),
    ("EVENTS", "events"),
    ("BYTES", "bytes"),
    ("MAX BYTES", "max_bytes"),
];
const SINKS: [Column; 4] = [("NAME", "name"), ("TYPE", "type"), ("CONSUMER", "consumer"), ("STATE", "state")];

#[derive(Args, Debug)]
pub(crate) struct StreamsArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<StreamsCommand>,
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

impl StreamsArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).streams(self.command.unwrap_or(StreamsCommand::List), out)
    }
}

impl SinksArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).list("/v1/sinks", "sinks", &SINKS, out)
    }
}

impl Session {
    fn streams(&self, command: StreamsCommand, out: &mut dyn Write) -> Result<bool, ClientError> {
        match command {
            StreamsCommand::List => self.list("/v1/streams", "streams", &STREAMS, out),
            StreamsCommand::Show { name } => self.show(&path(&["v1", "streams", &name]), out),
            StreamsCommand::Set { name, topics, max_age, max_bytes } => {
                let body = json!({ "topics": topics, "max_age": max_age, "max_bytes": max_bytes });
                let stream = self.client.send(Method::PUT, &path(&["v1", "streams", &name]), &body)?;
                self.print(&stream, sheet, out)
            }
            StreamsCommand::Remove { name } => self.remove(&path(&["v1", "streams", &name])),
        }
    }
}
