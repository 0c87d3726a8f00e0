//! The proxy between two plain sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::*;

const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(100);

struct Ends {
    proxy: Proxy,
    server: TcpListener,
}

async fn ends() -> Ends {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let proxy = Proxy::start("127.0.0.1".to_owned(), port, Seed(1), 0).await.unwrap();
    Ends { proxy, server }
}

impl Ends {
    async fn connection(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (server, _) = timeout(LONG, self.server.accept()).await.unwrap().unwrap();
        (client, server)
    }
}

async fn says(from: &mut TcpStream, to: &mut TcpStream, what: &[u8]) -> Duration {
    let began = Instant::now();
    from.write_all(what).await.unwrap();
    let mut heard = vec![0; what.len()];
    timeout(LONG, to.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, what);
    began.elapsed()
}

#[tokio::test]
async fn without_weather_bytes_and_ends_pass_both_ways() {
    let ends = ends().await;
    let (mut client, mut server) = ends.connection().await;
    let much: Vec<u8> = (0..1_000_000_u32).map(|byte| byte as u8).collect();
    let copy = much.clone();
    let writing = tokio::spawn(async move {
        client.write_all(&copy).await.unwrap();
        client
    });
    let mut heard = vec![0; much.len()];
    timeout(LONG, server.read_exact(&mut heard)).await.unwrap().unwrap();
    assert!(heard == much);
    let mut client = writing.await.unwrap();
    says(&mut server, &mut client, b"back").await;
    drop(server);
    assert_eq!(timeout(LONG, client.read(&mut [0])).await.unwrap().unwrap(), 0, "the end passes too");
}

#[tokio::test]
async fn a_cut_resets_what_stands_and_refuses_what_comes_until_it_is_over() {
    let ends = ends().await;
    let (mut client, mut server) = ends.connection().await;
    says(&mut client, &mut server, b"hello").await;
    ends.proxy.set(Some(Weather::Cut));
    assert!(timeout(LONG, client.read(&mut [0])).await.unwrap().is_err(), "reset, not ended in peace");
    assert!(!matches!(timeout(LONG, server.read(&mut [0])).await.unwrap(), Ok(1..)));
    let mut refused = TcpStream::connect(ends.proxy.address()).await.unwrap();
    assert!(!matches!(timeout(LONG, refused.read(&mut [0])).await.unwrap(), Ok(1..)));
    ends.proxy.set(None);
    let (mut client, mut server) = ends.connection().await;
    says(&mut client, &mut server, b"again").await;
}

#[tokio::test]
async fn half_open_connections_hear_nothing_not_even_the_end() {
    let ends = ends().await;
    let (mut client, mut server) = ends.connection().await;
    says(&mut client, &mut server, b"hello").await;
    ends.proxy.set(Some(Weather::HalfOpen { share: 1.0 }));
    client.write_all(b"is there anybody?").await.unwrap();
    drop(client);
    assert!(timeout(SHORT, server.read(&mut [0])).await.is_err(), "nothing comes, and no end either");
    let (mut client, mut server) = ends.connection().await;
    says(&mut client, &mut server, b"new ones work").await;
}

#[tokio::test]
async fn delay_and_loss_make_bytes_late_and_leave_their_order() {
    let ends = ends().await;
    let (mut client, mut server) = ends.connection().await;
    ends.proxy.set(Some(Weather::Delay { delay: SHORT, jitter: Duration::ZERO }));
    let took = says(&mut client, &mut server, b"slow").await;
    assert!(took >= SHORT, "{took:?}");
    let (up, down) =
        (says(&mut client, &mut server, b"up").await, says(&mut server, &mut client, b"down").await);
    assert!(up + down >= 2 * SHORT, "{up:?} {down:?}");
    ends.proxy.set(Some(Weather::Loss { share: 1.0, stall: SHORT }));
    let took = says(&mut client, &mut server, &[7; 100_000]).await;
    assert!(took >= SHORT, "{took:?}");
    ends.proxy.set(None);
    says(&mut client, &mut server, b"fast").await;
}

#[tokio::test]
async fn a_storm_resets_about_its_share() {
    let ends = ends().await;
    let mut connections = Vec::new();
    for _ in 0..200 {
        connections.push(ends.connection().await);
    }
    ends.proxy.reset(0.25);
    let mut reset = 0;
    for (client, server) in &mut connections {
        // Either the reset comes, or what is sent after it does.
        let _ = server.write_all(b"x").await;
        reset += u32::from(timeout(LONG, client.read(&mut [0])).await.unwrap().is_err());
    }
    assert!((25..=75).contains(&reset), "{reset} of 200");
}
