//! `gateway log-level`: what a running gateway logs, shown and changed.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{ClientError, path};
use super::session::{RemoteArgs, Session};
use super::table::printable;

#[derive(Args, Debug)]
pub(crate) struct LogLevelCommandArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    log_level: LogLevelArgs,
}

/// What is to be logged.
#[derive(Args, Debug)]
pub(crate) struct LogLevelArgs {
    /// error, warn, info, debug, trace, or directives by module: info,gateway::connection=debug. Nothing: show what is logged. With
    /// --client: off, info (connects, ends, what did not go through), debug (messages, too) or trace (every packet)
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    /// Log this client on its own, whatever the level of the others; at most 16 of them at one time
    #[arg(long, requires = "level")]
    client: Option<String>,
    /// Log again what the configuration says
    #[arg(long, conflicts_with_all = ["level", "client"])]
    reset: bool,
}

impl LogLevelCommandArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).log_level(self.log_level, out)
    }
}

impl Session {
    fn log_level(&self, arguments: LogLevelArgs, out: &mut dyn Write) -> Result<bool, ClientError> {
        const PATH: &str = "/v1/logging";
        let logging = match arguments {
            LogLevelArgs { level: Some(level), client: Some(client), .. } => {
                let path = path(&["v1", "logging", "clients", &client]);
                self.client.send(Method::PUT, &path, &json!({ "level": level }))?
            }
            LogLevelArgs { level: Some(level), .. } => {
                self.client.send(Method::PUT, PATH, &json!({ "level": level }))?
            }
            LogLevelArgs { reset: true, .. } => self.client.send(Method::DELETE, PATH, &Value::Null)?,
            LogLevelArgs { .. } => self.client.get(PATH, Duration::ZERO)?,
        };
        self.print(&logging, logging_sheet, out)
    }
}

fn logging_sheet(logging: &Value) -> String {
    let cell = |key: &str| printable(logging.get(key).unwrap_or(&Value::Null));
    let mut text = format!("level       {}\nconfigured  {}\n", cell("level"), cell("configured"));
    for (client, level) in logging.get("clients").and_then(Value::as_object).into_iter().flatten() {
        text.push_str(&format!("client      {}  {}\n", printable(&client.as_str().into()), printable(level)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_shown_with_the_clients_that_are_logged_one_by_one() {
        let logging = json!({ "level": "debug", "configured": "info", "clients": { "oven": "trace" } });
        let expected = "level       debug\nconfigured  info\nclient      oven  trace\n";
        assert_eq!(logging_sheet(&logging), expected);
    }
}
