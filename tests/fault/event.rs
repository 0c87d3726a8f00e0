//! What the publishers publish: a number of the publisher and one of the event, and bytes that follow from them, in a
//! payload of a usual size.

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 120;

/// One event, by its publisher's number and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) publisher: u32,
    pub(crate) number: u32,
}

impl Event {
    pub(crate) fn payload(self) -> [u8; PAYLOAD_BYTES] {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..4].copy_from_slice(&self.publisher.to_be_bytes());
        payload[4..8].copy_from_slice(&self.number.to_be_bytes());
        let mut state = u64::from(self.publisher) << 32 | u64::from(self.number);
        for word in payload[8..].chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&(state ^ state >> 31).to_be_bytes());
        }
        payload
    }

    /// # Panics
    /// When a single bit of it is not as it was published.
    pub(crate) fn read(payload: &[u8]) -> Self {
        let number =
            |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().unwrap_or_default()));
        let (Some(publisher), Some(number)) = (number(0), number(4)) else {
            panic!("not a payload that was published: {payload:02x?}");
        };
        let event = Self { publisher, number };
        assert_eq!(payload, event.payload(), "not a payload that was published");
        event
    }
}
