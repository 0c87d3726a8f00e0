//! Which event a Packet Identifier stands for.
//!
//! The client library is handed events without identifiers and reports identifiers without events. Requests leave its
//! channel in the order in which they were handed over, so the first report of an identifier belongs to the oldest event
//! that has none; a report of an identifier that is still in use is a retransmission.
//!
//! ```text
//! handed over ──Published(id)──► in flight ──Acknowledged(id)──► done
//!      └───────Published(0)──► done (QoS 0)   └──session gone──► given up
//! ```

use std::collections::VecDeque;

use crate::qos::QoS;

/// How far ahead of the oldest QoS 2 event others may be: within the identifiers of any broker, whose Receive Maximum may be 20.
const ORDERS_APART_MAX: u32 = 16;

/// An event on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub sequence: u32,
    pub due_us: u64,
    pub sent_us: u64,
    pub qos: QoS,
    /// Whether it is said beside the schedule, so that the ledger does not know it.
    pub aside: bool,
    /// Whether it has QoS 2.
    pub exactly_once: bool,
    /// Its place among all that was handed over.
    pub order: u32,
}

/// The events of one device that are handed over or in flight.
pub(crate) struct Inflight {
    handed: VecDeque<Handed>,
    /// By Packet Identifier.
    unacknowledged: Box<[Option<Handed>]>,
    count: usize,
    next_order: u32,
}

impl Inflight {
    /// For a client with so many identifiers.
    pub(crate) fn new(inflight_max: u16) -> Self {
        Inflight {
            handed: VecDeque::new(),
            unacknowledged: vec![None; usize::from(inflight_max) + 1].into(),
            count: 0,
            next_order: 0,
        }
    }

    /// An event was handed over; its `order` is given here.
    pub(crate) fn hand_over(&mut self, event: Handed) {
        self.handed.push_back(Handed { order: self.next_order, ..event });
        self.next_order = self.next_order.wrapping_add(1);
    }

    /// What is handed over and was never sent, oldest first, of which all is forgotten that is not to be kept.
    pub(crate) fn keep_handed(&mut self, keep: impl FnMut(&Handed) -> bool) {
        self.handed.retain(keep);
    }

    /// What is handed over and was never sent, oldest first.
    pub(crate) fn handed(&self) -> impl Iterator<Item = &Handed> {
        self.handed.iter()
    }

    /// A PUBLISH was written: the event, if this is the first time it was.
    pub(crate) fn published(&mut self, id: u16, now_us: u64) -> Option<Handed> {
        let place = self.unacknowledged.get_mut(usize::from(id));
        if id != 0 && place.as_ref().is_some_and(|place| place.is_some()) {
            return None;
        }
        let event = Handed { sent_us: now_us, ..self.handed.pop_front()? };
        if let Some(place) = place.filter(|_| id != 0) {
            *place = Some(event);
            self.count += 1;
        }
        Some(event)
    }

    /// A PUBACK arrived.
    pub(crate) fn acknowledged(&mut self, id: u16) -> Option<Handed> {
        let event = self.unacknowledged.get_mut(usize::from(id))?.take()?;
        self.count -= 1;
        Some(event)
    }

    /// When an identifier's event was sent, among the device's events.
    pub(crate) fn order_of(&self, id: u16) -> u32 {
        self.unacknowledged
            .get(usize::from(id))
            .and_then(|event| event.as_ref())
            .map_or(0, |event| event.order)
    }

    /// The broker no longer has the session: what was in flight stays unacknowledged for ever.
    pub(crate) fn give_up(&mut self) {
        self.unacknowledged.fill(None);
        self.count = 0;
    }

    /// Events sent and not acknowledged; without what was said beside the schedule.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged.iter().flatten().filter(|event| !event.aside).count()
    }

    /// Whether one more may be handed over. With QoS 2 under way, nothing that could be given a Packet Identifier whose
    /// PUBREL is out: identifiers go round, and the client library takes that one for free.
    pub(crate) fn may_hand_over(&self, window: usize) -> bool {
        let exactly_once = |event: &&Handed| event.exactly_once;
        let oldest = self.unacknowledged.iter().flatten().filter(exactly_once).map(|event| event.order).min();
        let far = oldest.is_some_and(|oldest| self.next_order.wrapping_sub(oldest) >= ORDERS_APART_MAX);
        self.len() < window && !far
    }

    /// Handed over or in flight.
    pub(crate) fn len(&self) -> usize {
        self.handed.len() + self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflight(sequences: &[u32]) -> Inflight {
        let mut inflight = Inflight::new(4);
        for sequence in sequences {
            let event = Handed {
                sequence: *sequence,
                due_us: 0,
                sent_us: 0,
                qos: QoS::AtLeastOnce,
                aside: false,
                exactly_once: false,
                order: 0,
            };
            inflight.hand_over(event);
        }
        inflight
    }

    fn sequence(event: Option<Handed>) -> Option<u32> {
        event.map(|event| event.sequence)
    }

    #[test]
    fn identifiers_are_mapped_in_the_order_of_handing_over() {
        let mut inflight = inflight(&[10, 11, 12]);
        assert_eq!(sequence(inflight.published(3, 5)), Some(10));
        assert_eq!(sequence(inflight.published(0, 5)), Some(11));
        assert_eq!(sequence(inflight.published(4, 5)), Some(12));
        assert_eq!((inflight.unacknowledged(), inflight.len()), (2, 2));
        assert_eq!(inflight.acknowledged(4).map(|event| (event.sequence, event.sent_us)), Some((12, 5)));
        assert_eq!(inflight.acknowledged(4), None);
        assert_eq!(inflight.order_of(3), 0);
    }

    #[test]
    fn nothing_meets_an_identifier_that_is_still_to_be_completed() {
        let mut inflight = Inflight::new(32);
        let event = |exactly_once| Handed {
            sequence: 0,
            due_us: 0,
            sent_us: 0,
            qos: QoS::AtLeastOnce,
            aside: false,
            exactly_once,
            order: 0,
        };
        inflight.hand_over(event(true));
        inflight.published(1, 0);
        for id in 2..17 {
            assert!(inflight.may_hand_over(32), "{id}");
            inflight.hand_over(event(false));
            inflight.published(id, 0);
            inflight.acknowledged(id);
        }
        assert!(!inflight.may_hand_over(32));
        inflight.acknowledged(1);
        assert!(inflight.may_hand_over(32));
    }

    #[test]
    fn a_retransmission_is_not_a_new_event() {
        let mut inflight = inflight(&[10, 11]);
        inflight.published(1, 5);
        assert_eq!(inflight.published(1, 9), None);
        assert_eq!(sequence(inflight.published(2, 9)), Some(11));
        assert_eq!(
            inflight.acknowledged(1).map(|event| event.sent_us),
            Some(5),
            "counted from the first sending"
        );
    }

    #[test]
    fn what_is_given_up_frees_its_identifiers_and_nothing_else() {
        let mut inflight = inflight(&[10, 11]);
        inflight.published(1, 5);
        inflight.give_up();
        assert_eq!((inflight.unacknowledged(), inflight.len()), (0, 1));
        assert_eq!(inflight.acknowledged(1), None);
        assert_eq!(sequence(inflight.published(1, 9)), Some(11));
    }
}
