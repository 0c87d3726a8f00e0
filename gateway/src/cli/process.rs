//! `gateway reload`, `gateway drain`: the process of a running gateway is asked for what HUP and TERM would have it do.

use std::io::Write;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::ClientError;
use super::session::{RemoteArgs, Session, items};
use super::table::printable;

/// How long a drain is waited for; the gateway gives up on connections long before.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DrainCommandArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    drain: DrainArgs,
}

/// How to drain.
#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// Tell clients of MQTT 5 to use another server (0x9C), and which: HOST, HOST:PORT, or several parted by spaces
    #[arg(long, value_name = "HOST:PORT")]
    server_reference: Option<String>,
    /// Return once the drain has begun rather than when the process has ended
    #[arg(long)]
    no_wait: bool,
}

impl ReloadArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).reload(out)
    }
}

impl DrainCommandArgs {
    /// Asks, and prints the answer.
    pub(crate) fn ask(self, out: &mut dyn Write) -> Result<bool, ClientError> {
        Session::with(&self.remote).drain(self.drain, out)
    }
}

impl Session {
    fn reload(&self, out: &mut dyn Write) -> Result<bool, ClientError> {
        let reloaded = self.client.send(Method::POST, "/v1/reload", &json!({}))?;
        self.print(&reloaded, reload_sheet, out)
    }

    /// False if the process goes on for longer than a drain may take.
    fn drain(&self, arguments: DrainArgs, out: &mut dyn Write) -> Result<bool, ClientError> {
        let started = self.started()?;
        let body = json!({ "server_reference": arguments.server_reference });
        let draining = self.client.send(Method::POST, "/v1/drain", &body)?;
        let tell = |draining: &Value| {
            let connections = printable(draining.get("connections").unwrap_or(&Value::Null));
            format!("draining: {connections} connections are told to go, and the process ends\n")
        };
        if arguments.no_wait {
            return self.print(&draining, tell, out);
        }
        if !self.is_json() {
            out.write_all(tell(&draining).as_bytes())?;
            out.flush()?;
        }
        let has_ended = self.await_end(&started);
        let mut answer = draining;
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("ended".to_owned(), has_ended.into());
        }
        let tell = |_: &Value| match has_ended {
            true => "drained: the process has ended\n".to_owned(),
            false => format!("it has not ended after {} s: see its log\n", DRAIN_TIMEOUT.as_secs()),
        };
        self.print(&answer, tell, out)?;
        Ok(has_ended)
    }

    /// When the gateway that answers now was started. Another one that is started in its place says otherwise.
    fn started(&self) -> Result<Value, ClientError> {
        let mut status = self.client.get("/v1/status", Duration::ZERO)?;
        Ok(status.get_mut("started").map(Value::take).unwrap_or_default())
    }

    fn await_end(&self, started: &Value) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < DRAIN_TIMEOUT {
            match self.started() {
                Ok(now) if now == *started => park_timeout(LOOK_EVERY),
                Err(ClientError::Refused { .. }) => park_timeout(LOOK_EVERY),
                Ok(_) | Err(_) => return true,
            }
        }
        false
    }
}

fn reload_sheet(reloaded: &Value) -> String {
    let keys = |key: &str| items(reloaded, key).iter().map(printable).collect::<Vec<_>>();
    let mut text = String::new();
    let level = printable(reloaded.get("log_level").unwrap_or(&Value::Null));
    for key in keys("applied") {
        text.push_str(&format!("applied        {key}\n"));
    }
    for key in keys("needs_restart") {
        text.push_str(&format!("needs restart  {key}\n"));
    }
    if text.is_empty() {
        text.push_str("nothing has changed\n");
    }
    text.push_str(&format!("log level      {level}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_and_what_waits_for_a_restart_are_told_apart() {
        let text = reload_sheet(&json!({
            "applied": ["log.level"], "needs_restart": ["mqtt.max_qos", "stream.0.topics"], "log_level": "debug",
        }));
        let expected = "\
applied        log.level
needs restart  mqtt.max_qos
needs restart  stream.0.topics
log level      debug
";
        assert_eq!(text, expected);
        let text = reload_sheet(&json!({ "applied": [], "needs_restart": [], "log_level": "info" }));
        assert_eq!(text, "nothing has changed\nlog level      info\n");
    }
}
