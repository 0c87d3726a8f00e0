//! What is asked of a running gateway, and how the answer is shown.
//!
//! With `--output json` the answer is printed as the gateway gives it, all pages of a list as one.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::client::{Client, ClientError, path, query};
use super::remote::{
    ChangesArgs, ConsumersCommand, DeadLettersCommand, IdsArgs, Output, QueryArgs, Remote, RemoteArgs,
    StreamsCommand, WhichArgs,
};
use super::table::{Column, printable, sheet, table};
use super::{decisions, trace};

/// Items of one page: what the gateway gives at most.
const PAGE: usize = 1000;
/// Names in a list; the gateway has fewer.
const NAMES_MAX: usize = 1_000_000;

const STREAMS: [Column; 6] = [
    ("NAME", "name"),
    ("TOPICS", "topics"),
    ("MAX AGE", "max_age"),
    ("EVENTS", "events"),
    ("BYTES", "bytes"),
    ("MAX BYTES", "max_bytes"),
];
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
const DEAD_LETTERS: [Column; 6] = [
    ("CONSUMER", "consumer"),
    ("OFFSET", "offset"),
    ("CAUSE", "cause"),
    ("ATTEMPTS", "attempts"),
    ("DEAD SINCE", "dead_since"),
    ("TOPIC", "event.topic"),
];
const SINKS: [Column; 4] = [("NAME", "name"), ("TYPE", "type"), ("CONSUMER", "consumer"), ("STATE", "state")];

/// Asks, and prints the answer. False where not all of what was asked for could be done.
pub(crate) fn answer(arguments: RemoteArgs, what: Remote, out: &mut dyn Write) -> Result<bool, ClientError> {
    let session = Session { client: Client::new(arguments.admin), output: arguments.output };
    match what {
        Remote::Status => session.status(out),
        Remote::Clients(command) => session.clients(command, out),
        Remote::Retained(command) => session.retained(command, out),
        Remote::Streams(command) => session.streams(command, out),
        Remote::Consumers(command) => session.consumers(command, out),
        Remote::DeadLetters(command) => session.dead_letters(command, out),
        Remote::Sinks => session.list("/v1/sinks", "sinks", &SINKS, out),
        Remote::Topics(arguments) => session.topics(arguments, out),
        Remote::Trace(arguments) => trace::answer(&session.client, session.output, arguments, out),
        Remote::LogLevel(arguments) => session.log_level(arguments, out),
        Remote::Reload => session.reload(out),
        Remote::Drain(arguments) => session.drain(arguments, out),
        Remote::Decisions(arguments) => decisions::answer(&session.client, session.output, arguments, out),
    }
}

pub(super) struct Session {
    pub(super) client: Client,
    output: Output,
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

    /// All pages of a list of names.
    fn list(
        &self,
        path: &str,
        key: &str,
        columns: &[Column],
        out: &mut dyn Write,
    ) -> Result<bool, ClientError> {
        let all = self.pages(path, key, &[], None, NAMES_MAX)?;
        self.print(&all, |all| table(columns, items(all, key)), out)
    }

    /// Pages of a list as one, until there are `limit` items.
    pub(super) fn pages(
        &self,
        path: &str,
        key: &str,
        pairs: &[(&str, Option<String>)],
        mut after: Option<String>,
        limit: usize,
    ) -> Result<Value, ClientError> {
        let mut all = Vec::new();
        loop {
            let mut pairs = pairs.to_vec();
            // Short lists have no pages, and take no such keys.
            if limit < NAMES_MAX {
                pairs.push(("limit", Some((limit - all.len()).min(PAGE).to_string())));
            }
            pairs.push(("after", after.take()));
            let mut page = self.client.get(&format!("{path}{}", query(&pairs)), Duration::ZERO)?;
            if let Some(Value::Array(items)) = page.get_mut(key).map(Value::take) {
                all.extend(items);
            }
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() || all.len() >= limit {
                return Ok(json!({ key: all, "next": after }));
            }
        }
    }

    fn show(&self, path: &str, out: &mut dyn Write) -> Result<bool, ClientError> {
        let item = self.client.get(path, Duration::ZERO)?;
        self.print(&item, sheet, out)
    }

    fn remove(&self, path: &str) -> Result<bool, ClientError> {
        self.client.send(Method::DELETE, path, &Value::Null).map(|_| true)
    }

    /// False if some of the ids were not open any more.
    fn settle(&self, path: &str, body: Value, out: &mut dyn Write) -> Result<bool, ClientError> {
        let settled = self.client.send(Method::POST, path, &body)?;
        self.print(&settled, sheet, out)?;
        Ok(items(&settled, "unknown").is_empty())
    }

    fn count(
        &self,
        path: &str,
        body: Map<String, Value>,
        key: &str,
        out: &mut dyn Write,
    ) -> Result<bool, ClientError> {
        let counted = self.client.send(Method::POST, path, &Value::Object(body))?;
        let print =
            |counted: &Value| format!("{} {key}\n", printable(counted.get(key).unwrap_or(&Value::Null)));
        self.print(&counted, print, out)
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

    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    pub(super) fn print(
        &self,
        value: &Value,
        as_table: impl FnOnce(&Value) -> String,
        out: &mut dyn Write,
    ) -> Result<bool, ClientError> {
        match self.output {
            Output::Json => writeln!(out, "{value}")?,
            Output::Table => out.write_all(as_table(value).as_bytes())?,
        }
        Ok(true)
    }
}

pub(super) fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
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
