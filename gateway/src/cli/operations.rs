//! `gateway status`, `clients`, `retained`: their options, and how the answers are shown.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{ClientError, path};
use super::session::{RemoteArgs, Session, items};
use super::table::{Column, printable, sheet, table};

const CLIENTS: [Column; 7] = [
    ("CLIENT", "client_id"),
    ("STATE", "state"),
    ("ADDRESS", "address"),
    ("CONNECTED SINCE", "connected_since"),
    ("SESSION", "session"),
    ("PENDING", "pending"),
    ("LAST END", "last_end.reason"),
];
const SUBSCRIPTIONS: [Column; 2] = [("SUBSCRIPTION", "filter"), ("QOS", "qos")];
const HISTORY: [Column; 7] = [
    ("ENDED", "time"),
    ("TIMES", "count"),
    ("BY", "by"),
    ("REASON", "reason"),
    ("CODE", "reason_code"),
    ("CONNECTED SINCE", "connected_since"),
    ("ADDRESS", "address"),
];
const RETAINED: [Column; 5] = [
    ("TOPIC", "topic"),
    ("QOS", "qos"),
    ("TIME", "time"),
    ("PUBLISHER", "publisher"),
    ("PAYLOAD", "payload"),
];

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ClientsArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<ClientsCommand>,
}

#[derive(Args, Debug)]
pub(crate) struct RetainedArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) command: Option<RetainedCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// List clients by Client Identifier. The default.
    List(ClientsListArgs),
    /// Show one client: its connection, its session, and how its last connections ended and why.
    Show {
        /// Its Client Identifier
        client_id: String,
    },
    /// Close the connection of a client (0x98 Administrative action). Its session stays, and it may come back at once.
    Kick {
        /// Its Client Identifier
        client_id: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ClientsListArgs {
    /// Those whose Client Identifier has this in it, in whatever case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// In which state
    #[arg(long, value_enum, default_value = "current")]
    state: ClientState,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    /// Go on where a list ended: what it said then
    #[arg(long, value_name = "CLIENT")]
    after: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientState {
    /// Connected, or with a session.
    Current,
    /// With a connection.
    Connected,
    /// With a session and no connection.
    Offline,
    /// With neither, but remembered.
    Gone,
    /// All of them.
    All,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetainedCommand {
    /// List Retained Messages by topic. The default.
    List {
        /// Of these topics
        #[arg(long, value_name = "FILTER")]
        topic: Option<String>,
        /// How many at most
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: usize,
        /// Go on where a list ended: what it said then
        #[arg(long, value_name = "TOPIC")]
        after: Option<String>,
    },
    /// Show one Retained Message.
    Show {
        /// Its topic
        topic: String,
    },
}

impl StatusArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).status(out)
    }
}

impl ClientsArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let list = ClientsListArgs { search: None, state: ClientState::Current, limit: 1000, after: None };
        Session::with(&self.remote).clients(self.command.unwrap_or(ClientsCommand::List(list)), out)
    }
}

impl RetainedArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let list = RetainedCommand::List { topic: None, limit: 1000, after: None };
        Session::with(&self.remote).retained(self.command.unwrap_or(list), out)
    }
}

impl Session {
    /// False if the gateway is not ready.
    fn status(&self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let status = self.client.get("/v1/status", Duration::ZERO)?;
        self.print(&status, status_sheet, out)?;
        Ok(status.get("ready").and_then(Value::as_bool).unwrap_or(false))
    }

    fn clients(&self, command: ClientsCommand, out: &mut dyn Write) -> Result<bool, ClientError> {
        match command {
            ClientsCommand::List(ClientsListArgs { search, state, limit, after }) => {
                let state = state.to_possible_value().map(|value| value.get_name().to_owned());
                let pairs = [("search", search), ("state", state)];
                let clients = self.pages("/v1/clients", "clients", &pairs, after, limit)?;
                self.print(&clients, |clients| listed(&CLIENTS, clients, "clients"), out)
            }
            ClientsCommand::Show { client_id } => {
                let client = self.client.get(&path(&["v1", "clients", &client_id]), Duration::ZERO)?;
                self.print(&client, client_sheet, out)
            }
            ClientsCommand::Kick { client_id } => {
                let path = path(&["v1", "clients", &client_id, "kick"]);
                let kicked = self.client.send(Method::POST, &path, &json!({}))?;
                self.print(&kicked, sheet, out)
            }
        }
    }

