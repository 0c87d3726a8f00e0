//! `gateway trace`: what happens to one device, packet by packet as it happens.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::client::{Client, ClientError, query};
use super::session::{Output, RemoteArgs, Session};
use super::table::printable;

#[derive(Args, Debug)]
pub(crate) struct TraceCommandArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    trace: TraceArgs,
}

/// What to follow.
#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    /// This Client Identifier, connected or not: all its packets, and its connects and ends
    #[arg(long, required_unless_present = "topic")]
    client: Option<String>,
    /// Messages whose topics this Topic Filter matches; with --client only those of it
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// End after so many lines
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
}

impl TraceCommandArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let session = Session::with(&self.remote);
        answer(&session.client, session.output, self.trace, out)
    }
}

/// A line each, until there were `count` of them or nobody answers any more. The gateway ends an answer after ten minutes; then it is asked again.
fn answer(
    client: &Client,
    output: Output,
    arguments: TraceArgs,
    out: &mut dyn Write,
) -> Result<bool, ClientError> {
    let TraceArgs { client: of, topic, count } = arguments;
    let names_client = of.is_none();
    let path = format!("/v1/trace{}", query(&[("client", of), ("topic", topic)]));
    let mut left = count.unwrap_or(u64::MAX);
    loop {
        let mut is_line = false;
        for line in client.lines(&path)? {
            // What was cut short is asked for again, and nobody may be there any more.
            let Ok(line) = line else { break };
            if let Some(name) = line.strip_prefix("event: ") {
                is_line = name == "line";
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            match output {
                Output::Json => writeln!(out, "{data}")?,
                Output::Table => writeln!(out, "{}", told(data, names_client))?,
            }
            out.flush()?;
            left -= u64::from(is_line);
            if left == 0 {
                return Ok(true);
            }
        }
    }
}

fn told(data: &str, names_client: bool) -> String {
    let value: Value = serde_json::from_str(data).unwrap_or_default();
    let cell = |key: &str| value.get(key).filter(|value| !value.is_null()).map(printable);
    if let Some(missed) = cell("missed") {
        return format!("# {missed} lines came too fast to be shown");
    }
    let Some(packet) = cell("packet") else {
        let what = [("client", "client"), ("topic", "topics")];
        let what = what.iter().filter_map(|(key, name)| Some(format!("{name} {}", cell(key)?)));
        let what = what.collect::<Vec<_>>().join(", ");
        return match (cell("client"), cell("connected_since")) {
            (Some(_), Some(since)) => format!("# following {what}; connected since {since}"),
            (Some(_), None) => format!("# following {what}; not connected"),
            (None, _) => format!("# following {what}"),
        };
    };
    let direction = match cell("direction").as_deref() {
        Some("in") => "->",
        Some("out") => "<-",
        Some("log") => "==",
        _ => "--",
    };
    let mut text = format!("{}  {direction} {packet:<11}", cell("time").unwrap_or_default());
    let mut add = |part: Option<String>| {
        if let Some(part) = part {
            text.push(' ');
            text.push_str(&part);
        }
    };
    add(cell("client").filter(|_| names_client).map(|client| format!("{client}:")));
    add(cell("id").map(|id| format!("#{id}")));
    add(cell("qos").map(|qos| format!("QoS {qos}")));
    for flag in ["dup", "retain"] {
        add(cell(flag).map(|_| flag.to_owned()));
    }
    add(cell("topic"));
    add(cell("bytes").map(|bytes| format!("{bytes} B")));
    add(cell("outcome"));
    add(cell("offset").map(|offset| format!("at {offset}")));
    add(cell("subscribers").map(|count| format!("for {count} connected")));
    add(cell("reason").map(|reason| format!("({reason})")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_known_and_nothing_a_terminal_obeys() {
        let line = r#"{"time":"T","client":"oven","direction":"in","packet":"PUBLISH","id":7,"qos":1,"retain":true,
            "topic":"a/\u001bb","bytes":20,"outcome":"accepted","subscribers":2}"#;
        assert_eq!(
            told(line, false),
            "T  -> PUBLISH     #7 QoS 1 retain a/\\u{1b}b 20 B accepted for 2 connected"
        );
        assert!(told(line, true).contains("PUBLISH     oven: #7"));
        let line = r#"{"time":"T","client":"oven","direction":"connection","packet":"END","outcome":"by the client","reason":"disconnected"}"#;
        assert_eq!(told(line, false), "T  -- END         by the client (disconnected)");
        assert_eq!(told(r#"{"missed":3}"#, false), "# 3 lines came too fast to be shown");
        let begin = r#"{"client":"oven","topic":null,"connected_since":null}"#;
        assert_eq!(told(begin, false), "# following client oven; not connected");
    }
}
