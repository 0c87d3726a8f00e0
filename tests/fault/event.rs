//! What the publishers publish: a number of the publisher and one of the event, in a topic and a payload of a usual
//! size.

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 120;

/// One event, by its publisher's number and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) publisher: u32,
    pub(crate) number: u32,
}

impl Event {
    pub(crate) fn payload(self) -> [u8; PAYLOAD_BYTES] {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..4].copy_from_slice(&self.publisher.to_be_bytes());
        payload[4..8].copy_from_slice(&self.number.to_be_bytes());
        payload
    }

    pub(crate) fn read(payload: &[u8]) -> Self {
        assert_eq!(payload.len(), PAYLOAD_BYTES, "not a payload that was published");
        assert!(payload[8..].iter().all(|&byte| byte == 0), "not a payload that was published");
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        Self { publisher: number(0), number: number(4) }
    }
}
