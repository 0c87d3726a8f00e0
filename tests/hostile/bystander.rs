//! Somebody who keeps to the rules while others do not, and must not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gateway_tests::{Client, Hello, ReasonCode};

use crate::{QOS1, V5};

/// On which side of the gateway the bystander's messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Stored, since a stream keeps them; the newest stay in memory for a while, so that memory grows with them at
    /// first.
    Stored,
    /// Handed on and forgotten.
    Live,
}

/// A connection that publishes at QoS 1 to itself, one message after the other.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Observed>,
}

/// What it saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    pub(crate) messages: u32,
    /// From publishing to PUBACK and delivery.
    pub(crate) slowest: Duration,
}

impl Bystander {
    pub(crate) fn start(address: SocketAddr) -> Self {
        Self::start_on(address, Route::Stored)
    }

    pub(crate) fn start_on(address: SocketAddr, route: Route) -> Self {
        let topic = match route {
            Route::Stored => "devices/bystander",
            Route::Live => "bystander",
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (mut client, _) = Client::connect(address, &Hello::new(V5, "bystander").keep_alive_secs(60));
        assert_eq!(client.subscribe(&[(topic, QOS1)]), [ReasonCode::GrantedQos1]);
        let thread = std::thread::spawn(move || {
            let mut observed = Observed { messages: 0, slowest: Duration::ZERO };
            while !stopped.load(Ordering::Relaxed) || observed.messages == 0 {
                let began = Instant::now();
                let payload = observed.messages.to_string();
                assert_eq!(client.publish(topic, &payload, QOS1), Some(ReasonCode::Success));
                let message = &client.messages(1)[0];
                assert_eq!(
                    (&message.payload, message.dup),
                    (&payload, false),
                    "lost, or twice, or out of order"
                );
                observed.messages += 1;
                observed.slowest = observed.slowest.max(began.elapsed());
            }
            observed
        });
        Self { stop, thread }
    }

    /// It is still well; what it saw.
    pub(crate) fn stop(self) -> Observed {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the bystander was harmed")
    }
}
