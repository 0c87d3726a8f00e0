//! `gateway topics`: one level of the tree of topics, with rates.
//!
//! A gateway counts topics only while somebody asks, so the first answer knows nothing yet: it is asked, and asked again when it has counted
//! for a while.

use std::io::Write;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ClientError, query};
use super::session::{RemoteArgs, Session, duration, items};
use super::table::{Column, printable, table};

const TOPICS: [Column; 6] = [
    ("TOPIC", "topic"),
    ("TOPICS", "topics"),
    ("MORE BELOW", "has_children"),
    ("EVENTS", "events"),
    ("EVENTS/S", "events_per_sec"),
    ("BYTES/S", "bytes_per_sec"),
];
/// Levels of one page: what the gateway gives at most.
const PAGE: usize = 1000;

#[derive(Args, Debug)]
pub(crate) struct TopicsCommandArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    topics: TopicsArgs,
}

/// Which part of the tree.
#[derive(Args, Debug)]
pub(crate) struct TopicsArgs {
    /// Show what is below this topic: devices, or devices/oven-7 [default: the first level]
    #[arg(value_name = "TOPIC")]
    below: Option<String>,
    /// Count for so long at least, if nobody has looked until now
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    over: Duration,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    /// Go on where a list ended: what it said then
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
}

impl TopicsCommandArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).topics(self.topics, out)
    }
}

impl Session {
    fn topics(&self, arguments: TopicsArgs, out: &mut dyn Write) -> Result<bool, ClientError> {
        let TopicsArgs { below, over, limit, after } = arguments;
        let ask = |after: Option<String>, limit: usize| {
            let pairs = [
                ("prefix", below.clone()),
                ("limit", Some(limit.clamp(1, PAGE).to_string())),
                ("after", after),
            ];
            self.client.get(&format!("/v1/topics{}", query(&pairs)), Duration::ZERO)
        };
        let counted = Duration::from_millis(number(&ask(None, 1)?, "counted_ms"));
        rest(over.saturating_sub(counted));

        let mut page = ask(after, limit)?;
        let mut levels = items(&page, "topics").to_vec();
        while let Some(next) = page.get("next").and_then(Value::as_str).map(str::to_owned)
            && levels.len() < limit
        {
            page = ask(Some(next), limit - levels.len())?;
            levels.extend_from_slice(items(&page, "topics"));
        }
        if let Some(page) = page.as_object_mut() {
            page.insert("topics".to_owned(), json!(levels));
        }
        self.print(&page, topics_table, out)
    }
}

/// While the gateway counts.
#[expect(clippy::disallowed_methods, reason = "there is nothing to wait for but the time itself")]
fn rest(time: Duration) {
    thread::sleep(time);
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn topics_table(page: &Value) -> String {
    let mut text = table(&TOPICS, items(page, "topics"));
    let other = page.get("other").map_or(0, |other| number(other, "events"));
    if other > 0 {
        text.push_str(&format!("{other} events of topics that found no room in the table\n"));
    }
    text.push_str(&format!("counted for {:.1} s\n", number(page, "counted_ms") as f64 / 1000.0));
    if let Some(next) = page.get("next").and_then(Value::as_str) {
        text.push_str(&format!("there are more: --after {}\n", printable(&next.into())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_line_and_what_it_leaves_out_is_said() {
        let level = json!({
            "name": "oven-7", "topic": "devices/oven-7", "topics": 3, "has_children": true, "events": 120,
            "events_per_sec": 12.25, "bytes_per_sec": 960.0,
        });
        let mut page = json!({
            "prefix": "devices", "counted_ms": 3100, "topics": [level], "next": null,
            "other": { "events": 0, "events_per_sec": 0.0, "bytes_per_sec": 0.0 },
        });
        let expected = "\
TOPIC           TOPICS  MORE BELOW  EVENTS  EVENTS/S  BYTES/S
devices/oven-7       3  true           120     12.25    960.0
counted for 3.1 s
";
        assert_eq!(topics_table(&page), expected);
        page["other"]["events"] = json!(7);
        page["next"] = json!("oven-7");
        let text = topics_table(&page);
        assert!(text.contains("\n7 events of topics that found no room in the table\n"), "{text}");
        assert!(text.ends_with("\nthere are more: --after oven-7\n"), "{text}");
    }
}
