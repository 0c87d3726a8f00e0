//! The broker of a site: rumqttd, embedded. Nothing else knows it.
//!
//! Its router is a thread of its own, its listeners are tasks here. Its own link to the uplink is read at once, whatever the
//! uplink does: rumqttd forgets what a reader that lags has not read, without a word. What it holds for the uplink is
//! [`LOG_SEGMENTS`] × [`SEGMENT_BYTES`]; who would lag behind that loses, and the ledger names it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rumqttd::local::LinkBuilder;
use rumqttd::protocol::Protocol;
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::v5::V5;
use rumqttd::{ConnectionSettings, LinkType, Notification, Router, RouterConfig, Server, ServerSettings};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::EdgeError;
use super::uplink::Inbox;

const SEGMENT_BYTES: usize = 1 << 20;
const LOG_SEGMENTS: usize = 8;
/// The most bytes of a payload.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
const CONNECT_TIMEOUT_MS: u16 = 5_000;
/// What devices may have unacknowledged.
const INFLIGHT_MAX: usize = 1_000;
/// rumqttd cannot say which port the kernel chose, so one is found first, and may be gone when it is wanted.
const PORTS_TRIED: usize = 8;
/// Until a listener is there.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// Starts the broker of a site for so many devices; where it is for MQTT 3.1.1 and for 5. What is published there goes to `inbox`.
pub(super) async fn start(
    site: u32,
    devices: usize,
    tasks: &mut JoinSet<()>,
    inbox: Inbox,
) -> Result<[SocketAddr; 2], EdgeError> {
    let failed = |error: &dyn std::fmt::Display| EdgeError::Broker { site, what: error.to_string() };
    let config = RouterConfig {
        max_connections: devices + 8,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: LOG_SEGMENTS,
        ..RouterConfig::default()
    };
    let router = Router::new(site as usize, config).spawn();
    let uplink = LinkBuilder::new("uplink", router.clone()).build();
    let (mut link, mut news, _) = uplink.map_err(|error| failed(&error))?;
    // Before any device is there: what nobody has subscribed to is refused.
    link.subscribe("#").map_err(|error| failed(&error))?;
    tasks.spawn(async move {
        loop {
            match news.next().await {
                Ok(Some(Notification::Forward(forward))) => {
                    inbox.take(&forward.publish.topic, forward.publish.payload);
                }
                // It stops after so many until it is told that they were read.
                Ok(Some(Notification::Unschedule)) if news.wake().await.is_err() => return,
                Ok(_) => {}
                Err(_) => return,
            }
            // Kept: the router ends a link whose sender is gone.
            let _ = &link;
        }
    });
    let unheard = |source| EdgeError::Listen { site, source };
    let v4 = listen(tasks, |address| Server::new(settings(site, address), router.clone(), V4));
    let v4 = v4.await.map_err(unheard)?;
    let v5 = listen(tasks, |address| Server::new(settings(site, address), router.clone(), V5));
    Ok([v4, v5.await.map_err(unheard)?])
}

/// A listener on a free port.
async fn listen<P: Protocol + Clone + Send + Sync + 'static>(
    tasks: &mut JoinSet<()>,
    server: impl Fn(SocketAddr) -> Server<P>,
) -> io::Result<SocketAddr> {
    for _ in 0..PORTS_TRIED {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
        let mut server = server(address);
        let task = tasks.spawn(async move {
            // It says why it ended to nobody but its log; that it did is seen here.
            let _ = server.start(LinkType::Remote).await;
        });
        let began = tokio::time::Instant::now();
        while !task.is_finished() && began.elapsed() < PATIENCE {
            if TcpStream::connect(address).await.is_ok() && !task.is_finished() {
                return Ok(address);
            }
            sleep(LOOK).await;
        }
        task.abort();
    }
    Err(io::Error::other("no port that was free stayed free"))
}

fn settings(site: u32, listen: SocketAddr) -> ServerSettings {
    ServerSettings {
        name: format!("site-{site}"),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: CONNECT_TIMEOUT_MS,
            max_payload_size: PAYLOAD_BYTES_MAX,
            max_inflight_count: INFLIGHT_MAX,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    }
}
