//! The gateway's admin listener, as far as the simulator reads it: `/metrics`, before, during and after a run, and what it decided.
//!
//! Promise: a gateway that is slow, gone or killed costs the run nothing; what could not be read is a gap. An answer is read
//! up to [`ANSWER_BYTES_MAX`] and waited for [`PATIENCE`] at most. [`crate::report::gateway`] says what the numbers mean.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::mqtt::Broker;
use crate::report::gateway::{Reading, Tally};
use crate::shared::Shared;
use crate::shared::series::GatewaySample;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// Decisions that are asked for at once.
const DECISIONS_MAX: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

/// At the end: how often it is looked whether the gateway's books balance, and how long between looks.
const LOOKS: u32 = 15;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Nothing came in time.
    #[error("no answer within {PATIENCE:?}")]
    Late,
    /// Something else than what was asked for came.
    #[error("the gateway answered `{0}`")]
    Unexpected(String),
}

/// Whom a run asks, and who does it; nobody, where there is no gateway to ask.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    admin: Option<Broker>,
    follower: Option<Follower>,
}

impl Desk {
    /// Begins to ask, if the run knows of a gateway that can be asked. One that it has `just_started` is given time to answer,
    /// and is not asked if it never does.
    pub(crate) async fn open(shared: &Arc<Shared>, just_started: bool) -> Result<Self, AdminError> {
        let Some(admin) = shared.admin() else { return Ok(Desk::default()) };
        let mut first = read(&admin).await;
        for _ in 0..LOOKS {
            if first.is_ok() || !just_started {
                break;
            }
            sleep(BETWEEN_LOOKS).await;
            first = read(&admin).await;
        }
        let follower = match first {
            Ok(first) => Some(follow(admin.clone(), first, Arc::clone(shared))),
            Err(_) if just_started => None,
            Err(error) => return Err(error),
        };
        Ok(Desk { admin: Some(admin), follower })
    }

    /// The newest decisions that a query means, oldest first; none if there is no gateway to ask.
    pub(crate) async fn decisions(&self, query: &str) -> Result<Vec<Decided>, AdminError> {
        let Some(admin) = &self.admin else { return Ok(Vec::new()) };
        let path = format!("/v1/decisions?limit={DECISIONS_MAX}&{query}");
        let body = timeout(PATIENCE, get(admin, &path)).await.map_err(|_| AdminError::Late)??;
        decided(&body).ok_or_else(|| AdminError::Unexpected(body.chars().take(80).collect()))
    }

    /// Reads a last time; none if nobody was asked.
    pub(crate) async fn close(self) -> Option<Result<Tally, AdminError>> {
        Some(self.follower?.end().await)
    }
}

/// One decision of the gateway's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// The level then.
    pub(crate) level: u64,
}

/// Reads once a second, until it is ended or dropped.
#[derive(Debug)]
struct Follower {
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Tally, AdminError>>,
}

/// Reads the counters once.
async fn read(admin: &Broker) -> Result<Reading, AdminError> {
    let body = timeout(PATIENCE, get(admin, "/metrics")).await.map_err(|_| AdminError::Late)??;
    Ok(Reading::parse(&body))
}

/// Goes on reading from `first` on, and tells the run's series how the gateway is.
fn follow(admin: Broker, first: Reading, shared: Arc<Shared>) -> Follower {
    let (end, ended) = oneshot::channel();
    Follower { end: Some(end), task: tokio::spawn(keep_reading(admin, first, shared, ended)) }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Reads a last time, and waits a little for what is still on its way within the gateway.
    async fn end(mut self) -> Result<Tally, AdminError> {
        drop(self.end.take());
        (&mut self.task).await.unwrap_or_else(|error| Err(AdminError::Unexpected(error.to_string())))
    }
}

async fn keep_reading(
    admin: Broker,
    first: Reading,
    shared: Arc<Shared>,
    mut ended: oneshot::Receiver<()>,
) -> Result<Tally, AdminError> {
    let mut last = (Instant::now(), first.clone());
    let mut tally = Tally::new(first);
    let mut seconds = interval(SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {}
            _ = &mut ended => break,
        }
        // A gateway that was killed on purpose does not answer; that is what the run is about.
        let Ok(reading) = read(&admin).await else { continue };
        let now = Instant::now();
        shared.series.note_gateway(sample(&reading, &last.1, now - last.0));
        tally.note(reading.clone());
        last = (now, reading);
    }
    let mut looks = 0;
    loop {
        tally.note(read(&admin).await?);
        looks += 1;
        if tally.balances() || looks >= LOOKS {
            return Ok(tally);
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

/// A page of decisions, which come newest first.
fn decided(body: &str) -> Option<Vec<Decided>> {
    let page: serde_json::Value = serde_json::from_str(body).ok()?;
    let one = |decision: &serde_json::Value| {
        let at: jiff::Timestamp = decision.get("time")?.as_str()?.parse().ok()?;
        Some(Decided { at_ms: at.as_millisecond(), level: decision.get("level")?.as_u64()? })
    };
    page.get("decisions")?.as_array()?.iter().rev().map(one).collect()
}

/// How the gateway is, from two readings and the time between them.
fn sample(now: &Reading, before: &Reading, between: Duration) -> GatewaySample {
    let whole = |name: &str| now.get(name).filter(|value| *value >= 0.0).map(|value| value as u64);
    let cpu = |reading: &Reading| reading.get("process_cpu_seconds_total");
    let spent = cpu(now).zip(cpu(before)).map(|(now, before)| now - before);
    let cores = spent.filter(|spent| *spent >= 0.0 && !between.is_zero());
    GatewaySample {
        level: whole("gateway_level").and_then(|level| u8::try_from(level).ok()),
        pressure: now
            .by_label("gateway_pressure", "resource")
            .map(|(resource, pressure)| (resource.to_owned(), pressure))
            .collect(),
        cores: cores.map(|spent| (spent / between.as_secs_f64() * 1e3).round() / 1e3),
        resident_bytes: whole("process_resident_memory_bytes"),
        connections: whole("gateway_connections"),
    }
}

async fn get(admin: &Broker, path: &str) -> Result<String, AdminError> {
    let mut stream = TcpStream::connect((admin.host.as_str(), admin.port)).await?;
    // HTTP/1.0: the answer ends with the connection and is not in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {}:{}\r\n\r\n", admin.host, admin.port);
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(AdminError::Unexpected(status.chars().take(80).collect()));
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_level_pressure_and_what_the_process_took() {
        let before = Reading::parse("process_cpu_seconds_total 10.5\n");
        let now = Reading::parse(
            "process_cpu_seconds_total 11.3\nprocess_resident_memory_bytes 1000000\ngateway_level 3\n\
             gateway_pressure{resource=\"disk\"} 0.5\ngateway_connections 12\n",
        );
        let sample = sample(&now, &before, Duration::from_secs(1));
        assert_eq!((sample.level, sample.cores, sample.connections), (Some(3), Some(0.8), Some(12)));
        assert_eq!(sample.pressure, [("disk".to_owned(), 0.5)].into());
    }
}
