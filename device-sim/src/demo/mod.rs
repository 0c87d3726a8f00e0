//! `device-sim demo`: the gateway and a fleet in one process, and a live view of both.
//!
//! Promise: nothing is left behind. The gateway's data lies in a temporary directory that is removed on every way out,
//! the terminal is as it was, and the exit code is the verdict. What the gateway has to say (warnings and worse) is kept
//! off the view and printed after it.
//!
//! [`host`] embeds the gateway, [`scene`] is the scenario, [`crate::live`] shows how it goes.

mod host;
mod notices;
mod scene;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::command::CommandError;
use crate::live::screen;
use crate::live::view::{View, Words};
use crate::plan::Plan;
use crate::process;
use crate::report::{Verdict, text};
use crate::run;
use crate::scenario::{DEVICES_MAX, duration};
use crate::shared::Shared;
use crate::stop::listen_for_signals;
use host::Host;
use notices::Notices;

/// What the demo may be told.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many devices.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// Events per second of the whole fleet.
    #[arg(long, value_name = "EVENTS_PER_S", default_value_t = 6_000.0, value_parser = parse_rate)]
    rate: f64,
    /// For how long events are due, such as 30s; until Ctrl-C if not given.
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// The seed of everything random.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// One line per second instead of a live view.
    #[arg(long)]
    plain: bool,
}

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs) -> Result<Verdict, CommandError> {
    let stop = listen_for_signals()?;
    let live = !args.plain && io::stdout().is_terminal();
    let notices = Notices::install(live);
    // Both ends of every connection are in this process: twice the files.
    let files = 2 * u64::from(args.devices) + 512;
    process::allow_open_files(files).map_err(|limit| {
        CommandError::CouldNotRun(format!(
            "{files} open files are needed and the limit is {limit}; use fewer devices"
        ))
    })?;
    let host = Host::start().await?;
    let mqtt = host.mqtt();
    let plan = Plan {
        scenario: scene::scenario(args.devices, args.rate, args.duration),
        host: mqtt.ip().to_string(),
        port: mqtt.port(),
        seed: args.seed.unwrap_or_else(process::fresh_number),
        epoch: process::fresh_number() as u32,
    };
    let shared = Shared::of(&plan);
    let (end_view, view_ends) = tokio::sync::oneshot::channel();
    let view = View::new(Arc::clone(&shared), &plan, words(&host));
    let drawing = tokio::spawn(screen::show(view, Box::new(io::stdout()), live, view_ends));
    let outcome = run::execute(&plan, &shared, stop, u64::from(args.devices)).await;
    drop(end_view);
    // The view ends when its channel does; it has nothing to report.
    let _ = drawing.await;
    host.shutdown().await;
    notices.print();
    let report = outcome.map_err(|error| CommandError::CouldNotRun(error.to_string()))?;
    io::stdout()
        .lock()
        .write_all(format!("\n{}", text::render(&report)).as_bytes())
        .map_err(|error| CommandError::CouldNotRun(format!("cannot write the report: {error}")))?;
    Ok(report.verdict)
}

fn words(host: &Host) -> Words {
    let mqtt = host.mqtt();
    let metrics = host.admin().map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}/metrics"));
    let port_option = if mqtt.port() == 1_883 { String::new() } else { format!(" -p {}", mqtt.port()) };
    let mut notes = vec![
        format!("MQTT      {mqtt}   metrics {metrics}"),
        format!("look in   mosquitto_sub{port_option} -t 'devices/#'"),
    ];
    if !host.has_usual_ports() {
        notes.push("          (a usual port is taken, so the kernel chose)".to_owned());
    }
    Words { title: "gateway demo".to_owned(), notes, cpu_of: "gateway and fleet" }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("must be a number of events per second, 0.1 to 1000000".to_owned()),
    }
}
