//! A question to a running gateway: where it is, how its answer is printed, and what questions have in common.
//!
//! With `--output json` the answer is printed as the gateway gives it, all pages of a list as one.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gateway::config::parse_duration;
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::client::{Client, ClientError, query};
use super::table::{Column, printable, sheet, table};

/// Where the environment says what `--admin` would.
pub(crate) const ADMIN_VARIABLE: &str = "GATEWAY_ADMIN";

/// Items of one page: what the gateway gives at most.
const PAGE: usize = 1000;
/// Names in a list; the gateway has fewer.
const NAMES_MAX: usize = 1_000_000;

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

/// One question and its answer.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) output: Output,
}

impl Session {
    /// With the gateway that is meant.
    pub(super) fn with(remote: &RemoteArgs) -> Self {
        Self { client: Client::new(remote.admin), output: remote.output }
    }

    /// All pages of a list of names.
    pub(super) fn list(
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

    pub(super) fn show(&self, path: &str, out: &mut dyn Write) -> Result<bool, ClientError> {
        let item = self.client.get(path, Duration::ZERO)?;
        self.print(&item, sheet, out)
    }

    pub(super) fn remove(&self, path: &str) -> Result<bool, ClientError> {
        self.client.send(Method::DELETE, path, &Value::Null).map(|_| true)
    }

    pub(super) fn count(
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

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration with its unit, like 5s or 500ms".to_owned())
}
