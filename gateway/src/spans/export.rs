//! Sending spans: one task, one request at a time, a batch in each, as OTLP over HTTP with protobuf.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | taken, but for those that the answer says are not |
//! | 429, 502, 503, 504, no answer | tried again, after 1, 2, 4, 8 and 16 s or what `Retry-After` says; then the batch is dropped |
//! | any other | the batch is dropped |
//!
//! What ends meanwhile waits in the queue, and is dropped when that is full. Nobody else waits for any of this.

use super::metrics::{self, Dropped};
use super::otlp::{self, Response};
use super::queue::Queue;
use super::random;
use super::span::Span;
use crate::config::TelemetryConfig;
use crate::http_client::HttpClient;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a span waits for others to go with it.
const EVERY: Duration = Duration::from_secs(1);
/// Times that a batch is tried.
const TRIES: u32 = 6;
/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What may be spent on the last batches when the gateway ends.
const LAST: Duration = Duration::from_secs(2);

/// Spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The certificates of this machine cannot be read.
    #[error("traces: the certificates of this machine cannot be read: {0}")]
    Certificates(#[from] std::io::Error),
}

/// Sends spans until it is told to stop.
pub struct Exporter {
    endpoint: String,
    headers: Vec<(String, String)>,
    timeout: Duration,
    service_name: String,
    /// Tells this run of the gateway from others.
    instance: String,
    queue: Arc<Queue>,
    client: HttpClient,
    /// The last request failed, which was said.
    is_down: bool,
}

/// A batch was not taken.
struct Failed {
    /// `None`: it never will be.
    again_after: Option<Duration>,
    reason: String,
}

impl Exporter {
    pub(super) fn new(
        endpoint: &str,
        config: &TelemetryConfig,
        queue: Arc<Queue>,
    ) -> Result<Self, ExporterError> {
        Ok(Self {
            endpoint: endpoint.to_owned(),
            headers: config.traces_headers.clone(),
            timeout: config.traces_timeout,
            service_name: config.service_name.clone(),
            instance: format!("{:016x}{:016x}", random::next(), random::next()),
            queue,
            client: HttpClient::for_url(endpoint)?,
            is_down: false,
        })
    }

    /// Until `stop` says so; then what waits is sent once more, if that is quick.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let stopped = async move {
            // An error means that the gateway was dropped, which ends it as well.
            let _ = stop.wait_for(|stopped| *stopped).await;
        };
        tokio::select! {
            () = stopped => {}
            () = self.send_on() => {}
        }
        let rest = async {
            loop {
                let spans = self.queue.take();
                if spans.is_empty() || self.post(&spans).await.is_err() {
                    return;
                }
            }
        };
        // Late or not, the gateway ends.
        let _ = tokio::time::timeout(LAST, rest).await;
    }

    async fn send_on(&mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.queue.filled() => {}
            }
            loop {
                let spans = self.queue.take();
                if spans.is_empty() {
                    break;
                }
                self.send(&spans).await;
            }
        }
    }

    /// Sends a batch, or gives it up.
    async fn send(&mut self, spans: &[Box<Span>]) {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            let failed = match self.post(spans).await {
                Ok(()) => {
                    if std::mem::take(&mut self.is_down) {
                        tracing::info!("traces are taken again");
                    }
                    return;
                }
                Err(failed) => failed,
            };
            metrics::failed();
            if !std::mem::replace(&mut self.is_down, true) {
                tracing::warn!(endpoint = %self.endpoint, reason = %failed.reason, "traces are not taken");
            }
            match failed.again_after {
                Some(_) if attempt == TRIES => metrics::dropped(Dropped::Unreachable, spans.len()),
                Some(asked) => tokio::time::sleep(pause.max(asked).min(PAUSE_MAX)).await,
                None => return metrics::dropped(Dropped::Refused, spans.len()),
            }
            pause *= 2;
        }
    }

    async fn post(&self, spans: &[Box<Span>]) -> Result<(), Failed> {
        let never = |reason: String| Failed { again_after: None, reason };
        let body = otlp::request(&self.service_name, &self.instance, spans);
        let mut request = Request::post(&self.endpoint)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .header(USER_AGENT, concat!("mqtt-gateway/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| never(error.to_string()))?;
        let answer = self
            .client
            .exchange(request, self.timeout)
            .await
            .map_err(|error| Failed { again_after: Some(Duration::ZERO), reason: error.to_string() })?;
        match answer.status.as_u16() {
            200..=299 => {
                let rejected = rejected(&answer.body).min(spans.len());
                metrics::exported(spans.len() - rejected);
                metrics::dropped(Dropped::Refused, rejected);
                Ok(())
            }
            429 | 502 | 503 | 504 => Err(Failed {
                again_after: Some(answer.retry_after.unwrap_or_default()),
                reason: answer.status.to_string(),
            }),
            _ => Err(never(answer.status.to_string())),
        }
    }
}

/// How many spans the collector says it did not take. An answer that is none says nothing.
fn rejected(answer: &[u8]) -> usize {
    let partial = Response::decode(answer).ok().and_then(|response| response.partial_success);
    let Some(partial) = partial.filter(|partial| partial.rejected_spans > 0) else { return 0 };
    tracing::debug!(rejected = partial.rejected_spans, reason = %partial.error_message, "spans are refused");
    usize::try_from(partial.rejected_spans).unwrap_or(usize::MAX)
}