    fn retained(&self, command: RetainedCommand, out: &mut dyn Write) -> Result<bool, ClientError> {
        match command {
            RetainedCommand::List { topic, limit, after } => {
                let retained = self.pages("/v1/retained", "retained", &[("topic", topic)], after, limit)?;
                self.print(&retained, |retained| listed(&RETAINED, retained, "retained"), out)
            }
            RetainedCommand::Show { topic } => {
                let pairs = [("topic", Some(topic.clone()))];
                let found = self.pages("/v1/retained", "retained", &pairs, None, 2)?;
                let message = items(&found, "retained")
                    .iter()
                    .find(|message| message.get("topic").and_then(Value::as_str) == Some(&topic));
                match message {
                    Some(message) => self.print(message, sheet, out),
                    None => Err(ClientError::Refused {
                        title: "No such Retained Message".to_owned(),
                        detail: format!("nothing is retained under the topic \"{topic}\""),
                        faults: Vec::new(),
                    }),
                }
            }
        }
    }
}

/// A table, and how to get the rest of it.
fn listed(columns: &[Column], page: &Value, key: &str) -> String {
    let mut text = table(columns, items(page, key));
    if let Some(next) = page.get("next").and_then(Value::as_str) {
        text.push_str(&format!("there are more: --after {}\n", printable(&next.into())));
    }
    text
}

/// One line for each figure; figures in groups stand as `log.bytes`.
fn status_sheet(status: &Value) -> String {
    let mut flat = serde_json::Map::new();
    for (key, value) in status.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(group) => {
                flat.extend(group.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())));
            }
            None => {
                flat.insert(key.clone(), value.clone());
            }
        }
    }
    sheet(&Value::Object(flat))
}

/// What it is now, then why it is not what it was.
fn client_sheet(client: &Value) -> String {
    let mut now = client.clone();
    let mut part = |key: &str| now.as_object_mut().and_then(|now| now.remove(key)).unwrap_or_default();
    let (subscriptions, history, last_end) = (part("subscriptions"), part("history"), part("last_end"));
    let since = part("history_since");
    let mut text = sheet(&now);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let subscriptions = list(&subscriptions);
    if !subscriptions.is_empty() {
        text.push_str(&format!("\n{}", table(&SUBSCRIPTIONS, &subscriptions)));
    }
    let history = list(&history);
    if history.is_empty() {
        text.push_str(&format!("\nno connection of it has ended since {}\n", printable(&since)));
        return text;
    }
    let cell = |key: &str| printable(last_end.get(key).unwrap_or(&Value::Null));
    let what = if cell("kind") == "refused" { "last refused" } else { "last ended" };
    text.push_str(&format!(
        "\n{what} {} by the {}: {}\n  {}\n",
        cell("time"),
        cell("by"),
        cell("reason"),
        cell("meaning")
    ));
    text.push_str(&format!("\n{}", table(&HISTORY, &history)));
    text.push_str(&format!(
        "what was before {} is not known: the gateway was started then\n",
        printable(&since)
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_device_was_disconnected_stands_in_words_above_its_history() {
        let end = json!({
            "time": "2026-01-01T10:00:00.000Z", "count": 3, "first_time": "2026-01-01T09:58:00.000Z", "kind": "ended",
            "connected_since": "2026-01-01T09:00:00.000Z", "by": "gateway", "reason": "keep_alive_timeout",
            "reason_code": 141, "meaning": "nothing came from the client", "address": "10.0.0.1:5",
        });
        let client = json!({
            "client_id": "oven", "state": "offline", "last_end": end, "history": [end], "subscriptions": [],
            "history_since": "2026-01-01T08:00:00.000Z",
        });
        let text = client_sheet(&client);
        let said = "last ended 2026-01-01T10:00:00.000Z by the gateway: keep_alive_timeout\n  nothing came from the client\n";
        assert!(text.contains(said), "{text}");
        assert!(text.contains("keep_alive_timeout   141  2026-01-01T09:00:00.000Z"), "{text}");
        let none = json!({"client_id": "x", "history": [], "history_since": "t"});
        assert!(client_sheet(&none).contains("no connection of it has ended since t"));
    }

    #[test]
    fn groups_of_figures_are_opened() {
        let text = status_sheet(&json!({"ready": true, "log": {"bytes": 5}}));
        assert_eq!(text, "log.bytes  5\nready      true\n");
    }
}
