//! A sink that posts batches of events to a URL.
//!
//! One POST of JSON for each batch, in the order of the log, one at a time. What the answer means:
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | written |
//! | 408, 425, 429, 5xx, no answer | not now: tried again, with a longer and longer pause, or the one of `Retry-After` |
//! | 3xx, 401, 403, 404, 405, 410 | the address or the credentials are wrong: the sink is down until they are right |
//! | any other 4xx | refused for good: the batch is halved until the event is found, which becomes a dead letter |
//!
//! A batch may come twice, after a crash or an answer that was lost. `Idempotency-Key` is the same then as long as the batch is, and
//! every event carries its offset, by which a receiver can tell.

mod body;
mod signature;

use super::target::{Failure, Outage, OutageKind, Row, Target};
use crate::config::WebhookConfig;
use crate::http_client::{ExchangeError, HttpClient};
use gateway_storage::Offset;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use std::time::Duration;

/// Bytes of an answer that are shown.
const ANSWER_SHOWN: usize = 200;
/// What proves that a batch comes from this gateway; see [`signature`].
const SIGNATURE: HeaderName = HeaderName::from_static("x-gateway-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The target of a webhook sink.
pub(super) struct Webhook {
    config: WebhookConfig,
    /// The sink's name, as it stands in requests.
    name: Box<str>,
    client: HttpClient,
}

impl Webhook {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// The certificates of this machine cannot be read.
    pub(super) fn new(name: &str, config: WebhookConfig) -> std::io::Result<Self> {
        let client = HttpClient::for_url(&config.url)?;
        Ok(Self { config, name: name.into(), client })
    }

    async fn post(&self, rows: &[Row<'_>]) -> Result<(), Failure> {
        let body = body::of(&self.name, rows);
        let request = self.request(rows, body)?;
        let answer = self.client.exchange(request, self.config.timeout).await.map_err(|error| {
            let kind = match &error {
                ExchangeError::Timeout(_) => OutageKind::Timeout,
                ExchangeError::Connection(_) => OutageKind::Connection,
            };
            Outage::new(kind, error.to_string())
        })?;
        judge(answer.status, answer.retry_after, &String::from_utf8_lossy(&answer.body))
    }

    fn request(&self, rows: &[Row<'_>], body: Vec<u8>) -> Result<Request<Full<Bytes>>, Failure> {
        let at = |row: Option<&Row<'_>>| row.map_or(0, |row| row.offset.get());
        let key = format!("{}/{}-{}", self.name, at(rows.first()), at(rows.last()));
        let mut request = Request::post(&self.config.url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(USER_AGENT, concat!("mqtt-gateway/", env!("CARGO_PKG_VERSION")))
            .header(IDEMPOTENCY_KEY, key);
        if let Some(secret) = &self.config.secret {
            let at_secs = crate::clock::unix_ms() / 1000;
            request = request.header(SIGNATURE, signature::of(secret.as_bytes(), at_secs, &body));
        }
        let request = request.body(Full::new(Bytes::from(body)));
        // The URL was checked when the configuration was read.
        request.map_err(|error| Outage::new(OutageKind::Configuration, error.to_string()).into())
    }
}

fn judge(status: StatusCode, retry_after: Option<Duration>, text: &str) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let shown: String = text.trim().chars().filter(|c| !c.is_control()).take(ANSWER_SHOWN).collect();
    let message = if shown.is_empty() { status.to_string() } else { format!("{status}: {shown}") };
    let kind = match status.as_u16() {
        408 | 425 | 429 | 503 => OutageKind::Busy,
        300..=399 | 401 | 403 | 404 | 405 | 407 | 410 => OutageKind::Configuration,
        400..=499 => return Err(Failure::Refused(message)),
        _ => OutageKind::Server,
    };
    Err(Outage { kind, message, retry_after }.into())
}

impl Target for Webhook {
    async fn open(&mut self, _: u64) -> Result<Option<Offset>, Outage> {
        Ok(None)
    }

    async fn write(&mut self, rows: &[Row<'_>], _: Offset) -> Result<(), Failure> {
        self.post(rows).await
    }

    async fn write_late(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        self.post(std::slice::from_ref(row)).await
    }

    async fn lost(&mut self) -> Outage {
        // Known only when the next batch is posted.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_answers_means_what_the_table_says() {
        let kind = |status: u16| match judge(StatusCode::from_u16(status).unwrap(), None, "") {
            Ok(()) => "written",
            Err(Failure::Refused(_)) => "refused",
            Err(Failure::Outage(outage)) => outage.kind.as_str(),
        };
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(kind(status), "written", "{status}");
        }
        for status in [400, 402, 409, 413, 415, 418, 422, 451] {
            assert_eq!(kind(status), "refused", "{status}");
        }
        for status in [408, 425, 429, 503] {
            assert_eq!(kind(status), "busy", "{status}");
        }
        for status in [301, 302, 307, 401, 403, 404, 405, 407, 410] {
            assert_eq!(kind(status), "configuration", "{status}");
        }
        for status in [500, 501, 502, 504, 599] {
            assert_eq!(kind(status), "server", "{status}");
        }
    }

    #[test]
    fn what_the_target_says_is_shown_but_not_all_of_it_nor_its_control_characters() {
        let long = format!("no\u{1b}[31m\r\n{}", "x".repeat(1000));
        let Err(Failure::Refused(message)) = judge(StatusCode::BAD_REQUEST, None, &long) else { panic!() };
        assert!(message.starts_with("400 Bad Request: no[31mxxx"));
        assert!(message.len() < 250 && !message.contains('\u{1b}'));
    }
}
