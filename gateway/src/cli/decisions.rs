//! `gateway decisions`: what did not go through, and why, up to now or as it is decided.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ClientError, query};
use super::session::{Output, RemoteArgs, Session};
use super::table::{Column, printable, table};

/// Decisions of one request: what the gateway gives at most.
const PAGE: usize = 1000;

const COLUMNS: [Column; 8] = [
    ("TIME", "time"),
    ("ACTION", "action"),
    ("REASON", "reason"),
    ("COUNT", "count"),
    ("LEVEL", "level"),
    ("PRESSURE", "pressure"),
    ("CLIENT", "client"),
    ("TOPIC", "topic"),
];

#[derive(Args, Debug)]
pub(crate) struct DecisionsCommandArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    decisions: DecisionsArgs,
}

/// Which decisions.
#[derive(Args, Debug)]
pub(crate) struct DecisionsArgs {
    /// Of this Client Identifier, or of the address of one that has not said it
    #[arg(long)]
    client: Option<String>,
    /// For this reason: over_share, shed_bulk, connect_rate, slow_subscriber, ...
    #[arg(long)]
    reason: Option<String>,
    /// Of this kind: refused, shed, dropped, expired, dead_lettered, disconnected, throttled, level_changed
    #[arg(long)]
    action: Option<String>,
    /// Since this time, RFC 3339, or a time ago as -15m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// Go on, and print decisions as they are made; without --since only those
    #[arg(long, short, conflicts_with = "limit")]
    follow: bool,
}

impl DecisionsCommandArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let session = Session::with(&self.remote);
        answer(&session.client, session.output, self.decisions, out)
    }
}

/// Asks, and prints oldest first, as a log is read.
fn answer(
    client: &Client,
    output: Output,
    arguments: DecisionsArgs,
    out: &mut dyn Write,
) -> Result<bool, ClientError> {
    let DecisionsArgs { client: of, reason, action, since, limit, follow: follows } = arguments;
    let pairs = vec![("client", of), ("reason", reason), ("action", action), ("since", since)];
    if follows {
        return follow(client, output, &pairs, out);
    }
    let decisions = newest(client, &pairs, limit)?;
    match output {
        Output::Json => writeln!(out, "{}", json!({ "decisions": decisions }))?,
        Output::Table => out.write_all(table(&COLUMNS, &decisions).as_bytes())?,
    }
    Ok(true)
}

/// The newest `limit`, oldest first.
fn newest(
    client: &Client,
    pairs: &[(&str, Option<String>)],
    limit: usize,
) -> Result<Vec<Value>, ClientError> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    while all.len() < limit {
        let mut pairs = pairs.to_vec();
        pairs.push(("limit", Some((limit - all.len()).min(PAGE).to_string())));
        pairs.push(("after", after.take()));
        let mut page = client.get(&format!("/v1/decisions{}", query(&pairs)), Duration::ZERO)?;
        if let Some(Value::Array(items)) = page.get_mut("decisions").map(Value::take) {
            all.extend(items);
        }
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    all.reverse();
    Ok(all)
}

/// A line each, until the gateway ends it.
fn follow(
    client: &Client,
    output: Output,
    pairs: &[(&str, Option<String>)],
    out: &mut dyn Write,
) -> Result<bool, ClientError> {
    for line in client.lines(&format!("/v1/decisions/watch{}", query(pairs)))? {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        match output {
            Output::Json => writeln!(out, "{data}")?,
            Output::Table => writeln!(out, "{}", told(data))?,
        }
        out.flush()?;
    }
    Ok(true)
}

fn told(data: &str) -> String {
    let value: Value = serde_json::from_str(data).unwrap_or_default();
    let cell = |key: &str| printable(value.get(key).unwrap_or(&Value::Null));
    match value.get("missed") {
        Some(missed) => format!("# {missed} decisions came too fast to be shown"),
        None => format!(
            "{}  {} {} x{}  L{} {}  {}  {}",
            cell("time"),
            cell("action"),
            cell("reason"),
            cell("count"),
            cell("level"),
            cell("pressure"),
            cell("client"),
            cell("topic"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_what_is_followed_has_everything_and_nothing_a_terminal_obeys() {
        let decision = json!({
            "id": 7, "time": "2023-11-14T22:13:20.250Z", "action": "shed", "reason": "over_share", "client": "hog\u{1b}",
            "topic": "t", "count": 12, "level": 2, "pressure": 0.81,
        });
        assert_eq!(
            told(&decision.to_string()),
            "2023-11-14T22:13:20.250Z  shed over_share x12  L2 0.81  hog\\u{1b}  t"
        );
        assert_eq!(told("{\"missed\": 3}"), "# 3 decisions came too fast to be shown");
    }
}
