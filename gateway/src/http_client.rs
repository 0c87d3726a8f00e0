//! Posting to others over HTTP/1.1, with TLS where the URL says so.
//!
//! Promises: a request ends within the time it is given, an answer is read to a bound, and one idle connection is kept. Refuses to know:
//! what an answer means, and whether to try again. Used by `sinks/webhook` and `spans`.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::RETRY_AFTER;
use hyper::{Request, StatusCode};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 4096;

/// Keeps a connection to whom it posts. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Of any class.
    pub status: StatusCode,
    /// `Retry-After`, where it is in seconds.
    pub retry_after: Option<Duration>,
    /// At most 4,096 bytes; none of a longer one.
    pub body: Bytes,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Not in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// No connection, or it broke.
    #[error("{0}")]
    Connection(String),
}

impl HttpClient {
    /// Nothing is connected yet. `url` is the one to be posted to: where it is not `https`, no certificates are needed.
    ///
    /// # Errors
    /// The certificates of this machine cannot be read.
    pub fn for_url(url: &str) -> std::io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(std::io::Error::other)?;
        let builder = match url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            true => builder.with_native_roots()?,
            false => builder.with_root_certificates(rustls::RootCertStore::empty()),
        };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(builder.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { client })
    }

    /// Sends `request` and reads its answer, all within `timeout`.
    ///
    /// # Errors
    /// [`ExchangeError`]; whether the request arrived is not known then.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Answer, ExchangeError> {
        match tokio::time::timeout(timeout, self.answer(request)).await {
            Err(_) => Err(ExchangeError::Timeout(timeout)),
            Ok(Err(error)) => Err(ExchangeError::Connection(chain(&error))),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, hyper_util::client::legacy::Error> {
        let response = self.client.request(request).await?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        // Read to its end, so that the connection can be used again; a long one ends it.
        let body = match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        Ok(Answer { status, retry_after, body })
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
