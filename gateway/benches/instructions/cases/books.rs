//! What the books of events take, for all that a group of them goes through.

use std::hint::black_box;

use gateway::connection::metrics::{Received, Sent};
use gateway::delivery::metrics as delivery;
use gateway::engine::metrics::{self as engine, Applied};
use gateway::telemetry::Metrics;
use gateway_protocol::QoS;

use super::{Case, EVENTS_IN_GROUP, ROUNDS};

/// What counting takes, and what the event takes that is counted. Sockets, sessions and the kernel are not in it, so that counting's part of the whole
/// is less than its part of these.
pub(crate) const BOOKS: &str = "count an event, wherever it is counted";
pub(crate) const PATH: [&str; 4] = [
    "decode PUBLISH, 256 B, QoS 1",
    "route, cached, 1,000 topics in turn",
    "group commit, 32 events: an event",
    "live delivery, 1 subscriber: each",
];

/// QoS 1, stored, delivered to one live subscriber and acknowledged: what each room counts of it, with a recorder installed.
pub(super) fn books() -> Case {
    Metrics::install().expect("the first recorder of this process");
    let mut sent = Sent::default();
    Case::new(BOOKS, ROUNDS * EVENTS_IN_GROUP, move || {
        for _ in 0..ROUNDS {
            received();
            engine::applied(black_box(&Applied { events: EVENTS_IN_GROUP, ..Applied::default() }), 0);
            delivery::routed(black_box(EVENTS_IN_GROUP));
            black_box(&mut sent).sent_live(QoS::AtLeastOnce, EVENTS_IN_GROUP as usize);
            sent.report();
            acknowledged(&mut sent);
        }
    })
}

/// The publisher's read.
fn received() {
    let mut counts = Received::default();
    for _ in 0..EVENTS_IN_GROUP {
        let counts = black_box(&mut counts);
        counts.packets += 1;
        counts.event(black_box(QoS::AtLeastOnce));
    }
    counts.bytes = black_box(EVENTS_IN_GROUP * 300);
    counts.report();
}

/// The subscriber's read, which brings PUBACKs.
fn acknowledged(sent: &mut Sent) {
    let mut counts = Received::default();
    counts.packets = black_box(EVENTS_IN_GROUP);
    counts.bytes = black_box(EVENTS_IN_GROUP * 4);
    counts.report();
    for _ in 0..EVENTS_IN_GROUP {
        black_box(&mut *sent).acked += 1;
    }
    sent.report();
}
