//! The gateway's books, read over HTTP like anyone else does.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::TIMEOUT;

/// One reading of `/metrics`: values by sample name, labels included, as printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads them from the admin listener at `admin`.
    ///
    /// # Panics
    /// When there is no sensible answer.
    #[must_use]
    pub fn read(admin: SocketAddr) -> Self {
        let body = get(admin, "/metrics");
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let lines = body.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// The sample of this very name, labels included: `gateway_connects_total{outcome="accepted"}`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn get(&self, sample: &str) -> f64 {
        self.find(sample).unwrap_or_else(|| panic!("{sample} is not among {:#?}", self.0.keys()))
    }

    /// The sample of this very name, if there is one.
    #[must_use]
    pub fn find(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// The sum over all labels of a family.
    ///
    /// # Panics
    /// When no sample is of that family.
    #[must_use]
    pub fn sum(&self, family: &str) -> f64 {
        let of_family = |name: &str| {
            name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        let mut samples =
            self.0.iter().filter(|(name, _)| of_family(name)).map(|(_, value)| value).peekable();
        assert!(samples.peek().is_some(), "{family} is not among {:#?}", self.0.keys());
        samples.sum()
    }

    /// The samples whose name begins with `prefix`, for messages.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> BTreeMap<&str, f64> {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (&**name, *value))
            .collect()
    }
}

/// What `/readyz` says at the admin listener at `admin`; the error is its body, with the reasons.
///
/// # Errors
/// When the gateway is not ready.
///
/// # Panics
/// When there is no sensible answer.
pub fn readiness(admin: SocketAddr) -> Result<(), String> {
    match ask(admin, "/readyz") {
        (200, _) => Ok(()),
        (503, body) => Err(body),
        other => panic!("/readyz: {other:?}"),
    }
}

/// The body of an answer 200 to a GET of `path` from the admin listener at `address`.
///
/// # Panics
/// When there is no such answer.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> String {
    let (status, body) = ask(address, path);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Status and body of the answer to a GET.
fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).expect("the admin listener accepts");
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "chunks are not understood here: {head}"
    );
    (status.expect("an HTTP status"), body.to_owned())
}
