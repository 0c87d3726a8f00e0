//! `[[sink]]`: what each key accepts, and what it becomes.

use std::collections::HashSet;
use std::time::Duration;

use super::consumers::{ConsumerStart, filter, start, word};
use super::fault::FaultKind;
use super::postgres::{self, PostgresTls};
use super::reader::{Reader, Refusal, Section};
use super::types::StreamConfig;

/// One `[[sink]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// 1 to 64 of `a-z 0-9 - _`.
    pub name: String,
    /// The stream it writes.
    pub stream: String,
    /// Which of the stream's events.
    pub filter: String,
    /// Where it begins when it is new.
    pub from: ConsumerStart,
    /// Events in one batch, 1 to 10,000.
    pub batch_events: usize,
    /// Bytes in one batch, 1 KiB to 64 MiB; a larger event is a batch of its own.
    pub batch_bytes: usize,
    /// What it writes to.
    pub target: SinkTarget,
}

/// What a sink writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkTarget {
    /// A URL.
    Webhook(WebhookConfig),
    /// A table of PostgreSQL. Boxed for its size.
    Postgres(Box<PostgresConfig>),
}

impl SinkTarget {
    /// Its `type` in the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// A `[[sink]]` of `type = "webhook"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// `http` or `https`, absolute.
    pub url: String,
    /// What batches are signed with, if they are.
    pub secret: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A `[[sink]]` of `type = "postgres"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Where the database is and who connects.
    pub connection: tokio_postgres::Config,
    /// What of the connection is protected.
    pub tls: PostgresTls,
    /// The table, with its schema if it is not the default one: letters, digits and underscores.
    pub table: String,
    /// Whether the table is made when it is not there.
    pub create_table: bool,
}

/// The longest URL in bytes.
const URL_BYTES_MAX: usize = 2048;
/// What stands for a secret where the configuration is shown.
const HIDDEN: &str = "(hidden)";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Webhook,
    Postgres,
}

pub(super) fn sink(mut section: Section<'_>) -> Option<SinkConfig> {
    for (key, value) in [("filter", "#"), ("from", "latest"), ("batch_bytes", "1MiB")] {
        section.default(key, value);
    }
    section.default("batch_events", 1000);
    let text = |text: &String| text.clone().into();
    let name = section.string("name", "1 to 64 of a-z, 0-9, - and _", |name| word(name, "sink"), text);
    let kind = section.choice("type", &[("webhook", Kind::Webhook), ("postgres", Kind::Postgres)]);
    let stream = section.string("stream", "the name of a stream", |name| word(name, "stream"), text);
    let filter = section.string("filter", "a Topic Filter that does not begin with $", filter, text);
    let accepted = "earliest, latest, a log offset, an RFC 3339 time, or a span such as -15m";
    let from = section.read("from", accepted, start, |from| from.to_string().into());
    let batch_events = section.integer("batch_events", 1..=10_000_u16);
    let batch_bytes = section.size_in_memory("batch_bytes", 1 << 10..=64 << 20);
    let target = match kind {
        Some(Kind::Webhook) => webhook(&mut section),
        Some(Kind::Postgres) => database(&mut section),
        None => {
            // Which keys there are depends on it, so none is said to be unknown.
            section.skip(&["url", "secret", "timeout", "table", "create_table"]);
            None
        }
    };
    section.finish();
    Some(SinkConfig {
        name: name?,
        stream: stream?,
        filter: filter?,
        from: from?,
        batch_events: batch_events?.into(),
        batch_bytes: batch_bytes?,
        target: target?,
    })
}

fn webhook(section: &mut Section<'_>) -> Option<SinkTarget> {
    section.default("timeout", "10s");
    section.default("secret", "");
    let url = section.string("url", "an absolute http or https URL", http_url, |url| url.clone().into());
    let hidden = |secret: &Option<String>| secret.as_ref().map_or("", |_| HIDDEN).into();
    let secret = section.string("secret", "text; empty: batches are not signed", secret, hidden);
    let timeout = section.duration("timeout", Duration::from_millis(100)..=Duration::from_secs(300));
    Some(SinkTarget::Webhook(WebhookConfig { url: url?, secret: secret?, timeout: timeout? }))
}

fn database(section: &mut Section<'_>) -> Option<SinkTarget> {
    section.default("create_table", true);
    section.default("table", "gateway_events");
    let accepted = "postgresql://user:password@host:port/database?sslmode=verify-full, or key=value pairs";
    let connection = section.string("url", accepted, postgres::parse, |_| HIDDEN.into());
    let accepted = "letters, digits and underscores, with a schema before a full stop if there is one";
    let table = section.string("table", accepted, table, |table| table.clone().into());
    let create_table = section.bool("create_table");
    let ((connection, tls), table, create_table) = (connection?, table?, create_table?);
    Some(SinkTarget::Postgres(Box::new(PostgresConfig { connection, tls, table, create_table })))
}

/// Names are unique, and streams are there.
pub(super) fn sinks_fit(reader: &mut Reader, sinks: &[SinkConfig], streams: &[StreamConfig]) {
    let mut seen = HashSet::new();
    for (index, sink) in sinks.iter().enumerate() {
        let holds = seen.insert(sink.name.as_str());
        let problem = format!("there is another sink named \"{}\"", sink.name);
        reader.relation(FaultKind::Relation, &format!("sink.{index}.name"), holds, &problem, String::new());

        let holds = streams.iter().any(|stream| stream.name == sink.stream);
        let problem = format!("there is no stream named \"{}\"", sink.stream);
        let names: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
        let key = format!("sink.{index}.stream");
        reader.relation(FaultKind::Relation, &key, holds, &problem, names.join(", "));
    }
}

pub(super) fn http_url(text: &str) -> Result<String, Refusal> {
    let refuse = |problem: &str| Err(Refusal::new(FaultKind::Invalid, problem));
    if text.len() > URL_BYTES_MAX {
        return refuse("is too long");
    }
    match text.parse::<hyper::Uri>() {
        Err(_) => refuse("is no URL"),
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => refuse("is neither http nor https"),
        Ok(uri) if uri.host().is_none_or(str::is_empty) => refuse("names no host"),
        Ok(_) => Ok(text.to_owned()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form of a parser")]
fn secret(text: &str) -> Result<Option<String>, Refusal> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn table(text: &str) -> Result<String, Refusal> {
    let is_name = |name: &str| {
        (1..=63).contains(&name.len())
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    match text.split('.').count() <= 2 && text.split('.').all(is_name) {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new(FaultKind::Invalid, "is not the name of a table in lower case")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigErrors, LoadOptions};
    use super::*;

    fn load(sink: &str) -> Result<Config, ConfigErrors> {
        let options = LoadOptions { sets: vec![format!("sink=[{{{sink}}}]")], ..LoadOptions::default() };
        Config::load(options)
    }

    const NAMED: &str = "name='a', stream='telemetry'";

    #[test]
    fn a_webhook_needs_a_url_and_has_defaults_for_the_rest() {
        let config = load(&format!("{NAMED}, type='webhook', url='https://example.com/in'")).unwrap();
        let target = WebhookConfig {
            url: "https://example.com/in".into(),
            secret: None,
            timeout: Duration::from_secs(10),
        };
        assert_eq!(config.sinks[0].target, SinkTarget::Webhook(target));
        assert_eq!((config.sinks[0].batch_events, config.sinks[0].batch_bytes), (1000, 1 << 20));
        assert_eq!(config.sinks[0].from, ConsumerStart::Latest);
    }

    #[test]
    fn a_database_needs_a_url_and_has_defaults_for_the_rest() {
        let config = load(&format!("{NAMED}, type='postgres', url='postgresql://u:p@localhost/x'")).unwrap();
        let SinkTarget::Postgres(target) = &config.sinks[0].target else { panic!() };
        assert_eq!((target.table.as_str(), target.create_table), ("gateway_events", true));
        assert_eq!(target.connection.get_dbname(), Some("x"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            "type='kafka', url='x'",
            "type='webhook'",
            "type='webhook', url='ftp://x/'",
            "type='webhook', url='/in'",
            "type='webhook', url='http://x/', table='t'",
            "type='webhook', url='http://x/', timeout='1ms'",
            "type='postgres', url='postgresql://localhost/x', table='a; drop table b'",
            "type='postgres', url='postgresql://localhost/x', table='a.b.c'",
            "type='postgres', url='postgresql://localhost/x?sslmode=prefer'",
            "type='postgres', url='host='",
            "type='postgres', url='postgresql://localhost/x', secret='x'",
            "type='webhook', url='http://x/', stream='nothing'",
        ] {
            let named = if wrong.contains("stream=") { "name='a'" } else { NAMED };
            assert!(load(&format!("{named}, {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let sink = format!("{NAMED}, type='webhook', url='http://x/', secret='geheim'");
        let options = LoadOptions { sets: vec![format!("sink=[{{{sink}}}]")], ..LoadOptions::default() };
        let (_, settings) = Config::load_with_settings(options).unwrap();
        let shown = settings.to_string();
        assert!(shown.contains(HIDDEN) && !shown.contains("geheim"), "{shown}");
    }
}
