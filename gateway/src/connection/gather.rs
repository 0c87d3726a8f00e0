//! What one write gathers without copying it: runs of frames that many subscribers get alike, sent from where they lie.
//!
//! A turn has one buffer of bytes that are this client's own, and these runs, each with its place between them. They last for one write: what
//! the socket does not take of them is copied then, like all that it does not take, so nobody's slowness keeps a shipment longer than its
//! outbox did.

use crate::delivery::Shipment;
use gateway_protocol::{ProtocolVersion, QoS};
use smallvec::SmallVec;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// The parts of one write; mostly one publisher's read or two.
pub(super) type Parts<'a> = SmallVec<[IoSlice<'a>; 8]>;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Shared {
    runs: Vec<Run>,
    /// What the runs lie in.
    shipments: Vec<Arc<Shipment>>,
}

#[derive(Debug)]
struct Run {
    /// So many of the client's own bytes go before it.
    behind: usize,
    /// Its shipment's place in the list; until it is held there, the one behind the last.
    shipment: usize,
    version: ProtocolVersion,
    granted: QoS,
    place: Range<usize>,
}

impl Shared {
    /// Less than that is copied: another part of a write costs as much as copying so much.
    pub(super) const BYTES_MIN: usize = 4096;

    pub(super) const fn new() -> Self {
        Self { runs: Vec::new(), shipments: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds frames which go behind `behind` own bytes, of the shipment that is held next ([`Shared::hold`]).
    pub(super) fn push(
        &mut self,
        behind: usize,
        version: ProtocolVersion,
        granted: QoS,
        place: Range<usize>,
    ) {
        self.runs.push(Run { behind, shipment: self.shipments.len(), version, granted, place });
    }

    /// Holds the shipment of the runs that were added since the last one; if there are none, it is not needed.
    pub(super) fn hold(&mut self, shipment: impl FnOnce() -> Arc<Shipment>) {
        if self.runs.last().is_some_and(|run| run.shipment == self.shipments.len()) {
            self.shipments.push(shipment());
        }
    }

    /// Everything in the order in which it is to be sent.
    pub(super) fn parts<'a>(&'a self, own: &'a [u8]) -> Parts<'a> {
        let mut parts = Parts::new();
        let mut add = |bytes: &'a [u8]| {
            if !bytes.is_empty() {
                parts.push(IoSlice::new(bytes));
            }
        };
        let mut from = 0;
        for run in &self.runs {
            add(own.get(from..run.behind).unwrap_or_default());
            from = run.behind;
            add(self.bytes(run));
        }
        add(own.get(from..).unwrap_or_default());
        parts
    }

    /// Copies all of it into `own`, in order.
    pub(super) fn settle(&mut self, own: &mut Vec<u8>) {
        if !self.is_empty() {
            let mut all = Vec::new();
            for part in &self.parts(own) {
                all.extend_from_slice(part);
            }
            *own = all;
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.shipments.clear();
    }

    fn bytes(&self, run: &Run) -> &[u8] {
        let frames = self.shipments.get(run.shipment).and_then(|held| held.frames(run.version, run.granted));
        frames.map_or(&[], |frames| frames.bytes(run.place.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::io::poll_write_parts;
    use super::*;
    use gateway_storage::{Event, Staging};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use tokio::io::AsyncWrite;

    const VERSION: ProtocolVersion = ProtocolVersion::V5;

    fn shipment(topic: &str) -> Arc<Shipment> {
        let mut staging = Staging::new();
        for payload in 0..10 {
            let event = Event {
                client_id: "publisher",
                topic,
                qos: 0,
                retain: false,
                received_ms: 0,
                expires_at_ms: 0,
                properties: &[],
                payload: &[payload; 7],
            };
            staging.push_event(&event).unwrap();
        }
        Arc::new(Shipment::for_several(Arc::new(staging.into_batch())))
    }

    fn bytes_of(shipment: &Shipment, place: Range<usize>) -> &[u8] {
        shipment.frames(VERSION, QoS::AtMostOnce).unwrap().bytes(place)
    }

    /// Own bytes before, between and behind runs of two shipments, the first with two; and what that is in one piece.
    fn gathered(one: &Arc<Shipment>, other: &Arc<Shipment>) -> (Shared, Vec<u8>, Vec<u8>) {
        let (mut shared, mut own, mut expected) = (Shared::new(), Vec::new(), Vec::new());
        let mut add = |shared: &mut Shared, bytes: &[u8], from: &Arc<Shipment>, place: Range<usize>| {
            own.extend_from_slice(bytes);
            expected.extend_from_slice(bytes);
            shared.push(own.len(), VERSION, QoS::AtMostOnce, place.clone());
            expected.extend_from_slice(bytes_of(from, place));
        };
        add(&mut shared, b"first", one, 0..30);
        add(&mut shared, b"", one, 40..55);
        shared.hold(|| one.clone());
        shared.hold(|| unreachable!("nothing was added"));
        add(&mut shared, b"between", other, 3..44);
        shared.hold(|| other.clone());
        own.extend_from_slice(b"last");
        expected.extend_from_slice(b"last");
        (shared, own, expected)
    }

    #[test]
    fn parts_are_in_the_order_in_which_they_were_gathered() {
        let (one, other) = (shipment("one"), shipment("other"));
        let (mut shared, mut own, expected) = gathered(&one, &other);
        assert_eq!(shared.parts(&own).iter().flat_map(|part| part.to_vec()).collect::<Vec<_>>(), expected);
        assert_eq!(shared.parts(&own).len(), 6);
        shared.settle(&mut own);
        assert_eq!(own, expected);
        assert!(shared.is_empty());
        assert_eq!((Arc::strong_count(&one), Arc::strong_count(&other)), (1, 1), "held for one write only");
        shared.settle(&mut own);
        assert_eq!(own, expected, "there is nothing to add");
    }

    /// Takes so many bytes of each write until it has had enough.
    struct Socket {
        at_once: usize,
        room: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            let socket = self.get_mut();
            let count = bytes.len().min(socket.at_once).min(socket.room);
            if count == 0 {
                return Poll::Pending;
            }
            socket.room -= count;
            socket.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<std::io::Result<usize>> {
            let all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_a_socket_does_not_take_is_what_is_left_wherever_it_stops() {
        let (one, other) = (shipment("one"), shipment("other"));
        let (shared, own, expected) = gathered(&one, &other);
        for at_once in [1, 7, 64, usize::MAX] {
            for room in 0..=expected.len() {
                let mut socket = Socket { at_once, room, taken: Vec::new() };
                let mut parts = shared.parts(&own);
                let mut cx = Context::from_waker(Waker::noop());
                let left = poll_write_parts(&mut socket, &mut cx, &mut parts).unwrap();
                let left: Vec<u8> = left.iter().flat_map(|part| part.to_vec()).collect();
                assert_eq!((socket.taken.len(), left.len()), (room, expected.len() - room));
                assert_eq!([socket.taken, left].concat(), expected);
            }
        }
    }
}
