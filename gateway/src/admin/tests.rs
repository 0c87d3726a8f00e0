//! A plain TCP client against the real listener.

use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::server::Limits;
use super::*;

#[derive(Default)]
struct Reasons(Mutex<Vec<NotReady>>);

impl Readiness for Reasons {
    fn reasons(&self) -> Vec<NotReady> {
        self.0.lock().unwrap().clone()
    }
}

struct Server {
    address: SocketAddr,
    reasons: Arc<Reasons>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(limits: Limits) -> Server {
    start_with(limits, axum::Router::new()).await
}

async fn start_with(limits: Limits, more: axum::Router) -> Server {
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = admin.local_addr();
    let reasons = Arc::new(Reasons::default());
    let (stop, stopped) = oneshot::channel();
    let readiness = Arc::clone(&reasons) as Arc<dyn Readiness>;
    let router = routes::router(Metrics::install().unwrap(), readiness, more);
    let task = tokio::spawn(server::serve(admin.listener, router, limits, async {
        let _ = stopped.await;
    }));
    Server { address, reasons, stop, task }
}

/// Sends one request and reads to the end of the connection.
async fn request(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{head} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut response = String::new();
    let reading = stream.read_to_string(&mut response);
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the server closes").unwrap();
    response
}

fn header<'a>(response: &'a str, name: &str) -> &'a str {
    let head = response.split("\r\n\r\n").next().unwrap();
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {response}"))
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let server = start(Limits::default()).await;
    let response = request(server.address, "GET /metrics").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(header(&response, "content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(body(&response).contains("gateway_build_info{version="), "{response}");
    assert!(body(&response).contains("process_cpu_seconds_total "), "{response}");
}

#[tokio::test]
async fn healthz_is_about_the_process_and_readyz_about_traffic() {
    let server = start(Limits::default()).await;
    let response = request(server.address, "GET /readyz").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(body(&response), r#"{"ready":true,"reasons":[],"level":0,"pressures":{}}"#);

    let failed = NotReady::StorageFailed { reason: Arc::from("sync: \"no space\"") };
    *server.reasons.0.lock().unwrap() = vec![NotReady::Draining, failed];
    let response = request(server.address, "GET /readyz").await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(
        body(&response),
        r#"{"ready":false,"reasons":["draining: told to stop","storage failed: sync: \"no space\""],"level":0,"pressures":{}}"#
    );
    let response = request(server.address, "GET /healthz").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(body(&response), "ok");
}

#[tokio::test]
async fn everything_else_is_a_problem_document() {
    let server = start(Limits::default()).await;
    let response = request(server.address, "GET /nowhere?x=1").await;
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert_eq!(
        body(&response),
        r#"{"type":"urn:gateway:problem:not-found","title":"Nothing is here","status":404,"detail":"there is nothing at /nowhere"}"#
    );

    let response = request(server.address, "DELETE /metrics").await;
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert!(header(&response, "allow").contains("GET"), "{response}");
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_header_is_cut() {
    let server = start(Limits { header_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn a_header_without_end_is_refused() {
    let server = start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let endless = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(17 * 1024));
    stream.write_all(endless.as_bytes()).await.unwrap();
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 431");
}

#[tokio::test]
async fn connections_past_the_limit_wait_their_turn() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = start(limits).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
    let mut answered = [0; 12];
    first.read_exact(&mut answered).await.unwrap();

    // The first stays open, so the second is not served until it is gone.
    let mut second = Box::pin(request(server.address, "GET /healthz"));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err());
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_connection_has_an_end() {
    let limits = Limits { connection_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = start(limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn what_is_being_answered_when_the_time_of_a_connection_is_up_is_answered() {
    let slow = axum::routing::get(|| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        "at last"
    });
    let limits = Limits { connection_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = start_with(limits, axum::Router::new().route("/slow", slow)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
    let response = read_to_end(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 200 ") && body(&response) == "at last", "{response}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_some_time_after_the_time_of_its_connection() {
    let endless = axum::routing::get(std::future::pending::<&'static str>);
    let limits = Limits {
        connection_timeout: Duration::from_millis(50),
        answer_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = start_with(limits, axum::Router::new().route("/endless", endless)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_cuts_stuck_ones() {
    let limits = Limits { shutdown_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = start(limits).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
    let mut answered = [0; 12];
    idle.read_exact(&mut answered).await.unwrap();
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    stuck.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();

    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), server.task).await.expect("shutdown is bounded").unwrap();
    read_to_end(&mut idle).await;
    assert!(TcpStream::connect(server.address).await.is_err());
}
