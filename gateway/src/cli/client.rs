//! The admin API from the other side: one request, one answer, and which of the things that can go wrong did.
//!
//! No redirect is followed and no proxy is asked: what is talked to is the address that was given.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Beyond what the gateway was asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer that is read as a whole. The largest there are come from `next`.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Bytes of one line of an answer that goes on.
const PROBLEM_BYTES_MAX: u64 = 1 << 20;

/// What was asked for was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody is there, or nobody answers.
    #[error(
        "no gateway answers at {address}: {source}; is it running with [admin] enabled, and is --admin (or GATEWAY_ADMIN) \
         its address?"
    )]
    Unreachable {
        /// Who was asked.
        address: SocketAddr,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// The gateway said no.
    #[error("{title}: {detail}{}", listed(.faults))]
    Refused {
        /// The kind of the problem, in words.
        title: String,
        /// What exactly.
        detail: String,
        /// What is wrong with the request, each with its key.
        faults: Vec<String>,
    },
    /// What answered is no gateway, or one that speaks otherwise.
    #[error(
        "{address} answers with something that is not understood ({what}); is it a gateway, and of this version?"
    )]
    Foreign {
        /// Who was asked.
        address: SocketAddr,
        /// What came.
        what: String,
    },
    /// The answer cannot be passed on.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

fn listed(faults: &[String]) -> String {
    faults.iter().map(|fault| format!("\n  - {fault}")).collect()
}

/// Talks to one gateway.
pub(crate) struct Client {
    address: SocketAddr,
    agent: Agent,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .build();
        Self { address, agent: config.into() }
    }

    /// Asks, and reads the answer, which is JSON or nothing. The gateway may take as long as `wait` before it answers.
    pub(crate) fn get(&self, path: &str, wait: Duration) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, None, Some(wait)).and_then(|response| self.read(response))
    }

    /// Has something done.
    pub(crate) fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, ClientError> {
        let body = (method != Method::DELETE).then_some(body);
        self.ask(method, path, body, Some(Duration::ZERO)).and_then(|response| self.read(response))
    }

    /// The lines of an answer that goes on.
    pub(crate) fn lines(
        &self,
        path: &str,
    ) -> Result<impl Iterator<Item = Result<String, ClientError>>, ClientError> {
        let response = self.ask(Method::GET, path, None, None)?;
        let address = self.address;
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        Ok(lines.map(move |line| {
            line.map_err(|error| ClientError::Unreachable { address, source: Box::new(error.into()) })
        }))
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        wait: Option<Duration>,
    ) -> Result<Response<Body>, ClientError> {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let timeout = wait.map(|wait| wait + ANSWER_TIMEOUT);
        let answer = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string())
                .map_err(ureq::Error::from)
                .and_then(|request| self.run(request, timeout)),
            None => {
                request.body(()).map_err(ureq::Error::from).and_then(|request| self.run(request, timeout))
            }
        };
        let unreachable =
            |source| ClientError::Unreachable { address: self.address, source: Box::new(source) };
        let response = answer.map_err(unreachable)?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response)) }
    }

    fn run(
        &self,
        request: Request<impl ureq::AsSendBody>,
        timeout: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request).timeout_recv_response(timeout).build();
        self.agent.run(request)
    }

    fn read(&self, response: Response<Body>) -> Result<Value, ClientError> {
        let text = response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let text = text.map_err(|error| self.foreign(error.to_string()))?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&text).map_err(|error| self.foreign(error.to_string()))
    }

    fn refusal(&self, response: Response<Body>) -> ClientError {
        let status = response.status();
        let text = response.into_body().into_with_config().limit(PROBLEM_BYTES_MAX).read_to_vec();
        let problem: Value = serde_json::from_slice(&text.unwrap_or_default()).unwrap_or_default();
        let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(title), Some(detail)) = (word(&problem, "title"), word(&problem, "detail")) else {
            return self.foreign(format!("status {status}"));
        };
        let faults = problem.get("faults").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let faults = faults
            .iter()
            .filter_map(|fault| Some(format!("{}: {}", word(fault, "at")?, word(fault, "detail")?)));
        ClientError::Refused { title, detail, faults: faults.collect() }
    }

    fn foreign(&self, what: String) -> ClientError {
        ClientError::Foreign { address: self.address, what }
    }
}

/// A path out of parts that may have anything in them.
pub(crate) fn path(parts: &[&str]) -> String {
    parts.iter().flat_map(|part| ["/".to_owned(), encoded(part)]).collect()
}

/// A query out of those keys that have a value.
pub(crate) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut query = String::new();
    for (key, value) in pairs {
        if let Some(value) = value {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&format!("{key}={}", encoded(value)));
        }
    }
    query
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// What a server that gives one answer is asked, and what is made of the answer.
    fn exchange(
        head: &'static str,
        body: &'static str,
        ask: impl FnOnce(&Client) -> Result<Value, ClientError>,
    ) -> (String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut piece = [0; 4096];
            let is_whole = |asked: &[u8]| match asked.starts_with(b"POST") {
                true => asked.ends_with(b"}"),
                false => asked.ends_with(b"\r\n\r\n"),
            };
            while !is_whole(&asked) {
                let read = stream.read(&mut piece).unwrap();
                asked.extend_from_slice(&piece[..read]);
            }
            let length = body.len();
            write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
            String::from_utf8(asked).unwrap()
        });
        let result = ask(&client).map_or_else(|error| error.to_string(), |value| value.to_string());
        (server.join().unwrap(), result)
    }

    #[test]
    fn names_with_anything_in_them_are_one_part_of_a_path() {
        assert_eq!(path(&["v1", "consumers", "sink/a b?ä"]), "/v1/consumers/sink%2Fa%20b%3F%C3%A4");
        let pairs = [("topic", Some("a/+/#".to_owned())), ("cause", None), ("limit", Some("5".to_owned()))];
        assert_eq!(query(&pairs), "?topic=a%2F%2B%2F%23&limit=5");
        assert_eq!(query(&[("cause", None)]), "");
    }

    #[test]
    fn what_changes_something_is_sent_as_json() {
        let body = serde_json::json!({"ids": ["7-1"]});
        let (asked, result) =
            exchange("200 OK", r#"{"settled":1}"#, |client| client.send(Method::POST, "/v1/x", &body));
        assert_eq!(result, r#"{"settled":1}"#);
        assert!(asked.starts_with("POST /v1/x HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_ascii_lowercase().contains("content-type: application/json\r\n"), "{asked}");
        assert!(asked.ends_with(r#"{"ids":["7-1"]}"#), "{asked}");
    }

    #[test]
    fn a_problem_is_said_with_its_faults() {
        let problem = r#"{"title": "Not valid", "detail": "2 faults", "faults": [{"at": "a", "detail": "x"}, {"at": "b", "detail": "y"}]}"#;
        let (_, result) = exchange("400 Bad Request", problem, |client| client.get("/v1/x", Duration::ZERO));
        assert_eq!(result, "Not valid: 2 faults\n  - a: x\n  - b: y");
    }

    #[test]
    fn somebody_else_and_nobody_are_told_apart() {
        let (_, result) = exchange("302 Found\r\nLocation: http://127.0.0.1:1/", "", |client| {
            client.get("/v1/x", Duration::ZERO)
        });
        assert!(result.contains("not understood (status 302 Found)"), "{result}");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Client::new(address).get("/v1/x", Duration::ZERO).unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("no gateway answers at {address}: ")), "{error}");
    }
}
