//! `[telemetry]`: traces that are handed to others.

use std::time::Duration;

use super::fault::FaultKind;
use super::reader::{Given, Refusal, Section};
use super::sinks::http_url;

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryConfig {
    /// Where spans are posted, `http` or `https`, absolute; `None`: nothing is traced.
    pub traces_endpoint: Option<String>,
    /// The part of publishes that is traced, 0 to 1.
    pub traces_sample_ratio: f64,
    /// A publish that says whether it is sampled is taken at its word.
    pub traces_parent_based: bool,
    /// Names and values that are sent along with each request.
    pub traces_headers: Vec<(String, String)>,
    /// How long an answer may take.
    pub traces_timeout: Duration,
    /// Spans that may wait to be sent, and spans that may be open.
    pub traces_queue: usize,
    /// What the gateway is called in traces.
    pub service_name: String,
}

impl Eq for TelemetryConfig {}

/// Where receivers of OTLP over HTTP take traces, under an address that names no place of its own.
const TRACES_PATH: &str = "/v1/traces";
const HIDDEN: &str = "(hidden)";

pub(super) fn telemetry(mut section: Section<'_>) -> Option<TelemetryConfig> {
    let show = |url: &Option<String>| url.clone().unwrap_or_default().into();
    let accepted = "an absolute http or https URL; empty: nothing is traced";
    let traces_endpoint = section.string("traces_endpoint", accepted, endpoint, show);
    let traces_sample_ratio =
        section.read("traces_sample_ratio", "a number from 0 to 1", ratio, |ratio| (*ratio).into());
    let traces_parent_based = section.bool("traces_parent_based");
    let hidden = |headers: &Vec<_>| if headers.is_empty() { "" } else { HIDDEN }.into();
    let traces_headers =
        section.string("traces_headers", "name=value, parted by commas; empty: none", headers, hidden);
    let traces_timeout =
        section.duration("traces_timeout", Duration::from_millis(100)..=Duration::from_secs(60));
    let traces_queue = section.integer("traces_queue", 16..=1_000_000_u32);
    let accepted = "1 to 256 characters";
    let service_name = section.string("service_name", accepted, service_name, |name| name.clone().into());
    section.finish();
    Some(TelemetryConfig {
        traces_endpoint: traces_endpoint?,
        traces_sample_ratio: traces_sample_ratio?,
        traces_parent_based: traces_parent_based?,
        traces_headers: traces_headers?,
        traces_timeout: traces_timeout?,
        traces_queue: usize::try_from(traces_queue?).unwrap_or(usize::MAX),
        service_name: service_name?,
    })
}

fn endpoint(text: &str) -> Result<Option<String>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = http_url(text)?;
    // As every exporter has it: what names only a host means the usual place there.
    let place = url.split_once("://").and_then(|(_, rest)| rest.find(['/', '?']).map(|at| &rest[at..]));
    Ok(Some(match place {
        None | Some("/") => format!("{}{TRACES_PATH}", url.trim_end_matches('/')),
        Some(_) => url,
    }))
}

fn ratio(given: &Given) -> Result<f64, Refusal> {
    let ratio = given.number()?;
    match (0.0..=1.0).contains(&ratio) {
        true => Ok(ratio),
        false => Err(Refusal::new(FaultKind::OutOfRange, "is out of range")),
    }
}

fn headers(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        hyper::header::HeaderName::from_bytes(name.as_bytes()).ok()?;
        hyper::header::HeaderValue::from_str(value).ok()?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let headers: Option<Vec<_>> = pairs.map(pair).collect();
    headers.ok_or_else(|| Refusal::new(FaultKind::Invalid, "is no list of headers"))
}

fn service_name(text: &str) -> Result<String, Refusal> {
    match (1..=256).contains(&text.chars().count()) {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new(FaultKind::Invalid, "is no name")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigErrors, LoadOptions};

    fn load(set: &str) -> Result<Config, ConfigErrors> {
        Config::load(LoadOptions { sets: vec![format!("telemetry.{set}")], ..LoadOptions::default() })
    }

    #[test]
    fn an_endpoint_that_names_only_a_host_means_the_usual_place_there() {
        assert_eq!(load("traces_endpoint=").unwrap().telemetry.traces_endpoint, None);
        for (given, meant) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://collector/", "https://collector/v1/traces"),
            ("https://collector/in", "https://collector/in"),
            ("https://collector/v1/traces?x=1", "https://collector/v1/traces?x=1"),
        ] {
            let config = load(&format!("traces_endpoint={given}")).unwrap();
            assert_eq!(config.telemetry.traces_endpoint.as_deref(), Some(meant));
        }
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let config = load("traces_headers=Api-Key = a=b ,x-scope=1").unwrap();
        let expected = [("api-key".to_owned(), "a=b".to_owned()), ("x-scope".to_owned(), "1".to_owned())];
        assert_eq!(config.telemetry.traces_headers, expected);
        let options = LoadOptions {
            sets: vec!["telemetry.traces_headers=api-key=geheim".into()],
            ..LoadOptions::default()
        };
        let (_, settings) = Config::load_with_settings(options).unwrap();
        assert!(!settings.to_string().contains("geheim"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            "traces_endpoint=collector:4318",
            "traces_endpoint=grpc://collector",
            "traces_sample_ratio=1.1",
            "traces_sample_ratio=-0.1",
            "traces_sample_ratio=nan",
            "traces_sample_ratio=much",
            "traces_headers=geheim",
            "traces_headers=a b=geheim",
            "traces_queue=1",
            "traces_timeout=1ms",
            "service_name=",
        ] {
            let error = load(wrong).expect_err(wrong).to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
        assert!((load("traces_sample_ratio=1").unwrap().telemetry.traces_sample_ratio - 1.0).abs() < 1e-9);
    }
}
