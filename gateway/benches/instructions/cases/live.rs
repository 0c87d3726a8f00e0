//! Delivery to live subscribers: from packets kept as they came to the bytes that each subscriber's socket is given.

use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use gateway::delivery::{Dispatcher, LiveRouter, Outbox, Routes, WhenFull};
use gateway::router::Ways;
use gateway_protocol::packet::Connect;
use gateway_protocol::session::{Accepted, Millis, ServerLimits, Session};
use gateway_protocol::{Packet, Properties, QoS, TopicFilter};
use gateway_storage::Verbatim;
use gateway_storage::verbatim::{Fields, Traits};

use super::{Case, EVENTS_IN_GROUP, GRANT, PAYLOAD, ROUNDS, TOPIC, VERSION, packet};

const LIMITS: ServerLimits = ServerLimits {
    max_qos: QoS::ExactlyOnce,
    retain_available: true,
    wildcard_subscription_available: true,
    shared_subscription_available: true,
    subscription_identifiers_available: true,
    receive_maximum: 256,
    max_inflight: 256,
    max_packet_bytes: 1 << 20,
    server_keep_alive_secs: 0,
    topic_alias_maximum: 0,
    session_expiry_max_secs: 3600,
    allow_empty_client_id: true,
    connect_timeout_ms: 5000,
};
const TRAITS: Traits = Traits { qos: 0, retain: false, received_ms: 1_767_225_600_123, expires_at_ms: 0 };

/// The packets of one read, for so many subscribers.
pub(super) fn delivery(subscribers: u64) -> Case {
    let router = Arc::new(LiveRouter::default());
    let mut connections: Vec<(Arc<Outbox>, Session)> =
        (0..subscribers).map(|id| (subscribed(&router, id), connected())).collect();
    let mut dispatcher = Dispatcher::new(Arc::clone(&router));
    let routes = Arc::new(Routes::of(&router, TOPIC));
    let mut ways = Ways::default();
    let publisher: Arc<str> = "sensor-0042".into();
    let packet = packet(QoS::AtMostOnce);
    let (mut kept, mut out) = (Verbatim::new(), Vec::with_capacity(64 << 10));
    let rounds = (ROUNDS / subscribers).max(20);
    let each = rounds * EVENTS_IN_GROUP * subscribers;
    let plural = if subscribers == 1 { "" } else { "s" };
    Case::new(format!("live delivery, {subscribers} subscriber{plural}: each"), each, move || {
        for _ in 0..rounds {
            kept.begin(Arc::clone(&publisher), VERSION.level());
            for _ in 0..EVENTS_IN_GROUP {
                ways.push(router.epoch(), QoS::AtMostOnce, black_box(&routes), Arc::ptr_eq);
                assert!(kept.push(black_box(&packet), 0x30, &fields(&packet), &TRAITS));
            }
            let _ = dispatcher.dispatch_on_ways(&Arc::new(kept.take_batch()), &mut ways);
            for (outbox, session) in &mut connections {
                out.clear();
                let parcel = outbox.pop().expect("a parcel for each");
                let frames = parcel.shipment.frames(VERSION, QoS::AtMostOnce).expect("packets as they came");
                let sent = session.handle_frames(frames, 0..parcel.len(), usize::MAX, &mut out);
                assert_eq!(black_box(sent), (EVENTS_IN_GROUP as usize, 0));
            }
        }
    })
}

fn subscribed(router: &LiveRouter, id: u64) -> Arc<Outbox> {
    let waker = Waker::noop().clone();
    let outbox =
        Arc::new(Outbox::new(id, format!("sub-{id}").into(), false, 64 << 20, WhenFull::Drop, waker));
    let filter = TopicFilter::parse("devices/#").expect("the filter is legal");
    router
        .change(|router| router.subscribe(id, Arc::clone(&outbox), filter, GRANT))
        .expect("the filter is not too deep");
    outbox
}

fn connected() -> Session {
    let mut session = Session::new(Arc::new(LIMITS), Millis(0));
    let connect = Connect {
        version: VERSION,
        clean_start: true,
        keep_alive_secs: 0,
        properties: Properties::default(),
        client_id: "subscriber",
        will: None,
        user_name: None,
        password: None,
    };
    let mut out = Vec::new();
    session.handle_packet(Millis(0), Packet::Connect(connect), &mut out).expect("a legal CONNECT");
    let accepted = Accepted { session_present: false, assigned_client_id: None };
    session.accept(Millis(0), accepted, &mut out).expect("a connection");
    session
}

/// Of a packet without properties: their length, a zero, stands between topic and payload.
fn fields(packet: &[u8]) -> Fields {
    let payload_at = packet.len() - PAYLOAD.len();
    Fields {
        topic_at: payload_at - 1 - TOPIC.len(),
        topic_len: TOPIC.len(),
        properties_at: payload_at,
        properties_len: 0,
        payload_len: PAYLOAD.len(),
    }
}
