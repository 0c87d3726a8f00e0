//! `gateway consumers`: its options, and how the answers are shown.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::client::{ClientError, path, query};
use super::session::{Output, RemoteArgs, Session, duration, items};
use super::table::{Column, printable, sheet, table};

const CONSUMERS: [Column; 10] = [
    ("NAME", "name"),
    ("STREAM", "stream"),
    ("FILTER", "filter"),
    ("STATE", "state"),
    ("LAG", "lag_events"),
    ("READY", "ready"),
    ("OPEN", "open"),
    ("ACKED", "acked"),
    ("REDELIVERED", "redeliveries"),
    ("DEAD", "dead_lettered"),
];
const WORKERS: [Column; 5] =
    [("WORKER", "name"), ("KIND", "kind"), ("LEASED", "leased"), ("ACKED", "acked"), ("FAILED", "failed")];
const EVENTS: [Column; 6] = [
    ("ID", "id"),
    ("TIME", "time"),
    ("TOPIC", "topic"),
    ("ATTEMPT", "attempt"),
    ("DUE", "due"),
    ("PAYLOAD", "payload"),
];

#[derive(Args, Debug)]
pub(crate) struct ConsumersArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<ConsumersCommand>,
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

impl ConsumersArgs {
    /// Asks, and prints the answer. False where not all of what was asked for could be done.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).consumers(self.command.unwrap_or(ConsumersCommand::List), out)
    }
}

impl Session {
    fn consumers(&self, command: ConsumersCommand, out: &mut dyn Write) -> Result<bool, ClientError> {
        let at = |name: &str, verb: &str| path(&["v1", "consumers", name, verb]);
        let one = |name: &str| path(&["v1", "consumers", name]);
        let (method, path, body) = match command {
            ConsumersCommand::List => return self.list("/v1/consumers", "consumers", &CONSUMERS, out),
            ConsumersCommand::Show { name } => {
                let consumer = self.client.get(&one(&name), Duration::ZERO)?;
                return self.print(&consumer, consumer_sheet, out);
            }
            ConsumersCommand::Remove { name } => return self.remove(&one(&name)),
            ConsumersCommand::Next { name, max, wait, worker } => {
                let pairs = [
                    ("max", Some(max.to_string())),
                    ("wait", Some(format!("{}ms", wait.as_millis()))),
                    ("worker", worker),
                ];
                let events = self.client.get(&format!("{}{}", at(&name, "next"), query(&pairs)), wait)?;
                return self.print(&events, events_table, out);
            }
            ConsumersCommand::Watch { name, from, pace, count } => {
                let query = query(&[("from", from.map(|from| from.to_string())), ("pace", pace)]);
                return self.watch(&format!("{}{query}", at(&name, "watch")), count, out);
            }
            ConsumersCommand::Ack(IdsArgs { name, ids }) => {
                return self.settle(&at(&name, "ack"), json!({ "ids": ids }), out);
            }
            ConsumersCommand::Nak { ids: IdsArgs { name, ids }, delay } => {
                return self.settle(&at(&name, "nak"), json!({ "ids": ids, "delay": delay }), out);
            }
            ConsumersCommand::Reject { ids: IdsArgs { name, ids }, cause } => {
                return self.settle(&at(&name, "reject"), json!({ "ids": ids, "cause": cause }), out);
            }
            ConsumersCommand::Extend(IdsArgs { name, ids }) => {
                return self.settle(&at(&name, "extend"), json!({ "ids": ids }), out);
            }
            ConsumersCommand::Create { name, stream, from, changes } => {
                let mut body = changes_body(changes);
                body.insert("stream".to_owned(), stream.into());
                body.insert("from".to_owned(), from.into());
                (Method::PUT, one(&name), Value::Object(body))
            }
            ConsumersCommand::Alter { name, changes } => {
                (Method::PATCH, one(&name), Value::Object(changes_body(changes)))
            }
            ConsumersCommand::Pause { name } => (Method::POST, at(&name, "pause"), json!({})),
            ConsumersCommand::Resume { name } => (Method::POST, at(&name, "resume"), json!({})),
            ConsumersCommand::Reset { name, to } => (Method::POST, at(&name, "reset"), json!({ "to": to })),
        };
        let consumer = self.client.send(method, &path, &body)?;
        self.print(&consumer, consumer_sheet, out)
    }

    /// False if some of the ids were not open any more.
    fn settle(&self, path: &str, body: Value, out: &mut dyn Write) -> Result<bool, ClientError> {
        let settled = self.client.send(Method::POST, path, &body)?;
        self.print(&settled, sheet, out)?;
        Ok(items(&settled, "unknown").is_empty())
    }

    /// Events as they come, a line each, until there were `count` of them or the gateway ends it.
    fn watch(&self, path: &str, count: Option<u64>, out: &mut dyn Write) -> Result<bool, ClientError> {
        let mut left = count.unwrap_or(u64::MAX);
        let mut is_event = false;
        for line in self.client.lines(path)? {
            let line = line?;
            if let Some(name) = line.strip_prefix("event: ") {
                is_event = name == "event";
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            match self.output {
                Output::Json => writeln!(out, "{data}")?,
                Output::Table => writeln!(out, "{}", watched(data, is_event))?,
            }
            out.flush()?;
            left -= u64::from(is_event);
            if left == 0 {
                break;
            }
        }
        Ok(true)
    }
}

/// Payloads stand in one column, whether they are text or not.
fn events_table(events: &Value) -> String {
    let mut events = items(events, "events").to_vec();
    for event in events.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(payload) = event.remove("payload_base64") {
            event.insert("payload".to_owned(), payload);
        }
    }
    table(&EVENTS, &events)
}

fn consumer_sheet(consumer: &Value) -> String {
    let mut consumer = consumer.clone();
    let workers =
        consumer.as_object_mut().and_then(|consumer| consumer.remove("workers")).unwrap_or_default();
    let workers = workers.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = sheet(&consumer);
    if !workers.is_empty() {
        text.push('\n');
        text.push_str(&table(&WORKERS, workers));
    }
    text
}

fn watched(data: &str, is_event: bool) -> String {
    let value: Value = serde_json::from_str(data).unwrap_or_default();
    let cell = |key: &str| printable(value.get(key).unwrap_or(&Value::Null));
    match is_event {
        true => {
            let payload = if value.get("payload").is_some() { "payload" } else { "payload_base64" };
            format!("{}  {}  {}  {}", cell("offset"), cell("time"), cell("topic"), cell(payload))
        }
        false => format!("# lag {}, ready {}, open {}", cell("lag_events"), cell("ready"), cell("open")),
    }
}

fn changes_body(changes: ChangesArgs) -> Map<String, Value> {
    let ChangesArgs { filter, ack_wait, max_deliver, backoff, max_ack_pending, order } = changes;
    let all = [
        ("filter", filter.map(Value::from)),
        ("ack_wait", ack_wait.map(Value::from)),
        ("max_deliver", max_deliver.map(Value::from)),
        ("backoff", backoff.map(Value::from)),
        ("max_ack_pending", max_ack_pending.map(Value::from)),
        ("order", order.map(Value::from)),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}
