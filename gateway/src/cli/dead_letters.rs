//! `gateway dead-letters`: its options, and how the answers are shown.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::client::{ClientError, path, query};
use super::session::{RemoteArgs, Session, items};
use super::table::{Column, printable, table};

const DEAD_LETTERS: [Column; 6] = [
    ("CONSUMER", "consumer"),
    ("OFFSET", "offset"),
    ("CAUSE", "cause"),
    ("ATTEMPTS", "attempts"),
    ("DEAD SINCE", "dead_since"),
    ("TOPIC", "event.topic"),
];

#[derive(Args, Debug)]
pub(crate) struct DeadLettersArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<DeadLettersCommand>,
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

impl DeadLettersArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let query = QueryArgs { consumer: None, cause: None, topic: None };
        let list = DeadLettersCommand::List { query, limit: 1000, after: None };
        Session::with(&self.remote).dead_letters(self.command.unwrap_or(list), out)
    }
}

impl Session {
    fn dead_letters(&self, command: DeadLettersCommand, out: &mut dyn Write) -> Result<bool, ClientError> {
        match command {
            DeadLettersCommand::List { query, limit, after } => {
                let letters = self.pages("/v1/dead-letters", "dead_letters", &pairs(query), after, limit)?;
                let print = |letters: &Value| {
                    let mut text = table(&DEAD_LETTERS, items(letters, "dead_letters"));
                    if let Some(next) = letters.get("next").and_then(Value::as_str) {
                        text.push_str(&format!("there are more: --after {}\n", printable(&next.into())));
                    }
                    text
                };
                self.print(&letters, print, out)
            }
            DeadLettersCommand::Show { consumer, offset } => {
                self.show(&path(&["v1", "dead-letters", &consumer, &offset.to_string()]), out)
            }
            DeadLettersCommand::Redrive { which, rate } => {
                let mut body = which_body(which);
                body.insert("rate".to_owned(), rate.into());
                self.count("/v1/dead-letters/redrive", body, "redriven", out)
            }
            DeadLettersCommand::Purge { which } => {
                self.count("/v1/dead-letters/purge", which_body(which), "purged", out)
            }
            DeadLettersCommand::Export { query: wanted } => {
                for line in self.client.lines(&format!("/v1/dead-letters/export{}", query(&pairs(wanted))))? {
                    writeln!(out, "{}", line?)?;
                }
                Ok(true)
            }
        }
    }
}

fn pairs(query: QueryArgs) -> [(&'static str, Option<String>); 3] {
    [("consumer", query.consumer), ("cause", query.cause), ("topic", query.topic)]
}

fn which_body(which: WhichArgs) -> Map<String, Value> {
    let WhichArgs { consumer, offsets, all, cause, topic } = which;
    let all = [
        ("consumer", Some(Value::from(consumer))),
        ("offsets", (!offsets.is_empty()).then(|| Value::from(offsets))),
        ("all", all.then_some(Value::from(true))),
        ("cause", cause.map(Value::from)),
        ("topic", topic.map(Value::from)),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}
